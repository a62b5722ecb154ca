"""`hv health`: whether a host may keep the system that it booted after a migration."""

import argparse
import os
from pathlib import Path

from hv.firstrun.world import LIBVIRT_URI, World, require_root, to_json, write_atomically
from hv.health.check import look
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.migrate.fallback import Fallback
from installer.migrate.trial import ATTEMPTS, DONE, TRIAL, VERDICT, Trial, Verdict

SYSTEM = "/run/current-system"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv health",
        description="Whether a host may keep the system that it booted after `hv migrate`: an administrator can log in "
        "from the same network, libvirt answers, guests run.",
        epilog="Exit codes: 0 well, or nothing is on trial; 1 not well.",
    )
    top.add_argument(
        "--connect", default=LIBVIRT_URI, metavar="URI", help="libvirt to use (default: %(default)s)"
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser(
        "check",
        help="look, and settle the trial: well, and the system is kept; else the unit that runs this fails, and starts "
        "the machine anew",
    )
    check.add_argument(
        "--patience", type=float, default=60, metavar="SECONDS", help="how long everything has (default: 60)"
    )
    status = verbs.add_parser("status", help="what the last check said; changes nothing")
    status.add_argument("--json", action="store_true", help="for programs")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    require_root("Looking at the health of a host")
    path = os.environ.get("PATH", "")
    path = f"{path}:/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    world = World(programs=Runner(NoLog(), path), uri=options.connect)
    return check(world, options.patience) if options.verb == "check" else status(world, json=options.json)


def check(world: World, patience: float) -> int:
    """Look, and settle."""
    file = world.path(TRIAL)
    if not file.exists():
        print("nothing is on trial")
        return Exit.ok
    trial = Trial.model_validate_json(file.read_bytes())
    system = _system(world)
    if system != trial.after:
        print(f"{system} runs, which is not the system on trial ({trial.after}): nothing to check")
        return Exit.ok
    last = verdict(world)
    attempts = last.attempts + 1 if last and last.system == system else 1
    if attempts > ATTEMPTS:
        # Whoever starts it again, by hand perhaps, wants to see it run.
        print(
            f"on trial for the {attempts}th time: it is left as it is; `hv health status` says what was wrong"
        )
        return Exit.ok
    # The count is on disk before anything else can go wrong.
    _say(
        world,
        Verdict(
            at=world.clock.now(),
            attempts=attempts,
            system=system,
            well=False,
            lines=("begun, and not come to an end",),
        ),
    )
    seen = look(world, trial.expected, Path(system), patience)
    well = all(each.well for each in seen)
    lines = tuple(f"{'ok  ' if each.well else 'FAIL'} {each.line}" for each in seen)
    if well and trial.fallback in (Fallback.once, Fallback.grub):
        # Only now the new system is the one that always starts.
        world.run(
            (f"{trial.after}/bin/switch-to-configuration", "boot"),
            purpose="make the new system the default of the boot menu",
            remedy="Run `nixos-rebuild boot`.",
            timeout=900,
        )
    _say(world, Verdict(at=world.clock.now(), attempts=attempts, system=system, well=well, lines=lines))
    print("\n".join(lines))
    if well:
        file.rename(world.path(DONE))
        print("well: the migrated system stays")
        return Exit.ok
    after = (
        "nothing takes the machine back by itself"
        if trial.fallback is Fallback.none
        else "the machine goes back"
    )
    print(f"not well: {after}; `hv migrate --undo` does")
    return Exit.failed


def status(world: World, *, json: bool) -> int:
    """What the last check said."""
    found, trial = verdict(world), world.path(TRIAL).exists()
    if json:
        said = found.model_dump(mode="json") if found else None
        print(to_json({"version": 1, "trial": trial, "verdict": said}), end="")
    elif found is None:
        print("the next boot tries the migrated system" if trial else "nothing was ever on trial")
    else:
        print(
            f"{found.at:%Y-%m-%d %H:%M} UTC, boot {found.attempts} of the trial: {'well' if found.well else 'NOT WELL'}"
        )
        print("\n".join(found.lines))
        if not found.well and _system(world) != found.system:
            print("The machine went back to the system from before. `hv migrate --undo` tidies up.")
    return Exit.failed if found and not found.well else Exit.ok


def verdict(world: World) -> Verdict | None:
    """The last one."""
    try:
        return Verdict.model_validate_json(world.path(VERDICT).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise HyperError(
            "the record of the last check is damaged",
            why=f"{VERDICT}: {error}",
            remedy=f"remove {VERDICT}",
        ) from error


def _say(world: World, said: Verdict) -> None:
    write_atomically(world.path(VERDICT), to_json(said.model_dump(mode="json")), 0o600)


def _system(world: World) -> str:
    return str(world.path(SYSTEM).resolve())
