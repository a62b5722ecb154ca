"""Mirrored EFI system partitions: one on every boot disk, each able to start the host alone."""
