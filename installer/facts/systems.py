"""Operating systems found on the disks, as far as their signatures tell without mounting anything for writing."""

from installer.frozen import Frozen


class InstalledSystem(Frozen):
    """An operating system that is there already."""

    name: str
    """`NixOS`, `Windows`, `Debian GNU/Linux 12`, ..."""
    disk: str
    """Kernel name of its disk in this record."""
    partition: str | None
    """Kernel name of its partition in this record."""
    evidence: str
    """What told, e.g. `partition type Microsoft reserved`, `running system's /etc/os-release`."""
    running: bool = False
    """Whether it is the system that runs now."""
