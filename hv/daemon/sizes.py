"""Changing the sizes of guests: processors, memory, disks."""

from typing import Any

import sqlalchemy as sql

from hv.daemon.guests import domain_of
from hv.daemon.limits import Use, size
from hv.daemon.operations import Action, Work
from hv.daemon.owned import ours, volume_behind
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission
from hv.daemon.store import VMS, VOLUMES
from hv.daemon.volumes import volume_of
from hv.libvirt_python import libvirt_module
from hv.vm.spec import Resize


def room_for_resize(work: Work) -> Use:
    """What more it takes."""
    given: Resize = work.given
    row = ours(work)
    more_disk = 0
    if given.size is not None:
        more_disk = given.size - volume_behind(work, given.disk)["size"]
    return Use(
        0,
        (given.vcpus or row["vcpus"]) - row["vcpus"],
        (given.memory or row["memory"]) - row["memory"],
        more_disk,
    )


def plan_resize(work: Work) -> list[str]:
    """Each change: now, or at the next start."""
    given: Resize = work.given
    row = ours(work)
    domain = domain_of(work.connection, work.uuid)
    runs = bool(domain.isActive())
    lines = []
    if given.vcpus is not None and given.vcpus != row["vcpus"]:
        lines.append(f"processors: {row['vcpus']} → {given.vcpus}, {'at the next start' if runs else 'now'}")
    if given.memory is not None and given.memory != row["memory"]:
        when = (
            "now"
            if not runs
            else "now (balloon)"
            if _shrinks_live(domain, given.memory)
            else "at the next start"
        )
        lines.append(f"memory: {size(row['memory'])} → {size(given.memory)}, {when}")
    if given.size is not None:
        volume = volume_behind(work, given.disk)
        if given.size < volume["size"]:
            raise RefusedError(
                "shrinks",
                Status.invalid,
                "A disk is not made smaller.",
                why=f"{given.disk} has {size(volume['size'])}; what is at its end would be lost",
                remedy="Make a new, smaller disk, and copy inside the guest.",
            )
        if domain.snapshotNum(0):
            raise RefusedError(
                "has-snapshots",
                Status.conflict,
                "The disk of a VM with snapshots is not resized.",
                why="its snapshots have the old size, and libvirt could not go back to them",
                remedy=f"Delete them first: `hv vm snapshot list '{work.target}'`.",
            )
        if given.size > volume["size"]:
            lines.append(
                f"disk {given.disk}: {size(volume['size'])} → {size(given.size)}, now; the guest grows its file system"
            )
    return lines or ["nothing would change"]


def _shrinks_live(domain: Any, memory: int) -> bool:
    return memory // 1024 <= int(domain.maxMemory())


def run_resize(work: Work) -> dict[str, Any]:
    """Change, and read back."""
    libvirt = libvirt_module()
    given: Resize = work.given
    plan_resize(work)
    row = ours(work)
    domain = domain_of(work.connection, work.uuid)
    config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    runs = bool(domain.isActive())
    waits = []
    if given.vcpus is not None:
        domain.setVcpusFlags(given.vcpus, config | libvirt.VIR_DOMAIN_VCPU_MAXIMUM)
        domain.setVcpusFlags(given.vcpus, config)
        if runs and given.vcpus != row["vcpus"]:
            waits.append("processors")
    if given.memory is not None:
        kib = -(-given.memory // 1024)
        domain.setMemoryFlags(kib, config | libvirt.VIR_DOMAIN_MEM_MAXIMUM)
        domain.setMemoryFlags(kib, config)
        if runs and _shrinks_live(domain, given.memory):
            domain.setMemoryFlags(kib, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        elif runs:
            waits.append("memory")
    if given.size is not None:
        volume = volume_behind(work, given.disk)
        if given.size > volume["size"]:
            work.say("growing the disk", 50)
            if runs:
                domain.blockResize(given.disk, given.size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
            else:
                found, _ = volume_of(work.connection, volume["pool"], volume["name"])
                if found.info()[1] < given.size:
                    found.resize(given.size, 0)
            work.store.write(
                sql.update(VOLUMES)
                .where(VOLUMES.c.pool == volume["pool"], VOLUMES.c.name == volume["name"])
                .values(size=given.size)
            )
    work.store.write(
        sql.update(VMS)
        .where(VMS.c.uuid == work.uuid)
        .values(vcpus=given.vcpus or row["vcpus"], memory=given.memory or row["memory"])
    )
    return {"name": work.target, "waits_for_restart": waits}


RESIZE = Action("resize", Permission.change, Resize, plan_resize, run_resize, 300)
ACTIONS = (RESIZE,)
