"""XFS (mkfs.xfs(8))."""

from dataclasses import dataclass
from typing import ClassVar

from installer.plan.actions import Action, Run
from installer.plan.storage.filesystem import Filesystem


@dataclass(frozen=True, kw_only=True)
class Xfs(Filesystem):
    """An XFS file system."""

    kind: ClassVar[str] = "xfs"
    label_limit: ClassVar[int] = 12

    def make(self, device: str, *more: str) -> tuple[Action, ...]:
        assert not more, "one device"
        return (Run(argv=("mkfs.xfs", "-f", "-m", f"uuid={self.uuid}", "-L", self.label, device)),)
