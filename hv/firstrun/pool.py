"""Job pool: the storage pool `default`, a folder, active and started with the host."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from hv.firstrun.world import World, libvirt_module
from installer.errors import HyperError
from installer.handoff import Handoff

POOL = "default"


@dataclass(frozen=True)
class PoolJob:
    """Makes it."""

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
        folder = world.path(self.folder)
        _make_writable_folder(folder)
        with world.libvirt() as connection:
            pool = find_pool(connection)
            if pool is None:
                world.say(f"defining pool {POOL} at {folder}")
                pool = _define(connection, folder)
            _require_folder(pool, folder)
            if not pool.isActive():
                pool.create(0)
            if not pool.autostart():
                pool.setAutostart(1)

    def verify(self, world: World) -> None:
        """Active, persistent, autostarted, at the right place, and libvirt can list it."""
        with world.libvirt() as connection:
            pool = find_pool(connection)
            if pool is None or not (pool.isActive() and pool.isPersistent() and pool.autostart()):
                raise HyperError(
                    f"The pool {POOL} is not active and started with the host.",
                    why="libvirt reads it back otherwise, right after it was made",
                    remedy=f"See `virsh pool-info {POOL}`, then `hv firstrun retry pool`.",
                )
            _require_folder(pool, world.path(self.folder))
            pool.refresh(0)
            _, capacity, _, available = pool.info()
            world.say(
                f"checked: pool {POOL}, {available} of {capacity} bytes free, {pool.numOfVolumes()} volumes"
            )


def find_pool(connection: Any) -> Any | None:
    """The pool `default`, if there is one."""
    libvirt = libvirt_module()
    try:
        return connection.storagePoolLookupByName(POOL)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return None
        raise


def pool_folder(pool: Any) -> Path:
    """Where a folder pool keeps its volumes (https://libvirt.org/formatstorage.html)."""
    path = ET.fromstring(pool.XMLDesc(0)).findtext("target/path")  # noqa: S314 - libvirt's own words
    return Path(path or "/nonexistent")


def _define(connection: Any, folder: Path) -> Any:
    root = ET.Element("pool", type="dir")
    ET.SubElement(root, "name").text = POOL
    ET.SubElement(ET.SubElement(root, "target"), "path").text = str(folder)
    return connection.storagePoolDefineXML(ET.tostring(root, encoding="unicode"), 0)


def _require_folder(pool: Any, folder: Path) -> None:
    if (found := pool_folder(pool)) != folder:
        raise HyperError(
            f"There is a pool {POOL} already, at another place.",
            why=f"it keeps its volumes in {found}, the hand-off says {folder}",
            remedy=f"Undefine it (`virsh pool-destroy {POOL}; virsh pool-undefine {POOL}`; volumes stay) and retry, "
            "or `hv firstrun skip pool --reason …` to use it as it is.",
        )


def _make_writable_folder(folder: Path) -> None:
    try:
        # Others may reach a file they know the name of, and list nothing: QEMU is not root.
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        raise HyperError(
            f"The folder of the storage pool, {folder}, cannot be written to.",
            why=f"{type(error).__name__}: {error.strerror}",
            remedy=f"See `findmnt -T {folder}` and `lsattr -d {folder}`, mend it, then `hv firstrun retry pool`.",
        ) from error
