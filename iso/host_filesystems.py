"""File systems made of folders, in files, without mounting anything: what an installed host has, in an image.

Every number that these tools draw by chance or take from the clock is given to them, so that two images are equal; only
mkfs.btrfs takes none.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.runner import Runner

EPOCH = 315532800
"""1980-01-01, in seconds: the first day that a FAT can hold, and the time of every file outside the store."""
_HOLE = 1 << 16
"""Bytes of zeros that become a hole."""
_FIELDS = ("atime", "ctime")
"""Times of an inode that mke2fs takes from the folder, and nobody can set there."""


@dataclass(frozen=True)
class Formatted:
    """A file system to be made."""

    argv: tuple[str, ...]
    """What the plan makes it with; the last word is the device."""
    size: int
    """Bytes of its partition."""
    folder: Path | None
    """What goes into it; none: nothing (swap)."""
    subvolumes: tuple[str, ...] = ()
    """Of a btrfs: folders in it that are subvolumes."""

    @property
    def program(self) -> str:
        """What makes it."""
        return self.argv[0]


MAKERS = ("mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mkfs.fat", "mkswap")
"""What is known here."""
TOOLS = {
    "ext4": {"mkfs.ext4", "debugfs", "dumpe2fs", "e2fsck"},
    "xfs": {"mkfs.xfs", "xfs_db", "xfs_repair", "faketime"},
    "btrfs": {"mkfs.btrfs", "btrfs"},
    "vfat": {"mkfs.fat", "fsck.fat", "mcopy"},
}
"""What makes a kind of file system, and looks at what was made."""
SUBVOLUMES_SINCE = (6, 12)
"""Release of btrfs-progs whose mkfs.btrfs makes subvolumes of folders."""
_STORE_TIME = "1970-01-01 00:00:01"
"""What Nix gives each file of a store: programs compare it (Python's .pyc). mkfs.xfs has one time for all."""


def make(runner: Runner, each: Formatted, file: Path) -> None:
    """Make it in a file of the partition's size.

    Raises:
        HyperError: there is no room for what goes in, or a tool is missing.
    """
    with file.open("wb") as made:
        made.truncate(each.size)
    match each.program:
        case "mkfs.ext4":
            _ext4(runner, each, file)
        case "mkfs.xfs":
            _xfs(runner, each, file)
        case "mkfs.btrfs":
            _btrfs(runner, each, file)
        case "mkfs.fat":
            _fat(runner, each, file)
        case _:
            runner.run([*each.argv[:-1], str(file)])


def _ext4(runner: Runner, each: Formatted, file: Path) -> None:
    uuid = each.argv[each.argv.index("-U") + 1]
    # The hash of names in folders begins with a number of its own, which is drawn otherwise (ext4(5), dir_index).
    words = [*each.argv[:-1], "-q", "-E", f"hash_seed={uuid},nodiscard", "-d", str(each.folder), str(file)]
    environment = {"E2FSPROGS_FAKE_TIME": str(EPOCH), "SOURCE_DATE_EPOCH": str(EPOCH)}
    runner.run(words, environment=environment)
    head = runner.run(["dumpe2fs", "-h", str(file)], quiet=True).text
    numbers = {
        name.strip(): value.strip() for name, _, value in (row.partition(":") for row in head.splitlines())
    }
    used = int(numbers["Inode count"]) - int(numbers["Free inodes"])
    # mke2fs copies the times at which the folder was put together; inodes are handed out in a row.
    script = "".join(
        f"set_inode_field <{inode}> {name} @{EPOCH}\n"
        for inode in (2, *range(11, used + 1))
        for name in _FIELDS
    )
    runner.run(
        ["debugfs", "-w", "-f", "-", str(file)], stdin=script.encode(), environment=environment, quiet=True
    )
    runner.run(["e2fsck", "-fn", str(file)], environment=environment)


def _fat(runner: Runner, each: Formatted, file: Path) -> None:
    assert each.folder
    # It sets the volume's number too, so the plan's own comes behind it.
    runner.run([each.argv[0], "--invariant", *each.argv[1:-1], str(file)])
    environment = {"SOURCE_DATE_EPOCH": str(EPOCH), "MTOOLS_SKIP_CHECK": "1"}
    names = sorted(str(path) for path in each.folder.iterdir())
    if names:
        runner.run(["mcopy", "-s", "-p", "-Q", "-m", "-i", str(file), *names, "::"], environment=environment)
    runner.run(["fsck.fat", "-n", str(file)])


def _xfs(runner: Runner, each: Formatted, file: Path) -> None:
    assert each.folder
    stage = file.with_suffix(".stage")
    stage.mkdir()
    text, spaces = prototype(each.folder, stage)
    listed = file.with_suffix(".prototype")
    listed.write_text(text)
    given = f"slashes_are_spaces=1,file={listed}" if spaces else str(listed)
    # Its clock stands still, and so does chance: releases from 6.17 on take them from the first two by themselves.
    environment = {"SOURCE_DATE_EPOCH": "1", "DETERMINISTIC_SEED": "1", "TZ": "UTC0"}
    environment |= {"FAKERANDOM_SEED": "0x12345678DEADBEEF"}
    still = ["faketime", "-f", _STORE_TIME]
    done = runner.run(
        [*still, *each.argv[:-1], "-q", "-p", given, str(file)], environment=environment, check=False
    )
    listed.unlink()
    shutil.rmtree(stage)
    if done.status:
        raise HyperError(
            "the xfs cannot be made",
            why=f"mkfs.xfs: {done.text.strip()[-500:] or done.status}"
            + ("; names with spaces, as this host has, need xfsprogs 6.13 or newer" if spaces else ""),
            remedy="use newer xfsprogs (Debian 13, NixOS), a larger --size, or ext4",
            code=Exit.unsuitable,
        )
    # A prototype cannot say that only owners may delete in a folder.
    for place_, mode in sticky(each.folder):
        runner.run(
            ["xfs_db", "-x", "-c", f"path {place_}", "-c", f"write core.mode 0{mode:o}", str(file)],
            quiet=True,
        )
    runner.run(["xfs_repair", "-n", str(file)], quiet=True)


def sticky(folder: Path) -> Iterator[tuple[str, int]]:
    """Places in a folder with the bit S_ISVTX (inode(7)), from its top, and their modes."""
    for here, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(here, name)
            mode = path.lstat().st_mode
            if mode & stat.S_ISVTX:
                yield f"/{path.relative_to(folder)}", mode


def prototype(folder: Path, stage: Path) -> tuple[str, bool]:
    """A folder as mkfs.xfs(8), -p, takes it, and whether slashes stand for spaces in it. Files of several names become
    several files. Those whose place has a space get a link without one in the folder `stage`.

    Raises:
        HyperError: there is a name that it cannot say (Exit.unsuitable).
    """
    lines, spaces = ["/", "0 0"], False

    def add(name: str, here: Path) -> None:
        nonlocal spaces
        state = here.lstat()
        mode = state.st_mode
        bits = ("u" if mode & stat.S_ISUID else "-") + ("g" if mode & stat.S_ISGID else "-")
        about = f"{bits}{mode & 0o777:03o} {state.st_uid} {state.st_gid}"
        if name:
            if re.search(r"[\t-\r/]|^[:$]", name):
                raise _unspeakable(here)
            spaces = spaces or " " in name
            name = name.replace(" ", "/") + " "
        if stat.S_ISLNK(mode):
            goal = os.readlink(here)  # noqa: PTH115 (as it is written)
            if re.search(r"\s", goal) or not goal:
                raise _unspeakable(here)
            lines.append(f"{name}l{about} {goal}")
        elif stat.S_ISREG(mode):
            if re.search(r"\s", str(here)):
                link = stage / str(len(lines))
                link.symlink_to(here)
                here = link
            lines.append(f"{name}-{about} {here}")
        elif stat.S_ISDIR(mode):
            lines.append(f"{name}d{about}")
            for child in sorted(os.listdir(here)):  # noqa: PTH208 (by name)
                add(child, here / child)
            lines.append("$")

    add("", folder)
    return "\n".join(lines) + "\n", spaces


def _unspeakable(path: Path) -> HyperError:
    return HyperError(
        "the xfs cannot be made",
        why=f"mkfs.xfs cannot be told of {path.name!r}: spaces and lines separate what it reads",
        remedy="use ext4",
        code=Exit.unsuitable,
    )


def _btrfs(runner: Runner, each: Formatted, file: Path) -> None:
    assert each.folder
    words = [word for name in each.subvolumes for word in ("--subvol", f"rw:{name}")]
    argv = [*each.argv[:-1], "--quiet", "--nodiscard", "--rootdir", str(each.folder), *words, str(file)]
    runner.run(argv)
    runner.run(["btrfs", "check", "--readonly", str(file)], quiet=True)


def require_subvolumes(runner: Runner) -> None:
    """HyperError (Exit.unsuitable) where mkfs.btrfs makes no subvolumes."""
    said = runner.run(["mkfs.btrfs", "--version"], quiet=True).text
    found = re.search(r"v(\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < SUBVOLUMES_SINCE:
        raise HyperError(
            "no btrfs can be made here",
            why=f"the layout has subvolumes, and this mkfs.btrfs ({said.strip()}) makes none",
            remedy="use btrfs-progs 6.12 or newer (Debian 13, NixOS), or ext4 or xfs",
            code=Exit.unsuitable,
        )


def place(file: Path, image: Path, offset: int) -> None:
    """Copy a file into the image, but for what is zero."""
    with file.open("rb") as source, image.open("r+b") as target:
        end = source.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but holes
                return
            hole = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            while at < hole:
                data = os.pread(source.fileno(), min(_HOLE, hole - at), at)
                if data.count(0) != len(data):
                    os.pwrite(target.fileno(), data, offset + at)
                at += len(data)


def settle_times(root: Path, store: Path) -> None:
    """Give every file outside the store the same time; Nix sees to those in it."""
    for folder, names, files in os.walk(root):
        here = Path(folder)
        linked = [name for name in names if (here / name).is_symlink()]
        if here == store:
            names.clear()
        for name in () if here == store else (*files, *linked):
            os.utime(here / name, (EPOCH, EPOCH), follow_symlinks=False)
        os.utime(here, (EPOCH, EPOCH))
    # Nix's own folder beside the paths, of one file for each content that several have.
    if (links := store / ".links").is_dir():
        os.utime(links, (EPOCH, EPOCH))


def search_path() -> str:
    """Where programs are looked for: those for disks are in sbin, which users do not have."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def require_tools(programs: set[str]) -> None:
    """HyperError (Exit.unsuitable) naming the programs that are missing."""
    packages = {
        "mkfs.ext4": "e2fsprogs",
        "debugfs": "e2fsprogs",
        "dumpe2fs": "e2fsprogs",
        "e2fsck": "e2fsprogs",
        "mkfs.xfs": "xfsprogs",
        "xfs_db": "xfsprogs",
        "xfs_repair": "xfsprogs",
        "mkfs.btrfs": "btrfs-progs",
        "btrfs": "btrfs-progs",
        "faketime": "faketime, in nixpkgs libfaketime",
        "grub-mkimage": "grub-common, in nixpkgs grub2",
        "mkfs.fat": "dosfstools",
        "fsck.fat": "dosfstools",
        "mcopy": "mtools",
        "sfdisk": "fdisk or util-linux",
        "unshare": "util-linux",
        "qemu-img": "qemu-utils",
    }
    if missing := sorted(each for each in programs if shutil.which(each, path=search_path()) is None):
        raise HyperError(
            "programs are missing",
            why=", ".join(f"{each} ({packages.get(each, each)})" for each in missing),
            remedy="install the packages in brackets",
            code=Exit.unsuitable,
        )
