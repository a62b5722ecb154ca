"""`hv firstrun status`: the states for people, in 80 columns, and for programs."""

import textwrap
from collections.abc import Sequence

from hv.firstrun.state import SETTLED, JobState, Status
from installer.errors import Exit

WIDTH = 80
LOG_FILE = "/var/log/hyper-nixos/firstrun.log"
"""On the installed host; grows by one run a boot until all is settled."""
JOURNAL = "journalctl -u hyper-nixos-firstrun"
_NAME, _STATUS, _TRIES, _TOOK = 16, 8, 5, 7
_INDENT = _NAME + _STATUS + _TRIES + _TOOK + 4


def exit_code(states: Sequence[JobState]) -> Exit:
    """Success only when every job is done or skipped."""
    return Exit.ok if all(state.status in SETTLED for state in states) else Exit.step


def table(hostname: str, states: Sequence[JobState]) -> str:
    """One row a job with its reasons below, then where to look."""
    settled = sum(state.status in SETTLED for state in states)
    lines = [
        f"First run of {hostname}: {settled} of {len(states)} jobs settled",
        "",
        f"{'JOB':<{_NAME}} {'STATE':<{_STATUS}} {'TRIES':>{_TRIES}} {'TOOK':>{_TOOK}} NOTES",
    ]
    for state in states:
        lines += _rows(state)
    lines += ["", f"Log: {JOURNAL}", f"     {LOG_FILE}"]
    if any(state.status is Status.failed for state in states):
        lines += [
            "Try again:     hv firstrun retry JOB",
            "Go on without: hv firstrun skip JOB --reason TEXT",
        ]
    return "\n".join(
        wrapped
        for line in lines
        for wrapped in (textwrap.wrap(line, WIDTH) if len(line) > WIDTH else [line])
    )


def document(hostname: str, states: Sequence[JobState]) -> dict[str, object]:
    """The same for programs: stable keys, in order of the jobs."""
    return {
        "version": 1,
        "hostname": hostname,
        "settled": all(state.status in SETTLED for state in states),
        "log": {"journal": JOURNAL, "file": LOG_FILE},
        "jobs": [state.model_dump(mode="json") for state in states],
    }


def _rows(state: JobState) -> list[str]:
    took = "-" if state.seconds is None else f"{state.seconds:.1f} s"
    name = textwrap.wrap(state.job, _NAME) or [state.job]
    notes = [line for note in _notes(state) for line in textwrap.wrap(note, WIDTH - _INDENT)] or [""]
    rows = [
        f"{name[0]:<{_NAME}} {state.status:<{_STATUS}} {state.attempts:>{_TRIES}} {took:>{_TOOK}} {notes[0]}"
    ]
    for index in range(1, max(len(name), len(notes))):
        left = name[index] if index < len(name) else ""
        right = notes[index] if index < len(notes) else ""
        rows.append(f"{left:<{_INDENT}}{right}")
    return [row.rstrip() for row in rows]


def _notes(state: JobState) -> list[str]:
    notes = [state.reason] if state.reason else []
    if state.error:
        notes += [state.error.what, f"why: {state.error.why}", f"do: {state.error.remedy}"]
    return notes + [f"warning: {text}" for text in state.warnings]
