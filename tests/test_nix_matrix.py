"""Every example in every tier and phase, on both processor architectures: a system, without a complaint, as committed."""

import json

import pytest

from tests.nixeval import digests
from tests.nixeval.cases import CASES
from tests.nixeval.digests import ARCHITECTURES, PHASES, TIERS, State
from tests.nixeval.phases import Values


def restored(case: str) -> dict[State, Values]:
    """The whole digests of a case, from the differences in the repository."""
    told = {State(*key.split(" ")): change for key, change in digests.committed(case).items()}
    whole: dict[State, Values] = {}

    def restore(state: State) -> Values:
        if state not in whole:
            before = (
                digests.base() if state == digests.first(case) else restore(digests.nearest(case, state))
            )
            whole[state] = {
                kind: {
                    name: value
                    for name, value in (names | told[state].get(kind, {})).items()
                    if value is not None
                }
                for kind, names in before.items()
            }
        return whole[state]

    for state in told:
        restore(state)
    return whole


HOSTS = [
    (case, architecture, tier)
    for case in CASES
    for architecture in ARCHITECTURES
    for tier in digests.tiers(case, architecture)
]


@pytest.mark.nixpkgs
@pytest.mark.parametrize(("case", "architecture", "tier"), HOSTS)
def test_each_host_is_as_committed(case: str, architecture: str, tier: str) -> None:
    """It evaluates to a derivation without a failed assertion or a warning, or `evaluate` raises."""
    found = digests.evaluate(case, architecture, tier)
    wanted = restored(case)
    assert found == {state: wanted[state] for state in found}, (
        f"if wanted: python -m tests.nixeval.digests {case}"
    )


@pytest.mark.parametrize("case", CASES)
def test_the_matrix_is_whole(case: str) -> None:
    wanted = {
        State(architecture, tier, phase)
        for architecture in ARCHITECTURES
        for tier in digests.tiers(case, architecture)
        for phase in PHASES
    }
    assert {State(*key.split(" ")) for key in digests.committed(case)} == wanted


def test_examples_are_evaluated_in_every_tier() -> None:
    assert all({*digests.tiers(case, "x86_64")} == {*TIERS} for case in digests.IN_EVERY_TIER)
    assert {*digests.tiers(digests.BASE, "aarch64")} == {*TIERS}


@pytest.mark.parametrize("case", CASES)
def test_every_host_has_what_none_may_lack(case: str) -> None:
    """What holds in each tier, phase and architecture, whatever the answers say."""
    for state, digest in restored(case).items():
        assert digest["nftables"]["nixos-fw"] == "inet", state
        assert "multi-user.target" in digest["units"]["hyper-nixos-firstrun.service"], state
        assert digest["groups"].get("libvirtd", "") in {"", "hvd"}, state
        assert "hv-admins" in digest["groups"], state
        assert "qemu-bridge-helper" not in digest["wrappers"], state
        assert (state.phase == "hardened") is ("kernel.dmesg_restrict" in digest["sysctl"]), state
        assert set(digest["ports"]) >= {"virbr0 udp 67"}, state


def test_nothing_is_hashed_by_the_store() -> None:
    for path in digests.GOLDEN.glob("*.json"):
        assert "/nix/store" not in path.read_text(), path
        json.loads(path.read_text())
