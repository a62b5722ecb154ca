"""Job libvirt: the virtualization service answers."""

from dataclasses import dataclass

from hv.firstrun.world import TransientError, World
from hv.libvirt_python import libvirt_module
from installer.errors import HyperError
from installer.handoff import Handoff

UNITS = ("libvirtd.socket", "virtqemud.socket")
"""The monolithic daemon, which NixOS has, and the modular one (https://libvirt.org/daemons.html)."""
PATIENCE = 60.0
"""Seconds for the service to answer after it was asked to start; a cold start took under 5 s emulated."""


@dataclass(frozen=True)
class LibvirtJob:
    """Starts it when needed and connects."""

    name: str = "libvirt"
    requires: tuple[str, ...] = ()
    timeout: float = 180

    def applies(self, handoff: Handoff) -> str | None:  # noqa: ARG002
        """Always: a virtualization host without libvirt is none."""
        return None

    def run(self, world: World) -> None:
        """Connect; when nobody answers, start the socket and wait."""
        if _answers(world):
            return
        # Where systemd does not run (sd_booted(3)), there is nobody to ask, only somebody to wait for.
        if world.path("/run/systemd/system").is_dir():
            _start(world)
        end = world.clock.monotonic() + PATIENCE
        while not _answers(world):
            if world.clock.monotonic() > end:
                with world.libvirt():  # raises, with libvirt's own reason
                    return
            world.clock.sleep(0.2)

    def verify(self, world: World) -> None:
        """It names itself, and its QEMU driver can run guests of this architecture."""
        libvirt = libvirt_module()
        with world.libvirt() as connection:
            version = connection.getLibVersion()
            try:
                connection.getDomainCapabilities(None, "x86_64", None, None, 0)
            except libvirt.libvirtError as error:
                raise HyperError(
                    "libvirt has no QEMU for x86_64 guests.",
                    why=str(error),
                    remedy="Enable virtualisation.libvirtd with its QEMU, then `hv firstrun retry libvirt`.",
                ) from error
            world.say(
                f"libvirt {version // 1_000_000}.{version // 1000 % 1000}.{version % 1000} answers at {world.uri}"
            )


def _answers(world: World) -> bool:
    try:
        with world.libvirt():
            return True
    except TransientError:
        return False


def _start(world: World) -> None:
    said = []
    for unit in UNITS:
        world.say(f"starting {unit}")
        done = world.attempt(("systemctl", "start", unit))
        if done.status == 0:
            return
        said.append(done.stderr.strip() or f"systemctl start {unit} ended with {done.status}")
    raise TransientError(
        "libvirt could not be started.",
        why="; ".join(said),
        remedy=f"See `systemctl status {UNITS[0]} libvirtd`, then `hv firstrun retry libvirt`.",
    )
