"""What the NixOS module says about the host's EFI system partitions."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from hv import evaluated
from installer.errors import HyperError

SETTINGS_FILE = "/etc/hyper-nixos/esp.json"
"""Written by nix/modules/storage/esp.nix."""

MountPoint = Annotated[str, StringConstraints(pattern=r"^/[^\x00\n]+$")]


class EspSettings(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: MountPoint
    """Where the ESP is mounted that NixOS itself writes."""
    mirrors: tuple[MountPoint, ...] = ()
    """Where the others are."""
    variables: bool = True
    """Whether the firmware's boot menu may be changed (`boot.loader.efi.canTouchEfiVariables`)."""


def read_settings(path: Path) -> EspSettings:
    """The file's content. Raises HyperError."""
    absent = HyperError(
        "This host has no mirrored EFI system partition.",
        why=f"{path} does not exist",
        remedy="Name the mirrors in `hypervisor.storage.esp.mirrors` and rebuild, or give --source and --mirror.",
    )
    return evaluated.read(EspSettings, path, absent, "hypervisor.storage.esp")
