"""Command lines that are wrong: what happened, why, and what to do next, from every command."""

from importlib import import_module

import pytest

from hv.cli import COMMANDS, run
from installer.command_line import Parser


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_an_unknown_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(import_module(COMMANDS[name][0]).parser(), Parser)
    assert run([name, "--no-such-option"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    first, why, *_ = said.err.splitlines()
    assert first.startswith(f"hv {name}: ")
    assert why.startswith("  why: ")
    assert "  do:  " in said.err


@pytest.mark.parametrize(
    ("words", "what", "remedy"),
    [
        (["vm"], "say what to do", "hv vm --help"),
        (["vm", "creat"], "unknown verb 'creat'", "did you mean: hv vm create"),
        (["vm", "create"], "hv vm create: missing: NAME", "hv vm create --help"),
        (["vm", "create", "--memroy", "2GiB", "a"], "unknown option --memroy", "hv vm create --memory"),
        (["vm", "show", "a", "b"], "'b' is one argument too many", "hv vm show --help"),
        (["install", "--progress", "lots"], "--progress is 'lots'", "hv install --help"),
        (["answers", "check", "--mashine=x", "a"], "unknown option --mashine", "hv answers check --machine"),
        (["install", "--confirm"], "--confirm", "hv install --help"),
    ],
)
def test_wrong_command_lines(
    words: list[str], what: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert what in said
    assert remedy in said
