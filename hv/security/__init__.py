"""The two phases of a host, and how well it is protected."""
