"""What people ask for. These models are the whole of what reaches the broker: there is no field for a definition, a
path, a device file, an emulator or an argument of one."""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from hv.vm.amounts import STEP
from hv.vm.names import GuestName, SimpleName

MIB = 1024**2
GIB = 1024**3
Memory = Annotated[int, Field(ge=16 * MIB, le=16 * 1024 * GIB)]
"""Bytes."""
DiskSize = Annotated[int, Field(ge=MIB, le=64 * 1024 * GIB)]
"""Bytes."""
Mac = Annotated[str, StringConstraints(pattern=r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$")]
PciAddress = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$")]
UsbId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1024)]


class Typed(BaseModel):
    """Frozen, and nothing but its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Disk(Typed):
    """A disk: a new one of a size, on an image if one is named, or a volume that is one's own already."""

    pool: SimpleName = "default"
    size: DiskSize | None = None
    """Bytes; of a disk on an image at least the image's."""
    image: SimpleName | None = None
    volume: SimpleName | None = None
    bus: Literal["virtio", "sata", "scsi"] = "virtio"

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.volume is not None and (self.size is not None or self.image is not None):
            raise ValueError("a disk that is there already (volume) has neither size nor image")
        if self.volume is None and self.size is None and self.image is None:
            raise ValueError("a disk needs a size, an image or a volume")
        return self


class Nic(Typed):
    """A network card."""

    network: SimpleName = "default"
    mac: Mac | None = None
    model: Literal["virtio", "e1000e"] = "virtio"


class CloudInit(Typed):
    """What the guest is told at its first boot (https://docs.cloud-init.io, NoCloud)."""

    user: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = None
    """Account to make; None: the image's own."""
    keys: Annotated[tuple[Line, ...], Field(max_length=50, strict=False)] = ()
    """SSH public keys that log in."""
    packages: Annotated[tuple[SimpleName, ...], Field(max_length=200, strict=False)] = ()
    hostname: (
        Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$")] | None
    ) = None


class Ignition(Typed):
    """What Fedora CoreOS and Flatcar read at their first boot (https://coreos.github.io/ignition)."""

    config: Annotated[str, StringConstraints(min_length=2, max_length=512 * 1024)]
    """The whole of it, JSON."""

    @field_validator("config")
    @classmethod
    def _is_a_config(cls, text: str) -> str:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON, which Ignition reads: {error}") from None
        version = found.get("ignition", {}) if isinstance(found, dict) else None
        version = version.get("version") if isinstance(version, dict) else None
        if not isinstance(version, str) or not re.fullmatch(r"[23]\.\d+\.\d+(-experimental)?", version):
            raise ValueError("it says no ignition.version of 2 or 3, by which Ignition knows how to read it")
        return text


Locale = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?-[A-Z]{2}$")]


class Unattended(Typed):
    """What Windows' installer is answered. No password: the account has none until its owner sets one."""

    user: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,19}$")] = "owner"
    """A local account, an administrator of the guest."""
    hostname: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?$")] | None
    ) = None
    """At most 15 characters (NetBIOS)."""
    language: Locale = "en-US"
    """One that the medium has."""
    keyboard: Locale | None = None
    """Layout of the keyboard; None: the language's."""
    edition: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 ._()+-]{1,64}$")] | None = None
    """As the medium names it, e.g. `Windows 11 Pro`; None: the installer asks, or takes the only one."""
    time_zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 .+-]{1,64}$")] = "UTC"
    """As Windows names it, e.g. `W. Europe Standard Time`."""


class Placement(Typed):
    """Where its processors and memory are."""

    node: Annotated[int, Field(ge=0, lt=1024)] | None = None
    cpus: Annotated[tuple[Annotated[int, Field(ge=0, lt=8192)], ...], Field(strict=False)] = ()
    """Processors of the host, one for each of the guest's."""
    pin: bool = False
    """To processors that the host chooses."""
    hugepages: bool = False

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if self.pin and self.cpus:
            raise ValueError("either pin (the host chooses) or cpus")
        return self


class VmSpec(Typed):
    """A guest to make."""

    name: GuestName
    vcpus: Annotated[int, Field(ge=1, le=512)] = 1
    memory: Memory = GIB
    max_vcpus: Annotated[int, Field(ge=1, le=512)] | None = None
    """Processors that it may get while it runs; None: those that it has."""
    max_memory: Memory | None = None
    """Bytes that it may get while it runs; None: those that it has."""
    firmware: Literal["bios", "uefi"] = "uefi"
    secure_boot: bool = False
    tpm: bool = False
    os: SimpleName = "generic"
    disks: Annotated[tuple[Disk, ...], Field(max_length=16, strict=False)] = ()
    nics: Annotated[tuple[Nic, ...], Field(max_length=8, strict=False)] = ()
    iso: SimpleName | None = None
    """An image of kind iso, to boot from once."""
    cloud_init: CloudInit | None = None
    ignition: Ignition | None = None
    """Handed over by the firmware's configuration device (QEMU's fw_cfg), not by a disk."""
    unattended: Unattended | None = None
    """Windows installs itself from `iso` to the first disk, which it takes whole."""
    screen: Literal["vnc", "spice"] = "vnc"
    placement: Placement | None = None
    autostart: bool = False
    start: bool = False
    declared: bool = False
    """Made by `hv vm apply`, which changes no others."""
    tags: Annotated[tuple[SimpleName, ...], Field(max_length=32, strict=False)] = ()
    description: Line = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.secure_boot and self.firmware != "uefi":
            raise ValueError("secure_boot needs firmware = uefi")
        if self.max_vcpus is not None and self.max_vcpus < self.vcpus:
            raise ValueError(f"max_vcpus is less than vcpus ({self.vcpus})")
        if self.ignition is not None and (self.cloud_init or self.unattended):
            raise ValueError("ignition goes without cloud_init and unattended: a system reads one of them")
        if self.unattended is not None:
            _require_empty(self)
        if self.max_memory is not None:
            _require_step(self.memory, self.max_memory)
        wanted = self.max_vcpus or self.vcpus
        if self.placement and self.placement.cpus and len(self.placement.cpus) != wanted:
            raise ValueError("placement.cpus names one processor of the host for each of the guest's")
        return self


