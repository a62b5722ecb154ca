"""`hv secure-boot`: signs what the host starts from with keys of its own, and gives them to the firmware."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from hv.firstrun.world import Journal, World, require_root
from hv.secure_boot.host import enrol, in_menu, sign, standing
from hv.secure_boot.settings import SETTINGS_FILE, SecureBootSettings, read_settings
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner

AFTERWARDS = """\
Secure Boot is in force from the next start on; some firmware wants it switched on in its set-up as well.
A TPM that opens disks was bound to the state before: the next start asks for the passphrase. Then, for each device:
  systemd-cryptenroll --wipe-slot=tpm2 --tpm2-device=auto --tpm2-pcrs=7 DEVICE
If the machine does not start: switch Secure Boot off in the firmware's set-up; everything starts as it did before."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv secure-boot",
        description="Secure Boot with keys of the host's own: loader, kernels, RAM disks and command lines are signed at "
        "every rebuild.",
        epilog="Exit codes: 0 done, or ready; 1 something is not signed; see docs.",
    )
    top.add_argument(
        "--config",
        type=Path,
        default=Path(SETTINGS_FILE),
        metavar="FILE",
        help="where things are (default: %(default)s)",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    shown = verbs.add_parser(
        "status", help="what the firmware does, and whether all is signed; changes nothing"
    )
    shown.add_argument("--json", action="store_true", help="for programs")
    signing = verbs.add_parser("sign", help="sign what is not signed yet; NixOS does it at every generation")
    signing.add_argument(
        "--default", metavar="SYSTEM", help="the system that is started next (default: as it is now)"
    )
    signing.add_argument("--make-keys", action="store_true", help="where there are none yet")
    given = verbs.add_parser("enrol", help="give the firmware, which is in setup mode, the host's keys")
    given.add_argument(
        "--only-own-keys",
        action="store_true",
        help="without the vendor's: cards with programs signed by Microsoft then do not work at the start",
    )
    given.add_argument("--yes", action="store_true", help="do not ask")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    require_root("Secure Boot")
    path = os.environ.get("PATH", "")
    path = f"{path}:/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    world = World(programs=Runner(NoLog(), path), journal=Journal(emit=print))
    settings = read_settings(options.config)
    match options.verb:
        case "sign":
            return _sign(world, settings, options)
        case "enrol":
            return _enrol(world, settings, options)
    now = standing(world, settings)
    print(json.dumps(now.document(), indent=2) if options.json else now.text())
    return Exit.ok if now.ready else Exit.failed


def _sign(world: World, settings: SecureBootSettings, options: argparse.Namespace) -> int:
    hostname = platform.node() if options.make_keys else None
    done = sign(world, settings, default=options.default, hostname=hostname)
    if done is None:
        print(
            "nothing is signed: this host has no keys for Secure Boot yet (`hv secure-boot sign --make-keys`)"
        )
        return Exit.ok
    in_menu(world, settings)
    print(f"{len(done.images)} signed images; {done.default} is started next")
    return Exit.ok


def _enrol(world: World, settings: SecureBootSettings, options: argparse.Namespace) -> int:
    if not options.yes:
        if not sys.stdin.isatty():
            raise HyperError(
                "The firmware was given no keys.",
                why="there is no terminal to ask on",
                remedy="Say --yes, once somebody can reach the machine's own console.",
                code=Exit.consent,
            )
        print(
            "After this the machine starts nothing but what this host has signed. Have somebody at its console."
        )
        if input("Type `enrol` to go on: ").strip() != "enrol":
            print("nothing was changed")
            return Exit.consent
    enrol(world, settings, only_own=options.only_own_keys)
    print(AFTERWARDS)
    return Exit.ok
