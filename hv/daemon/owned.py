"""What of a guest is hvd's to change: its row, its volumes."""

from typing import Any

import sqlalchemy as sql

from hv.daemon.guests import definition, disks_in, domain_of
from hv.daemon.operations import Work
from hv.daemon.problems import RefusedError, Status
from hv.daemon.store import VMS, VOLUMES


def _row(work: Work) -> dict[str, Any] | None:
    return work.store.row(sql.select(VMS).where(VMS.c.uuid == work.uuid))


def ours(work: Work) -> dict[str, Any]:
    """The guest's row. Raises RefusedError for a guest that hvd did not make."""
    row = _row(work)
    if row is None:
        raise RefusedError(
            "not-ours",
            Status.conflict,
            f"{work.target} is not hvd's to change.",
            why="hvd did not make it, and does not know what its disks are for",
            remedy="root changes it with virsh.",
        )
    return row


def volume_behind(work: Work, target: str) -> dict[str, Any]:
    """The volume behind a guest's disk. Raises RefusedError."""
    domain = domain_of(work.connection, work.uuid)
    disks = {disk["target"]: disk for disk in disks_in(definition(domain))}
    rows = {
        row["name"]: row for row in work.store.rows(sql.select(VOLUMES).where(VOLUMES.c.vm == work.uuid))
    }
    path = (disks.get(target) or {}).get("path") or ""
    row = rows.get(path.rpartition("/")[2])
    if row is None or row["kind"] != "disk":
        known = ", ".join(str(name) for name in disks) or "none"
        raise RefusedError(
            "no-such-disk",
            Status.missing,
            f"{work.target} has no disk {target!r} of hvd's.",
            why=f"it has: {known}",
            remedy=f"See `hv vm show '{work.target}'`.",
        )
    return row
