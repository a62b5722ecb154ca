"""A medium that was built elsewhere and published: fetched, and held against what its publisher signed.

Beside the image at its address lie its manifest and the signature over that, as `hv media manifest --key` writes them:
`NAME`, `NAME.manifest.json`, `NAME.manifest.json.sig`.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.download import Cache, Progress
from installer.errors import Exit, HyperError
from installer.web import Place
from iso import manifest as manifests
from iso import signature

MANIFEST, SIGNATURE = ".manifest.json", ".manifest.json.sig"


@dataclass(frozen=True)
class Published:
    """What is published, before the image itself is fetched."""

    url: str
    manifest: bytes
    signature: bytes
    by: str
    """Who signed it."""

    @property
    def told(self) -> dict[str, Any]:
        """The manifest, read."""
        return manifests.read(self.manifest)


def look(url: str, signers: Path, cache: Cache) -> Published:
    """Fetch what is said of it.

    Args:
        url: Of the image.
        signers: Whose signature counts (ssh-keygen(1), ALLOWED SIGNERS).
        cache: Reaches servers.

    Raises:
        HyperError: it is not there (Exit.fetch), or none of them signed it (Exit.medium).
    """
    place = Place.parse(url)
    if place.url != url.strip() or "?" in place.url:
        raise HyperError(
            f"{url[:200]} is no address of an image",
            why="its manifest lies beside it, under the same name with more behind it",
            remedy="name the image alone, without ? and #",
            code=Exit.usage,
        )
    content, signed = (cache.fetch_small(f"{place.url}{each}") for each in (MANIFEST, SIGNATURE))
    by = signature.signer(content, signed, signers, manifests.NAMESPACE)
    if by is None:
        raise manifests.refused(
            f"the signature of {place}{MANIFEST} is by none of {signers}, or does not fit",
            "ask the publisher for the key, by another way than this one",
        )
    return Published(place.url, content, signed, by)


def fetch(found: Published, output: Path, cache: Cache, progress: Progress) -> None:
    """The image, with manifest and signature beside it.

    Raises:
        HyperError: it cannot be fetched or written, or is not what was signed; there is no `output` then.
    """
    wanted = found.told
    again = cache.path(found.url).exists()
    path = cache.fetch(found.url, progress)
    if again and _digest(path) != wanted["sha256"]:  # kept from before the publisher replaced it
        cache.forget(found.url)
        path = cache.fetch(found.url, progress)
    digest = _digest(path)
    if digest != wanted["sha256"]:
        cache.forget(found.url)
        raise manifests.refused(
            f"what came from {found.url} has the SHA-256 {digest}, and signed is {wanted['sha256']}",
            "fetch it again; if that does not help, tell its publisher",
        )
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        shutil.copyfile(path, unfinished)
        unfinished.chmod(0o644)
        for end, content in ((MANIFEST, found.manifest), (SIGNATURE, found.signature)):
            output.with_name(output.name + end).write_bytes(content)
        unfinished.replace(output)
    except OSError as error:
        raise HyperError(
            f"{output} cannot be written",
            why=error.strerror or str(error),
            remedy="make room or name another place: what was fetched is kept for the next time",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    cache.forget(found.url)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
