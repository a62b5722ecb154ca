"""Commands of the live system, dispatched by `hv`."""
