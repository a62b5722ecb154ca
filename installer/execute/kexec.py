"""The installed system's kernel, started by the running one without the firmware between (kexec(8))."""

import json
from pathlib import Path

from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.nix_store import profile_toplevel
from installer.execute.runner import Runner
from installer.plan.commands import kexec_command

BOOTSPEC = "org.nixos.bootspec.v1"
"""Key of a system's own document in its boot.json (NixOS RFC 125)."""
LOADED = "kernel/kexec_loaded"
"""Below /sys: `1` when the kernel holds another one ready (Linux, Documentation/ABI/testing/sysfs-kernel-kexec)."""


def load_kernel(runner: Runner, root: Path) -> None:
    """Load what the target's boot menu would start: kernel, initrd and parameters of its system profile."""
    document = json.loads((root / profile_toplevel(root)[1:] / "boot.json").read_bytes())[BOOTSPEC]
    parameters = " ".join([f"init={document['init']}", *document["kernelParams"]])
    # Links of the store are absolute, and lead into it: seen from here they are below the target.
    runner.run(kexec_command(str(root), document["kernel"], document["initrd"], parameters))


def check_loaded(live: LiveSystem) -> Evidence:
    """A kernel is held ready."""
    file = live.sysfs / LOADED
    found = file.read_text(encoding="utf-8").strip() if file.exists() else "no such file"
    ensure(found == "1", f"/sys/{LOADED} says 1", found)
    return (f"/sys/{LOADED} says 1",)


def start_kernel(runner: Runner) -> None:
    """Leave the running system for the one that is loaded; everything is unmounted and synced by now."""
    if Path("/run/systemd/system").is_dir():
        runner.run(["systemctl", "--no-block", "kexec"])
    else:
        runner.run(["kexec", "--exec"])
