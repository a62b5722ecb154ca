"""Writes the expected texts."""

from tests.answers import BAD, told

for path in BAD:
    path.with_suffix(path.suffix + ".txt").write_text(told(path))
