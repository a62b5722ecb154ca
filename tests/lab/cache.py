"""Built parts, kept by the content they were made from: the same inputs are never built twice."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.lab.command import remove_tree, run
from tests.lab.paths import CACHE

_KEPT = 2
"""Versions kept of each part; older ones are removed when a new one is built."""


def key(*inputs: object) -> str:
    """A digest over values (as JSON) and paths (a file's bytes, or every file of a folder with name and mode)."""
    digest = hashlib.sha256()
    for each in inputs:
        if isinstance(each, Path):
            digest.update(_digest(each))
        else:
            digest.update(json.dumps(each, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _digest(path: Path) -> bytes:
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).digest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            executable = bool(file.stat().st_mode & 0o100)
            digest.update(f"{file.relative_to(path)}\0{executable}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def built(part: str, content: str, build: Callable[[Path], None]) -> Path:
    """The folder of a part; `build` fills it when no earlier run did.

    A lock per part lets two runs share one build. A build that fails or is killed leaves nothing behind that
    could be taken for a whole one: the folder gets its name only at the end.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{part}-{content}"
    with (CACHE / f"{part}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            os.utime(folder)
            return folder
        unfinished = CACHE / f"{part}.unfinished"
        remove_tree(unfinished)
        unfinished.mkdir()
        build(unfinished)
        run(["mv", "-T", unfinished, folder], root=True)
        _forget_old(part)
    return folder


def _forget_old(part: str) -> None:
    folders = [path for path in CACHE.glob(f"{part}-*") if path.is_dir()]
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]:
        remove_tree(folder)


def free_space() -> int:
    """Bytes free where the lab keeps its parts."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(CACHE).free
