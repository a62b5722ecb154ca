"""Job secure-boot: keys of the host's own, and everything that it starts from signed with them.

They are made here, so that no medium and no other host ever had them. Nothing is enforced by it: `hv secure-boot enrol`
gives the firmware the keys, once a person has put it into setup mode.
"""

from dataclasses import dataclass

from hv.firstrun.world import World
from installer.errors import HyperError
from installer.handoff import Handoff


@dataclass(frozen=True)
class SecureBootJob:
    """Makes keys where there are none, and signs."""

    hostname: str
    name: str = "secure-boot"
    requires: tuple[str, ...] = ()
    timeout: float = 600

    def applies(self, handoff: Handoff) -> str | None:
        """Only when asked."""
        return None if handoff.secure_boot else "Secure Boot was not asked for"

    def run(self, world: World) -> None:
        """Signed once, it is the boot loader's hook that goes on with it."""
        self._sign(world)

    def verify(self, world: World) -> None:
        """As read back: nothing is left that firmware with these keys would not start."""
        self._sign(world)
        world.say("checked: loader and default system are signed; `hv secure-boot status` says how to go on")

    def _sign(self, world: World) -> None:
        if wrong := world.sign(world, self.hostname):
            raise HyperError(
                "What this host starts from is not signed.",
                why="; ".join(wrong),
                remedy="`hv secure-boot sign` says more; then `hv firstrun retry secure-boot`.",
            )
