"""Carries a plan out: each step identified, done, verified and journalled, in an order that a kill cannot spoil."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.actions import carry_out
from installer.execute.checks import says_absent, verify
from installer.execute.content import expected, remember
from installer.execute.context import Context
from installer.execute.devices import settle
from installer.execute.evidence import Evidence, Wrong
from installer.execute.identity import OwnUse, check_identity, check_places
from installer.execute.journal import Journal
from installer.execute.records import JOURNAL
from installer.plan.actions import Action, Run, SaveLog
from installer.plan.checks import DatasetMounted, MountedAt, NotMounted
from installer.plan.model import Plan, Step, is_reversible
from installer.plan.token import confirm_token


@dataclass(frozen=True)
class Proved:
    """A step with what reading back found."""

    step: Step
    """Which."""
    evidence: Evidence
    """What was found, a sentence each."""
    skipped: bool
    """Whether an earlier run had done it, and this one checked it again."""


@dataclass(frozen=True)
class Result:
    """An installation that came to its end."""

    proved: tuple[Proved, ...]
    """All steps, in order."""
    toplevel: str | None
    """The installed system's store path."""
    seconds: float
    """How long this run took."""


def execute(context: Context) -> Result:
    """Carry out every step of the plan that an earlier run did not.

    Raises:
        HyperError: a step failed (Exit.step), or a disk is not what it was (Exit.busy); says what state the disks
            are in. The journal knows, and the next run goes on from there.
    """
    began = time.monotonic()
    os.umask(0o022)
    journal, plan = context.journal, context.plan
    claim_journal(context)
    context.progress.begin(plan.steps)
    proved: list[Proved] = []
    for number, step in enumerate(plan.steps):
        _keep_mirror(context, number)
        context.progress.start(step)
        try:
            proved.append(_one(context, number, tuple(each.step for each in proved)))
        except BaseException:
            context.progress.end(step, "failed")
            raise
        context.progress.end(step, "skipped" if proved[-1].skipped else "verified")
    journal.record("finished")
    return Result(tuple(proved), context.toplevel, time.monotonic() - began)


def claim_journal(context: Context) -> None:
    """Begin the journal, or go on with it when it is this plan's.

    Raises:
        HyperError: it belongs to another plan.
    """
    journal, token = context.journal, confirm_token(context.plan)
    if journal.token is None:
        journal.record("begun", token=token)
    elif journal.token == token:
        if (why := journal.lost) is not None:
            raise HyperError(
                "this installation cannot be gone on with: the kernel lost some of its writes",
                why=f"{why}. Which ones it does not say, and it says so only once, so what is on the disk cannot be relied on",
                remedy="look at the disk and its cables (`journalctl -k`, `hv probe disks`), then begin anew with `--fresh`",
                code=Exit.step,
            )
        journal.record("resumed")
    else:
        raise other_plan(context.live.journal, journal.token)


def other_plan(journal: Path, token: str) -> HyperError:
    """An unfinished installation with another plan stands in the way."""
    return HyperError(
        "an installation with another plan was begun here and not finished",
        why=f"{journal} belongs to the plan with token {token}; these answers make another",
        remedy="run it with the answers it was begun with, or add `--fresh` to forget it and plan anew",
        code=Exit.consent,
    )


def _one(context: Context, number: int, verified: tuple[Step, ...]) -> Proved:
    step, journal = context.plan.steps[number], context.journal
    if step is not context.plan.steps[-1] and all(journal.verified(each.id) for each in context.plan.steps):
        # Killed after the last step: what is unmounted now was proved then.
        return Proved(step, journal.evidence(step.id), skipped=True)
    if journal.verified(step.id):
        evidence = _again(context, number)
        if evidence is not None:
            return Proved(step, evidence, skipped=True)
    elif journal.started(step.id):
        evidence = _complete(context, step)
        if evidence is not None:
            journal.record("verified", step.id, details=evidence)
            return Proved(step, evidence, skipped=True)
    if journal.started(step.id):
        _undo(context, step)
    return Proved(step, _afresh(context, step, verified), skipped=False)


def _again(context: Context, number: int) -> Evidence | None:
    """Check what an earlier run verified; none: it has to be done again, as mounts after a reboot.

    What was to be absent may rightly be there when later steps have begun.
    """
    step = context.plan.steps[number]
    later_began = any(context.journal.started(later.id) for later in context.plan.steps[number + 1 :])
    try:
        return tuple(
            found
            for check in step.checks
            if not (later_began and says_absent(check))
            for found in verify(check, context)
        )
    except (Wrong, HyperError, OSError) as error:
        if step.transient:
            return None
        raise HyperError(
            f"`{step.id}` was done and verified, and is not so any more",
            why=f"{error}. {disk_state(context.plan, context.journal)}",
            remedy="find out who changed it; `--fresh` forgets this installation, and plans and confirms anew",
            code=Exit.step,
        ) from error


def _complete(context: Context, step: Step) -> Evidence | None:
    """A step whose actions all ended before an earlier run was killed, if it verifies; none: not so."""
    about = [event.what for event in context.journal.events if event.step == step.id]
    if about[-1] != "done" or not step.checks:
        return None
    try:
        return tuple(found for check in step.checks for found in verify(check, context))
    except (Wrong, HyperError, OSError):
        return None


