"""A small Linux guest of Debian's packages: it says on its serial line what it sees, and does what is typed there.

Its disk boots by BIOS: GRUB's first stages before a FAT partition with kernel, initramfs and configuration; and by UEFI,
whose shell starts the same kernel. The kernel is taken out of Debian's package, which is not installed.
"""

import fcntl
import gzip
import hashlib
import io
import lzma
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.nixeval.nix import REPOSITORY

CACHE = REPOSITORY / ".lab/linux-guest"
GRUB = Path("/usr/lib/grub/i386-pc")
MARKER = "GUEST-UP"
PARTITION = 2048
"""First sector of the FAT partition."""
SIZE = 48 << 20
"""Bytes of the disk."""
MODULES = (
    "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk", "failover",
    "net_failover", "virtio_net", "virtio_balloon", "button", "evdev", "cdrom", "isofs",
    "virtio_mem", "qemu_fw_cfg", "efivarfs",
)  # fmt: skip
"""In the order that they need each other; those that are built in are missing."""
INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /seed /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for pass in 1 2 3; do for module in $(cat /modules/order); do insmod /modules/$module; done; done 2>/dev/null
sleep 0.2
for each in /dev/vd?; do
    [ "$(dd if=$each bs=1 skip=32808 count=6 2>/dev/null)" = cidata ] && mount -t iso9660 -o ro $each /seed
done
see() {{
    disks=
    for each in /sys/block/vd?; do size=$(cat $each/size 2>/dev/null) && disks="$disks ${{each##*/}}=$((size / 2048))M"; done
    cards=
    for each in /sys/class/net/eth*; do [ -e $each ] && cards="$cards ${{each##*/}}=$(cat $each/address)"; done
    echo "cpus=$(grep -c ^processor /proc/cpuinfo) memory=$(awk '/MemTotal/ {{print int($2/1024)}}' /proc/meminfo)M disks:$disks cards:$cards"
}}
for event in /dev/input/event*; do
    [ -e $event ] && (dd if=$event bs=24 count=1 of=/dev/null 2>/dev/null; echo GOT-BUTTON; [ -e /ignore ] || poweroff -f) &
done
[ -e /seed/user-data ] && echo "SEED $(tr -d '\\n' </seed/user-data)"
echo "PROCESSORS-AT-MOST $(cat /sys/devices/system/cpu/possible)"
echo "{MARKER} $(see)"
# As udev's rules do in systems that want what is plugged in: it is put to use.
echo online_movable >/sys/devices/system/memory/auto_online_blocks
use() {{
    for each in /sys/devices/system/cpu/cpu[0-9]*; do
        [ "$(cat $each/online)" = 0 ] && echo 1 >$each/online
    done 2>/dev/null
}}
(last=$(see); while sleep 0.3; do use; now=$(see); [ "$now" = "$last" ] || echo "NOW $now"; last=$now; done) &
while :; do read -r line && eval "$line"; done
"""
ARGUMENTS = "console=ttyS0 quiet panic=5 tsc=unstable no_timer_check"
GRUB_CONFIG = f"linux /linux.efi {ARGUMENTS}\ninitrd /initrd\nboot\n"
SHELL_SCRIPT = f"fs0:\r\nlinux.efi initrd=\\initrd {ARGUMENTS}\r\n"
"""What the UEFI shell does after its five seconds."""


def kernel() -> Path:
    """Debian's small kernel for machines in clouds, unpacked: /boot and /lib/modules below this folder."""
    return _taken("kernel", _kernel_package)


def ipxe() -> Path:
    """iPXE as an EFI program that uses the firmware's network. Its package is not installed: it would be in the boot menu."""
    return _taken("ipxe", lambda: "ipxe") / "usr/lib/ipxe/snponly.efi"


def _taken(name: str, package: Callable[[], str]) -> Path:
    """A package of Debian's, unpacked below the cache, once."""
    there = CACHE / name
    if there.exists():
        return there
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        return there if there.exists() else _unpacked(there, package())


def _kernel_package() -> str:
    about = subprocess.run(
        ("apt-cache", "depends", "linux-image-cloud-amd64"), capture_output=True, text=True, check=True
    )
    return next(word for word in about.stdout.split() if re.match(r"linux-image-\d", word))


def _unpacked(there: Path, package: str) -> Path:
    subprocess.run(("apt-get", "download", "-qq", package), cwd=CACHE, check=True, capture_output=True)
    file = next(CACHE.glob(f"{package}_*.deb"))
    partial = there.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    subprocess.run(("dpkg-deb", "-x", file, partial), check=True)
    file.unlink()
    partial.rename(there)
    return there


