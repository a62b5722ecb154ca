"""Whole disks: kept record of what was there, then blank."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.answers.sizes import format_size
from installer.plan.actions import Run, SaveHeaders
from installer.plan.checks import HeadersSaved, NoSignatures
from installer.plan.model import DiskIdentity, Step
from installer.plan.storage.element import Device, Layout


def disk_title(disk: DiskIdentity) -> str:
    """A disk for a person: model, serial, size."""
    name = (disk.serial and f"serial {disk.serial}") or (disk.wwn and f"WWN {disk.wwn}") or disk.name
    return f"{disk.model or 'disk'} ({name}, {format_size(disk.size)})"


def erase(device: str) -> Run:
    """Erase every signature on a device; wipefs keeps what it erased, so that `hv install --abort` can put it back."""
    return Run(argv=("wipefs", "--all", "--backup", device))


@dataclass(frozen=True, kw_only=True)
class SavedDisk(Device):
    """A disk whose table and headers are saved before anything is written to any disk."""

    disk: DiskIdentity
    """Which."""

    def identity(self) -> DiskIdentity:
        return self.disk

    def device(self, layout: Layout) -> str:
        del layout
        return self.disk.device

    def place(self, layout: Layout) -> str:
        del layout
        return disk_title(self.disk)

    def words(self) -> str:
        return disk_title(self.disk)

    @property
    def saved(self) -> str:
        """Id of the step that saves them."""
        return f"save-headers-{self.key}"

    def save(self, layout: Layout) -> Step:
        """That step."""
        return Step(
            id=self.saved,
            summary=f"Save the partition table and headers of {self.words()}",
            requires=layout.gate,
            actions=(SaveHeaders(disk=self.key),),
            checks=(HeadersSaved(disk=self.key),),
        )


def saved_steps(layout: Layout) -> tuple[str, ...]:
    """Ids of the steps that save what was on the disks."""
    return tuple(each.saved for each in layout.elements if isinstance(each, SavedDisk))


@dataclass(frozen=True, kw_only=True)
class WholeDisk(SavedDisk):
    """A disk that is emptied."""

    old_partitions: tuple[int, ...]
    """Numbers of the partitions on it now that hold something: not an MBR's extended one."""

    def ready(self, layout: Layout) -> str:
        del layout
        return f"wipe-{self.key}"

    def steps(self, layout: Layout) -> Iterator[Step]:
        # Of every disk before any is written to: one that cannot be read leaves the others as they are.
        saved = saved_steps(layout)
        yield self.save(layout)
        # A step of its own: with the table these devices vanish, and a second try could not wipe them again.
        partitions = f"wipe-partitions-{self.key}"
        olds = tuple(self.disk.partition(number) for number in sorted(self.old_partitions, reverse=True))
        if olds:
            yield Step(
                id=partitions,
                summary=f"Erase every signature in the partitions of {self.words()}",
                requires=saved,
                writes=(self.key,),
                actions=tuple(erase(device) for device in olds),
                checks=tuple(NoSignatures(device=device) for device in olds),
            )
        yield Step(
            id=self.ready(layout),
            summary=f"Erase the partition table and every signature on {self.words()}",
            requires=(partitions,) if olds else saved,
            writes=(self.key,),
            actions=(erase(self.disk.device),),
            checks=(NoSignatures(device=self.disk.device),),
        )
