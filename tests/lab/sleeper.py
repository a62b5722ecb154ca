"""A machine without an installed system: the plan's own commands make its disks, what nixpkgs evaluates to is its stage 1.

QEMU starts its kernel without a boot loader, with the host's own kernel parameters. Its stage 2 is small: it keeps a random
mark in memory, does what it is told over the serial line, and goes to sleep by systemd's own unit, which also tells the
firmware where the image is.
"""

import io
import json
import re
import shlex
import shutil
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from installer.plan.actions import MakeDirectory, PartitionSpec, Run, WritePartitionTable
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests.lab import layers, userland
from tests.lab.command import run
from tests.lab.machine import OVMF_VARIABLES, STALLED, Disk, Hardware, Machine, Running
from tests.lab.nixpkgs.builder import stage1
from tests.lab.nixpkgs.builder.initrd import LIBRARIES, LOADER, Modules, libraries, write
from tests.lab.recorder import Recorder
from tests.lab.small import PREPARE, TOPLEVEL, given, on_linux, write_initrd
from tests.lab.tools import entered
from tests.lab.unlocking import ASKED
from tests.nixeval.cases import MEDIUM, inputs

PASSPHRASE = "the dormouse sleeps until spring"
MEMORY = 2048
"""MiB, as the machine of the cases has it."""
LATE = 100
"""Seconds. systemd waits 90 for a device, unless it is told otherwise (systemd-system.conf(5), DefaultDeviceTimeoutSec)."""
GIVEN_UP = r"Timed out waiting for device|emergency mode|Dependency failed"
MADE = "the disk is made"
STEPS = re.compile(r"(?:encrypt|open|create|activate|format|mount|unmount)\b(?!-(?:esp|boot)[-0-9]*$)")
"""Of the plan, those that make the system's disk."""
MAKERS = (
    *("/usr/sbin/cryptsetup", "/usr/sbin/lvm", "/usr/sbin/mkfs.ext4", "/usr/sbin/mkfs.btrfs"),
    *("/usr/bin/btrfs", "/usr/sbin/mkswap", "/usr/sbin/swapon", "/usr/sbin/swapoff", "/usr/sbin/sfdisk"),
    *("/usr/sbin/wipefs", "/usr/bin/sync", "/usr/bin/mount", "/usr/bin/umount"),
)
PATHS = {Path(path).name: path for path in MAKERS}
LVM = ("pvcreate", "vgcreate", "lvcreate", "vgchange")
MAKE = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
modprobe -a $(cat /etc/modules) 2>/dev/null
sh -ex /etc/made </dev/null >/dev/ttyS0 2>&1 && echo "@made@" >/dev/ttyS0
sync
poweroff -f
"""
BEGIN = """mkdir -p /dev/disk/by-id /run/cryptsetup /run/lock/lvm
for disk in {disks}; do
    device=/dev/${{disk%%:*}} name=/dev/disk/by-id/virtio-${{disk##*:}}
    /usr/sbin/sfdisk --quiet $device </etc/${{disk##*:}}
    ln -s $device $name
    for number in 1 2 3; do ln -s $device$number $name-part$number; done
done
"""
LUKS_HEADER = 16 << 20
"""Bytes in front of what LUKS2 encrypts (cryptsetup(8))."""
PHYSICAL = 1 << 20
"""Bytes in front of a physical volume's first extent (pvcreate(8))."""
PROGRAMS = (
    *(f"/usr/lib/systemd/{name}" for name in ("systemd", "systemd-executor", "systemd-sleep")),
    *("/usr/lib/systemd/systemd-hibernate-resume", "/usr/bin/systemctl"),
    *("/usr/sbin/swapon", "/usr/sbin/mkswap", "/usr/bin/btrfs"),
)
"""Of stage 2."""
UNITS = (
    *("hibernate.target", "sleep.target", "systemd-hibernate.service", "systemd-hibernate-clear.service"),
    *("shutdown.target", "umount.target", "system.slice", "-.slice"),
)
"""Of systemd's own in stage 2, as far as it has them in files."""
OWN_UNITS = {
    "default.target": "[Unit]\nRequires=sleeper.service\nAllowIsolate=yes\n",
    "sleeper.service": """[Unit]
DefaultDependencies=no
Wants=systemd-hibernate-clear.service
After=systemd-hibernate-clear.service

[Service]
ExecStart=/usr/bin/busybox sh /sleeper
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
""",
}
LOCATION = "/sys/firmware/efi/efivars/HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67"
"""Where systemd says in which file the image is (systemd-hibernate-resume(8))."""
SLEEPER = f"""export PATH=/usr/bin:/usr/sbin
busybox --install -s /usr/bin 2>/dev/null
# Else the kernel's words may come between those of a line.
dmesg -n 1
mark=$(cat /proc/sys/kernel/random/uuid)
MARK=$mark sleep 1000000 &
keeper=$!
echo $mark >/run/mark
starts=$(($(cat /starts 2>/dev/null || echo 0) + 1))
echo $starts >/starts
sync
# A kernel that comes back remembers variables that are gone: as empty files.
tell() {{
    echo "STATE $1: start=$starts boot=$(cat /proc/sys/kernel/random/boot_id) mark=$mark" \\
        "kept=$(tr '\\0' '\\n' </proc/$keeper/environ | sed -n s/^MARK=//p) tmpfs=$(cat /run/mark)" \\
        "wrote=$(cat /wrote 2>/dev/null) there=$(cat /starts)" \\
        "firmware=$([ $(cat {LOCATION} 2>/dev/null | wc -c) -gt 0 ] && echo told || echo nothing)."
}}
@swap@
cat /proc/swaps
tell new
while read -r word rest; do
    case $word in
        write) echo "$rest" >/wrote; tell written ;;
        hibernate)
            if systemctl start hibernate.target; then tell awake; else dmesg | tail -n 20; tell refused; fi ;;
        reserve) echo $rest >/proc/sys/vm/nr_hugepages; echo "RESERVED $(cat /proc/sys/vm/nr_hugepages)" ;;
        show) /usr/bin/btrfs filesystem show /; echo SHOWN ;;
        off) sync; poweroff -f ;;
    esac
done
"""
STATE = (
    r"STATE {}: start=(?P<start>\d+) boot=(?P<boot>\S+) mark=(?P<mark>\S+) kept=(?P<kept>\S*) tmpfs=(?P<tmpfs>\S*) "
    r"wrote=(?P<wrote>\S*) there=(?P<there>\d+) firmware=(?P<firmware>\w+)\."
)
SWAP_FILE = """if [ ! -e {path} ]; then
    mkdir -p {folder}
    /usr/bin/btrfs filesystem mkswapfile --size {size}M --uuid clear {path}
fi
/usr/sbin/swapon {path}"""
"""As the unit does that NixOS makes for it (nixos/modules/config/swap.nix)."""


def commands(plan: Plan) -> Iterator[str]:
    """What makes the system's disk, in the plan's own words, until it is unmounted."""
    for step in plan.steps:
        if not STEPS.match(step.id):
            continue
        if step.id == "unmount":
            yield "cd /mnt && tar xf /etc/root.tar && cd /"
        for action in step.actions:
            match action:
                case Run(argv=argv, stdin=secret) if not argv[-1].startswith("/mnt/boot"):
                    program = "lvm" if argv[0] in LVM else argv[0]
                    # Busybox's shell would take its own of the same name.
                    words = shlex.join((PATHS[program], *argv[program != "lvm" :]))
                    yield f"{words} </etc/passphrase" if secret else words
                case MakeDirectory(path=path):
                    yield f"mkdir -p {shlex.quote(path)}"


def tables(plan: Plan) -> tuple[tuple[PartitionSpec, ...], ...]:
    """The plan's partitions, disk by disk."""
    return tuple(
        action.partitions
        for step in plan.steps
        for action in step.actions
        if isinstance(action, WritePartitionTable)
    )


def sfdisk(partitions: Iterable[PartitionSpec]) -> str:
    """As sfdisk(8) reads them."""
    lines = (
        f"{each.number}: start={each.start // 512}, size={each.size // 512}, type={each.type_uuid}\n"
        for each in partitions
    )
    return f"label: gpt\nunit: sectors\n\n{''.join(lines)}"


class Sleeper:
    """The machine, in a folder, with its disk made."""

    def __init__(self, folder: Path, case: str) -> None:
        self.folder, self.case = folder, case
        folder.mkdir(parents=True, exist_ok=True)
        facts, answers = inputs(case)
        self.plan = make_plan(facts, answers, MEDIUM)
        self.host = on_linux(given(case))
        self.golden = json.loads((layers.STAGE1 / f"{case}.json").read_text())
        self.userland, self.linux = Path(self.host["userland"]), Path(self.host["linux"])
        self.encrypted = bool(self.host["luks"])
        self._hardware = Hardware(
            firmware=self.plan.host.firmware,
            disks=tuple(Disk(str(each.serial), size=str(each.size), bus="virtio") for each in facts.disks),
            memory=MEMORY,
            network=False,
        )
        self.image = folder / f"{facts.disks[0].serial}.qcow2"
        write_initrd(folder / "initrd", self.host, answers.storage.filesystem, case)
        self.machine().create()
        self._make()

    def machine(self, *more: str) -> Machine:
        """The host, with further kernel parameters."""
        parameters = ("no_timer_check", *self.golden["parameters"], "console=ttyS0,115200", "loglevel=7")
        return self._machine("initrd", (*parameters, f"init={TOPLEVEL}/init", *more))

    def forget(self) -> None:
        """The firmware's variables as they leave the factory."""
        shutil.copyfile(userland.build() / "root" / OVMF_VARIABLES, self.folder / "variables.fd")

    def swap_offset(self) -> int:
        """Where swap begins on the disk: the first logical volume, or a partition. Bytes."""
        (partitions,) = tables(self.plan)
        if self.encrypted:
            return partitions[-1].start + LUKS_HEADER + PHYSICAL
        return partitions[-2].start

    def ruin(self, offset: int, size: int) -> None:
        """Overwrite a stretch of the disk."""
        argv = ["qemu-io", "-f", "qcow2", "-c", f"write -P 0xa5 {offset} {size}", str(self.image)]
        run(entered(userland.build() / "root", argv, keep_user=True))

    def _machine(self, initrd: str, parameters: tuple[str, ...]) -> Machine:
        words = ("-kernel", str(self.linux / "bzImage"), "-initrd", str(self.folder / initrd))
        return Machine(self._hardware, self.folder, further=(*words, "-append", " ".join(parameters)))

    def _make(self) -> None:
        kinds = {each.kind for each in self.plan.host.filesystems} & stage1.FILESYSTEM_MODULES.keys()
        modules = Modules(next((self.linux / "lib/modules").iterdir()))
        names = (
            *("virtio_pci", "virtio_blk", *stage1.CHECKSUMS, *stage1.LUKS_MODULES, *stage1.VOLUME_MODULES),
            *(
                name
                for kind in sorted(kinds - stage1.STAGE_2_ONLY)
                for name in stage1.FILESYSTEM_MODULES[kind]
            ),
        )
        names_of = (
            f"vd{letter}:{disk.serial}" for letter, disk in zip("ab", self._hardware.disks, strict=False)
        )
        made = BEGIN.format(disks=" ".join(names_of)) + "".join(f"{line}\n" for line in commands(self.plan))
        with (self.folder / "maker").open("wb") as stream:
            write(
                stream,
                userland=self.userland,
                modules=modules,
                names=[name for name in names if modules.known(name)],
                init=MAKE.replace("@made@", MADE).encode(),
                programs=MAKERS,
                files={
                    "etc/passphrase": PASSPHRASE.encode(),
                    # Nobody answers udev's part here.
                    "etc/lvm/lvm.conf": b"activation { udev_sync = 0 udev_rules = 0 }\n",
                    **{
                        f"etc/{disk.serial}": sfdisk(partitions).encode()
                        for disk, partitions in zip(self._hardware.disks, tables(self.plan), strict=True)
                    },
                    "etc/made": made.encode(),
                    "etc/root.tar": self._root(),
                },
            )
        with self._machine("maker", ("no_timer_check", "console=ttyS0,115200", "loglevel=4")).start(
            "make"
        ) as running:
            running.serial.expect(MADE, 60)
            running.wait_off(10)
        (self.folder / "maker").unlink()

    def _root(self) -> bytes:
        """Stage 2, as an archive."""
        found = io.BytesIO()
        with tarfile.open(fileobj=found, mode="w") as archive:
            for name, content in self._files():
                entry = tarfile.TarInfo(name.lstrip("/"))
                if content is None:
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                elif isinstance(content, str):
                    entry.type, entry.linkname = tarfile.SYMTYPE, content
                else:
                    entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
        return found.getvalue()

    def _files(self) -> Iterator[tuple[str, bytes | str | None]]:
        """Paths, with content, where a link leads, or nothing for a folder."""
        for name in ("dev", "proc", "sys", "run", "etc", "tmp", "var/lib"):
            yield name, None
        yield "lib", "usr/lib"
        yield "lib64", LIBRARIES.lstrip("/")
        # Of the host the same as of its stage 1, which says so in its name.
        yield "etc/os-release", self.golden["contents"]["/etc/os-release"].replace(" (Initrd)", "").encode()
        yield "etc/machine-id", b""
        yield f"{TOPLEVEL}/prepare-root", PREPARE.encode()
        yield f"{TOPLEVEL}/init", "/usr/lib/systemd/systemd"
        yield "sleeper", SLEEPER.replace("@swap@", self._swap()).encode()
        for unit, text in OWN_UNITS.items():
            yield f"etc/systemd/system/{unit}", text.encode()
        units = self.userland / "usr/lib/systemd/system"
        for name in UNITS:
            if (units / name).is_file():
                yield f"usr/lib/systemd/system/{name}", (units / name).read_bytes()
        needed = {path for program in PROGRAMS for path in libraries(self.userland, program)}
        for path in ("/usr/bin/busybox", LOADER, *PROGRAMS, *sorted(needed)):
            place = path if path.startswith("/usr/") else f"/usr{path}"
            yield place, (self.userland / path.lstrip("/")).resolve().read_bytes()

    def _swap(self) -> str:
        (file,) = self.plan.host.swap_files or (None,)
        if file is None:
            return "".join(f"/usr/sbin/swapon {device}\n" for device in self.plan.host.swap_devices)
        return SWAP_FILE.format(path=file.path, folder=Path(file.path).parent, size=file.size >> 20)


def prompted(running: Running, measured: float = 40) -> None:
    """Wait until stage 1 asks for a passphrase; nothing was written then, so that it may be begun again."""
    for _ in range(3):
        if STALLED not in running.serial.expect(f"{ASKED}|{STALLED}", measured)[0]:
            return
        running.reset()
    raise AssertionError(f"the emulated processor stalled three times: {running.serial.text()[-500:]}")


def nobody_types(recorder: Recorder, running: Running, late: int = LATE) -> None:
    """For longer than systemd waits for a device when it is told nothing else."""
    deadline = time.monotonic() + late
    with recorder.phase(f"nobody types anything for {late} seconds", "firmware"):
        while time.monotonic() < deadline and not re.search(GIVEN_UP, running.serial.text()):
            threading.Event().wait(1)
    said = running.serial.text()
    recorder.prove(f"stage 1 waits ({running.name})", not re.search(GIVEN_UP, said), said[-1500:])


def told(running: Running, what: str, measured: float = 40) -> dict[str, str]:
    """What stage 2 says of itself next."""
    return running.serial.expect(STATE.format(what), measured).groupdict()


def evidence(*states: dict[str, Any]) -> str:
    """For the record."""
    return "\n".join(json.dumps(state) for state in states)
