"""The partition into which GRUB puts its core image when a BIOS boots a GPT disk (GRUB manual, BIOS installation)."""

from dataclasses import dataclass

from installer.answers.sizes import MIB
from installer.plan.storage.element import Element, HostPart, Layout

BIOS_BOOT_SIZE = MIB
"""Bytes; the core image takes 30 to 100 KiB."""


@dataclass(frozen=True, kw_only=True)
class BiosBoot(Element):
    """GRUB's place; grub-install fills it, nothing formats it."""

    on: str
    """Key of the partition."""

    def below(self) -> tuple[str, ...]:
        return (self.on,)

    def words(self) -> str:
        return "GRUB's BIOS code"

    def host(self, layout: Layout) -> HostPart:
        return HostPart(grub_devices=tuple(disk.device for disk in layout.disks(self.key)))
