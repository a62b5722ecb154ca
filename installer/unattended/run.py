"""The whole of an unattended installation, from the first look for answers to the last word on the screen."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TextIO

from installer.answers.load import load
from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.execute.context import Context
from installer.execute.disclosure import Disclosure, Nobody
from installer.execute.executor import Result, disk_state
from installer.execute.files import write_file
from installer.execute.installation import Request, install
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.preflight import require_root
from installer.execute.progress import Mode, Moment, State
from installer.execute.runner import CommandError, Runner
from installer.execute.unfinished import saved_plan
from installer.execute.watch import Watcher
from installer.facts import Facts
from installer.facts.common import Unknown
from installer.fetch import Fetched, World, fetch
from installer.fetch.chain import put_secrets
from installer.fetch.source import Arguments
from installer.medium import Medium
from installer.plan.model import Plan
from installer.probe.identity import identity
from installer.probe.root import LiveRoot, Root
from installer.support.bundle import Collector, make_bundle
from installer.support.named import secret_files
from installer.unattended.again import refuse_again
from installer.unattended.notice import Machine, failed, nothing, scp_address
from installer.webhooks import WebhookWatcher, make_client
from installer.webhooks.event import BundleTold

FOLDER = Path("/run/hyper-nixos/unattended")
"""Log of the search for answers, the notice for the screen, the support bundle."""
PAGE = "hyper-nixos-page.service"
"""The unit that has the live system's screen (iso/live/console.nix)."""
NOTICE = "notice.txt"
"""The last words, for the live system's page."""


@dataclass(frozen=True)
class Unattended:
    """What an unattended installation works with."""

    medium: Callable[[], Medium]
    """Reads what the live medium carries."""
    probe: Callable[[], Facts]
    """Looks at the machine."""
    output: TextIO
    """Where all that is said goes."""
    answers_file: str | None = None
    """Answers that are at hand: nothing is fetched."""
    read: Callable[[str], Answers] | None = None
    """Reads them."""
    again: bool = False
    """Also where this host was installed before."""
    progress: Mode = "plain"
    """How progress is shown."""
    disclosure: Disclosure = field(default_factory=Nobody)
    """Where a recovery key is shown, if the answers want that."""
    folder: Path = FOLDER
    """Its own files."""
    live: LiveSystem = field(default_factory=LiveSystem)
    """The live system."""
    root: Root = field(default_factory=LiveRoot)
    """Its files."""
    world: Callable[[Runner], World] = World
    """Where answers are looked for."""


def run(at: Unattended) -> Exit:
    """Fetch, check, plan, install; tell webhooks; on failure write a support bundle and say what to pass on.

    Returns:
        `ok`; `nothing` when no source has answers, or `hv.unattended=no` was said; `consent` when answers lie there
        that do not consent, and nobody asked.

    Raises:
        HyperError: it failed; all that a person must know was said already.
    """
    require_root()
    at.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = Log(at.folder / "unattended.log", Redactor())
    attempt = _Attempt(at, Runner(log, at.live.search_path), log)
    try:
        return attempt.whole()
    except HyperError as error:
        attempt.fail(error)
        raise
    except Exception as error:
        # A defect, and yet the person at the console must be told; its text may hold anything.
        unexpected = HyperError(
            "the installer stopped with an unexpected error",
            why=type(error).__name__,
            remedy="this is a defect: report it with the support bundle",
        )
        attempt.fail(unexpected)
        raise unexpected from error
    finally:
        log.close()


