"""What the NixOS module says about the host's EFI system partitions."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from installer.errors import Exit, HyperError

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
    try:
        return EspSettings.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise HyperError(
            "This host has no mirrored EFI system partition.",
            why=f"{path} does not exist",
            remedy="Name the mirrors in `hypervisor.storage.esp.mirrors` and rebuild, or give --source and --mirror.",
        ) from error
    except (OSError, ValueError, ValidationError) as error:
        raise HyperError(
            f"{path} cannot be read.",
            why=str(error),
            remedy="Rebuild the host: the file is made from `hypervisor.storage.esp`.",
            code=Exit.privilege if isinstance(error, PermissionError) else Exit.failed,
        ) from error
