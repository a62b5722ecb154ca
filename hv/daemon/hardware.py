"""Changing what guests are made of: sizes, disks, network cards, devices, copies."""

from typing import Any

import sqlalchemy as sql

from hv.daemon.guests import definition, disks_in, domain_of
from hv.daemon.hostd import ask
from hv.daemon.limits import Use, size
from hv.daemon.making import disk_file, disk_row, undefine_flags
from hv.daemon.operations import Action, Work
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission, decide
from hv.daemon.store import VMS, VOLUMES
from hv.daemon.volumes import refresh, remove, volume_of
from hv.libvirt_python import libvirt_module
from hv.vm.domain import (
    NS,
    console_log,
    disk_element,
    free_target,
    mac_of,
    nic_element,
    parsed,
    pci_element,
    text_of,
    usb_element,
    volume_xml,
)
from hv.vm.spec import Attach, Clone, Detach, Resize


def _affects(domain: Any) -> int:
    """The definition, and the running guest too if it runs."""
    libvirt = libvirt_module()
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
    return int(libvirt.VIR_DOMAIN_AFFECT_CONFIG | live)


def _row(work: Work) -> dict[str, Any] | None:
    return work.store.row(sql.select(VMS).where(VMS.c.uuid == work.uuid))


def _ours(work: Work) -> dict[str, Any]:
    row = _row(work)
    if row is None:
        raise RefusedError(
            "not-ours",
            Status.conflict,
            f"{work.target} is not hvd's to change.",
            why="hvd did not make it, and does not know what its disks are for",
            remedy="root changes it with virsh.",
        )
    return row


def _volume(work: Work, target: str) -> dict[str, Any]:
    """The volume behind a guest's disk. Raises RefusedError."""
    domain = domain_of(work.connection, work.uuid)
    disks = {disk["target"]: disk for disk in disks_in(definition(domain))}
    rows = {
        row["name"]: row for row in work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid))
    }
    path = (disks.get(target) or {}).get("path") or ""
    row = rows.get(path.rpartition("/")[2])
    if row is None or row["kind"] != "disk":
        known = ", ".join(str(name) for name in disks) or "none"
        raise RefusedError(
            "no-such-disk",
            Status.missing,
            f"{work.target} has no disk {target!r} of hvd's.",
            why=f"it has: {known}",
            remedy=f"See `hv vm show '{work.target}'`.",
        )
    return row


# Sizes.


def room_for_resize(work: Work) -> Use:
    """What more it takes."""
    given: Resize = work.given
    row = _ours(work)
    more_disk = 0
    if given.size is not None:
        more_disk = given.size - _volume(work, given.disk)["size"]
    return Use(
        0,
        (given.vcpus or row["vcpus"]) - row["vcpus"],
        (given.memory or row["memory"]) - row["memory"],
        more_disk,
    )


def plan_resize(work: Work) -> list[str]:
    """Each change: now, or at the next start."""
    given: Resize = work.given
    row = _ours(work)
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
        volume = _volume(work, given.disk)
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
    row = _ours(work)
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
        volume = _volume(work, given.disk)
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


# Plugging.


def plan_attach(work: Work) -> list[str]:
    """What would be plugged in; raises for what the caller may not have."""
    given: Attach = work.given
    _ours(work)
    if given.disk is not None:
        row = disk_row(work.store, given.disk, work.uuid, work.caller, "new")
        return [f"disk of {size(row['size'])} is plugged into {work.target}"]
    if given.nic is not None:
        return [f"network card in {given.nic.network} is plugged into {work.target}"]
    decision = decide(work.caller, Permission.devices, None, "the host's devices")
    if not decision.allowed:
        raise RefusedError(
            "denied",
            Status.denied,
            "You may not give devices of the host to VMs.",
            why=decision.why,
            remedy=decision.remedy,
            permission="devices",
            object="the host's devices",
        )
    if given.pci is not None:
        return [f"device {each} of the host is given to {work.target}" for each in _going(work, given.pci)]
    return [f"device {given.usb} of the host is given to {work.target}"]


