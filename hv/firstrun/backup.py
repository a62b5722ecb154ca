"""Job backup: the host's configuration as it was installed, in one file to copy away.

Secrets are in neither: /etc/nixos refers to them by path, and the hand-off has none.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hv.firstrun.world import World, sync_folder
from installer.errors import HyperError
from installer.handoff import HANDOFF_PATH, Handoff

DECLARATION = "/etc/nixos"
ARCHIVE = "/var/lib/hyper-nixos/backup/installed.tar.gz"
"""Root's alone; `tar --extract --directory=/ --file` puts everything back."""


@dataclass(frozen=True)
class BackupJob:
    """Packs, and reads back."""

    name: str = "backup"
    requires: tuple[str, ...] = ()
    timeout: float = 120

    def applies(self, handoff: Handoff) -> str | None:  # noqa: ARG002
        """Always."""
        return None

    def run(self, world: World) -> None:
        """Whole or not at all. An archive of an earlier attempt is replaced."""
        files = dict(_files(world))
        if not any(name.startswith(DECLARATION) for name in files):
            raise HyperError(
                "There is no configuration to keep.",
                why=f"{world.path(DECLARATION)} has no file",
                remedy=f"Put the host's configuration at {DECLARATION}, then `hv firstrun retry backup`.",
            )
        archive = world.path(ARCHIVE)
        archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = archive.with_name(f".{archive.name}.partial")
        partial.unlink(missing_ok=True)
        with partial.open("xb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            with tarfile.open(fileobj=stream, mode="w:gz") as packed:
                for name, content in files.items():
                    entry = tarfile.TarInfo(name.lstrip("/"))
                    entry.size, entry.mode = len(content), 0o644
                    entry.mtime = int(world.path(name).stat().st_mtime)
                    packed.addfile(entry, io.BytesIO(content))
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(archive)
        sync_folder(archive.parent)
        world.say(f"{len(files)} files in {ARCHIVE}: copy it away from this host")

    def verify(self, world: World) -> None:
        """Every file reads back from the archive as it is on the disk."""
        wanted = {name.lstrip("/"): _digest(content) for name, content in _files(world)}
        try:
            with tarfile.open(world.path(ARCHIVE), "r:gz") as packed:
                found = {
                    entry.name: _digest(inside.read())
                    for entry in packed.getmembers()
                    if (inside := packed.extractfile(entry)) is not None
                }
        except (OSError, EOFError, tarfile.TarError) as error:
            found = {"": str(error)}
        if found != wanted:
            differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            raise HyperError(
                "The backup of the configuration is not whole.",
                why=f"{ARCHIVE} differs in {', '.join(filter(None, differing)) or 'everything'}",
                remedy="See whether the disk is full (`df /var`), then `hv firstrun retry backup`.",
            )


def _files(world: World) -> Iterator[tuple[str, bytes]]:
    """Absolute path and content; links and a repository's own folder are left out."""
    root = world.path(DECLARATION)
    for file in sorted(root.rglob("*")) if root.is_dir() else ():
        inside = file.relative_to(root)
        if file.is_file() and not file.is_symlink() and ".git" not in inside.parts:
            yield f"{DECLARATION}/{inside}", file.read_bytes()
    handoff: Path = world.path(HANDOFF_PATH)
    if handoff.is_file():
        yield HANDOFF_PATH, handoff.read_bytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
