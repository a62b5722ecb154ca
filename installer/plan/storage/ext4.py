"""ext4 (mke2fs(8), ext4(5))."""

from dataclasses import dataclass
from typing import ClassVar

from installer.plan.actions import Action, Run
from installer.plan.storage.filesystem import Filesystem


@dataclass(frozen=True, kw_only=True)
class Ext4(Filesystem):
    """An ext4 file system."""

    kind: ClassVar[str] = "ext4"
    label_limit: ClassVar[int] = 16

    read_by_grub: bool = False
    """GRUB finds kernels in it: leave out what GRUB before 2.12 cannot read."""

    def make(self, device: str, *more: str) -> tuple[Action, ...]:
        assert not more, "one device"
        features = ("-O", "^metadata_csum_seed") if self.read_by_grub else ()
        return (Run(argv=("mkfs.ext4", "-F", "-U", self.uuid, "-L", self.label, *features, device)),)
