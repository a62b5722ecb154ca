"""A blank disk on a loop device, with the name, serial number and udev record that a real one would have."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from installer.answers.sizes import GIB, MIB
from installer.execute.live import LiveSystem
from installer.facts import Facts
from installer.facts.disks import Partition, Transport
from installer.facts.firmware import FirmwareKind
from installer.medium import Medium, ReadyClosure
from installer.plan.prebuilt import HOST_DATA
from installer.probe.questions import disk_ends
from tests.forked import ask
from tests.nixeval import nix as nixeval
from tests.plan_cases import blank_disk, machine, medium

HERE = Path(__file__).parent
INSTALLER = (
    "tests.execute.child",
    "installer.execute.abort",
    "installer.execute.installation",
    "tests.execute.deaths",
)
"""What is run, and modules that it consists of."""
PREFIX = "virtio-HVTEST"
_BLOCK = 4096
DISK_SIZE = 6 * GIB
"""Sparse: what a plan needs at least."""


def run(*argv: str | Path) -> str:
    """Run a program; its output."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(map(str, argv))}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


# Of include/uapi/linux/loop.h.
LOOP_CTL_ADD, LOOP_CTL_REMOVE = 0x4C80, 0x4C81
_HIGH, _NUMBERS = 1000, 100_000


def new_loop() -> str:
    """A new loop device that nothing is attached to.

    Its number is one that `losetup --find`, which takes the lowest, comes to last: what a test detaches to attach it
    again isn't taken meanwhile by another test that runs beside it.
    """
    with Path("/dev/loop-control").open("rb") as control:
        while True:
            number = _HIGH + secrets.randbelow(_NUMBERS)
            try:
                fcntl.ioctl(control, LOOP_CTL_ADD, number)
            except FileExistsError:
                continue
            return f"/dev/loop{number}"


def remove_loop(device: str) -> bool:
    """Take a loop device away; false: something still has it."""
    with Path("/dev/loop-control").open("rb") as control:
        try:
            fcntl.ioctl(control, LOOP_CTL_REMOVE, int(device.removeprefix("/dev/loop")))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            if error.errno != errno.ENODEV:
                raise
    return True


