"""Snapshots: made, gone back to, deleted. They are inside the qcow2 disks, so no file of its own comes into being."""

from typing import Any

from lxml import etree

from hv.daemon.guests import definition, domain_of, state_of
from hv.daemon.limits import require_snapshot
from hv.daemon.operations import Action, Work
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission
from hv.libvirt_python import libvirt_module
from hv.vm.domain import parsed
from hv.vm.names import SimpleName
from hv.vm.spec import Snapshot, Typed

UEFI_SINCE = 10_010_000
"""libvirt that keeps the firmware's variables in such snapshots, 10.10 (https://libvirt.org/news.html)."""


class Named(Typed):
    """Which snapshot."""

    name: SimpleName


def listed(connection: Any, uuid: str) -> list[dict[str, Any]]:
    """A guest's snapshots, oldest first."""
    domain = domain_of(connection, uuid)
    found = []
    for each in domain.listAllSnapshots(0):
        root = parsed(each.getXMLDesc(0))
        memory = root.find("memory")
        found.append(
            {
                "name": each.getName(),
                "created": int(root.findtext("creationTime", "0")),
                "state": root.findtext("state", ""),
                "memory": memory is not None and memory.get("snapshot") not in (None, "no"),
                "parent": root.findtext("parent/name"),
                "current": bool(each.isCurrent(0)),
                "description": root.findtext("description", ""),
            }
        )
    return sorted(found, key=lambda row: (row["created"], row["name"]))


def _require_variables(work: Work, system: Any) -> None:
    """The firmware's variables can be in the snapshot, or there are none."""
    version = work.connection.getLibVersion()
    if version < UEFI_SINCE:
        raise RefusedError(
            "no-uefi-snapshots",
            Status.conflict,
            f"{work.target} has UEFI, of which this libvirt makes no snapshots.",
            why=f"libvirt {version // 1_000_000}.{version // 1000 % 1000} cannot keep the firmware's variables in one; 10.10 can",
            remedy=f"Stop it and make a copy (`hv vm clone '{work.target}' NAME`), or export it.",
        )
    nvram = system.find("nvram")
    if nvram is not None and nvram.get("format", "raw") != "qcow2":
        raise RefusedError(
            "no-uefi-snapshots",
            Status.conflict,
            f"The UEFI variables of {work.target} are in a file that cannot be in a snapshot.",
            why=f"it is {nvram.get('format', 'raw')}, not qcow2: the VM was made before the host had firmware for that, or elsewhere",
            remedy=f"Stop it and make a copy (`hv vm clone '{work.target}' NAME`): the copy gets such a file where the host can.",
        )


def _require_possible(work: Work, domain: Any) -> None:
    root = definition(domain)
    system = root.find("os")
    uefi = system is not None and (system.get("firmware") == "efi" or system.find("loader") is not None)
    if uefi:
        _require_variables(work, system)
    if root.find("devices/hostdev") is not None and domain.isActive():
        raise RefusedError(
            "has-devices",
            Status.conflict,
            f"{work.target} has devices of the host, whose state no snapshot can keep.",
            why="memory and a device's registers belong together",
            remedy="Stop it first; or unplug them (`hv vm detach`).",
        )


def plan_make(work: Work) -> list[str]:
    """What it keeps."""
    given: Snapshot = work.given
    domain = domain_of(work.connection, work.uuid)
    _require_possible(work, domain)
    names = [each.getName() for each in domain.listAllSnapshots(0)]
    if given.name in names:
        raise RefusedError(
            "exists",
            Status.conflict,
            f"{work.target} has a snapshot {given.name} already.",
            why="names are unique in a VM",
            remedy="Choose another name.",
        )
    require_snapshot(work.settings, work.caller, len(names))
    memory = " and its memory; it stands still meanwhile" if domain.isActive() else ""
    return [f"snapshot {given.name} keeps the disks of {work.target}{memory}"]


def run_make(work: Work) -> dict[str, Any]:
    """Make it, unless it is there from before a restart."""
    given: Snapshot = work.given
    domain = domain_of(work.connection, work.uuid)
    if given.name not in [each.getName() for each in domain.listAllSnapshots(0)]:
        plan_make(work)
        root = etree.Element("domainsnapshot")
        etree.SubElement(root, "name").text = given.name
        if given.description:
            etree.SubElement(root, "description").text = given.description
        work.say("making the snapshot", 10)
        domain.snapshotCreateXML(etree.tostring(root, encoding="unicode"), 0)
    return {"name": work.target, "snapshot": given.name, "state": state_of(domain)}


def _snapshot(work: Work) -> tuple[Any, Any]:
    libvirt = libvirt_module()
    domain = domain_of(work.connection, work.uuid)
    try:
        return domain, domain.snapshotLookupByName(work.given.name, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
            raise
        known = ", ".join(each.getName() for each in domain.listAllSnapshots(0)) or "none"
        raise RefusedError(
            "no-such-snapshot",
            Status.missing,
            f"{work.target} has no snapshot {work.given.name!r}.",
            why=f"it has: {known}",
            remedy=f"See `hv vm snapshot '{work.target}' list`.",
        ) from error


def plan_revert(work: Work) -> list[str]:
    """What is lost by it."""
    domain, snapshot = _snapshot(work)
    kept = parsed(snapshot.getXMLDesc(0)).findtext("state", "")
    lines = [f"{work.target} becomes as it was at {work.given.name}; what was written since is lost"]
    if domain.isActive():
        lines.append(f"it runs now, and is {'running' if kept == 'running' else 'stopped'} afterwards")
    return lines


def run_revert(work: Work) -> dict[str, Any]:
    """Go back."""
    libvirt = libvirt_module()
    domain, snapshot = _snapshot(work)
    work.say("going back", 10)
    domain.revertToSnapshot(snapshot, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE)
    return {"name": work.target, "snapshot": work.given.name, "state": state_of(domain)}


def plan_drop(work: Work) -> list[str]:
    """Which one goes."""
    _snapshot(work)
    return [f"snapshot {work.given.name} of {work.target} is deleted; the VM stays as it is now"]


def run_drop(work: Work) -> dict[str, Any]:
    """Delete it; it may be gone since a restart."""
    try:
        domain, snapshot = _snapshot(work)
    except RefusedError as error:
        if error.kind != "no-such-snapshot":
            raise
        return {"name": work.target, "snapshot": work.given.name, "state": ""}
    snapshot.delete(0)
    return {"name": work.target, "snapshot": work.given.name, "state": state_of(domain)}


ACTIONS = (
    Action("snapshot", Permission.snapshot, Snapshot, plan_make, run_make, 900),
    Action("snapshot-revert", Permission.snapshot, Named, plan_revert, run_revert, 900),
    Action("snapshot-delete", Permission.snapshot, Named, plan_drop, run_drop, 900),
)
