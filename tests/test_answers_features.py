"""Features, tiers and risk in answers: what goes together, and what a machine must have for it."""

import json
from itertools import pairwise
from typing import Any

import pytest

from installer.answers import catalogue
from installer.answers.catalogue import FEATURES, POINTS, TIERS, TOLERANCES, enabled, fitting_tolerance
from installer.answers.load import load
from installer.answers.model import Answers, HypervisorAnswers, Tier
from installer.answers.problems import AnswersError
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.kinds import Verdict
from installer.plan.planner import make_plan
from installer.plan.requirements import counts_as
from tests import machines
from tests.answers import ROOT
from tests.nixeval.cases import CASES, MEDIUM, SERVER, XFS, inputs
from tests.nixeval.pages import REFERENCE, pages

BASE: dict[str, Any] = {
    "version": 1,
    "hostname": "kvm1",
    "storage": {"disk": {"serial": "S1"}},
    "users": [{"name": "anna", "admin": True, "password_hash": "$6$saltsaltsalt$" + "x" * 86}],
}


def problems(hypervisor: dict[str, Any]) -> list[str]:
    """What the check of the answers says, one text a problem, on one line."""
    try:
        load(json.dumps(BASE | {"hypervisor": hypervisor}).encode(), "answers.json")
    except AnswersError as error:
        return [" ".join(str(problem).split()) for problem in error.problems]
    return []


# The catalogues ---------------------------------------------------------------------------------------------------


def test_the_catalogue_is_sound() -> None:
    for name, feature in FEATURES.items():
        assert feature.risk in POINTS
        assert feature.impacts, name
        assert feature.mitigations, name
        assert {*feature.requires, *feature.conflicts} <= FEATURES.keys()
        assert name not in feature.requires
        for other in feature.conflicts:
            assert name in FEATURES[other].conflicts, f"{other} does not name {name} back"
        for sentence in (feature.summary, *feature.impacts, *feature.mitigations):
            assert sentence.endswith("."), sentence
    assert list(FEATURES) == sorted(FEATURES)


