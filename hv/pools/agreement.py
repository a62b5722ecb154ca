"""Makes libvirt's pools what the host declares. What somebody else made is used where it fits, and never changed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hv.libvirt_python import libvirt_module
from hv.pools.declared import FolderPool, Pool
from hv.pools.definition import found_target, pool_uuid, pool_xml, target_of
from hv.pools.folder import Run, prepare
from installer.errors import HyperError

Say = Callable[[str], None]


def find_pool(connection: Any, name: str) -> Any | None:
    """libvirt's pool of that name, if there is one."""
    libvirt = libvirt_module()
    try:
        return connection.storagePoolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return None
        raise


def own_or_none(connection: Any, pool: Pool) -> Any | None:
    """libvirt's pool of that name, if there is one. Raises HyperError where it has its volumes at another place."""
    existing, wanted = find_pool(connection, pool.name), target_of(pool)
    if existing is not None and (found := found_target(existing.XMLDesc(0))) != wanted:
        raise HyperError(
            f"There is a pool {pool.name} already, at another place.",
            why=f"it has its volumes in {found}, declared is {wanted}; it was left as it is",
            remedy=f"Declare that place, or undefine it (`virsh pool-destroy {pool.name}; virsh pool-undefine "
            f"{pool.name}`; volumes stay) and run `hv pools apply`.",
        )
    return existing


def ensure(connection: Any, pool: Pool, run: Run, say: Say) -> None:
    """Have the pool: defined, started when it should be, and read back. Raises HyperError."""
    libvirt = libvirt_module()
    wanted = target_of(pool)
    try:
        existing = own_or_none(connection, pool)
        if isinstance(pool, FolderPool):
            prepare(Path(pool.path), pool, run, say)
        if existing is None:
            say(f"{pool.name}: defining it, {wanted}")
            existing = connection.storagePoolDefineXML(
                pool_xml(pool), libvirt.VIR_STORAGE_POOL_DEFINE_VALIDATE
            )
        if pool.autostart and not existing.isActive():
            existing.create(0)
            say(f"{pool.name}: started")
        if bool(existing.autostart()) is not pool.autostart:
            existing.setAutostart(int(pool.autostart))
        require(connection, pool)
    except libvirt.libvirtError as error:
        raise HyperError(
            f"The pool {pool.name} ({wanted}) could not be had.",
            why=str(error),
            remedy=f"See whether {wanted.place} is there and healthy, then run `hv pools apply`.",
        ) from error


def require(connection: Any, pool: Pool) -> tuple[int, int]:
    """Bytes free and in all of the pool, as libvirt has it. Raises HyperError when it is not what was declared."""
    existing = find_pool(connection, pool.name)
    lacks = []
    if existing is None:
        lacks.append("there is none of that name")
    else:
        if (found := found_target(existing.XMLDesc(0))) != target_of(pool):
            lacks.append(f"it has its volumes in {found}, declared is {target_of(pool)}")
        if not existing.isPersistent():
            lacks.append("it is gone after a restart")
        if pool.autostart and not existing.isActive():
            lacks.append("it is not active")
        if bool(existing.autostart()) is not pool.autostart:
            lacks.append(
                "it is not started with the host" if pool.autostart else "it is started with the host"
            )
    if lacks:
        raise HyperError(
            f"The pool {pool.name} is not as declared.",
            why="; ".join(lacks),
            remedy="Run `hv pools apply`.",
        )
    assert existing is not None
    if not existing.isActive():
        return 0, 0
    existing.refresh(0)
    _, capacity, _, available = existing.info()
    return available, capacity


def forgotten(connection: Any, pools: Sequence[Pool]) -> list[str]:
    """Pools that we defined once and that are not declared any more: they stay, and people are told."""
    names = {pool.name for pool in pools}
    return sorted(
        each.name()
        for each in connection.listAllStoragePools(0)
        if each.name() not in names and each.UUIDString() == pool_uuid(each.name())
    )
