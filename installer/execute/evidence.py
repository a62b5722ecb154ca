"""What a check found: evidence when all is as it should be, else what differs."""

from dataclasses import dataclass

Evidence = tuple[str, ...]


@dataclass
class Wrong(Exception):  # noqa: N818 (a finding, not a fault of the program)
    """Reading back found something else than what should be there."""

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected {self.expected}; found {self.found}"


def ensure(condition: bool, expected: str, found: str) -> None:
    """Raise `Wrong` unless the condition holds."""
    if not condition:
        raise Wrong(expected, found)
