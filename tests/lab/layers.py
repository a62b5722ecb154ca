"""The medium's two layers and the ISO image made of them.

The base layer is big and changes with the list of packages: the userland and the kernel, as paths of a Nix store.
The code layer is small and changes with our code: the flakes that a host is built from, Nix's database, the live
system's few scripts. A change of code makes a new ISO in seconds.
"""

import json
import shutil
import time
from functools import cache as once
from pathlib import Path
from typing import Any

from installer import VERSION, embed
from installer.medium import FlakeSource, Medium, ReadyClosure
from tests.lab import cache, guest, kernel, userland
from tests.lab.command import run
from tests.lab.nixpkgs.builder.initrd import Modules, write
from tests.lab.paths import LAB, REPOSITORY
from tests.lab.tools import entered, tool

RELEASE = "26.05"
LIVE_MODULES = [
    "virtio_pci",
    "virtio_blk",
    "nvme",
    "ahci",
    "sd_mod",
    "sr_mod",
    "isofs",
    "squashfs",
    "overlay",
    "loop",
    "xhci_pci",
    "usb_storage",
    "virtio_scsi",
]
SKELETON = ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "home", "boot", "iso", "payload", "var")
PACKAGE = ("installer", "hv", "iso", "templates")
"""Folders that make up the installed program."""
POLKIT = REPOSITORY / "tests/golden/security/setup/polkit.rules"
"""As the modules evaluate to it."""
ROLES = REPOSITORY / "nix/modules/privileges/roles.json"
"""The roles of people, as the modules read them."""
STAGE1 = REPOSITORY / "tests/golden/stage1"
"""What stage 1 with systemd evaluates to."""
GUARD = REPOSITORY / "tests/golden/services/host/hyper-nixos-guard.service"
"""The unit that minds changes which wait to be confirmed, as the modules evaluate to it."""
UNREAD = (
    "usr/share/perl",
    "usr/share/perl5",
    "usr/share/alsa",
    "usr/share/bash-completion",
    "usr/share/zsh",
    *(
        f"usr/share/{name}"
        for name in ("apt", "ca-certificates", "consolefonts", "consoletrans", "keyrings")
    ),
    *(f"usr/share/{name}" for name in ("fonts-font-awesome", "javascript", "nodejs", "sphinx_rtd_theme")),
    "usr/share/grub/*.pf2",
    "usr/share/ovmf",
    "usr/share/OVMF/*.strictnx.fd",
    *(
        f"usr/share/qemu/{name}"
        for name in ("*.dtb", "*.lid", "hppa*", "openbios*", "palcode*", "s390*", "slof*", "u-boot*")
    ),
    "usr/share/qemu/trace-events-all",
    "etc/ssl/certs/*.[p0]*",
    "usr/bin/*perl*",
    "usr/bin/age-keygen",
    *(f"usr/bin/qemu-{name}" for name in ("io", "nbd", "pr-helper", "storage-daemon", "vmsr-helper")),
    *(
        f"usr/bin/grub-{name}"
        for name in ("f*", "gl*", "m[eo]*", "mkl*", "mkn*", "mkrescue", "mks*", "render*", "s*")
    ),
    "usr/bin/pzstd",
    "usr/bin/sqv",
    "usr/sbin/grub-mac*",
    "usr/lib/apt",
    "usr/lib/grub/x86_64-efi*",
    "usr/lib/udev/hwdb.d",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/libperl.so*",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/lib/x86_64-linux-gnu/perl5",
    "usr/lib/x86_64-linux-gnu/perl",
    "usr/lib/file",
    *(f"usr/lib/python3.13/{name}" for name in ("test", "pydoc_data", "turtle.py")),
    *(
        f"usr/lib/python3/dist-packages/{name}"
        for name in (
            *("pygments", "markdown_it", "mdurl", "uc_micro", "uvloop", "wsproto"),
            *(f"sqlalchemy/dialects/{name}" for name in ("mssql", "mysql", "oracle", "postgresql")),
            *("sqlalchemy/testing", "lxml/html", "lxml/includes", "lxml/isoschematron"),
        )
    ),
)
"""Below the userland's root: Perl and its library, converters of foreign encodings, fonts, firmware of other processors,
what makes media and packages, certificates one by one, what rich, uvicorn and SQLAlchemy could also use.
"""
IMAGE = "/live/images/marker.raw"
"""The guest image, on the medium."""


