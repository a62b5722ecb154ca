"""What errors tell people to type exists: each `hv COMMAND VERB` in our sources is a command with that verb."""

import argparse
import re
from importlib import import_module

import pytest

from hv.cli import COMMANDS
from tests.nixeval.nix import REPOSITORY

NAMED = re.compile(r"`hv ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
"""A command in backticks, and the word behind it when it is no option or placeholder."""


def _named() -> dict[tuple[str, str], str]:
    """Command and word, to a file that has it."""
    found = {}
    for folder in ("hv", "installer", "iso"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            # Strings go on in the next line.
            text = re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
            for match in NAMED.finditer(text):
                found[match[1], match[2] or ""] = str(path.relative_to(REPOSITORY))
    return found


def _verbs(command: str) -> frozenset[str] | None:
    """Words that the command takes first; None when any will do."""
    parser: argparse.ArgumentParser = import_module(COMMANDS[command][0]).parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return frozenset(action.choices)
        if not action.option_strings and action.choices:
            return frozenset(map(str, action.choices))
    return None


NAMES = _named()


@pytest.mark.parametrize(("command", "word"), sorted(NAMES), ids=" ".join)
def test_it_can_be_typed(command: str, word: str) -> None:
    assert command in COMMANDS, NAMES[command, word]
    verbs = _verbs(command)
    if word and verbs is not None:
        assert word in verbs, NAMES[command, word]


def test_some_are_found() -> None:
    assert ("firstrun", "retry") in NAMES
    assert _verbs("firstrun") is not None
