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
LISTS = ("jobs", "vms", "images", "operations", "templates")
"""What shells ask for."""
OWN_TEMPLATES = "/etc/hyper-nixos/templates"
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
    what.add_argument("--images", action="store_true", help="print the names of the images that you may use")
    what.add_argument("--operations", action="store_true", help="print the ids of operations that run")
    what.add_argument("--templates", action="store_true", help="print the names of the templates")
    return result


def of_broker(what: str) -> list[str]:
    """Names of the VMs or images that the caller sees, or ids of operations that have not ended; none where the broker does
    not answer at once.
    """
    from hv.client import Client
    from installer.errors import HyperError

    try:
        rows = Client(patience=PATIENCE).ask("GET", f"/1/{what}")[what]
    except HyperError:
        return []
    return [str(row.get("name") or row["id"]) for row in rows if not row.get("ended")]


def templates(*folders: str) -> list[str]:
    """Names of templates, ours and the host's."""
    here = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 -- see jobs()
    found = set()
    for folder in folders or (f"{here}/images/templates", OWN_TEMPLATES):
        try:
            names = os.listdir(folder)  # noqa: PTH208 -- see jobs()
        except OSError:
            continue
        found |= {name.removesuffix(".toml") for name in names if name.endswith(".toml")}
    return sorted(found)


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
        case ["--vms" | "--images" | "--operations" as what]:
            print("\n".join(of_broker(what.removeprefix("--"))))
        case ["--templates"]:
            print("\n".join(templates()))
        case [shell] if shell in SCRIPTS:
            sys.stdout.write(script(shell))
        case _:
            chosen = parser().parse_args(argv)
            asked = [f"--{name}" for name in LISTS if getattr(chosen, name)]
            return main(asked or [chosen.shell])
    return 0
