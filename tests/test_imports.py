"""The import rules hold, and the check would notice if they did not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(config_filename='pyproject.toml'))"


def lint(folder: Path) -> tuple[int, str]:
    """Exit code and report of import-linter on the tree in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree to spoil."""
    folder = tmp_path_factory.mktemp("imports")
    for package in ("installer", "iso", "hv"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


def test_rules_hold() -> None:
    code, report = lint(REPOSITORY)
    assert code == 0, report


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        ("installer/render/__init__.py", "import subprocess", "Only probe and execute touch the world"),
        ("installer/facts/__init__.py", "import installer.probe", "The road goes one way"),
        ("installer/plan/__init__.py", "import random", "Plan and render know no clock and no chance"),
        ("installer/__init__.py", "import hv.cli", "hv and iso use the installer, never back"),
        ("hv/cli.py", "import argparse", "The console entry only dispatches"),
        ("installer/frozen.py", "import installer.handoff", "No circles"),
    ],
)
def test_breach_is_noticed(copy: Path, module: str, line: str, rule: str) -> None:
    path = copy / module
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        code, report = lint(copy)
    finally:
        path.write_text(before, encoding="utf-8")
    assert code == 1
    assert any(rule in told and "BROKEN" in told for told in report.splitlines()), report