def cpio(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """An initramfs (Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    out = io.BytesIO()
    folders = {
        str(parent)
        for name in (*files, *(links or {}))
        for parent in Path(name).parents
        if str(parent) != "."
    }
    entries = [(name, 0o040755, b"") for name in sorted(folders)]
    entries += [(name, 0o100755, data) for name, data in files.items()]
    entries += [(name, 0o120777, target.encode()) for name, target in (links or {}).items()]
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        raw = name.encode() + b"\0"
        head = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        out.write(b"070701" + b"".join(b"%08X" % each for each in head) + raw)
        out.write(b"\0" * (-out.tell() % 4))
        out.write(data)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()


def initramfs(
    init: str = INIT,
    modules: Sequence[str] = MODULES,
    programs: Sequence[Path] = (),
    tree: Path | None = None,
) -> bytes:
    """busybox, more programs with their libraries, modules of a kernel (`tree`; none: our own), and a first process."""
    files = {"init": init.encode(), "bin/busybox": Path("/bin/busybox").read_bytes()}
    for program in (Path("/bin/busybox"), *programs):
        files[f"bin/{program.name}"] = program.read_bytes()
        found = subprocess.run(("ldd", program), capture_output=True, text=True, check=False).stdout
        for word in found.split():
            if word.startswith("/"):
                files[word.lstrip("/")] = Path(word).read_bytes()
    # Debian 13 has them below /usr, and compressed.
    there = {
        path.name.partition(".ko")[0]: path for path in (tree or kernel()).rglob("lib/modules/**/*.ko*")
    }
    order = [name for name in modules if name in there]
    for name in order:
        data = there[name].read_bytes()
        files[f"modules/{name}.ko"] = lzma.decompress(data) if there[name].suffix == ".xz" else data
    files["modules/order"] = "\n".join(f"{name}.ko" for name in order).encode()
    return gzip.compress(cpio(files), 1)


def disk(init: str = INIT, modules: Sequence[str] = MODULES, tree: Path | None = None) -> Path:
    """The disk, raw; made once for each state of this file, and of what is on it. `tree`: another kernel, unpacked."""
    made_of = (Path(__file__).read_text(), init, tuple(modules), str(tree or ""))
    state = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]
    there = CACHE / f"guest-{state}.raw"
    if there.exists():
        return there
    image = next(((tree or kernel()) / "boot").glob("vmlinuz-*"))
    work = CACHE / f"work-{state}"
    work.mkdir(parents=True, exist_ok=True)
    (work / "initrd").write_bytes(initramfs(init, modules, tree=tree))
    (work / "grub.cfg").write_text(GRUB_CONFIG)
    (work / "startup.nsh").write_text(SHELL_SCRIPT, newline="")
    core = work / "core.img"
    modules = ("biosdisk", "part_msdos", "fat", "linux", "normal", "boot")
    subprocess.run(
        ("grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/", "-o", core, *modules), check=True
    )
    fat = work / "fat"
    with fat.open("wb") as stream:
        stream.truncate(SIZE - PARTITION * 512)
    subprocess.run(("mformat", "-i", fat, "-v", "GUEST", "::"), check=True)
    files = {"linux.efi": image} | {name: work / name for name in ("initrd", "grub.cfg", "startup.nsh")}
    for name, source in files.items():
        subprocess.run(("mcopy", "-i", fat, source, f"::{name}"), check=True)
    sectors = (SIZE >> 9) - PARTITION
    # The first stage loads what follows it; between the two is the partition table (MBR).
    first = bytearray((GRUB / "boot.img").read_bytes()[:512].ljust(512, b"\0"))
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\x01\x01", 0x0C, b"\xfe\xff\xff", PARTITION, sectors)
    first[446:510] = entry.ljust(64, b"\0")
    first[510:512] = b"\x55\xaa"
    partial = work / "disk"
    with partial.open("wb") as out:
        out.write(first)
        out.write(core.read_bytes())
        assert out.tell() <= PARTITION * 512
        out.seek(PARTITION * 512)
        out.write(fat.read_bytes())
    partial.rename(there)
    shutil.rmtree(work)
    return there


def qcow2() -> Path:
    """The same as qcow2."""
    raw = disk()
    there = raw.with_suffix(".qcow2")
    if not there.exists():
        partial = raw.with_suffix(".partial")
        subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, partial), check=True)
        partial.rename(there)
    return there
