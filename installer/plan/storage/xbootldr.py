"""The extended boot loader partition: kernels and initrds beside an EFI system partition that is too small for them (UAPI
Boot Loader Specification). FAT32 as well: systemd-boot brings no driver of its own, and firmware reads FAT.
"""

from dataclasses import dataclass

from installer.plan.storage.element import HostPart, Layout
from installer.plan.storage.vfat import Fat

EFI = "/efi"
"""Where the EFI system partition is then."""
LOADER_ROOM = 16 << 20
"""Bytes that systemd-boot takes on it: itself twice, its settings, a random seed."""


@dataclass(frozen=True, kw_only=True)
class Xbootldr(Fat):
    """Its file system."""

    def host(self, layout: Layout) -> HostPart:
        mountpoints = tuple(mount.mountpoint for mount in self.mounts)
        return super().host(layout) + HostPart(xbootldr_mountpoints=mountpoints)
