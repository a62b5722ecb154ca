"""A server that hands out answers to a lab or a small fleet, and follows how its machines install."""
