"""Which systems this host may start: the generations of its profiles, and their specialisations, out of the Nix store.

What lies on the EFI system partition is not asked: anybody who had the disk may have written there, and what is signed
is started. The documents: NixOS RFC 125, `boot.json`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from installer.errors import HyperError

PROFILES = "/nix/var/nix/profiles"
_SPEC, _BELOW = "org.nixos.bootspec.v1", "org.nixos.specialisation.v1"
_LINK = re.compile(r"(?P<profile>.+)-(?P<number>[0-9]+)-link")


@dataclass(frozen=True)
class System:
    """One system that can be started."""

    profile: str
    """`system`, or a further profile's name."""
    number: int
    """Of the generation."""
    specialisation: str
    """Its name; empty: the generation itself."""
    built: str
    """The day, ISO 8601."""
    label: str
    toplevel: str
    init: str
    kernel: Path
    """Below the root that was given, as are the others."""
    initrd: Path
    parameters: tuple[str, ...]
    """The kernel's."""
    secrets: Path | None
    """Program that puts secrets into a copy of the RAM disk."""
    device_tree: Path | None

    @property
    def file(self) -> str:
        """The signed image's name: unlike that of any entry that NixOS itself writes."""
        words = [
            "nixos",
            *([self.profile] if self.profile != "system" else []),
            f"generation-{self.number}",
            *([f"specialisation-{self.specialisation}"] if self.specialisation else []),
        ]
        return "-".join(words) + ".efi"

    @property
    def command_line(self) -> str:
        """What the kernel is started with."""
        return " ".join((f"init={self.init}", *self.parameters))

    @property
    def title(self) -> str:
        """For the boot menu."""
        extra = ", ".join(filter(None, (self.profile.removeprefix("system"), self.specialisation)))
        return "NixOS" + (f" ({extra})" if extra else "")

    @property
    def version(self) -> str:
        """Likewise."""
        return f"Generation {self.number} {self.label}, built on {self.built}"


def systems(root: Path, limit: int = 0) -> tuple[System, ...]:
    """Newest generation first, each before its specialisations, at most `limit` generations of each profile.

    Raises:
        HyperError: A generation's description cannot be read, or there is none.
    """
    found = tuple(_systems(root, limit))
    if not found:
        raise HyperError(
            "There is no system to sign.",
            why=f"{PROFILES} has no generation with a boot.json",
            remedy="Look whether the Nix store is whole (`nix-store --verify`), then rebuild.",
        )
    return found


def _systems(root: Path, limit: int) -> Iterator[System]:
    top = root / PROFILES.lstrip("/")
    further = top / "system-profiles"
    links = [*_links(top, {"system"}), *(_links(further, None) if further.is_dir() else ())]
    kept: dict[str, int] = {}
    for profile, number, link in sorted(links, key=lambda each: (each[0] != "system", each[0], -each[1])):
        kept[profile] = kept.get(profile, 0) + 1
        document = followed(root, link) / "boot.json"
        # NixOS leaves generations without one out of its menu, too.
        if (not limit or kept[profile] <= limit) and document.is_file():
            built = datetime.fromtimestamp(link.lstat().st_ctime, UTC).date().isoformat()
            try:
                yield from _read(root, json.loads(document.read_bytes()), (profile, number, built))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise HyperError(
                    f"Generation {number} of {profile} cannot be read.",
                    why=f"{document}: {error!r}",
                    remedy="Look whether the Nix store is whole (`nix-store --verify --check-contents`), or delete the "
                    f"generation (`nix-env -p {PROFILES}/{profile} --delete-generations {number}`).",
                ) from error


def _links(folder: Path, names: set[str] | None) -> Iterator[tuple[str, int, Path]]:
    for link in folder.glob("*-link"):
        match = _LINK.fullmatch(link.name)
        if match and (names is None or match["profile"] in names):
            yield match["profile"], int(match["number"]), link


def _read(
    root: Path, document: dict[str, Any], generation: tuple[str, int, str], name: str = ""
) -> Iterator[System]:
    profile, number, built = generation
    spec = document[_SPEC]
    secrets = spec.get("initrdSecrets")
    tree = document.get("org.nixos.systemd-boot", {}).get("devicetree")
    yield System(
        profile=profile,
        number=number,
        specialisation=name,
        built=built,
        label=str(spec["label"]),
        toplevel=str(spec["toplevel"]),
        init=str(spec["init"]),
        kernel=below(root, spec["kernel"]),
        initrd=below(root, spec["initrd"]),
        parameters=tuple(map(str, spec["kernelParams"])),
        secrets=below(root, secrets) if secrets else None,
        device_tree=below(root, tree) if tree else None,
    )
    if not name:
        for child, inner in sorted(document.get(_BELOW, {}).items()):
            yield from _read(root, inner, generation, child)


def below(root: Path, absolute: str) -> Path:
    """An absolute path of the host below the root, with the host's links followed there."""
    return followed(root, root / absolute.lstrip("/"))


def followed(root: Path, path: Path) -> Path:
    """Where the host's links lead from a path below the root; also below it."""
    for _ in range(40):
        if not path.is_symlink():
            return path
        target = path.readlink()
        path = root / str(target).lstrip("/") if target.is_absolute() else path.parent / target
    return path
