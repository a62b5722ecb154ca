"""Which systemd units the installed system has: Debian's, some of the lab's own, and those of Hyper-NixOS."""

from pathlib import Path
from typing import Any

DEBIAN = "/usr/lib/systemd/system"
SSHD = """[Unit]
Description=SSH Daemon
After=network.target

[Service]
ExecStartPre=/usr/bin/sh -c '[ -e {key} ] || /usr/bin/ssh-keygen -q -t ed25519 -N "" -f {key}'
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config
KillMode=process
Restart=always
RuntimeDirectory=sshd
X-Restart-Triggers={trigger}
"""
AUDITD = """[Unit]
Description=The kernel's audit log
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
LogsDirectory=audit
LogsDirectoryMode=0700
ExecStart=/usr/sbin/auditd -l -n -s nochange
"""
ZRAM = """[Unit]
Description=Compressed swap in memory
DefaultDependencies=no
After=systemd-modules-load.service
Before=swap.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/sh -ec 'modprobe zram num_devices=1; size=$$(awk "/MemTotal/ {{print int(\\$$2 * {percent} / 100)}}" /proc/meminfo); echo $${{size}}K >/sys/block/zram0/disksize; mkswap -q /dev/zram0; swapon -p 5 /dev/zram0'
"""
SWAP = """[Unit]
Description=Swap on {device}, encrypted anew at each boot
DefaultDependencies=no
Requires={unit}
After={unit} systemd-modules-load.service
Before=swap.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/sh -ec 'cryptsetup --batch-mode plainOpen --allow-discards -c aes-xts-plain64 -s 512 -d /dev/urandom {device} {name}; mkswap -q /dev/mapper/{name}; swapon /dev/mapper/{name}'
"""
MASKED = (
    # Minutes of an emulated processor for nothing that the lab looks at.
    "systemd-hwdb-update.service",
    # Accounts are activation's.
    "systemd-sysusers.service",
    "systemd-journal-catalog-update.service",
    "systemd-firstboot.service",
    "systemd-pcrmachine.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    "systemd-binfmt.service",
    "systemd-machine-id-commit.service",
    "ldconfig.service",
    "lvm2-monitor.service",
    "mdmonitor.service",
    "libvirt-guests.service",
    "systemd-userdbd.service",
    "systemd-userdbd.socket",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "proc-sys-fs-binfmt_misc.automount",
)


def write(folder: Path, config: dict[str, Any], *, ssh_trigger: str) -> None:
    """Fill `/etc/systemd/system`."""
    folder.mkdir(parents=True)
    for name in MASKED:
        (folder / name).symlink_to("/dev/null")
    (folder / "default.target").symlink_to(f"{DEBIAN}/multi-user.target")
    _want(folder, "getty.target", "getty@tty1.service", f"{DEBIAN}/getty@.service")
    _want(folder, "multi-user.target", "systemd-networkd.service", f"{DEBIAN}/systemd-networkd.service")
    _want(folder, "sockets.target", "systemd-networkd.socket", f"{DEBIAN}/systemd-networkd.socket")
    (folder / "dbus-org.freedesktop.network1.service").symlink_to(f"{DEBIAN}/systemd-networkd.service")
    openssh = config["services"]["openssh"]
    if openssh.get("enable"):
        keys = openssh.get("hostKeys") or [{"path": "/etc/ssh/ssh_host_ed25519_key"}]
        (folder / "sshd.service").write_text(SSHD.format(key=keys[0]["path"], trigger=ssh_trigger))
        _want(folder, "multi-user.target", "sshd.service", "/etc/systemd/system/sshd.service")
    if config["security"].get("auditd", {}).get("enable"):
        (folder / "auditd.service").write_text(AUDITD)
        _want(folder, "sysinit.target", "auditd.service", "/etc/systemd/system/auditd.service")
    if config["virtualisation"].get("libvirtd", {}).get("enable"):
        _want(folder, "multi-user.target", "libvirtd.service", f"{DEBIAN}/libvirtd.service")
        for socket in ("libvirtd.socket", "virtlogd.socket", "virtlockd.socket"):
            _want(folder, "sockets.target", socket, f"{DEBIAN}/{socket}")
    zram = config["zramSwap"]
    if zram.get("enable"):
        (folder / "zram-swap.service").write_text(ZRAM.format(percent=zram.get("memoryPercent", 50)))
        _want(folder, "swap.target", "zram-swap.service", "/etc/systemd/system/zram-swap.service")
    for number, entry in enumerate(config["swapDevices"]):
        if entry.get("randomEncryption", {}).get("enable"):
            unit = _device_unit(entry["device"])
            text = SWAP.format(device=entry["device"], unit=unit, name=f"swap{number}")
            (folder / f"encrypted-swap-{number}.service").write_text(text)
            service = f"encrypted-swap-{number}.service"
            _want(folder, "swap.target", service, f"/etc/systemd/system/{service}")
    for name, unit in config["units"].items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(unit["text"])
        for target in unit.get("wantedBy", []):
            _want(folder, target, name, f"/etc/systemd/system/{name}")
        for target in unit.get("requiredBy", []):
            _want(folder, target, name, f"/etc/systemd/system/{name}", kind="requires")


def _want(folder: Path, target: str, name: str, unit: str, *, kind: str = "wants") -> None:
    wants = folder / f"{target}.{kind}"
    wants.mkdir(exist_ok=True)
    (wants / name).symlink_to(unit)


def _device_unit(path: str) -> str:
    """Name of the unit of a device path (systemd.unit(5), "String Escaping for Inclusion in Unit Names")."""
    escaped = "".join(
        "-"
        if char == "/"
        else char
        if char.isalnum() or char in ":_."
        else "".join(f"\\x{b:02x}" for b in char.encode())
        for char in path.strip("/")
    )
    return f"{escaped}.device"
