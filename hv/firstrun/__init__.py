"""First run: what the installed host does once, after its first boot, as jobs that can be repeated at will."""
