"""What the lab plays through, as data."""

from dataclasses import dataclass
from typing import Literal

from tests.lab.machine import Disk, Hardware

PASSPHRASE = "correct horse battery"
PASSWORD = "lab-password"
PASSWORD_HASH = (
    "$6$labsalt0$"  # made by `openssl passwd -6 -salt labsalt0 lab-password`
    "praDOUx7h53MY.2QDGD/CCLIPvRTkbRuRuFqKiMjZU/ZKudDj/j1QWXND16b5TWrXeKpb.tmH7DSPyUsEWLU70"
)
ADMINISTRATOR = "alice"


@dataclass(frozen=True)
class Scenario:
    """One machine and what is asked for on it."""

    name: str
    """Also the name of its answer file in tests/lab/answers."""
    summary: str
    """One sentence for a person."""
    hostname: str
    """As in the answers."""
    hardware: Hardware
    """The machine."""
    encrypted: bool
    """Whether a passphrase is typed at boot."""
    hardened: bool
    """Whether it ends in phase hardened."""
    source: Literal["flake", "closure"]
    """`flake`: evaluated in the machine; `closure`: built beforehand, in a `file://` cache."""
    guest: str | None = None
    """A VM that must print its marker."""
    interrupted: bool = False
    """Kill the installer while it copies, then run it again."""


_MAIN = Hardware(
    firmware="uefi",
    disks=(Disk("HVMAIN01", bus="nvme"), Disk("HVDATA02", size="2G", bus="virtio")),
    tpm=True,
    second_gpu=True,
)
_PLAIN = Hardware(
    firmware="bios",
    disks=(Disk("HVMAIN01", bus="virtio"), Disk("HVDATA02", size="2G", bus="virtio")),
    mac="52:54:00:48:56:02",
    medium="stick",
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="uefi-luks-btrfs",
            summary="UEFI with TPM, IOMMU and a second GPU; encrypted btrfs on NVMe, ending hardened.",
            hostname="kvm1",
            hardware=_MAIN,
            encrypted=True,
            hardened=True,
            source="flake",
            guest="marker",
        ),
        Scenario(
            name="bios-ext4",
            summary="BIOS from a stick; ext4 on a virtio disk, from a system built beforehand; the installer is killed once.",
            hostname="kvm2",
            hardware=_PLAIN,
            encrypted=False,
            hardened=False,
            source="closure",
            guest="marker",
            interrupted=True,
        ),
    )
}
"""By name."""
