"""`python -m tests.lab`: build the lab, play a scenario, watch the demo."""

import argparse
import sys

from installer.errors import HyperError
from tests.lab import cache, migration, privileges
from tests.lab.command import remove_tree
from tests.lab.examples import examples
from tests.lab.paths import STATE
from tests.lab.play import build, play
from tests.lab.recorder import Recorder
from tests.lab.scenarios import (
    DEMO,
    SCENARIOS,
    arrays,
    combinations,
    endings,
    guests_on_zfs,
    layouts,
    people,
)

EVERY = SCENARIOS | {
    scenario.name: scenario
    for scenario in (
        *layouts(),
        *arrays(),
        guests_on_zfs(),
        *endings(),
        people(),
        *combinations(),
        *examples(),
    )
}


def main(argv: list[str]) -> int:
    """Run one verb."""
    top = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("check", help="say what this machine lacks for the lab")
    verbs.add_parser("build", help="build the medium and all it is made of; cached")
    verbs.add_parser("demo", help="blank disks to a set-up host, live, with a report page")
    one = verbs.add_parser("run", help="play one scenario")
    one.add_argument("scenario", choices=sorted(EVERY))
    moved = verbs.add_parser("migrate", help="migrate an installed system in place, and take it back")
    moved.add_argument("ending", choices=("stays", "goes-back"), help="what becomes of its first boot")
    moved.add_argument("firmware", choices=("uefi", "bios"))
    verbs.add_parser("clean", help="remove everything the lab has built")
    options = top.parse_args(argv)
    try:
        return _run(options)
    except HyperError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.code
    except AssertionError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.verb == "clean":
        remove_tree(STATE)
        return 0
    privileges.require()
    match options.verb:
        case "check":
            print(f"the lab can run here; {cache.free_space() >> 30} GiB are free")
        case "build":
            print(build(Recorder("build", "Only the medium is built.", STATE / "build")))
        case "run":
            play(EVERY[options.scenario])
        case "migrate":
            (migration.stays if options.ending == "stays" else migration.goes_back)(options.firmware)
        case "demo":
            from tests.lab import report

            recorder = play(SCENARIOS[DEMO])
            print(f"\nThe report of this run: {report.build(recorder.folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
