"""File systems on disks that are not written to: found by what is in them, and mounted by the host."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.plan.checks import SignatureIs
from installer.plan.model import DiskIdentity, Step
from installer.plan.storage.disk import disk_title
from installer.plan.storage.element import Device, Layout
from installer.plan.storage.filesystem import hold_steps
from installer.plan.storage.kept import KeptFilesystem


@dataclass(frozen=True, kw_only=True)
class FoundDevice(Device):
    """A partition, or a disk without any, in whichever table; nothing of it is written."""

    disk: DiskIdentity
    """Which disk."""
    number: int | None
    """Of the partition; none: the whole disk."""
    size: int
    """Bytes."""
    kind: str
    """blkid's TYPE of what is on it."""
    uuid: str
    """Its UUID, as blkid writes it."""

    def identity(self) -> DiskIdentity:
        return self.disk

    def device(self, layout: Layout) -> str:
        del layout
        return self.disk.device if self.number is None else self.disk.partition(self.number)

    def ready(self, layout: Layout) -> str:
        del layout
        return f"find-{self.key}"

    def place(self, layout: Layout) -> str:
        del layout
        title = disk_title(self.disk)
        return title if self.number is None else f"partition {self.number} of {title}"

    def words(self) -> str:
        return f"{self.kind}, as it is"

    def steps(self, layout: Layout) -> Iterator[Step]:
        (above,) = (each for each in layout.above(self.key) if isinstance(each, FoundFilesystem))
        yield Step(
            id=self.ready(layout),
            summary=f"Find the {self.kind} in {self.place(layout)}, which the host mounts at "
            f"{', '.join(mount.mountpoint for mount in above.mounts)}",
            actions=(),
            checks=(SignatureIs(device=self.device(layout), type=self.kind, uuid=self.uuid),),
            weight=0.1,
        )


@dataclass(frozen=True, kw_only=True)
class FoundFilesystem(KeptFilesystem):
    """A file system that the host mounts as it is. It is mounted while the host is installed only where something of the
    host lies in it: else not one byte of it changes before the host's first start, not even by a journal that is played back.
    """

    def steps(self, layout: Layout) -> Iterator[Step]:
        if self.at_once:
            yield from super().steps(layout)
            return
        for mount in self.mounts:
            yield from hold_steps(layout, mount)
