"""Copies of guests."""

from typing import Any

import sqlalchemy as sql

from hv.daemon.guests import definition, domain_of
from hv.daemon.limits import Use, size
from hv.daemon.making import undefine_flags
from hv.daemon.operations import Action, Work
from hv.daemon.owned import ours
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission
from hv.daemon.store import VMS, VOLUMES
from hv.daemon.volumes import refresh, remove, volume_of
from hv.libvirt_python import libvirt_module
from hv.vm.domain import NS, console_log, mac_of, text_of, volume_xml
from hv.vm.spec import Clone


def plan_clone(work: Work) -> list[str]:
    """What the copy shares with the original, and what not."""
    given: Clone = work.given
    row = ours(work)
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
    row = ours(work)
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


def _renew_firmware(system: Any) -> None:
    """Variables of its own, from the template; libvirt chooses firmware and file anew where it chose them before."""
    for nvram in system.findall("nvram"):
        if nvram.get("template") is None or system.get("firmware") == "efi":
            system.remove(nvram)
        else:
            nvram.text = None
    loader = system.find("loader")
    if loader is not None and system.get("firmware") == "efi":
        loader.text = None
        for name in set(loader.attrib) - {"secure"}:
            del loader.attrib[name]
        if not loader.attrib:
            system.remove(loader)


def _renew(root: Any, name: str, uuid: str, work: Work, paths: dict[str, str]) -> None:
    """Name, UUID, owner, MACs, disks, log, NVRAM; what cloud-init or Ignition read and devices of the host stay behind."""
    root.find("name").text = name
    root.find("uuid").text = uuid
    ours = root.find(f"metadata/{{{NS}}}vm")
    if ours is not None:
        ours.set("owner", work.caller.name)
    for tag in ("title", "genid", "sysinfo[@type='fwcfg']"):
        for element in root.findall(tag):
            root.remove(element)
    system = root.find("os")
    _renew_firmware(system)
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


# A copy is everything that the original knows.
CLONE = Action("clone", Permission.create, Clone, plan_clone, run_clone, 3600, undo_clone, Permission.backup)
ACTIONS = (CLONE,)
