"""The installer is killed before, in and after every step, and at random moments; each next run goes on, to the end.

The other disk is compared by `ready_rig`: whatever happens, it stays as it was, to the byte.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from installer.errors import Exit
from installer.plan.token import confirm_token
from tests.execute.ready import Ready, ready_rig

pytestmark = [pytest.mark.root, pytest.mark.nix]

KILLS = 12
"""Random ones."""


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Ready]:
    with ready_rig(tmp_path) as made:
        yield made


def whole(ready: Ready) -> None:
    """Installed, each step proved once, and what was installed is there."""
    assert ready.journal.finished
    for step in ready.plan.steps:
        about = [event.what for event in ready.journal.events if event.step == step.id]
        assert about.count("verified") >= 1, (step.id, about)
    assert ready.file("/etc/group").splitlines()[1] == "wheel:x:1:alice"


def test_killed_before_in_and_after_every_step(
    ready: Ready, record_property: Callable[[str, object], None]
) -> None:
    """By turns over one installation: after a step was begun, between its actions, when it was done, when it was verified;
    the last is the moment before the next one.
    """
    reached: list[tuple[str, str]] = []
    wanted: list[tuple[str, str]] = []
    for step in ready.plan.steps:
        kills: dict[str, tuple[str, ...]] = {"begun": ("--die-event", step.id, "started")}
        kills |= {
            f"after action {number}": ("--die-between", step.id, str(number))
            for number in range(1, len(step.actions))
        }
        kills |= {what: ("--die-event", step.id, what) for what in ("done", "verified")}
        for moment, options in kills.items():
            wanted.append((step.id, moment))
            killed = ready.space.install(ready.rig, *options)
            assert killed.returncode == -9, (step.id, moment, killed.stdout, killed.stderr)
            assert ready.journal.token == confirm_token(ready.plan)
            reached.append((step.id, moment))
    done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    whole(ready)
    assert reached == wanted
    for step in ready.plan.steps:
        about = [event.what for event in ready.journal.events if event.step == step.id]
        # What the last step had unmounted is mounted again, to be looked at; nothing else is done twice.
        assert about.count("verified") == 1 or step.transient, (step.id, about)
    record_property(
        "proved", f"{len(reached)} of {len(wanted)} kills in {len(ready.plan.steps)} steps gone on with"
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(
    ready: Ready, seed: int, record_property: Callable[[str, object], None]
) -> None:
    chance, where = Random(seed), []
    for _ in range(KILLS):
        done = ready.space.install(ready.rig, "--die-later", f"{chance.uniform(0.02, 0.5):.3f}")
        if done.returncode != -9:
            break
        last = ready.journal.events[-1]
        where.append(f"{last.what} {last.step or ''}".strip())
    if done.returncode == -9:
        done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, (where, done.stdout, done.stderr)
    assert where, "none of the kills came before the end"
    whole(ready)
    record_property("proved", f"seed {seed}, {len(where)} kills gone on with, after: {', '.join(where)}")
