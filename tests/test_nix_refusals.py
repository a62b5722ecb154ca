"""Each assertion of our modules is seen to fail, on a host that it is there for."""

import json
from pathlib import Path

import pytest

from tests import test_nix_passthrough, test_nix_prebuilt, test_nix_storage
from tests.nixeval.host import MODULES, evaluate
from tests.nixeval.refusals import REFUSALS, Assertion, Refusal, assertions
from tests.nixeval.units import EXAMPLE

TABLES: dict[str, tuple[str, ...]] = {
    "nix/modules/passthrough": tuple(said for _, said in test_nix_passthrough.CASES.values() if said),
    "iso/live/medium.nix": (test_nix_prebuilt.SAME_NAME,),
    "nix/modules/prebuilt": tuple(said for _, said in test_nix_prebuilt.REFUSED),
    "nix/modules/storage": tuple(said for _, said in test_nix_storage.CASES.values() if said),
}
"""Folders whose assertions fail in a test of their own: the words that it waits for."""
ASSERTIONS = tuple(assertions())
SELECT = """host: let
  inherit (host.pkgs) lib;
  ours = definition: lib.hasPrefix MODULES (toString definition.file);
  refused = module: lib.concatMap
    (definition: map (entry: entry.message) (lib.filter (entry: !entry.assertion) definition.value))
    (lib.filter ours (host.extendModules { modules = [ module ]; }).options.assertions.definitionsWithLocations);
in map refused [ CASES ]"""


def meant(refusal: Refusal) -> list[Assertion]:
    """The assertions that a case may be about: one."""
    return [assertion for assertion in ASSERTIONS if assertion.has(refusal.words)]


def _plain(words: str) -> str:
    return " ".join(words.split())


def test_each_assertion_has_a_case_and_each_case_an_assertion() -> None:
    assert {refusal.words: len(meant(refusal)) for refusal in REFUSALS} == {
        refusal.words: 1 for refusal in REFUSALS
    }, "the words of a case are in the message of exactly one assertion"
    told = {
        (each.file, each.line)
        for each in ASSERTIONS
        for folder, table in TABLES.items()
        if each.file.startswith(folder) and any(each.may_say(_plain(said)) for said in table)
    }
    left = {(each.file, each.line) for each in ASSERTIONS} - {
        (each.file, each.line) for refusal in REFUSALS for each in meant(refusal)
    }
    left -= told
    assert left == set(), "give each assertion a host that it refuses: tests/nixeval/refusals.py"


def test_an_assertion_without_a_case_would_be_seen(tmp_path: Path) -> None:
    target = tmp_path / "nix/modules/new.nix"
    target.parent.mkdir(parents=True)
    text = "''\n  ${n}\n  is one\n''"
    target.write_text(f"{{ assertions = map (n: {{ assertion = n != 1; message = {text}; }}) [ 1 ]; }}")
    (new,) = assertions(tmp_path)
    assert new.says("17\nis one\n")
    assert not new.says("17\nis two\n")
    assert not any(new.has(refusal.words) for refusal in REFUSALS)


TOGETHER = 20
"""Hosts in one evaluation: more would need more memory than a small machine has."""
SYSTEMS = sorted({refusal.system for refusal in REFUSALS})
GROUPS = [
    (system, cases[start : start + TOGETHER])
    for system in SYSTEMS
    if (cases := [refusal for refusal in REFUSALS if refusal.system == system])
    for start in range(0, len(cases), TOGETHER)
]


@pytest.mark.nixpkgs
@pytest.mark.parametrize(("system", "cases"), GROUPS)
def test_each_refusal_is_told(system: str, cases: list[Refusal]) -> None:
    select = SELECT.replace("MODULES", json.dumps(str(MODULES)))
    select = select.replace("CASES", " ".join(f"({case.module})" for case in cases))
    told = evaluate(select, [MODULES, EXAMPLE], system).value
    for case, messages in zip(cases, told, strict=True):
        (assertion,) = meant(case)
        assert any(assertion.says(message) for message in messages), (case.words, messages)
