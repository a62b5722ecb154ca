"""Where the lab keeps what it makes: everything under `.lab/` of the repository, safe to delete at any time."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
"""The checkout that is put to the test."""
LAB = Path(__file__).resolve().parent
"""The lab's own code and data."""
STATE = REPOSITORY / ".lab"
"""Caches and runs; ignored by git."""
CACHE = STATE / "cache"
"""Built parts, one folder per content key."""
DEBS = STATE / "debs"
"""Debian packages, shared by everything that is bootstrapped."""
RUNS = STATE / "runs"
"""One folder per run of a scenario: timeline, facts, plan, screenshots, logs."""
