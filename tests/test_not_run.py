"""The one line that says what this machine could not run, as `make test` prints it: from workers side by side, too."""

import os
import subprocess
import sys

import pytest

from tests.nixeval.nix import REPOSITORY


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_what_was_not_run_is_counted(workers: tuple[str, ...]) -> None:
    done = subprocess.run(
        (
            sys.executable,
            "-m",
            "pytest",
            "-q",
            *workers,
            "-p",
            "no:cacheprovider",
            "tests/test_rescue_nix.py",
        ),
        cwd=REPOSITORY,
        env={
            name: value
            for name, value in os.environ.items()
            if name not in {"NIXPKGS", "PYTEST_XDIST_WORKER"}
        },
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("NOT RUN")]
    assert len(lines) == 1, done.stdout + done.stderr
    assert " marked nixpkgs (run them: NIXPKGS=<a nixpkgs tree> make test)" in lines[0]
