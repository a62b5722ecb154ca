"""Giving up an installation that did not come to its end: what was opened is released, and what stood on the disks is
put back, to the byte as long as nothing was written that nobody could take back.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TextIO

from installer.errors import Exit, HyperError, paragraph
from installer.execute.content import expected
from installer.execute.devices import settle
from installer.execute.evidence import Wrong
from installer.execute.executor import DiskState, disk_state
from installer.execute.headers import restore_headers, restore_luks
from installer.execute.identity import OwnUse, check_identity
from installer.execute.journal import Journal, only_installer
from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.mounts import check_not_mounted
from installer.execute.preflight import require_root
from installer.execute.runner import Runner
from installer.execute.unfinished import put_aside, saved_plan
from installer.execute.zfs import export_pool
from installer.plan.actions import ExportPool, Run
from installer.plan.checks import NotMounted
from installer.plan.model import DiskIdentity, Plan, Step
from installer.plan.token import confirm_token


@dataclass(frozen=True)
class Giving:
    """What was asked for."""

    confirm: str | None = None
    """Token of the plan, as consent to putting back what is left after something was overwritten for good."""
    live: LiveSystem = field(default_factory=LiveSystem)
    """Where the live system's folders are."""
    output: TextIO = field(default_factory=lambda: sys.stdout)
    """Where it says what it did."""


def abort(giving: Giving) -> Exit:
    """Release what is mounted or open, and put back what stood on the disks.

    Returns:
        `ok`, or `consent`: something was overwritten for good, and nobody confirmed putting back the rest.

    Raises:
        HyperError: there is nothing to give up, a disk is another or in use, or it could not be put back; called again it
            begins anew.
    """
    require_root()
    live = giving.live
    with only_installer(live.runtime, live.lock_patience) as lock:
        journal = Journal(live.journal)
        plan = _begun(live, journal)
        log = Log(live.log, Redactor())
        try:
            return _abort(giving, journal, plan, Runner(log, live.search_path, keep_open=(lock,)))
        finally:
            log.close()


def _begun(live: LiveSystem, journal: Journal) -> Plan:
    if journal.token is None or journal.finished:
        why = "the last installation came to its end" if journal.finished else "no installation was begun"
        raise HyperError(
            "there is nothing to give up",
            why=f"{why}, says {live.journal}",
            remedy="nothing is to be done; what an installation that ended has overwritten does not come back",
        )
    plan = saved_plan(live)
    if plan is None or confirm_token(plan) != journal.token:
        raise HyperError(
            "the interrupted installation cannot be given up by itself",
            why=f"{live.plan} is not the plan that {live.journal} belongs to",
            remedy=f"unmount /mnt, and put back by hand what is saved in {live.headers}",
            code=Exit.step,
        )
    return plan


def _abort(giving: Giving, journal: Journal, plan: Plan, runner: Runner) -> Exit:
    def say(*lines: str) -> None:
        for line in lines:
            runner.log.write(f"# abort: {line}")
            giving.output.write("\n".join(paragraph(line, "", "  ")) + "\n")

    live, state = giving.live, disk_state(plan, journal)
    say(*_release(live, journal, plan, runner))
    if not state.begun:
        say("Nothing was written to any disk.")
    elif state.for_good and giving.confirm is None:
        say(*_not_back(state), *_offer(plan, state))
        return Exit.consent
    else:
        if state.for_good and str(giving.confirm).strip().lower() != confirm_token(plan):
            raise HyperError(
                f"the token {giving.confirm} does not fit the installation to give up, and nothing was put back",
                why="its plan has another",
                remedy=f"read what can come back (`hv install --abort`); the token is {confirm_token(plan)}",
                code=Exit.consent,
            )
        for key in state.disks:
            disk = next(each for each in plan.disks if each.key == key)
            say(*_put_back(live, journal, plan, runner, disk, state))
        say(*_not_back(state))
    say(f"Given up. Plan, journal, log and saved headers are kept in {put_aside(live)}.")
    return Exit.ok


def _release(live: LiveSystem, journal: Journal, plan: Plan, runner: Runner) -> Iterator[str]:
    """Unmount and close, from the last step to the first; HyperError (Exit.busy) if something stays."""
    for step in reversed(plan.steps):
        for action in step.undo if journal.started(step.id) else ():
            try:
                match action:
                    case Run():
                        runner.run(action.argv, timeout=action.timeout, environment=action.environment)
                    case ExportPool():
                        export_pool(live, runner, action.name)
            except HyperError as error:  # there may be nothing to take back; what counts is looked at below
                runner.log.write(f"! undo of {step.id}: {error}")
        if step.undo and journal.started(step.id):
            journal.record("undone", step.id)
    settle(runner)
    for check in (check for step in plan.steps for check in step.checks if isinstance(check, NotMounted)):
        try:
            yield "; ".join(check_not_mounted(live, check.target, check.mappers)) + "."
        except Wrong as error:
            raise HyperError(
                "what the installation opened cannot be released",
                why=str(error),
                remedy="end what uses it (`fuser -vm /mnt`), then run the same command again",
                code=Exit.busy,
            ) from error


def _put_back(  # noqa: PLR0917
    live: LiveSystem, journal: Journal, plan: Plan, runner: Runner, disk: DiskIdentity, state: DiskState
) -> Iterator[str]:
    step = Step(id="abort", summary="Put back", writes=(disk.key,), actions=(), checks=())
    settle(runner)
    for line in check_identity(live, disk, step, OwnUse(frozenset()), expected(plan, journal, disk)):
        runner.log.write(f"# {line}")
    try:
        with ExitStack() as held:
            yield from restore_headers(live, runner, disk, held)
            if state.for_good:
                yield from restore_luks(live, runner, disk)
    except (Wrong, OSError) as error:
        raise HyperError(
            f"disk `{disk.key}` ({disk.name}) could not be put back as it was",
            why=str(error),
            remedy=f"run the same command again; all that was saved is in {live.headers / disk.key}",
            code=Exit.step,
        ) from error


def _not_back(state: DiskState) -> Iterator[str]:
    for step in state.for_good:
        yield f"Does not come back: what `{step.id}` overwrote ({step.summary})."
    if not state.for_good:
        yield "Nothing was overwritten for good: the disks are as they were before, to the byte."


def _offer(plan: Plan, state: DiskState) -> Iterator[str]:
    yield (
        f"What can be put back on {', '.join(state.disks)}: the partition table, signatures that were erased, and LUKS "
        "headers. Old file systems are found again then, but have holes where new ones were made: copy from them, "
        "do not go on with them."
    )
    yield f"To do so: hv install --abort --confirm {confirm_token(plan)}"
    yield "Or go on installing: the same `hv install` command as before."
