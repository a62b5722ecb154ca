"""Other installers' files, read from where they are: told apart by what is in them."""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from installer.answers.foreign.disko import read_disko
from installer.answers.foreign.kickstart import COMPUTES, INCLUDE, STORAGE, read_kickstart
from installer.answers.foreign.proxmox import read_proxmox
from installer.answers.foreign.tree import Imported
from installer.errors import Exit, HyperError
from installer.facts import Facts

NIX = """\
{ file }:
let
  value = import file;
  given = { lib = { }; pkgs = { }; config = { }; };
  called = if builtins.isFunction value then value (builtins.intersectAttrs (builtins.functionArgs value) given) else value;
in
called.disko.devices or called
"""
"""Evaluates a configuration as far as it needs nothing of NixOS."""
LARGEST = 4 << 20


def read(path: Path, kind: str, facts: Facts | None) -> Imported:
    """A file as answers.

    Raises:
        HyperError: it cannot be read, or is none of the kinds (Exit.answers).
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None
    kind = _kind(path, content) if kind == "auto" else kind
    try:
        match kind:
            case "disko":
                value = _evaluated(path) if path.suffix == ".nix" else json.loads(content)
                return read_disko(value, facts)
            case "proxmox":
                return read_proxmox(tomllib.loads(content), facts)
            case "kickstart":
                return read_kickstart(content, facts, _beside(path.parent))
    except ValueError as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    raise _unreadable(
        path, "it is no JSON or Nix with disko.devices, no answer.toml of Proxmox, and no kickstart"
    )


def _beside(folder: Path) -> Callable[[str], str | None]:
    """What a kickstart includes, from the folder that it is in and those below: by its path there, or by its last name.

    A path that leads out of the folder, and an address, are looked for by their last name alone.
    """

    def found(name: str) -> str | None:
        tried = [] if "://" in name else [folder / name.removeprefix("/")]
        for path in (*tried, folder / name.rpartition("/")[2]):
            if path.resolve().is_relative_to(folder.resolve()) and path.is_file():
                try:
                    with path.open("rb") as file:
                        return file.read(LARGEST).decode()
                except (OSError, UnicodeDecodeError) as error:
                    raise _unreadable(path, str(error)) from None
        return None

    return found


def _kind(path: Path, content: str) -> str:
    if path.suffix in (".nix", ".json"):
        return "disko"
    if path.suffix == ".toml" and "[global]" in content:
        return "proxmox"
    words = {line.split()[0] for line in content.splitlines() if line.strip()}
    return "kickstart" if words & {*STORAGE, *INCLUDE, *COMPUTES} else ""


def _unreadable(path: Path, why: str) -> HyperError:
    return HyperError(
        f"{path} cannot be read as answers",
        why=why,
        remedy="say what it is with --from; of a Nix configuration that needs NixOS, give the JSON of "
        "`nix eval --json .#nixosConfigurations.NAME.config.disko.devices`",
        code=Exit.answers,
    )


def _evaluated(path: Path) -> Any:
    """What Nix makes of a file, without building or fetching anything."""
    program = shutil.which("nix-instantiate")
    if program is None:
        raise _unreadable(path, "it is Nix, and there is no nix-instantiate here to evaluate it")
    argv = [program, "--eval", "--strict", "--json", "--readonly-mode", "--option", "restrict-eval", "false"]
    argv += ["--arg", "file", str(path.absolute()), "--expr", NIX]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise _unreadable(
            path, next(reversed([each for each in done.stderr.splitlines() if each.strip()]), "no output")
        )
    return json.loads(done.stdout)


def text(name: str, found: Imported) -> str:
    """An answer file to complete, with everything that was left in comments."""
    import tomli_w

    head = [
        f"# Read from {name}. `hv answers check` tells what is missing; `hv answers new` shows every field."
    ]
    head += [f"# Not taken over: {each}" for each in found.left]
    return "\n".join([*head, "", tomli_w.dumps({"version": 1} | found.answers)])
