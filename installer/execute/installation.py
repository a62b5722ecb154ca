"""The whole of one installation: from consent over a resumable run to what is said at the end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from installer.answers.model import Answers, RecoveryKind
from installer.answers.recovery import recovery_kind
from installer.errors import Exit
from installer.execute.consent import is_confirmed, remember_shown
from installer.execute.context import Context
from installer.execute.disclosure import Disclosure, Nobody, require_reader
from installer.execute.executor import disk_state, execute, other_plan, take_down
from installer.execute.files import write_file
from installer.execute.interrupts import ended_by_signals
from installer.execute.journal import Journal, only_installer
from installer.execute.kexec import start_kernel
from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.preflight import check_live_system, require_free_target, require_root
from installer.execute.progress import Mode, Progress, make_progress
from installer.execute.runner import CommandError, Runner
from installer.execute.secrets import Secrets
from installer.execute.summary import summary
from installer.execute.unfinished import put_aside, require_forgettable, saved_plan, unfinished
from installer.execute.watch import WatchedScreen, Watcher
from installer.facts import Facts
from installer.medium import Medium
from installer.plan.describe import describe
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.plan.source import environment
from installer.plan.token import confirm_token
from installer.render import RenderedHost, load_templates, render

_MODE = 0o600


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    answers: Answers
    """What is wanted."""
    answers_file: str
    """What the answer file is called, for messages."""
    medium: Medium
    """What the live medium carries."""
    probe: Callable[[], Facts]
    """Looks at the machine."""
    confirm: str | None = None
    """Token of the plan that a person confirmed."""
    fresh: bool = False
    """Forget an interrupted installation."""
    progress: Mode = "auto"
    """How progress is shown."""
    watcher: Watcher = field(default_factory=Watcher)
    """Follows it."""
    disclosure: Disclosure = field(default_factory=Nobody)
    """Where a recovery key is shown."""
    live: LiveSystem = field(default_factory=LiveSystem)
    """Where the live system's folders are."""
    output: TextIO = field(default_factory=lambda: sys.stdout)
    """Where plan, progress and summary go."""


def install(request: Request) -> Exit:
    """Plan, ask for consent, carry out, and say what was proved.

    Returns:
        `ok`, or `consent` when the plan was only shown since nobody confirmed it.

    Raises:
        HyperError: it cannot be done, or a step failed; the next call goes on where this one stopped.
    """
    require_root()
    with ExitStack() as stack:
        lock = stack.enter_context(only_installer(request.live.runtime, request.live.lock_patience))
        stack.enter_context(ended_by_signals())
        journal = Journal(request.live.journal)
        if request.fresh:
            require_forgettable(request.live, journal)
        if request.fresh and (plan := saved_plan(request.live)):
            with _opened(request, journal, lock) as workshop:
                take_down(workshop.context(plan, RenderedHost({}, ())))
        if request.fresh or journal.finished:
            put_aside(request.live)
            journal = Journal(request.live.journal)
        workshop = stack.enter_context(_opened(request, journal, lock))
        return _install(request, workshop)


@dataclass(frozen=True)
class _Workshop:
    """Tools that the whole run shares."""

    request: Request
    journal: Journal
    runner: Runner
    redact: Redactor
    progress: Progress

    def context(self, plan: Plan, rendered: RenderedHost) -> Context:
        return Context(
            plan=plan,
            answers=self.request.answers,
            medium=self.request.medium,
            rendered=rendered,
            live=self.request.live,
            runner=self.runner,
            progress=self.progress,
            journal=self.journal,
            secrets=Secrets(self.redact, self.request.answers),
        )


@contextmanager
def _opened(request: Request, journal: Journal, lock: int) -> Iterator[_Workshop]:
    redact = Redactor()
    progress = make_progress(request.progress, redact, request.output)
    log = Log(request.live.log, redact)
    runner = Runner(log, request.live.search_path, tick=progress.tick, keep_open=(lock,))
    try:
        yield _Workshop(request, journal, runner, redact, progress)
    finally:
        log.close()


def _install(request: Request, workshop: _Workshop) -> Exit:
    live, answers, journal = request.live, request.answers, workshop.journal
    interrupted = unfinished(live, journal)
    if interrupted is None:
        _before_plan(answers, workshop.runner)
    facts = interrupted.facts if interrupted else request.probe()
    plan = make_plan(facts, answers, request.medium)
    if interrupted and confirm_token(plan) != interrupted.token:
        raise other_plan(live.journal, interrupted.token)
    request.watcher.planned(facts, plan, resumed=interrupted is not None)
    if not is_confirmed(live, plan, answers, request.confirm):
        remember_shown(live, plan)
        request.output.write(describe(plan, request.answers_file))
        return Exit.consent
    context = workshop.context(plan, render(facts, answers, plan, request.medium, load_templates()))
    require_reader(answers, request.disclosure)
    warnings = check_live_system(plan, answers, request.medium, workshop.runner, live)
    if interrupted is None:
        require_free_target(live)
    context.secrets.collect(plan)
    request.watcher.begins(context)
    if interrupted is None:
        write_file(live.facts, facts.model_dump_json().encode(), _MODE)
        write_file(live.plan, plan.model_dump_json().encode(), _MODE)
    for warning in (*plan.warnings, *warnings):
        workshop.progress.say(f"Warning: {warning}")
    watched = WatchedScreen(workshop.progress.screen, request.watcher, workshop.runner.log, len(plan.steps))
    workshop.progress.screen = watched
    try:
        with watched.shown():
            result = execute(context)
    except KeyboardInterrupt:
        workshop.progress.say(f"Stopped. Disks: {disk_state(plan, journal)}")
        workshop.progress.say("The same command goes on from here; --fresh forgets it.")
        raise
    request.watcher.finished(context, result)
    if recovery_kind(answers) is RecoveryKind.show and context.secrets.has_recovery_key:
        request.disclosure.show(plan.hostname, context.secrets.recovery_key)
    for line in summary(context, result, facts.nics):
        workshop.progress.say(line)
    for note in request.watcher.notes():
        workshop.progress.say(f"Warning: {note}")
    _end(answers, workshop)
    return Exit.ok


def _before_plan(answers: Answers, runner: Runner) -> None:
    """The operator's programs that come before planning; later ones are steps of the plan."""
    for hook in answers.hooks:
        if hook.when == "before-plan":
            runner.run(hook.command, timeout=hook.timeout, environment=environment(answers))


def _end(answers: Answers, workshop: _Workshop) -> None:
    """Reboot, start the host's kernel, power off, or stay."""
    if answers.at_end == "stay":
        workshop.progress.say("Take the medium out and reboot when you are ready.")
        return
    workshop.progress.say(f"Going to {answers.at_end}.")
    workshop.runner.run(["sync"])
    if answers.at_end == "kexec":
        start_kernel(workshop.runner)
        return
    word = {"reboot": "reboot", "poweroff": "poweroff"}[answers.at_end]
    if Path("/run/systemd/system").is_dir():
        workshop.runner.run(["systemctl", "--no-block", word])
        return
    try:
        workshop.runner.run([word])
    except CommandError:  # an init that nobody can ask
        workshop.runner.run([word, "-f"])
