"""Getting into an installed host from outside of it: found, opened and mounted by the plan that installed it."""
