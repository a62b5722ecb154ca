"""Stage 1 with systemd, as NixOS has it: Debian's programs, and files and units that nixpkgs evaluates to.

Units, upstream units, programs and kernel modules are a golden of a few hosts (tests/nixeval/stage1.py), with and without a
passphrase that is typed over SSH. What differs from host to host is computed here in the way of nixpkgs; a test compares
that with what nixpkgs evaluates to for the golden's host.
"""

import gzip
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from . import network, openzfs
from .initrd import LIBRARIES, LOADER, NEEDED_FOR_BOOT, Archive, Modules, libraries

REMOTE, PLAIN = "encrypted-remote.json", "encrypted-server-unattended.json"
"""Goldens: a passphrase typed over SSH, and none."""
SYSTEMD = "usr/lib/systemd"
SCRIPTS = "usr/lib/unit-scripts"
FSTAB = "/etc/initrd-fstab"
INTERPRETER = "#!/usr/bin/bash\n"
PROGRAMS = (
    *(f"/usr/bin/{name}" for name in ("bash", "cat", "chmod", "cp", "dirname", "echo", "find")),
    *(f"/usr/bin/{name}" for name in ("ln", "ls", "mkdir", "mount", "mv", "readlink", "realpath", "rm")),
    *(
        f"/usr/bin/{name}"
        for name in ("sleep", "systemctl", "journalctl", "systemd-ask-password", "systemd-run", "udevadm")
    ),
    *("/usr/bin/systemd-tty-ask-password-agent", "/usr/bin/systemd-tmpfiles", "/usr/bin/networkctl"),
    *("/usr/bin/systemd-cryptsetup", "/usr/bin/loadkeys", "/usr/bin/setfont", "/usr/bin/umount"),
    *("/usr/bin/gzip", "/usr/bin/kmod", "/usr/sbin/fsck", "/usr/sbin/sulogin", "/usr/sbin/nologin"),
    *("/usr/sbin/chroot", "/usr/sbin/dmsetup", "/usr/sbin/lvm"),
)
"""What nixpkgs puts below /bin, as far as something here runs it."""
CHECKS = {"ext4": "/usr/sbin/fsck.ext4", "xfs": "/usr/sbin/fsck.xfs", "btrfs": "/usr/bin/btrfs"}
"""nixos/modules/tasks/filesystems puts each file system's own programs there."""
REMOTE_PROGRAMS = (
    "/usr/sbin/sshd",
    "/usr/lib/openssh/sshd-auth",
    "/usr/lib/openssh/sshd-session",
    "/usr/bin/dbus-daemon",
)
DBUS = ("dbus.service", "dbus.socket")
"""Units that the package of the message bus brings along (boot.initrd.systemd.packages)."""
OPENED_BY_NAME = (
    "libcryptsetup.so.12",
    "libgcc_s.so.1",
    "libkmod.so.2",
    "libtss2-esys.so.0",
    "libtss2-mu.so.0",
    "libtss2-rc.so.0",
    "libtss2-sys.so.1",
    "libtss2-tcti-device.so.0",
)
"""Libraries that programs load while they run (dlopen), which the loader does not list; as nixpkgs' own list has them."""
TOKENS = f"{LIBRARIES}/cryptsetup/libcryptsetup-token-systemd-tpm2.so"
RULES = "usr/lib/udev/rules.d"
NOT_DEBIAN_ONLY = ("80-debian-compat.rules", "64-md-raid-assembly.rules", "63-md-raid-arrays.rules")
"""Rules that nixpkgs' systemd, LVM and dm do not have."""
VCONSOLE_UNIT = f"""[Unit]
Description=Virtual console: keymap and font
DefaultDependencies=no
ConditionPathExists=/dev/tty0
Before=initrd-switch-root.target shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/{SYSTEMD}/systemd-vconsole-setup
"""
VCONSOLE = f"""{INTERPRETER}# Debian builds its systemd without this program: the keymap of vconsole.conf(5), for every virtual console.
. /etc/vconsole.conf
exec loadkeys --quiet --unicode --console=/dev/tty1 "$KEYMAP"
"""
VCONSOLE_RULE = (
    'ACTION=="add", SUBSYSTEM=="vtconsole", KERNEL=="vtcon*", '
    'RUN+="/usr/bin/systemctl --no-block restart systemd-vconsole-setup.service"\n'
)
DEBIAN_SSHD = "[Service]\nRuntimeDirectory=sshd\n"
"""Debian's sshd locks itself up there, where nixpkgs' has /var/empty."""
RESOLVE = f"""{INTERPRETER}# nixos-init's: where a path of another root leads to.
path=$(realpath --canonicalize-missing "$1$2")
echo "${{path#"$1"}}"
"""
ELF = b"\x7fELF"
UNCHECKED = ("btrfs", "tmpfs", "zfs")
ZFS_PROGRAMS = ("/usr/sbin/zpool", "/usr/sbin/zfs", "/usr/sbin/mount.zfs", "/usr/bin/mawk", "/usr/bin/seq")
"""What nixpkgs adds for it, as far as something here runs it; its awk is another one."""