@once
def base() -> Path:
    """The base layer: `tree`, `base.squashfs`, `sources.json` (name to hash) and `paths.json` (name to store path)."""
    tools = userland.build()
    content = cache.key(tools.name, kernel.MODULES, SKELETON, UNREAD, "base 5")
    return cache.built("base", content, _base)


def _base(folder: Path) -> None:
    tools = userland.build()
    scratch = folder / "scratch"
    tree = folder / "tree"
    for name in SKELETON:
        (tree / name).mkdir(parents=True)
    linux = scratch / "linux-lab"
    linux.mkdir(parents=True)
    kernel.prune(tools / "kernel", linux)
    version = next((linux / "lib/modules").iterdir()).name
    debian = scratch / "debian-userland"
    debian.mkdir()
    # depmod wants lib/modules below its base; hard links make the store's source without copying a file.
    tool("depmod", "-b", linux, version)
    run(["cp", "-al", *(tools / "root" / name for name in ("usr", "etc")), debian], root=True)
    # What no program of the host reads: each file costs milliseconds in an emulated machine, each MB a tenth of a second.
    run(["rm", "-rf", *(path for pattern in UNREAD for path in debian.glob(pattern))], root=True)
    run(["ln", "-s", "/run/booted-system/kernel-modules/lib/modules", debian / "usr/lib/modules"], root=True)
    compile_python(debian / "usr/lib/python3.13", debian / "usr/lib/python3")
    nix = ("nix", "--extra-experimental-features", "nix-command", "--store", f"local?root={tree}")
    paths, sources = {}, {}
    for path in (debian, linux):
        paths[path.name] = tool(*nix, "store", "add-path", "--name", path.name, path).strip()
        info = json.loads(tool(*nix, "path-info", "--json", paths[path.name]))
        sources[path.name] = info[paths[path.name]]["narHash"]
    run(["rm", "-rf", scratch], root=True)
    usr = paths["debian-userland"]
    (tree / "usr").symlink_to(f"{usr}/usr")
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    run(["cp", "-a", f"{tree}{usr}/etc", f"{tree}/etc"], root=True)
    run(["chmod", "-R", "u+w", f"{tree}/etc"], root=True)
    run(["rm", "-f", f"{tree}/etc/mtab", f"{tree}/etc/resolv.conf"], root=True)
    (folder / "sources.json").write_text(json.dumps(sources))
    (folder / "paths.json").write_text(json.dumps(paths))
    squash(tree, folder / "base.squashfs")


def compile_python(*folders: Path) -> None:
    """Byte code that does not look at its source's time: the Nix store sets every time to 1970, and an emulated
    processor takes a quarter of a minute to compile what the installer imports.
    """
    # 1: some files of the standard library's tests are broken on purpose.
    mode = ("--invalidation-mode", "unchecked-hash", "-q", "-f", "-j", "2")
    tool("sh", "-c", 'python3 -m compileall "$@" || [ $? = 1 ]', "compileall", *mode, *folders)


def squash(tree: Path, image: Path) -> None:
    """A squashfs of a tree; lz4 is what an emulated processor unpacks fastest."""
    tool("mksquashfs", tree, image, "-quiet", "-no-progress", "-no-xattrs", "-noappend", "-comp", "lz4")
    run(["chmod", "a+r", image], root=True)


