"""Tests of a group share what is costly to make: pytest-xdist gives them to one worker."""

import re
import subprocess
import sys
from pathlib import Path

GROUPED = """
import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(8))
def test_it(number, worker_id):
    print(f"by {worker_id}")
"""


def test_a_group_stays_with_one_worker(tmp_path: Path) -> None:
    """As `make test` runs machines: two workers, neither of which has nothing to do."""
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    words = ("-n", "2", "--dist", "loadgroup", "-rP", "-p", "no:cacheprovider", "test_grouped.py")
    done = subprocess.run(
        (sys.executable, "-m", "pytest", *words), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    workers = re.findall(r"^by (gw\d)$", done.stdout, re.MULTILINE)
    assert len(workers) == 8, done.stdout + done.stderr
    assert len(set(workers)) == 1, workers
