"""Data that is there already on disks that the host is not installed on: found before anything is written, never changed."""

from collections.abc import Container, Iterator, Sequence

from installer.answers.model import Answers
from installer.answers.select import title
from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Filesystem
from installer.plan.identity import identify
from installer.plan.layouts.fates import Meant
from installer.plan.layouts.kept import MOUNTABLE, PATIENCE, require_alone
from installer.plan.losses import content_words
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.filesystem import Mount, Mounted
from installer.plan.storage.found import FoundDevice, FoundFilesystem
from installer.plan.storage.gpt import Partition
from installer.plan.storage.kept import KeptFilesystem

DATA = "data"
"""Beginning of their keys."""


def found_elements(
    facts: Facts, answers: Answers, mounted: Sequence[Meant], shared: Container[str]
) -> tuple[Element, ...]:
    """The devices, and the file systems that the host mounts from them.

    Args:
        facts: The machine.
        answers: What is wanted.
        mounted: What is meant.
        shared: Names in by-id that several disks have.

    Raises:
        HyperError: one is no file system that is mounted as it is, or another has its UUID (Exit.unsuitable).
    """
    devices: list[Element] = []
    filesystems: list[Element] = []
    places = [each.wanted.mount for each in mounted if each.wanted.mount]
    for number, each in enumerate(mounted, start=1):
        place = each.wanted.mount or ""
        filesystem = _mountable(each, place)
        uuid = filesystem.uuid or ""
        require_alone(facts, each.disk, each.partition)
        named = each.wanted.disk.by_id if each.wanted.disk else None
        device = FoundDevice(
            key=f"{DATA}-{number}",
            disk=identify(each.disk, f"{DATA}-{number}", shared, named),
            number=each.partition.number if each.partition else None,
            size=each.partition.size if each.partition else each.disk.size,
            kind=filesystem.kind,
            uuid=uuid,
        )
        devices.append(device)
        inside = [
            *(other for other in places if other != place),
            answers.first_run.pool,
            *answers.storage.keep,
        ]
        filesystems.append(
            FoundFilesystem(
                key=f"{DATA}-fs-{number}",
                on=device.key,
                kind=filesystem.kind,
                uuid=uuid,
                mounts=(Mount(place, MOUNTABLE[filesystem.kind], PATIENCE, held=True),),
                at_once=any(other == place or other.startswith(f"{place}/") for other in inside),
            )
        )
    return (*devices, *filesystems)


def with_found(layout: Layout, found: Sequence[Element]) -> Layout:
    """The layout with these beside it, each found before anything is written.

    Raises:
        HyperError: something is mounted in the same place (Exit.answers).
    """
    if not found:
        return layout
    taken = {
        mount.mountpoint for each in layout.elements if isinstance(each, Mounted) for mount in each.mounts
    }
    for each in (one for one in found if isinstance(one, KeptFilesystem)):
        for mount in each.mounts:
            if mount.mountpoint in taken:
                raise HyperError(
                    f"two file systems would be mounted at {mount.mountpoint}",
                    why="storage.partitions names the place, and something of the layout is mounted there already",
                    remedy="write another `mount`",
                    code=Exit.answers,
                )
    devices = tuple(each for each in found if isinstance(each, FoundDevice))
    seen = Layout(elements=tuple(found))
    return Layout(
        elements=(*devices, *layout.elements, *(each for each in found if each not in devices)),
        gate=(*layout.gate, *(each.ready(seen) for each in devices)),
    )


def lines(found: Sequence[Element]) -> Iterator[str]:
    """What is mounted, one sentence each."""
    layout = Layout(elements=tuple(found))
    for each in found:
        if isinstance(each, FoundFilesystem):
            device = layout[each.on]
            assert isinstance(device, FoundDevice)
            places = ", ".join(mount.mountpoint for mount in each.mounts)
            when = (
                "mounted already while the host is installed"
                if each.at_once
                else "no byte of it changes before the host's first start"
            )
            yield f"{device.place(layout)}: {each.kind}, {format_size(device.size)}, at {places}; {when}"


def require_not_own(layout: Layout, hostname: str) -> None:
    """HyperError (Exit.selection) if one of them is the host's own partition, which is mounted by the layout."""
    own = {
        (disk.name, each.number)
        for each in layout.elements
        if isinstance(each, Partition)
        for disk in layout.disks(each.key)
    }
    for each in layout.elements:
        if isinstance(each, FoundDevice) and (each.disk.name, each.number) in own:
            raise HyperError(
                f"{each.place(layout)} is not mounted a second time",
                why=f"it is {hostname}'s own, and stays where it is mounted",
                remedy="leave it out of storage.partitions",
                code=Exit.selection,
            )


def _mountable(meant: Meant, place: str) -> Filesystem:
    filesystem = meant.partition.filesystem if meant.partition else meant.disk.filesystem
    if filesystem and filesystem.kind in MOUNTABLE and filesystem.uuid:
        return filesystem
    where = (
        f"partition {meant.partition.number} of {title(meant.disk)}"
        if meant.partition
        else title(meant.disk)
    )
    raise HyperError(
        f"{where} cannot be mounted at {place} as it is",
        why=f"it holds {content_words(filesystem)}; what is mounted as it is: {', '.join(MOUNTABLE)}",
        remedy="leave the entry out: it stays as it is, and the host can be taught to open it later",
        code=Exit.unsuitable,
    )
