"""ZFS on an installed system: its programs and modules beside Debian's, and the units that nixpkgs evaluates to.

Run by Nix, it lays out two trees that show the userland and the kernel together with ZFS: `usr` and `linux`. What differs
from host to host are names of pools; a test compares what is made here with what nixpkgs evaluates to.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .initrd import LIBRARIES, LOADER, NEEDED_FOR_BOOT

LEFT_OUT = frozenset({"systemd"})
"""Folders of Debian's packages that nothing here is taken from: units are nixpkgs'."""
TREES = ("lib", "sbin")
"""Folders of `/usr` in which ZFS has what a host needs."""
INDEX = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
MODULES = ("spl.ko", "zfs.ko")
PLAIN, ENCRYPTED, GUESTS = "many-disks-zfs.json", "uefi-zfs-luks-mirror.json", "guests-on-zfs.json"
"""Goldens: a root on ZFS, one on encrypted disks, and a pool for guests beside another root."""


# What the evaluated host says ------------------------------------------------------------------------------------


def pools(filesystems: dict[str, Any], *, early: bool) -> list[str]:
    """Of the host's own datasets: pools that stage 1 imports, or those that stage 2 does (rootPools, dataPools)."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for point, entry in filesystems.items():
        if entry["fsType"] == "zfs":
            first = point in NEEDED_FOR_BOOT or bool(entry.get("neededForBoot"))
            found[first].add(str(entry["device"]).partition("/")[0])
    return sorted(found[True] if early else found[False] - found[True])


def host_id(digits: str) -> bytes:
    """/etc/hostid, as nixos/modules/tasks/network-interfaces.nix writes it for such a processor."""
    return int(digits, 16).to_bytes(4, "little")


def golden(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """What nixpkgs evaluates to for the host that is nearest, with the names of this one's pools.

    Args:
        folder: Of the goldens.
        given: File systems, encrypted devices and the folder where pools are looked for.
    """
    early = pools(given["filesystems"], early=True)
    late = pools(given["filesystems"], early=False)
    if len(early) + len(late) != 1:
        raise SystemExit(f"ZFS: nixpkgs was evaluated for hosts with one pool, not with {early + late}")
    name = (ENCRYPTED if given["luks"] else PLAIN) if early else GUESTS
    text = (folder / name).read_text()
    found = re.findall(r"\bzfs-(?:import|sync)-([A-Za-z0-9_]+)\.service", text)
    (theirs,) = {*found} - {"cache", "scan"}
    made: dict[str, Any] = json.loads(text.replace(theirs, (early + late)[0]))
    nodes = {*re.findall(r'import -d \\?"([^"\\]+)', text)}
    if nodes != {given["nodes"]}:
        raise SystemExit(f"ZFS: {name} looks for its pool in {nodes}, this host in {given['nodes']}")
    return made


# What Nix has built ------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the input that Nix wrote, write `$out`."""
    given = json.loads(Path(os.environ["inputPath"]).read_text())  # noqa: SIM112 (Nix's names)
    out = Path(os.environ["out"])  # noqa: SIM112 (Nix's names)
    userland, linux, zfs = (Path(given[name]) for name in ("userland", "linux", "zfs"))
    (out / "usr").mkdir(parents=True)
    for each in sorted((userland / "usr").iterdir()):
        beside = [zfs / "usr" / each.name] if each.name in TREES else []
        show(out / "usr" / each.name, each, *(path for path in beside if path.is_dir()))
    _kernel(out / "linux", linux, zfs / "modules", userland)


def show(target: Path, *sources: Path) -> None:
    """Links to what is in the sources; a folder where more than one of them has something in it."""
    if len(sources) == 1 or any(each.is_symlink() or not each.is_dir() for each in sources):
        first = sources[0]
        # What is relative leads to this tree's own.
        target.symlink_to(first.readlink() if first.is_symlink() else first)
        return
    target.mkdir()
    for name in sorted({path.name for source in sources for path in source.iterdir()}):
        found = [path for path in (source / name for source in sources) if os.path.lexists(path)]
        if name in LEFT_OUT:
            found = found[:1]
        show(target / name, *found)


def _kernel(target: Path, linux: Path, modules: Path, userland: Path) -> None:
    """The kernel's tree with ZFS's modules in it, and an index of all of them (nixpkgs, aggregateModules)."""
    source = next((linux / "lib/modules").iterdir())
    place = target / "lib/modules" / source.name
    (place / "extra").mkdir(parents=True)
    (target / "bzImage").symlink_to(linux / "bzImage")
    (place / "kernel").symlink_to(source / "kernel")
    for name in MODULES:
        shutil.copyfile(modules / name, place / "extra" / name)
    for name in INDEX:
        shutil.copyfile(source / name, place / name)
    # By the loader: the sandbox has no /lib64.
    argv = [f"{userland}{LOADER}", "--argv0", "depmod", "--library-path", f"{userland}{LIBRARIES}"]
    subprocess.run([*argv, f"{userland}/usr/bin/kmod", "-b", target, source.name], check=True)


if __name__ == "__main__":
    main()
