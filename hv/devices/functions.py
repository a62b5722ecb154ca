"""Virtual functions of SR-IOV cards (Documentation/PCI/pci-iov-howto.rst, Documentation/ABI/testing/sysfs-bus-pci)."""

from collections.abc import Callable
from pathlib import Path

from hv.devices.declared import PhysicalFunction, VirtualFunction
from hv.devices.sysfs import Sysfs, read
from hv.firstrun.world import Programs
from installer.errors import Exit, HyperError

VFIO = "vfio-pci"


def split(card: PhysicalFunction, sysfs: Sysfs, programs: Programs, say: Callable[[str], None]) -> None:
    """Have the card's virtual functions, treated as declared, with the driver that is declared. Raises HyperError."""
    folder = sysfs.device(card.address)
    _require_able(card, folder, sysfs)
    existing = int(read(folder / "sriov_numvfs") or 0)
    if existing == 0:
        # Or the host's drivers take them first, and the network makes interfaces of them.
        sysfs.write(folder / "sriov_drivers_autoprobe", "0")
        sysfs.write(folder / "sriov_numvfs", str(card.count))
        say(f"{card.address}: {card.count} virtual functions made")
    elif existing != card.count:
        raise HyperError(
            f"{card.address} has {existing} virtual functions, declared are {card.count}.",
            why="the number changes only by removing all of them, and guests may have them",
            remedy="Reboot the host.",
            code=Exit.busy,
        )
    for function in card.functions:
        _treat(card, function, folder, programs)
    for number in range(card.count):
        _give(card, folder / f"virtfn{number}", sysfs)
    check(card, sysfs)
    say(
        f"{card.address}: {card.count} virtual functions, {'kept for guests' if card.vfio else 'left to the host'}"
    )


def check(card: PhysicalFunction, sysfs: Sysfs) -> None:
    """Whether the card is as declared, read back. Raises HyperError."""
    folder = sysfs.device(card.address)
    found = int(read(folder / "sriov_numvfs") or 0)
    wrong = [] if found == card.count else [f"it has {found} virtual functions, declared are {card.count}"]
    for number in range(found):
        link = folder / f"virtfn{number}"
        address = link.resolve().name
        if card.vfio and link.exists() and sysfs.driver(address) != VFIO:
            wrong.append(
                f"function {number} ({address}) has the driver {sysfs.driver(address) or 'none'}, not {VFIO}"
            )
    if wrong:
        raise HyperError(
            f"{card.address} is not split as declared.",
            why="; ".join(wrong),
            remedy="See `journalctl -k` for the driver's reason, then `systemctl restart hyper-nixos-devices`.",
            code=Exit.step,
        )


def _require_able(card: PhysicalFunction, folder: Path, sysfs: Sysfs) -> None:
    if not folder.exists():
        raise HyperError(
            f"There is no device at {card.address}.",
            why="it was moved or taken out, or the address is another machine's",
            remedy="See `lspci -D`, and declare the address that it has now.",
            code=Exit.selection,
        )
    # The attribute is there once the card can be split; only its driver makes that do something.
    if not sysfs.wait_for(folder / "driver"):
        raise HyperError(
            f"No driver has {card.address}, so it cannot be split.",
            why=f"after {sysfs.patience:.0f} s there is still none",
            remedy="See `lspci -k` for its driver; add it to boot.kernelModules if it is not loaded by itself.",
            code=Exit.unsuitable,
        )
    total = int(read(folder / "sriov_totalvfs") or 0)
    if card.count > total:
        raise HyperError(
            f"{card.address} cannot have {card.count} virtual functions.",
            why=f"it can have {total}"
            if total
            else "it has no SR-IOV, or the firmware's setup switched it off",
            remedy="Declare fewer, or switch SR-IOV on in the firmware's setup.",
            code=Exit.unsuitable,
        )


def _treat(card: PhysicalFunction, function: VirtualFunction, folder: Path, programs: Programs) -> None:
    words = []
    if function.mac is not None:
        words.append(("mac", function.mac))
    if function.vlan is not None:
        words.append(("vlan", str(function.vlan)))
    if function.trust is not None:
        words.append(("trust", "on" if function.trust else "off"))
    if function.spoof_check is not None:
        words.append(("spoofchk", "on" if function.spoof_check else "off"))
    if not words:
        return
    names = sorted(path.name for path in (folder / "net").glob("*"))
    if not names:
        raise HyperError(
            f"{card.address} has no network interface.",
            why="addresses, VLANs and trust are a network card's",
            remedy=f'Take `functions` out of hypervisor.passthrough.virtualFunctions."{card.address}".',
            code=Exit.unsuitable,
        )
    # One by one: a driver that lacks one of them refuses the whole command.
    for pair in words:
        programs.run(("ip", "link", "set", "dev", names[0], "vf", str(function.number), *pair), timeout=30)


def _give(card: PhysicalFunction, link: Path, sysfs: Sysfs) -> None:
    address = link.resolve().name
    if sysfs.driver(address) == (VFIO if card.vfio else sysfs.driver(address)) and sysfs.driver(address):
        return
    folder = sysfs.device(address)
    if card.vfio:
        sysfs.write(folder / "driver_override", VFIO)
        if sysfs.driver(address) is not None:
            sysfs.write(folder / "driver/unbind", address)
    sysfs.write(sysfs.root / "bus/pci/drivers_probe", address)
