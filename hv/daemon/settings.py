"""What the host decides for the broker: /etc/hyper-nixos/hvd.json, written by nix/modules/privileges/broker.nix."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from installer.errors import HyperError

FILE = "/etc/hyper-nixos/hvd.json"
GIB = 1024**3


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Frozen):
    """The most that somebody may have. None: no limit."""

    vms: int | None = Field(default=None, ge=0)
    vcpus: int | None = Field(default=None, ge=0)
    """Of all guests together, running or not."""
    memory: int | None = Field(default=None, ge=0)
    """Bytes, of all guests together, running or not."""
    disk: int | None = Field(default=None, ge=0)
    """Bytes that guests see, images counted too."""
    snapshots: int | None = Field(default=None, ge=0)
    """Of one guest."""


PERSON = Limits(vms=20, vcpus=32, memory=64 * GIB, disk=1024 * GIB, snapshots=20)
"""What one person may have where the host says nothing."""


class Settings(_Frozen):
    """The file."""

    accelerator: Literal["auto", "kvm", "emulated"] = "auto"
    cpu_model: str = "host-model"
    """With KVM: the processor of guests."""
    user: Limits = PERSON
    """Each person without the role admin; what the file does not name is as in PERSON."""
    host: Limits = Limits()
    """All together."""


def read_settings(path: Path) -> Settings:
    """The file's content; what it says by default where there is none. Raises HyperError."""
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and isinstance(found.get("user"), dict):
            found["user"] = PERSON.model_dump() | found["user"]
        return Settings.model_validate(found)
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        raise HyperError(
            f"{path} cannot be read.",
            why=str(error),
            remedy="Rebuild the host: the file is made from hypervisor.privileges.broker.",
        ) from error
