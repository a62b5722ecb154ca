"""A host's boot files, as NixOS leaves them: generations in a Nix store, entries and the loader on a boot partition."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hv.secure_boot.settings import SecureBootSettings

SYSTEMD = Path("/usr/lib/systemd/boot/efi")
SETTINGS = SecureBootSettings(
    esp="/boot",
    boot="/boot",
    loader="/nix/store/systemd/systemd-bootx64.efi",
    stub="/nix/store/systemd/linuxx64.efi.stub",
)


@dataclass
class Host:
    """The host below a folder."""

    root: Path
    kernel: bytes = b"kernel"
    initrd: bytes = b"initrd"
    generations: dict[int, Sequence[str]] = field(default_factory=dict)
    """Number to the names of its specialisations."""

    def __post_init__(self) -> None:
        for folder in ("boot/loader/entries", "boot/EFI/nixos", "var/lib/hyper-nixos", "nix/store/systemd"):
            (self.root / folder).mkdir(parents=True)
        for name in ("systemd-bootx64.efi", "linuxx64.efi.stub"):
            shutil.copy(SYSTEMD / name, self.root / "nix/store/systemd" / name)

    @property
    def boot(self) -> Path:
        """The boot partition."""
        return self.root / "boot"

    def toplevel(self, number: int, name: str = "") -> str:
        """Store path of a system."""
        return f"/nix/store/system-{number}{f'-{name}' if name else ''}"

    def add(self, number: int, *names: str, parameters: Sequence[str] = ("console=ttyS0",)) -> None:
        """A generation with specialisations, its kernel and RAM disk in the store."""
        self.generations[number] = names
        specs = {name: self._spec(number, name, parameters) for name in ("", *names)}
        document = specs[""] | {"org.nixos.specialisation.v1": {name: specs[name] for name in names}}
        system = self.root / self.toplevel(number).lstrip("/")
        (system / "boot.json").write_text(json.dumps(document))
        profiles = self.root / "nix/var/nix/profiles"
        profiles.mkdir(parents=True, exist_ok=True)
        (profiles / f"system-{number}-link").symlink_to(self.toplevel(number))

    def _spec(self, number: int, name: str, parameters: Sequence[str]) -> dict[str, object]:
        toplevel = self.toplevel(number, name)
        folder = self.root / toplevel.lstrip("/")
        folder.mkdir(parents=True)
        (folder / "kernel").write_bytes(self.kernel)
        (folder / "initrd").write_bytes(self.initrd)
        return {
            "org.nixos.bootspec.v1": {
                "init": f"{toplevel}/init",
                "kernel": f"{toplevel}/kernel",
                "initrd": f"{toplevel}/initrd",
                "kernelParams": [f"generation={number}{name}", *parameters],
                "label": "26.05",
                "system": "x86_64-linux",
                "toplevel": toplevel,
            },
            "org.nixos.specialisation.v1": {},
        }

    def remove(self, number: int) -> None:
        """As nix-env --delete-generations does."""
        del self.generations[number]
        (self.root / f"nix/var/nix/profiles/system-{number}-link").unlink()

    def install(self, number: int, name: str = "", *, timeout: int = 0) -> None:
        """What NixOS's own program does to the boot partition, for one default: entries, kernels, loader.conf; the loader
        only where none of this version is there, as bootctl(1) has it."""
        default = ""
        for each, names in self.generations.items():
            for special in ("", *names):
                text = self._entry(each, special)
                entry = f"nixos-{hashlib.sha256(text.encode()).hexdigest()}.conf"
                (self.boot / "loader/entries" / entry).write_text(text)
                if (each, special) == (number, name):
                    default = entry
        (self.boot / "EFI/nixos/kernel.efi").write_bytes(self.kernel)
        (self.boot / "EFI/nixos/initrd.efi").write_bytes(self.initrd)
        (self.boot / "loader/loader.conf").write_text(f"timeout {timeout}\ndefault {default}\neditor 0\n")
        for place in ("EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"):
            path = self.boot / place
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                shutil.copy(SYSTEMD / "systemd-bootx64.efi", path)

    def _entry(self, number: int, name: str) -> str:
        words = f"init={self.toplevel(number, name)}/init generation={number}{name} console=ttyS0 panic=5"
        return (
            f"title NixOS {name}\nversion Generation {number}\nlinux /EFI/nixos/kernel.efi\n"
            f"initrd /EFI/nixos/initrd.efi\noptions {words}\nsort-key nixos\n"
        )
