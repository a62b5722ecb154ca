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
LONGEST = 0.5
"""Until a random kill, seconds, at first."""


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
    """By turns over one installation: after a step was begun, between its actions, after that was taken back, when it was
    done, when it was verified; the last is the moment before the next one.
    """
    reached: list[tuple[str, str]] = []
    wanted: list[tuple[str, str]] = []
    for step in ready.plan.steps:
        kills: dict[str, tuple[str, ...]] = {"begun": ("--die-event", step.id, "started")}
        kills |= {
            f"after action {number}": ("--die-between", step.id, str(number))
            for number in range(1, len(step.actions))
        }
        kills["taken back"] = ("--die-event", step.id, "undone")
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
    tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """On a machine so fast that no kill came before the end, they come earlier in the next installation."""
    chance, longest = Random(seed), LONGEST
    where: list[str] = []
    while not where and longest > LONGEST / 32:
        folder = tmp_path / f"within-{longest:.3f}"
        folder.mkdir()
        with ready_rig(folder) as ready:
            where = _killed(ready, lambda: longest * chance.uniform(0.04, 1))  # noqa: B023
            whole(ready)
        longest /= 2
    assert where, "none of the kills came before the end"
    record_property("proved", f"seed {seed}, {len(where)} kills gone on with, after: {', '.join(where)}")


def _killed(ready: Ready, moment: Callable[[], float]) -> list[str]:
    """Install to the end, whatever kills come; what each came after."""
    where = []
    for _ in range(KILLS):
        done = ready.space.install(ready.rig, "--die-later", f"{moment():.4f}")
        if done.returncode != -9:
            break
        last = ready.journal.events[-1]
        where.append(f"{last.what} {last.step or ''}".strip())
    else:
        done = ready.space.install(ready.rig)
    assert done.returncode == Exit.ok, (where, done.stdout, done.stderr)
    return where
