"""Secure Boot with keys of the host's own: each generation's kernel, RAM disk and command line in one signed image."""
