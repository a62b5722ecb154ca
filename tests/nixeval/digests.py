"""What each example becomes in each tier, phase and processor architecture, evaluated, as names that a person can check.

`NIXPKGS=… python -m tests.nixeval.digests [CASE…]` writes tests/golden/digests: base.json has one host whole; of every
other state there is what is otherwise than in the state that `nearest` names. One Nix process evaluates one
host in both phases, for memory's sake; all together take minutes.
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hv.security.table import changed
from installer.answers.model import Tier
from tests.nixeval import hosts
from tests.nixeval.cases import CASES, inputs, rendered_on
from tests.nixeval.host import evaluate_flake_host
from tests.nixeval.nix import REPOSITORY, EvaluationError
from tests.nixeval.phases import Values
from tests.nixeval.units import name_store_paths

GOLDEN = REPOSITORY / "tests/golden/digests"
ARCHITECTURES = ("x86_64", "aarch64")
PHASES = ("setup", "hardened")
TIERS = tuple(tier.value for tier in Tier)
BASE = "home-lab"
"""The case whose first state is written whole."""
IN_EVERY_TIER = (BASE, "encrypted-server-unattended", "workstation-passthrough")
"""Examples that are evaluated in every tier: one of each kind of host. The others differ from them in their disks."""
SELECT = Path(__file__).with_name("digest.nix")


class State(NamedTuple):
    """One system of the matrix."""

    architecture: str
    tier: str
    phase: str


def own_tier(case: str) -> str:
    """The tier that the answers name."""
    return inputs(case)[1].hypervisor.tier.value


def tiers(case: str, architecture: str) -> list[str]:
    """The tiers that a case is evaluated in, its own first. Beside x86-64 one case is in all of them."""
    own = own_tier(case)
    every = case in IN_EVERY_TIER and (architecture == ARCHITECTURES[0] or case == BASE)
    return [own, *(tier for tier in TIERS if tier != own)] if every else [own]


def evaluate(case: str, architecture: str, tier: str) -> dict[State, Values]:
    """Digests of a case by phase; EvaluationError for complaints of any system in it."""
    wanted = f'({{ lib, ... }}: {{ hypervisor.tier = lib.mkForce "{tier}"; }})'
    with tempfile.TemporaryDirectory() as folder:
        directory = hosts.write(rendered_on(case, architecture).files, Path(folder))
        hostname = inputs(case)[1].hostname
        host = evaluate_flake_host(directory, hostname, f"import {SELECT}", f"{architecture}-linux", wanted)
    complaints = [*host.failed_assertions, *host.warnings]
    if not host.value["toplevel"].endswith(".drv"):
        complaints.append(f"{host.value['toplevel']} is no derivation")
    if host.value["platform"] != f"{architecture}-linux":
        complaints.append(f"{host.value['platform']} instead of {architecture}")
    if complaints:
        raise EvaluationError("\n".join((f"{case} on {architecture}, {tier}:", *complaints)))
    return {State(architecture, tier, phase): _plain(host.value["phases"][phase]) for phase in PHASES}


def _plain(kinds: Mapping[str, Mapping[str, Any]]) -> Values:
    """Without hashes of store paths, long texts by their own hash."""
    plain: Values = {}
    for kind, names in kinds.items():
        plain[kind] = {name_store_paths(name): _short(value) for name, value in names.items()}
    return plain


def _short(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = name_store_paths(value)
    return text if len(text) < 80 else f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def nearest(case: str, state: State) -> State:
    """The state of the same case that one is compared with."""
    architecture, tier, phase = state
    if architecture != ARCHITECTURES[0]:
        return State(ARCHITECTURES[0], tier, phase)
    if tier != own_tier(case):
        return State(architecture, own_tier(case), phase)
    return State(architecture, tier, PHASES[0])


def first(case: str) -> State:
    """The state that a case begins with."""
    return State(ARCHITECTURES[0], own_tier(case), PHASES[0])


def differences(case: str, states: Mapping[State, Values], base: Values) -> dict[str, Values]:
    """What each state has otherwise than its nearest, the first otherwise than the base."""
    return {
        " ".join(state): changed(base if state == first(case) else states[nearest(case, state)], digest)
        for state, digest in states.items()
    }


def base() -> Values:
    """The host that is written whole, from the repository."""
    whole: Values = json.loads((GOLDEN / "base.json").read_text())
    return whole


def committed(case: str) -> dict[str, Values]:
    """A case's differences from the repository."""
    read: dict[str, Values] = json.loads((GOLDEN / f"{case}.json").read_text())
    return read


def write(name: str, content: object) -> None:
    """One golden file; a line for each name."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    path = GOLDEN / f"{name}.json"
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print(path.relative_to(REPOSITORY), flush=True)


def main(*cases: str) -> int:
    """Write the golden files, of these cases or all."""
    for case in cases or (BASE, *(each for each in CASES if each != BASE)):
        states: dict[State, Values] = {}
        for found in timed(case):
            states |= found
            if case == BASE and first(case) in found:
                write("base", found[first(case)])
        write(case, differences(case, states, base()))
    return 0


def timed(case: str) -> Iterator[dict[State, Values]]:
    """A case in every tier and architecture, saying how long each took."""
    for architecture in ARCHITECTURES:
        for tier in tiers(case, architecture):
            began = time.monotonic()
            found = evaluate(case, architecture, tier)
            print(f"{case} {architecture} {tier}: {time.monotonic() - began:.0f} s", flush=True)
            yield found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
