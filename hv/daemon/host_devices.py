"""PCI devices of the host between its own drivers and guests that run."""

import time
from typing import Any

import sqlalchemy as sql

from hv.daemon.hostd import ask
from hv.daemon.operations import Work
from hv.daemon.problems import RefusedError
from hv.daemon.store import TAKEN
from hv.libvirt_python import libvirt_module
from hv.vm.domain import parsed

COMES_BACK = 3.0
"""Seconds that the host's drivers have to take a device; some have none."""
STUB = "vfio-pci"
"""The driver that holds devices for guests."""


def verdict(work: Work, address: str) -> dict[str, Any]:
    """hv-hostd's, on one device. Raises RefusedError."""
    return ask(work.hostd, {"verb": "device-verdict", "pci": address})


def take(work: Work, addresses: list[str], boot: str) -> list[str]:
    """Take all functions from the host's drivers, those that had one are returned: QEMU gets none of an IOMMU group while
    the host has another of it (Linux, driver-api/vfio).

    It is written down before: libvirt gives back what it took itself, and takes what it finds with vfio-pci for
    declared, for guests alone.

    Args:
        work: What attaches them.
        addresses: All that go together.
        boot: The kernel's boot_id: what an earlier start took is no longer taken.
    """
    taken = []
    for address in addresses:
        device = _node_device(work, address)
        if parsed(device.XMLDesc(0)).findtext("driver/name") != STUB:
            taken.append(address)
            work.store.write(
                sql.delete(TAKEN).where(TAKEN.c.address == address),
                sql.insert(TAKEN).values(address=address, vm=work.uuid, boot=boot),
            )
            device.detachFlags(None, 0)
    return taken


def taken(work: Work, addresses: list[str] | None = None) -> list[str]:
    """Which of these (none: of any) were taken for this guest since the host was started."""
    rows = work.store.rows(sql.select(TAKEN).where(TAKEN.c.vm == work.uuid))
    asked = [row for row in rows if addresses is None or row["address"] in addresses]
    found = []
    for row in asked:
        try:
            boot = verdict(work, row["address"])["boot"]
        except RefusedError:
            continue  # it is no longer there
        if boot == row["boot"]:
            found.append(str(row["address"]))
    return found


def give_back(work: Work, addresses: list[str]) -> None:
    """Let the host's drivers have functions that a guest no longer has. What vfio-pci has stays with it: it may have been
    declared for guests.
    """
    _reattached(work, addresses, from_stub=False)


def return_taken(work: Work, addresses: list[str]) -> None:
    """Let the host's drivers have functions that were taken from them for this guest, also from vfio-pci. What does not come
    back stays written down: the next detach or delete tries again.
    """
    waiting = _reattached(work, addresses, from_stub=True)
    back = [each for each in addresses if each not in waiting]
    work.store.write(sql.delete(TAKEN).where(TAKEN.c.vm == work.uuid, TAKEN.c.address.in_(back)))


def _reattached(work: Work, addresses: list[str], *, from_stub: bool) -> list[str]:
    """Those that the host's drivers have not taken in time. Functions of one IOMMU group leave a running guest one after the
    other, and while one is still there the kernel lets no driver of the host have the others.
    """
    libvirt = libvirt_module()
    end = time.monotonic() + COMES_BACK
    waiting = list(addresses)
    while waiting and time.monotonic() < end:
        for address in tuple(waiting):
            try:
                device = _node_device(work, address)
                driver = parsed(device.XMLDesc(0)).findtext("driver/name")
                if driver is not None and not (from_stub and driver == STUB):
                    waiting.remove(address)
                else:
                    device.reAttach()
            except libvirt.libvirtError:
                waiting.remove(address)  # another guest took it meanwhile, or it is gone
        if waiting:
            work.pause(0.2)
    return waiting


def _node_device(work: Work, address: str) -> Any:
    """What libvirt knows of a PCI device of the host."""
    return work.connection.nodeDeviceLookupByName("pci_" + address.replace(":", "_").replace(".", "_"))