@dataclass
class LoopDisk:
    """One disk."""

    file: Path
    """Its content."""
    device: str
    """`/dev/loopN`."""
    by_id: str
    """Name in /dev/disk/by-id."""
    serial: str | None
    """What udev says it is; none: a disk without a name, found by its place."""

    @property
    def link(self) -> Path:
        """The link that leads to it."""
        return Path("/dev/disk", "by-id" if self.serial else "by-path", self.by_id)

    def digest(self) -> str:
        """SHA-256 of the whole disk: of every block that is not zero, with its place, whether others are holes or not."""
        for path in (self.device, self.file):
            with Path(path).open("rb") as opened:
                os.fsync(opened.fileno())
        found = hashlib.sha256(b"%d" % self.file.stat().st_size)
        with self.file.open("rb") as file:
            end = 0
            while True:
                try:
                    start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                except OSError:  # no data after that
                    return found.hexdigest()
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                for place in range(start // _BLOCK * _BLOCK, end, _BLOCK):
                    block = os.pread(file.fileno(), _BLOCK, place)
                    if block.strip(b"\0"):
                        found.update(b"%d " % place + block)


@dataclass
class Rig:
    """Everything that one installation on this machine needs."""

    folder: Path
    """Everything of this rig."""
    prefix: str
    """What its disks are called in /dev/disk/by-id."""
    disks: list[LoopDisk] = field(default_factory=list)

    @property
    def live(self) -> LiveSystem:
        """A live system with folders of its own, and with the rig's programs before all others."""
        return LiveSystem(
            runtime=self.folder / "run",
            udev=self.folder / "udev",
            lock_patience=2.0,
            search_path=f"{self.folder / 'bin'}:{LiveSystem.search_path}",
        )

    def add_disk(
        self, size: int = DISK_SIZE, *, named: bool = True, place: Path | None = None, sector: int = 512
    ) -> LoopDisk:
        """Attach a blank disk; its file may lie in another folder than the rig's."""
        number = len(self.disks)
        file = (place or self.folder) / f"disk{number}"
        with file.open("wb") as made:
            made.truncate(size)
        device = new_loop()
        run("losetup", "--sector-size", str(sector), device, file)
        disk = LoopDisk(
            file, device, f"{self.prefix}_{number}", f"SERIAL-{self.prefix}-{number}" if named else None
        )
        # A loop device that was in use when it was detached may have kept what it had.
        subprocess.run(["partx", "--delete", device], capture_output=True, check=False)
        disk.link.parent.mkdir(parents=True, exist_ok=True)
        disk.link.symlink_to(device)
        self.disks.append(disk)
        self.describe(disk, disk.serial)
        return disk

    def describe(self, disk: LoopDisk, serial: str | None) -> None:
        """Write udev's record of a disk."""
        number = Path("/sys/class/block", Path(disk.device).name, "dev").read_text().strip()
        self.live.udev.mkdir(exist_ok=True)
        (self.live.udev / f"b{number}").write_text(
            "E:ID_BUS=virtio\n" + (f"E:ID_SERIAL_SHORT={serial}\n" if serial else "")
        )

    def facts(
        self,
        disk: LoopDisk,
        firmware: FirmwareKind = FirmwareKind.bios,
        partitions: tuple[Partition, ...] = (),
        **more: Any,
    ) -> Facts:
        """The machine with that disk, with these partitions on it."""
        return machine(
            blank_disk(
                name="vda",
                wwn=None,
                serial=disk.serial,
                by_id=(disk.by_id,) if disk.serial else (),
                path=None if disk.serial else disk.by_id,
                ends=None if disk.serial else disk_ends(Path(disk.device).name),
                model="test disk",
                transport=Transport.virtio,
                partitions=partitions,
                size=disk.file.stat().st_size,
                **({"table": "gpt" if partitions else None} | more),
            ),
            firmware=firmware,
        )

    def close(self) -> None:
        """Detach everything, and see it gone: what a test leaves in use would stay for ever."""
        for disk in self.disks:
            subprocess.run(["partx", "--delete", disk.device], capture_output=True, check=False)
            subprocess.run(["losetup", "--detach", disk.device], capture_output=True, check=False)
            for link in (*disk.link.parent.glob(f"{disk.by_id}*"),):
                link.unlink()
        by_uuid = Path("/dev/disk/by-uuid")
        for link in by_uuid.iterdir() if by_uuid.is_dir() else ():
            # Others' stay, though they lead nowhere for a moment: a table may be read anew just now.
            with suppress(FileNotFoundError):  # another rig takes its own away
                if any(str(link.readlink()).startswith(disk.device + "p") for disk in self.disks):
                    link.unlink()
        deadline = time.monotonic() + 30
        while left := [disk.device for disk in self.disks if not remove_loop(disk.device)]:
            assert time.monotonic() < deadline, f"{', '.join(left)} of {self.folder} is still in use"
            time.sleep(0.05)


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """A rig without disks."""
    prefix = f"{PREFIX}{secrets.token_hex(3)}"
    made = Rig(folder, prefix)
    (folder / "bin").mkdir()
    script = folder / "bin/udevadm"
    script.write_text(f'#!/bin/sh\nHV_TEST_PREFIX={prefix} exec {HERE / "udevadm"} "$@"\n')
    script.chmod(0o755)
    try:
        yield made
    finally:
        made.close()


# ---- a small system in a store of its own ----

STORE_CONFIGURATION = """\
experimental-features = nix-command flakes
substituters =
build-users-group =
build-hook =
sandbox = false
"""


FUSEFAT = """\
#!/bin/sh
# Stands in for a kernel that knows FAT: fusefat mounts it, under the name of its device.
if [ "$1 $2" = "-t vfat" ]; then
    case $4 in ro*) mode=ro ;; *) mode=rw+ ;; esac
    exec fusefat -o "$mode,fsname=$(readlink -f "$5")" "$(readlink -f "$5")" "$6"
fi
exec {mount} "$@"
"""


def add_fat(made: Rig) -> None:
    """Let the rig's installer mount FAT where this machine's kernel cannot."""
    script = made.folder / "bin/mount"
    script.write_text(FUSEFAT.replace("{mount}", str(shutil.which("mount"))))
    script.chmod(0o755)


def add_nix(made: Rig) -> None:
    """Put Nix on the rig's PATH, with a store of its own as the live system's."""
    nix = nixeval.require()
    for name in ("nix", "nix-env", "nix-store"):
        script = made.folder / "bin" / name
        script.write_text(
            "#!/bin/sh\n"
            f"export NIX_CONFIG={shlex.quote(STORE_CONFIGURATION)}\n"
            f"export NIX_REMOTE={shlex.quote(str(made.folder / 'store'))}\n"
            # Whatever is configured here: without WAL Nix locks its database by a folder, which a killed one leaves
            # there for ever. Installers of these tests are killed all the time, and WAL is Nix's default.
            f'exec {shlex.join(nix.command(name))} --option use-sqlite-wal true "$@"\n'
        )
        script.chmod(0o755)


def add_to_store(made: Rig, folder: Path, name: str) -> str:
    """A folder's store path in the live system's store."""
    return run(made.folder / "bin/nix", "store", "add-path", folder, "--name", name).splitlines()[-1]


def newc(files: dict[str, bytes]) -> bytes:
    """A newc archive of regular files (kernel doc driver-api/early-userspace/buffer-format)."""
    out = bytearray()
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")], start=1):
        fields = (number, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


class Named(Protocol):
    """A disk, as far as a system names it."""

    @property
    def link(self) -> Path:
        """Its name in /dev/disk."""


def tiny_system(made: Rig, disk: Named, root_uuid: str, *, size: int = 4 * MIB, **spoil: Any) -> str:
    """Store path of a system for a BIOS host with the root on ext4, in the live system's store.

    Args:
        made: The rig, with Nix.
        disk: Where its boot loader goes.
        root_uuid: UUID of the root file system, for its fstab.
        size: Bytes of ballast, so that copying takes a moment.
        spoil: `modules`: what the initrd has instead; `fstab`: another one; `mirrors`: further disks that boot;
            `prebuilt`: it is for many hosts, and finds its fstab and people where the installer writes them; `core`:
            number of the partition for GRUB's code; `uefi`: its loader is systemd-boot, on a FAT at
            `esp`, else /boot, and its kernels on a FAT at /boot; `esps`: the same for several, by their places;
            `nodev`: GRUB's code is put on no disk, and its menu finds kernels in this folder of where it was started
            from; `kernel`: its content.
    """
    build = made.folder / f"system-{secrets.token_hex(2)}"
    (build / "bin").mkdir(parents=True)
    (build / "sw/bin").mkdir(parents=True)
    (build / "etc").mkdir()
    (build / "kernel").write_bytes(spoil.get("kernel", b"\x7fkernel" * 1000))
    modules = spoil.get("modules", ("virtio_blk", "virtio_pci", "ext4", "nvme", "ahci"))
    archive = newc({f"lib/modules/6/{name}.ko.xz": b"module" for name in modules} | {"init": b"#!"})
    (build / "initrd").write_bytes(archive)
    (build / "ballast").write_bytes(os.urandom(size))
    program = made.folder / "tiny"
    disks = ", ".join(f'"{each.link}"' for each in (disk, *spoil.get("mirrors", ())))
    more: list[str] = ["-DPREBUILT"] if spoil.get("prebuilt") else []
    more.append("-DUEFI" if spoil.get("uefi") else f'-DCORE="{spoil.get("core", 1)}"')
    more.append(f'-DESP="{spoil.get("esp", "/boot")}"')
    more += ["-DNODEV"] if "nodev" in spoil else []
    if "esps" in spoil:
        more.append("-DESPS=" + ", ".join(f'"{place}"' for place in spoil["esps"]))
    run("cc", "-static", "-O1", f"-DDISKS={disks}", *more, "-o", program, HERE / "tiny_system.c")
    shutil.copy(program, build / "activate")
    shutil.copy(program, build / "bin/switch-to-configuration")
    shutil.copy(program, build / "sw/bin/shell")
    if spoil.get("prebuilt"):
        (build / "etc/fstab").symlink_to(f"{HOST_DATA}/fstab")
        for name in ("bash", "systemd-sysusers"):
            shutil.copy(program, build / "sw/bin" / name)
        _add_program(Path("/usr/bin/systemd-sysusers"), build / "lib")
    else:
        (build / "etc/fstab").write_text(
            spoil.get("fstab", f"/dev/disk/by-uuid/{root_uuid} / ext4 noatime 0 1\n")
        )
    # The toplevel names itself by its profile: a path that is added, not built, cannot know its own hash.
    profile = "/nix/var/nix/profiles/system"
    kernels = spoil.get("nodev", "($drive1)//kernels")
    (build / "grub.cfg").write_text(
        f"set timeout=0\nmenuentry tiny {{\n  linux {kernels}/kernel init={profile}/init quiet\n"
        f"  initrd {kernels}/initrd\n}}\n"
    )
    spec = {
        "system": "x86_64-linux",
        "init": f"{profile}/init",
        "kernel": f"{profile}/kernel",
        "initrd": f"{profile}/initrd",
        "kernelParams": ["quiet"],
        "label": "tiny",
        "toplevel": profile,
    }
    (build / "boot.json").write_text(
        json.dumps({"org.nixos.bootspec.v1": spec, "org.nixos.specialisation.v1": {}})
    )
    return add_to_store(made, build, "nixos-system-tiny")


def _add_program(program: Path, folder: Path) -> None:
    """This machine's program with its libraries and their loader, `ld.so`."""
    folder.mkdir()
    shutil.copy(program, folder)
    for word in run("ldd", program).split():
        if word.startswith("/"):
            shutil.copy(word, folder / ("ld.so" if "/ld-linux" in word else Path(word).name))


def with_closure(toplevel: str, tier: str | None = None) -> Medium:
    """A medium with this system in its own store."""
    ready = ReadyClosure(name="tiny", toplevel=toplevel, cache=None, nar_size=16 * MIB, tier=tier)
    return medium(estimated_closure=16 * MIB, closures=(ready,))


# ---- a mount namespace that outlives killed installers ----


@dataclass
class Namespace:
    """Where installers of a test run: their mounts are seen by nobody else, and stay when they are killed."""

    holder: subprocess.Popen[bytes]

    def install(self, made: Rig, *more: str) -> subprocess.CompletedProcess[str]:
        """Run `tests.execute.child` in it with what `prepare` wrote."""
        where = ask.Where(environment=dict(os.environ), namespaces=(f"/proc/{self.holder.pid}/ns/mnt",))
        return ask.run(INSTALLER, (str(made.folder), *more), where, seconds=300)

    def run(self, *argv: str) -> str:
        """Run a program in it."""
        return run("nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *argv)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A mount namespace held by a process that sleeps."""
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "cat"], stdin=subprocess.PIPE
    )
    try:
        own = Path("/proc/self/ns/mnt").readlink()
        while Path(f"/proc/{holder.pid}/ns/mnt").readlink() == own:
            assert holder.poll() is None, "no mount namespace"
        space = Namespace(holder)
        # What this machine happens to have below /mnt is out of the way in there, and stays where it is out here.
        mounts = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        for target in sorted((m for m in mounts if m == "/mnt" or m.startswith("/mnt/")), reverse=True):
            space.run("umount", "--lazy", target)
        yield space
    finally:
        # A FAT that fusefat serves is unmounted, not only left: else the server stays, and the disk with it.
        inside = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
        subprocess.run([*inside, "umount", "--recursive", "/mnt"], capture_output=True, check=False)
        holder.kill()
        holder.wait()


def prepare(made: Rig, facts: Facts, answers: dict[str, Any], on: Medium) -> None:
    """Write what the child reads."""
    (made.folder / "facts.json").write_text(facts.model_dump_json())
    (made.folder / "answers.json").write_text(json.dumps(answers))
    (made.folder / "medium.json").write_text(on.model_dump_json())
