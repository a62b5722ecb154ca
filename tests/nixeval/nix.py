"""Finds a Nix of at least 2.18 and runs it without root, without a daemon and without touching /nix.

`python -m tests.nixeval.nix` prints which one is used; with `--get` it unpacks Debian trixie's (mmdebstrap, no root).
"""

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / ".lab"
OWN_ROOT = LAB / "nix"
"""Where `--get` unpacks Debian's Nix."""
OLDEST = (2, 18)
SECONDS = 600
"""A runaway evaluation is stopped after this long: a busy machine takes ten times as long as an idle one."""
HEAP = "3G"
"""Nix's collector looks for garbage only beyond this much memory: a whole host takes 9 s instead of 15 s."""
CONFIGURATION = """\
experimental-features = nix-command flakes
substituters =
build-hook =
builders =
sandbox = false
"""


STARTED = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
"""What this process was started with."""


class EvaluationError(Exception):
    """Nix refused; the message holds the end of its trace."""


@dataclass(frozen=True)
class Nix:
    """A Nix that answers to all its names (`nix`, `nix-instantiate`, …)."""

    origin: str
    """Where it was found, for people."""
    directory: Path | None = None
    """Folder with the programs."""
    wrapper: Path | None = None
    """A program that takes the name as its first argument."""
    root: Path | None = None
    """An unpacked Debian; its programs run with its own loader and libraries."""

    def command(self, program: str) -> list[str]:
        """Arguments that start `program`."""
        if self.wrapper:
            # It looks for Nix where it was started: on a test's own PATH it would find what calls it, without end.
            return [
                "env",
                "-u",
                "XDG_CACHE_HOME",
                *(f"{name}={value}" for name, value in STARTED.items()),
                str(self.wrapper),
                program,
            ]
        if self.root:
            loader = next(self.root.glob("usr/lib*/ld-linux-*.so.*"))
            libraries = ":".join(map(str, self.root.glob("usr/lib/*-linux-gnu")))
            nix = str(self.root / "usr/bin/nix")
            return [str(loader), "--argv0", program, "--library-path", libraries, nix]
        return [str(self.directory / program) if self.directory else program]

    @property
    def store(self) -> Path:
        """Where its derivations go. A wrapper has one of its own: a database that one Nix keeps with a write-ahead log,
        another that is told not to cannot open.
        """
        return LAB / ("nixeval-store-wrapper" if self.wrapper else "nixeval-store")

    def run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of `program`; EvaluationError with Nix's own words when it fails."""
        self.store.mkdir(parents=True, exist_ok=True)
        environment = {
            "GC_INITIAL_HEAP_SIZE": HEAP,
            **os.environ,
            "NIX_CONFIG": CONFIGURATION,
            "NIX_REMOTE": str(self.store),
            "NIX_PATH": "",
        }
        done = subprocess.run(
            [*self.command(program), *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            telling = [line for line in done.stderr.splitlines() if re.search(r"error:|^ +at .*:\d", line)]
            raise EvaluationError("\n".join(telling[-12:]) + "\n" + done.stderr[-2000:])
        return done.stdout

    def parse(self, text: str) -> str:
        """Nix's own reading of a file's text; EvaluationError for a syntax error."""
        return self.run("nix-instantiate", "--parse", "-", stdin=text)

    def evaluate(self, expression: str, arguments: Mapping[str, str] | None = None) -> Any:
        """Value of an expression, strictly evaluated; `arguments` are expressions passed by `--arg`."""
        options = [word for name, value in (arguments or {}).items() for word in ("--arg", name, value)]
        command = ("nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode", *options, "-")
        return json.loads(self.run(*command, stdin=expression))

    def version(self) -> tuple[int, ...]:
        """Its version; () when it does not even start."""
        try:
            said = self.run("nix-instantiate", "--version")
        except (EvaluationError, OSError):
            return ()
        number = re.search(r"(\d+)\.(\d+)", said)
        return tuple(map(int, number.groups())) if number else ()


def _candidates() -> Iterator[Nix]:
    if chosen := os.environ.get("HV_NIX"):
        path = Path(chosen).absolute()
        kind = {"directory": path} if path.is_dir() else {"wrapper": path}
        yield Nix(f"HV_NIX={chosen}", **kind)
        return
    if shutil.which("nix-instantiate"):
        yield Nix("PATH")
    for binary in (OWN_ROOT / "usr/bin/nix", *sorted(LAB.glob("cache/*/root/usr/bin/nix"))):
        if binary.exists():
            yield Nix(str(binary), root=binary.parents[2])


@functools.cache
def find() -> Nix | None:
    """The first Nix that is new enough: HV_NIX, PATH, the one that `--get` made, the lab's."""
    return next((nix for nix in _candidates() if nix.version() >= OLDEST), None)


def require() -> Nix:
    """The Nix to use; EvaluationError with what to do when there is none."""
    if nix := find():
        return nix
    raise EvaluationError(
        "no Nix 2.18 or later: apt-get install nix-bin (Debian trixie or later), or point HV_NIX at one, "
        "or `python -m tests.nixeval.nix --get`"
    )


def get() -> None:
    """Unpack Debian trixie's Nix into the lab's folder."""
    if not shutil.which("mmdebstrap"):
        raise EvaluationError("mmdebstrap is missing: apt-get install mmdebstrap")
    shutil.rmtree(OWN_ROOT, ignore_errors=True)
    OWN_ROOT.parent.mkdir(parents=True, exist_ok=True)
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--include=nix-bin,libc6",
        "trixie",
        str(OWN_ROOT),
    ]
    subprocess.run(command, check=True)


def main() -> int:
    """Print which Nix is used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--get", action="store_true", help="unpack Debian trixie's Nix when there is none")
    arguments = parser.parse_args()
    if arguments.get and find() is None:
        get()
        find.cache_clear()
    try:
        nix = require()
    except EvaluationError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Nix {'.'.join(map(str, nix.version()))} from {nix.origin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
