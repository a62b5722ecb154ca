"""Guests as libvirt has them: found, looked at without asking QEMU, and told."""

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sql

from hv.daemon.problems import RefusedError, Status
from hv.daemon.store import VMS, VOLUMES, Store
from hv.libvirt_python import libvirt_module
from hv.vm.amounts import amounts_in
from hv.vm.domain import Element, Placed, parsed, place_in
from hv.vm.names import guest_name

STATES = {
    0: "unknown",
    1: "running",
    2: "blocked",
    3: "paused",
    4: "stopping",
    5: "stopped",
    6: "crashed",
    7: "suspended",
}
"""virDomainState in our words."""


@dataclass(frozen=True)
class Ref:
    """Which guest."""

    name: str
    uuid: str
    owner: int | None
    """User id; None: the broker did not make it."""


def missing(name: str) -> RefusedError:
    """That there is none of that name."""
    return RefusedError(
        "no-such-vm",
        Status.missing,
        f"There is no VM {name!r}.",
        why="libvirt knows none with that name or UUID",
        remedy="See `hv vm list` for the names.",
    )


def find(connection: Any, store: Store, name: str) -> Ref:
    """A guest by name, or by its whole UUID. Raises Refused."""
    libvirt = libvirt_module()
    domain = None
    try:
        domain = connection.lookupByName(guest_name(name))
    except ValueError:
        # A guest that somebody made by hand may have a name that we would not give.
        if "\0" in name or len(name.encode(errors="replace")) > 255:
            raise missing(name) from None
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
    if domain is None:
        for look in (connection.lookupByName, connection.lookupByUUIDString):
            try:
                domain = look(name)
                break
            except libvirt.libvirtError as error:
                if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_INVALID_ARG):
                    raise
    if domain is None:
        raise missing(name)
    uuid = domain.UUIDString()
    row = store.row(sql.select(VMS.c.owner).where(VMS.c.uuid == uuid))
    return Ref(domain.name(), uuid, row["owner"] if row else None)


def domain_of(connection: Any, uuid: str) -> Any:
    """libvirt's handle. Raises Refused."""
    libvirt = libvirt_module()
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise missing(uuid) from error
        raise


def state_of(domain: Any) -> str:
    """In our words; does not ask QEMU."""
    return STATES.get(domain.state()[0], "unknown")


def is_starting(domain: Any) -> bool:
    """Whether libvirt is in the middle of starting it, for somebody who asked before."""
    libvirt = libvirt_module()
    state, reason = domain.state()
    return bool(state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)


def listing(connection: Any, store: Store) -> list[dict[str, Any]]:
    """Every guest, by name; one call, which waits for no QEMU."""
    libvirt = libvirt_module()
    ours = {row["uuid"]: row for row in store.rows(sql.select(VMS))}
    stats = libvirt.VIR_DOMAIN_STATS_STATE
    flags = (
        libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        if not connection.getURI().startswith("test:")
        else 0
    )
    rows = []
    for domain, values in connection.getAllDomainStats(stats, flags):
        uuid = domain.UUIDString()
        row = ours.get(uuid)
        rows.append(
            {
                "name": domain.name(),
                "uuid": uuid,
                "state": STATES.get(values.get("state.state", 0), "unknown"),
                "owner": row["owner"] if row else None,
                "vcpus": row["vcpus"] if row else None,
                "memory": row["memory"] if row else None,
                "tags": row["tags"] if row else [],
                "os": row["os"] if row else None,
                "declared": bool(row and row["declared"]),
            }
        )
    return sorted(rows, key=lambda row: row["name"])


def definition(domain: Any) -> Element:
    """What it is when it starts next, as libvirt keeps it."""
    return parsed(domain.XMLDesc(libvirt_module().VIR_DOMAIN_XML_INACTIVE))


def disks_in(root: Element) -> list[dict[str, Any]]:
    """Disks of a definition: target, path, bus, device."""
    found = []
    for disk in root.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        found.append(
            {
                "target": None if target is None else target.get("dev"),
                "path": None if source is None else source.get("file") or source.get("dev"),
                "bus": None if target is None else target.get("bus"),
                "device": disk.get("device", "disk"),
            }
        )
    return found


def details(connection: Any, store: Store, ref: Ref) -> dict[str, Any]:
    """Everything about a guest that does not need its QEMU."""
    libvirt = libvirt_module()
    domain = domain_of(connection, ref.uuid)
    root = definition(domain)
    row = store.row(sql.select(VMS).where(VMS.c.uuid == ref.uuid))
    volumes = {
        each["name"]: each for each in store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == ref.uuid))
    }
    disks = []
    for disk in disks_in(root):
        volume = volumes.get((disk["path"] or "").rpartition("/")[2])
        about = {key: volume[key] for key in ("pool", "name", "kind", "size", "image")} if volume else {}
        disks.append({**disk, "volume": about or None})
    nics = []
    for nic in root.iterfind("devices/interface"):
        mac, source, model = nic.find("mac"), nic.find("source"), nic.find("model")
        nics.append(
            {
                "mac": None if mac is None else mac.get("address"),
                "network": None if source is None else source.get("network") or source.get("bridge"),
                "model": None if model is None else model.get("type"),
            }
        )
    system = root.find("os")
    uefi = system is not None and (system.get("firmware") == "efi" or system.find("loader") is not None)
    amounts = amounts_in(root)
    place = place_in(root)
    placement = (
        {"node": place.node, "cpus": list(place.cpus), "page": place.page} if place != Placed() else None
    )
    return {
        "name": domain.name(),
        "uuid": ref.uuid,
        "state": state_of(domain),
        "owner": ref.owner,
        "managed": row is not None,
        "declared": bool(row and row["declared"]),
        "os": row["os"] if row else None,
        "tags": row["tags"] if row else [],
        "description": root.findtext("description", ""),
        "vcpus": amounts.vcpus,
        "memory": amounts.memory,
        "max_vcpus": amounts.max_vcpus,
        "max_memory": amounts.max_memory,
        "placement": placement,
        "screens": [each.get("type") for each in root.iterfind("devices/graphics")],
        "firmware": "uefi" if uefi else "bios",
        "tpm": root.find("devices/tpm") is not None,
        "ignition": root.find("sysinfo[@type='fwcfg']") is not None,
        "accelerated": root.get("type") == "kvm",
        "autostart": bool(domain.autostart()),
        "persistent": bool(domain.isPersistent()),
        "disks": disks,
        "nics": nics,
        "devices": [_hostdev(each) for each in root.iterfind("devices/hostdev")],
        "snapshots": domain.snapshotNum(0) if not connection.getURI().startswith("test:") else 0,
        "saved": bool(domain.hasManagedSaveImage(0)),
        "created": row["created"] if row else None,
        "changes_pending": _pending(domain, libvirt) if domain.isActive() else False,
    }


def _pending(domain: Any, libvirt: Any) -> bool:
    """Whether it starts next with other processors or memory than it runs with now."""
    now, then = (amounts_in(parsed(domain.XMLDesc(flags))) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE))
    return replace(now, taken=None) != replace(then, taken=None)


def _hostdev(element: Element) -> dict[str, Any]:
    place = element.find("source/address")
    if element.get("type") == "pci" and place is not None:
        parts = [int(place.get(name, "0"), 16) for name in ("domain", "bus", "slot", "function")]
        return {"pci": "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)}
    vendor, product = element.find("source/vendor"), element.find("source/product")
    if vendor is not None and product is not None:
        return {"usb": f"{vendor.get('id', '')[2:]}:{product.get('id', '')[2:]}"}
    return {"other": element.get("type")}
