"""FAT32, for the EFI system partition (UEFI specification 2.10, section 13.3)."""

from dataclasses import dataclass
from typing import ClassVar

from installer.plan.actions import Action, Run
from installer.plan.storage.element import HostPart, Layout
from installer.plan.storage.filesystem import Filesystem

ESP_OPTIONS = ("fmask=0077", "dmask=0077")
"""Only root reads it: systemd-boot keeps its random seed there and refuses a seed that others can read."""


@dataclass(frozen=True, kw_only=True)
class Fat(Filesystem):
    """FAT32."""

    kind: ClassVar[str] = "vfat"
    label_limit: ClassVar[int] = 11

    def make(self, device: str, *more: str) -> tuple[Action, ...]:
        assert not more, "one device"
        volume_id = self.uuid.replace("-", "")
        return (Run(argv=("mkfs.fat", "-F", "32", "-i", volume_id, "-n", self.label, device)),)


@dataclass(frozen=True, kw_only=True)
class EfiSystem(Fat):
    """An EFI system partition's file system."""

    def host(self, layout: Layout) -> HostPart:
        mountpoints = tuple(mount.mountpoint for mount in self.mounts)
        return super().host(layout) + HostPart(esp_mountpoints=mountpoints)
