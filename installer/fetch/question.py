"""What a machine tells a server that chooses answers for it."""

from typing import Literal

from installer import VERSION
from installer.facts import Facts
from installer.frozen import Frozen
from installer.probe.identity import Identity


class Question(Frozen):
    """The body of a request for answers."""

    version: Literal[1] = 1
    """Format of this body."""
    hyper_nixos: str = VERSION
    """Version of the live system's installer."""
    identity: Identity
    """Which machine asks."""
    facts: Facts
    """All that is known about it, as `hv probe --json` prints it."""