def _undo(context: Context, step: Step) -> None:
    """Take back what an interrupted try may have left; there may be nothing to take back."""
    for action in step.undo:
        try:
            carry_out(action, context)
        except (HyperError, OSError) as error:
            context.runner.log.write(f"! undo of {step.id}: {error}")
    context.journal.record("undone", step.id)


def _afresh(context: Context, step: Step, verified: tuple[Step, ...]) -> Evidence:
    """Identify, do, verify."""
    journal, began = context.journal, time.monotonic()
    doing = "it could not be checked which disk it writes to"
    try:
        if step.writes:
            settle(context.runner)  # what the last step wrote may still be making udev rename things
        for key in step.writes:
            disk = context.disk(key)
            content = expected(context.plan, journal, disk)
            for line in check_identity(context.live, disk, step, OwnUse.of(verified), content):
                context.runner.log.write(f"# {line}")
        if step.writes:
            for line in check_places(context.live, tuple(map(context.disk, step.writes)), step):
                context.runner.log.write(f"# {line}")
            remember(context.plan, journal, context.live, step)
        journal.record("started", step.id)
        for action in step.actions:
            doing = f"its action `{action.kind}` failed"
            try:
                carry_out(action, context)
            except HyperError as error:
                if says_lost(action):
                    journal.record(
                        "lost", step.id, details=(context.runner.log.redact(f"{error.what}: {error.why}"),)
                    )
                raise
        journal.record("done", step.id, seconds=round(time.monotonic() - began, 3))
        remember(context.plan, journal, context.live, step)
        doing = "what it should have done is not there"
        evidence = tuple(found for check in step.checks for found in verify(check, context))
    except (Wrong, HyperError, OSError) as error:
        raise _failed(context, step, doing, error) from error
    redacted = tuple(map(context.runner.log.redact, evidence))
    journal.record("verified", step.id, seconds=round(time.monotonic() - began, 3), details=redacted)
    for line in redacted:
        context.runner.log.write(f"# {step.id}: {line}")
    return redacted


def says_lost(action: Action) -> bool:
    """Whether this action's failure means that writes of earlier steps are gone: syncfs(2) tells it once for each."""
    return isinstance(action, Run) and action.argv[:2] == ("sync", "--file-system")


def _failed(context: Context, step: Step, doing: str, error: Exception) -> HyperError:
    """The step's failure in the words of what failed, with the state of the disks."""
    redact = context.runner.log.redact
    code = error.code if isinstance(error, HyperError) and error.code is not Exit.failed else Exit.step
    why = f"{error.what}: {error.why}" if isinstance(error, HyperError) else str(error)
    remedy = (
        error.remedy
        if isinstance(error, HyperError)
        else "mend what stands above, then run the same command again"
    )
    if context.journal.started(step.id):
        context.journal.record("failed", step.id, details=(redact(why),))
    context.runner.log.write(f"! {step.id}: {doing}: {why}")
    return HyperError(
        f"the step `{step.id}` failed ({step.summary})",
        why=redact(f"{doing}: {why}\n  disks: {disk_state(context.plan, context.journal)}"),
        remedy=redact(f"{remedy}; the log is {context.live.log}"),
        code=code,
    )


@dataclass(frozen=True)
class DiskState:
    """What an installation has done to disks so far; what an interrupted step may have written counts."""

    begun: tuple[Step, ...]
    """Steps that were ever begun and write to disks."""
    verified: tuple[Step, ...]
    """Those of them that stand as planned."""
    for_good: tuple[Step, ...]
    """Those of them that nobody can take back."""

    @property
    def disks(self) -> tuple[str, ...]:
        """Keys of the disks."""
        return tuple(dict.fromkeys(key for step in self.begun for key in step.writes))

    def __str__(self) -> str:
        if not self.begun:
            return "nothing was written to any disk."
        part = [step.id for step in self.begun if step not in self.verified]
        words = [f"written and verified: {', '.join(step.id for step in self.verified) or 'nothing'}"]
        if part:
            words.append(f"begun: {', '.join(part)}")
        back = "says what of it can come back" if self.for_good else "puts back what was there, to the byte"
        return f"{'; '.join(words)}. `hv install --abort` {back}."


def disk_state(plan: Plan, journal: Journal) -> DiskState:
    """What was written so far."""
    begun = tuple(step for step in plan.steps if step.writes and journal.begun(step.id))
    return DiskState(
        begun=begun,
        verified=tuple(step for step in begun if journal.verified(step.id)),
        for_good=tuple(step for step in begun if not is_reversible(step)),
    )


def _keep_mirror(context: Context, number: int) -> None:
    """Keep a copy of the journal on the target while that is mounted whole."""
    steps, journal = context.plan.steps, context.journal
    logs = next((a.path for step in steps for a in step.actions if isinstance(a, SaveLog)), None)
    mounting = [
        n
        for n, step in enumerate(steps)
        if any(isinstance(check, MountedAt | DatasetMounted) for check in step.checks)
    ]
    leaving = any(isinstance(check, NotMounted) for check in steps[number].checks)
    if leaving:
        journal.mirror = None
    elif logs and journal.mirror is None and mounting and number > mounting[-1]:
        journal.mirror_to(Path(logs) / JOURNAL)


def take_down(context: Context) -> None:
    """Undo everything that a run may have left mounted or open, from the last step to the first."""
    for step in reversed(context.plan.steps):
        if context.journal.started(step.id) and step.undo:
            _undo(context, step)
