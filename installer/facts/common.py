"""Values that several kinds of facts share."""

from typing import Annotated

from pydantic import Field

from installer.frozen import Frozen
from installer.kinds import Verdict

__all__ = ["Judgement", "PciAddress", "Unknown", "Verdict"]

PciAddress = Annotated[str, Field(pattern=r"^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")]
"""Domain:bus:device.function in lower-case hexadecimal, as sysfs writes it."""


class Unknown(Frozen):
    """A fact that could not be read: never a crash, never a guess."""

    unknown_because: str
    """Why, for a person, e.g. `/sys/class/dmi/id is not readable`."""


class Judgement(Frozen):
    """An answer with what it rests on."""

    verdict: Verdict
    """Yes, no, or unknown."""
    because: str
    """The evidence, for a person."""
