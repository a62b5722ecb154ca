"""LVM: volume groups, logical volumes, thin pools (lvm(8), lvmthin(7))."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from installer.answers.sizes import format_size
from installer.plan.actions import Action, Run
from installer.plan.checks import VolumesActive, VolumesAre
from installer.plan.model import Step
from installer.plan.storage.element import Base, Device, HostPart, Layout

EXTENT = 4 << 20
"""Bytes; LVM's default."""
POOL_SHARE = 95
"""Percent of the free space that a thin pool takes: the rest is for its metadata to grow into (lvmthin(7))."""
Segment = Literal["linear", "thin-pool", "thin"]


@dataclass(frozen=True, kw_only=True)
class VolumeGroup(Base):
    """A volume group with all its volumes, made in one step so that a second try starts from an empty device."""

    on: tuple[str, ...]
    """Keys of the physical volumes."""
    name: str
    """Name; unlike every other group's, since it follows from the disks."""
    uuids: tuple[str, ...]
    """UUIDs of the physical volumes."""

    def below(self) -> tuple[str, ...]:
        return self.on

    def ready(self, layout: Layout) -> str:
        del layout
        return f"activate-{self.key}"

    def words(self) -> str:
        return f"LVM {self.name}"

    def volumes(self, layout: Layout) -> tuple["Volume", ...]:
        """Pools before what lies in them, and what takes a size before what takes the rest."""
        found = [each for each in layout.elements if isinstance(each, Volume) and each.group == self.key]
        return tuple(sorted(found, key=lambda each: (each.segment == "thin", each.size is None)))

    def steps(self, layout: Layout) -> Iterator[Step]:
        devices = layout.devices(self.on)
        create = f"create-{self.key}"
        volumes = self.volumes(layout)
        expected = {each.name: each.segment for each in volumes}
        yield Step(
            id=create,
            summary=f"Make the volume group {self.name} on {layout.places(self.on)}",
            requires=layout.ready(self.on),
            writes=layout.writes(self.key),
            actions=(
                *(Run(argv=("wipefs", "--all", device)) for device in devices),
                *(
                    Run(argv=("pvcreate", "--yes", "--uuid", uuid, "--norestorefile", device))
                    for device, uuid in zip(devices, self.uuids, strict=True)
                ),
                Run(argv=("vgcreate", "--yes", self.name, *devices)),
                *(Run(argv=each.create(self.name, layout)) for each in volumes),
            ),
            checks=(VolumesAre(group=self.name, devices=devices, volumes=expected),),
            undo=tuple(self.release(layout)),
            weight=1,
        )
        yield Step(
            id=self.ready(layout),
            summary=f"Bring up the volume group {self.name}",
            requires=(create,),
            actions=(Run(argv=("vgchange", "--activate", "y", self.name)),),
            checks=(
                VolumesActive(devices=tuple(each.device(layout) for each in volumes if each.device_made)),
            ),
            undo=tuple(self.release(layout)),
            transient=True,
            weight=0.2,
        )

    def release(self, layout: Layout) -> Iterator[Action]:
        del layout
        yield Run(argv=("vgchange", "--activate", "n", self.name))

    def host(self, layout: Layout) -> HostPart:
        del layout
        return HostPart(volume_groups=(self.name,), initrd_modules=("dm_mod",))


@dataclass(frozen=True, kw_only=True)
class Volume(Device):
    """A logical volume; its group makes it."""

    group: str
    """Key of the volume group."""
    name: str
    """Name in the group."""
    size: int | None
    """Bytes, a multiple of the extent; none: the rest of the group (a pool: most of it)."""
    segment: Segment = "linear"
    """What it is; a thin volume lies in the group's only thin pool."""
    pool: str | None = None
    """Key of the thin pool."""

    @property
    def device_made(self) -> bool:
        """Whether it shows as a device: a pool does not while volumes lie in it, and need not else."""
        return self.segment != "thin-pool"

    def below(self) -> tuple[str, ...]:
        return (self.pool,) if self.pool else (self.group,)

    def device(self, layout: Layout) -> str:
        group = layout[self.group]
        assert isinstance(group, VolumeGroup)
        # Hyphens inside names are doubled (lvm(8), device-mapper names).
        return "/dev/mapper/" + "-".join(word.replace("-", "--") for word in (group.name, self.name))

    def ready(self, layout: Layout) -> str:
        return layout.base(self.group).ready(layout)

    def place(self, layout: Layout) -> str:
        group = layout[self.group]
        assert isinstance(group, VolumeGroup)
        return f"volume {self.name} of {group.name}"

    def words(self) -> str:
        size = f", {format_size(self.size)}" if self.size is not None else ""
        match self.segment:
            case "linear":
                return f"volume {self.name}{size}"
            case "thin-pool":
                return f"thin pool {self.name}{size}"
            case "thin":
                return f"thin volume {self.name}{size}"

    def create(self, group: str, layout: Layout) -> tuple[str, ...]:
        """The command that makes it."""
        asked = ("--size", f"{self.size}b") if self.size is not None else None
        kind: tuple[str, ...]
        match self.segment:
            case "linear":
                kind = ("--wipesignatures", "y", "--zero", "y", *(asked or ("--extents", "100%FREE")))
            case "thin-pool":
                kind = ("--type", "thin-pool", *(asked or ("--extents", f"{POOL_SHARE}%FREE")))
            case "thin":
                pool = layout[self.pool or ""]
                assert isinstance(pool, Volume)
                kind = ("--type", "thin", "--virtualsize", f"{self.size}b", "--thinpool", pool.name)
        return ("lvcreate", "--yes", *kind, "--name", self.name, group)

    def host(self, layout: Layout) -> HostPart:
        if self.segment != "thin-pool":
            return HostPart()
        in_stage_one = any(isinstance(each, Volume) and each.pool == self.key for each in layout.elements)
        return HostPart(
            thin_pools=(self.name,), initrd_modules=("dm_thin_pool", "dm_snapshot") if in_stage_one else ()
        )
