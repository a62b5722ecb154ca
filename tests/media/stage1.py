"""A real systemd as the first process of an initial RAM disk, out of this machine's programs, with what the netboot medium's
stage 1 is set to (tests/golden/netboot.json). Its kernel is Debian's small one; what follows stage 1 is a shell.
"""

import gzip
import shutil
import subprocess
from pathlib import Path

from tests import linux_guest
from tests.nixeval import netboot
from tests.nixeval.nix import REPOSITORY

MODULES = ("failover", "net_failover", "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev",
           "virtio_pci", "virtio_net", "loop", "squashfs", "overlay")  # fmt: skip
PROGRAMS = ("bash", "busybox", "cat", "curl", "cut", "ln", "mkdir", "mount", "rm", "sha256sum", "sleep", "stat", "systemctl",
            "tail", "udevadm", "umount")  # fmt: skip
SYSTEMD = ("systemd", "systemd-journald", "systemd-networkd", "systemd-networkd-wait-online",
           "system-generators/systemd-fstab-generator")  # fmt: skip
UNITS = ("basic.target", "emergency.target", "initrd-cleanup.service", "initrd-fs.target", "initrd-parse-etc.service",
         "initrd-root-device.target", "initrd-root-fs.target", "initrd-switch-root.service", "initrd-switch-root.target",
         "initrd-usr-fs.target", "initrd.target", "local-fs-pre.target", "local-fs.target", "network-online.target",
         "network-pre.target", "network.target", "paths.target", "remote-fs-pre.target", "remote-fs.target",
         "shutdown.target", "slices.target", "sockets.target", "swap.target", "sysinit.target",
         "systemd-journald-dev-log.socket", "systemd-journald.service", "systemd-journald.socket",
         "systemd-networkd-wait-online.service", "systemd-networkd.service", "systemd-networkd.socket",
         "systemd-udev-trigger.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
         "systemd-udevd.service", "timers.target", "umount.target")  # fmt: skip
RULES = ("75-net-description.rules", "80-net-setup-link.rules", "99-systemd.rules")
WANTS = {
    "sysinit.target": ("systemd-journald.service", "systemd-udevd.service", "systemd-udev-trigger.service"),
    "network-online.target": ("systemd-networkd-wait-online.service",),
    "sockets.target": (
        "systemd-journald.socket",
        "systemd-udevd-control.socket",
        "systemd-udevd-kernel.socket",
    ),
    "initrd.target": ("hyper-nixos-test-root.service",),
}
"""What NixOS's own stage 1 starts of these."""
FIRST = """#!/bin/busybox sh
for pass in 1 2 3; do for each in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$each; done; done 2>/dev/null
exec /usr/lib/systemd/systemd
"""
LIVE = "11111111111111111111111111111111-live"
ROOT = """[Unit]
Description=What NixOS's own activation does to the root
DefaultDependencies=no
RequiresMountsFor=/sysroot
Before=initrd.target initrd-switch-root.target
[Service]
Type=oneshot
ExecStart=bash -c "mkdir -p /sysroot/etc; echo ID=test >/sysroot/etc/os-release; \
  ln -sfn /nix/store/LIVE/lib /sysroot/lib; ln -sfn /nix/store/LIVE/lib /sysroot/lib64"
""".replace("LIVE", LIVE)
INIT = f"""#!/nix/store/{LIVE}/busybox sh
PATH=/nix/store/{LIVE}
see() {{ echo "STAGE2 $*" >/dev/console; }}
see "store $(busybox grep ' /nix/store ' /proc/mounts | busybox cut -d ' ' -f 1,3)"
see "fetched $(busybox grep ' /run/hyper-nixos-store ' /proc/mounts | busybox cut -d ' ' -f 3,4)"
see "content $(busybox sha256sum </nix/store/{LIVE}/content)"
busybox touch /nix/store/new && see "the store takes what is added"
see "addresses $(busybox ip -4 -o address | busybox grep -v ' lo ' | busybox wc -l)"
see end
busybox poweroff -f
"""
ARGUMENTS = f"console=ttyS0 loglevel=4 init=/nix/store/{LIVE}/init"
"""Without `root=fstab`, which systemd knows from release 253 on."""


