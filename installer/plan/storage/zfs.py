"""ZFS pools and datasets (zpool-create(8), zfsprops(7), zpoolprops(7))."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.answers.model import Redundancy
from installer.plan.actions import Action, ExportPool, ImportPool, MakeDirectory, Run
from installer.plan.checks import DatasetMounted, DatasetsAre, PoolIs, PoolMembersAre
from installer.plan.model import HostFilesystem, Step
from installer.plan.storage.element import Base, HostPart, Layout
from installer.plan.storage.filesystem import STAGE_ONE, Mounted, parent_mount
from installer.plan.storage.luks import Luks

ASHIFT = 12
"""Sectors of 4 KiB, whatever the disk says: nothing sold writes less at once, and it cannot be changed later."""
PROPERTIES = (
    "acltype=posixacl",
    "xattr=sa",
    "atime=off",
    "compression=lz4",
    "canmount=off",
    "mountpoint=none",
)
"""Of the top dataset; all others inherit them. The host's `fileSystems` mounts, not ZFS by itself."""


@dataclass(frozen=True, kw_only=True)
class ZfsPool(Base):
    """A pool with its datasets, made in one step."""

    on: tuple[str, ...]
    """Keys of the devices."""
    name: str
    """Name; unlike every other pool's, since it follows from the disks."""
    redundancy: Redundancy
    """How the devices are joined."""
    nofail: bool = False
    """The host starts without it."""

    def below(self) -> tuple[str, ...]:
        return self.on

    def ready(self, layout: Layout) -> str:
        del layout
        return f"import-{self.key}"

    def words(self) -> str:
        return f"ZFS {self.name}" + ("" if self.redundancy is Redundancy.none else f" ({self.redundancy})")

    def datasets(self, layout: Layout) -> tuple["ZfsDataset", ...]:
        """What is in it, as given."""
        return tuple(each for each in layout.above(self.key) if isinstance(each, ZfsDataset))

    def devices(self, layout: Layout) -> tuple[str, ...]:
        """The devices with the words between them that join them."""
        devices = layout.devices(self.on)
        match self.redundancy:
            case Redundancy.none:
                return devices
            case Redundancy.raid10:
                pairs = zip(devices[::2], devices[1::2], strict=True)
                return tuple(word for pair in pairs for word in ("mirror", *pair))
            case kind:
                return (kind.value, *devices)

    def steps(self, layout: Layout) -> Iterator[Step]:
        create = f"create-{self.key}"
        datasets = self.datasets(layout)
        devices = layout.devices(self.on)
        yield Step(
            id=create,
            summary=f"Make the pool {self.words()} on {layout.places(self.on)}",
            requires=layout.ready(self.on),
            writes=layout.writes(self.key),
            actions=(
                Run(
                    argv=(
                        *("zpool", "create", "-f"),
                        *("-o", f"ashift={ASHIFT}"),
                        *("-o", "autotrim=on"),
                        *("-o", "cachefile=none"),
                        *(word for each in PROPERTIES for word in ("-O", each)),
                        self.name,
                        *self.devices(layout),
                    )
                ),
                *(Run(argv=each.create(self.name)) for each in datasets),
            ),
            # What the devices say themselves: it also holds once the pool is exported.
            checks=(PoolMembersAre(name=self.name, devices=devices),),
            undo=tuple(self.release(layout)),
            weight=1,
        )
        yield Step(
            id=self.ready(layout),
            summary=f"Bring up the pool {self.name}",
            requires=(create,),
            actions=(ImportPool(name=self.name, nodes=self._nodes(layout)),),
            checks=(
                PoolIs(name=self.name, devices=devices, redundancy=self.redundancy.value),
                DatasetsAre(names=tuple(each.dataset(layout) for each in datasets)),
            ),
            undo=tuple(self.release(layout)),
            transient=True,
            weight=0.2,
        )

    def release(self, layout: Layout) -> Iterator[Action]:
        del layout
        # Exported, since a pool remembers the system that had it last, and the live system is not the host.
        yield ExportPool(name=self.name)

    def _nodes(self, layout: Layout) -> str:
        return "/dev/mapper" if isinstance(layout[self.on[0]], Luks) else "/dev/disk/by-id"

    def host(self, layout: Layout) -> HostPart:
        return HostPart(
            zfs_pools=(self.name,),
            zfs_nodes=(self._nodes(layout),),
            supported_filesystems=("zfs",),
            initrd_modules=() if self.nofail else ("zfs",),
        )


@dataclass(frozen=True, kw_only=True)
class ZfsDataset(Mounted):
    """A file system in a pool, which makes it."""

    pool: str
    """Key of the pool."""
    name: str
    """Name below the pool's."""
    properties: tuple[str, ...] = ()
    """Further properties."""

    @property
    def type(self) -> str:
        return "zfs"

    def below(self) -> tuple[str, ...]:
        return (self.pool,)

    def words(self) -> str:
        return f"zfs at {', '.join(mount.mountpoint for mount in self.mounts)}"

    def dataset(self, layout: Layout) -> str:
        """Its whole name."""
        pool = layout[self.pool]
        assert isinstance(pool, ZfsPool)
        return f"{pool.name}/{self.name}"

    def create(self, pool: str) -> tuple[str, ...]:
        """The command that makes it."""
        properties = ("mountpoint=legacy", "canmount=noauto", *self.properties)
        return (
            "zfs",
            "create",
            *(word for each in properties for word in ("-o", each)),
            f"{pool}/{self.name}",
        )

    def steps(self, layout: Layout) -> Iterator[Step]:
        dataset = self.dataset(layout)
        for mount in self.mounts:
            parent = parent_mount(layout, mount)
            options = ("-o", ",".join(mount.options)) if mount.options else ()
            yield Step(
                id=mount.step,
                summary=f"Mount the dataset {dataset} at {mount.target}",
                requires=(layout.base(self.pool).ready(layout), *((parent.step,) if parent else ())),
                actions=(
                    MakeDirectory(path=mount.target),
                    Run(argv=("mount", "-t", "zfs", *options, dataset, mount.target)),
                ),
                checks=(DatasetMounted(target=mount.target, dataset=dataset),),
                undo=(Run(argv=("umount", mount.target)),),
                transient=True,
                weight=0.2,
            )

    def host(self, layout: Layout) -> HostPart:
        return HostPart(
            filesystems=tuple(
                HostFilesystem(
                    mountpoint=mount.mountpoint,
                    device=self.dataset(layout),
                    kind="zfs",
                    options=(*mount.options, *mount.on_host),
                    needed_for_boot=mount.mountpoint in STAGE_ONE,
                )
                for mount in self.mounts
            )
        )
