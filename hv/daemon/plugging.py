"""Plugging things into guests and out again: disks, network cards, devices of the host."""

from typing import Any

import sqlalchemy as sql

from hv.daemon.guests import definition, disks_in, domain_of
from hv.daemon.host_devices import give_back, return_taken, take, taken, verdict
from hv.daemon.limits import Use, size
from hv.daemon.making import disk_file, disk_row, require_networks
from hv.daemon.operations import Action, Work
from hv.daemon.owned import ours
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission, decide
from hv.daemon.store import VOLUMES
from hv.daemon.volumes import remove
from hv.libvirt_python import libvirt_module
from hv.vm.domain import (
    disk_element,
    free_target,
    mac_of,
    nic_element,
    parsed,
    pci_element,
    text_of,
    usb_element,
)
from hv.vm.spec import Attach, Detach


def _affects(domain: Any) -> int:
    """The definition, and the running guest too if it runs."""
    libvirt = libvirt_module()
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
    return int(libvirt.VIR_DOMAIN_AFFECT_CONFIG | live)


def plan_attach(work: Work) -> list[str]:
    """What would be plugged in; raises for what the caller may not have."""
    return _looked(work)[0]


def _looked(work: Work) -> tuple[list[str], list[str], str]:
    """That in words, the functions of a PCI device that go together, and which start of the host they were judged in (its
    boot_id): the verdict looks at all the hardware, and is asked for once.
    """
    given: Attach = work.given
    ours(work)
    if given.disk is not None:
        row = disk_row(work.store, given.disk, work.uuid, work.caller, "new")
        return [f"disk of {size(row['size'])} is plugged into {work.target}"], [], ""
    if given.nic is not None:
        require_networks(work.connection, (given.nic,))
        return [f"network card in {given.nic.network} is plugged into {work.target}"], [], ""
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
    if given.pci is None:
        return [f"device {given.usb} of the host is given to {work.target}"], [], ""
    going, boot = _going(work, given.pci)
    return [f"device {each} of the host is given to {work.target}" for each in going], going, boot


def _going(work: Work, address: str) -> tuple[list[str], str]:
    """The device with everything that has to go with it, and the boot_id; RefusedError if the host needs any of that."""
    judged = verdict(work, address)
    if not judged["allowed"]:
        raise RefusedError(
            "harms-host",
            Status.denied,
            f"{address} is not given to a VM.",
            why=judged["reason"],
            remedy="`hv passthrough list` shows each device's verdict, and those that the host can do without.",
            object=address,
        )
    going = sorted({address, *judged["companions"]})
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
    return going, str(judged["boot"])


def run_attach(work: Work) -> dict[str, Any]:
    """Plug it in, now and for later; a new disk is made first."""
    libvirt = libvirt_module()
    given: Attach = work.given
    _, going, boot = _looked(work)
    domain = domain_of(work.connection, work.uuid)
    root = definition(domain)
    if given.disk is not None:
        return _attach_disk(work, domain, root)
    if given.nic is not None:
        mac = given.nic.mac or mac_of(work.id, 0)
        elements, what = [nic_element(given.nic, mac)], {"mac": mac}
    elif given.pci is not None:
        elements, what = [pci_element(each) for each in going], {"pci": ", ".join(going)}
    else:
        elements, what = [usb_element(given.usb or "")], {"usb": given.usb or ""}
    new = [element for element in elements if not _has(root, element)]
    went: list[str] = []
    try:
        if given.pci is not None and domain.isActive() and len(new) > 1:
            went = take(work, [_address(element) for element in new], boot)
        for element in new:
            domain.attachDeviceFlags(text_of(element), _affects(domain))
    except libvirt.libvirtError as error:
        if given.pci is not None:
            _unplugged(domain, new)
            return_taken(work, went)
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


def _unplugged(domain: Any, elements: list[Any]) -> None:
    """Those of a group that went in before another was refused."""
    libvirt = libvirt_module()
    for element in elements:
        try:
            domain.detachDeviceFlags(text_of(element), _affects(domain))
        except libvirt.libvirtError:
            continue  # it never went in


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


