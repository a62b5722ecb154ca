"""The field's own tools take the planned commands, and a low-level probe then finds what the checks expect.

Each planned device is a sparse file of its size; nothing is mounted, so neither root nor device-mapper is needed.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from installer.answers.sizes import GIB, MIB
from installer.plan.actions import Run
from installer.plan.checks import NoSignatures, PartitionTableIs, SignatureIs
from installer.plan.model import Plan, is_destructive
from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.plan_goldens import FIRMWARES

DISK_SIZE = 24 * GIB
PASSPHRASE = b"correct horse battery"
CHEAP = {**cases.ENCRYPTED, "pbkdf_memory": "32MiB", "pbkdf_iterations": 4}
ENVIRONMENT = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
"""HOME, where wipefs keeps what it erases, is each test's own folder."""
LUKS_HEADER = 16 * MIB


def plan_for(firmware: str, filesystem: str, encrypted: bool, hostname: str = "hv1") -> Plan:
    storage = cases.storage(
        filesystem=filesystem,
        encryption=CHEAP if encrypted else {},
        swap={"kind": "partition", "size": "1GiB"},
    )
    facts = cases.machine(cases.blank_disk(size=DISK_SIZE), firmware=FIRMWARES[firmware])
    return make_plan(facts, cases.answers(hostname=hostname, storage=storage), cases.medium())


def run(argv: tuple[str, ...], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    home = str(Path(argv[-1]).parent)
    return subprocess.run(
        argv, input=stdin, capture_output=True, env=ENVIRONMENT | {"HOME": home}, check=False
    )


def probe(file: Path) -> dict[str, str]:
    """What `blkid -p` finds."""
    lines = run(("blkid", "-p", "-o", "export", str(file))).stdout.decode().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return {key: re.sub(r"\\(.)", r"\1", value) for key, value in found.items()}


def files_for(plan: Plan, folder: Path) -> dict[str, Path]:
    """A sparse file for each device that the plan formats."""
    (table,) = (check for step in plan.steps for check in step.checks if isinstance(check, PartitionTableIs))
    sizes = {plan.disks[0].partition(each.number): each.size for each in table.partitions}
    sizes["/dev/mapper/cryptroot"] = table.partitions[-1].size - LUKS_HEADER
    files = {}
    for number, (device, size) in enumerate(sizes.items()):
        files[device] = folder / f"device-{number}"
        with files[device].open("wb") as file:
            file.truncate(size)
    return files


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "luks"])
@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_tools_make_what_checks_expect(
    tmp_path: Path, firmware: str, filesystem: str, encrypted: bool
) -> None:
    plan = plan_for(firmware, filesystem, encrypted)
    files = files_for(plan, tmp_path)
    found = []
    for step in plan.steps:
        for action in step.actions:
            if isinstance(action, Run) and is_destructive(action) and action.argv[-1] in files:
                argv = (*action.argv[:-1], str(files[action.argv[-1]]))
                done = run(argv, PASSPHRASE if action.stdin else b"")
                assert done.returncode == 0, (argv, done.stderr.decode())
        for check in step.checks:
            if isinstance(check, NoSignatures) and check.device in files:
                assert probe(files[check.device]) == {}
            if isinstance(check, SignatureIs):
                seen = probe(files[check.device])
                assert (seen.get("TYPE"), seen.get("UUID"), seen.get("LABEL")) == (
                    check.type,
                    check.uuid,
                    check.label,
                )
                found.append(check.type)
    expected = ["vfat"] if firmware == "uefi" else ["ext4"] if encrypted or filesystem != "ext4" else []
    expected += ["crypto_LUKS"] if encrypted else ["swap"]
    assert sorted(found) == sorted((*expected, filesystem))


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs"])
def test_tools_take_labels_of_the_longest_host_name(tmp_path: Path, filesystem: str) -> None:
    plan = plan_for("bios", filesystem, encrypted=False, hostname="h" * 63)
    files = files_for(plan, tmp_path)
    for step in plan.steps:
        for action in step.actions:
            if isinstance(action, Run) and is_destructive(action) and action.argv[-1] in files:
                done = run((*action.argv[:-1], str(files[action.argv[-1]])))
                assert done.returncode == 0, done.stderr.decode()
        for check in step.checks:
            if isinstance(check, SignatureIs):
                assert probe(files[check.device]).get("LABEL") == check.label


def test_what_was_there_before_does_not_come_back(tmp_path: Path) -> None:
    """A new table over an old LUKS container: its header must not be found in the new partition."""
    plan = plan_for("uefi", "ext4", encrypted=True)
    files = files_for(plan, tmp_path)
    wipe = next(step for step in plan.steps if step.id == "partition-main")
    formats = next(step for step in plan.steps if step.id == "encrypt-cryptroot")
    (luks,) = (action for action in formats.actions if isinstance(action, Run))
    old = files[luks.argv[-1]]
    assert run((*luks.argv[:-1], str(old)), PASSPHRASE).returncode == 0
    assert probe(old)["TYPE"] == "crypto_LUKS"
    for action in wipe.actions:
        if isinstance(action, Run):
            assert run((*action.argv[:-1], str(files[action.argv[-1]]))).returncode == 0
    assert probe(old) == {}
    assert run(("cryptsetup", "isLuks", str(old))).returncode != 0


def test_the_passphrase_opens_what_was_encrypted(tmp_path: Path) -> None:
    plan = plan_for("uefi", "xfs", encrypted=True)
    files = files_for(plan, tmp_path)
    formats = next(step for step in plan.steps if step.id == "encrypt-cryptroot")
    (luks,) = (action for action in formats.actions if isinstance(action, Run))
    container = files[luks.argv[-1]]
    assert run((*luks.argv[:-1], str(container)), PASSPHRASE).returncode == 0
    test = ("cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(container))
    assert run(test, PASSPHRASE).returncode == 0
    assert run(test, PASSPHRASE + b"\n").returncode != 0
    dump = run(("cryptsetup", "luksDump", str(container))).stdout.decode()
    assert re.search(r"PBKDF:\s+argon2id", dump)
    assert re.search(rf"Memory:\s+{32 * 1024}\n", dump)
    assert re.search(r"Time cost:\s+4\n", dump)
    assert re.search(r"Cipher key:\s+512 bits", dump)
