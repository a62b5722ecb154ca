"""What a host declares: `hypervisor.passthrough`, as nix/modules/passthrough writes it."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from hv import evaluated
from installer.errors import HyperError

DEVICES_FILE = "/etc/hyper-nixos/devices.json"

Address = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")]
Mac = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VirtualFunction(_Model):
    """How the card treats one of its virtual functions; None: as the driver does by itself (ip-link(8), vf)."""

    number: int = Field(ge=0)
    """Which, from 0."""
    mac: Mac | None = None
    """Its address; without one it gets another at each boot."""
    vlan: int | None = Field(default=None, ge=0, le=4094)
    """The VLAN that the card puts it in; the guest sees no tag."""
    trust: bool | None = None
    """Whether it may listen to everything and change its address."""
    spoof_check: bool | None = None
    """Whether frames from other addresses than its own are dropped."""


class PhysicalFunction(_Model):
    """A card that is split."""

    address: Address
    """Of the card."""
    count: int = Field(ge=1)
    """How many virtual functions."""
    vfio: bool
    """Whether they are kept for guests, or left to the host's drivers."""
    functions: tuple[VirtualFunction, ...] = ()
    """Those that are treated in a certain way."""


class MediatedDevice(_Model):
    """A share of a device that its driver on the host hands out."""

    uuid: UUID
    """By which guests name it."""
    parent: Address
    """The device that is shared."""
    type: TypeName
    """Which kind of share, as the driver names it."""


class Declared(_Model):
    """The file."""

    physical: tuple[PhysicalFunction, ...] = ()
    mediated: tuple[MediatedDevice, ...] = ()


def read_declared(path: Path) -> Declared:
    """The file's content. Raises HyperError."""
    absent = HyperError(
        "This host declares no parts of devices.",
        why=f"{path} does not exist",
        remedy="Declare them in `hypervisor.passthrough.virtualFunctions` or `.mediatedDevices` and rebuild.",
    )
    return evaluated.read(Declared, path, absent, "hypervisor.passthrough")
