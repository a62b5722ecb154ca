"""ZFS for the lab's live system and hosts: modules for its kernel, and the programs.

Debian has neither in what the rest of the lab is made of, but in `contrib`: the module as source. It is built against the
headers of the very kernel that the lab has, once, which takes a quarter of an hour: so only tests of `make test-matrix` ask
for it. Nothing of it lies in a layer of the medium. A live system gets it beside what is to be installed
(tests/trial/payload.py, closures.py) or on a disk of its own, and `load` puts it into place; a host that uses ZFS has it in
its own system (nixpkgs/builder/openzfs.py).
"""

from functools import cache as once
from pathlib import Path

from tests.lab import cache, layers, userland
from tests.lab.channels import Agent
from tests.lab.closures import MOUNT
from tests.lab.command import remove_tree, run
from tests.lab.machine import Running
from tests.lab.tools import entered

SOURCE = "zfs-dkms"
PROGRAMS = ("zfsutils-linux", "libzfs6linux", "libzpool6linux", "libnvpair3linux", "libuutil3linux")
"""Packages that are laid over the live system; what else they need is there."""
COMPILER = (
    "make",
    "gcc",
    "gcc-14",
    "libc6-dev",
    "libelf1t64",
    "libssl3t64",
    "gawk",
    "kmod",
    "xz-utils",
    "file",
    "pahole",
)
"""What Debian's kernel headers and ZFS's `configure` call for."""
HEADERS = ("linux-headers-{}-amd64", "linux-headers-{}-common", "linux-kbuild-{}")
ARCHIVES = (
    "deb http://deb.debian.org/debian trixie main contrib",
    "deb http://deb.debian.org/debian trixie-updates main contrib",
    "deb http://security.debian.org/debian-security trixie-security main contrib",
)
HOST_ID = "8425e349"
"""Of the live system: what nixpkgs' media have (nixos/modules/profiles/base.nix)."""
LOAD = f"""#!/bin/sh
# Puts ZFS into the running live system; its root takes writes, in memory.
set -e
here=$(dirname "$0")
[ ! -e /dev/zfs ] || exit 0
cp -a "$here/usr/." /usr/
modprobe -a $(cat "$here/modules/depends") 2>/dev/null || true
insmod "$here/modules/spl.ko"
insmod "$here/modules/zfs.ko" zfs_arc_max=134217728
udevadm settle
zgenhostid -f {HOST_ID}
"""
DISK = "/dev/disk/by-id/virtio-HYPERNIXOS-CACHE"
LOADED = f"{MOUNT}/zfs/load"
"""Shell: puts it into the live system that it was brought to."""
_BUILD = """set -eu
version=$1
cd /usr/src/zfs-*
./configure --with-config=kernel --with-linux=/usr/src/linux-headers-$version-common \\
    --with-linux-obj=/usr/src/linux-headers-$version-amd64 >/configure.log 2>&1 || { tail -n 40 /configure.log; exit 1; }
make -s -j"$(nproc)" >/make.log 2>&1 || { tail -n 40 /make.log; exit 1; }
mkdir -p /out
cp module/spl.ko module/zfs.ko /out/
strip --strip-debug /out/spl.ko /out/zfs.ko
for each in spl zfs; do modinfo -F depends /out/$each.ko; done | tr , '\\n' | grep -v -x -e spl -e '' >/out/depends || true
"""


@once
def build() -> Path:
    """A folder that is to be laid into a payload as `zfs`: `usr`, `modules` and the program `load`."""
    tools = userland.build()
    # Where the folders lie changes nothing in what is built.
    command = _command(Path("FOLDER"), version(tools / "kernel"), "ARCHIVES", "KEEP")
    return cache.built("zfs", cache.key(command, _BUILD, LOAD), _build) / "tree"


@once
def image() -> Path:
    """That folder alone, as a disk of the live system."""
    made = build()

    def squash(folder: Path) -> None:
        run(["mkdir", folder / "tree"], root=True)
        run(["cp", "-a", "--no-preserve=ownership", made, folder / "tree/zfs"], root=True)
        layers.squash(folder / "tree", folder / "zfs.squashfs")
        remove_tree(folder / "tree")

    return cache.built("zfs-image", cache.key(made.parent.name), squash) / "zfs.squashfs"


def plug(running: Running, agent: Agent) -> None:
    """Bring it to a live system that has nothing else to install."""
    running.plug(image())
    script = f"until [ -b {DISK} ]; do udevadm settle; done; mkdir -p {MOUNT}; mount -t squashfs -o ro {DISK} {MOUNT}"
    for each in (script, LOADED):
        answer = agent.shell(each, measured=20)
        assert answer.code == 0, answer.text


def version(unpacked: Path) -> str:
    """Of the lab's kernel, as the packages of its headers have it: `6.12.118+deb13`.

    Args:
        unpacked: The unpacked `linux-image` package.
    """
    (folder,) = (unpacked / "usr/lib/modules").iterdir()
    return folder.name.removesuffix("-amd64")


def _build(folder: Path) -> None:
    release = version(userland.build() / "kernel")
    run(_command(folder, release, *userland.shared_archives()), root=True)
    root, tree = folder / "root", folder / "tree"
    run(entered(root, ["sh", "-c", _BUILD, "build", release]))
    run(["mkdir", "-p", tree], root=True)
    run(["mv", root / "out", tree / "modules"], root=True)
    run(["mv", root / "programs/usr", tree / "usr"], root=True)
    script = folder / "load"
    script.write_text(LOAD)
    run(["install", "-m", "755", script, tree / "load"], root=True)
    script.unlink()
    remove_tree(root)


def _command(folder: Path, release: str, before: str, after: str) -> list[str]:
    """Bootstraps a root with compiler, headers and source; `before` and `after` share downloaded packages."""
    unpack = "for each in /tmp/{}*.deb; do dpkg-deb -x $each {}; done; rm -f /tmp/*.deb"
    fetched = " ".join((*(name.format(release) for name in HEADERS), SOURCE))
    inside = (
        f"cd /tmp && apt-get -qq download {fetched} && {unpack.format('', '/')} && mkdir /programs && "
        f"apt-get -qq download {' '.join(PROGRAMS)} && {unpack.format('', '/programs')} && "
        # A root of ours has /sbin as a link, and nobody reads documentation.
        "rm -rf /programs/usr/share /programs/etc"
    )
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(COMPILER)}",
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=APT::Sandbox::User "root"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        f"--setup-hook={before}",
        f"--customize-hook={after}",
        f"--customize-hook=chroot \"$1\" sh -c '{inside}'",
        "--skip=essential/unlink,download/empty,cleanup/reproducible",
        userland.SUITE,
        f"{folder}/root",
        *ARCHIVES,
    ]
