"""`hv support-bundle`: one file with everything that helps to find out what went wrong."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from installer.command_line import Parser
from installer.errors import Exit

FOLDER = Path("/run/hyper-nixos")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv support-bundle",
        description="Write log, plan, journal, facts and versions into one file. Secrets are taken out; serial "
        "numbers, addresses and names stay. Needs root.",
    )
    top.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help=f"where to (default: {FOLDER}/support-TIME.tar.zst)",
    )
    top.add_argument(
        "--answers",
        metavar="FILE",
        help="answer file of the installation: what its secret files hold is taken out too",
    )
    return top


def main(argv: list[str]) -> int:
    """Run the command. Raises HyperError."""
    from tempfile import TemporaryDirectory

    from installer.execute.interrupts import ended_by_signals
    from installer.execute.live import LiveSystem
    from installer.execute.log import Log, Redactor
    from installer.execute.preflight import require_root
    from installer.execute.runner import Runner
    from installer.support.bundle import Collector, make_bundle
    from installer.support.named import secret_files

    options = parser().parse_args(argv)
    require_root("a support bundle")
    files: tuple[Path, ...] = ()
    if options.answers:
        from installer.commands.answers import read_answers

        files = secret_files(read_answers(options.answers))
    live = LiveSystem()
    path = options.output or FOLDER / f"support-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.zst"
    with ended_by_signals(), TemporaryDirectory(prefix="hv-support-") as folder:
        runner = Runner(Log(Path(folder, "log"), Redactor()), live.search_path)
        bundle = make_bundle(Collector(runner, live), path.absolute(), secret_files=files)
    print(f"{bundle.path}: {bundle.path.stat().st_size} bytes, {len(bundle.members)} files")
    return Exit.ok
