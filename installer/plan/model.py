"""A plan as values: identified disks, what is destroyed, the steps, and what the host's configuration must say."""

from typing import Literal

from pydantic import Field

from installer.frozen import Frozen
from installer.handoff import Handoff
from installer.plan.actions import Action
from installer.plan.checks import Check

TARGET = "/mnt"
"""Where the target is mounted while it is installed."""


class DiskIdentity(Frozen):
    """A disk, named so that no reordering of kernel names can change which one is meant."""

    key: str
    """What the plan calls it: `main`."""
    wwn: str | None
    """World-wide name."""
    serial: str | None
    """Serial number."""
    by_id: str
    """The name in /dev/disk/by-id that all device paths of this plan use, without the folder."""
    model: str | None
    """Model, for people."""
    size: int
    """Bytes."""
    logical_sector: int
    """Bytes."""

    @property
    def device(self) -> str:
        """Path of the whole disk."""
        return f"/dev/disk/by-id/{self.by_id}"

    def partition(self, number: int) -> str:
        """Path of a partition (udev's `-partN` links)."""
        return f"{self.device}-part{number}"


class Destruction(Frozen):
    """What is lost on one disk."""

    disk: str
    """Key of the disk."""
    losses: tuple[str, ...]
    """One sentence each: partitions, file systems, stacks; `nothing: the disk is blank`."""


class Step(Frozen):
    """One step of the plan."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Stable name; the journal goes by it."""
    summary: str
    """One sentence for a person, in the imperative, naming the disk by identity where it writes to one."""
    requires: tuple[str, ...] = ()
    """Ids of the steps that must be verified before this one."""
    writes: tuple[str, ...] = ()
    """Keys of the disks it writes to destructively; their identity is read again right before it."""
    actions: tuple[Action, ...]
    """What is done, in order."""
    checks: tuple[Check, ...]
    """How it is verified."""
    undo: tuple[Action, ...] = ()
    """What takes it back before a retry (unmount, close); nothing brings overwritten data back but the saved headers."""
    transient: bool = False
    """Its effect does not survive a reboot of the live system (mounts, opened LUKS): a resumed run checks it again."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the progress bar, relative to the others."""


class HostFilesystem(Frozen):
    """One entry of the host's `fileSystems`."""

    mountpoint: str
    """Where."""
    device: str
    """`/dev/disk/by-uuid/…` or `/dev/mapper/…`."""
    kind: str
    """`fsType`."""
    options: tuple[str, ...]
    """All options."""
    needed_for_boot: bool = False
    """Whether stage 1 mounts it."""


class HostLuks(Frozen):
    """One entry of the host's `boot.initrd.luks.devices`."""

    name: str
    """Mapper name."""
    device: str
    """`/dev/disk/by-uuid/…` of the LUKS header."""
    allow_discards: bool
    """TRIM passes through."""


class HostStorage(Frozen):
    """What the host's configuration must say about storage and booting, for rendering."""

    filesystems: tuple[HostFilesystem, ...]
    """In mount order."""
    luks: tuple[HostLuks, ...] = ()
    """Devices opened in stage 1."""
    swap_devices: tuple[str, ...] = ()
    """Paths for `swapDevices`."""
    zram_percent: int | None = None
    """Size of zram in percent of memory; none: no zram."""
    firmware: Literal["uefi", "bios"]
    """What it boots with."""
    loader: Literal["systemd-boot", "grub"]
    """Which loader."""
    esp_mountpoint: str | None = None
    """Where the ESP is, `/boot`."""
    grub_device: str | None = None
    """Whole disk for GRUB's BIOS code, by id."""
    generations: int
    """Entries in the boot menu."""
    initrd_modules: tuple[str, ...]
    """`boot.initrd.availableKernelModules`: what reaches the root, from facts."""
    supported_filesystems: tuple[str, ...]
    """`boot.supportedFilesystems`/initrd: kinds in use."""


class Plan(Frozen):
    """Everything that will be done. Same facts, answers and medium: same plan, byte for byte."""

    version: Literal[1] = 1
    """Format of the plan."""
    hostname: str
    """The host to be."""
    host_id: str = Field(pattern=r"^[0-9a-f]{8}$")
    """`networking.hostId`, derived from identity."""
    inputs_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 over answers and medium, so that the token covers what is rendered from them."""
    disks: tuple[DiskIdentity, ...]
    """Disks it touches."""
    destroyed: tuple[Destruction, ...]
    """What is lost."""
    warnings: tuple[str, ...] = ()
    """What a person should know before confirming."""
    host: HostStorage
    """What rendering says about storage."""
    handoff: Handoff
    """What the first run takes up."""
    steps: tuple[Step, ...]
    """In an order that fits `requires`."""
