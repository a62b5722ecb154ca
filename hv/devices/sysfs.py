"""sysfs below a root, and how it is written: the kernel in production, a stand-in for it in tests."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@dataclass(frozen=True)
class Sysfs:
    """Where it is and how it is changed."""

    root: Path = Path("/sys")
    """Where sysfs is mounted."""
    put: Callable[[Path, str], None] = _write
    """Writes an attribute."""
    patience: float = 30.0
    """Seconds for a driver to take its device after boot; cards with firmware to load need ten."""
    sleep: Callable[[float], None] = time.sleep
    """Waits."""

    def device(self, address: str) -> Path:
        """The folder of a PCI device."""
        return self.root / "bus/pci/devices" / address

    def write(self, path: Path, text: str) -> None:
        """Write an attribute. Raises HyperError with the kernel's reason."""
        try:
            self.put(path, text)
        except OSError as error:
            raise HyperError(
                f"The kernel refused {text.strip()!r} for {path}.",
                why=f"{type(error).__name__}: {error.strerror or error}",
                remedy="See `journalctl -k` for what the device's driver says.",
                code=Exit.step,
            ) from error

    def wait_for(self, path: Path) -> bool:
        """Whether a path is there before the patience ends."""
        left = self.patience
        while not path.exists():
            if left <= 0:
                return False
            self.sleep(0.1)
            left -= 0.1
        return True

    def driver(self, address: str) -> str | None:
        """Which driver has the device."""
        link = self.device(address) / "driver"
        return link.resolve().name if link.exists() else None


def read(path: Path) -> str:
    """An attribute, without its line break; empty when there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
