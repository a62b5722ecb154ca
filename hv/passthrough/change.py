"""Takes devices from the host's drivers for guests, and gives them back, while it runs.

By `driver_override` of each address (Documentation/ABI/testing/sysfs-bus-pci): ids would also take the host's own device of
the same model. Nothing here outlasts a restart; what is declared in `hypervisor.passthrough` does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hv.devices.sysfs import Sysfs, read
from hv.firstrun.world import Programs
from hv.passthrough.users import users_of
from hv.passthrough.verdict import VFIO, Function, Handover
from installer.errors import Exit, HyperError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Host:
    """What is changed, and how."""

    sysfs: Sysfs
    """The kernel's devices."""
    programs: Programs
    """Runs modprobe(8)."""
    proc: Path = Path("/proc")
    """Who has what open."""
    say: Say = print
    """Takes a line for each change."""

    def driver(self, address: str) -> str | None:
        """Which driver has the device now."""
        link = self.sysfs.device(address) / "driver"
        return link.resolve().name if link.exists() else None


def take(handover: Handover, host: Host) -> None:
    """Give all functions to vfio-pci, or leave all as they were. Raises HyperError."""
    for function in handover.functions:
        _require_same(function, host)
    todo = [function for function in handover.functions if host.driver(function.address) != VFIO]
    if not todo:
        host.say(f"{handover.address} is free for guests already")
        return
    host.programs.run(("modprobe", VFIO), timeout=30)
    changed: list[Function] = []
    try:
        for function in todo:
            changed.append(function)
            _claim(function.address, VFIO, host)
            if host.driver(function.address) != VFIO:
                raise HyperError(
                    f"{function.address} ({function.name}) did not go to {VFIO}.",
                    why=f"it has the driver {host.driver(function.address) or 'none'} after it was asked to",
                    remedy="See `journalctl -k` for the kernel's reason. Everything is as it was before.",
                    code=Exit.step,
                )
    except HyperError:
        for function in reversed(changed):
            _claim(function.address, None, host)
        raise
    for function in changed:
        host.say(f"{function.address}: {function.driver or 'no driver'} -> {VFIO}")


def give_back(handover: Handover, host: Host) -> bool:
    """Let the host's drivers have the functions again; whether each of them has one. Raises HyperError when in use."""
    for function in handover.functions:
        users = users_of(function.address, host.sysfs.root, host.proc)
        if users:
            named = ", ".join(f"{user.name} (process {user.pid})" for user in users)
            raise HyperError(
                f"{function.address} ({function.name}) is in use.",
                why=f"{named} has it open; taking it away would hang until it is let go",
                remedy="Stop the guest, then run this again.",
                code=Exit.busy,
            )
    todo = [function for function in handover.functions if host.driver(function.address) == VFIO]
    if not todo:
        host.say(f"{handover.address} is with the host already")
        return True
    whole = True
    for function in todo:
        _claim(function.address, None, host)
        driver = host.driver(function.address)
        whole = whole and driver is not None and driver != VFIO
        host.say(f"{function.address}: {VFIO} -> {driver or 'no driver: none of the host takes it'}")
    return whole


def _require_same(function: Function, host: Host) -> None:
    """What is at the address now is what the verdict was about."""
    folder = host.sysfs.device(function.address)
    ids = ":".join((read(folder / name) or "").removeprefix("0x") for name in ("vendor", "device"))
    if ids != function.ids:
        raise HyperError(
            f"{function.address} is no longer what it was.",
            why=f"there is {ids if ids != ':' else 'nothing'}, and it was {function.ids} ({function.name})",
            remedy="Run `hv passthrough list` again: something was plugged in or out.",
            code=Exit.selection,
        )


def _claim(address: str, driver: str | None, host: Host) -> None:
    """Have a driver take the device; None for whichever driver takes it by itself."""
    folder = host.sysfs.device(address)
    host.sysfs.write(folder / "driver_override", driver or "\n")
    if (folder / "driver").exists():
        host.sysfs.write(folder / "driver/unbind", address)
    host.sysfs.write(host.sysfs.root / "bus/pci/drivers_probe", address)
