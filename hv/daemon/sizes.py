"""Changing the sizes of guests: processors, memory, disks."""

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql

from hv.daemon.guests import definition, domain_of
from hv.daemon.limits import Use, size
from hv.daemon.operations import Action, Work
from hv.daemon.owned import ours, volume_behind
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission
from hv.daemon.store import VMS, VOLUMES
from hv.daemon.volumes import volume_of
from hv.libvirt_python import libvirt_module
from hv.vm.amounts import BLOCK, STEP, Amounts, amounts_in, device_with, set_amounts
from hv.vm.domain import parsed, text_of
from hv.vm.spec import Resize

BLIND = (
    "it is emulated, and a Linux of December 2025 or later takes such a machine for a real one, where no processors are "
    "plugged in: if it does not see them, it has them after `hv vm restart`"
)
"""Linux, arch/x86/kernel/acpi/boot.c, acpi_is_processor_usable: what is not there at boot counts under hypervisors alone."""
TAKES = 15.0
"""Seconds that a guest has to take or give memory, before it is said how far it is."""
LETS_GO = 5.0
"""Seconds that it has to let go of a processor, after those that libvirt waits."""


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


@dataclass(frozen=True)
class Change:
    """Processors and memory: how they are, how they are to be, and what of that a running guest gets now."""

    now: Amounts
    then: Amounts
    runs: bool
    live: Amounts | None
    """Of the running guest."""

    @property
    def vcpus_now(self) -> bool:
        """Whether the running guest's processors are changed."""
        most = 0 if self.live is None else self.live.max_vcpus
        return self.runs and self.then.vcpus <= most and self.then.vcpus != (self.live or self.now).vcpus

    @property
    def memory_now(self) -> bool:
        """Whether its memory is."""
        if self.live is None or self.then.memory == self.live.memory:
            return False
        if self.live.grows:
            return self.live.start <= self.then.memory <= self.live.max_memory
        return self.then.memory <= self.live.max_memory  # its balloon takes some back


def change_of(work: Work) -> Change:
    """What is asked for, against what is there. Raises RefusedError."""
    given: Resize = work.given
    domain = domain_of(work.connection, work.uuid)
    runs = bool(domain.isActive())
    now = amounts_in(definition(domain))
    live = amounts_in(parsed(domain.XMLDesc(0))) if runs else None
    vcpus = given.vcpus or now.vcpus
    most = given.max_vcpus or max(now.max_vcpus if now.max_vcpus > now.vcpus else 0, vcpus)
    if most < vcpus:
        raise _too_little("--max-cpus", "processors", str(most), str(vcpus))
    memory = given.memory or now.memory
    room = given.max_memory or (now.max_memory if now.grows else memory)
    if given.max_memory and given.max_memory < memory:
        raise _too_little("--max-memory", "memory", size(given.max_memory), size(memory))
    room = max(room, memory)
    start = now.start
    if not now.grows or memory < start or room != now.max_memory:
        start = memory  # it is laid out anew
    if start == memory:
        room = memory + (room - memory) // STEP * STEP
    elif (memory - start) % BLOCK:
        memory += BLOCK - (memory - start) % BLOCK
    return Change(now, Amounts(vcpus, most, memory, room, start), runs, live)


def _too_little(option: str, what: str, most: str, wanted: str) -> RefusedError:
    return RefusedError(
        "invalid",
        Status.invalid,
        f"{option} is less than it has.",
        why=f"the most would be {most}, and its {what}: {wanted}",
        remedy=f"Give {option} at least {wanted}.",
    )


def plan_resize(work: Work) -> list[str]:
    """Each change: now, or at the next start."""
    given: Resize = work.given
    ours(work)
    domain = domain_of(work.connection, work.uuid)
    change = change_of(work)
    now, then = change.now, change.then
    later = "at the next start" if change.runs else "now"
    lines = []
    if then.vcpus != now.vcpus:
        less = " (the guest has to let go of them)" if then.vcpus < now.vcpus else ""
        when = f"now{less}" if change.vcpus_now else later
        lines.append(f"processors: {now.vcpus} → {then.vcpus}, {when}")
    if then.memory != now.memory:
        how = "" if not change.live or change.live.grows else " (balloon)"
        when = f"now{how}" if change.memory_now else later
        lines.append(f"memory: {size(now.memory)} → {size(then.memory)}, {when}")
    if then.max_vcpus != now.max_vcpus:
        lines.append(f"processors at most: {now.max_vcpus} → {then.max_vcpus}, {later}")
    if then.max_memory != now.max_memory:
        lines.append(f"memory at most: {size(now.max_memory)} → {size(then.max_memory)}, {later}")
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
                remedy=f"Delete them first: `hv vm snapshot '{work.target}' list`.",
            )
        if given.size > volume["size"]:
            lines.append(
                f"disk {given.disk}: {size(volume['size'])} → {size(given.size)}, now; the guest grows its file system"
            )
    return lines or ["nothing would change"]


