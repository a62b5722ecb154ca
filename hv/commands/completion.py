"""`hv completion`: prints a completion script, or the words that one asks for while a person types.

The scripts are generated from the commands' parsers (hv.manual) and shipped, so that printing one needs nothing.
"""

import os
import sys

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import argparse

SCRIPTS = {"bash": "hv.bash", "fish": "hv.fish", "zsh": "_hv"}
"""Name of each shell's script in hv/completions/, as the shells want it named."""
PATIENCE = 2.0
"""Seconds that somebody who pressed a key waits for names at most."""
JOBS = "/var/lib/hyper-nixos/firstrun"
"""State files of the first-run jobs, `JOB.json` each."""


def parser() -> "argparse.ArgumentParser":
    """What `hv completion` takes."""
    from installer.command_line import Parser

    result = Parser(
        prog="hv completion",
        description="Print the completion script for a shell. The packages install it; "
        "elsewhere, load it in the shell's start-up file, e.g. `source <(hv completion bash)`.",
    )
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("shell", nargs="?", choices=sorted(SCRIPTS), help="the shell")
    what.add_argument("--jobs", action="store_true", help="print the names of this host's first-run jobs")
    what.add_argument("--vms", action="store_true", help="print the names of the VMs that you see")
    return result


def vms() -> list[str]:
    """Names of the VMs that the caller sees; none where the broker does not answer at once."""
    from hv.client import Client
    from installer.errors import HyperError

    try:
        return [str(row["name"]) for row in Client(patience=PATIENCE).ask("GET", "/1/vms")["vms"]]
    except HyperError:
        return []


def jobs(folder: str = JOBS) -> list[str]:
    """Names of the jobs that have a state file; none when there is no such folder or it cannot be read."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 -- pathlib doubles the time to answer
    except OSError:
        return []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def script(shell: str) -> str:
    """The text of a shell's completion script."""
    folder = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 -- see jobs()
    with open(f"{folder}/completions/{SCRIPTS[shell]}", encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def main(argv: list[str]) -> int:
    """`hv completion`; what shells ask for is answered without a parser."""
    match argv:
        case ["--jobs"]:
            print("\n".join(jobs()))
        case ["--vms"]:
            print("\n".join(vms()))
        case [shell] if shell in SCRIPTS:
            sys.stdout.write(script(shell))
        case _:
            chosen = parser().parse_args(argv)
            return main(["--jobs"] if chosen.jobs else ["--vms"] if chosen.vms else [chosen.shell])
    return 0
