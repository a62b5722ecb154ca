"""Signatures on block devices, read past every cache."""

from dataclasses import dataclass
from pathlib import Path

from installer.execute.evidence import Evidence, Wrong, ensure
from installer.execute.runner import Runner

_NOTHING_FOUND = 2
"""blkid(8): the device could not be identified."""


@dataclass(frozen=True)
class Signature:
    """What blkid finds."""

    kind: str | None
    """TYPE."""
    uuid: str | None
    """UUID."""
    label: str | None
    """LABEL."""
    table: str | None
    """PTTYPE."""


def probe_signature(runner: Runner, device: str) -> Signature | None:
    """A low-level probe (`blkid -p`); none: no signature.

    Raises:
        CommandError: the device cannot be read, or carries several contradicting signatures.
    """
    found = runner.run(["blkid", "-p", "-o", "export", device], check=False)
    if found.status == _NOTHING_FOUND:
        Path(device).stat()  # blkid says the same of a device that is not there
        return None
    if found.status != 0:
        runner.run(["blkid", "-p", "-o", "export", device])
    values = dict(line.split("=", 1) for line in found.text.splitlines() if "=" in line)
    # `export` escapes for a shell: `\ ` and friends
    values = {key: value.replace("\\", "") for key, value in values.items()}
    signature = Signature(values.get("TYPE"), values.get("UUID"), values.get("LABEL"), values.get("PTTYPE"))
    # Of an empty partition blkid still tells where it lies (PART_ENTRY_…).
    return signature if signature.kind or signature.table else None


def check_none(runner: Runner, device: str) -> Evidence:
    """There is no signature."""
    found = probe_signature(runner, device)
    ensure(found is None, f"no signature on {device}", str(found))
    return (f"{device} carries no signature",)


def check_signature(runner: Runner, device: str, kind: str, uuid: str, label: str | None) -> Evidence:
    """The device carries this signature; UUIDs of FAT are compared without regard to case."""
    found = probe_signature(runner, device)
    if found is None:
        raise Wrong(f"{kind} {uuid} on {device}", "no signature")
    same = found.kind == kind and (found.uuid or "").lower() == uuid.lower()
    ensure(same, f"{kind} {uuid} on {device}", f"{found.kind} {found.uuid}")
    ensure(label is None or found.label == label, f"label {label} on {device}", f"{found.label}")
    return (f"{device}: {found.kind} {found.uuid}" + (f" {found.label!r}" if found.label else ""),)
