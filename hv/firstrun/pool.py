"""Job pool: the storage pool `default`, a folder, active and started with the host."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from hv.firstrun.world import COMMAND_TIMEOUT, World
from hv.pools import agreement
from hv.pools.declared import FolderPool
from installer.errors import HyperError
from installer.execute.runner import Finished
from installer.handoff import Handoff

POOL = "default"


@dataclass(frozen=True)
class PoolJob:
    """Makes it, as `hv pools` makes those that the host declares."""

    folder: str
    """Absolute path on the host."""
    name: str = "pool"
    requires: tuple[str, ...] = ("libvirt",)
    timeout: float = 120

    def applies(self, handoff: Handoff) -> str | None:  # noqa: ARG002
        """Always."""
        return None

    def run(self, world: World) -> None:
        """Folder, definition, autostart, start; what is there already is left as it is."""

        def run(argv: tuple[str, ...]) -> Finished:
            return world.programs.run(argv, timeout=min(COMMAND_TIMEOUT, world.remaining()))

        with world.libvirt() as connection, _advice():
            agreement.ensure(connection, self._pool(world), run, world.say)

    def verify(self, world: World) -> None:
        """Active, persistent, autostarted, at the right place, and libvirt can list it."""
        with world.libvirt() as connection, _advice():
            available, capacity = agreement.require(connection, self._pool(world))
            world.say(f"checked: pool {POOL}, {available} of {capacity} bytes free")

    def _pool(self, world: World) -> FolderPool:
        return FolderPool(name=POOL, kind="dir", path=str(world.path(self.folder)))


@contextmanager
def _advice() -> Iterator[None]:
    """Errors say how the job goes on, not the command."""
    try:
        yield
    except HyperError as error:
        error.remedy += (
            " Then `hv firstrun retry pool`, or `hv firstrun skip pool --reason …` to use it as it is."
        )
        raise


def find_pool(connection: Any) -> Any | None:
    """The pool `default`, if there is one."""
    return agreement.find_pool(connection, POOL)


def pool_folder(pool: Any) -> Path:
    """Where a folder pool keeps its volumes (https://libvirt.org/formatstorage.html)."""
    path = ET.fromstring(pool.XMLDesc(0)).findtext("target/path")  # noqa: S314 - libvirt's own words
    return Path(path or "/nonexistent")
