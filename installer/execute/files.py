"""Files on the target: written under another name, synced, then renamed, so that none is ever half there."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.execute.evidence import Evidence, ensure

_CHUNK = 1 << 20


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a whole file, owned by root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def make_directory(path: Path, mode: int) -> None:
    """Make a folder and its parents; the last one gets these permission bits, parents 0755."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=0o755)
            parent.chmod(0o755)
    path.mkdir(exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != mode:  # one that is immutable, and right, is left alone
        path.chmod(mode)


def copy_file(
    source: Path, path: Path, mode: int, sha256: str | None, progress: Callable[[float, str], None]
) -> None:
    """Copy a file, with holes where it has zeros, and compare what was read with the digest that was promised.

    Raises:
        HyperError: the digest differs; nothing is left at `path`.
        OSError: reading or writing failed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    digest = hashlib.sha256()
    total = source.stat().st_size
    with source.open("rb") as reader, fresh.open("wb") as writer:
        done = 0
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            if chunk.count(0) == len(chunk):
                writer.seek(len(chunk), os.SEEK_CUR)
            else:
                writer.write(chunk)
            done += len(chunk)
            progress(done / total, f"{format_size(done)} of {format_size(total)} copied")
        writer.truncate(done)
        os.fchmod(writer.fileno(), mode)
        writer.flush()
        os.fsync(writer.fileno())
    if sha256 and digest.hexdigest() != sha256:
        fresh.unlink()
        raise HyperError(
            f"{source} is not the file that was meant",
            why=f"its SHA-256 is {digest.hexdigest()}, {sha256} was given",
            remedy="put the right file there, or correct the digest in the answers",
            code=Exit.step,
        )
    fresh.rename(path)


def check_file(path: Path, mode: int, sha256: str | None) -> Evidence:
    """A regular file of root's with these permission bits and, where given, this content."""
    ensure(path.is_file() and not path.is_symlink(), f"the file {path}", "no such regular file")
    status = path.stat()
    bits = stat.S_IMODE(status.st_mode)
    ensure(bits == mode, f"{path} with mode {mode:04o}", f"{bits:04o}")
    ensure(status.st_uid == 0, f"{path} owned by root", f"user {status.st_uid}")
    ensure(status.st_size > 0, f"{path} with content", "an empty file")
    if sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        ensure(found == sha256, f"SHA-256 {sha256} of {path}", found)
    return (f"{path}: {status.st_size} bytes, mode {bits:04o}",)


def within(root: Path, path: str | Path, depth: int = 40) -> Path:
    """Where a path of the target lies from here: links are followed as they are inside the target.

    Args:
        root: The mounted target.
        path: Absolute path inside it.
        depth: Links that are followed at most, as many as the kernel follows.
    """
    parts = [part for part in Path(path).parts if part != "/"]
    here: list[str] = []
    while parts:
        part = parts.pop(0)
        if part == "..":
            here = here[:-1]
            continue
        candidate = root.joinpath(*here, part)
        if candidate.is_symlink():
            depth -= 1
            ensure(depth > 0, f"{path} in the target", "links that go in a circle")
            goal = candidate.readlink()
            if goal.is_absolute():
                here = []
            parts = [each for each in goal.parts if each != "/"] + parts
        else:
            here.append(part)
    return root.joinpath(*here)
