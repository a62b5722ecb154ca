"""Command lines that are wrong: what happened, why, and what to do next, from every command."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import hv
from hv import completions, manual
from hv.cli import ALSO, COMMANDS, run
from installer.command_line import Parser
from installer.errors import HyperError


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The verbs of a command, below other verbs too."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for below in group.choices.values():
            yield from leaves(below)


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


VM_SIDE = ("vm", "net", "pools", "image", "passthrough", "auth", "devices")
LOOKING = {
    "hv vm list", "hv vm show", "hv vm console", "hv vm logs", "hv vm stats", "hv vm screen", "hv vm disks",
    "hv vm pools", "hv vm networks", "hv vm operations", "hv vm wait", "hv net list", "hv net status", "hv pools status",
    "hv pools list", "hv image templates", "hv image show", "hv image describe", "hv image list",
    "hv passthrough list", "hv passthrough plan", "hv auth whoami", "hv auth can-i", "hv auth log", "hv devices status",
}  # fmt: skip
"""What changes nothing; everything else takes --dry-run."""
LEAVES = {leaf.prog: leaf for name in VM_SIDE for leaf in leaves(manual.command_parser(name))}


def test_nothing_is_said_to_look_that_is_not_there() -> None:
    assert not LOOKING - set(LEAVES)


@pytest.mark.parametrize("name", LEAVES)
def test_commands_for_vms_speak_json_and_can_be_tried(name: str) -> None:
    leaf = LEAVES[name]
    options = {option for action in leaf._actions for option in action.option_strings}
    assert "--json" in options
    assert ("--dry-run" in options) == (name not in LOOKING)
    examples = (leaf.epilog or "").partition("Examples: ")[2]
    assert examples.removeprefix("sudo ").startswith(name), "its help shows how it is called"


@pytest.mark.parametrize("script", ["hv.bash", "_hv", "hv.fish"])
def test_commands_for_vms_are_completed(script: str) -> None:
    text = (Path(completions.__path__[0]) / script).read_text(encoding="utf-8")
    text = text.replace("-", "_").replace(" ", "_")
    for name in LEAVES:
        # bash and zsh name a function or variable after it, fish lists it.
        assert name.removeprefix("hv ").replace(" ", "_").replace("-", "_") in text, name


def examples() -> list[str]:
    """Each command line of each example."""
    lines = []
    for leaf in LEAVES.values():
        for words in (leaf.epilog or "").partition("Examples: ")[2].split("; "):
            lines.append(words.partition(". Exit codes")[0].removeprefix("sudo ").strip())
    return lines


@pytest.mark.parametrize("line", examples())
def test_examples_are_command_lines(line: str) -> None:
    _, name, *words = shlex.split(line)
    manual.command_parser(name).parse_args(words)


SAID = re.compile(r"`(?:sudo )?hv ([a-z][^`]*)`")
INCOMPLETE = ("missing:", "say what to do", "one of the arguments", "expected one argument", "COMMAND")
"""What a sentence may leave open: it names the verb, or stands for several."""


def sentences(path: Path) -> Iterator[str]:
    """Texts of a module; what is only known when it runs is 7, which is a name and a number."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in joined for part in ast.walk(node)}
    for node in joined:
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else "7" for each in node.values)
    for each in ast.walk(tree):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in parts:
            yield each.value


@pytest.mark.parametrize("folder", ["daemon", "vm", "images", "passthrough", "pools", "guard", "commands"])
def test_commands_that_are_advised_are_command_lines(folder: str) -> None:
    known = {name: manual.command_parser(name) for name in COMMANDS}
    wrong = []
    for path in sorted(Path(hv.__path__[0], folder).rglob("*.py")):
        for words in (found[1] for text in sentences(path) for found in SAID.finditer(text)):
            name, *rest = shlex.split(words.replace("--7", "--vnc").replace("…", "7"))
            try:
                known[ALSO.get(name, name)].parse_args(rest)
            except HyperError as error:
                if not any(each in str(error) for each in INCOMPLETE):
                    wrong.append(f"{path.name}: `hv {words}`: {error.what}")
            except SystemExit:
                assert "--help" in rest
    assert not wrong
