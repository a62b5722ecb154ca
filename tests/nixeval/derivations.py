"""Derivations as Nix writes them: what each is made of. They are instantiated for it, and nothing of them is built.

The format is that of the Nix manual, chapter "Store derivation": `Derive(outputs, inputs, sources, system, builder,
arguments, environment)`, in lists, pairs and strings that Python reads as they are.
"""

import ast
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.nixeval.nix import require

Inputs = Mapping[str, frozenset[str]]
"""Path of a derivation to names of its outputs."""


@dataclass(frozen=True)
class Derivation:
    """One derivation."""

    name: str
    """Its name, without hash and ending."""
    inputs: Inputs
    """What it needs."""
    fetched: bool
    """Whether its content is known beforehand: it comes from a network, or is there."""


def instantiate(expression: str) -> list[str]:
    """Paths of the derivations that an expression, or a list in it, evaluates to."""
    said = require().run("nix-instantiate", "--expr", expression)
    return [line.removesuffix("!out") for line in said.split()]


@cache
def read(path: str) -> Derivation:
    """A derivation of the store."""
    text = (require().store / path.lstrip("/")).read_text()
    found: tuple[Any, ...] = ast.literal_eval(text.removeprefix("Derive"))
    inputs = {each: frozenset(outputs) for each, outputs in found[1]}
    return Derivation(Path(path).stem[33:], inputs, "outputHash" in dict(found[6]))


def outputs_beside(paths: Iterable[str]) -> dict[str, frozenset[str]]:
    """All that these derivations have as inputs."""
    there: dict[str, frozenset[str]] = {}
    for path in paths:
        for each, outputs in read(path).inputs.items():
            there[each] = there.get(each, frozenset()) | outputs
    return there


@dataclass(frozen=True)
class Build:
    """What building something takes where some outputs are there."""

    made: frozenset[str]
    """Names of the derivations that are built."""
    missing: Mapping[str, tuple[str, ...]]
    """Name of what would have to be fetched, and by what names it is reached."""


def build_with(there: Inputs, goal: str) -> Build:
    """What is built for a derivation, and what only a network would give, when these outputs are there."""
    made: dict[str, str] = {}
    missing: dict[str, tuple[str, ...]] = {}
    # By the shortest way first: it names what is wanted, and not what that is compiled with.
    waiting: deque[tuple[str, frozenset[str], tuple[str, ...]]] = deque([(goal, frozenset(("out",)), ())])
    while waiting:
        path, outputs, way = waiting.popleft()
        if path in made or outputs <= there.get(path, frozenset()):
            continue
        found = read(path)
        made[path] = found.name
        if found.fetched:
            missing[found.name] = way
        else:
            waiting.extend((each, wanted, (*way, found.name)) for each, wanted in found.inputs.items())
    return Build(frozenset(made.values()) - missing.keys(), missing)
