"""File systems made of folders, in files, without mounting anything: what an installed host has, in an image.

Every number that these tools draw by chance or take from the clock is given to them, so that two images are equal.
"""

import os
import shutil
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

    @property
    def program(self) -> str:
        """What makes it."""
        return self.argv[0]


MAKERS = ("mkfs.ext4", "mkfs.fat", "mkswap")
"""What is known here."""


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


def settle_times(root: Path) -> None:
    """Give every file outside the store the same time; Nix sees to those in it."""
    store = root / "nix/store"
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


def require_tools(programs: set[str]) -> None:
    """HyperError (Exit.unsuitable) naming the programs that are missing."""
    packages = {
        "mkfs.ext4": "e2fsprogs",
        "debugfs": "e2fsprogs",
        "mkfs.fat": "dosfstools",
        "mcopy": "mtools",
        "sfdisk": "fdisk or util-linux",
        "unshare": "util-linux",
        "qemu-img": "qemu-utils",
    }
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    if missing := sorted(each for each in programs if shutil.which(each, path=search) is None):
        raise HyperError(
            "programs are missing",
            why=", ".join(f"{each} ({packages.get(each, each)})" for each in missing),
            remedy="install the packages in brackets",
            code=Exit.unsuitable,
        )
