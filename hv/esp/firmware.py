"""The firmware's boot menu: an entry for each disk, so that any of them starts when the others are gone.

Without one, firmware starts EFI/BOOT of a disk, but not every firmware looks at every disk.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hv.esp.inventory import MANAGER, PROGRAMS, Inventory
from hv.esp.partition import Partition
from hv.firstrun.world import Programs
from installer.errors import Exit, HyperError

VARIABLES = "/sys/firmware/efi/efivars"
_BOOT = re.compile(r"^Boot(?P<number>[0-9A-F]{4})\*? (?P<rest>.*)$", re.MULTILINE)
_ORDER = re.compile(r"^BootOrder: (?P<order>[0-9A-F,]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """A partition, as the firmware finds it."""

    disk: str
    """The disk's device file."""
    number: int
    """Which partition of it."""
    uuid: str
    """The partition's own identifier in the GPT, lower case."""


def place_of(partition: Partition, programs: Programs, sysfs: Path = Path("/sys")) -> Place:
    """Disk and number of the partition that is mounted. Raises HyperError when it is no partition of a disk.

    Source: Documentation/ABI/stable/sysfs-block, `partition`; the folder around it is the disk's.
    """
    folder = (sysfs / "dev/block" / partition.mount.device).resolve()
    number = folder / "partition"
    if not number.is_file():
        raise HyperError(
            f"The firmware cannot be told of {partition.mount_point}.",
            why=f"device {partition.mount.device} is no partition of a disk",
            remedy="It starts by EFI/BOOT where the firmware looks at this disk; see the firmware's boot menu.",
        )
    disk, part = f"/dev/{folder.parent.name}", number.read_text().strip()
    uuid = programs.run(("sfdisk", "--part-uuid", disk, part), timeout=30).text.strip().lower()
    return Place(disk, int(part), uuid)


def ensure_entry(place: Place, held: Inventory, programs: Programs) -> str | None:
    """Have an entry for the partition in the boot menu, after those that are there; says what was done, if anything."""
    program = next(iter(held.managers()), None)
    if program is None:
        raise HyperError(
            f"The firmware has nothing to start on {place.disk}.",
            why=f"its ESP has no {' or '.join(PROGRAMS)} in {MANAGER}",
            remedy="Run `hv esp sync` first.",
        )
    loader = "\\" + program.replace("/", "\\")
    numbers = _numbers(_menu(programs), place, loader)
    did = None
    if not numbers:
        # `--create` would put it first, before the disk that the host is used to start from.
        label = f"NixOS on {Path(place.disk).name}"
        _ask(
            programs,
            (
                "--create-only",
                "--disk",
                place.disk,
                "--part",
                str(place.number),
                "--label",
                label,
                "--loader",
                loader,
            ),
        )
        did = f"{place.disk}: new entry in the firmware's boot menu"
        numbers = _numbers(_menu(programs), place, loader)
        if not numbers:
            raise _refused("it took the entry and does not list it")
    menu = _menu(programs)
    if not set(numbers) & set(_order(menu)):
        _ask(programs, ("--bootorder", ",".join((*_order(menu), numbers[0]))))
        did = did or f"{place.disk}: its entry is in the boot order again"
        if numbers[0] not in _order(_menu(programs)):
            raise _refused("it took the boot order and does not keep it")
    return did


def put_first(place: Place, program: str, label: str, programs: Programs) -> str | None:
    """Have a program of the partition first in the boot order; says what was done, if anything.

    `program` is a path from the top of the ESP, with slashes.
    """
    loader = "\\" + program.replace("/", "\\")
    did = None
    if not _numbers(_menu(programs), place, loader):
        words = ("--create-only", "--disk", place.disk, "--part", str(place.number))
        _ask(programs, (*words, "--label", label, "--loader", loader))
        did = f"{place.disk}: new entry {label} in the firmware's boot menu"
    menu = _menu(programs)
    numbers = _numbers(menu, place, loader)
    if not numbers:
        raise _refused("it took the entry and does not list it")
    if _order(menu)[:1] != numbers[:1]:
        order = (numbers[0], *(each for each in _order(menu) if each != numbers[0]))
        _ask(programs, ("--bootorder", ",".join(order)))
        did = did or f"{place.disk}: {label} is the first of the firmware's boot menu"
        if _order(_menu(programs))[:1] != numbers[:1]:
            raise _refused("it took the boot order and does not keep it")
    return did


def has_entry(place: Place, held: Inventory, programs: Programs) -> bool:
    """Whether the boot menu has the partition, in its order."""
    menu = _menu(programs)
    loaders = ["\\" + program.replace("/", "\\") for program in held.managers()]
    return any(set(_numbers(menu, place, loader)) & set(_order(menu)) for loader in loaders)


def _numbers(menu: str, place: Place, loader: str) -> list[str]:
    return [
        match["number"]
        for match in _BOOT.finditer(menu)
        if place.uuid in match["rest"].lower() and loader.lower() in match["rest"].lower()
    ]


def _order(menu: str) -> list[str]:
    match = _ORDER.search(menu)
    return [number for number in match["order"].split(",") if number] if match else []


def _menu(programs: Programs) -> str:
    return _ask(programs, ("--verbose",))


def _ask(programs: Programs, words: tuple[str, ...]) -> str:
    done = programs.run(("efibootmgr", *words), timeout=30, check=False)
    if done.status:
        raise _refused(done.stderr.strip() or done.text.strip() or f"efibootmgr ended with {done.status}")
    return done.text


def _refused(why: str) -> HyperError:
    return HyperError(
        "The firmware's boot menu could not be changed.",
        why=why,
        remedy="Add the disk in the firmware's setup; until then it starts by EFI/BOOT where the firmware looks at it.",
        code=Exit.step,
    )
