"""`hv media pack`: systems of hosts go behind a finished image, for installing without a network."""

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter, ValidationError

from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.medium import ReadyClosure
from iso import binary_cache, packs
from iso.adopt import EPOCH
from iso.image import opened
from iso.nix_build import find_nix

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]+")
CACHE = "cache"
"""Folder in the squashfs."""
EMPTY = ("nar", "log", "realisations", "build-trace-v2", "debuginfo")
"""Folders that Nix makes in every cache that is a folder, also when it only reads it: a squashfs cannot get them later."""
_DESCRIBED = TypeAdapter(tuple[ReadyClosure, ...])


def pack(options: argparse.Namespace) -> int:
    """Add, list, or take out."""
    if options.remove:
        if options.system:
            raise _wrong("--remove takes out every pack", "systems were named too", "name none")
        gone = packs.remove(options.image)
        names = [each.name for pack in gone for each in pack.closures]
        print(f"{options.image}: {'took out ' + ', '.join(names) if names else 'has no pack'}")
        return Exit.ok if gone else Exit.nothing
    if not options.system:
        with opened(options.image) as image:
            found = packs.of_image(image)
        for line in listed(found) or ["no pack"]:
            print(line)
        return Exit.ok
    wanted = dict(_named(each, options.described) for each in options.system)
    if len(wanted) != len(options.system):
        raise _wrong("two systems have one name", "answers name them", "give each a name of its own")
    with opened(options.image) as image:
        packs.of_image(image)  # what is no image is told before anything is copied
    with TemporaryDirectory(prefix="hv-pack-", dir=options.image.absolute().parent) as made:
        folder = Path(made)
        cache = options.cache or _copied(folder / "copied", [each.toplevel for each in wanted.values()])
        tree = folder / "tree" / CACHE
        closures = tuple(_gathered(cache, tree, each) for each in wanted.values())
        squashfs = folder / "squashfs"
        _squash(folder / "tree", squashfs)
        added = packs.add(options.image, squashfs, closures)
    print(f"{options.image}: {format_size(added.after - added.before)} more")
    for line in listed((added,)):
        print(line)
    return Exit.ok


def listed(found: tuple[packs.Pack, ...]) -> list[str]:
    """The packs, for people."""
    return [
        f"  system {each.name}: {format_size(each.nar_size)}{f', any host of tier {each.tier}' if each.tier else ''}"
        f"{'' if one.whole else ' (unfinished)'}"
        for one in found
        for each in one.closures
    ]


def _wrong(what: str, why: str, remedy: str) -> HyperError:
    return HyperError(what, why=why, remedy=remedy, code=Exit.usage)


def _named(said: str, described: Path | None) -> tuple[str, ReadyClosure]:
    name, named, path = said.partition("=")
    if not _NAME.fullmatch(name) or (named and not _STORE_PATH.fullmatch(path)):
        raise _wrong(
            f"{said[:80]!r} names no system",
            "it is neither NAME=/nix/store/… nor the name of one in --described",
            "name it as answers will (`system.closure`): kvm1=/nix/store/…-nixos-system-kvm1",
        )
    if named:
        return name, ReadyClosure(name=name, toplevel=path, nar_size=0)
    if described is None:
        raise _wrong(f"nothing says what {name} is", "no store path was named", f"{name}=/nix/store/…")
    try:
        known = _DESCRIBED.validate_json(described.read_bytes())
    except OSError as error:
        raise _wrong(
            f"{described} cannot be read", error.strerror or str(error), "name an existing file"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _wrong(
            f"{described} describes no systems",
            f"{'.'.join(map(str, first['loc'])) or 'the whole file'}: {first['msg']}",
            "give the list that a medium has: `jq .closures /etc/hyper-nixos/medium.json`",
        ) from error
    for each in known:
        if each.name == name:
            return name, each
    raise _wrong(
        f"{described} does not know {name}", f"it has {', '.join(each.name for each in known)}", "name one"
    )


def _copied(target: Path, paths: list[str]) -> Path:
    """A binary cache with these, out of the store that is here. Raises HyperError."""
    nix = find_nix()
    argv = [*nix, "--extra-experimental-features", "nix-command", "copy", "--to"]
    done = subprocess.run(
        [*argv, f"file://{target}?compression=none", *paths], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise HyperError(
            "the systems cannot be copied out of the store",
            why="\n".join(done.stderr.strip().splitlines()[-5:]),
            remedy="build them here first (`nix build`), or name a binary cache that has them: --cache DIR",
        )
    return target


def _gathered(cache: Path, tree: Path, wanted: ReadyClosure) -> ReadyClosure:
    """Link what a system needs into the tree; the system with its size, and where it is."""
    archives = binary_cache.closure(cache, wanted.toplevel)
    for name in binary_cache.files(archives):
        place = tree / name
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(cache / name, place)
        except FileNotFoundError as error:
            raise binary_cache.refused(cache, f"there is no {name}") from error
        except OSError:
            shutil.copyfile(cache / name, place)
    for name in EMPTY:
        (tree / name).mkdir(parents=True, exist_ok=True)
    size = sum(each.size for each in archives)
    return wanted.model_copy(update={"cache": CACHE, "nar_size": size})


def _squash(tree: Path, target: Path) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
    argv = ["mksquashfs", str(tree), str(target), "-all-root", "-no-progress", "-quiet", "-no-xattrs"]
    argv += ["-comp", "zstd", "-b", "1M", "-all-time", EPOCH, "-mkfs-time", EPOCH]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise HyperError(
            "packs cannot be made here",
            why="mksquashfs is not installed",
            remedy="install squashfs-tools",
            code=Exit.unsuitable,
        ) from error
    if done.returncode:
        raise HyperError(
            "the pack was not made",
            why=(done.stderr or done.stdout).strip()[-300:],
            remedy="make room; the image is as it was",
        )


RUN = {"pack": pack}
"""What the verb runs."""
