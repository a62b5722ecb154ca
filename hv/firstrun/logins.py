"""Can an administrator still get in? Looked at, on the running host, for a configuration that is not in force yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hv.firstrun.world import World
from installer.errors import Exit, HyperError
from installer.execute.runner import Finished
from installer.execute.ways_in import System, Ways, ways_in


def require_way_in(world: World, administrators: tuple[str, ...], system: Path) -> tuple[str, ...]:
    """Every way into a host that runs `system` (a toplevel): sentences.

    A way is a public key or password that sshd of that system would admit, or a password at the console.

    Raises:
        HyperError: there is none; says for each administrator what stands against it.
    """
    found = ways(world, administrators, system)
    said = tuple(way for each in found for way in each.said())
    if not said:
        raise HyperError(
            "Nobody could log in as an administrator.",
            why=obstacles(found) or "the hand-off names no administrator",
            remedy="Give one an SSH key or a password in /etc/nixos, rebuild, then `hv firstrun retry phase`.",
            code=Exit.lockout,
        )
    return said


def ways(world: World, administrators: Sequence[str], system: Path) -> tuple[Ways, ...]:
    """How each of them gets into that system."""

    def run(argv: Sequence[str]) -> Finished:
        # Not inside the root: a host is its own, and tests have their sshd outside.
        outside = tuple(str(world.path(word)) if word.startswith(toplevel) else word for word in argv)
        return world.attempt(outside, timeout=30)

    toplevel = f"/{system.relative_to(world.root.resolve())}"
    own = world.path(f"{toplevel}/sw/bin/sshd")
    sshd = str(own) if own.exists() else "sshd"
    looked_at = System(world.root.resolve(), toplevel, sshd, run, world.clock.now().timestamp())
    with _privilege_folder(world):
        return tuple(ways_in(looked_at, name) for name in administrators)


def obstacles(found: Sequence[Ways]) -> str:
    """What stands against whom."""
    return "; ".join(f"{each.name}: {problem}" for each in found for problem in each.against)


@contextmanager
def _privilege_folder(world: World) -> Iterator[None]:
    """sshd's empty folder, without which some builds refuse even to check; services make it when they start."""
    folder = world.path("/run/sshd")
    made = not folder.exists()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        yield
    finally:
        if made:
            folder.rmdir()