def _require_empty(spec: VmSpec) -> None:
    """ValueError unless Windows can have the first disk: nobody's data is on any."""
    if spec.iso is None or spec.firmware != "uefi" or spec.cloud_init is not None:
        raise ValueError("unattended goes with a medium (iso) and firmware = uefi, and without cloud_init")
    if not spec.disks or any(disk.image or disk.volume for disk in spec.disks):
        raise ValueError("unattended takes the first disk whole: all disks have to be new ones")


def _require_step(memory: int, most: int) -> None:
    """ValueError unless memory can be plugged in up to `most`."""
    if most < memory:
        raise ValueError(f"max_memory is less than memory ({memory})")
    if (most - memory) % STEP:
        raise ValueError(f"max_memory is more than memory by a multiple of {STEP // MIB} MiB, or the same")


class NewImage(Typed):
    """An image that is brought to the broker, and its bytes as whoever brings it knows them."""

    name: SimpleName
    kind: Literal["image", "iso"] = "image"
    """A whole qcow2 file, or a medium."""
    length: Annotated[int, Field(ge=1, le=64 * 1024 * GIB)]
    """Bytes of the file."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Of the file. What comes to be in the pool is compared with it."""
    os: SimpleName = "generic"
    """libosinfo's id."""
    pool: SimpleName = "default"
    source: Line = ""
    """Where it came from, for people."""
    public: bool = False
    """For everybody; administrators may."""

    @property
    def wait(self) -> float:
        """Seconds that it may take more than what has no length: at 8 MiB in one."""
        return self.length / (8 * MIB)


class Stop(Typed):
    """How to stop."""

    force: bool = False
    """Without asking the guest."""
    wait: Annotated[int, Field(ge=0, le=3600)] = 60
    """Seconds for the guest to follow."""


class Rename(Typed):
    """A new name."""

    name: GuestName


class Flag(Typed):
    """On or off."""

    on: bool


class Tags(Typed):
    """Tags to give and to take."""

    add: Annotated[tuple[SimpleName, ...], Field(max_length=32, strict=False)] = ()
    remove: Annotated[tuple[SimpleName, ...], Field(max_length=32, strict=False)] = ()


class Resize(Typed):
    """New sizes; what is not named stays."""

    vcpus: Annotated[int, Field(ge=1, le=512)] | None = None
    memory: Memory | None = None
    max_vcpus: Annotated[int, Field(ge=1, le=512)] | None = None
    """What it may get while it runs, from its next start on."""
    max_memory: Memory | None = None
    disk: Annotated[str, StringConstraints(pattern=r"^[a-z]{3,4}$")] = "vda"
    size: DiskSize | None = None
    """Of the disk, which only grows."""


class Snapshot(Typed):
    """A snapshot to make."""

    name: SimpleName
    memory: bool = True
    """With what is in memory, if the guest runs."""
    description: Line = ""


class Clone(Typed):
    """A copy to make."""

    name: GuestName
    start: bool = False


class Attach(Typed):
    """One thing to plug in."""

    disk: Disk | None = None
    nic: Nic | None = None
    pci: PciAddress | None = None
    usb: UsbId | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(value is not None for value in (self.disk, self.nic, self.pci, self.usb)) != 1:
            raise ValueError("name exactly one of disk, nic, pci and usb")
        return self


class Detach(Typed):
    """One thing to unplug."""

    disk: Annotated[str, StringConstraints(pattern=r"^[a-z]{3,4}$")] | None = None
    mac: Mac | None = None
    pci: PciAddress | None = None
    usb: UsbId | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(value is not None for value in (self.disk, self.mac, self.pci, self.usb)) != 1:
            raise ValueError("name exactly one of disk, mac, pci and usb")
        return self


class Delete(Typed):
    """What goes along."""

    disks: bool = False
    force: bool = False
    """Also if it runs."""


class Edit(Typed):
    """Plain properties."""

    description: Line | None = None
    os: SimpleName | None = None
    placement: Placement | None = None
    """Where it runs from its next start on."""
    unplaced: bool = False
    """Anywhere again."""

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if self.unplaced and self.placement is not None:
            raise ValueError("either placement or unplaced")
        return self


def told(error: Any) -> str:
    """pydantic's complaints, one a line: field, what is wrong, value."""
    lines = []
    for each in error.errors():
        place = ".".join(map(str, each["loc"])) or "the request"
        given = repr(each.get("input"))
        message = each["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(each.get("input"), dict) else f" (it is {given[:80]})"
        lines.append(f"{place}: {message}{shown}")
    return "\n".join(lines)
