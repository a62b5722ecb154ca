"""Hosts with a declaration, to be changed by `hv setup`."""