def run_resize(work: Work) -> dict[str, Any]:
    """Change, and read back."""
    given: Resize = work.given
    plan_resize(work)
    domain = domain_of(work.connection, work.uuid)
    change = change_of(work)
    then = change.then
    waits, notes = [], []
    if then != change.now:
        _define(work, domain, then)
    if change.vcpus_now and change.live is not None:
        work.say("changing processors", 20)
        note = _vcpus(work, domain, then.vcpus)
        if not note and then.vcpus > change.live.vcpus and definition(domain).get("type") == "qemu":
            note = BLIND
        if note:
            notes.append(note)
    if change.memory_now and change.live is not None:
        work.say("changing memory", 40)
        note = _memory(work, domain, change.live, then)
        if note:
            notes.append(note)
    if given.size is not None:
        _grow_disk(work, domain, given)
    if change.runs:
        live = amounts_in(parsed(domain.XMLDesc(0)))
        for word, here, there in (
            ("processors", live.vcpus, then.vcpus),
            ("memory", _has(domain, live), then.memory),
            ("the most of processors", live.max_vcpus, then.max_vcpus),
            ("the most of memory", live.max_memory, then.max_memory),
        ):
            grown = word.startswith("the most") and here >= there
            if here != there and not grown:
                waits.append(word)
    work.store.write(
        sql.update(VMS).where(VMS.c.uuid == work.uuid).values(vcpus=then.vcpus, memory=then.memory)
    )
    return {"name": work.target, "waits_for_restart": waits, "notes": notes}


def _has(domain: Any, live: Amounts) -> int:
    """Bytes of memory that a running guest was told to have: by its device, else by its balloon."""
    return live.memory if live.grows else min(live.memory, int(domain.info()[2]) * 1024)


def _define(work: Work, domain: Any, then: Amounts) -> None:
    """The definition with other amounts; all else in it is as somebody wrote it."""
    root = definition(domain)
    set_amounts(root, then)
    # libvirt kept the rest itself; a person's own additions need not be in the schema of this release.
    work.connection.defineXMLFlags(text_of(root), 0)


def _vcpus(work: Work, domain: Any, count: int) -> str:
    """Processors of a running guest; what it did not do."""
    libvirt = libvirt_module()
    said = ""
    try:
        domain.setVcpusFlags(count, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if not domain.isActive() or error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR:
            raise
        said = str(error)
    # A guest that gives one back answers when it likes, and libvirt waits for seconds only.
    end = time.monotonic() + LETS_GO
    while (has := amounts_in(parsed(domain.XMLDesc(0))).vcpus) != count:
        if time.monotonic() > end:
            return f"it has {has} processors while it runs: {said}"
        work.say("the guest has to let go of processors", 30)
        work.pause(0.2)
    return ""


def _memory(work: Work, domain: Any, live: Amounts, then: Amounts) -> str:
    """Memory of a running guest; what it did not do."""
    libvirt = libvirt_module()
    if not live.grows:
        domain.setMemoryFlags(-(-then.memory // 1024), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        return ""
    device = device_with(parsed(domain.XMLDesc(0)), then)
    domain.updateDeviceFlags(text_of(device), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    wanted = then.memory - live.start
    end = time.monotonic() + TAKES
    while (taken := amounts_in(parsed(domain.XMLDesc(0))).taken) not in (None, wanted):
        if time.monotonic() > end:
            has = size(live.start + (taken or 0))
            return f"the guest has taken {has} of {size(then.memory)} so far: its driver (virtio-mem) does as it can"
        work.say("the guest takes or gives memory", 60)
        work.pause(0.2)
    return ""


def _grow_disk(work: Work, domain: Any, given: Resize) -> None:
    libvirt = libvirt_module()
    assert given.size is not None
    volume = volume_behind(work, given.disk)
    if given.size <= volume["size"]:
        return
    work.say("growing the disk", 80)
    if domain.isActive():
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


RESIZE = Action("resize", Permission.change, Resize, plan_resize, run_resize, 300)
ACTIONS = (RESIZE,)
