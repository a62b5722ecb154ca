"""First-run jobs: what an installed host does once, after its first boot."""