def remote(given: dict[str, Any]) -> bool:
    """Whether the passphrase is typed over SSH."""
    return bool(given["ssh"].get("enable"))


# What differs from host to host ------------------------------------------------------------------------------------


def crypttab(devices: dict[str, Any]) -> str:
    """nixos/modules/system/boot/luksroot.nix, stage1Crypttab."""
    lines = []
    for name, entry in sorted(devices.items()):
        options = [*entry.get("crypttabExtraOpts", []), *(["discard"] if entry.get("allowDiscards") else [])]
        lines.append(f"{name} {entry['device']} {entry.get('keyFile') or '-'} {','.join(options)}\n")
    return "".join(lines)


def fstab(filesystems: dict[str, Any]) -> str:
    """nixos/modules/tasks/filesystems.nix, initrdFstab."""
    lines = []
    for point in sorted(filesystems, key=lambda path: (path.count("/") if path != "/" else 0, path)):
        entry = filesystems[point]
        if point in NEEDED_FOR_BOOT or entry.get("neededForBoot"):
            options = ",".join(["x-initrd.mount", *(entry.get("options") or [])])
            check = "0" if entry["fsType"] in UNCHECKED else "1" if point == "/" else "2"
            lines.append(f"{entry['device']} {point} {entry['fsType']} {options} 0 {check}\n")
    return "".join(lines)


def sshd_config(settings: dict[str, Any], golden: str) -> str:
    """nixos/modules/system/boot/initrd-ssh.nix: of the golden's text the port and the host keys are another host's."""
    keys = "".join(f"HostKey {path}\n" for path in settings["hostKeys"])
    text = re.sub(r"(?m)^Port .*$", f"Port {settings['port']}", golden)
    return re.sub(r"(?m)(?:^HostKey .*\n)+", keys, text)


def files(given: dict[str, Any], golden: dict[str, Any]) -> dict[str, str]:
    """Every text file of stage 1, by its path."""
    found = {path: debian(text) for path, text in golden["contents"].items() if not path.startswith("/bin")}
    # The golden's host has a VLAN.
    loaded = sorted({*golden["loaded"], *given["loaded"]} - ({"8021q"} - set(given["loaded"])))
    found |= {
        **({"/etc/crypttab": crypttab(given["luks"])} if given["luks"] else {}),
        FSTAB: fstab(given["filesystems"]),
        "/etc/hostname": given["hostName"],
        "/etc/vconsole.conf": f"KEYMAP={given['keymap']}\n\n",
        "/etc/modules-load.d/nixos.conf": "\n".join(loaded),
        # As nixos/modules/services/hardware/udev.nix puts stage 1's programs there.
        "/etc/udev/rules.d/99-local.rules": golden["rules"].replace("/run/current-system/systemd", "/usr"),
    }
    if remote(given):
        ssh = given["ssh"]
        found["/etc/ssh/sshd_config"] = sshd_config(ssh, golden["contents"]["/etc/ssh/sshd_config"])
        found["/etc/ssh/authorized_keys.d/root"] = "\n".join(ssh["authorizedKeys"])
    found |= {f"/etc/{path}": text for path, text in network.files(given["systemd"]["network"]).items()}
    return found


# From the golden ----------------------------------------------------------------------------------------------------


def debian(text: str) -> str:
    """Store paths, which the golden names `@package@`, as Debian's."""
    for pattern, path in (
        (r"@initrd-fstab@", FSTAB),
        (r"@unit-script-[^@]*@/bin/", f"/{SCRIPTS}/"),
        (r"@openssh@/bin/sshd", "/usr/sbin/sshd"),
        (r"@shadow@/bin/nologin", "/usr/sbin/nologin"),
        (r"@nixos-init@/bin", "/usr/bin"),
        (r"@[a-z0-9.-]+@/", "/usr/"),
    ):
        text = re.sub(pattern, path, text)
    return text