def _going(work: Work, address: str) -> tuple[str, ...]:
    """The device and everything that has to go with it; RefusedError if the host needs any of that."""
    verdict = ask(work.hostd, {"verb": "device-verdict", "pci": address})
    if not verdict["allowed"]:
        raise RefusedError(
            "harms-host",
            Status.denied,
            f"{address} is not given to a VM.",
            why=verdict["reason"],
            remedy="`hv passthrough list` shows each device's verdict, and those that the host can do without.",
            object=address,
        )
    going = tuple(sorted({address, *verdict["companions"]}))
    with work.libvirt.connected() as connection:
        for domain in connection.listAllDomains(0):
            root = definition(domain)
            for each in going:
                element = pci_element(each)
                taken = any(_same(other, element) for other in root.iterfind("devices/hostdev"))
                if taken and domain.UUIDString() != work.uuid:
                    raise RefusedError(
                        "in-use",
                        Status.conflict,
                        f"{each} belongs to another VM.",
                        why=f"{domain.name()} has it",
                        remedy="Unplug it there first (`hv vm detach`).",
                    )
    return going


def run_attach(work: Work) -> dict[str, Any]:
    """Plug it in, now and for later; a new disk is made first."""
    libvirt = libvirt_module()
    given: Attach = work.given
    plan_attach(work)
    domain = domain_of(work.connection, work.uuid)
    root = definition(domain)
    if given.disk is not None:
        return _attach_disk(work, domain, root)
    if given.nic is not None:
        mac = given.nic.mac or mac_of(work.id, 0)
        elements, what = [nic_element(given.nic, mac)], {"mac": mac}
    elif given.pci is not None:
        going = _going(work, given.pci)
        elements, what = [pci_element(each) for each in going], {"pci": ", ".join(going)}
    else:
        elements, what = [usb_element(given.usb or "")], {"usb": given.usb or ""}
    try:
        for element in elements:
            if not _has(root, element):
                domain.attachDeviceFlags(text_of(element), _affects(domain))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_FAILED:
            raise
        raise RefusedError(
            "cannot-plug",
            Status.conflict,
            f"{work.target} cannot take it while it runs.",
            why=str(error),
            remedy="Stop the VM, then do it again.",
        ) from error
    return {"name": work.target, "attached": what}


def _has(root: Any, element: Any) -> bool:
    """Whether it is plugged in already: the operation was taken up again."""
    if element.tag == "interface":
        wanted = element.find("mac").get("address")
        return any(mac.get("address") == wanted for mac in root.iterfind("devices/interface/mac"))
    return any(_same(other, element) for other in root.iterfind("devices/hostdev"))


def _attach_disk(work: Work, domain: Any, root: Any) -> dict[str, Any]:
    disk = work.given.disk
    row = disk_row(work.store, disk, work.uuid, work.caller, f"x{work.id[:8]}")
    where = (VOLUMES.c.pool == row["pool"], VOLUMES.c.name == row["name"])
    if disk.volume is None:
        known = work.store.row(sql.select(VOLUMES).where(*where))
        row = known or row
    work.store.write(sql.update(VOLUMES).where(*where).values(vm=work.uuid))
    file = disk_file(work, row, disk)
    taken = {str(each["target"]) for each in disks_in(root)}
    if any(each["path"] == file.path for each in disks_in(root)):
        return {"name": work.target, "attached": {"disk": row["name"]}}
    target = free_target(file, taken)
    domain.attachDeviceFlags(text_of(disk_element(file, target)), _affects(domain))
    return {"name": work.target, "attached": {"disk": row["name"], "target": target}}


def kept_with_attach(work: Work) -> tuple[tuple[Any, ...], Use | None]:
    """Statements and room of a new disk."""
    disk = work.given.disk
    if disk is None or disk.volume is not None:
        return (), None
    row = disk_row(work.store, disk, work.uuid, work.caller, f"x{work.id[:8]}")
    return (sql.insert(VOLUMES).values(**row),), Use(disk=row["size"])


def undo_attach(work: Work) -> None:
    """A disk that was made for it goes again, unless it was plugged in after all."""
    disk = work.given.disk
    if disk is None:
        return
    with work.libvirt.connected() as connection:
        paths = {each["path"] for each in disks_in(definition(domain_of(connection, work.uuid)))}
        for row in work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid)):
            mine = row["name"] == disk.volume or f"-x{work.id[:8]}." in row["name"]
            if not mine or any((path or "").endswith(f"/{row['name']}") for path in paths):
                continue
            where = (VOLUMES.c.pool == row["pool"], VOLUMES.c.name == row["name"])
            if disk.volume is not None:
                work.store.write(sql.update(VOLUMES).where(*where).values(vm=None))
            else:
                remove(connection, row["pool"], row["name"])
                work.store.write(sql.delete(VOLUMES).where(*where))


