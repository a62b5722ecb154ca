"""Measurements: always two things side by side in one run, so that the ratio means something on any machine."""
