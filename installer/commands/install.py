"""`hv install`: show what would be done, or do it."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from installer.command_line import Parser
from installer.errors import Exit, HyperError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from installer.answers.model import Answers
    from installer.execute.disclosure import Disclosure
    from installer.facts import Facts
    from installer.medium import Medium


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv install",
        description="Install as an answer file says, or ask what is wanted. With a file, without --confirm, and "
        'unless the answers say destroy = "matched", the plan is shown with its token and nothing is written.',
    )
    top.add_argument(
        "--answers", metavar="FILE", help="answer file, TOML or JSON; without one the installer asks"
    )
    top.add_argument(
        "--unattended",
        action="store_true",
        help="ask nobody: fetch the answers (without --answers), install if they consent, and say on every console "
        "how it ended",
    )
    top.add_argument(
        "--again",
        action="store_true",
        help="with --unattended: also on a disk where this host was installed before",
    )
    recorded = top.add_mutually_exclusive_group()
    recorded.add_argument(
        "--facts", metavar="FILE", type=Path, help="plan for the machine in this output of `hv probe --json`"
    )
    recorded.add_argument(
        "--machine",
        "--record",
        metavar="RECORD",
        type=Path,
        help="plan for a machine that `hv probe --record` wrote",
    )
    top.add_argument(
        "--medium",
        metavar="FILE",
        type=Path,
        help="description of the medium, instead of the live system's own",
    )
    top.add_argument(
        "--plan", action="store_true", help="print what would be done, and its token; needs no root"
    )
    top.add_argument("--json", action="store_true", help="with --plan: for programs")
    top.add_argument(
        "--render", metavar="DIR", type=Path, help="write the host's configuration into a folder"
    )
    top.add_argument("--confirm", metavar="TOKEN", help="carry out the plan with this token")
    top.add_argument(
        "--fresh", action="store_true", help="forget an interrupted installation, and plan and confirm anew"
    )
    top.add_argument(
        "--abort",
        action="store_true",
        help="give up an interrupted installation: release what is mounted, and put back what was on the disks, to "
        "the byte as long as no file system was made; later it says what does not come back, and puts back the rest "
        "with --confirm TOKEN",
    )
    top.add_argument(
        "--progress",
        choices=("auto", "plain", "json"),
        default="auto",
        help="how progress is shown: live on a terminal, plain lines, or JSON lines (default: auto)",
    )
    asking = top.add_argument_group("asking")
    asking.add_argument(
        "--guided", action="store_true", help="ask, although an answer file says some things already"
    )
    asking.add_argument(
        "--ask", metavar="TOPICS", help="ask about these topics only, with commas between them"
    )
    asking.add_argument(
        "--plain", action="store_true", help="line by line: for screen readers and dumb terminals"
    )
    asking.add_argument(
        "--dry-run", action="store_true", help="ask and plan, then end without writing to a disk"
    )
    asking.add_argument(
        "--save",
        metavar="FILE",
        type=Path,
        help="where the answers go (default: in memory, and the plan tells)",
    )
    top.add_argument(
        "--attach", action="store_true", help="look at the installation that is under way on this machine"
    )
    top.add_argument(
        "--apart",
        action="store_true",
        help="with a confirmed plan: install apart from this terminal, and return at once; --attach shows it",
    )
    there = top.add_argument_group("another machine")
    there.add_argument(
        "--target",
        metavar="ssh://ROOT@HOST",
        help="install that machine, which booted our medium, from here: answers and secrets are sent, all else is the same",
    )
    there.add_argument(
        "--host-key",
        metavar="SHA256:…",
        help="fingerprint of its SSH key, as its screen shows it (default: known, or asked)",
    )
    there.add_argument("--identity", metavar="FILE", help="private key to log in with")
    there.add_argument(
        "--kexec",
        metavar="DIR",
        type=Path,
        help="where something else runs: end it, and start our live system from this kexec tree in its place",
    )
    return top


def main(argv: list[str]) -> int:
    """Run the command. Raises HyperError."""
    from installer.commands.answers import machine, read_answers

    top = parser()
    options = top.parse_args(argv)
    if options.abort:
        if _given(options) - {"abort", "confirm"}:
            top.error("with --abort goes --confirm TOKEN, and nothing else")
        return _abort(options.confirm)
    record = options.facts or options.machine
    if options.target:
        return _there(options, top)
    if options.host_key or options.identity or options.kexec:
        top.error("--host-key, --identity and --kexec go with --target")
    if options.attach:
        return _attach(options)
    if options.unattended:
        if record or options.plan or options.render or options.confirm or options.guided:
            top.error("--unattended installs, here, without a token, and asks nobody")
        return _unattended(options)
    if options.again:
        top.error("--again goes with --unattended")
    if options.json and not options.plan:
        top.error("--json goes with --plan; while installing it is --progress json")
    planned = options.plan or options.render or options.confirm
    if (
        options.guided
        or options.ask
        or options.answers is None
        or (not planned and _is_interactive(options))
    ):
        if planned:
            top.error(
                "without --answers the installer asks; --plan, --render and --confirm need an answer file"
            )
        return _guide(options, top)
    answers = read_answers(options.answers)
    medium = _medium(options.medium)
    if options.plan or options.render:
        return _look(options, answers, medium, machine(record) if record else _probe())
    if record:
        top.error("a recorded machine can only be planned for: add --plan or --render")
    return _install(options, answers, medium)


def _given(options: argparse.Namespace) -> set[str]:
    """Names of the options that say something."""
    return {name for name, value in vars(options).items() if value not in (None, False, "auto")}


def _abort(confirm: str | None) -> int:
    from installer.execute.abort import Giving, abort

    return abort(Giving(confirm=confirm))


def _attach(options: argparse.Namespace) -> int:
    import os
    import sys

    from installer.execute.live import LiveSystem
    from installer.guided.session import attach, language_for
    from installer.guided.words import use

    live = LiveSystem()
    use(language_for(live, os.environ))
    return attach(live, sys.stdout, options.plain)


def _is_interactive(options: argparse.Namespace) -> bool:
    """Whether the answer file wants some things to be asked. What is wrong with it is told by who reads it whole."""
    from installer.answers.load import parse

    try:
        return bool(parse(Path(options.answers).read_bytes(), options.answers).get("interactive"))
    except (HyperError, OSError, ValueError):
        return False


SAVED = Path("/run/hyper-nixos/answers.toml")
"""Where the guided installation leaves its answers, for root; others have them in the folder where they are."""


def _guide(options: argparse.Namespace, top: argparse.ArgumentParser) -> int:
    import os

    from installer.commands.answers import machine
    from installer.guided.session import Guided, guide
    from installer.medium import MEDIUM_PATH
    from installer.medium import assumed as assumed_medium

    record = options.facts or options.machine
    if record and not options.dry_run:
        top.error("a recorded machine can only be planned for: add --dry-run")
    if not options.dry_run:
        from installer.execute.preflight import require_root

        require_root()
    beforehand = None
    if options.answers:
        try:
            beforehand = (Path(options.answers).read_bytes(), Path(options.answers).name)
        except OSError as error:
            raise HyperError(
                f"the answer file {options.answers} cannot be read",
                why=error.strerror or str(error),
                remedy="name an existing file, or leave --answers out to be asked everything",
                code=Exit.answers,
            ) from None
    probe: Callable[[], Facts] = (lambda: machine(record)) if record else _probe
    assumed = options.dry_run and options.medium is None and not Path(MEDIUM_PATH).exists()
    if assumed:
        facts = probe()
        medium = assumed_medium(f"{facts.cpu.architecture}-linux")
        probe = lambda: facts  # noqa: E731
    else:
        medium = _medium(options.medium)
    save = options.save or (SAVED if os.geteuid() == 0 and not record else Path("answers.toml"))
    return guide(
        Guided(
            medium=medium,
            probe=probe,
            assumed=assumed,
            save=save,
            beforehand=beforehand,
            ask=tuple(filter(None, (options.ask or "").split(","))),
            plain=options.plain,
            dry_run=options.dry_run,
            recorded=record is not None,
        )
    )


def _medium(path: Path | None) -> "Medium":
    from installer.commands.medium import read_medium

    return read_medium(path)


def _probe() -> "Facts":
    from installer.probe import probe
    from installer.probe.root import LiveRoot

    return probe(LiveRoot("/"))


def _look(options: argparse.Namespace, answers: "Answers", medium: "Medium", facts: "Facts") -> int:
    """Plan, and render if asked, for this machine or a recorded one."""
    from installer.execute.consent import remember_shown
    from installer.execute.live import LiveSystem
    from installer.plan.describe import describe
    from installer.plan.planner import make_plan
    from installer.plan.token import confirm_token

    plan = make_plan(facts, answers, medium)
    if options.render:
        from installer.execute.configuration import require_empty_place, write_configuration
        from installer.render import load_templates, render

        rendered = render(facts, answers, plan, medium, load_templates())
        require_empty_place(options.render.absolute(), rendered)
        write_configuration(options.render.absolute(), rendered)
        if not options.plan:
            print(f"wrote {', '.join(sorted(rendered.files))} to {options.render}")
    if options.plan and options.json:
        token = confirm_token(plan)
        print(json.dumps({"version": 1, "token": token, "plan": plan.model_dump(mode="json")}, indent=1))
    elif options.plan:
        print(describe(plan, options.answers), end="")
        if not (options.facts or options.machine):
            remember_shown(LiveSystem(), plan)
    return Exit.ok


def _install(options: argparse.Namespace, answers: "Answers", medium: "Medium") -> int:
    from installer.execute.installation import Request, install
    from installer.execute.preflight import require_root
    from installer.webhooks import WebhookWatcher, make_client

    require_root()
    if options.apart:
        return _apart(options, answers)
    hooks = WebhookWatcher(answers, make_client(answers))
    try:
        return install(
            Request(
                answers=answers,
                answers_file=options.answers,
                medium=medium,
                probe=_probe,
                confirm=options.confirm,
                fresh=options.fresh,
                progress=options.progress,
                watcher=hooks,
                disclosure=_disclosure(),
            )
        )
    except HyperError as error:
        hooks.failed(error, None)
        raise


def _apart(options: argparse.Namespace, answers: "Answers") -> int:
    from installer.execute import apart
    from installer.execute.live import LiveSystem

    if options.confirm is None and answers.storage.destroy != "matched":
        raise HyperError(
            "nothing was started",
            why="nobody confirmed the plan",
            remedy="read it with --plan, then add --confirm TOKEN",
            code=Exit.consent,
        )
    words = ["--answers", str(Path(options.answers).absolute())]
    words += ["--confirm", options.confirm] if options.confirm else []
    words += ["--medium", str(options.medium.absolute())] if options.medium else []
    apart.start(LiveSystem(), [*words, *(["--fresh"] if options.fresh else [])])
    return Exit.ok


def _there(options: argparse.Namespace, top: argparse.ArgumentParser) -> int:
    import os

    from installer.execute.log import NoLog
    from installer.execute.runner import Runner
    from installer.remote.installation import Remote, install_there

    goes = {
        "target",
        "host_key",
        "identity",
        "kexec",
        "answers",
        "plan",
        "json",
        "confirm",
        "fresh",
        "attach",
    }
    if more := _given(options) - goes:
        top.error(f"with --target does not go --{sorted(more)[0].replace('_', '-')}")
    if options.answers in (None, "-") and not options.attach and not options.kexec:
        top.error("--target wants --answers FILE, or --attach")
    answers = Path(options.answers) if options.answers else None
    if answers is not None and not options.attach:
        from installer.commands.answers import read_answers

        read_answers(str(answers))  # what is wrong with them is told before anybody is called
    return install_there(
        Remote(
            target=options.target,
            answers=answers,
            runner=Runner(NoLog(), os.environ.get("PATH", "")),
            host_key=options.host_key,
            identity=options.identity,
            plan=options.plan,
            json=options.json,
            confirm=options.confirm,
            fresh=options.fresh,
            attach=options.attach,
            kexec=options.kexec,
        )
    )


def _disclosure() -> "Disclosure":
    """Where a recovery key is shown: here, or on a screen that looks at an installation apart from it."""
    import sys

    from installer.execute.apart import supervised
    from installer.execute.disclosure import Waiting
    from installer.execute.live import LiveSystem
    from installer.guided.recovery_screen import OnTerminal

    live = LiveSystem()
    return Waiting(live, sys.stdout) if supervised(live) else OnTerminal()


def _unattended(options: argparse.Namespace) -> int:
    import sys
    from typing import cast

    from installer.commands.answers import read_answers
    from installer.execute.progress import Mode
    from installer.unattended import Unattended, run
    from installer.unattended.console import Everywhere, OnConsoles, open_consoles

    progress: Mode = "plain" if options.progress == "auto" else options.progress
    output = Everywhere(sys.stdout, () if sys.stdout.isatty() else open_consoles())
    return run(
        Unattended(
            medium=lambda: _medium(options.medium),
            probe=_probe,
            output=cast("TextIO", output),
            answers_file=options.answers,
            read=read_answers,
            again=options.again,
            progress=progress,
            disclosure=OnConsoles((sys.stdout,) if sys.stdout.isatty() else open_consoles()),
        )
    )
