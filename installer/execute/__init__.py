"""Executing a plan: the only part, besides probing, that touches the world."""
