"""Builds a medium with Nix, and follows how far it is: Nix's own numbers, from its log for programs (`--log-format
internal-json`, one JSON object a line behind `@nix `).
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError

_COPY_PATH, _TRANSFER, _COPY_PATHS, _BUILDS, _BUILD = 100, 101, 103, 104, 105
"""Kinds of activity (nix, logging.hh, ActivityType)."""
_PROGRESS, _BUILD_LINE = 105, 101
"""Kinds of result (ResultType): done, expected, running, failed; a line that a builder wrote."""
_KEPT = 20
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Follower:
    """What Nix is doing."""

    tell: Callable[[str], None]
    """Takes one line for people whenever something changed."""
    kinds: dict[int, int] = field(default_factory=dict)
    amounts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Done and expected, of each kind of activity."""
    names: dict[int, str] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)
    """The last lines, for an error."""
    _told: str = ""

    def line(self, line: str) -> None:
        """Take a line of standard error."""
        if not line.startswith("@nix "):
            self._keep(line.rstrip())
            return
        try:
            event: dict[str, Any] = json.loads(line[5:])
        except ValueError:
            return
        match event.get("action"):
            case "start":
                self.kinds[event["id"]] = event.get("type", 0)
                if event.get("type") == _BUILD and event.get("fields"):
                    self.names[event["id"]] = (
                        str(event["fields"][0]).rpartition("/")[2][33:].removesuffix(".drv")
                    )
            case "stop":
                self.names.pop(event.get("id", 0), None)
            case "msg":
                self._keep(str(event.get("msg", "")))
            case "result" if event.get("type") == _PROGRESS:
                done, expected = event["fields"][:2]
                self.amounts[self.kinds.get(event["id"], 0)] = (done, expected)
            case "result" if event.get("type") == _BUILD_LINE:
                self._keep(str(event["fields"][0]))
        words = self.words()
        if words and words != self._told:
            self._told = words
            self.tell(words)

    def _keep(self, text: str) -> None:
        text = _COLOURS.sub("", text)
        if text.strip():
            self.last = [*self.last, text][-_KEPT:]

    def words(self) -> str:
        """How far it is."""
        parts = []
        done, expected = self.amounts.get(_BUILDS, (0, 0))
        if expected:
            parts.append(f"{done} of {expected} built")
        done, expected = self.amounts.get(_COPY_PATHS, (0, 0))
        if expected:
            parts.append(f"{done} of {expected} paths fetched")
        done, expected = self.amounts.get(_TRANSFER, (0, 0))
        if expected:
            parts.append(f"{format_size(done)} of {format_size(expected)}")
        if self.names:
            parts.append(", ".join(list(self.names.values())[:2]))
        return ", ".join(parts)


def find_nix(wanted: str = ".#iso") -> list[str]:
    """The command. Raises HyperError (Exit.unsuitable) that says what to do where there is none.

    Args:
        wanted: What it is needed for, as `nix build` names it.
    """
    nix = shutil.which("nix")
    if nix is None:
        raise HyperError(
            "media are built with Nix, and there is none here",
            why="no program `nix` was found",
            remedy="take an image that was built elsewhere, and `hv media embed` your answers: that needs no Nix. Or "
            f"build it on a machine that has Nix, in the folder with the flake: `nix build '{wanted}'`. Nix comes with "
            "NixOS, and for other systems from https://nixos.org/download; Linux in a container does too: "
            "`docker run nixos/nix`",
            code=Exit.unsuitable,
        )
    return [nix]


def build(
    nix: Sequence[str], installable: str, tell: Callable[[str], None], more: Sequence[str] = ()
) -> Path:
    """Build it; its store path.

    Raises:
        HyperError: Nix failed, with its last lines.
    """
    argv = [*nix, "--extra-experimental-features", "nix-command flakes", "build", installable, "--no-link"]
    argv += ["--print-out-paths", "--log-format", "internal-json", *more]
    follower = Follower(tell)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stderr:
            follower.line(line)
        out = process.stdout.read().split()
    if process.returncode or not out:
        raise HyperError(
            f"{installable} was not built",
            why="\n".join(follower.last) or f"nix ended with {process.returncode}",
            remedy="mend what Nix names; without a network, everything must be in the store already",
        )
    return Path(out[-1])


def inputs(nix: Sequence[str], flake: str) -> dict[str, Any]:
    """Revision and inputs of a flake, as its lock has them; what is not known is left out."""
    argv = [
        *nix,
        "--extra-experimental-features",
        "nix-command flakes",
        "flake",
        "metadata",
        "--json",
        flake,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return {}
    nodes = told.get("locks", {}).get("nodes", {})
    return {
        "revision": told.get("revision"),
        "inputs": {
            name: {key: node["locked"].get(key) for key in ("rev", "narHash") if node["locked"].get(key)}
            for name, node in sorted(nodes.items())
            if "locked" in node
        },
    }


def image_in(result: Path) -> Path:
    """The image in what was built. Raises HyperError."""
    files = [result] if result.is_file() else sorted(path for path in result.rglob("*") if path.is_file())
    images = [path for path in files if path.suffix in (".iso", ".img", ".raw", ".qcow2")]
    if len(images) != 1:
        raise HyperError(
            f"there is no image in {result}",
            why=f"it has {', '.join(path.name for path in files[:6]) or 'nothing'}",
            remedy="build iso, raw or qcow2; netboot and kexec are folders: leave --output away",
            code=Exit.medium,
        )
    return images[0]
