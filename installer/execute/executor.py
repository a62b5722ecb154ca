"""Carries a plan out: each step identified, done, verified and journalled, in an order that a kill cannot spoil."""

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.actions import carry_out
from installer.execute.checks import says_absent, verify
from installer.execute.content import expected, remember
from installer.execute.context import Context
from installer.execute.devices import settle
from installer.execute.evidence import Evidence, Wrong
from installer.execute.identity import OwnUse, check_identity, check_places
from installer.execute.idle import stop_idle
from installer.execute.journal import Journal
from installer.execute.lanes import lane, stretches
from installer.execute.records import JOURNAL
from installer.plan.actions import Action, Run, SaveLog, StopIdle
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
    proved: dict[int, Proved] = {}
    with context.held:
        for lanes in stretches(plan.steps):
            verified = tuple(proved[number].step for number in sorted(proved))
            try:
                if len(lanes) == 1:
                    proved |= _in_turn(context, lanes[0], verified, _Halt())
                else:
                    proved |= _side_by_side(context, lanes, verified)
            except _StepError as failure:
                raise _failed(context, failure) from failure.__cause__
    journal.record("finished")
    return Result(
        tuple(proved[number] for number in sorted(proved)), context.toplevel, time.monotonic() - began
    )


class _StepError(Exception):
    """A step that was begun, or was to be, came to no good end; the cause is what failed."""

    def __init__(self, step: Step, doing: str, others: tuple["_StepError", ...] = ()) -> None:
        super().__init__(step.id)
        self.step, self.doing = step, doing
        self.others = others
        """What failed beside it."""


@dataclass(frozen=True)
class _Halt:
    """Tells lanes to come to an end."""

    soon: threading.Event = field(default_factory=threading.Event)
    """Before the next step: something failed in another lane."""
    now: threading.Event = field(default_factory=threading.Event)
    """Programs are ended as well: somebody interrupted us."""

    def tick(self) -> None:
        """Called about once a second while a program runs."""
        if self.now.is_set():
            raise KeyboardInterrupt


_MOST_LANES = 32
"""At a time; each has a thread and a program."""
_LOOK = 1.0
"""Seconds from one look for signals to the next."""


def _side_by_side(
    context: Context, lanes: Sequence[tuple[int, ...]], verified: tuple[Step, ...]
) -> dict[int, Proved]:
    """Carry out the lanes of one stretch at the same time; one that fails lets the others end their steps first."""
    halt, steps = _Halt(), context.plan.steps
    with ThreadPoolExecutor(max_workers=min(len(lanes), _MOST_LANES)) as threads:
        try:
            running = [
                threads.submit(
                    _in_turn, _of_lane(context, lane(steps[numbers[0]]) or "", halt), numbers, verified, halt
                )
                for numbers in lanes
            ]
            # A lane's thread may be the one that a signal comes to; it is heeded here, and not in a wait without end.
            while wait(running, _LOOK).not_done:
                pass
            ends = [each.exception() for each in running]
        except BaseException:
            # The one that ends programs first: another Ctrl-C may come between the two.
            halt.now.set()
            halt.soon.set()
            raise
    failures = [end for end in ends if isinstance(end, _StepError)]
    for end in ends:
        if end is not None and not isinstance(end, _StepError):
            raise end
    if failures:
        first, *others = failures
        raise _StepError(first.step, first.doing, tuple(others)) from first.__cause__
    return {number: proved for each in running for number, proved in each.result().items()}


def _of_lane(context: Context, name: str, halt: _Halt) -> Context:
    """The same installation, for one lane: its lines of the log say whose they are."""
    runner = context.runner

    def tick() -> None:
        runner.tick()
        halt.tick()

    return replace(context, runner=replace(runner, log=runner.log.of(name), tick=tick))


def _in_turn(
    context: Context, numbers: tuple[int, ...], verified: tuple[Step, ...], halt: _Halt
) -> dict[int, Proved]:
    """Carry out these steps, one after the other."""
    proved: dict[int, Proved] = {}
    for number in numbers:
        if halt.soon.is_set():
            break
        step = context.plan.steps[number]
        _keep_mirror(context, number)
        context.progress.start(step)
        try:
            own = tuple(each.step for each in proved.values())
            proved[number] = _one(context, number, (*verified, *own))
        except BaseException:
            halt.soon.set()
            context.progress.end(step, "failed")
            raise
        context.progress.end(step, "skipped" if proved[number].skipped else "verified")
    return proved


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
    later_began = any(context.journal.begun(later.id) for later in context.plan.steps[number + 1 :])
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
        own = OwnUse.of(verified)
        if step.writes:
            settle(context.runner)  # what the last step wrote may still be making udev rename things
            if any(isinstance(action, StopIdle) for each in context.plan.steps for action in each.actions):
                disks = tuple(map(context.disk, step.writes))
                stop_idle(context.live, context.runner, disks, context.plan.disks, own)
        for key in step.writes:
            disk = context.disk(key)
            content = expected(context.plan, journal, disk)
            for line in check_identity(context.live, disk, step, own, content):
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
        if journal.started(step.id):
            journal.record("failed", step.id, details=(context.runner.log.redact(_why(error)),))
        context.runner.log.write(f"! {step.id}: {doing}: {_why(error)}")
        raise _StepError(step, doing) from error
    redacted = tuple(map(context.runner.log.redact, evidence))
    journal.record("verified", step.id, seconds=round(time.monotonic() - began, 3), details=redacted)
    for line in redacted:
        context.runner.log.write(f"# {step.id}: {line}")
    return redacted


def says_lost(action: Action) -> bool:
    """Whether this action's failure means that writes of earlier steps are gone: syncfs(2) tells it once for each."""
    return isinstance(action, Run) and action.argv[:2] == ("sync", "--file-system")


def _why(error: BaseException | None) -> str:
    return f"{error.what}: {error.why}" if isinstance(error, HyperError) else str(error)


def _failed(context: Context, failure: _StepError) -> HyperError:
    """The step's failure in the words of what failed, with the state of the disks, now that nothing goes on any more."""
    redact, step, error = context.runner.log.redact, failure.step, failure.__cause__
    code = error.code if isinstance(error, HyperError) and error.code is not Exit.failed else Exit.step
    remedy = (
        error.remedy
        if isinstance(error, HyperError)
        else "mend what stands above, then run the same command again, or begin anew with `--fresh`"
    )
    lines = [
        f"{failure.doing}: {_why(error)}",
        *(
            f"`{each.step.id}` failed as well: {each.doing}: {_why(each.__cause__)}"
            for each in failure.others
        ),
        f"disks: {disk_state(context.plan, context.journal)}",
    ]
    return HyperError(
        f"the step `{step.id}` failed ({step.summary})",
        why=redact("\n  ".join(lines)),
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
        try:
            journal.mirror_to(Path(logs) / JOURNAL)
        except OSError as error:  # the step that is next will meet the same, and say what it did
            context.runner.log.write(f"! the journal has no second copy on the target: {error}")


def take_down(context: Context) -> None:
    """Undo everything that a run may have left mounted or open, from the last step to the first."""
    for step in reversed(context.plan.steps):
        if context.journal.started(step.id) and step.undo:
            _undo(context, step)