def units(golden: dict[str, Any], upstream: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Files and links of /etc/systemd/system, as nixos/lib/systemd-lib.nix's generateUnits lays them out.

    Args:
        golden: What nixpkgs evaluates to.
        upstream: Units that systemd itself has here.
    """
    texts: dict[str, str] = {}
    links: dict[str, str] = {}
    for name, unit in golden["units"].items():
        # What adds to a unit that Debian does not have here (systemd-resolved) is none by itself.
        if name not in upstream and name in golden["upstream"]:
            continue
        # A device has no file: what is said of one adds to what udev tells.
        adds = name in upstream or name.endswith(".device")
        texts[f"{name}.d/overrides.conf" if adds else name] = debian(unit["text"])
        links |= dict.fromkeys(unit["aliases"], name)
        for kind, option in (("wants", "wantedBy"), ("requires", "requiredBy")):
            links |= {f"{target}.{kind}/{name}": f"../{name}" for target in unit[option]}
    return texts, links


# The archive --------------------------------------------------------------------------------------------------------


class Stage1:
    """One initial RAM disk in the making."""

    def __init__(
        self, given: dict[str, Any], golden: dict[str, Any], archive: Archive, names: Iterable[str]
    ) -> None:
        self.given, self.golden, self.archive, self.names = given, golden, archive, names
        self.userland, self.linux = Path(given["userland"]), Path(given["linux"])
        self.zfs = Path(given["zfs"]) if "zfs" in given else None
        """What the lab has of ZFS, beside the userland; none: the host does not use it."""

    def write(self) -> None:
        """Everything."""
        for folder in ("dev", "nix/store", "proc", "sys", "run", "sysroot", "tmp", "var/empty", "root"):
            self.archive.folder(folder)
        self.archive.device("dev/console", 5, 1)
        self.archive.link("init", f"/{SYSTEMD}/systemd")
        for name in ("bin", "sbin", "lib", "lib64"):
            self.archive.link(name, f"usr/{name}")
        self.archive.link("usr/lib64", "lib/x86_64-linux-gnu")
        self.archive.link("var/run", "/run")
        self._modules()
        self._programs()
        self._units()
        self._rules()
        self._keymaps()
        for path, text in files(self.given, self.golden).items():
            self.archive.file(path, text.encode())
        for name, text in self.golden["scripts"].items():
            self.archive.file(f"{SCRIPTS}/{name}", (INTERPRETER + debian(text)).encode(), executable=True)
        if self.zfs:
            self.archive.file("etc/hostid", openzfs.host_id(self.given["hostId"]))

    def _programs(self) -> None:
        programs = [*PROGRAMS, *(REMOTE_PROGRAMS if remote(self.given) else ())]
        kinds = {line.split()[2] for line in fstab(self.given["filesystems"]).splitlines()}
        programs += [CHECKS[kind] for kind in sorted(kinds) if kind in CHECKS]
        # What nixpkgs names of its systemd, as far as Debian has the same.
        named = (
            path.removeprefix("@systemd@/")
            for path in self.golden["store"]
            if path.startswith("@systemd@/lib/")
        )
        programs += [f"/usr/{path}" for path in named if (self.userland / "usr" / path).is_file()]
        if self.zfs:
            helpers = (
                path.partition("@/")[2]
                for path in self.golden["store"]
                if path.startswith("@zfs-user@/lib/udev/")
            )
            programs += [*ZFS_PROGRAMS, *(f"/usr/{path}" for path in helpers)]
            self.archive.link("usr/bin/awk", "mawk")
        for program in [*programs, TOKENS]:
            self._with_libraries(program)
        for name in OPENED_BY_NAME:
            self._with_libraries(f"{LIBRARIES}/{name}")
        self._file(LOADER)
        # nixpkgs has the same in both folders.
        for program in programs:
            if program.startswith("/usr/sbin/"):
                self.archive.link(f"usr/bin/{Path(program).name}", f"../sbin/{Path(program).name}")
        for tool in ("modprobe", "insmod", "lsmod", "rmmod"):
            self.archive.link(f"usr/sbin/{tool}", "../bin/kmod")
            self.archive.link(f"usr/bin/{tool}", "kmod")
        self.archive.link("usr/bin/sh", "bash")
        for name, text in (
            ("bin/resolve-in-root", RESOLVE),
            ("lib/systemd/systemd-vconsole-setup", VCONSOLE),
        ):
            self.archive.file(f"usr/{name}", text.encode(), executable=True)
        self.archive.link(f"{SYSTEMD}/systemd-cryptsetup", "../../bin/systemd-cryptsetup")
        if remote(self.given):
            for folder in ("share/dbus-1/system.d", "share/dbus-1/system-services"):
                self._folder(f"usr/{folder}")
            self._file("/usr/share/dbus-1/system.conf")

    def _with_libraries(self, program: str) -> None:
        self._file(program)
        root, real = self._found(program)
        with real.open("rb") as file:
            if file.read(4) != ELF:
                return
        for path in libraries(self.userland, f"/{real.relative_to(root)}", self.zfs):
            self._file(path)

    def _found(self, path: str) -> tuple[str, Path]:
        """Which tree has it, and where it leads to there."""
        roots = (self.userland, *((self.zfs,) if self.zfs else ()))
        root = next((each for each in roots if os.path.lexists(f"{each}{path}")), self.userland)
        return os.path.realpath(root), Path(os.path.realpath(f"{root}{path}"))

    def _file(self, path: str) -> None:
        _, real = self._found(path)
        self.archive.file(path, real.read_bytes(), executable=os.access(real, os.X_OK) or path == LOADER)

    def _folder(self, folder: str) -> None:
        for path in sorted((self.userland / folder).iterdir()):
            if path.is_file():
                self._file(f"/{folder}/{path.name}")

    def _units(self) -> None:
        source = self.userland / "usr/lib/systemd/system"
        upstream = {name for name in self.golden["upstream"] if (source / name).exists()}
        place = "etc/systemd/system"
        for name in sorted(upstream):
            self._unit(source / name, f"{place}/{name}")
        own = {"systemd-vconsole-setup.service": VCONSOLE_UNIT}
        if remote(self.given):
            own |= {name: (source / name).read_text() for name in DBUS}
        for link in sorted((source / "sysinit.target.wants").iterdir()):
            if link.name in upstream:
                self.archive.link(f"{place}/sysinit.target.wants/{link.name}", f"../{link.name}")
        texts, links = units(self.golden, upstream | own.keys())
        if remote(self.given):
            own["sshd.service.d/debian.conf"] = DEBIAN_SSHD
        for name, text in (own | texts).items():
            self.archive.file(f"{place}/{name}", text.encode())
        for name, target in links.items():
            self.archive.link(f"{place}/{name}", target)

    def _unit(self, source: Path, place: str) -> None:
        if source.is_symlink():
            self.archive.link(place, str(source.readlink()))
        else:
            self.archive.file(place, source.read_bytes())

    def _rules(self) -> None:
        for path in sorted((self.userland / RULES).iterdir()):
            if path.name not in NOT_DEBIAN_ONLY:
                self._file(f"/{RULES}/{path.name}")
        for path in sorted((self.zfs / RULES).iterdir()) if self.zfs else ():
            self._file(f"/{RULES}/{path.name}")
        self.archive.file(f"{RULES}/90-vconsole.rules", VCONSOLE_RULE.encode())

    def _keymaps(self) -> None:
        for name in ("i386", "include"):
            folder = self.userland / "usr/share/keymaps" / name
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    place = f"usr/share/keymaps/{path.relative_to(self.userland / 'usr/share/keymaps')}"
                    # Unpacked: each would be a program to start, in an emulated machine.
                    content = path.read_bytes()
                    if path.suffix == ".gz":
                        place, content = place.removesuffix(".gz"), gzip.decompress(content)
                    self.archive.file(place, content)

    def _modules(self) -> None:
        source = next((self.linux / "lib/modules").iterdir())
        modules = Modules(source)
        names = {*self.golden["available"], *self.golden["loaded"], *self.names}
        order = modules.closure(sorted(name for name in names if modules.known(name)))
        version = source.name
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / "lib/modules" / version
            for path in order:
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes((source / path).read_bytes())
            for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
                (place / name).write_bytes((source / name).read_bytes())
            # udev finds modules by their aliases: the index of exactly these.
            argv = [
                f"{self.userland}{LOADER}",
                "--argv0",
                "depmod",
                "--library-path",
                f"{self.userland}{LIBRARIES}",
            ]
            subprocess.run([*argv, f"{self.userland}/usr/bin/kmod", "-b", scratch, version], check=True)
            for file in _files(place):
                self.archive.file(f"usr/lib/modules/{version}/{file.relative_to(place)}", file.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def write(
    stream: IO[bytes], given: dict[str, Any], names: Iterable[str], goldens: Path, case: str | None = None
) -> None:
    """The whole archive, uncompressed.

    Args:
        stream: Where it goes.
        given: What Nix wrote of the host.
        names: Kernel modules beside those that nixpkgs names.
        goldens: Folder of what nixpkgs evaluates to.
        case: Which of them; none: the one that is nearest.
    """
    if case is None and "zfs" in given:
        golden = openzfs.golden(goldens, given)
    else:
        name = f"{case}.json" if case else REMOTE if remote(given) else PLAIN
        golden = json.loads((goldens / name).read_text())
    archive = Archive(stream)
    Stage1(given, golden, archive, names).write()
    archive.close()
