"""`docs/tested-layouts.md`: the last result of every long test, written by `make test-matrix` itself."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "docs/tested-layouts.md"
_HEAD = """\
# Tested layouts

`make test-matrix` writes this page: the last result of each of its tests, when it ended, how long it took, and what it
counted. Nobody edits it by hand; a test that has not run since it was written has no row. Times are of whatever machine
ran it, without KVM.

Rows of `test_layout`, `test_combination` and `test_example` (the layouts of `examples/`) are machines installed from
blank disks, booted, logged in to and set up; mirrors are also booted with each disk pulled, and rescued without one.
`test_what_an_older_table_left_is_not_brought_up` and `test_what_reaches_another_disk_is_refused` have md and LVM of
before on the disks, `test_an_encrypted_root_grows_without_a_passphrase` grows LUKS. `test_power_cuts` pulls the plug
of the machine at random moments of an installation and installs again. `test_killed_at_every_moment_of_every_step`
kills the installer; `test_killed_at_every_moment_of_new_kinds_of_steps` does in the other layouts' steps that those
two do not have. `test_bad_sector` has QEMU answer requests for one sector with errors;
`test_disk_pulled_while_installing` pulls a disk while the system is copied, and plugs it in again.
`test_zfs_…` are pools that the installer and `hv rescue` make, find, keep and refuse in the live system; hosts on ZFS
are booted by `test_example[many-disks-zfs]` and `test_layout[uefi-zfs-luks]`, one whose guests have a pool of their own
by `test_layout[uefi-guests-zfs]`.

| Test | Result | When (UTC) | Took | Counted |
|---|---|---|---|---|
"""
_ROW = re.compile(
    r"^\| `(?P<name>[^`]+)` \| (?P<result>[^|]*) \| (?P<when>[^|]*) \| (?P<took>[^|]*) \| (?P<counted>.*) \|$"
)


@dataclass(frozen=True, order=True)
class Row:
    """One test's last result."""

    name: str
    """Of the test, with its parameter."""
    result: str
    """`passed` or `FAILED`."""
    when: str
    """When it ended."""
    took: str
    """Minutes and seconds."""
    counted: str
    """What it said that it proved."""

    def __str__(self) -> str:
        counted = self.counted.replace("|", "/").replace("\n", " ")
        return f"| `{self.name}` | {self.result} | {self.when} | {self.took} | {counted} |\n"


def read(text: str) -> tuple[Row, ...]:
    """The rows of the page."""
    return tuple(Row(**found.groupdict()) for line in text.splitlines() if (found := _ROW.match(line)))


def page(rows: Iterable[Row]) -> str:
    """The page with these rows."""
    return _HEAD + "".join(map(str, sorted(rows)))


def update(path: Path, fresh: Iterable[Row]) -> None:
    """Put in what was run now; other rows stay, but for those of a test that has got parameters since, or lost them."""
    fresh = tuple(fresh)
    known = {row.name: row for row in (read(path.read_text(encoding="utf-8")) if path.exists() else ())}
    for row in fresh:
        now = row.name.partition("[")[:2]
        before = (now[0], "" if now[1] else "[")
        known = {name: old for name, old in known.items() if name.partition("[")[:2] != before}
        known[row.name] = row
    path.write_text(page(known.values()), encoding="utf-8")
