"""Kernels on a partition of their own: planned, formatted by the field's tools, proved, rendered, evaluated, refused."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hv.firstrun.phase import boot_default
from hv.firstrun.world import World
from installer.answers.check import check
from installer.answers.model import Answers
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.execute.boot_proof import BootSpec, _boot_loader_entries, _check_systemd_boot
from installer.execute.evidence import Wrong
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.facts.firmware import FirmwareKind
from installer.plan.actions import LookAtEsp, Run, WritePartitionTable
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.plan.storage.gpt import PartitionType
from installer.plan.storage.xbootldr import LOADER_ROOM
from installer.render import load_templates, render
from tests import plan_cases as cases
from tests import test_keep_plan as beside
from tests.nixeval import hosts
from tests.nixeval.cases import MEDIUM
from tests.nixeval.host import evaluate_flake_host

APART = {"kernels": "xbootldr"}


def answers(**changes: Any) -> Answers:
    return cases.answers(**({"boot": APART} | changes))


def plan(**changes: Any) -> Plan:
    made = answers(**changes)
    assert not check(made)
    return make_plan(cases.machine(), made, cases.medium())


def test_a_disk_of_its_own_gets_both() -> None:
    made = plan()
    (table,) = (
        each for step in made.steps for each in step.actions if isinstance(each, WritePartitionTable)
    )
    esp, kernels, *_ = table.partitions
    assert (esp.type_uuid, esp.size) == (PartitionType.esp.value, 512 * MIB)
    assert (kernels.type_uuid, kernels.size) == (PartitionType.xbootldr.value, 2 * GIB)
    assert (made.host.esp_mountpoint, made.host.xbootldr_mountpoint) == ("/efi", "/boot")
    assert {"/efi", "/boot"} <= {each.mountpoint for each in made.host.filesystems}
    usual = make_plan(cases.machine(), cases.answers(), cases.medium())
    assert usual.host.xbootldr_mountpoint is None and usual.host.esp_mountpoint == "/boot"


def test_the_fields_tool_makes_both(tmp_path: Path) -> None:
    """The planned commands, on sparse files; the labels are different, and so are the ids."""
    found = {}
    for step in plan().steps:
        for action in step.actions:
            if isinstance(action, Run) and action.argv[0] == "mkfs.fat":
                file = tmp_path / step.id
                with file.open("wb") as blank:
                    blank.truncate(512 * MIB)
                runner = Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"] + ":/usr/sbin:/sbin")
                runner.run([*action.argv[:-1], str(file)])
                probe = subprocess.run(
                    ("blkid", "-p", "-o", "export", str(file)), capture_output=True, text=True, check=True
                ).stdout
                found[step.id] = dict(line.split("=", 1) for line in probe.splitlines() if "=" in line)
    assert [each["LABEL"] for each in found.values()] == ["ESP", "XBOOTLDR"]
    assert len({each["UUID"] for each in found.values()}) == 2
    assert {each["VERSION"] for each in found.values()} == {"FAT32"}


def test_a_shared_esp_that_is_too_small_keeps_the_loader_alone() -> None:
    """Windows makes 100 MiB: enough for a loader, and for no kernel."""
    facts = beside.machine(*beside.WINDOWS)
    made = beside.plan(facts, esp="share")
    (look,) = (each for step in made.steps for each in step.actions if isinstance(each, LookAtEsp))
    assert look.room == LOADER_ROOM
    assert (made.host.esp_mountpoint, made.host.xbootldr_mountpoint) == ("/efi", "/boot")
    large = (
        replace(beside.WINDOWS[0], size=2 * GIB),
        *(replace(each, start=each.start + 2 * GIB) for each in beside.WINDOWS[1:]),
    )
    assert beside.plan(beside.machine(*large), esp="share").host.xbootldr_mountpoint is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boot": APART | {"firmware": "bios"}}, "is UEFI's"),
        ({"boot": APART | {"loader": "grub"}}, "systemd-boot's own"),
        ({"storage": {"layout": "mirror", "disk": {"transport": "nvme", "count": 2}}}, "for one disk"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], words: str) -> None:
    problems = check(answers(**changes))
    assert [(problem.path, words in problem.wrong) for problem in problems] == [(("boot", "kernels"), True)]


def test_several_disks_that_were_chosen_by_themselves_are_refused() -> None:
    facts = cases.machine(
        cases.blank_disk(), cases.blank_disk(name="nvme1n1", serial="OTHER", wwn=None, by_id=("nvme-OTHER",))
    )
    storage = {"layout": "auto", "disk": {"transport": "nvme", "count": 2}}
    with pytest.raises(HyperError, match="does not fit several disks") as caught:
        make_plan(facts, answers(storage=storage), cases.medium())
    assert caught.value.code is Exit.answers


def test_under_bios_there_is_none() -> None:
    made = make_plan(cases.machine(firmware=FirmwareKind.bios), answers(), cases.medium())
    assert made.host.xbootldr_mountpoint is None


def test_loader_and_entries_are_looked_for_where_they_are(tmp_path: Path) -> None:
    efi, boot = tmp_path / "efi", tmp_path / "boot"
    for place in (efi / "EFI/systemd", efi / "EFI/BOOT", efi / "loader", boot / "loader/entries"):
        place.mkdir(parents=True)
    for program in ("EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"):
        (efi / program).write_bytes(b"MZ")
    (efi / "loader/loader.conf").write_text("default nixos-generation-1.conf\n")
    (boot / "loader/entries/nixos-generation-1.conf").write_text(
        "linux /EFI/nixos/kernel\ninitrd /EFI/nixos/initrd\noptions init=/nix/store/x/init quiet\n"
    )
    spec = BootSpec("default", "/nix/store/x/init", "", "", (), "x86_64-linux")
    entries = tuple(_boot_loader_entries(boot))
    assert entries[0].kernel == boot / "EFI/nixos/kernel"
    assert _check_systemd_boot(efi, entries, (spec,))
    with pytest.raises(Wrong):
        _check_systemd_boot(efi, tuple(_boot_loader_entries(efi)), (spec,))
    world = World(programs=Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"]), root=tmp_path)
    assert boot_default(world) == "/nix/store/x/init"


SELECT = """host: {
  loader = host.config.boot.loader.systemd-boot.xbootldrMountPoint;
  esp = host.config.boot.loader.efi.efiSysMountPoint;
  places = builtins.attrNames host.config.fileSystems;
  toplevel = host.config.system.build.toplevel.drvPath;
}"""


@pytest.mark.nixpkgs
def test_the_host_evaluates(tmp_path: Path) -> None:
    facts, made = cases.machine(), answers()
    files = render(facts, made, make_plan(facts, made, MEDIUM), MEDIUM, load_templates()).files
    found = evaluate_flake_host(hosts.write(files, tmp_path), made.hostname, SELECT)
    assert not found.failed_assertions and not found.warnings
    assert (found.value["loader"], found.value["esp"]) == ("/boot", "/efi")
    assert {"/boot", "/efi"} <= set(found.value["places"])
