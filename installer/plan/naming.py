"""Names and UUIDs that follow from a disk's identity and a host's name: the same plan twice, byte for byte."""

import hashlib
from dataclasses import dataclass
from uuid import UUID, uuid5

from installer.plan.canonical import canonical_json
from installer.plan.model import DiskIdentity

NAMESPACE = UUID("8f3c2a52-6d1e-5b0f-9d57-2f6f1b6f4a11")
"""This project's namespace for version 5 UUIDs (RFC 9562 section 5.5); never change it."""


@dataclass(frozen=True)
class Names:
    """What things on one disk of one host are called."""

    hostname: str
    """The host to be."""
    disk: DiskIdentity
    """The disk they are on."""

    def uuid(self, role: str) -> str:
        """UUID of what plays this role."""
        # A disk without a name of its own is told from others of its size by where it hangs; not by what is on it, so
        # that it is known again once this host is.
        place = [] if self.disk.by_id else [self.disk.by_path]
        identity = [self.disk.wwn, self.disk.serial, self.disk.size, *place, self.hostname, role]
        return str(uuid5(NAMESPACE, canonical_json(identity)))

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
