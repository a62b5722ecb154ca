"""Probing: the only part, besides executing, that touches the world."""