def compose_nixpkgs(folder: Path, sources: dict[str, str]) -> None:
    """The stand-in nixpkgs as a source tree."""
    shutil.copytree(LAB / "nixpkgs", folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copytree(STAGE1, folder / "stage1")
    (folder / "sources.json").write_text(json.dumps(sources))


def compose_hyper_nixos(folder: Path) -> None:
    """The stand-in Hyper-NixOS flake as a source tree, with the checkout's programs and unit goldens in it."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(LAB / "hyper_nixos", folder, ignore=ignore)
    units = folder / "units"
    shutil.copytree(REPOSITORY / "tests/golden/units", units, ignore=ignore)
    shutil.copy(POLKIT, folder / POLKIT.name)
    shutil.copy(ROLES, folder / ROLES.name)
    shutil.copy(GUARD, units)
    package = folder / "package"
    for name in PACKAGE:
        if (REPOSITORY / name).exists():
            shutil.copytree(REPOSITORY / name, package / name, ignore=ignore)
    if (REPOSITORY / "templates").exists() and not (package / "installer/templates").exists():
        shutil.copytree(REPOSITORY / "templates", package / "installer/templates", ignore=ignore)
    (package / "bin").mkdir()
    for name, module in {"hv": "hv.cli", "hvd": "hv.daemon.run", "hv-hostd": "hv.hostd.__main__"}.items():
        launcher = package / "bin" / name
        launcher.write_text((folder / "launcher.py").read_text().replace("hv.cli", module))
        launcher.chmod(0o755)
    compile_python(package)


@once
def code() -> Path:
    """The code layer: `tree`, `code.squashfs` and `medium.json`."""
    below = base()
    content = cache.key(
        below.name,
        LAB / "nixpkgs",
        LAB / "hyper_nixos",
        LAB / "live",
        Path(guest.__file__),
        REPOSITORY / "tests/golden/units",
        STAGE1,
        POLKIT,
        ROLES,
        GUARD,
        *(REPOSITORY / name for name in PACKAGE),
    )
    return cache.built("code", content, _code)


def _code(folder: Path) -> None:
    below = base()
    sources = json.loads((below / "sources.json").read_text())
    scratch = folder / "scratch"
    scratch.mkdir()
    compose_nixpkgs(scratch / "nixpkgs", sources)
    compose_hyper_nixos(scratch / "hyper-nixos")
    tree = folder / "tree"
    tree.mkdir()
    with Overlay(below / "tree", tree, folder) as root:
        flakes = {name: _add_flake(root, scratch / name) for name in ("nixpkgs", "hyper-nixos")}
        store = json.loads(root.run("nix", "path-info", "--json", "--all"))
    size = sum(store[path]["narSize"] for path in json.loads((below / "paths.json").read_text()).values())
    medium = Medium(
        label=f"Hyper-NixOS {VERSION} (lab)",
        release=RELEASE,
        nixpkgs=flakes["nixpkgs"],
        hyper_nixos=flakes["hyper-nixos"],
        estimated_closure=size,
        images={"marker": IMAGE},
    )
    (folder / "medium.json").write_text(medium.model_dump_json(indent=1))
    live = folder / "live-files"
    shutil.copytree(LAB / "live", live / "live", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("init", "agent.py"):
        (live / "live" / name).chmod(0o755)
    (live / "live/bin").mkdir()
    (live / "live/bin/hv").symlink_to(f"{flakes['hyper-nixos'].store_path}/package/bin/hv")
    (live / IMAGE[1:]).parent.mkdir()
    (live / IMAGE[1:]).write_bytes(guest.image())
    for name, text in {
        "etc/hyper-nixos/medium.json": (folder / "medium.json").read_text(),
        "etc/nix/nix.conf": (LAB / "live/nix.conf").read_text(),
        "etc/hostname": "live\n",
        "etc/hosts": "127.0.0.1 localhost live\n",
        "etc/os-release": 'ID=nixos\nVARIANT_ID=lab-live\nPRETTY_NAME="Hyper-NixOS lab medium"\n',
    }.items():
        path = live / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run(["cp", "-a", "--no-preserve=ownership", f"{live}/.", tree], root=True)
    run(["rm", "-rf", scratch, live], root=True)
    squash(tree, folder / "code.squashfs")


class Overlay:
    """A live root put together on the host: `upper` over `lower`, entered to run Nix in it as the medium would."""

    def __init__(self, lower: Path, upper: Path, scratch: Path) -> None:
        self._lower, self._upper, self._scratch = lower, upper, scratch
        self.root = scratch / "merged"

    def __enter__(self) -> "Overlay":
        work = self._scratch / "work"
        for folder in (work, self.root):
            folder.mkdir(exist_ok=True)
        options = f"lowerdir={self._lower},upperdir={self._upper},workdir={work}"
        run(["mount", "-t", "overlay", "-o", options, "overlay", self.root], root=True)
        run(["mkdir", "-p", self.root / "etc/nix"], root=True)
        run(["cp", LAB / "live/nix.conf", self.root / "etc/nix/nix.conf"], root=True)
        return self

    def __exit__(self, *_: object) -> None:
        run(["umount", self.root], root=True)
        run(["rm", "-rf", self._scratch / "work", self.root], root=True)

    def run(self, *argv: str | Path) -> str:
        """Run a command in it, as root."""
        return run(entered(self.root, argv))


def _add_flake(root: Overlay, source: Path) -> FlakeSource:
    path = root.run("nix", "store", "add-path", "--name", "source", source).strip()
    info: dict[str, Any] = json.loads(root.run("nix", "path-info", "--json", path))[path]
    reference: dict[str, Any] = {"type": "path", "path": path}
    locked = {**reference, "narHash": info["narHash"], "lastModified": 1}
    return FlakeSource(url=f"path:{path}", locked=locked, original=reference, store_path=path)


@once
def iso() -> Path:
    """The hybrid ISO image: boots as CD under UEFI and BIOS, and as a stick."""
    below, above = base(), code()
    area = Path(embed.__file__)
    content = cache.key(below.name, above.name, LAB / "live", LIVE_MODULES, area)
    return cache.built("iso", content, _iso) / "live.iso"


def _iso(folder: Path) -> None:
    below, above = base(), code()
    paths = json.loads((below / "paths.json").read_text())
    linux = below / "tree" / paths["linux-lab"][1:]
    tree = folder / "tree"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "live").mkdir()
    shutil.copy(linux / "bzImage", tree / "boot/vmlinuz")
    initrd = folder / "initrd"
    with initrd.open("wb") as stream:
        write(
            stream,
            userland=below / "tree" / paths["debian-userland"][1:],
            modules=Modules(next((linux / "lib/modules").iterdir())),
            names=LIVE_MODULES,
            init=(LAB / "live/stage1.sh").read_bytes(),
        )
    tool("zstd", "-q", "-6", initrd, "-o", tree / "boot/initrd")
    menu = (LAB / "live/grub.cfg").read_text().replace("@pad@", embed.kernel_argument())
    (tree / "boot/grub/grub.cfg").write_text(menu)
    # The place for answers, as on the real medium (iso/media/area.nix).
    (tree / embed.PATH).parent.mkdir()
    (tree / embed.PATH).write_bytes(embed.pack({}))
    for layer, image in ((below, "base.squashfs"), (above, "code.squashfs")):
        # The layers are root's, and the kernel lets nobody else link them (fs.protected_hardlinks).
        run(["ln", layer / image, tree / "live" / image], root=True)
    tool("grub-mkrescue", "-o", folder / "live.iso", tree, "--", "-volid", "HYPERNIXOS")
    run(["rm", "-rf", tree, initrd], root=True)
    run(["chmod", "a+r", folder / "live.iso"], root=True)
    (folder / "built").write_text(str(time.time()))


__all__ = ["IMAGE", "Overlay", "ReadyClosure", "base", "code", "iso"]
