"""What a system says of its network (nix/modules/network/revert.nix), and how two systems compare."""

import json

from hv.firstrun.world import World

DESCRIPTION = "etc/hyper-nixos/network.json"
"""In a system's toplevel."""


def description(world: World, system: str) -> str | None:
    """A system's network; None for one that does not say."""
    file = world.path(f"{system}/{DESCRIPTION}")
    return file.read_text(encoding="utf-8") if file.is_file() else None


def differ(world: World, left: str, right: str) -> bool:
    """Whether two systems have different networks, as far as they say."""
    if left == right:
        return False
    found = description(world, left)
    return found is None or found != description(world, right)


def newer_netdevs(previous: str | None, incoming: str | None) -> set[str]:
    """Interfaces that a system makes and the previous one does not, from what both say of their networks.

    Of a previous system that says nothing, all count as its own: better one interface too many than one too few.
    """
    if previous is None or incoming is None:
        return set()
    return {*json.loads(incoming)["netdevs"]} - {*json.loads(previous)["netdevs"]}
