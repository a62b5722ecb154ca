"""The text that people confirm: within 80 columns, complete, and true to what is run."""

import shlex
from typing import Any

import pytest

from installer.errors import Exit, HyperError
from installer.execute.nix_store import copy_closure, realise_flake
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.plan.action_words import action_lines
from installer.plan.actions import CopyClosure, RealiseFlake, Run
from installer.plan.commands import build_command, copy_command
from installer.plan.describe import describe, draw
from installer.plan.lines import WIDTH, command_lines
from installer.plan.model import Plan, Region
from installer.plan.planner import make_plan
from installer.plan.token import confirm_token
from tests import machines
from tests import plan_cases as cases
from tests.plan_goldens import full_plan, golden_plans

PLANS = {**dict(golden_plans()), "everything": full_plan()}


def read_command(lines: list[str]) -> list[str]:
    """What a shell makes of a printed command."""
    return shlex.split("".join(line.removesuffix("\\") + " " for line in lines).replace("$ ", "", 1))


@pytest.mark.parametrize("name", PLANS)
def test_lines_fit_a_serial_console(name: str) -> None:
    for line in describe(PLANS[name], "answers.toml").splitlines():
        # One word may stand out: a path in two pieces could not be compared with anything.
        assert len(line) <= WIDTH or len(shlex.split(line.removesuffix("\\"))) <= 2, line
        assert line == line.rstrip()


@pytest.mark.parametrize("name", PLANS)
def test_every_command_can_be_read_back_from_the_text(name: str) -> None:
    text = describe(PLANS[name])
    for step in PLANS[name].steps:
        for action in step.actions:
            if isinstance(action, Run):
                lines = list(command_lines(action.argv, "     "))
                assert read_command(lines) == list(action.argv)
                assert "\n".join(lines) in text


@pytest.mark.parametrize("name", PLANS)
def test_disks_losses_warnings_and_token_are_in_the_text(name: str) -> None:
    plan = PLANS[name]
    text = describe(plan, "my answers.toml")
    flat = " ".join(text.split())
    for disk in plan.disks:
        assert all(each in flat for each in (disk.model, disk.serial, disk.wwn, disk.by_id) if each)
    for each in (*plan.destroyed[0].losses, *plan.warnings, *(step.summary for step in plan.steps)):
        assert each in flat
    assert read_command([text.splitlines()[-1]]) == [
        *("hv", "install"),
        *("--answers", "my answers.toml"),
        *("--confirm", confirm_token(plan)),
    ]


def test_secrets_are_named_not_shown() -> None:
    secret = next(
        action
        for step in full_plan().steps
        for action in step.actions
        if isinstance(action, Run) and action.stdin
    )
    assert "standard input: <passphrase> (from /run/secrets/passphrase)" in "\n".join(
        action_lines(secret, "")
    )
    assert "<password-hash:alice> (from the answers)" in describe(full_plan())
    assert "<password-hash:bob> (from /run/secrets/bob)" in describe(full_plan())


