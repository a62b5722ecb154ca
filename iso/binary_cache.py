"""Binary caches as folders, as `nix copy --to file://…` makes them: whether a system is whole in one, and how large it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError

STORE = "/nix/store/"
HASH = 32
"""Characters of a store path's name before its hyphen."""


@dataclass(frozen=True)
class Archive:
    """What a `.narinfo` file says of a store path."""

    path: str
    url: str
    """The archive, relative to the cache."""
    size: int
    """Bytes, unpacked."""
    packed: int
    """Bytes of the archive's file."""
    references: tuple[str, ...]
    """Store paths, itself left out."""


def refused(cache: Path, why: str) -> HyperError:
    """The error for a cache that does not hold what it should."""
    return HyperError(
        f"{cache} is no whole binary cache of the system",
        why=why,
        remedy=f"copy the system anew where it was built: `nix copy --to 'file://{cache}?compression=none' /nix/store/…`",
        code=Exit.medium,
    )


def read(cache: Path, path: str) -> Archive:
    """What the cache says of a store path. Raises HyperError (Exit.medium) when it is not there, or not whole."""
    file = cache / f"{path[len(STORE) :][:HASH]}.narinfo"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise refused(cache, f"there is no {file.name} for {path}") from error
    said = {name: value for name, found, value in (line.partition(": ") for line in lines) if found}
    try:
        archive = Archive(
            path=said["StorePath"],
            url=said["URL"],
            size=int(said["NarSize"]),
            packed=int(said["FileSize"]),
            references=tuple(
                f"{STORE}{name}"
                for name in said.get("References", "").split()
                if f"{STORE}{name}" != said["StorePath"]
            ),
        )
    except (KeyError, ValueError) as error:
        raise refused(cache, f"{file.name} is damaged") from error
    nar = cache / archive.url
    if archive.path != path or ".." in Path(archive.url).parts or Path(archive.url).is_absolute():
        raise refused(cache, f"{file.name} is about something else")
    if not nar.is_file() or nar.stat().st_size != archive.packed:
        raise refused(cache, f"{archive.url}, the archive of {path}, is not whole")
    return archive


def closure(cache: Path, path: str) -> tuple[Archive, ...]:
    """A store path and everything that it refers to. Raises HyperError (Exit.medium) when something is missing."""
    found: dict[str, Archive] = {}
    waiting = [path]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found[each] = read(cache, each)
            waiting += found[each].references
    return tuple(found[each] for each in sorted(found))


def files(archives: tuple[Archive, ...]) -> Iterator[str]:
    """What of a cache these need, relative to it."""
    yield "nix-cache-info"
    for each in archives:
        yield f"{each.path[len(STORE) :][:HASH]}.narinfo"
        yield each.url
