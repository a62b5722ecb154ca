"""What is in a medium, as lists that programs read: SPDX 2.3 and CycloneDX 1.5, from the registration that a NixOS image has
of its own store (`nix-path-registration`, nix-store(1), --load-db).
"""

import re
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.errors import Exit, HyperError
from iso.image import Image, damaged
from iso.iso9660 import find, read_volume

REGISTRATION = "nix-path-registration"
STORE = "nix-store.squashfs"
_NAME = re.compile(
    r"(?P<name>.+?)(?:-(?P<version>\d[^-]*(?:-(?:p|rc|alpha|beta|pre|unstable)[^-]*)*))?(?:-(?P<output>bin|dev|doc|man|info|lib|out|data|debug))?"
)
_NAMESPACE = uuid.UUID("4c7de0b1-6a35-4f4f-8f4e-0f5e2a1b9c11")
NOTHING_SAID = "NOASSERTION"


@dataclass(frozen=True)
class StorePath:
    """An entry of the registration."""

    path: str
    hash: str
    """SHA-256 of its archive (NAR), as Nix writes it."""
    size: int
    """Bytes of that archive."""
    references: tuple[str, ...]

    @property
    def name(self) -> str:
        """What Nix calls the package."""
        return self._parts()[0]

    @property
    def version(self) -> str | None:
        """Its version, where the name has one: it begins with the first digit after a hyphen (builtins.parseDrvName)."""
        return self._parts()[1]

    def _parts(self) -> tuple[str, str | None]:
        whole = self.path.rpartition("/")[2][33:]
        found = _NAME.fullmatch(whole)
        return (found["name"], found["version"]) if found else (whole, None)


def parse(text: str) -> tuple[StorePath, ...]:
    """The registration: path, hash, size, deriver, number of references, references. Raises ValueError."""
    lines = text.split("\n")
    found, at = [], 0
    while at < len(lines) and lines[at]:
        path, digest, size, _deriver, many = lines[at : at + 5]
        at += 5
        references = lines[at : at + int(many)]
        if len(references) != int(many) or not path.startswith("/nix/store/"):
            raise ValueError(f"line {at + 1}")
        at += len(references)
        found.append(StorePath(path, digest, int(size), tuple(references)))
    return tuple(sorted(found, key=lambda each: each.path))


def from_image(image: Image) -> tuple[StorePath, ...]:
    """What an ISO image's store has. Raises HyperError."""
    return from_text(read_store(image, REGISTRATION).decode(errors="replace"), image.name)


def read_store(image: Image, name: str) -> bytes:
    """A file of an ISO image's store. Raises HyperError; unsquashfs reads it, from its place in the image."""
    volume = read_volume(image)
    entry = find(image, volume, STORE)
    if entry is None:
        raise HyperError(
            f"{image.name} has no list of what is in it",
            why=f"there is no {STORE} in it",
            remedy="name an ISO image of NixOS",
            code=Exit.medium,
        )
    try:
        done = subprocess.run(
            ["unsquashfs", "-cat", "-offset", str(entry.extents[0].offset), image.name, name],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise HyperError(
            "the store of an image cannot be read here",
            why="unsquashfs is not installed",
            remedy="install squashfs-tools",
            code=Exit.unsuitable,
        ) from error
    if done.returncode:
        raise damaged(image.name, f"unsquashfs: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout


def from_file(path: Path) -> tuple[StorePath, ...]:
    """A registration that is a file."""
    return from_text(path.read_text(encoding="utf-8", errors="replace"), str(path))


def from_text(text: str, name: str) -> tuple[StorePath, ...]:
    """The entries, or HyperError."""
    try:
        return parse(text)
    except ValueError as error:
        raise damaged(name, f"its registration of store paths is damaged: {error}") from error


def spdx(paths: Sequence[StorePath], name: str, when: str) -> dict[str, Any]:
    """An SPDX 2.3 document; `when` is a time in ISO 8601, UTC."""
    namespace = f"https://hyper-nixos.invalid/spdx/{uuid.uuid5(_NAMESPACE, name + ''.join(each.path for each in paths))}"
    packages = [
        {
            "SPDXID": _reference(each.path),
            "name": each.name,
            **({"versionInfo": each.version} if each.version else {}),
            "downloadLocation": NOTHING_SAID,
            "filesAnalyzed": False,
            "licenseConcluded": NOTHING_SAID,
            "licenseDeclared": NOTHING_SAID,
            "copyrightText": NOTHING_SAID,
            "packageFileName": each.path,
            "externalRefs": [
                {
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": _purl(each),
                }
            ],
        }
        for each in paths
    ]
    relations = [
        {
            "spdxElementId": _reference(each.path),
            "relationshipType": "DEPENDS_ON",
            "relatedSpdxElement": _reference(other),
        }
        for each in paths
        for other in each.references
        if other != each.path
    ]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": namespace,
        "creationInfo": {"created": when, "creators": ["Tool: hyper-nixos"]},
        "packages": packages,
        "relationships": [
            *(
                {
                    "spdxElementId": "SPDXRef-DOCUMENT",
                    "relationshipType": "DESCRIBES",
                    "relatedSpdxElement": _reference(each.path),
                }
                for each in paths
            ),
            *relations,
        ],
    }


def cyclonedx(paths: Sequence[StorePath], name: str, when: str) -> dict[str, Any]:
    """A CycloneDX 1.5 document."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, 'cdx' + name + ''.join(each.path for each in paths))}",
        "version": 1,
        "metadata": {
            "timestamp": when,
            "tools": {"components": [{"type": "application", "name": "hyper-nixos"}]},
            "component": {"type": "operating-system", "bom-ref": "medium", "name": name},
        },
        "components": [
            {
                "type": "library",
                "bom-ref": each.path,
                "name": each.name,
                **({"version": each.version} if each.version else {}),
                "purl": _purl(each),
                "properties": [
                    {"name": "nix:store-path", "value": each.path},
                    {"name": "nix:nar-hash", "value": each.hash},
                    {"name": "nix:nar-size", "value": str(each.size)},
                ],
            }
            for each in paths
        ],
        "dependencies": [
            {
                "ref": each.path,
                "dependsOn": sorted(other for other in set(each.references) if other != each.path),
            }
            for each in paths
        ],
    }


def _reference(path: str) -> str:
    """Letters, digits, dots and hyphens (SPDX 2.3, 7.2)."""
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", path.removeprefix("/nix/store/"))


def _purl(each: StorePath) -> str:
    from urllib.parse import quote

    version = f"@{quote(each.version)}" if each.version else ""
    return f"pkg:nix/{quote(each.name)}{version}?hash={each.path[11:43]}"
