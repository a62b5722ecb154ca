"""Evaluates whole NixOS systems with the nixpkgs that NIXPKGS names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nixeval.nix import REPOSITORY, EvaluationError, require

MODULES = REPOSITORY / "nix/modules"
FLAKE = Path(__file__).with_name("flake.nix")
HOST = Path(__file__).with_name("host.nix")
TOPLEVEL = "host: host.config.system.build.toplevel.drvPath"
"""Selects the derivation of the whole system: everything that would be built is evaluated for it."""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation gave."""

    value: Any
    """What was selected."""
    failed_assertions: tuple[str, ...]
    """Messages of the assertions that do not hold, with the specialisation's name before the colon."""
    warnings: tuple[str, ...]
    """Warnings, likewise."""


def nixpkgs() -> Path:
    """The tree that NIXPKGS names; EvaluationError without one."""
    named = os.environ.get("NIXPKGS")
    if not named or not (Path(named) / "nixos/lib/eval-config.nix").exists():
        raise EvaluationError(
            f"NIXPKGS={named or ''} names no nixpkgs tree; set it to a checkout of nixpkgs"
        )
    return Path(named).resolve()


def flakes() -> str:
    """The Nix expression of tests/nixeval/flake.nix with nixpkgs and this repository."""
    return f"(import {FLAKE} {{ nixpkgs = {nixpkgs()}; repository = {REPOSITORY}; }})"


def evaluate_flake_host(
    directory: Path, hostname: str, select: str = TOPLEVEL, system: str = "x86_64-linux", module: str = "{ }"
) -> Evaluated:
    """Evaluate the host of a rendered flake, with this repository as its `hyper-nixos`, and one more module."""
    return evaluate(select, f'{flakes()}.modulesOf {directory} "{hostname}" ++ [ {module} ]', system)


def evaluate(select: str, modules: Sequence[Path | str] | str, system: str = "x86_64-linux") -> Evaluated:
    """Evaluate a host of these modules: files or Nix expressions, or one expression of a list.

    `select` is a Nix function of the evaluated system ({ config, pkgs, options, … }).
    """
    if not isinstance(modules, str):
        modules = f"[ {' '.join(f'({module})' for module in modules)} ]"
    arguments = {
        "nixpkgs": str(nixpkgs()),
        "modules": modules,
        "system": f'"{system}"',
        "select": select,
    }
    read = require().evaluate(f"import {HOST}", arguments)
    return Evaluated(read["value"], tuple(read["failedAssertions"]), tuple(read["warnings"]))
