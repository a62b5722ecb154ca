"""Changes of a host that take themselves back unless somebody confirms them: of its network, its phase, its declaration."""
