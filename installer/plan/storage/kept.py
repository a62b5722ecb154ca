"""Partitions of a disk that stay: their table is changed and not replaced, their file systems are mounted and not made."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.plan.actions import (
    ChangePartitionTable,
    FoundPartition,
    LookAtEsp,
    MakeDirectory,
    PartitionSpec,
    Run,
)
from installer.plan.checks import (
    EntriesKept,
    ForeignFilesKept,
    MountedAt,
    NoSignatures,
    PartitionTableIs,
    SignatureIs,
)
from installer.plan.model import HostFilesystem, Region, Step
from installer.plan.storage.disk import SavedDisk, disk_title, erase, saved_steps
from installer.plan.storage.element import Base, Device, HostPart, Layout
from installer.plan.storage.filesystem import STAGE_ONE, Mounted, hold_steps, parent_mount
from installer.plan.storage.gpt import Partition


@dataclass(frozen=True, kw_only=True)
class KeptDisk(SavedDisk):
    """A disk of which only the table's ends are saved: nothing on it is erased."""

    def ready(self, layout: Layout) -> str:
        del layout
        return self.saved

    def steps(self, layout: Layout) -> Iterator[Step]:
        yield self.save(layout)


@dataclass(frozen=True, kw_only=True)
class KeptPartition(Device):
    """A partition that stays as it is."""

    table: str
    """Key of the table."""
    found: FoundPartition
    """As the probe found it."""
    label: str
    """GPT name."""
    content: str
    """What is in it, for a person."""

    def below(self) -> tuple[str, ...]:
        return (self.table,)

    def device(self, layout: Layout) -> str:
        (disk,) = layout.disks(self.key)
        return disk.partition(self.found.number)

    def ready(self, layout: Layout) -> str:
        return layout.base(self.table).ready(layout)

    def place(self, layout: Layout) -> str:
        (disk,) = layout.disks(self.key)
        return f"partition {self.found.number} of {disk_title(disk)}"

    def words(self) -> str:
        return f"partition {self.found.number}, kept"

    def regions(self, layout: Layout) -> Iterator[tuple[str, Region]]:
        (disk,) = layout.disks(self.key)
        above = layout.content(self.key)
        content = f"kept: {self.content}" + (f" > {above}" if above else "")
        yield (
            disk.key,
            Region(number=self.found.number, start=self.found.start, size=self.found.size, content=content),
        )

    def spec(self) -> PartitionSpec:
        """As it must read back."""
        found = self.found
        return PartitionSpec(
            number=found.number,
            label=self.label,
            type_uuid=found.type_uuid,
            start=found.start,
            size=found.size,
        )


