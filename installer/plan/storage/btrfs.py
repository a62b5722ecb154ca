"""btrfs with subvolumes (mkfs.btrfs(8), btrfs-subvolume(8))."""

from dataclasses import dataclass
from typing import ClassVar

from installer.plan.actions import Action, MakeDirectory, Run
from installer.plan.checks import Check, SubvolumesAre
from installer.plan.model import TARGET
from installer.plan.storage.filesystem import Filesystem


@dataclass(frozen=True, kw_only=True)
class Btrfs(Filesystem):
    """A btrfs; each mount names its subvolume in the option `subvol=/NAME`."""

    kind: ClassVar[str] = "btrfs"
    label_limit: ClassVar[int] = 255

    subvolumes: tuple[str, ...]
    """Names at the top level."""

    def make(self, device: str) -> tuple[Action, ...]:
        # Made in one step with the file system, so that a second try starts from an empty one.
        return (
            Run(argv=("mkfs.btrfs", "-f", "-U", self.uuid, "-L", self.label, device)),
            MakeDirectory(path=TARGET),
            Run(argv=("mount", "-t", "btrfs", "-o", "subvolid=5", device, TARGET)),
            *(Run(argv=("btrfs", "subvolume", "create", f"{TARGET}/{name}")) for name in self.subvolumes),
            Run(argv=("umount", TARGET)),
        )

    def made(self, device: str) -> tuple[Check, ...]:
        return (*super().made(device), SubvolumesAre(uuid=self.uuid, names=self.subvolumes))

    def unmake(self) -> tuple[Action, ...]:
        return (Run(argv=("umount", TARGET)),)
