"""What makes one ESP hold what another holds, in an order in which the power may go at any moment. Pure.

Files are written before the entries that load them, entries before the default that names them, and nothing is removed
before everything new is there; entries are removed before the files that they load. So at each moment every entry has
all that it loads, and the default is one of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from hv.esp.inventory import (
    ENTRIES,
    EXTRA,
    FALLBACK,
    KERNELS,
    LOADER_CONF,
    OWN,
    PROGRAMS,
    Inventory,
)
from hv.unified_image import FOLDER as IMAGES

_FOLDERS = frozenset(map(PurePosixPath, (ENTRIES, IMAGES, OWN)))
LONG_NAMES = 8
"""Files whose names fit into a cluster of 2 KiB of a folder, each with its long name (13 characters in 32 bytes)."""


@dataclass(frozen=True)
class Put:
    """A file to write."""

    path: str
    """Where, from the top of the ESP."""
    origin: str
    """From where, on the source."""
    size: int
    """Bytes."""
    replaces: int
    """Bytes of what is there now, which stays until the new one is whole; 0: nothing is."""


@dataclass(frozen=True)
class Difference:
    """What is to be done."""

    puts: tuple[Put, ...]
    """Written in this order."""
    drops: tuple[str, ...]
    """Then removed in this order."""
    left_out: tuple[str, ...]
    """Entries of the source that are not whole, and so are not copied."""

    def room(self, cluster: int) -> int:
        """Bytes that must be free while it is done, before anything is removed."""
        used = most = 0
        for put in self.puts:
            used += _rounded(put.size, cluster)
            most = max(most, used)
            used -= _rounded(put.replaces, cluster)
        folders = {PurePosixPath(put.path).parent for put in self.puts}
        return most + (len(folders) + len(self.puts) // LONG_NAMES) * cluster if self.puts else 0


def difference(source: Inventory, mirror: Inventory, same: Callable[[str, str], bool]) -> Difference:
    """From what both hold.

    `same` tells whether a path of the source and one of the mirror, of equal size, have equal content.
    """
    left_out = tuple(entry.path for entry in source.entries if entry not in source.whole)
    wanted = {path: path for path in source.sizes if path not in left_out}
    for program in source.managers():
        fallback = f"{FALLBACK}/{PROGRAMS[PurePosixPath(program).name]}"
        # The manager itself, also where the source's own fallback is another system's, or lost.
        wanted[fallback] = program
    puts = [
        Put(path, origin, source.sizes[origin], mirror.sizes.get(path, 0))
        for path, origin in wanted.items()
        if mirror.sizes.get(path) != source.sizes[origin] or not same(origin, path)
    ]
    return Difference(
        puts=tuple(sorted(puts, key=lambda put: (_rank(put.path), put.path))),
        drops=tuple(_drops(source, mirror, wanted)),
        left_out=left_out,
    )


def _drops(source: Inventory, mirror: Inventory, wanted: dict[str, str]) -> list[str]:
    """Entries, then files that no entry loads any more."""
    ours = [
        path
        for path in mirror.sizes
        if PurePosixPath(path).parent in _FOLDERS or path.startswith(f"{KERNELS}/")
    ]
    # What an earlier version's extraFiles put there is known by its mark.
    marks = [path for path in ours if path.startswith(f"{EXTRA}/")]
    ours += [path.removeprefix(f"{EXTRA}/") for path in marks]
    stale = {
        path for path in ours if path in mirror.sizes and path not in wanted and path not in source.sizes
    }
    kept = [entry for entry in mirror.entries if entry.path not in stale]
    loaded = {path for entry in kept for path in entry.files}
    return sorted(
        stale - loaded,
        key=lambda path: (not path.startswith(f"{ENTRIES}/"), path.startswith(f"{EXTRA}/"), path),
    )


def _rank(path: str) -> int:
    """When a file is written."""
    if path == LOADER_CONF:
        return 5
    match PurePosixPath(path).parts[:2]:
        case ("loader", _):
            return 4
        case ("EFI", "BOOT"):
            return 3
        case ("EFI", "systemd" | "hyper-nixos"):
            return 2
    return 1


def _rounded(size: int, cluster: int) -> int:
    return -(-size // cluster) * cluster
