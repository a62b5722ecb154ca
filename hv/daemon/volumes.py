"""Volumes of storage pools. libvirt makes, fills and removes them; the broker itself opens no file.

Only volumes that the broker made and remembers are touched or given to guests; their names carry a UUID, so that nobody
can put something in their place beforehand. All disks are qcow2: the format of a raw one would be for its guest to say.
"""

import os
import stat
import time
from typing import Any

import sqlalchemy as sql

from hv.daemon.problems import RefusedError, Status
from hv.daemon.store import OPEN, OPERATIONS, UPLOADS, VOLUMES, Store
from hv.libvirt_python import libvirt_module
from hv.vm.domain import parsed, volume_xml

FILES = ("dir", "fs", "netfs")
"""Types of pools whose volumes are files."""
PATIENCE = 30.0
"""Seconds for others to finish with a pool; a disk is made in one, an image may take minutes to be filled."""
GOING = "going"
"""Kind of a volume that is being removed: nobody gets it any more, and a broker that was killed goes on with it."""
STAGED = "staged"
"""Kind of a volume that an image is brought into: nobody's disk and nobody's image, until all of it is there."""
CHUNK = 256 * 1024
"""Bytes of a stream's piece (libvirt sends at most 256 KiB in one)."""


def pool_of(connection: Any, name: str) -> tuple[Any, str]:
    """A running pool of files, and its folder. Raises Refused."""
    libvirt = libvirt_module()
    try:
        pool = connection.storagePoolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        known = ", ".join(sorted(each.name() for each in connection.listAllStoragePools(0))) or "none"
        raise RefusedError(
            "no-such-pool",
            Status.missing,
            f"There is no storage pool {name!r}.",
            why=f"libvirt has: {known}",
            remedy="Name one of these, or declare it in hypervisor.storage.pools and rebuild.",
        ) from error
    root = parsed(pool.XMLDesc(0))
    if root.get("type") not in FILES:
        raise RefusedError(
            "pool-kind",
            Status.invalid,
            f"The pool {name} cannot hold disks that hvd makes.",
            why=f"its type is {root.get('type')}; pools of files ({', '.join(FILES)}) can",
            remedy="Name a pool of kind dir or btrfs.",
        )
    if not pool.isActive():
        raise RefusedError(
            "pool-stopped",
            Status.conflict,
            f"The pool {name} is not running.",
            why="libvirt says it is inactive",
            remedy="An administrator starts it: `hv pools apply`.",
        )
    return pool, (root.findtext("target/path") or "").rstrip("/")


def refresh(pool: Any, *, patience: float = 0.0) -> None:
    """Let libvirt look at a pool again. It refuses while somebody makes or fills a volume there, which may take as long
    as an image is large: then it is left, after so many seconds. What libvirt itself made it knows without.
    """
    libvirt = libvirt_module()
    end = time.monotonic() + patience
    while True:
        try:
            pool.refresh(0)
            return
        except libvirt.libvirtError as error:
            if "asynchronous jobs running" not in str(error):
                raise
            if time.monotonic() >= end:
                return
        time.sleep(0.1)


def volume_of(connection: Any, pool_name: str, name: str) -> tuple[Any, str]:
    """A volume and its path, which is a file in the pool's folder and nothing else. Raises Refused."""
    libvirt = libvirt_module()
    pool, folder = pool_of(connection, pool_name)
    try:
        volume = pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
        refresh(pool)
        volume = pool.storageVolLookupByName(name)
    path = volume.path()
    if path != f"{folder}/{name}":
        raise _strange(path, f"it is not directly in {folder}")
    try:
        found = os.lstat(path)
    except OSError:
        return volume, path  # the pool's folder is not for us to enter; libvirt looked
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise _strange(path, "it is a link, or not a plain file")
    return volume, path


def _strange(path: str, why: str) -> RefusedError:
    return RefusedError(
        "strange-volume",
        Status.denied,
        f"{path} is not used as a disk.",
        why=why,
        remedy="An administrator looks at who put it there, and takes it away.",
    )


