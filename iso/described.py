"""The description of a medium (installer/medium.py), also out of an ISO image that has one in its store."""

from pathlib import Path

from pydantic import ValidationError

from installer.commands.medium import read_medium
from installer.errors import Exit, HyperError
from installer.medium import Medium
from iso import sbom
from iso.image import opened

_NAME = "medium.json"
_MAGIC, _PLACE = b"CD001", 32769
"""What an ISO 9660 file system has, and where (ECMA-119, 9.1.2)."""


def described(path: Path | None) -> Medium:
    """From a JSON file, from an ISO image, or, when none is named, the live system's own. Raises HyperError."""
    if path is None or not _is_iso(path):
        return read_medium(path)
    with opened(path) as image:
        found = [each.path for each in sbom.from_image(image) if each.path.rpartition("/")[2][33:] == _NAME]
        text = sbom.read_store(image, found[0].rpartition("/")[2]) if found else b""
    try:
        return Medium.model_validate_json(text)
    except ValidationError as error:
        raise HyperError(
            f"{path} does not say what it carries",
            why=f"there is no {_NAME} in its store"
            if not found
            else str(error.errors(include_url=False)[0]["msg"]),
            remedy="name an ISO image of ours, or the file /etc/hyper-nixos/medium.json of a live system",
            code=Exit.record,
        ) from error


def _is_iso(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(_PLACE)
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