class _Attempt:
    """One run, with what is known of it so far."""

    def __init__(self, at: Unattended, runner: Runner, log: Log) -> None:
        self._at = at
        self._runner = runner
        self._log = log
        self._answers: Answers | None = None
        self._hooks: WebhookWatcher | None = None
        self._facts: Facts | None = None

    def whole(self) -> Exit:
        at = self._at
        arguments = Arguments.parse(at.root.text("/proc/cmdline") or "")
        if at.answers_file is None and arguments.wanted is False:
            self._say("hv.unattended=no: nothing is done.")
            return Exit.nothing
        found = self._answers_at_hand() if at.answers_file else self._fetched()
        if found is None:
            return Exit.nothing
        self._answers, name = found
        if self._answers.storage.destroy != "matched" or self._answers.interactive:
            return self._without_consent(self._answers, name, arguments)
        self._clear_screen()
        client = make_client(self._answers, arguments.proxy)
        self._hooks = WebhookWatcher(self._answers, client, at.root)
        guard = None if at.again or arguments.again else refuse_again
        return install(
            Request(
                answers=self._answers,
                answers_file=name,
                medium=at.medium(),
                probe=self._probe,
                progress=at.progress,
                watcher=_Guarded(self._hooks, guard),
                live=at.live,
                output=at.output,
                disclosure=at.disclosure,
            )
        )

    def _without_consent(self, answers: Answers, name: str, arguments: Arguments) -> Exit:
        """Answers lie there, and a person is to confirm the plan: a failure only where somebody asked for more."""
        why = 'they do not say destroy = "matched" in [storage], and nobody is here to confirm what is destroyed'
        if answers.interactive:
            why = f"a person is to be asked about {', '.join(answers.interactive)} (interactive), and nobody is here"
        if arguments.wanted or arguments.answers:
            raise HyperError(
                "the answers do not consent to an unattended installation",
                why=why,
                remedy="change that, or log in and run `hv install --answers FILE`, which shows the plan",
                code=Exit.consent,
            )
        self._say(f"There are answers ({name}), and nothing is done by itself: {why}.")
        return Exit.consent

    def _clear_screen(self) -> None:
        """The live system's page would draw over what is said from now on."""
        try:
            self._runner.run(["systemctl", "stop", PAGE], check=False, timeout=30)
        except CommandError:  # not our live system
            return

    def _answers_at_hand(self) -> tuple[Answers, str]:
        file, read = self._at.answers_file, self._at.read
        assert file is not None and read is not None
        return read(file), file

    def _fetched(self) -> tuple[Answers, str] | None:
        world = self._at.world(self._runner)
        found = fetch(world, self._probe, self._say)
        if not isinstance(found, Fetched):
            for line in nothing(tuple(map(str, found))):
                self._say(line)
            return None
        for line in found.lines():
            self._say(line)
        answers = load(found.package.answers, found.package.name)
        for path in put_secrets(world, found.package):
            self._say(f"secret: {path}")
        return answers, found.where

    def _probe(self) -> Facts:
        self._facts = self._at.probe()
        return self._facts

    def _say(self, text: str) -> None:
        self._log.write(text)
        self._at.output.write(text + "\n")
        self._at.output.flush()

    def fail(self, error: HyperError) -> None:
        """Write the bundle, tell the webhooks, and say what a person should pass on; none of it may fail."""
        self._log.write(str(error))
        machine = self._machine()
        # That it was installed before is no fault: who follows the fleet heard of its success.
        is_fault = error.code is not Exit.again
        bundle = self._bundle(error) if is_fault else None
        if self._hooks and is_fault:
            told = (
                BundleTold(
                    file=str(bundle),
                    addresses=tuple(scp_address(each, str(bundle)) for each in machine.addresses),
                )
                if bundle
                else None
            )
            self._hooks.failed(error, told)
            for note in self._hooks.notes():
                self._say(f"Warning: {note}")
        host = self._answers.hostname if self._answers else None
        lines = failed(error, host, machine, str(bundle) if bundle else None, wrote=self._wrote())
        self._at.output.write("\n".join(lines) + "\n")
        self._at.output.flush()
        with suppress(OSError):  # a full memory must not take the words off the screen
            write_file(self._at.folder / NOTICE, ("\n".join(lines) + "\n").encode(), 0o600)

    def _bundle(self, error: HyperError) -> Path | None:
        at = self._at
        path = at.folder / f"support-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.zst"
        collector = Collector(self._runner, at.live, at.root)
        world = at.world(self._runner)
        named = secret_files(self._answers) if self._answers else ()
        try:
            made = make_bundle(
                collector,
                path,
                secret_files=(world.live / "secrets", *named),
                more={"unattended.log": at.folder / "unattended.log"},
                note=str(error),
            )
        except HyperError as second:
            self._say(str(second))
            return None
        return made.path

    def _machine(self) -> Machine:
        facts = self._facts
        if facts is None:
            return Machine("unknown", None, self._addresses())
        words = [
            text for text in (facts.firmware.vendor, facts.firmware.product) if not isinstance(text, Unknown)
        ]
        return Machine(
            " ".join(words) or "unknown", identity(self._at.root, facts).serial, self._addresses()
        )

    def _addresses(self) -> tuple[str, ...]:
        """Addresses now: they may have come after the probe."""
        try:
            told = json.loads(self._runner.run(["ip", "-json", "address"], timeout=10, quiet=True).stdout)
            return tuple(
                each["local"]
                for link in told
                for each in link.get("addr_info", ())
                if each.get("scope") == "global" and not ip_address(each["local"]).is_loopback
            )
        except (CommandError, ValueError, KeyError, TypeError):
            return ()

    def _wrote(self) -> str:
        plan = saved_plan(self._at.live)
        try:
            journal = Journal(self._at.live.journal)
        except HyperError:
            return "unknown: the journal cannot be read."
        if plan is None or journal.token is None:
            return "nothing was written to any disk."
        if not disk_state(plan, journal).begun:
            return "nothing was written to any disk."
        names = ", ".join(disk.name for disk in plan.disks)
        return f"{names} was written to and holds no whole system."


class _Guarded(Watcher):
    """Asks a guard once the plan is made, and tells the webhooks of all else."""

    def __init__(self, inner: WebhookWatcher, guard: Callable[[Facts, Plan], None] | None) -> None:
        self._inner = inner
        self._guard = guard

    def planned(self, facts: Facts, plan: Plan, *, resumed: bool) -> None:
        self._inner.planned(facts, plan, resumed=resumed)
        # What was begun since this boot is gone on with: the facts are those from before it.
        if self._guard and not resumed:
            self._guard(facts, plan)

    def begins(self, context: Context) -> None:
        self._inner.begins(context)

    def step(self, at: Moment, total: int, state: State) -> None:
        self._inner.step(at, total, state)

    def finished(self, context: Context, result: Result) -> None:
        self._inner.finished(context, result)

    def notes(self) -> tuple[str, ...]:
        return self._inner.notes()
