"""The live system that the installer runs in: where its folders are. Tests give others."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LiveSystem:
    """Places outside the target."""

    runtime: Path = Path("/run/hyper-nixos/install")
    """Journal, log, saved headers and plan of the installation at hand; a tmpfs, so it goes with a reboot."""
    sysfs: Path = Path("/sys")
    """The kernel's view of devices (Documentation/ABI)."""
    udev: Path = Path("/run/udev/data")
    """udev's database: one file a device, `b259:0`, with `E:KEY=value` lines (systemd, sd-device)."""
    mountinfo: Path = Path("/proc/self/mountinfo")
    """Mount table, proc_pid_mountinfo(5)."""
    swaps: Path = Path("/proc/swaps")
    """Swap in use, proc(5)."""
    lock_patience: float = 10.0
    """Seconds to wait for another installer, or what a killed one left running, to end."""
    search_path: str = "/run/wrappers/bin:/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    """PATH of every program that is run."""

    @property
    def headers(self) -> Path:
        """Where partition tables and headers are saved before the first write."""
        return self.runtime / "headers"

    @property
    def log(self) -> Path:
        """Everything that was run, with its output."""
        return self.runtime / "install.log"

    @property
    def journal(self) -> Path:
        """What was begun, done and verified."""
        return self.runtime / "journal.jsonl"

    @property
    def facts(self) -> Path:
        """What the machine was when the plan was made; an interrupted installation is planned from it again."""
        return self.runtime / "facts.json"

    @property
    def plan(self) -> Path:
        """The plan that is being carried out."""
        return self.runtime / "plan.json"
