"""Whole installations on a loop device: real tables, file systems, mounts and store; only the boot is the lab's."""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.errors import Exit
from installer.execute.journal import Journal
from installer.plan.planner import make_plan
from installer.plan.token import confirm_token
from tests.execute.ready import Ready, answers_for, ready_rig
from tests.execute.rig import add_nix, namespace, prepare, rig
from tests.plan_cases import HASH

pytestmark = [pytest.mark.root, pytest.mark.nix]


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Ready]:
    with ready_rig(tmp_path) as made:
        yield made


def test_installs_and_proves(ready: Ready) -> None:
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert ready.journal.finished
    assert ready.file("/etc/shadow").splitlines()[1].startswith(f"alice:{HASH}:")
    record = json.loads(ready.file("/var/lib/hyper-nixos/handoff.json"))
    assert record["hostname"] == "loop"
    log = ready.file("/var/log/hyper-nixos/install.log")
    assert "mkfs.ext4" in log
    assert HASH not in log
    assert HASH not in ready.rig.live.log.read_text()
    assert HASH not in ready.rig.live.journal.read_text()
    assert HASH not in done.stdout
    assert "alice" in done.stdout
    assert "100 %" in done.stdout or f"{len(ready.plan.steps)}/{len(ready.plan.steps)}" in done.stdout


def test_killed_at_every_boundary_and_gone_on_with(ready: Ready) -> None:
    """Each run dies after some events, by turns at every kind of boundary; what was verified is not done again."""
    last = set()
    for count in cycle((3, 4, 5, 6)):
        done = ready.space.install(ready.rig, "--die-after", str(count))
        if done.returncode != -9:
            break
        last.add(ready.journal.events[-1].what)
        assert ready.journal.token == confirm_token(ready.plan)
        assert len(ready.journal.events) < 20 * len(ready.plan.steps), "no progress"
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert last >= {"started", "done", "verified"}
    for step in ready.plan.steps:
        about = [event.what for event in ready.journal.events if event.step == step.id]
        assert about.count("verified") == 1, (step.id, about)
    assert ready.file("/etc/group").splitlines()[1] == "wheel:x:1:alice"


@pytest.mark.parametrize(
    "line",
    [
        r"^\$ wipefs",
        r"^\$ udevadm settle",
        r"^\$ nix copy",
        r"^\$ unshare.*boot$",
        r"^\$ umount",
    ],
)
def test_killed_inside_a_step_and_gone_on_with(ready: Ready, line: str) -> None:
    killed = ready.space.install(ready.rig, "--die-at", line)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr


def test_stopped_politely_says_how_to_go_on(ready: Ready) -> None:
    stopped = ready.space.install(ready.rig, "--stop-at", r"^\$ nix copy")
    assert stopped.returncode != Exit.ok
    assert "Stopped. Disks: written and verified: wipe-main, partition-main, format-root" in stopped.stdout
    assert "`hv install --abort` says what of it can come back" in stopped.stdout
    assert "The same command goes on from here" in stopped.stdout
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr


def test_goes_on_after_the_live_system_lost_its_mounts(tmp_path: Path) -> None:
    with rig(tmp_path) as made:
        add_nix(made)
        with namespace() as first:
            ready = Ready(made, first)
            assert first.install(made, "--die-at", r"^\$ nix-env").returncode == -9
        with namespace() as second:
            done = second.install(made)
            assert done.returncode == Exit.ok, done.stdout + done.stderr
        again = [e.step for e in Journal(made.live.journal).events if e.what == "undone"]
        assert "mount-root" in again
        assert ready.plan.steps[0].id not in again


def test_another_plan_is_refused_until_fresh(ready: Ready) -> None:
    assert ready.space.install(ready.rig, "--die-at", r"^\$ nix copy").returncode == -9
    ready.prepare(timezone="Europe/Vienna")
    refused = ready.space.install(ready.rig)
    assert refused.returncode == Exit.consent
    assert "--fresh" in refused.stderr
    done = ready.space.install(ready.rig, "--fresh")
    assert done.returncode == Exit.ok, done.stdout + done.stderr


def test_changed_behind_the_back_is_refused(ready: Ready) -> None:
    assert ready.space.install(ready.rig, "--die-at", r"^\$ nix copy").returncode == -9
    ready.space.run("rm", "/mnt/etc/nixos/flake.nix")
    refused = ready.space.install(ready.rig)
    assert refused.returncode == Exit.step
    assert "write-configuration" in refused.stderr
    assert "flake.nix" in refused.stderr


def test_second_installer_is_refused(ready: Ready) -> None:
    from installer.execute.journal import only_installer

    with only_installer(ready.rig.live.runtime, 1):
        refused = ready.space.install(ready.rig)
    assert refused.returncode == Exit.busy
    assert "another installer is running" in refused.stderr


def test_killed_right_before_the_end(ready: Ready) -> None:
    events = 3 * len(ready.plan.steps) + 2  # started, done, verified; begun, and the system's store path
    assert ready.space.install(ready.rig, "--die-after", str(events)).returncode == -9
    assert ready.journal.verified("unmount")
    assert not ready.journal.finished
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert "undone" not in {event.what for event in ready.journal.events}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"modules": ("ext4",)}, "virtio_blk"),
        (
            {"fstab": "/dev/disk/by-uuid/00000000-1111-2222-3333-444444444444 / ext4 defaults 0 1\n"},
            "no such device",
        ),
        ({"fstab": ""}, "fstab"),
    ],
)
def test_what_would_not_boot_is_not_called_installed(
    ready: Ready, spoil: dict[str, Any], words: str
) -> None:
    ready.prepare(system=spoil)
    failed = ready.space.install(ready.rig)
    assert failed.returncode == Exit.step
    assert "boot-loader" in failed.stderr
    assert words in failed.stderr
    assert "hv install --abort" in failed.stderr, "how to put back what can be"


def test_without_consent_nothing_is_written(ready: Ready) -> None:
    given = answers_for(ready.disk)
    del given["storage"]["destroy"]
    prepare(ready.rig, ready.facts, given, ready.medium)
    plan = make_plan(ready.facts, Answers.model_validate(given), ready.medium)
    before = ready.disk.digest()
    shown = ready.space.install(ready.rig)
    assert shown.returncode == Exit.consent
    assert confirm_token(plan) in shown.stdout
    wrong = ready.space.install(ready.rig, "--confirm", "0000-0000-0000-0000")
    assert wrong.returncode == Exit.consent
    assert confirm_token(plan) in wrong.stderr
    changed = {**given, "timezone": "Europe/Vienna"}
    prepare(ready.rig, ready.facts, changed, ready.medium)
    stale = ready.space.install(ready.rig, "--confirm", confirm_token(plan))
    assert stale.returncode == Exit.consent
    assert "the answers or the medium changed" in stale.stderr
    assert ready.disk.digest() == before
    assert not ready.journal.events
    right = make_plan(ready.facts, Answers.model_validate(changed), ready.medium)
    done = ready.space.install(ready.rig, "--confirm", confirm_token(right))
    assert done.returncode == Exit.ok, done.stdout + done.stderr