def _found(work: Work) -> Any:
    """The element of what is to be unplugged. Raises RefusedError."""
    given: Detach = work.given
    root = definition(domain_of(work.connection, work.uuid))
    for element in root.iterfind("devices/disk"):
        target = element.find("target")
        if given.disk is not None and target is not None and target.get("dev") == given.disk:
            return element
    for element in root.iterfind("devices/interface"):
        mac = element.find("mac")
        if given.mac is not None and mac is not None and mac.get("address") == given.mac:
            return element
    for wanted, make_element in ((given.pci, pci_element), (given.usb, usb_element)):
        if wanted is None:
            continue
        same = [each for each in root.iterfind("devices/hostdev") if _same(each, make_element(wanted))]
        if same:
            return same[0]
    what = given.disk or given.mac or given.pci or given.usb
    raise RefusedError(
        "no-such-device",
        Status.missing,
        f"{work.target} has no {what}.",
        why="nothing like that is plugged into it",
        remedy=f"See `hv vm show '{work.target}'`.",
    )


def _same(one: Any, other: Any) -> bool:
    def said(element: Any) -> list[tuple[str, dict[str, int]]]:
        source = element.find("source")
        return [
            (
                child.tag,
                {key: int(value, 16) for key, value in child.attrib.items() if value.startswith("0x")},
            )
            for child in (() if source is None else source)
        ]

    return one.get("type") == other.get("type") and said(one) == said(other)


def plan_detach(work: Work) -> list[str]:
    """What would be unplugged."""
    _ours(work)
    given: Detach = work.given
    _found(work)
    if given.disk is not None:
        return [f"disk {given.disk} is unplugged from {work.target}, and kept"]
    return [f"{given.mac or given.pci or given.usb} is unplugged from {work.target}"]


def run_detach(work: Work) -> dict[str, Any]:
    """Unplug it; a running guest has to let go first."""
    libvirt = libvirt_module()
    given: Detach = work.given
    domain = domain_of(work.connection, work.uuid)
    element = _found(work)
    volume = None
    if given.disk is not None:
        source = element.find("source")
        name = ("" if source is None else source.get("file") or "").rpartition("/")[2]
        volume = work.store.row(sql.select(VOLUMES).where(VOLUMES.c.name == name, VOLUMES.c.vm == work.uuid))
    xml = text_of(element)
    if domain.isActive():
        domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        # The guest answers when it likes (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainDetachDeviceFlags).
        while _is_live(domain, given):
            work.say("the guest has to let go of it", 50)
            work.pause(0.2)
    domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    if volume is not None:
        where = (VOLUMES.c.pool == volume["pool"], VOLUMES.c.name == volume["name"])
        work.store.write(sql.update(VOLUMES).where(*where).values(vm=None))
    return {"name": work.target, "kept": f"{volume['pool']}/{volume['name']}" if volume else None}


def _is_live(domain: Any, given: Detach) -> bool:
    root = parsed(domain.XMLDesc(0))
    if given.disk is not None:
        return any(target.get("dev") == given.disk for target in root.iterfind("devices/disk/target"))
    if given.mac is not None:
        return any(mac.get("address") == given.mac for mac in root.iterfind("devices/interface/mac"))
    make_element = pci_element(given.pci) if given.pci else usb_element(given.usb or "")
    return any(_same(each, make_element) for each in root.iterfind("devices/hostdev"))


# Copies.


def plan_clone(work: Work) -> list[str]:
    """What the copy shares with the original, and what not."""
    given: Clone = work.given
    row = _ours(work)
    domain = domain_of(work.connection, work.uuid)
    if domain.isActive():
        raise RefusedError(
            "runs",
            Status.conflict,
            f"{work.target} runs.",
            why="a copy of disks that are being written to would be damaged",
            remedy=f"`hv vm stop '{work.target}'` first.",
        )
    disks = _clone_disks(work)
    lines = [
        f"VM {given.name}: {row['vcpus']} processors, {size(row['memory'])}, with its own UUID, MACs, TPM and firmware variables"
    ]
    lines += [f"disk {disk['name']} ({size(disk['size'])}) is copied" for disk in disks]
    lines.append("inside, host keys and machine id stay the same unless cloud-init makes them anew")
    return lines


def _clone_disks(work: Work) -> list[dict[str, Any]]:
    rows = work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid, VOLUMES.c.kind == "disk"))
    return sorted(rows, key=lambda row: str(row["name"]))


def clone_uuid(work: Work) -> str:
    """The copy's; it follows from the operation, so that doing it again makes the same one."""
    return work.id


