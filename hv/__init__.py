"""The management plane of an installed host, and the `hv` command."""
