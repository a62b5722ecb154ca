"""Commands of the installer, dispatched by `hv`."""
