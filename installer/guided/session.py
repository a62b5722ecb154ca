"""One guided installation from the first question to the last screen."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import wrap
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from installer.answers.load import parse
from installer.errors import Exit, HyperError
from installer.execute import apart
from installer.execute.consent import remember_shown
from installer.execute.live import LiveSystem
from installer.execute.log import Log, NoLog, Redactor
from installer.execute.progress import Mode, make_screen
from installer.execute.runner import Runner
from installer.facts import Facts
from installer.guided import answer_file
from installer.guided.conversation import Back, Conversation, Place, Topic
from installer.guided.letters import are_shown
from installer.guided.plain import Plain
from installer.guided.questions import Line, Notice, One, Option
from installer.guided.ready import Chosen, choose
from installer.guided.recovery_screen import OnTerminal
from installer.guided.review import summary
from installer.guided.situation import Level, said
from installer.guided.told import InWords, in_words, problem, told
from installer.guided.topics.catalogue import NAMES, TOPICS
from installer.guided.words import _, language, language_around, language_of, use, write_in_ascii
from installer.guided.world import DryWorld, LiveWorld
from installer.medium import Medium
from installer.plan.describe import describe
from installer.plan.model import DiskIdentity
from installer.plan.token import confirm_token

if TYPE_CHECKING:
    from installer.guided.screen import Screen

ENDS = (signal.SIGHUP, signal.SIGTERM)
"""What comes when the terminal is gone, or somebody asks us to end."""
INSTALL, PLAN, LEAVE = "install", "plan", "leave"
LAST = 4
"""How many characters of a serial number are typed to confirm."""


@dataclass(frozen=True)
class Guided:
    """What was asked for."""

    medium: Medium
    """What is installed from."""
    probe: Callable[[], Facts]
    """Looks at the machine."""
    save: Path
    """Where the answer file goes."""
    beforehand: tuple[bytes, str] | None = None
    """An answer file that says some things already: content and name."""
    ask: tuple[str, ...] = ()
    """Topics to ask about; none: what the file's `interactive` says, or all."""
    plain: bool = False
    """Line by line."""
    dry_run: bool = False
    """End before anything is written."""
    recorded: bool = False
    """Whether the facts are those of another machine."""
    assumed: bool = False
    """Whether the medium is none that is there."""
    live: LiveSystem = field(default_factory=LiveSystem)
    """Where the live system's folders are."""
    output: TextIO = field(default_factory=lambda: sys.stdout)
    """The terminal."""


def guide(request: Guided) -> int:
    """Ask, plan, confirm, install.

    Returns:
        Exit code; `ok` also when the person leaves: the answers are kept then.

    Raises:
        HyperError: it cannot go on; nothing was written, or the installation says what was.
    """
    use(language_around(os.environ))
    write_in_ascii(wanted=not are_shown(request.output))
    try:
        base = parse(*request.beforehand) if request.beforehand else {}
        if "locale" in base:
            use(language_of(str(base["locale"])))
        topics = _topics(request, base)
    except HyperError as error:
        raise in_words(error) from error
    base.pop("interactive", None)
    front = _front(request)
    if topics and len(topics) < len(TOPICS) and any(topic.name == "more" for topic in topics):
        front.level = Level.expert  # who names the topic of finer points wants to be asked about them
    front.working(_("looking at this machine"))
    facts = request.probe()
    with _world(request, front) as world:
        conversation = Conversation(topics, facts, request.medium, front, world, base, str(world.secrets))
        session = _Session(request, conversation)
        conversation.held = session.asked
        try:
            with session.lost_terminal_noticed():
                return session.run()
        except (KeyboardInterrupt, EOFError):
            return session.left()
        except Exception as error:
            session.broken()
            if isinstance(error, HyperError):
                raise in_words(error) from error
            raise


@contextmanager
def _world(request: Guided, front: "Plain | Screen") -> Iterator[LiveWorld]:
    """The live system; for a dry run one that changes nothing, and keeps no log."""

    def explain_at(level: str) -> None:
        front.level = Level(level)

    with ExitStack() as stack:
        log = NoLog() if request.dry_run else Log(request.live.runtime / "guided.log", Redactor())
        stack.callback(log.close)
        runner, secrets = Runner(log, request.live.search_path), request.live.runtime.parent / "secrets"
        if request.dry_run:
            yield DryWorld(runner, secrets, explain_at, recorded=request.recorded)
        else:
            yield LiveWorld(runner, secrets, explain_at)


def _topics(request: Guided, base: Mapping[str, Any]) -> tuple[Topic, ...]:
    wanted: Sequence[str] = request.ask or base.get("interactive", ())
    if not isinstance(wanted, list | tuple) or (unknown := [each for each in wanted if each not in NAMES]):
        raise HyperError(
            "there is no such topic to ask about",
            why=f"asked for {', '.join(map(str, unknown)) if isinstance(wanted, list | tuple) else wanted!r}; "
            f"the topics are {', '.join(NAMES)}",
            remedy='name topics in `interactive = ["disks", "users"]` or with --ask disks,users',
            code=Exit.answers,
        )
    return tuple(topic for topic in TOPICS if not wanted or topic.name in wanted)


