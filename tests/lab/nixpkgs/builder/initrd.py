"""Initial RAM disks: busybox, a few programs with their libraries, chosen kernel modules, and an init script.

Used twice: inside Nix for the installed system's stage 1, and by the lab for the live medium.
"""

import os
import re
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

APPLETS = [
    "sh",
    "mount",
    "umount",
    "modprobe",
    "switch_root",
    "mkdir",
    "ls",
    "cat",
    "echo",
    "sleep",
    "ln",
    "poweroff",
    "reboot",
    "dmesg",
    "cut",
    "grep",
    "findfs",
    "sed",
    "head",
    "tail",
    "cp",
    "chmod",
    "losetup",
    "true",
    "false",
    "stty",
    "printf",
    "readlink",
    "basename",
    "dirname",
    "tr",
    "wc",
    "mkfifo",
    "rm",
    "kill",
    "date",
    "setsid",
    "test",
]
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
LOADER = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
NEEDED_FOR_BOOT = (
    "/",
    "/nix",
    "/nix/store",
    "/var",
    "/var/log",
    "/var/lib",
    "/var/lib/nixos",
    "/etc",
    "/usr",
)
"""Mounted in stage 1 whatever their options say (nixpkgs, nixos/lib/utils.nix, pathsNeededForBoot)."""


class Archive:
    """A cpio archive in the `newc` format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._inode = 0
        self._made: set[str] = set()

    def folder(self, path: str) -> None:
        """A folder and its parents."""
        path = path.strip("/")
        if not path or path in self._made:
            return
        self.folder(path.rpartition("/")[0])
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, content: bytes, *, executable: bool = False) -> None:
        """A file with its content."""
        self.folder(path.rpartition("/")[0])
        self._add(path.strip("/"), stat.S_IFREG | (0o755 if executable else 0o644), content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.folder(path.rpartition("/")[0])
        self._add(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self.folder(path.rpartition("/")[0])
        self._add(path.strip("/"), stat.S_IFCHR | 0o600, b"", major, minor)

    def close(self) -> None:
        """The trailer."""
        self._add("TRAILER!!!", 0, b"")

    def _add(self, path: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> None:
        if path in self._made:
            return
        self._made.add(path)
        self._inode += 1
        name = path.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 1, len(content), 0, 0, major, minor, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        self._stream.write(head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4))


class Modules:
    """A tree of kernel modules as depmod(8) describes it, uncompressed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dependencies: dict[str, list[str]] = {}
        for line in (folder / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self.dependencies[path] = needs.split()
        self._by_name = {_module_name(path): path for path in self.dependencies}
        builtin = (folder / "modules.builtin").read_text().splitlines()
        self.builtin = {_module_name(path) for path in builtin}
        self._soft = _soft_dependencies(folder / "modules.softdep")

    def closure(self, names: Iterable[str]) -> list[str]:
        """Paths of the modules and all that they need, in the order of loading. Unknown names are an error."""
        order: list[str] = []
        seen: set[str] = set()  # soft dependencies may go round in circles

        def add(name: str, *, optional: bool = False) -> None:
            name = _module_name(name)
            if name in self.builtin:
                return
            path = self._by_name.get(name)
            if path is None:
                if optional:
                    return
                raise SystemExit(f"initrd: there is no kernel module {name!r}")
            if path in seen:
                return
            seen.add(path)
            for need in reversed(self.dependencies[path]):
                add(need)
            for need in self._soft.get(name, ()):
                add(need, optional=True)
            order.append(path)

        for each in names:
            add(each)
        return order

    def known(self, name: str) -> bool:
        """Whether there is such a module, loadable or built in."""
        name = _module_name(name)
        return name in self.builtin or name in self._by_name


def _module_name(path: str) -> str:
    return re.sub(r"\.ko(\.(xz|zst|gz))?$", "", path.rpartition("/")[2]).replace("-", "_")


def _soft_dependencies(file: Path) -> dict[str, list[str]]:
    """`softdep NAME pre: A B post: C` lines; the kernel asks for some of these by name (crc32c, crypto)."""
    found: dict[str, list[str]] = {}
    if file.exists():
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] == ["softdep"]:
                names = [word for word in words[2:] if not word.endswith(":")]
                found.setdefault(words[1].replace("-", "_"), []).extend(names)
    return found


def libraries(userland: Path, program: str, beside: Path | None = None) -> list[str]:
    """The shared libraries of a program, as paths below /usr (ld.so(8), `--list`).

    Args:
        userland: Where the loader is, and most libraries.
        program: Of `beside`, if that has it, else of the userland.
        beside: A tree with further libraries.
    """
    roots = [str(root) for root in (beside, userland) if root]
    # systemd's own library has a folder of its own, by a path that is another one here.
    folders = [*(f"{root}{LIBRARIES}" for root in roots), f"{userland}{LIBRARIES}/systemd"]
    root = next((each for each in roots if Path(f"{each}{program}").exists()), str(userland))
    listed = subprocess.run(
        [f"{userland}{LOADER}", "--library-path", ":".join(folders), "--list", f"{root}{program}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: list[str] = re.findall(r"=> (\S+) \(0x", listed)
    for each in roots:
        found = [path.removeprefix(each) for path in found]
    return found


def write(
    stream: IO[bytes],
    *,
    userland: Path,
    modules: Modules,
    names: Iterable[str],
    init: bytes,
    programs: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write the whole archive, uncompressed."""
    archive = Archive(stream)
    for folder in ("dev", "proc", "sys", "run", "newroot", "tmp", "bin", "etc"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.file("init", init, executable=True)
    archive.file("bin/busybox", (userland / "usr/bin/busybox").read_bytes(), executable=True)
    for applet in APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    copied: set[str] = set()
    for program in programs:
        # pthread_cancel loads libgcc_s by itself: argon2's threads need it.
        for path in (program, *libraries(userland, program), f"{LIBRARIES}/libgcc_s.so.1"):
            if path not in copied:
                copied.add(path)
                archive.file(path, Path(os.path.realpath(f"{userland}{path}")).read_bytes(), executable=True)
    if copied:
        archive.file(LOADER, Path(os.path.realpath(f"{userland}{LOADER}")).read_bytes(), executable=True)
        archive.link("lib64", "usr/lib/x86_64-linux-gnu")
        archive.link("lib/x86_64-linux-gnu", "../usr/lib/x86_64-linux-gnu")
    version = modules.folder.name
    order = modules.closure(names)
    for path in order:
        archive.file(f"lib/modules/{version}/{path}", (modules.folder / path).read_bytes())
    dependencies = "".join(f"{path}: {' '.join(modules.dependencies[path])}\n" for path in order)
    archive.file(f"lib/modules/{version}/modules.dep", dependencies.encode())
    archive.file(f"lib/modules/{version}/modules.builtin", (modules.folder / "modules.builtin").read_bytes())
    archive.file("etc/modules", "".join(f"{_module_name(path)}\n" for path in order).encode())
    for name, content in (files or {}).items():
        archive.file(name, content)
    archive.close()
