"""The hand-off: what the installer leaves for the first run of the host it installed."""

from typing import ClassVar, Literal

from installer.frozen import Frozen, Sparse

HANDOFF_PATH = "/var/lib/hyper-nixos/handoff.json"
"""On the installed host."""


class GrowRoot(Sparse):
    """The root may grow to the end of its disk (an image written to a larger disk, a grown virtual disk)."""

    sparse: ClassVar[frozenset[str]] = frozenset(("filesystem_uuid",))

    disk_by_id: str | None
    """Disk, by its name in /dev/disk/by-id."""
    disk_by_path: str | None = None
    """By its name in /dev/disk/by-path, if it has none of its own."""
    partition: int
    """Number of the last partition, which holds the root."""
    luks: str | None
    """Mapper name between partition and file system."""
    filesystem: Literal["ext4", "xfs", "btrfs"]
    """What to grow."""
    filesystem_uuid: str | None = None
    """UUID of that file system, by which the disk is found, where the host is a disk image and no name was known."""

    @property
    def link(self) -> str:
        """Which link below /dev/disk leads to the disk, or to the root's partition of it."""
        if self.filesystem_uuid:
            return f"by-uuid/{self.filesystem_uuid}"
        return f"by-id/{self.disk_by_id}" if self.disk_by_id else f"by-path/{self.disk_by_path}"


class Expectations(Frozen):
    """What was planned for, to be compared with what the booted host finds."""

    virtualization: str
    """State of KVM when planned (facts: `cpu.virtualization.state`)."""
    iommu: str
    """State of the IOMMU when planned."""
    passthrough: tuple[str, ...] = ()
    """PCI addresses that must be bound to vfio-pci."""


class HandoffFetch(Sparse):
    """An image that the host fetches itself."""

    sparse: ClassVar[frozenset[str]] = frozenset(("proxy", "no_proxy"))

    source: str
    """`template:NAME`, or a URL."""
    proxy: str | None = None
    """HTTP proxy."""
    no_proxy: tuple[str, ...] = ()
    """Names reached without it."""


class HandoffVm(Sparse):
    """A VM to define and start."""

    sparse: ClassVar[frozenset[str]] = frozenset(("fetch",))

    name: str
    """Domain name."""
    image: str
    """Path of the image on the host: copied by the installer, or fetched by the host."""
    image_format: Literal["qcow2", "raw"]
    """Its format."""
    image_sha256: str | None = None
    """Its content, if known."""
    memory: int
    """Bytes."""
    vcpus: int
    """Virtual processors."""
    disk_size: int | None = None
    """Bytes to grow the disk to."""
    network: str | None
    """libvirt network."""
    firmware: Literal["bios", "uefi"]
    """Firmware."""
    autostart: bool
    """Start with the host."""
    start: bool
    """Start now."""
    fetch: HandoffFetch | None = None
    """Where the host fetches the image from; none: the installer has copied it."""


class Enrolment(Sparse):
    """A token that shall open encrypted disks at boot beside the passphrase; enrolled by the host itself."""

    sparse: ClassVar[frozenset[str]] = frozenset(("pin_file",))

    token: Literal["tpm2", "fido2"]
    """Which."""
    devices: tuple[str, ...]
    """Paths of the LUKS devices."""
    key_file: str
    """Opens each of them from `slot`, until the token does."""
    slot: int
    """Key slot of that key file alone."""
    pin_file: str | None = None
    """Holds the TPM's PIN; none: without PIN."""


class HandoffWebhook(Sparse):
    """A server that is told how the first run went."""

    sparse: ClassVar[frozenset[str]] = frozenset(("secret_file", "certificate", "proxy", "no_proxy"))

    url: str
    """Where the event is posted to."""
    secret_file: str | None = None
    """File on the host with the key that signs it; none: not signed."""
    certificate: str | None = None
    """SHA-256 of the server's certificate; none: the host's own trust decides."""
    proxy: str | None = None
    """HTTP proxy."""
    no_proxy: tuple[str, ...] = ()
    """Names reached without it."""


class Handoff(Sparse):
    """The record."""

    sparse: ClassVar[frozenset[str]] = frozenset(("enrolment", "webhooks", "secure_boot"))

    version: Literal[1] = 1
    """Format."""
    hostname: str
    """The host."""
    grow: GrowRoot | None
    """What should grow."""
    expectations: Expectations
    """What to compare with."""
    pool: str
    """Folder of the storage pool `default`."""
    vms: tuple[HandoffVm, ...]
    """VMs."""
    phase: Literal["setup", "hardened"]
    """Phase to end in."""
    administrators: tuple[str, ...]
    """Accounts that must be able to log in before and after the phase is raised."""
    enrolment: Enrolment | None = None
    """What opens encrypted disks beside the passphrase."""
    webhooks: tuple[HandoffWebhook, ...] = ()
    """Who is told how the first run went."""
    secure_boot: bool = False
    """Whether the host makes keys for Secure Boot, and signs what it starts from."""