def _front(request: Guided) -> "Plain | Screen":
    if request.plain or not sys.stdin.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return Plain(request.output)
    from installer.guided.screen import Screen

    return Screen(request.output)


@dataclass
class _Session:
    request: Guided
    conversation: Conversation
    begun: bool = False
    """Whether the answers are written, and the installation has them."""
    lost: bool = False
    """Whether the terminal is gone, or we are to end: nobody can be asked."""

    def run(self) -> int:
        """All topics, then round and round the review until the person installs or leaves."""
        while True:
            try:
                self.conversation.all()
                break
            except Back:
                continue  # before the first question there is nothing
        while True:
            chosen = self.asked(self._review)
            if chosen == LEAVE:
                return self.left()
            if chosen not in (INSTALL, PLAN):
                self._change(chosen)
                continue
            planned = self.asked(self._plan)
            if planned is None:
                continue
            if chosen == PLAN:
                self._show(planned, self.request.save)
                continue
            if self.request.dry_run:
                return self._dry(planned)
            if self.asked(partial(self._confirmed, planned)):
                return self._install(planned)

    def left(self) -> int:
        """The person leaves, or the terminal is gone: nothing was written, and the answers are kept."""
        if self.begun and not self.request.dry_run:
            self._tell(_("It goes on. Look at it again with: hv install --attach"))
            return Exit.ok
        self._tell(_("Nothing was written to any disk."), self._kept())
        return Exit.ok

    def broken(self) -> None:
        """Something went wrong before the installation began: what was answered is not lost."""
        if not self.begun:
            self._tell(_("Nothing was written to any disk."), self._kept(), "")

    def _kept(self) -> str:
        path = answer_file.write(self.conversation.raw, self.request.save)
        return _("Your answers are in {path}; go on with: hv install --guided --answers {path}").format(
            path=path
        )

    # Pages

    def asked(self, step: Callable[[], Any]) -> Any:
        """Ctrl-C asks, in the middle of whatever is asked or done; who stays goes on with just that."""
        while True:
            try:
                return step()
            except KeyboardInterrupt:
                if self.lost or self._leaves():
                    raise EOFError from None

    def _leaves(self) -> bool:
        try:
            leave: bool = self.conversation.front.ask(
                One(
                    title=_("Leave?"),
                    prompt=_("Leave the installation?"),
                    lines=(_("Nothing was written yet. Your answers so far are kept in a file."),),
                    options=(Option(False, _("No, go on")), Option(True, _("Yes, leave"))),
                    default=False,
                ),
                self._place(),
            )
        except Back:
            return False
        return leave

    @contextmanager
    def lost_terminal_noticed(self) -> Iterator[None]:
        """A hang-up and a polite kill end it as leaving does: what was answered is kept."""

        def lose(_number: int, _frame: FrameType | None) -> None:
            self.lost = True
            raise KeyboardInterrupt

        before = {number: signal.signal(number, lose) for number in ENDS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _place(self) -> Place:
        count = len(self.conversation.topics)
        return Place(count, count, _("Review"), can_go_back=False)

    def _change(self, name: str) -> None:
        def again() -> None:
            self.conversation.one(name)
            topics = [topic.name for topic in self.conversation.topics]
            if name == "disks" and "encryption" in topics and self._reinstalls():
                self.conversation.one("encryption")  # what is on the disks decides whether they are locked

        try:
            again()
        except Back:
            return

    def _reinstalls(self) -> bool:
        return bool(said(self.conversation.raw, ("storage", "existing")) == "reinstall")

    def _review(self) -> str:
        raw = self.conversation.raw
        rows = [
            Option(topic.name, f"{topic.title()}: {summary(topic.name, raw)}")
            for topic in self.conversation.topics
        ]
        last = (
            Option(INSTALL, _("Make the plan, and end") if self.request.dry_run else _("Install")),
            Option(PLAN, _("Show every step of the plan")),
            Option(LEAVE, _("Leave, and keep the answers")),
        )
        answer: str = self.conversation.front.ask(
            One(
                title=_("Review"),
                prompt=_("Change something, or install?"),
                options=(*last[:2], *rows, last[2]),
                default=INSTALL,
            ),
            self._place(),
        )
        return answer

    def _plan(self) -> Chosen | None:
        """The plan; none: it cannot be made, and the person was told."""
        self.conversation.front.working(_("planning"))
        try:
            return choose(self.conversation.facts, self.request.medium, self.conversation.raw)
        except HyperError as error:
            problems = [problem(each) for each in getattr(error, "problems", ())] or [
                told(error.why),
                _("What to do: {remedy}.").format(remedy=told(error.remedy)),
            ]
            self.conversation.front.ask(
                Notice(
                    title=_("This cannot be installed yet"),
                    prompt=_("Back to the review?"),
                    lines=(f"{told(error.what)}.", *problems),
                ),
                self._place(),
            )
            return None

    def _confirmed(self, planned: Chosen) -> bool:
        """Whether the person typed what identifies the disks."""
        plan = planned.plan
        expected = " ".join(_ending(disk) for disk in plan.disks)
        lost = [
            _("Lost on {disk}: {what}.").format(
                disk=f"{disk.model or _('disk')} ({disk.serial or disk.wwn or disk.name})",
                what="; ".join(map(told, each.losses)),
            )
            for disk in plan.disks
            for each in plan.destroyed
            if each.disk == disk.key
        ]
        try:
            self.conversation.front.ask(
                Line(
                    title=_("The last moment to turn back"),
                    prompt=_("Last {count} characters of the serial number:").format(count=LAST)
                    if len(plan.disks) == 1
                    else _("Last {count} characters of each serial number, in this order:").format(
                        count=LAST
                    ),
                    lines=(*lost, *planned.reasons, *map(told, plan.warnings)),
                    check=lambda text: (
                        None
                        if text.lower().split() == expected.lower().split()
                        else _("That is not it. It is printed above; < goes back without writing anything.")
                    ),
                ),
                Place(*(len(self.conversation.topics),) * 2, _("Confirm"), can_go_back=True),
            )
        except Back:
            return False
        return True

    # Ends

    def _dry(self, planned: Chosen) -> int:
        path = answer_file.write(planned.raw, self.request.save)
        self.begun = True
        self._show(planned, path)
        self._tell(
            _("Nothing was written to any disk: this was a dry run."),
            _("Your answers are in {path}.").format(path=path),
            *(
                [
                    _(
                        "No medium was there to look at: planned for one of this version, without ready systems and "
                        "images. Name another with --medium."
                    )
                ]
                if self.request.assumed
                else []
            ),
        )
        return Exit.ok

    def _install(self, planned: Chosen) -> int:
        live = self.request.live
        path = answer_file.write(planned.raw, self.request.save)
        self.begun = True
        for number in ENDS:
            signal.signal(number, signal.SIG_DFL)  # whoever only looks on has nothing to keep
        remember_shown(live, planned.plan)
        arguments = ["--answers", str(path), "--confirm", confirm_token(planned.plan)]
        apart.start(live, arguments)
        _spoken(live).write_text(language(), encoding="ascii")
        self._tell(
            _("The installation runs apart from this screen: losing it does no harm."),
            _("From another console: hv install --attach"),
            "",
        )
        return attach(live, self.request.output, self.request.plain)

    def _show(self, planned: Chosen, answers: Path) -> None:
        text = _described(planned, answers)
        self.asked(lambda: self.conversation.front.show(_("The plan"), text))

    def _tell(self, *lines: str) -> None:
        with suppress(OSError) if self.lost else nullcontext():
            self.request.output.write("".join(f"{line}\n" for line in ("", *lines)))
            self.request.output.flush()


def _spoken(live: LiveSystem) -> Path:
    """File that says which language the person chose, for whoever looks at the installation later."""
    return live.runtime / "language"


def language_for(live: LiveSystem, environment: Mapping[str, str]) -> str:
    """The language in which the installation that runs apart was asked for; else that of the system."""
    try:
        return _spoken(live).read_text(encoding="ascii")
    except (OSError, ValueError):
        return language_around(environment)


def attach(live: LiveSystem, output: TextIO, plain: bool) -> int:
    """Show an installation that runs apart; Ctrl-C looks away from it. Its exit code."""
    mode: Mode = "plain" if plain else "auto"
    write_in_ascii(wanted=not are_shown(output))
    try:
        screen = OnTerminal(output)
        return apart.follow(
            live, lambda total: InWords(make_screen(mode, output, total, told)), disclosure=screen
        )
    except HyperError as error:
        raise in_words(error) from error
    except KeyboardInterrupt:
        output.write("\n" + _("It goes on. Look at it again with: hv install --attach") + "\n")
        return Exit.ok


def _described(planned: Chosen, answers: Path) -> str:
    """The plan for people, and which system it installs."""
    reasons = [line for text in planned.reasons for line in wrap(text, 76, subsequent_indent=_hanging(text))]
    return "\n".join((describe(planned.plan, str(answers), told).rstrip(), "", *reasons))


def _hanging(text: str) -> str:
    return " " * 4 if text.startswith("  * ") else ""


def _ending(disk: DiskIdentity) -> str:
    return (disk.serial or disk.wwn or disk.name).strip()[-LAST:]
