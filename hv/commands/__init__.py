"""Commands of the installed host, dispatched by `hv`."""
