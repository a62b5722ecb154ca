"""GUID partition tables (UEFI specification 2.10, chapter 5) and their partitions."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from installer.answers.sizes import MIB
from installer.plan.actions import PartitionSpec, WritePartitionTable
from installer.plan.checks import NoSignatures, PartitionTableIs
from installer.plan.model import Region, Step
from installer.plan.storage.disk import disk_title, erase
from installer.plan.storage.element import Base, Device, Layout

ALIGNMENT = MIB
"""Partitions start at multiples of this: erase blocks and RAID stripes of everything sold divide it."""
LABEL_LIMIT = 36
"""Characters in a partition name."""


class PartitionType(StrEnum):
    """Type GUIDs. The discoverable root types (UAPI Discoverable Partitions Specification) are for hosts that get a system
    which was built before they were known, and finds its root by them.
    """

    esp = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    xbootldr = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
    bios_boot = "21686148-6449-6e6f-744e-656564454649"
    linux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    root_arm64 = "b921b045-1df0-41c3-af44-4c6f280d3fae"
    root_x86_64 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    luks = "ca7d7ccb-63ed-4c53-861c-1742536059cc"
    plain_crypt = "7ffec5c9-2d00-49b7-8941-3ea10a5586b7"
    swap = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
    raid = "a19d880f-05fc-4d3b-a006-743f0f84911e"
    lvm = "e6d6d379-f507-44c2-a23c-238f2a3df928"
    zfs = "6a898cc3-1dd2-11b2-99a6-080020736631"


def usable_end(size: int) -> int:
    """Where partitions must end, in bytes: aligned, with at least the last MiB left for the second table."""
    return (size - MIB) // ALIGNMENT * ALIGNMENT


@dataclass(frozen=True, kw_only=True)
class Partition(Device):
    """One partition; the table that it stands on makes it."""

    table: str
    """Key of the table."""
    number: int
    """From 1."""
    label: str
    """GPT name."""
    type: PartitionType
    """GPT type."""
    start: int
    """Bytes."""
    size: int
    """Bytes."""

    def below(self) -> tuple[str, ...]:
        return (self.table,)

    def device(self, layout: Layout) -> str:
        (disk,) = layout.disks(self.key)
        return disk.partition(self.number)

    def ready(self, layout: Layout) -> str:
        return layout.base(self.table).ready(layout)

    def place(self, layout: Layout) -> str:
        (disk,) = layout.disks(self.key)
        return f"partition {self.number} of {disk_title(disk)}"

    def words(self) -> str:
        return f"partition {self.number}"

    def regions(self, layout: Layout) -> Iterator[tuple[str, Region]]:
        (disk,) = layout.disks(self.key)
        content = layout.content(self.key)
        yield disk.key, Region(number=self.number, start=self.start, size=self.size, content=content)

    def spec(self) -> PartitionSpec:
        """As the executor writes it."""
        return PartitionSpec(
            number=self.number,
            label=self.label,
            type_uuid=self.type.value,
            start=self.start,
            size=self.size,
        )


@dataclass(frozen=True, kw_only=True)
class Table(Base):
    """The partition table of one disk; its partitions stand on it."""

    disk: str
    """Key of the disk."""

    def below(self) -> tuple[str, ...]:
        return (self.disk,)

    def ready(self, layout: Layout) -> str:
        del layout
        return f"partition-{self.disk}"

    def words(self) -> str:
        return "GPT"

    def steps(self, layout: Layout) -> Iterator[Step]:
        partitions = tuple(each for each in layout.above(self.key) if isinstance(each, Partition))
        specs = tuple(each.spec() for each in partitions)
        devices = tuple(each.device(layout) for each in partitions)
        yield Step(
            id=self.ready(layout),
            summary=f"Write a new partition table on {layout.device(self.disk).place(layout)}",
            requires=(layout.device(self.disk).ready(layout),),
            writes=(self.disk,),
            # What stood at these places before (an old LUKS header, a RAID member) would come to light again.
            actions=(
                WritePartitionTable(disk=self.disk, partitions=specs),
                *(erase(device) for device in devices),
            ),
            checks=(
                PartitionTableIs(disk=self.disk, partitions=specs),
                *(NoSignatures(device=device) for device in devices),
            ),
        )