def _found(work: Work) -> list[Any]:
    """The elements of what is to be unplugged; a PCI device with those that came along. Raises RefusedError."""
    given: Detach = work.given
    root = definition(domain_of(work.connection, work.uuid))
    for element in root.iterfind("devices/disk"):
        target = element.find("target")
        if given.disk is not None and target is not None and target.get("dev") == given.disk:
            return [element]
    for element in root.iterfind("devices/interface"):
        mac = element.find("mac")
        if given.mac is not None and mac is not None and mac.get("address") == given.mac:
            return [element]
    for wanted, make_element in ((given.pci, pci_element), (given.usb, usb_element)):
        if wanted is None:
            continue
        same = [each for each in root.iterfind("devices/hostdev") if _same(each, make_element(wanted))]
        if same and given.pci is not None:
            along = [pci_element(each) for each in _along(work, given.pci)]
            same += [
                each
                for each in root.iterfind("devices/hostdev")
                if any(_same(each, other) for other in along)
            ]
        if same:
            return same
    what = given.disk or given.mac or given.pci or given.usb
    raise RefusedError(
        "no-such-device",
        Status.missing,
        f"{work.target} has no {what}.",
        why="nothing like that is plugged into it",
        remedy=f"See `hv vm show '{work.target}'`.",
    )


def _along(work: Work, address: str) -> list[str]:
    """What went along with a device; nothing where that is no longer known."""
    try:
        return list(verdict(work, address)["companions"])
    except RefusedError:
        return []


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
    ours(work)
    given: Detach = work.given
    found = _found(work)
    if given.disk is not None:
        return [f"disk {given.disk} is unplugged from {work.target}, and kept"]
    names = [_address(each) for each in found] if given.pci else [given.mac or given.usb or ""]
    return [f"{name} is unplugged from {work.target}" for name in names]


def _address(element: Any) -> str:
    """A PCI device of the host, as people write it."""
    place = element.find("source/address")
    domain, bus, slot, function = (
        int(place.get(name, "0"), 16) for name in ("domain", "bus", "slot", "function")
    )
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def run_detach(work: Work) -> dict[str, Any]:
    """Unplug it; a running guest has to let go first."""
    libvirt = libvirt_module()
    given: Detach = work.given
    domain = domain_of(work.connection, work.uuid)
    found = _found(work)
    volume = None
    if given.disk is not None:
        source = found[0].find("source")
        name = ("" if source is None else source.get("file") or "").rpartition("/")[2]
        volume = work.store.row(sql.select(VOLUMES).where(VOLUMES.c.name == name, VOLUMES.c.vm == work.uuid))
    runs = bool(domain.isActive())
    for element in found:
        if runs and _is_live(domain, element):
            domain.detachDeviceFlags(text_of(element), libvirt.VIR_DOMAIN_AFFECT_LIVE)
            # The guest answers when it likes (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainDetachDeviceFlags).
            while _is_live(domain, element):
                work.say("the guest has to let go of it", 50)
                work.pause(0.2)
        domain.detachDeviceFlags(text_of(element), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    if given.pci is not None:
        addresses = [_address(element) for element in found]
        went = taken(work, addresses)
        return_taken(work, went)
        if runs:
            give_back(work, [each for each in addresses if each not in went])
    if volume is not None:
        where = (VOLUMES.c.pool == volume["pool"], VOLUMES.c.name == volume["name"])
        work.store.write(sql.update(VOLUMES).where(*where).values(vm=None))
    unplugged = [_address(element) for element in found] if given.pci else []
    return {
        "name": work.target,
        "kept": f"{volume['pool']}/{volume['name']}" if volume else None,
        "unplugged": unplugged,
    }


def _is_live(domain: Any, element: Any) -> bool:
    """Whether a running guest has what its definition has there."""
    root = parsed(domain.XMLDesc(0))
    if element.tag == "disk":
        target = element.find("target").get("dev")
        return any(each.get("dev") == target for each in root.iterfind("devices/disk/target"))
    if element.tag == "interface":
        address = element.find("mac").get("address")
        return any(each.get("address") == address for each in root.iterfind("devices/interface/mac"))
    return any(_same(each, element) for each in root.iterfind("devices/hostdev"))


ATTACH = Action("attach", Permission.change, Attach, plan_attach, run_attach, 300, undo_attach)
DETACH = Action("detach", Permission.change, Detach, plan_detach, run_detach, 120)
ACTIONS = (ATTACH, DETACH)
