"""Names and UUIDs that follow from disks' identities and a host's name: the same plan twice, byte for byte."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID, uuid5

from installer.plan.canonical import canonical_json
from installer.plan.model import DiskIdentity

NAMESPACE = UUID("8f3c2a52-6d1e-5b0f-9d57-2f6f1b6f4a11")
"""This project's namespace for version 5 UUIDs (RFC 9562 section 5.5); never change it."""


@dataclass(frozen=True)
class Names:
    """What things on one disk, or on several together, of one host are called."""

    hostname: str
    """The host to be."""
    disks: tuple[DiskIdentity, ...]
    """The disks they are on; their order does not matter."""

    def uuid(self, role: str) -> str:
        """UUID of what plays this role."""
        # A disk without a name of its own is told from others of its size by where it hangs; not by what is on it, so
        # that it is known again once this host is.
        each = sorted(
            (
                [disk.wwn, disk.serial, disk.size, *([] if disk.by_id else [disk.by_path])]
                for disk in self.disks
            ),
            key=canonical_json,
        )
        identity = [*(each[0] if len(each) == 1 else each), self.hostname, role]
        return str(uuid5(NAMESPACE, canonical_json(identity)))

    def array_uuid(self, role: str) -> str:
        """The UUID as md and udev write it: four groups of eight digits."""
        digits = UUID(self.uuid(role)).hex
        return ":".join(digits[place : place + 8] for place in range(0, 32, 8))

    def volume_uuid(self, role: str) -> str:
        """The UUID as LVM writes that of a physical volume: 32 characters in groups of 6, 4, 4, 4, 4, 4 and 6."""
        digits = UUID(self.uuid(role)).hex
        ends = (0, 6, 10, 14, 18, 22, 26, 32)
        return "-".join(digits[start:end] for start, end in pairwise(ends))

    def group(self, role: str) -> str:
        """Name of a volume group or a ZFS pool, which must differ from those on all other disks of a machine."""
        return f"{role}_{self.uuid(f'{role}-group')[:4]}"

    def volume_id(self, role: str) -> str:
        """FAT volume id as blkid writes it, `XXXX-XXXX` (32 bits)."""
        digits = self.uuid(role)[:8].upper()
        return f"{digits[:4]}-{digits[4:]}"

    def host_id(self) -> str:
        """`networking.hostId`: eight hexadecimal digits."""
        return self.uuid("host-id")[:8]

    def label(self, role: str, limit: int) -> str:
        """`<hostname>-<role>` in at most `limit` characters; a cut host name gets a hash, so that it stays unique."""
        whole = f"{self.hostname}-{role}"
        if len(whole) <= limit:
            return whole
        digest = hashlib.sha256(self.hostname.encode()).hexdigest()[:4]
        kept = self.hostname[: limit - len(role) - len(digest) - 2].rstrip("-")
        return "-".join(filter(None, (kept, digest, role)))
