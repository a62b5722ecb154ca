"""Which processes have a device open through VFIO (Documentation/driver-api/vfio.rst): taking it from them would hang."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class User:
    """A process that has the device."""

    pid: int
    """Its number."""
    name: str
    """The guest's name for QEMU (`-name guest=…`), else the program's."""


def users_of(address: str, sysfs: Path, proc: Path) -> tuple[User, ...]:
    """Processes that have the device's group, or the device itself, open; ascending by number.

    Only root sees other users' open files (proc(5), /proc/PID/fd).
    """
    device = sysfs / "bus/pci/devices" / address
    nodes = {f"/dev/vfio/devices/{path.name}" for path in (device / "vfio-dev").glob("vfio*")}
    group = device / "iommu_group"
    if group.exists():
        nodes.add(f"/dev/vfio/{group.resolve().name}")
    found = []
    for folder in proc.glob("[0-9]*"):
        try:
            opened = {str(link.readlink()) for link in (folder / "fd").iterdir()}
            if opened & nodes:
                found.append(User(int(folder.name), _name(folder)))
        except OSError:
            continue  # it ended, which is as good as not having it
    return tuple(sorted(found, key=lambda user: user.pid))


def _name(folder: Path) -> str:
    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    for option, value in pairwise(words):
        if option == "-name":
            parts = dict(part.partition("=")[::2] for part in value.split(","))
            return parts.get("guest") or value.split(",")[0]
    return (folder / "comm").read_text().strip()
