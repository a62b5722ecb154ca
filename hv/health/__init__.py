"""Whether a host may keep the system that it booted: the check of a migration's first boot."""
