"""Whether something more still fits: limits of a person, and of the host."""

from dataclasses import dataclass

import sqlalchemy as sql

from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller
from hv.daemon.settings import Limits, Settings
from hv.daemon.store import VMS, VOLUMES

GIB = 1024**3
COUNTED = ("vms", "vcpus", "memory", "disk")


@dataclass(frozen=True)
class Use:
    """What somebody has, or wants more."""

    vms: int = 0
    vcpus: int = 0
    memory: int = 0
    """Bytes."""
    disk: int = 0
    """Bytes."""


def used(connection: sql.Connection, owner: int | None = None) -> Use:
    """What a person has; None: everybody together."""
    guests = sql.select(
        sql.func.count(),
        sql.func.coalesce(sql.func.sum(VMS.c.vcpus), 0),
        sql.func.coalesce(sql.func.sum(VMS.c.memory), 0),
    )
    volumes = sql.select(sql.func.coalesce(sql.func.sum(VOLUMES.c.size), 0))
    if owner is not None:
        guests, volumes = guests.where(VMS.c.owner == owner), volumes.where(VOLUMES.c.owner == owner)
    count, vcpus, memory = connection.execute(guests).one()
    return Use(count, vcpus, memory, connection.execute(volumes).scalar_one())


def require_room(
    connection: sql.Connection, settings: Settings, caller: Caller, owner: int, more: Use
) -> None:
    """RefusedError (limit) if `more` for an owner does not fit; `caller` asks for it. Limits of people do not bind admins."""
    if not any(role.name == "admin" for role in caller.roles):
        _require(settings.user, used(connection, owner), more, "you may have", "user")
    _require(settings.host, used(connection), more, "all VMs of this host together may have", "host")


def require_snapshot(settings: Settings, caller: Caller, there: int) -> None:
    """RefusedError (limit) if a guest with so many snapshots may have no more."""
    for limits, whose in ((settings.user, "user"), (settings.host, "host")):
        if whose == "user" and any(role.name == "admin" for role in caller.roles):
            continue
        if limits.snapshots is not None and there >= limits.snapshots:
            raise _refusal("snapshots", limits.snapshots, (there, 1), "a VM may have", whose)


def _require(limits: Limits, has: Use, more: Use, may: str, whose: str) -> None:
    for name in COUNTED:
        most, there, wanted = getattr(limits, name), getattr(has, name), getattr(more, name)
        if most is not None and wanted > 0 and there + wanted > most:
            raise _refusal(name, most, (there, wanted), may, whose)


def _refusal(name: str, most: int, counts: tuple[int, int], may: str, whose: str) -> RefusedError:
    there, wanted = counts
    show = size if name in ("memory", "disk") else str
    nouns = {"vms": "VMs", "vcpus": "virtual processors", "memory": "of memory", "disk": "of disks"}
    noun = nouns.get(name, name)
    smaller = {
        "vms": "Delete one you no longer need (`hv vm delete NAME --disks`)",
        "vcpus": "Take fewer (--cpus), or give some back: `hv vm resize OTHER --cpus 1`",
        "memory": "Take less (--memory), or give some back: `hv vm resize OTHER --memory 1G`",
        "disk": "Take a smaller disk (--size), or delete disks that no VM uses (`hv vm disks`) or images "
        "(`hv image list`)",
        "snapshots": "Delete one: `hv vm snapshot NAME delete SNAPSHOT`",
    }[name]
    return RefusedError(
        "limit",
        Status.limit,
        f"That would be more {noun.removeprefix('of ')} than allowed.",
        why=f"{may} {show(most)} {noun}; there are {show(there)}, and {show(wanted)} more are asked for",
        remedy=f"{smaller}; or ask an administrator to raise hypervisor.privileges.broker.limits.{whose}.{name}.",
        limit=name,
        most=most,
        used=there,
        wanted=wanted,
    )


def size(count: int) -> str:
    """Bytes for people."""
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.4g} {units[0]}"
