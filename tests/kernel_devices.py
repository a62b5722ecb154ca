"""A stand-in for the kernel's side of sysfs, where there are no devices to split or to give away."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hv.devices.sysfs import Sysfs
from installer.execute.runner import Finished


@dataclass
class Kernel:
    """Does what the kernel does when its attributes are written."""

    root: Path
    refuses: frozenset[str] = frozenset()
    stubborn: frozenset[str] = frozenset()
    """Devices that stay without a driver when vfio-pci is to take them."""
    drivers: dict[str, str] = field(default_factory=dict)
    """Address to the driver that takes a device by itself; the others are virtual functions."""
    wrote: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def sysfs(self) -> Sysfs:
        return Sysfs(self.root, put=self.put, patience=0.3, sleep=lambda _: None)

    def card(self, address: str = "0000:05:00.0", total: int = 8, *, driver: bool = True) -> Path:
        folder = self.root / "bus/pci/devices" / address
        (folder / "net/lan0").mkdir(parents=True)
        (folder / "sriov_totalvfs").write_text(f"{total}\n")
        (folder / "sriov_numvfs").write_text("0\n")
        (folder / "sriov_drivers_autoprobe").write_text("1\n")
        if driver:
            self._bind(folder, "ixgbe")
        return folder

    def mediator(self, address: str, left: int = 2) -> None:
        kind = self.root / "class/mdev_bus" / address / "mdev_supported_types/type-1"
        kind.mkdir(parents=True)
        (kind / "name").write_text("small\n")
        (kind / "available_instances").write_text(f"{left}\n")

    def put(self, path: Path, text: str) -> None:
        place = str(path.relative_to(self.root))
        self.wrote.append(f"{place}={text}")
        if path.name in self.refuses:
            raise OSError(28, "No space left on device")
        match path.name:
            case "sriov_numvfs":
                probes = (path.parent / "sriov_drivers_autoprobe").read_text().strip() == "1"
                for number in range(int(text)):
                    address = f"{path.parent.name[:-4]}10.{number}"
                    folder = self.root / "bus/pci/devices" / address
                    folder.mkdir()
                    (folder / "driver_override").write_text("(null)\n")
                    (path.parent / f"virtfn{number}").symlink_to(folder)
                    if probes:
                        self._bind(folder, "ixgbevf")
            case "drivers_probe":
                folder = self.root / "bus/pci/devices" / text
                override = (folder / "driver_override").read_text().strip()
                if override not in ("", "(null)") and text in self.stubborn:
                    return
                own = self.drivers.get(text, "ixgbevf")
                if driver := own if override in ("", "(null)") else override:
                    self._bind(folder, driver)
                return
            case "unbind":
                (self.root / "bus/pci/devices" / text / "driver").unlink()
                return
            case "create":
                home = self.root / "devices" / path.parent.parent.parent.name / text
                home.mkdir(parents=True)
                (home / "mdev_type").symlink_to(path.parent)
                (self.root / "bus/mdev/devices").mkdir(parents=True, exist_ok=True)
                (self.root / "bus/mdev/devices" / text).symlink_to(home)
                return
        path.write_text(text + "\n")

    def _bind(self, folder: Path, driver: str) -> None:
        place = self.root / "bus/pci/drivers" / driver
        place.mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(place)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
    ) -> Finished:
        self.ran.append(" ".join(argv))
        return Finished(tuple(argv), 0, b"", "", 0.0)
