"""Changes of a host that take themselves back unless somebody confirms them: of its network, and its phase."""
