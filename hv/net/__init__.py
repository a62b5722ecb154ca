"""Changes of the network that take themselves back unless somebody confirms them through the new network."""
