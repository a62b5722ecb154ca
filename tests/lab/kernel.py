"""The kernel of the medium and of the installed system: Debian's, with the modules that the lab's machines need."""

import lzma
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODULES = [
    "arch/x86/crypto",
    "arch/x86/kvm",
    "crypto",
    "lib",
    "virt",
    "block",
    "mm",
    "net/9p",
    "net/core",
    "net/802",
    "net/8021q",
    "net/bridge",
    "net/llc",
    "net/netfilter",
    "net/ipv4",
    "net/ipv6",
    "fs/9p",
    "fs/autofs",
    "fs/binfmt_misc",
    "fs/btrfs",
    "fs/efivarfs",
    "fs/ext4",
    "fs/fat",
    "fs/fuse",
    "fs/isofs",
    "fs/jbd2",
    "fs/mbcache",
    "fs/netfs",
    "fs/nls",
    "fs/overlayfs",
    "fs/squashfs",
    "fs/xfs",
    "drivers/ata",
    "drivers/block",
    "drivers/cdrom",
    "drivers/char/hw_random",
    "drivers/char/tpm",
    "drivers/char/virtio_console",
    "drivers/dax",
    "drivers/firmware",
    "drivers/gpu/drm/tiny",
    "drivers/gpu/drm/drm",
    "drivers/gpu/drm/display",
    "drivers/gpu/drm/virtio",
    "drivers/gpu/drm/ttm",
    "drivers/hid/hid",
    "drivers/hid/usbhid",
    "drivers/hid/hid-generic",
    "drivers/hid/uhid",
    "drivers/i2c/algos",
    "drivers/input/evdev",
    "drivers/input/serio",
    "drivers/input/keyboard",
    "drivers/md",
    "drivers/net/bonding",
    "drivers/net/dummy",
    "drivers/net/ethernet/intel/e1000e",
    "drivers/net/macvlan",
    "drivers/net/net_failover",
    "drivers/net/tap",
    "drivers/net/tun",
    "drivers/net/veth",
    "drivers/net/virtio_net",
    "drivers/nvme/common",
    "drivers/nvme/host",
    "drivers/scsi/scsi_common",
    "drivers/scsi/scsi_mod",
    "drivers/scsi/sd_mod",
    "drivers/scsi/sg",
    "drivers/scsi/sr_mod",
    "drivers/scsi/virtio_scsi",
    "drivers/usb/common",
    "drivers/usb/core",
    "drivers/usb/host",
    "drivers/usb/storage",
    "drivers/vfio",
    "drivers/vhost",
    "drivers/virtio",
]
"""Folders, or modules by their path without suffix, below `kernel/`."""


def prune(unpacked: Path, destination: Path) -> None:
    """Lay out `bzImage` and `lib/modules/VERSION` with the chosen modules, decompressed: TCG is slow at xz.

    Args:
        unpacked: an unpacked `linux-image` package.
        destination: an empty folder.
    """
    source = next((unpacked / "usr/lib/modules").iterdir())
    version = source.name
    target = destination / "lib/modules" / version
    target.mkdir(parents=True)
    shutil.copy(unpacked / "boot" / f"vmlinuz-{version}", destination / "bzImage")
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(source / name, target)

    def place(file: Path) -> None:
        out = target / file.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes()
        if out.suffix == ".xz":
            out, data = out.with_suffix(""), lzma.decompress(data)
        out.write_bytes(data)

    files: list[Path] = []
    for name in MODULES:
        path = source / "kernel" / name
        if path.is_dir():
            files += [file for file in path.rglob("*.ko*") if file.is_file()]
        files += path.parent.glob(f"{path.name}.ko*")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(place, sorted(set(files))))
