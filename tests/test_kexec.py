"""`at_end = "kexec"`: what the plan says, what is loaded, and where it is refused. The lab starts a kernel for real."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from installer.errors import Exit, HyperError
from installer.execute.evidence import Wrong
from installer.execute.kexec import LOADED, check_loaded, load_kernel
from installer.execute.live import LiveSystem
from installer.execute.log import NoLog
from installer.execute.preflight import needed_programs
from installer.execute.runner import Runner
from installer.facts.common import Judgement, Verdict
from installer.plan.describe import describe
from installer.plan.planner import make_plan
from tests import plan_cases as cases

KEXEC = cases.answers(at_end="kexec")


def test_the_plan_says_what_is_loaded() -> None:
    plan = make_plan(cases.machine(), KEXEC, cases.medium())
    steps = [step.id for step in plan.steps]
    assert steps.index("save-log") < steps.index("load-kernel") < steps.index("unmount")
    text = describe(plan)
    assert "kexec --load /mntKERNEL" in text
    assert "--initrd=/mntINITRD" in text
    assert "init=TOPLEVEL/init PARAMS" in text
    assert "/sys/kernel/kexec_loaded" in text
    assert "kexec" in needed_programs(plan)


@pytest.mark.parametrize("at_end", ["reboot", "poweroff", "stay"])
def test_other_ends_load_nothing(at_end: str) -> None:
    plan = make_plan(cases.machine(), cases.answers(at_end=at_end), cases.medium())
    assert "load-kernel" not in [step.id for step in plan.steps]
    assert "kexec" not in needed_programs(plan)


def test_secure_boot_refuses_it_with_the_reason() -> None:
    facts = cases.machine()
    on = Judgement(verdict=Verdict.yes, because="Secure Boot is enforced")
    facts = facts.model_copy(update={"firmware": facts.firmware.model_copy(update={"secure_boot": on})})
    with pytest.raises(HyperError, match="does not work with Secure Boot") as refused:
        make_plan(facts, KEXEC, cases.medium())
    assert refused.value.code is Exit.unsuitable
    assert "signed" in refused.value.why
    assert 'at_end = "reboot"' in refused.value.remedy
    make_plan(facts, cases.answers(at_end="reboot"), cases.medium())


def test_kernel_initrd_and_parameters_are_those_of_the_target(tmp_path: Path) -> None:
    """kexec itself is a stand-in that writes its arguments down."""
    toplevel = f"/nix/store/{'1' * 32}-nixos-system-hv1"
    target = tmp_path / "mnt"
    system = target / toplevel[1:]
    system.mkdir(parents=True)
    profiles = target / "nix/var/nix/profiles"
    profiles.mkdir(parents=True)
    (profiles / "system-1-link").symlink_to(toplevel)
    (profiles / "system").symlink_to("system-1-link")
    spec = {
        "init": f"{toplevel}/init",
        "kernel": "/nix/store/k-linux/bzImage",
        "initrd": "/nix/store/i-initrd/initrd",
        "kernelParams": ["loglevel=4", "console=ttyS0,115200"],
    }
    (system / "boot.json").write_text(json.dumps({"org.nixos.bootspec.v1": spec}))
    program = tmp_path / "bin/kexec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/said\n')
    program.chmod(0o755)
    load_kernel(Runner(NoLog(), f"{program.parent}:/usr/bin:/bin"), target)
    assert (tmp_path / "said").read_text().splitlines() == [
        "--load",
        f"{target}/nix/store/k-linux/bzImage",
        f"--initrd={target}/nix/store/i-initrd/initrd",
        f"--command-line=init={toplevel}/init loglevel=4 console=ttyS0,115200",
    ]


def test_a_kernel_that_is_not_held_is_noticed(tmp_path: Path) -> None:
    live = replace(LiveSystem(), sysfs=tmp_path)
    with pytest.raises(Wrong, match="no such file"):
        check_loaded(live)
    file = tmp_path / LOADED
    file.parent.mkdir(parents=True)
    file.write_text("0\n")
    with pytest.raises(Wrong, match="found 0"):
        check_loaded(live)
    file.write_text("1\n")
    assert check_loaded(live) == ("/sys/kernel/kexec_loaded says 1",)