def make(connection: Any, row: dict[str, Any], *, kind: str = "qcow2", backing: str | None = None) -> str:
    """Make a volume of a row's pool, name and size, unless it is there already; its path."""
    libvirt = libvirt_module()
    pool, folder = pool_of(connection, row["pool"])
    refresh(pool)
    try:
        pool.storageVolLookupByName(row["name"])
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
        room = pool.info()[3]
        if kind == "raw" and room < row["size"]:
            raise no_room(row["pool"], room, row["size"]) from None
        pool.createXML(volume_xml(row["name"], row["size"], kind=kind, backing=backing), 0)
    else:
        # From before a restart; libvirt may still be making it.
        refresh(pool, patience=PATIENCE)
    return f"{folder}/{row['name']}"


def no_room(pool: str, free: int, wanted: int) -> RefusedError:
    """That a pool is too full."""
    return RefusedError(
        "disk-full",
        Status.limit,
        f"The pool {pool} has too little room.",
        why=f"{wanted} bytes are needed, {free} are free",
        remedy="Delete disks that no VM uses (`hv vm disks`), or name another pool.",
    )


def fill(connection: Any, pool: str, name: str, data: bytes) -> None:
    """Write a volume's whole content."""
    volume, _ = volume_of(connection, pool, name)
    stream = connection.newStream(0)
    volume.upload(stream, 0, len(data), 0)
    view = memoryview(data)
    while view:
        sent = stream.send(bytes(view[:CHUNK]))
        view = view[sent:]
    stream.finish()


def remove(connection: Any, pool: str, name: str) -> None:
    """Remove a volume; it may be gone already."""
    libvirt = libvirt_module()
    try:
        found, _ = pool_of(connection, pool)
        refresh(found)
        found.storageVolLookupByName(name).delete(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_NO_STORAGE_POOL):
            raise


def removed(connection: Any, store: Store, pool: str, name: str) -> None:
    """Remove a volume, then forget it."""
    remove(connection, pool, name)
    store.write(sql.delete(VOLUMES).where(VOLUMES.c.pool == pool, VOLUMES.c.name == name))


def let_go(store: Store) -> None:
    """What was brought half by an operation that has ended goes, however it ended."""
    open_ones = sql.select(OPERATIONS.c.id).where(OPERATIONS.c.status.in_(OPEN))
    theirs = sql.select(UPLOADS.c.volume).where(UPLOADS.c.operation.in_(open_ones))
    left = (VOLUMES.c.kind == STAGED, VOLUMES.c.name.not_in(theirs))
    if store.row(sql.select(VOLUMES.c.name).where(*left)) is not None:
        store.write(
            sql.update(VOLUMES).where(*left).values(kind=GOING),
            sql.delete(UPLOADS).where(UPLOADS.c.operation.not_in(open_ones)),
        )


def going(store: Store) -> list[dict[str, Any]]:
    """Volumes that are to be removed."""
    return store.rows(sql.select(VOLUMES).where(VOLUMES.c.kind == GOING))


def sweep(connection: Any, store: Store, others: set[str]) -> None:
    """Remove what could not be removed when it was to be; `others` are being removed at this moment."""
    for row in going(store):
        if row["name"] not in others:
            removed(connection, store, row["pool"], row["name"])


def remembered(store: Store, pool: str, name: str) -> dict[str, Any]:
    """What the broker remembers of a volume. Raises RefusedError for one that it did not make."""
    row = store.row(sql.select(VOLUMES).where(VOLUMES.c.pool == pool, VOLUMES.c.name == name))
    if row is None or row["kind"] == STAGED:
        raise RefusedError(
            "no-such-volume",
            Status.missing,
            f"There is no disk {name!r} in the pool {pool} that hvd made.",
            why="hvd gives VMs only disks that it made itself, whatever else is in the pool",
            remedy="See `hv vm disks`; bring a disk in with `hv image import FILE`.",
        )
    return row
