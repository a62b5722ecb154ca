"""Mediated devices (Documentation/driver-api/vfio-mediated-device.rst)."""

from collections.abc import Callable
from pathlib import Path

from hv.devices.declared import MediatedDevice
from hv.devices.sysfs import Sysfs, read
from installer.errors import Exit, HyperError


def create(device: MediatedDevice, sysfs: Sysfs, say: Callable[[str], None]) -> None:
    """Have the device. Raises HyperError, with what its parent has to offer when that is something else."""
    if not (sysfs.root / "bus/mdev/devices" / str(device.uuid)).exists():
        parent = sysfs.root / "class/mdev_bus" / device.parent
        kind = parent / "mdev_supported_types" / device.type
        if not sysfs.wait_for(parent):
            raise HyperError(
                f"{device.parent} shares nothing.",
                why="there is no such device, or its driver on the host hands out no mediated devices",
                remedy="See `lspci -D -k` for its driver; vendors' drivers for vGPU have to be installed and loaded.",
                code=Exit.unsuitable,
            )
        if not kind.is_dir():
            raise HyperError(
                f"{device.parent} has no type {device.type}.",
                why=f"it has {_offer(parent)}",
                remedy="Declare one of these.",
                code=Exit.selection,
            )
        if read(kind / "available_instances") == "0":
            raise HyperError(
                f"{device.parent} has no {device.type} left.",
                why=f"it has {_offer(parent)}",
                remedy="Declare fewer, or smaller ones: one type at a time often excludes the others.",
                code=Exit.unsuitable,
            )
        sysfs.write(kind / "create", str(device.uuid))
        say(f"{device.uuid}: made, {device.type} of {device.parent}")
    check(device, sysfs)


def check(device: MediatedDevice, sysfs: Sysfs) -> None:
    """Whether the device is there and is what was declared. Raises HyperError."""
    folder = sysfs.root / "bus/mdev/devices" / str(device.uuid)
    found = (
        f"{(folder / 'mdev_type').resolve().name} of {folder.resolve().parent.name}"
        if folder.exists()
        else "none"
    )
    if found != f"{device.type} of {device.parent}":
        raise HyperError(
            f"The mediated device {device.uuid} is not as declared.",
            why=f"there is {found}, declared is {device.type} of {device.parent}",
            remedy=f"If no guest uses it: `echo 1 > {folder}/remove`, then `systemctl restart hyper-nixos-devices`."
            if folder.exists()
            else "See `journalctl -u hyper-nixos-devices`.",
            code=Exit.step,
        )


def _offer(parent: Path) -> str:
    kinds = []
    for kind in sorted((parent / "mdev_supported_types").glob("*")):
        name = read(kind / "name")
        left = read(kind / "available_instances") or "?"
        kinds.append(f"{kind.name} ({f'{name}, ' if name else ''}{left} left)")
    return ", ".join(kinds) or "no types"
