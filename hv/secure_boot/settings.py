"""What the NixOS module says about the host's signed boot files."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from hv import evaluated
from installer.errors import HyperError

SETTINGS_FILE = "/etc/hyper-nixos/secure-boot.json"
"""Written by nix/modules/security/secure-boot.nix."""

Absolute = Annotated[str, StringConstraints(pattern=r"^/[^\x00\n]+$")]


class SecureBootSettings(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    esp: Absolute
    """Where the EFI system partition is mounted that NixOS writes."""
    boot: Absolute
    """Where kernels and entries are: the same, or the XBOOTLDR partition."""
    loader: Absolute
    """systemd-boot as its package has it, unsigned."""
    stub: Absolute
    """systemd-stub, likewise."""
    tools: str = ""
    """Folder of sbsigntool's programs; empty: they are in PATH."""
    limit: int = 0
    """How many generations the menu keeps; 0: all."""

    def tool(self, name: str) -> str:
        """How one of those programs is called."""
        return f"{self.tools}/{name}" if self.tools else name


def read_settings(path: Path) -> SecureBootSettings:
    """The file's content. Raises HyperError."""
    absent = HyperError(
        "This host does not sign what it starts from.",
        why=f"{path} does not exist",
        remedy="Set `hypervisor.security.secureBoot.enable = true`, rebuild, and go on with `hv secure-boot status`.",
    )
    return evaluated.read(SecureBootSettings, path, absent, "hypervisor.security.secureBoot")
