"""How a first boot that fails goes back by itself. Pure."""

from enum import StrEnum

from installer.migrate.findings import Findings
from installer.migrate.summary import Summary

GRUB_WRITES = frozenset(("ext2", "ext3", "ext4", "vfat", "msdos", "xfs"))
"""File systems on which GRUB can overwrite its environment block, which is how it forgets a one-shot default (GRUB
manual, "Environment block": not on btrfs or ZFS, nor on LVM, md or LUKS)."""
PLAIN_DISKS = ("/dev/sd", "/dev/nvme", "/dev/vd", "/dev/hd", "/dev/mmcblk", "/dev/xvd", "/dev/disk/")


class Fallback(StrEnum):
    """What takes the machine back to the old system."""

    counted = "counted"
    """systemd-boot counts the boots of the new entry, and passes it over when none is left."""
    once = "once"
    """systemd-boot starts the new entry once (LoaderEntryOneShot); the old one stays the default."""
    grub = "grub"
    """GRUB starts the new entry once (next_entry); the old one stays the default."""
    none = "none"
    """Nothing: a person chooses the old generation in the boot menu."""


def fallback_of(findings: Findings, summary: Summary) -> tuple[Fallback, str]:
    """The means, and why there is none."""
    loader = summary.loader
    if loader.systemd_boot:
        if loader.counts:
            return Fallback.counted, ""
        if findings.efi and findings.variables_writable:
            return Fallback.once, ""
        return (
            Fallback.none,
            "this release's systemd-boot does not count boots, and EFI variables cannot be written",
        )
    if loader.grub:
        holder = next((each for each in findings.spaces if each.mount == "/boot"), None)
        holder = holder or next((each for each in findings.spaces if each.mount == "/"), None)
        if holder is None or holder.kind not in GRUB_WRITES or not holder.device.startswith(PLAIN_DISKS):
            place = f"{holder.mount} ({holder.kind} on {holder.device})" if holder else "the unknown /boot"
            return Fallback.none, f"GRUB cannot write to {place}, so it would not forget a one-shot default"
        return Fallback.grub, ""
    return Fallback.none, "the boot loader is neither systemd-boot nor GRUB"