def kept_with_clone(work: Work) -> tuple[tuple[Any, ...], Use]:
    """Statements and room of the copy, which belongs to whoever makes it."""
    given: Clone = work.given
    row = _ours(work)
    uuid = clone_uuid(work)
    guest = {**row, "uuid": uuid, "name": given.name, "owner": work.caller.uid, "declared": False}
    statements: list[Any] = [sql.insert(VMS).values(**guest)]
    total = 0
    for number, disk in enumerate(_clone_disks(work)):
        total += disk["size"]
        copy = {**disk, "name": f"{uuid}-d{number}.qcow2", "vm": uuid, "owner": work.caller.uid}
        statements.append(sql.insert(VOLUMES).values(**copy))
    return tuple(statements), Use(1, row["vcpus"], row["memory"], total)


def run_clone(work: Work) -> dict[str, Any]:
    """Disks, then a definition with everything that must differ made anew."""
    libvirt = libvirt_module()
    given: Clone = work.given
    plan_clone(work)
    uuid = clone_uuid(work)
    root = definition(domain_of(work.connection, work.uuid))
    sources = _clone_disks(work)
    paths = {}
    for number, disk in enumerate(sources):
        work.say(f"copying disk {number + 1} of {len(sources)}", 5 + 85 * number / len(sources))
        source, path = volume_of(work.connection, disk["pool"], disk["name"])
        name = f"{uuid}-d{number}.qcow2"
        pool = work.connection.storagePoolLookupByName(disk["pool"])
        refresh(pool)
        try:
            made = pool.storageVolLookupByName(name)
            made.delete(0)  # half of it, from before a restart
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
        pool.createXMLFrom(volume_xml(name, disk["size"]), source, 0)
        paths[path] = volume_of(work.connection, disk["pool"], name)[1]
    work.say("defining it", 92)
    _renew(root, given.name, uuid, work, paths)
    domain = work.connection.defineXMLFlags(text_of(root), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    if given.start and not domain.isActive():
        domain.create()
    # What the copy's disks stood on was copied into them.
    work.store.write(sql.update(VOLUMES).where(VOLUMES.c.vm == uuid).values(image=None))
    return {"name": given.name, "uuid": uuid, "state": "running" if given.start else "stopped"}


def _renew(root: Any, name: str, uuid: str, work: Work, paths: dict[str, str]) -> None:
    """Name, UUID, owner, MACs, disks, log, NVRAM; what cloud-init read and devices of the host stay behind."""
    root.find("name").text = name
    root.find("uuid").text = uuid
    ours = root.find(f"metadata/{{{NS}}}vm")
    if ours is not None:
        ours.set("owner", work.caller.name)
    for tag in ("title", "genid"):
        for element in root.findall(tag):
            root.remove(element)
    system = root.find("os")
    for nvram in system.findall("nvram"):
        if nvram.get("template") is None:
            system.remove(nvram)
        else:
            nvram.text = None
    devices = root.find("devices")
    for number, mac in enumerate(root.iterfind("devices/interface/mac")):
        mac.set("address", mac_of(uuid, number))
    for hostdev in devices.findall("hostdev"):
        devices.remove(hostdev)
    for disk in devices.findall("disk"):
        source = disk.find("source")
        path = None if source is None else source.get("file")
        if path in paths:
            source.set("file", paths[path])
            for below in disk.findall("backingStore"):
                for inner in list(below):
                    below.remove(inner)
                below.attrib.clear()
        elif disk.get("device") == "disk":
            devices.remove(disk)
    for log in root.iterfind("devices/serial/log"):
        log.set("file", console_log(uuid))
    for log in root.iterfind("devices/console/log"):
        log.set("file", console_log(uuid))


def undo_clone(work: Work) -> None:
    """As if it had never been."""
    libvirt = libvirt_module()
    uuid = clone_uuid(work)
    with work.libvirt.connected() as connection:
        try:
            connection.lookupByUUIDString(uuid).undefineFlags(undefine_flags())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        for row in work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == uuid)):
            remove(connection, row["pool"], row["name"])
    work.store.write(
        sql.delete(VOLUMES).where(VOLUMES.c.vm == uuid), sql.delete(VMS).where(VMS.c.uuid == uuid)
    )


RESIZE = Action("resize", Permission.change, Resize, plan_resize, run_resize, 300)
ATTACH = Action("attach", Permission.change, Attach, plan_attach, run_attach, 300, undo_attach)
DETACH = Action("detach", Permission.change, Detach, plan_detach, run_detach, 60)
# A copy is everything that the original knows.
CLONE = Action("clone", Permission.create, Clone, plan_clone, run_clone, 3600, undo_clone, Permission.backup)
ACTIONS = (RESIZE, ATTACH, DETACH, CLONE)
