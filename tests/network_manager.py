"""A real NetworkManager, which configures the interfaces of a network namespace and ends: as in an initial RAM disk.

It is the installed one, or Debian's, unpacked into the lab's folder: installed, it would begin to care for the network of
whoever runs the tests. `python -m tests.network_manager` unpacks it (mmdebstrap, no root).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.nixeval.nix import LAB

ROOT = LAB / "networkmanager"
PROGRAM = "usr/sbin/NetworkManager"
SETTINGS = "[main]\nplugins=keyfile\ndns=none\nno-auto-default=*\n[device]\nwifi.scan-rand-mac-address=no\n"
SCRIPT = """set -e
umount -l /sys 2>/dev/null || true
mount -t sysfs -o ro sysfs /sys
for folder in /run /etc/NetworkManager /var/lib/NetworkManager; do
    mkdir -p $folder
    mount -t tmpfs tmpfs $folder
done
mkdir -p /run/NetworkManager /etc/NetworkManager/system-connections
cp -r "$1" /run/NetworkManager/system-connections
printf '%s' "$2" >/etc/NetworkManager/NetworkManager.conf
shift 2
exec timeout 60 "$@" --configure-and-quit=initrd --debug --log-level=INFO 2>&1
"""
"""A read-only /sys tells it that there is no udev to wait for."""


def find() -> tuple[str, ...] | None:
    """What starts it."""
    if installed := shutil.which("NetworkManager"):
        return (installed,)
    if not (ROOT / PROGRAM).exists():
        return None
    libraries = ":".join(map(str, ROOT.glob("usr/lib/*-linux-gnu")))
    loader = next(ROOT.glob("usr/lib*/ld-linux-*.so.*"), None) or next(ROOT.glob("lib*/ld-linux-*.so.*"))
    return (str(loader), "--library-path", libraries, str(ROOT / PROGRAM))


def get() -> None:
    """Unpack it."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.parent.mkdir(parents=True, exist_ok=True)
    packages = "--include=network-manager,libc6"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=extract", packages, "trixie", str(ROOT)], check=True)


def configure(namespace: str, files: Mapping[str, bytes], folder: Path) -> str:
    """Have it configure that namespace with these connections; what it said."""
    command = find()
    assert command is not None
    connections = folder / "connections"
    shutil.rmtree(connections, ignore_errors=True)
    connections.mkdir(parents=True)
    for name, content in files.items():
        (connections / name).write_bytes(content)
        (connections / name).chmod(0o600)
    inside = ("ip", "netns", "exec", namespace, "unshare", "--mount", "--propagation", "private")
    done = subprocess.run(
        [*inside, "sh", "-c", SCRIPT, "sh", str(connections), SETTINGS, *command],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


if __name__ == "__main__":
    if find() is None:
        get()
    sys.exit(find() is None)
