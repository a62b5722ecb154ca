"""setup.sh: asks before it installs, names what is missing before it downloads, and looks at what came of it.

dpkg is the machine's own; apt-get and what grants rights are stand-ins that write down how they were called.
"""

import os
import pty
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.nixeval.nix import REPOSITORY

LISTS = sorted([REPOSITORY / "packages.txt", *REPOSITORY.glob("tests/**/packages*.txt")])
ABSENT = "no-such-package-anywhere"
ABSENT_TOO = "not-this-one-either"
SECONDS = 60


class Place:
    """A checkout that needs one package that does not exist, and a folder of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(REPOSITORY / "setup.sh", folder)
        (folder / "packages.txt").write_text(
            f"# Why.\n{ABSENT}  # for this test\n{ABSENT_TOO} # as well\ncoreutils  # here already\n"
        )
        (folder / "tests/lab").mkdir(parents=True)
        (folder / "tests/lab/packages.txt").touch()
        (folder / "bin").mkdir()
        for name in ("apt-get", "unshare"):
            self.stand_in(name, "exit 0")
        self.stand_in("sudo", 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"')

    def stand_in(self, name: str, body: str) -> None:
        """Puts a program first in PATH; it writes down its arguments, then does `body`."""
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.folder}/calls\n{body}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> str:
        """How the stand-ins were called."""
        path = self.folder / "calls"
        return path.read_text() if path.exists() else ""

    def environment(self, **more: str) -> dict[str, str]:
        """PATH with the stand-ins first, and no CI unless asked for."""
        kept = {name: value for name, value in os.environ.items() if name != "CI"}
        return kept | {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"} | more

    def run(self, *parts: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs it without a terminal."""
        return subprocess.run(
            ["sh", "setup.sh", *parts],
            cwd=self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place of its own for each test."""
    return Place(tmp_path)


def test_unknown_part_is_refused(place: Place) -> None:
    done = place.run("labb")
    assert done.returncode == 1
    assert re.fullmatch(r"There is nothing called 'labb'.*\n  why: .*lab.*\n  do:  .*\n", done.stderr)
    assert place.calls == ""


def test_ci_is_not_asked_and_the_effect_is_looked_at(place: Place) -> None:
    done = place.run(CI="true")
    assert f"  {ABSENT}: for this test\n" in done.stdout
    assert "coreutils" not in done.stdout
    assert "[Y/n]" not in done.stdout
    assert f"apt-get install -y -qq --no-install-recommends {ABSENT} {ABSENT_TOO}" in place.calls
    # The stand-in ended well and installed nothing.
    assert done.returncode == 1
    assert f"dpkg does not know as installed: {ABSENT} {ABSENT_TOO}" in done.stderr


def test_a_package_under_another_name_is_there(place: Place) -> None:
    """As libtss2-tcti-swtpm0 is libtss2-tcti-swtpm0t64 in Debian 13."""
    there = "installed, libfoo0t64, libfoo0 (= 1.2), libbar:any"
    place.stand_in(
        "dpkg-query", f"printf '%s\\n' 'not-installed, {ABSENT}, ' '{there}' 'installed, coreutils, '"
    )
    (place.folder / "packages.txt").write_text(f"{ABSENT} # a\nlibfoo0 # b\nlibbar # c\ncoreutils # d\n")
    done = place.run(CI="true")
    assert done.stderr.rstrip().splitlines()[1].endswith(f"not know as installed: {ABSENT} ")


@pytest.mark.parametrize("known", [True, False])
def test_a_package_that_only_some_releases_have(place: Place, known: bool) -> None:
    place.stand_in("apt-cache", f"exit {0 if known else 100}")
    (place.folder / "packages.txt").write_text(f"{ABSENT} # a\n{ABSENT_TOO}? # b\n")
    done = place.run(CI="true")
    assert (f"install -y -qq --no-install-recommends {ABSENT} {ABSENT_TOO}\n" in place.calls) is known
    assert (f"  {ABSENT_TOO}: b\n" in done.stdout) is known


def test_a_no_is_a_no(place: Place) -> None:
    master, slave = pty.openpty()
    try:
        os.write(master, b"n\n")
        done = subprocess.run(
            ["sh", "setup.sh"],
            cwd=place.folder,
            env=place.environment(),
            stdin=slave,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 1
    assert done.stdout.count("[Y/n]") == 1
    assert f"apt-get install {ABSENT} {ABSENT_TOO}" in done.stderr
    assert "apt-get" not in place.calls


@pytest.mark.parametrize("right", ["mount", "--user"])
def test_missing_right_is_named_before_any_download(place: Place, right: str) -> None:
    place.stand_in("unshare", f'case " $* " in *" {right} "*) echo "not permitted" >&2; exit 1 ;; esac')
    done = place.run("lab", CI="true")
    assert done.returncode == 1
    assert done.stderr.startswith("The lab needs ")
    assert "  why: not permitted\n  do:  " in done.stderr
    assert "apt-get" not in place.calls


def test_user_whom_sudo_refuses(place: Place) -> None:
    place.stand_in("id", "[ $1 = -un ] && echo tom || echo 1000")
    place.stand_in("sudo", "exit 1")
    done = place.run(CI="true")
    assert done.returncode == 1
    assert "sudo refused tom" in done.stderr
    assert "apt-get" not in place.calls


def test_user_with_sudo_uses_it(place: Place) -> None:
    place.stand_in("id", "[ $1 = -un ] && echo tom || echo 1000")
    place.run(CI="true")
    assert "sudo -n -- env DEBIAN_FRONTEND=noninteractive apt-get update" in place.calls


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_each_package_has_a_reason(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9][a-z0-9+.-]+\??\s+# \S.*", line), line


@pytest.mark.skipif(
    Path(sys.prefix) != REPOSITORY / ".venv", reason="not the environment that setup.sh makes"
)
def test_the_environment_has_the_versions_that_are_written_down() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    written = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = {_spelt(name): version for name, version in written.items()}
    assert "libvirt-python" not in wanted, "it has to be that of the libvirt which is installed"
    free = {"hyper-nixos", "libvirt-python", "pip", "setuptools", "wheel"}
    found = {_spelt(package.name): package.version for package in distributions()}
    assert {name: version for name, version in found.items() if name not in free} == {
        name: version for name, version in wanted.items() if name in found
    }


def _spelt(name: str) -> str:
    """A package's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