class Recorder:
    """Stands where the executor's runner does, and keeps what it was given."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.log = self

    def write(self, line: str) -> None:
        """The log."""

    def run(self, argv: list[str], **options: Any) -> Any:
        self.ran.append(tuple(argv))
        self.text = f"/nix/store/{'1' * 32}-nixos-system-hv1"
        self.stdout = b"{}"
        return self

    def inside(self, *parts: object) -> None:
        """Progress."""


def system_action(plan: Plan) -> RealiseFlake | CopyClosure:
    (action,) = next(step for step in plan.steps if step.id == "realise").actions
    assert isinstance(action, RealiseFlake | CopyClosure)
    return action


def test_nix_commands_shown_are_those_that_are_run(tmp_path: Any) -> None:
    recorder: Any = Recorder()
    flake = system_action(full_plan())
    ready = cases.answers(system={"source": "closure", "closure": "standard"})
    copied = system_action(make_plan(cases.machine(), ready, cases.medium()))
    assert isinstance(flake, RealiseFlake)
    assert isinstance(copied, CopyClosure)
    flake, copied = (each.model_copy(update={"store": str(tmp_path)}) for each in (flake, copied))
    assert isinstance(flake, RealiseFlake)
    assert isinstance(copied, CopyClosure)
    realise_flake(recorder, recorder, flake, least=0)
    assert recorder.ran[-1] == build_command(flake)
    copy_closure(recorder, recorder, copied)
    assert recorder.ran[-1] == copy_command(copied)


def test_bars_are_as_wide_as_told_and_show_every_number() -> None:
    for sizes in ((1,), (1, 1000, 10**12), tuple(range(1, 31))):
        regions = [
            Region(number=number, start=0, size=size, content="")
            for number, size in enumerate(sizes, start=1)
        ]
        bar = draw(regions, 76)
        assert len(bar) == max(76, sum(len(str(number)) + 1 for number in range(1, len(sizes) + 1)) + 1)
        assert [cell.rstrip("=") for cell in bar.strip("|").split("|")] == [
            str(region.number) for region in regions
        ]


# What becomes of asking for each disk of each recorded machine: a plan, or a refusal of this kind.
TOGETHER = {"sda": Exit.busy, "sdb": Exit.busy, "sdc": Exit.ok}
ALIKE = {"sda": Exit.selection, "sdb": Exit.selection}
FREE = {"sda": Exit.ok, "sdb": Exit.ok}
USED = {"sda": Exit.busy, "sdb": Exit.ok, "sdc": Exit.ok}
OUTCOMES: dict[str, dict[str, Exit]] = {
    "disks-in-order": FREE,
    "disks-reordered": FREE,
    "usb-bridge-twins": ALIKE,
    "raid-controller": ALIKE,  # by its serial number, which is the controller's; each volume has its WWN
    "raid-controller-without-wwn": ALIKE,
    "multipath-asleep": ALIKE,
    "usb-bridge": {"sda": Exit.ok},
    "virtio-nameless": {"vda": Exit.ok},
    "virtio-nameless-pair": {"vda": Exit.selection, "vdb": Exit.selection},
    "stack-lvm": TOGETHER,
    "stack-lvm-asleep": TOGETHER,
    "stack-md": TOGETHER,
    "stack-md-asleep": TOGETHER,
    "stack-zpool": TOGETHER,
    "stack-zpool-asleep": TOGETHER,
    "stack-btrfs": TOGETHER,
    "stack-btrfs-asleep": TOGETHER,
    "stack-bcache": TOGETHER,
    "stack-bcache-asleep": TOGETHER,
    "stack-crypt": TOGETHER,
    "stack-swap": USED,
    "stack-mounts": USED,
    "guest-kvm-without-hardware": {"vda": Exit.busy},
    "identical-gpus": {},
    "lab-bios": {"nvme0n1": Exit.ok, "vda": Exit.ok},
    "lab-uefi": {"nvme0n1": Exit.ok, "vda": Exit.ok},
    "laptop-bitlocker": {"nvme0n1": Exit.ok, "sdz": Exit.busy},
    "many-disks": {
        **dict.fromkeys(("nvme0n1", "nvme1n1", "sda", "sdb", "sdc", "sdd"), Exit.ok),
        "sdz": Exit.busy,
    },
    "mini-pc-all-off": {"sda": Exit.selection},
    "multipath-btrfs-pair": {
        "sda": Exit.selection,
        "sdb": Exit.selection,
        "sdc": Exit.busy,
        "sdd": Exit.busy,
        "sde": Exit.ok,
    },
    "server-md-lvm": {"sda": Exit.busy, "sdb": Exit.busy},
    "workstation": {"nvme0n1": Exit.ok, "nvme1n1": Exit.ok, "sdz": Exit.busy},
}


@pytest.mark.parametrize("name", machines.names())
def test_recorded_machines_are_planned_for_or_refused(name: str) -> None:
    facts = machines.load(name)
    assert {disk.name: outcome(facts, disk) for disk in facts.disks} == OUTCOMES[name]


def outcome(facts: Facts, disk: Disk) -> Exit:
    """Ask for the disk by serial, or by what else it has; a plan must name it, and no kernel name."""
    known = {"serial": disk.serial, "model": disk.model, "transport": disk.transport.value}
    selector = dict([next((name, value) for name, value in known.items() if value)])
    system = f"{facts.cpu.architecture}-linux"
    try:
        plan = make_plan(
            facts,
            cases.answers(storage={"disk": selector}),
            cases.medium(system=system, estimated_closure=1 << 30),
        )
    except HyperError as refusal:
        return refusal.code
    assert str(disk.serial or disk.path) in describe(plan)
    assert all(f"/dev/{each.name}" not in plan.model_dump_json() for each in facts.disks)
    return Exit.ok
