"""What an audit found: for people in 80 columns, for programs as JSON, and as SARIF for what gathers findings."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hv.security.audit.check import WEIGHTS, Check, Severity
from hv.security.audit.checks import CHECKS
from hv.security.audit.view import NotLookedAtError, View
from installer.errors import HyperError

WIDTH = 80
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {
    Severity.critical: "error",
    Severity.high: "error",
    Severity.medium: "warning",
    Severity.low: "note",
}
"""SARIF's levels (SARIF 2.1.0, 3.27.10)."""
NUMBERS = {Severity.critical: "9.5", Severity.high: "8.0", Severity.medium: "5.5", Severity.low: "2.0"}
"""`security-severity`, by which code hosting sites sort: above 9 critical, above 7 high, above 4 medium."""


class Verdict(StrEnum):
    """How a check ended."""

    passed = "passed"
    failed = "failed"
    unknown = "unknown"
    """It could not look, and says why."""


@dataclass(frozen=True)
class Result:
    """One check's."""

    check: Check
    verdict: Verdict
    evidence: tuple[str, ...]
    """What was found; for `unknown`, why nothing was."""


def audit(view: View, checks: Sequence[Check] = CHECKS) -> tuple[Result, ...]:
    """Every check, in order. One that cannot look keeps no other from it."""
    return tuple(_result(view, check) for check in checks)


def _result(view: View, check: Check) -> Result:
    try:
        found = tuple(check.look(view))
    except NotLookedAtError as error:
        return Result(check, Verdict.unknown, (str(error),))
    except HyperError as error:
        return Result(check, Verdict.unknown, (f"{error.what} {error.why}",))
    except (OSError, ValueError) as error:
        return Result(check, Verdict.unknown, (f"{type(error).__name__}: {error}",))
    return Result(check, Verdict.failed if found else Verdict.passed, found)


def score(results: Sequence[Result]) -> int:
    """0 to 100: the weight of what passed, of all that was looked at; rounded down, so that 100 means no fault."""
    looked = [each for each in results if each.verdict is not Verdict.unknown]
    total = sum(WEIGHTS[each.check.severity] for each in looked)
    passed = sum(WEIGHTS[each.check.severity] for each in looked if each.verdict is Verdict.passed)
    return 100 * passed // total if total else 0


def text(results: Sequence[Result], hostname: str, *, everything: bool) -> str:
    """Faults first, the worst first; then what could not be looked at."""
    by = {verdict: [each for each in results if each.verdict is verdict] for verdict in Verdict}
    lines = [
        f"{hostname}: {score(results)} of 100",
        (
            f"{len(by[Verdict.failed])} faults, {len(by[Verdict.passed])} checks passed, "
            f"{len(by[Verdict.unknown])} could not look"
        ),
    ]
    for severity in Severity:
        for each in by[Verdict.failed]:
            if each.check.severity is severity:
                lines += ["", *_fault(each)]
    if by[Verdict.unknown]:
        lines += ["", "Not looked at:"]
        for each in by[Verdict.unknown]:
            lines += _wrapped(f"  {each.check.id}: ", "; ".join(each.evidence))
    if everything:
        lines += ["", "Passed:"]
        for each in by[Verdict.passed]:
            lines += _wrapped(f"  {each.check.id}: ", each.check.title)
    return "\n".join(lines) + "\n"


def _fault(result: Result) -> list[str]:
    check = result.check
    numbers = [f"CIS {number}" for number in check.cis] + [f"BSI {number}" for number in check.bsi]
    return [
        *_wrapped(f"[{check.severity}] ", f"{check.title} ({check.id}): no"),
        *(line for each in result.evidence for line in _wrapped("  found: ", each)),
        *_wrapped("  why:   ", check.why),
        *_wrapped("  do:    ", check.remedy),
        *(_wrapped("  see:   ", ", ".join(numbers)) if numbers else []),
    ]


def _wrapped(head: str, words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent=head, subsequent_indent=" " * min(len(head), 9)) or [
        head
    ]


def document(results: Sequence[Result], hostname: str) -> dict[str, Any]:
    """For programs: stable keys."""
    return {
        "version": 1,
        "hostname": hostname,
        "score": score(results),
        "checks": [
            {
                "id": each.check.id,
                "title": each.check.title,
                "severity": each.check.severity,
                "verdict": each.verdict,
                "evidence": list(each.evidence),
                "why": each.check.why,
                "remedy": each.check.remedy,
                "cis": list(each.check.cis),
                "bsi": list(each.check.bsi),
            }
            for each in results
        ],
    }


def sarif(results: Sequence[Result], hostname: str, version: str) -> dict[str, Any]:
    """SARIF 2.1.0: a rule a check, a result a sentence of evidence."""
    rules = [_rule(each.check) for each in results]
    found = [
        {
            "ruleId": each.check.id,
            "ruleIndex": index,
            "kind": "fail",
            "level": LEVELS[each.check.severity],
            "message": {"text": evidence},
            "locations": [{"logicalLocations": [{"name": hostname, "kind": "resource"}]}],
            "partialFingerprints": {"hyperNixosCheck/v1": f"{hostname}:{each.check.id}"},
        }
        for index, each in enumerate(results)
        if each.verdict is Verdict.failed
        for evidence in each.evidence
    ]
    notes = [
        {"descriptor": {"id": each.check.id}, "level": "note", "message": {"text": "; ".join(each.evidence)}}
        for each in results
        if each.verdict is Verdict.unknown
    ]
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "hv security audit", "version": version, "rules": rules}},
                "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
                "results": found,
            }
        ],
    }


def _rule(check: Check) -> dict[str, Any]:
    tags = ["security", *(f"CIS-{each}" for each in check.cis), *(f"BSI-{each}" for each in check.bsi)]
    return {
        "id": check.id,
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": check.why},
        "help": {"text": check.remedy},
        "defaultConfiguration": {"level": LEVELS[check.severity]},
        "properties": {"tags": tags, "security-severity": NUMBERS[check.severity]},
    }
