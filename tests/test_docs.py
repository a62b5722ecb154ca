"""The documents are true: their commands run, what they show appears, and the site builds."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hv.cli import COMMANDS
from hv.images.template import Template
from hv.manual import command_parser
from installer.answers.schema import node_at
from tests.media import fixture
from tests.nixeval.nix import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
ELSEWHERE = {
    r"make \w[\w-]*": "a target of the Makefile, which sets up and runs for long; that it exists is checked",
    r"nix (run|build) .*": "needs a binary cache; that the flake has it is checked",
    r"hv probe": "in this form it looks at the machine at hand, which tests/test_probe*.py do",
    r"hv install --answers answers\.toml( --plan| --confirm TOKEN)?": "on the live medium; the lab runs it",
    r"hv install( --attach| --dry-run .*)?": "asks at a terminal; tests/test_guided_terminal.py answers",
    r"hv install --target .*": "on another machine; tests/test_remote.py installs one over a real sshd",
    r"hv install --unattended( --again)?": "on the live medium; tests/test_unattended.py runs it",
    r"hv answers serve fleet .*": "serves until it is stopped; tests/test_serve.py runs it",
    r"hv support-bundle": "reads what only root may; tests/test_support_bundle.py runs it",
    r"hv install --abort": "puts back what an interrupted installation did; tests/test_execute_abort.py runs it",
    r"hv rescue .*": "as root, on a machine with a host's disks; tests/test_rescue.py runs it",
    r"hv migrate --undo": "on a migrated host; tests/test_migrate_execute.py runs it",
    r"hv health status": "on a migrated host; tests/test_health.py runs it",
    r"hv setup.*": "on an installed host; tests/test_setup_machine.py and test_host_setup.py run them",
    r"hv firstrun .*": "on an installed host; the lab runs it",
    r"hv (vm|auth) .*": "needs the broker of a host; tests/test_vm_*.py run them",
    r"hv (esp|pools|devices) \w+": "on an installed host; test_esp, test_pools and test_nix_passthrough run them",
    r"age --decrypt .*": "on an installed host; tests/test_recovery_key.py reads sealed keys",
    r"hv media (netboot|serve) .*": "needs what the flake builds; tests/test_media_netboot.py runs both",
    r"hv media (web|fleet) .*": "tests/test_media_web.py and test_media_form.py serve the page and read tables",
    r"hv media host .*": "needs a host's system; tests/test_media_host.py makes images and reads them back",
    r"hv media pack .*": "needs a host's system; tests/test_media_pack.py adds, lists and removes",
    r"hv media write .*": "writes to a stick; tests/test_media_write.py writes to loop devices",
    r"hv media try .* --disk .*": "boots until it is switched off; tests/test_media_try.py boots with an end",
    r"hv security (phase --all|harden|confirm|relax)": "on an installed host; test_security_phase and _table run them",
    r"hv image (fetch ubuntu|describe mail\.ova|convert .*)": "needs the internet, or a guest; tests/test_images.py runs them",
    r"hv image (list|(pull|import|delete) .*)": "needs the broker of a host; tests/test_vm_images.py runs them",
    r"(sudo )?hv security (phase --all|harden|confirm|relax|audit|recovery-key)": "on an installed host; tests/test_security_*.py run them",
    r"journalctl .*": "on an installed host",
}
"""Commands, as regular expressions, that a test of a page does not run, and why."""


@dataclass(frozen=True)
class Command:
    """One `$ ` line and the lines shown below it; `…` stands for lines left out."""

    line: str
    shown: tuple[str, ...]

    @property
    def elsewhere(self) -> str | None:
        """The pattern under which it is not run here."""
        return next((pattern for pattern in ELSEWHERE if re.fullmatch(pattern, self.line)), None)


def fenced(page: Path, language: str) -> list[str]:
    """Texts of the fenced blocks of a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[Command]:
    """Every command of a page, in order."""
    for block in fenced(page, "console"):
        assert block.startswith("$ "), f"{page.name}: a console block begins with a command"
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *shown = piece.splitlines()
            yield Command(line, tuple(shown))


def pages_with(language: str) -> list[Any]:
    """Pages that have such a block, as parameters."""
    return [pytest.param(page, id=page.name) for page in PAGES if fenced(page, language)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that looks like a checkout but may be written to."""
    for name in (".venv", "Makefile", "docs", "examples", "tests"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(fixture.image("ours"), tmp_path / "hyper-nixos.iso")
    shutil.copy(fixture.image("25.11"), tmp_path / "nixos.iso")
    return tmp_path


@pytest.mark.parametrize("page", pages_with("console"))
def test_commands_run_and_print_what_is_shown(page: Path, place: Path) -> None:
    search_path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in commands(page):
        if command.elsewhere:
            assert command.shown == (), f"nothing proves the output shown for: {command.line}"
            continue
        done = subprocess.run(
            ["bash", "-c", command.line],
            cwd=place,
            env=os.environ | {"PATH": search_path, "COLUMNS": "80"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command.line}\n{done.stdout}"
        printed = iter(done.stdout.splitlines())
        for line in command.shown:
            assert line == "…" or line in printed, f"{command.line} does not print, at this place: {line}"


@pytest.mark.parametrize("page", pages_with("console"))
def test_options_exist(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(re.split(r" (?:\|\|?|>|&&) ", command.line)[0])
        if words[:2] == ["nix", "run"] and "--" in words:
            words = ["hv", *words[words.index("--") + 1 :]]
        if words[0] == "hv":
            assert words[1] in COMMANDS, command.line
            command_parser(words[1]).parse_args(words[2:])  # exits when it does not know an option


def test_targets_exist() -> None:
    lines = [command.line for page in PAGES for command in commands(page)]
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    assert targets
    for target in targets:
        done = subprocess.run(
            ["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_flake_has_what_is_built() -> None:
    lines = [command.line for page in PAGES for command in commands(page)]
    names = {name for line in lines for name in re.findall(r"^nix build \.#(\w+)", line)}
    flake = (REPOSITORY / "flake.nix").read_text(encoding="utf-8")
    assert names
    # Set, or taken over with `inherit`, a name on a line of its own.
    assert all(re.search(rf"^\s*{name}(?: = |$)", flake, re.MULTILINE) for name in names)


def test_no_reason_is_left_over() -> None:
    used = {command.elsewhere for page in PAGES for command in commands(page)}
    assert used - {None} == set(ELSEWHERE)


def unknown_keys(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Keys of a piece of an answer file that the answer file does not have."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        place = (*path, key)
        if node_at(place) is None:
            yield ".".join(map(str, place))
        else:
            yield from unknown_keys(inner, place)


@pytest.mark.parametrize("page", pages_with("toml"))
def test_pieces_of_answer_files_are_right(page: Path) -> None:
    for block in fenced(page, "toml"):
        if block.startswith("--8<--"):
            continue
        if page.name == "images.md":
            Template.model_validate(tomllib.loads(block))
        else:
            assert list(unknown_keys(tomllib.loads(block))) == []


def test_unknown_key_is_noticed() -> None:
    piece = tomllib.loads("[storage.disk]\nserail = 'X'\n[[users]]\nnme = 'a'\n")
    assert list(unknown_keys(piece)) == ["storage.disk.serail", "users.0.nme"]


def test_site_builds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "A selector matches no device" in (tmp_path / "troubleshooting/index.html").read_text(
        encoding="utf-8"
    )
    assert not re.search(
        r'(src|href)="https?://[^"]*\.(js|css|woff2?)"', (tmp_path / "index.html").read_text()
    )