@dataclass(frozen=True, kw_only=True)
class KeptTable(Base):
    """A GPT that is there already, changed in some entries; one step, so that a second try starts from the saved one."""

    disk: str
    """Key of the disk."""
    found: tuple[FoundPartition, ...]
    """All that is on it now, in order of number."""
    delete: tuple[int, ...] = ()
    """Numbers of those that go."""

    def below(self) -> tuple[str, ...]:
        return (self.disk,)

    def ready(self, layout: Layout) -> str:
        del layout
        return f"partition-{self.disk}"

    def words(self) -> str:
        return "GPT, kept"

    def steps(self, layout: Layout) -> Iterator[Step]:
        above = layout.above(self.key)
        ours = tuple(each for each in above if isinstance(each, Partition))
        kept = tuple(each for each in above if isinstance(each, KeptPartition))
        numbers = {each.number for each in self.found} - {*self.delete}
        specs = tuple(sorted((each.spec() for each in ours), key=lambda spec: spec.number))
        action = ChangePartitionTable(
            disk=self.disk,
            found=self.found,
            delete=self.delete,
            change=tuple(each for each in specs if each.number in numbers),
            add=tuple(each for each in specs if each.number not in numbers),
        )
        every = sorted((*specs, *(each.spec() for each in kept)), key=lambda spec: spec.number)
        devices = tuple(each.device(layout) for each in ours)
        changes = bool(action.delete or specs)
        # What another system's partition holds is looked at before the first write, since it may forbid all of it.
        looks = tuple(each.look for each in layout.elements if isinstance(each, SharedEsp))
        # Of every disk before any is written to: one that cannot be read leaves the others as they are.
        saved = dict.fromkeys((layout.device(self.disk).ready(layout), *saved_steps(layout)))
        yield Step(
            id=self.ready(layout),
            summary=self._summary(layout, action) if changes else "Find the partition table as it was",
            requires=(*saved, *looks),
            writes=(self.disk,) if changes else (),
            actions=(action, *(erase(device) for device in devices)) if changes else (),
            checks=(
                PartitionTableIs(disk=self.disk, partitions=tuple(every)),
                EntriesKept(disk=self.disk, numbers=action.kept),
                *(NoSignatures(device=device) for device in devices),
            ),
        )

    def _summary(self, layout: Layout, action: ChangePartitionTable) -> str:
        parts = [
            f"{word} {', '.join(map(str, numbers))}"
            for word, numbers in (
                ("remove", action.delete),
                ("make anew", tuple(each.number for each in action.change)),
                ("add", tuple(each.number for each in action.add)),
                ("keep", action.kept),
            )
            if numbers
        ]
        return f"Change the partition table of {layout.device(self.disk).place(layout)}: {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class KeptFilesystem(Mounted):
    """A file system that stays, and that the host mounts."""

    on: str
    """Key of the partition."""
    kind: str
    """`fsType`, and blkid's TYPE."""
    uuid: str
    """Its UUID, as blkid writes it."""

    @property
    def type(self) -> str:
        return self.kind

    def below(self) -> tuple[str, ...]:
        return (self.on,)

    def words(self) -> str:
        return f"at {', '.join(mount.mountpoint for mount in self.mounts)}"

    def needed(self) -> tuple[str, ...]:
        """Ids of steps before it is mounted, besides its partition's."""
        return ()

    def steps(self, layout: Layout) -> Iterator[Step]:
        base = layout.device(self.on)
        device = base.device(layout)
        for mount in self.mounts:
            parent, hold = parent_mount(layout, mount), tuple(hold_steps(layout, mount))
            yield from hold
            options = ("-o", ",".join(mount.options)) if mount.options else ()
            yield Step(
                id=mount.step,
                summary=f"Mount the {self.kind} that stays in {base.place(layout)} at {mount.target}",
                requires=(
                    base.ready(layout),
                    *self.needed(),
                    *((parent.step,) if parent else ()),
                    *(each.id for each in hold),
                ),
                actions=(
                    MakeDirectory(path=mount.target),
                    Run(argv=("mount", "-t", self.kind, *options, device, mount.target)),
                ),
                checks=(
                    SignatureIs(device=device, type=self.kind, uuid=self.uuid),
                    MountedAt(target=mount.target, uuid=self.uuid, options=mount.in_force),
                ),
                undo=(Run(argv=("umount", mount.target)),),
                transient=True,
                weight=0.2,
            )

    def host(self, layout: Layout) -> HostPart:
        del layout
        return HostPart(
            filesystems=tuple(
                HostFilesystem(
                    mountpoint=mount.mountpoint,
                    device=f"/dev/disk/by-uuid/{self.uuid}",
                    kind=self.kind,
                    options=(*mount.options, *mount.on_host),
                    needed_for_boot=mount.mountpoint in STAGE_ONE,
                    later=not self.at_once,
                )
                for mount in self.mounts
            ),
            supported_filesystems=(self.kind,),
        )


@dataclass(frozen=True, kw_only=True)
class SharedEsp(KeptFilesystem):
    """Another system's EFI system partition, from which the host starts too: our files come beside its own."""

    room: int
    """Bytes that must be free on it."""

    @property
    def look(self) -> str:
        """Id of the step that looks into it."""
        return f"look-at-{self.key}"

    def needed(self) -> tuple[str, ...]:
        return (self.look,)

    def partition(self, layout: Layout) -> KeptPartition:
        """Where it is."""
        partition = layout[self.on]
        assert isinstance(partition, KeptPartition)
        return partition

    def steps(self, layout: Layout) -> Iterator[Step]:
        (disk,) = layout.disks(self.key)
        yield Step(
            id=self.look,
            summary=f"See what other systems have on the EFI system partition of {disk_title(disk)}, and whether it has room",
            requires=layout.gate,
            actions=(
                LookAtEsp(disk=disk.key, partition=self.partition(layout).found.number, room=self.room),
            ),
            checks=(ForeignFilesKept(disk=disk.key, path=""),),
        )
        yield from super().steps(layout)

    def host(self, layout: Layout) -> HostPart:
        mountpoints = tuple(mount.mountpoint for mount in self.mounts)
        return super().host(layout) + HostPart(esp_mountpoints=mountpoints)
