"""How long to wait: multiples of times measured on a quiet machine, so that a busy one is slow and not red."""

import os

FACTOR = float(os.environ.get("LAB_PATIENCE", "8"))
"""What a measured time is multiplied with."""


def patience(measured: float) -> float:
    """Seconds to wait for something that took `measured` seconds on two quiet cores."""
    return measured * FACTOR
