"""The firmware's boot menu: one entry for each disk that can start the host (efibootmgr(8), UEFI specification 3.1)."""

import json
import os
import re

from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.runner import Runner
from installer.plan.actions import WriteBootEntry
from installer.plan.model import DiskIdentity

ARCHITECTURES = {"x86_64": "x64", "aarch64": "aa64"}
"""Machine to what UEFI calls it in file names."""
_ENTRY = re.compile(r"^Boot([0-9A-F]{4})\*?\s+(.*)$")


def readable(live: LiveSystem) -> bool:
    """Whether the firmware's variables are there at all."""
    variables = live.sysfs / "firmware/efi/efivars"
    return variables.is_dir() and any(variables.iterdir())


def partition_uuid(runner: Runner, disk: DiskIdentity, number: int) -> str:
    """The GUID by which an entry names the partition, lower case."""
    table = json.loads(runner.run(["sfdisk", "--json", os.path.realpath(disk.device)], quiet=True).text)
    return str(table["partitiontable"]["partitions"][number - 1]["uuid"]).lower()


def entries_of(runner: Runner, uuid: str) -> tuple[tuple[str, str], ...]:
    """Number and description of every entry for a partition."""
    lines = runner.run(["efibootmgr", "--verbose"], check=False).text.splitlines()
    found = (_ENTRY.match(line) for line in lines if uuid in line.lower())
    return tuple((match.group(1), match.group(2)) for match in found if match)


def write_boot_entry(live: LiveSystem, runner: Runner, action: WriteBootEntry, disk: DiskIdentity) -> None:
    """Write it, in place of what an earlier try or installation left for the same partition."""
    if not readable(live):
        runner.log.write("# no firmware variables here: the firmware starts EFI/BOOT of each disk")
        return
    for number, _ in entries_of(runner, partition_uuid(runner, disk, action.partition)):
        runner.run(["efibootmgr", "--quiet", "--delete-bootnum", "--bootnum", number])
    loader = action.loader.replace("ARCH", ARCHITECTURES[os.uname().machine])
    # Last in the order: the first disk stays the one that is started.
    before = _order(runner)
    argv = ["efibootmgr", "--quiet", "--create", "--disk", os.path.realpath(disk.device)]
    argv += ["--part", str(action.partition), "--label", action.label, "--loader", loader]
    runner.run(argv)
    added = [number for number in _order(runner) if number not in before]
    if added and before:
        runner.run(["efibootmgr", "--quiet", "--bootorder", ",".join((*before[:1], *added, *before[1:]))])


def _order(runner: Runner) -> list[str]:
    text = runner.run(["efibootmgr"], check=False).text
    match = re.search(r"^BootOrder:\s*(\S+)", text, re.MULTILINE)
    return match.group(1).split(",") if match else []


def check_boot_entry(live: LiveSystem, runner: Runner, disk: DiskIdentity, partition: int) -> Evidence:
    """There is one, or nothing that could be read."""
    if not readable(live):
        return (f"firmware variables cannot be read here: the firmware starts EFI/BOOT of {disk.name}",)
    found = entries_of(runner, partition_uuid(runner, disk, partition))
    ensure(bool(found), f"a boot entry for partition {partition} of {disk.name}", "none")
    return tuple(f"boot entry {number} for {disk.name}: {words.split(chr(9))[0]}" for number, words in found)
