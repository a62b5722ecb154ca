"""btrfs with subvolumes (mkfs.btrfs(8), btrfs-subvolume(8))."""

from dataclasses import dataclass
from typing import ClassVar

from installer.answers.model import Redundancy
from installer.plan.actions import Action, ForgetDevices, MakeDirectory, Run
from installer.plan.checks import Check, DevicesOf, SubvolumesAre
from installer.plan.model import TARGET
from installer.plan.storage.element import HostPart, Layout
from installer.plan.storage.filesystem import Filesystem, named

PROFILES = {
    Redundancy.none: {},
    Redundancy.raid10: {4: "raid10"},
    Redundancy.mirror: {2: "raid1", 3: "raid1c3", 4: "raid1c4"},
}
"""Profiles of mkfs.btrfs(8) by redundancy and the least number of devices."""


@dataclass(frozen=True, kw_only=True)
class Btrfs(Filesystem):
    """A btrfs; each mount names its subvolume in the option `subvol=/NAME`."""

    kind: ClassVar[str] = "btrfs"
    label_limit: ClassVar[int] = 255

    subvolumes: tuple[str, ...]
    """Names at the top level."""
    redundancy: Redundancy = Redundancy.none
    """How several devices are joined."""

    def profile(self) -> tuple[str, ...]:
        """How data and metadata are spread; mkfs.btrfs chooses well on one device."""
        if not self.more:
            return ()
        count = 1 + len(self.more)
        name = max(
            ((least, name) for least, name in PROFILES[self.redundancy].items() if least <= count),
            default=(0, "single"),
        )[1]
        # Even where data is on one device only, metadata is worth two copies.
        return ("-d", name, "-m", "raid1" if name == "single" else name)

    def make(self, device: str, *more: str) -> tuple[Action, ...]:
        # Made in one step with the file system, so that a second try starts from an empty one. What the first try made is
        # erased before: mkfs.btrfs takes an older btrfs with the same UUID for a second device of the new one, and finds
        # the device busy with itself.
        #
        # The kernel remembers devices by the UUID of their file system, which a plan pins: of one that an earlier try made,
        # perhaps before its table was written again, it would look for the devices of then. Each mount names its own.
        known = (ForgetDevices(),) if more else ()
        return (
            *(Run(argv=("wipefs", "--all", each)) for each in (device, *more)),
            Run(
                argv=("mkfs.btrfs", "-f", "-U", self.uuid, "-L", self.label, *self.profile(), device, *more)
            ),
            *known,
            *(self._subvolumes(device, *more) if self.subvolumes else ()),
        )

    def _subvolumes(self, device: str, *more: str) -> tuple[Action, ...]:
        options = ",".join(("subvolid=5", *named(more)))
        return (
            MakeDirectory(path=TARGET),
            Run(argv=("mount", "-t", "btrfs", "-o", options, device, TARGET)),
            *(Run(argv=("btrfs", "subvolume", "create", f"{TARGET}/{name}")) for name in self.subvolumes),
            Run(argv=("umount", TARGET)),
        )

    def made(self, device: str, *more: str) -> tuple[Check, ...]:
        joined = (DevicesOf(uuid=self.uuid, devices=(device, *more)),) if more else ()
        subvolumes = (SubvolumesAre(uuid=self.uuid, names=self.subvolumes),) if self.subvolumes else ()
        return (*super().made(device), *joined, *subvolumes)

    def unmake(self) -> tuple[Action, ...]:
        return (Run(argv=("umount", TARGET)),) if self.subvolumes else ()

    def host(self, layout: Layout) -> HostPart:
        part = super().host(layout)
        mirrored = self.redundancy is not Redundancy.none and any(m.mountpoint == "/" for m in self.mounts)
        return part + HostPart(degraded=(self.uuid,)) if mirrored else part