def ram_disk() -> bytes:
    """Without a store."""
    kernel = linux_guest.kernel()
    known = {path.name.partition(".ko")[0]: path for path in kernel.rglob("lib/modules/**/*.ko*")}
    order = [name for name in MODULES if name in known]
    files = {f"modules/{name}.ko": known[name].read_bytes() for name in order}
    files["modules/order"] = "\n".join(f"{name}.ko" for name in order).encode()
    libraries = Path("/usr/lib/systemd")
    programs = [Path("/usr/bin", name) for name in PROGRAMS] + [libraries / name for name in SYSTEMD]
    # What newer releases have besides: from 255 on everything is started by the first.
    newer = (libraries / name for name in ("systemd-executor", "systemd-sysroot-fstab-check"))
    programs += [each for each in newer if each.exists()]
    for program in programs:
        files[str(program).lstrip("/")] = program.read_bytes()
        for each in _libraries(program):
            place = each if each.startswith("/usr/") else f"/usr{each}"
            files[place.lstrip("/")] = Path(each).read_bytes()
    for name in UNITS:
        files[f"usr/lib/systemd/system/{name}"] = (libraries / "system" / name).read_bytes()
    for name in RULES:
        files[f"usr/lib/udev/rules.d/{name}"] = Path("/usr/lib/udev/rules.d", name).read_bytes()
    found = netboot.committed()
    for name, text in found["units"].items():
        own = name.startswith(("hyper-nixos-", "rw-"))
        place = f"etc/systemd/system/{name}" if own else f"etc/systemd/system/{name}.d/ours.conf"
        files[place] = _here(text).encode()
    files["etc/systemd/system/hyper-nixos-test-root.service"] = ROOT.encode()
    files["etc/systemd/network/99-hyper-nixos-store.network"] = found["network"].encode()
    # The kernel is older than the option.
    files["etc/sysroot-fstab"] = found["fstab"].replace(",threads=multi", "").encode()
    files["etc/systemd/system.conf"] = (
        b"[Manager]\nManagerEnvironment=SYSTEMD_SYSROOT_FSTAB=/etc/sysroot-fstab\nDefaultEnvironment=PATH=/bin:/sbin\n"
    )
    files["etc/fetch-store.sh"] = (REPOSITORY / "iso/media/fetch-store.sh").read_bytes()
    files["etc/passwd"] = b"root:x:0:0::/:/bin/bash\nsystemd-network:x:998:998::/:/bin/false\n"
    files["etc/group"] = b"root:x:0:\ntty:x:5:\nsystemd-network:x:998:\nsystemd-journal:x:997:\n"
    files["etc/initrd-release"] = files["etc/os-release"] = b"ID=test\n"
    files["init"] = FIRST.encode()
    links = {"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}
    links["usr/lib/systemd/systemd-udevd"] = "/usr/bin/udevadm"
    links["usr/lib/systemd/system/default.target"] = "initrd.target"
    links["etc/systemd/system/sysroot-nix-store.mount.requires/rw-sysroot-nix-store.service"] = (
        "../rw-sysroot-nix-store.service"
    )
    for target, names in WANTS.items():
        for name in names:
            links[f"etc/systemd/system/{target}.wants/{name}"] = f"/usr/lib/systemd/system/{name}"
    links["etc/systemd/system/initrd.target.wants/hyper-nixos-test-root.service"] = (
        "../hyper-nixos-test-root.service"
    )
    return gzip.compress(linux_guest.cpio(files, links), 1)


def _libraries(program: Path) -> list[str]:
    said = subprocess.run(("ldd", program), capture_output=True, text=True, check=False).stdout
    return [word for word in said.split() if word.startswith("/")]


def _here(unit: str) -> str:
    """With this machine's programs for those of Nix's store."""
    for name, place in {
        "@bash@/bin": "/bin",
        "@fetch-store.sh@": "/etc/fetch-store.sh",
        "@coreutils@/bin": "/bin",
        "@systemd@": "/usr",
    }.items():
        unit = unit.replace(name, place)
    return unit


def store(folder: Path, content: bytes) -> Path:
    """A squashfs with what comes after stage 1."""
    live = folder / "store" / LIVE
    live.mkdir(parents=True)
    busybox = Path("/bin/busybox")
    files = {"busybox": busybox.read_bytes(), "init": INIT.encode(), "content": content}
    for name, data in files.items():
        (live / name).write_bytes(data)
        (live / name).chmod(0o755)
    # It may need libraries, where its file says they are: the root has links to them.
    (live / "lib").mkdir()
    for each in _libraries(busybox):
        shutil.copy(each, live / "lib")
    made = folder / "nix-store.squashfs"
    argv = ("mksquashfs", folder / "store", made, "-all-root", "-quiet", "-no-progress", "-noI", "-noD")
    subprocess.run(argv, check=True, capture_output=True)
    return made