def test_each_tier_has_what_the_one_before_has_and_more() -> None:
    values = list(TIERS.values())
    assert [tier.memory // GIB for tier in values] == [2, 4, 8, 16, 32]
    assert list(TIERS) == list(Tier)
    for before, after in pairwise(values):
        assert {*before.features} <= {*after.features}
    raw = list(catalogue.tier_values().values())
    assert all(one != other for one, other in pairwise(raw))


@pytest.mark.parametrize("tier", Tier)
def test_each_tier_fits_the_default_tolerance(tier: Tier) -> None:
    assert problems({"tier": tier.value}) == []


def test_each_tolerance_takes_what_the_one_before_takes() -> None:
    bounds = list(TOLERANCES.values())
    for before, after in pairwise(bounds):
        assert POINTS[before.highest] <= POINTS[after.highest]
        assert after.total is None or (before.total is not None and before.total < after.total)
    assert bounds[-1].takes(tuple(FEATURES))
    assert fitting_tolerance(()) == "paranoid"
    assert fitting_tolerance(tuple(FEATURES)) == "accepting"


def test_the_page_is_current() -> None:
    assert (REFERENCE / "features.md").read_text() == pages()["features.md"], "python -m tests.nixeval.pages"


# What goes together -----------------------------------------------------------------------------------------------


def test_enabled_is_tier_and_fields_and_features() -> None:
    asked = HypervisorAnswers.model_validate(
        {
            "tier": "standard",
            "features": {"tpm": False, "containers": True},
            "nested": True,
            "hugepages_2m": 4,
            "passthrough": [{"address": "01:00.0"}],
        }
    )
    assert enabled(asked) == ("containers", "hugepages", "nested-virtualization", "passthrough", "virtiofs")


@pytest.mark.parametrize(
    ("hypervisor", "said"),
    [
        (
            {"features": {"tpn": True}},
            ["hypervisor.features.tpn = true", "no feature of the catalogue", "`tpm`"],
        ),
        (
            {"features": {"docker-command": True}},
            [
                "hypervisor.features.docker-command = true",
                "needs the feature containers",
                "containers = true",
            ],
        ),
        (
            {"tier": "enhanced", "features": {"docker-command": True, "containers": False}},
            ["needs the feature containers, which is off"],
        ),
        (
            {"features": {"page-sharing": True, "memory-encryption": True}},
            [
                "hypervisor.features.memory-encryption = true",
                "page-sharing conflict",
                "leave one of the two out",
            ],
        ),
        (
            {"nested": True, "features": {"nested-virtualization": False}},
            ["hypervisor.features.nested-virtualization = false", "`hypervisor.nested` asks for it"],
        ),
        (
            {"hugepages_1g": 2, "features": {"hugepages": False}},
            ["hypervisor.features.hugepages = false", "`hypervisor.hugepages_1g` asks for it"],
        ),
        (
            {"passthrough": [{"address": "01:00.0"}], "features": {"passthrough": False}},
            ["hypervisor.features.passthrough = false", "`hypervisor.passthrough` asks for it"],
        ),
        (
            {"tier": "standard", "risk_tolerance": "paranoid"},
            [
                'hypervisor.tier = "standard"',
                "risk of the feature virtiofs is moderate",
                "takes at most low",
                "`features.virtiofs = false`",
                '`risk_tolerance = "cautious"`',
            ],
        ),
        (
            {"nested": True, "risk_tolerance": "cautious"},
            ["hypervisor.nested = true", "nested-virtualization is high", '`risk_tolerance = "balanced"`'],
        ),
        (
            {
                "tier": "enterprise",
                "nested": True,
                "passthrough": [{"address": "01:00.0"}],
                "features": {"foreign-architectures": True},
            },
            [
                "hypervisor.risk_tolerance",
                "20 points together, and these have 21: containers 2",
                '`risk_tolerance = "accepting"`',
            ],
        ),
        ({"cpu_model": "two words"}, ["hypervisor.cpu_model", "a processor model as libvirt names it"]),
    ],
)
def test_what_does_not_go_together_is_refused_by_field_and_value(
    hypervisor: dict[str, Any], said: list[str]
) -> None:
    (problem,) = problems(hypervisor)
    for words in said:
        assert words in problem


@pytest.mark.parametrize(
    "hypervisor",
    [
        {"features": {"docker-command": True, "containers": True}},
        {"tier": "enhanced", "features": {"docker-command": True}},
        {"tier": "standard", "features": {"virtiofs": False}, "risk_tolerance": "paranoid"},
        {"nested": True, "features": {"nested-virtualization": True}},
        {"tier": "enterprise", "nested": True, "passthrough": [{"address": "01:00.0"}]},
        {"features": dict.fromkeys({*FEATURES} - {"page-sharing"}, True), "risk_tolerance": "accepting"},
        {"cpu_model": "Skylake-Server-noTSX-IBRS"},
    ],
)
def test_what_the_remedies_say_is_taken(hypervisor: dict[str, Any]) -> None:
    assert problems(hypervisor) == []


# What a machine must have -----------------------------------------------------------------------------------------


def with_memory(total: int, **more: Any) -> Facts:
    memory = SERVER.memory.model_copy(update={"total": total, "available": total * 9 // 10, **more})
    return SERVER.model_copy(update={"memory": memory})


def plan(facts: Facts, hypervisor: dict[str, Any], medium: Any = MEDIUM) -> Any:
    return make_plan(facts, Answers.model_validate(XFS | {"hypervisor": hypervisor}), medium)


def refused(facts: Facts, hypervisor: dict[str, Any], medium: Any = MEDIUM) -> str:
    with pytest.raises(HyperError) as caught:
        plan(facts, hypervisor, medium)
    assert caught.value.code is Exit.unsuitable
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize("tier", Tier)
def test_a_tier_is_refused_below_seven_eighths_of_its_memory_and_taken_from_there(tier: Tier) -> None:
    least = counts_as(TIERS[tier].memory)
    plan(with_memory(least), {"tier": tier.value})
    said = refused(with_memory(least - 4096), {"tier": tier.value})
    assert f"hypervisor.tier = '{tier.value}'" in said
    assert f"for {TIERS[tier].memory // GIB} GB of memory" in said
    before = list(Tier)[list(Tier).index(tier) - 1].value
    assert ("add memory" if tier is Tier.minimal else f'write hypervisor.tier = "{before}"') in said


MACHINES = {
    # What the kernel of each shows (MemTotal), and the largest tier that it can have.
    "lab-uefi": ("3.9 GiB", Tier.standard),
    "mini-pc-all-off": ("7.8 GiB", Tier.enhanced),
    "laptop-bitlocker": ("15.5 GiB", Tier.professional),
    "guest-kvm-without-hardware": ("23.5 GiB", Tier.professional),
    "workstation": ("62.1 GiB", Tier.enterprise),
}


@pytest.mark.parametrize("name", MACHINES)
def test_recorded_machines_get_the_tiers_that_their_memory_is_sold_for(name: str) -> None:
    shown, largest = MACHINES[name]
    memory = machines.load(name).memory.total
    fitting = [tier for tier, values in TIERS.items() if memory >= counts_as(values.memory)]
    assert fitting[-1] is largest
    if largest is not Tier.enterprise:
        beyond = list(Tier)[list(Tier).index(largest) + 1]
        said = refused(with_memory(memory), {"tier": beyond.value})
        assert f"the kernel finds {shown}" in said
        assert f'write hypervisor.tier = "{largest.value}"' in said


@pytest.mark.parametrize("name", CASES)
def test_examples_still_plan(name: str) -> None:
    facts, answers = inputs(name)
    assert make_plan(facts, answers, MEDIUM).steps


def test_the_lab_still_plans() -> None:
    facts = with_memory(2_900 * MIB)
    for file in (*sorted((ROOT / "tests/lab/answers").glob("*.toml")), ROOT / "tests/bench/answers.toml"):
        text = file.read_text().replace("@ssh-key@", XFS["users"][0]["ssh_keys"][0])
        answers = load(text.encode(), file.name)
        assert TIERS[answers.hypervisor.tier].memory == 2 * GIB
        plan(facts, {"tier": answers.hypervisor.tier.value})


def test_unknown_memory_is_no_refusal_but_a_warning() -> None:
    (warning,) = [text for text in plan(with_memory(0), {}).warnings if "How much memory" in text]
    assert "standard is for 4 GiB" in warning


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ({"hugepages_1g": 63}, "hugepages_1g = 63 and hugepages_2m = 0 leave the host too little memory"),
        ({"hugepages_2m": 512 * 63}, "they reserve 63 GiB of 64 GiB, and the host needs 1.8 GiB"),
        ({"hugepages_1g": 31, "hugepages_2m": 512 * 32}, "they reserve 63 GiB"),
    ],
)
def test_huge_pages_leave_the_host_enough_to_start(pages: dict[str, int], words: str) -> None:
    assert words in refused(with_memory(64 * GIB), pages)
    plan(with_memory(64 * GIB), {key: value - 512 for key, value in pages.items() if value > 512})


def test_huge_pages_of_a_size_that_the_kernel_lacks_are_refused() -> None:
    facts = with_memory(64 * GIB, hugepage_sizes=(2 * MIB,))
    assert "hypervisor.hugepages_1g = 1 does not fit this machine" in refused(facts, {"hugepages_1g": 1})
    plan(facts, {"hugepages_2m": 1})


def test_features_that_this_machine_cannot_have_are_refused() -> None:
    judged = SERVER.cpu.sev.model_copy(update={"verdict": Verdict.no, "because": "cpuinfo has no flag sev"})
    facts = SERVER.model_copy(update={"cpu": SERVER.cpu.model_copy(update={"sev": judged})})
    said = refused(facts, {"features": {"memory-encryption": True}})
    assert "memory-encryption does not fit" in said
    assert "no flag sev" in said
    plan(SERVER, {"features": {"memory-encryption": True}})  # not known: not refused

    arm = SERVER.model_copy(update={"cpu": SERVER.cpu.model_copy(update={"architecture": "aarch64"})})
    medium = MEDIUM.model_copy(update={"system": "aarch64-linux"})
    said = refused(arm, {"nested": True}, medium)
    assert "nested-virtualization does not fit" in said
    assert "x86_64-linux alone, and this will be aarch64-linux" in said


def test_zram_follows_the_tier_unless_it_is_said() -> None:
    assert plan(SERVER, {"tier": "minimal"}).host.zram_percent is None  # these answers want no swap
    asked = XFS | {"storage": XFS["storage"] | {"swap": {"kind": "zram"}}}
    for tier, percent in (("minimal", 100), ("standard", 50), ("enterprise", 10)):
        answers = Answers.model_validate(asked | {"hypervisor": {"tier": tier}})
        assert make_plan(SERVER, answers, MEDIUM).host.zram_percent == percent
    said = asked | {"storage": XFS["storage"] | {"swap": {"kind": "zram", "zram_percent": 33}}}
    assert make_plan(SERVER, Answers.model_validate(said), MEDIUM).host.zram_percent == 33
