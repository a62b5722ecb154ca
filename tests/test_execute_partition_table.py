"""libparted's objects end when Python collects them, perhaps long after their table was written."""

import gc
import subprocess
import sys
from pathlib import Path

from installer.execute import partition_table
from installer.plan.actions import PartitionSpec
from installer.plan.model import DiskIdentity
from tests.nixeval.nix import REPOSITORY

LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
TABLES = {
    "fits": ((1, 1, 10), (2, 20, 30)),
    "overlaps": ((1, 1, 10), (2, 5, 10)),
    "has a gap in its numbers": ((1, 1, 10), (3, 20, 10)),
}
"""Number, start and size in MiB."""


def write(path: Path, mebibytes: int, table: str) -> None:
    """Write a table to a sparse file."""
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    disk = DiskIdentity(
        key="main",
        wwn=None,
        serial="S1",
        by_id="x",
        model=None,
        size=mebibytes << 20,
        logical_sector=512,
    )
    specs = tuple(
        PartitionSpec(number=number, label=f"p{number}", type_uuid=LINUX, start=start << 20, size=size << 20)
        for number, start, size in TABLES[table]
    )
    partition_table._commit(str(path), disk, specs)


def many(folder: Path) -> None:
    """Tables good and bad, on disks that change their size, with the errors' frames kept alive for a while."""
    errors = []
    for number in range(120):
        try:
            write(folder / f"disk{number % 7}", 64 + number % 5, list(TABLES)[number % 3])
        except Exception as error:
            errors.append(error)
        if number % 11 == 0:
            gc.collect()
    assert len(errors) == 80
    errors.clear()
    gc.collect()


def test_the_end_of_an_old_table_does_not_end_the_program(tmp_path: Path) -> None:
    """libparted calls abort() when a device goes before what was made of it; so a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-2000:]


if __name__ == "__main__":
    many(Path(sys.argv[1]))
    print("whole")
