"""What lies on an ESP, and whether it boots: files, boot entries and the default among them.

Only what NixOS put there is looked at; another system's files are neither copied nor removed. What NixOS writes:
nixos/modules/system/boot/loader/systemd-boot/systemd-boot-builder.py. Entries: Boot Loader Specification
(https://uapi-group.org/specifications/specs/boot_loader_specification/).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hv.unified_image import FOLDER as IMAGES
from installer.errors import HyperError

KERNELS = "EFI/nixos"
EXTRA = "EFI/nixos/.extra-files"
"""An empty file here, by the same path, for every file that `boot.loader.systemd-boot.extraFiles` put on the ESP."""
MANAGER = "EFI/systemd"
FALLBACK = "EFI/BOOT"
"""What firmware starts when its own boot menu has no entry for the disk (UEFI specification 2.10, 3.5.1.1)."""
ENTRIES = "loader/entries"
OWN = "EFI/hyper-nixos"
"""The boot manager, signed, where `bootctl` never writes."""
LOADER_CONF = "loader/loader.conf"
SORTED_LIKE = "loader/entries.srel"
"""Says by which rules entries are named (systemd's bootctl)."""
PARTIAL = ".hv-new"
"""Ending of a file that is not whole yet; neither the boot manager nor NixOS looks at such a name."""
PROGRAMS = {"systemd-bootx64.efi": "BOOTX64.EFI", "systemd-bootaa64.efi": "BOOTAA64.EFI"}
"""The boot manager, and what it is called as fallback."""

_ENTRY = re.compile(r"(?P<id>nixos.*?)(?P<tries>\+\d+(-\d+)?)?\.conf")
_IMAGE = re.compile(r"nixos-.+\.efi")
_FILE_KEYS = frozenset({"linux", "initrd", "efi", "devicetree", "devicetree-overlay"})
_PARTIAL_NAME = re.compile(re.escape(PARTIAL) + "$")


@dataclass(frozen=True)
class Entry:
    """A boot entry."""

    path: str
    """Its file, from the top of the ESP."""
    identifier: str
    """The file's name without the count of tries, and without `.conf`."""
    files: tuple[str, ...]
    """What it loads, from the top of the ESP; a signed image loads itself."""

    @property
    def named(self) -> str:
        """By what `default` names it."""
        return self.identifier if self.identifier.endswith(".efi") else f"{self.identifier}.conf"


@dataclass(frozen=True)
class Inventory:
    """What NixOS has on an ESP."""

    sizes: dict[str, int]
    """Bytes of each file, by its path from the top of the ESP."""
    entries: tuple[Entry, ...]
    """Boot entries of NixOS."""
    defaults: tuple[str, ...]
    """Patterns that choose the default entry, first match wins; empty: the boot manager's own order."""
    partial: tuple[str, ...]
    """Files that were left half written."""

    def lacking(self, entry: Entry) -> tuple[str, ...]:
        """What an entry loads and is not there; an empty file is not there either."""
        return tuple(path for path in entry.files if not self.sizes.get(path))

    @property
    def whole(self) -> tuple[Entry, ...]:
        """Entries that have all that they load."""
        return tuple(entry for entry in self.entries if entry.files and not self.lacking(entry))

    def default(self) -> Entry | None:
        """The entry that is started when nobody chooses; None when nothing, or something broken, would be."""
        for pattern in self.defaults or ("*",):
            for entry in self.entries:
                if fnmatchcase(entry.named.lower(), pattern.lower()) or pattern.startswith("@"):
                    return entry if entry in self.whole else None
        return None

    def managers(self) -> tuple[str, ...]:
        """The boot manager's programs."""
        return tuple(f"{MANAGER}/{name}" for name in PROGRAMS if self.sizes.get(f"{MANAGER}/{name}"))

    def complaints(self) -> tuple[str, ...]:
        """Why it might not boot; empty when it does."""
        found = [
            f"{entry.path} loads {lost}, which is not there"
            for entry in self.entries
            for lost in self.lacking(entry)
        ]
        if self.default() is None:
            found.append(
                f"the default entry ({', '.join(self.defaults) or 'any'}) is not there or not whole"
            )
        if not self.managers():
            found.append(f"there is no boot manager in {MANAGER}")
        found += [
            f"there is no {FALLBACK}/{PROGRAMS[Path(path).name]}, which firmware starts when its menu lost the disk"
            for path in self.managers()
            if not self.sizes.get(f"{FALLBACK}/{PROGRAMS[Path(path).name]}")
        ]
        return tuple(found)


def take(folder: Path) -> Inventory:
    """Look at the ESP below a folder."""
    try:
        return _take(folder)
    except OSError as error:
        raise HyperError(
            "An EFI system partition cannot be read.",
            why=f"{error.filename}: {error.strerror}",
            remedy="See `journalctl -k` for the disk's errors; `fsck.vfat -n` its unmounted partition.",
        ) from error


def _take(folder: Path) -> Inventory:
    found = {path: size for below in (KERNELS, MANAGER, OWN) for path, size in _files(folder, below)}
    extra = [path.removeprefix(f"{EXTRA}/") for path in found if path.startswith(f"{EXTRA}/")]
    listed = dict(_files(folder, ENTRIES))
    found |= {path: size for path, size in listed.items() if _ENTRY.fullmatch(Path(path).name)}
    images = dict(_files(folder, IMAGES))
    found |= {path: size for path, size in images.items() if _IMAGE.fullmatch(Path(path).name)}
    found |= {
        path: size for path, size in _files(folder, FALLBACK) if Path(path).name.upper() in PROGRAMS.values()
    }
    partial = [
        path
        for path in {**found, **listed, **images, **dict(_files(folder, FALLBACK))}
        if _PARTIAL_NAME.search(path)
    ]
    for path in (LOADER_CONF, SORTED_LIKE, *extra):
        if (folder / path).is_file():
            found[path] = (folder / path).stat().st_size
        if (folder / f"{path}{PARTIAL}").is_file():
            partial.append(f"{path}{PARTIAL}")
    entries = []
    for path in sorted(found):
        if Path(path).parent == Path(ENTRIES) and not _PARTIAL_NAME.search(path):
            entries.append(_entry(path, (folder / path).read_text(errors="replace")))
        elif Path(path).parent == Path(IMAGES) and not _PARTIAL_NAME.search(path):
            entries.append(Entry(path, Path(path).name, (path,)))
    for path in {path for entry in entries for path in entry.files} - found.keys():
        if (folder / path).is_file():
            found[path] = (folder / path).stat().st_size
    return Inventory(
        sizes={path: found[path] for path in sorted(found) if not _PARTIAL_NAME.search(path)},
        entries=tuple(entries),
        defaults=_defaults(folder / LOADER_CONF),
        partial=tuple(sorted(set(partial))),
    )


def _files(folder: Path, below: str) -> Iterator[tuple[str, int]]:
    for place, _, names in os.walk(folder / below):
        for name in names:
            path = Path(place, name)
            yield str(path.relative_to(folder)), path.stat().st_size


def _entry(path: str, text: str) -> Entry:
    pairs = [line.split(None, 1) for line in text.splitlines() if not line.startswith("#")]
    files = [pair[1].strip() for pair in pairs if len(pair) == 2 and pair[0] in _FILE_KEYS]
    name = Path(path).name
    match = _ENTRY.fullmatch(name)
    identifier = match["id"] if match else name.removesuffix(".conf")
    return Entry(path, identifier, tuple(file.replace("\\", "/").lstrip("/") for file in files))


def _defaults(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    pairs = [line.split() for line in path.read_text(errors="replace").splitlines()]
    told = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    return tuple(told[key] for key in ("preferred", "default") if key in told)
