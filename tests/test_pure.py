"""Planning and rendering touch nothing and depend on nothing but what they are given.

Each case runs in an interpreter of its own under an audit hook (PEP 578); `python -m tests.test_pure CASE` is that run.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.nixeval.cases import CASES, MEDIUM, inputs

TOUCHES = (
    "ctypes.",
    "fcntl.",
    "glob.",
    "mmap.",
    "open",
    "os.",
    "pathlib.",
    "shutil.",
    "signal.",
    "socket.",
    "subprocess.",
    "tempfile.",
    "urllib.",
)
"""Audit events, by prefix, of reaching out of the process (docs.python.org, "Audit events table")."""
TOUCHED = 3
PLANTS = {
    "open": "open('/etc/hostname').close()",
    "socket": "__import__('socket').socket().close()",
    "subprocess": "__import__('subprocess').run(['true'])",
    "listing": "__import__('os').listdir('/')",
}


def importing(frame: FrameType | None) -> bool:
    """Whether the interpreter is loading a module: late imports read files, and are not what is looked for."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def digest(facts: Any, answers: Any, templates: Any, plant: str) -> str:
    """Plans and renders; a digest over all that came out."""
    from installer.plan.planner import make_plan
    from installer.plan.token import plan_json
    from installer.render import render

    plan = make_plan(facts, answers, MEDIUM)
    rendered = render(facts, answers, plan, MEDIUM, templates)
    exec(plant)
    whole = [plan_json(plan), *(f"{name}\0{text}" for name, text in sorted(rendered.files.items()))]
    return hashlib.sha256("\0".join(whole).encode()).hexdigest()


def child(case: str, plant: str) -> int:
    """Watches one case; prints the digest and what was touched."""
    from installer.render import load_templates

    facts, answers = inputs(case)
    templates = load_templates()
    seen: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event.startswith(TOUCHES) and not importing(sys._getframe()):
            seen.append(f"{event} {arguments}")

    sys.addaudithook(hook)
    result = digest(facts, answers, templates, plant)
    watching = False
    print("\n".join([result, *seen]))
    return TOUCHED if seen else 0


def watched(case: str, plant: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `child` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "tests.test_pure", case, plant],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_touched_and_nothing_else_matters(case: str) -> None:
    first = watched(case, PYTHONHASHSEED="1", TZ="Asia/Tokyo", LC_ALL="C", COLUMNS="40")
    assert first.returncode == 0, first.stdout + first.stderr
    second = watched(
        case, PYTHONHASHSEED="2", TZ="America/Lima", HOSTNAME="elsewhere", USER="nobody", HOME="/nowhere"
    )
    assert (second.returncode, second.stdout) == (0, first.stdout)


@pytest.mark.parametrize("plant", PLANTS)
def test_touch_is_noticed(plant: str) -> None:
    done = watched(CASES[0], PLANTS[plant])
    assert done.returncode == TOUCHED, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(child(*sys.argv[1:]))
