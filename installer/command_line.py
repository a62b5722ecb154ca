"""Command lines: argparse, whose errors say what happened, why, and what to do next."""

from __future__ import annotations

import argparse
import re

from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing, and quick commands come through here
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Raises HyperError for a command line that is wrong, where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        missing = re.fullmatch(r"the following arguments are required: (.*)", message)
        verbs = _verbs(self)
        if missing and verbs:
            raise self._wrong(f"say what to do with `{self.prog}`", f"its verbs are: {', '.join(verbs)}")
        if missing:
            message = f"missing: {missing[1]}"
        raise self._wrong(message, self._form())

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            raise self._wrong(
                f"unknown verb {value!r}",
                f"the verbs are: {', '.join(choices)}",
                self.prog,
                near(value, choices),
            )
        name = "/".join(action.option_strings) or action.metavar or action.dest
        raise self._wrong(f"{name} is {value!r}", f"it is one of: {', '.join(choices)}")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what is left over is told with the nearest option of the verb that was given."""
        found, extra = self.parse_known_args(args, namespace)
        if extra:
            at = _chosen(self, [] if args is None else args)
            word = extra[0]
            if word.startswith("-"):
                options = [option for option in at._option_string_actions if option.startswith("--")]
                raise at._wrong(
                    f"unknown option {word}",
                    f"the options are: {', '.join(options)}",
                    at.prog,
                    near(word.split("=")[0], options),
                )
            raise at._wrong(f"{word!r} is one argument too many", at._form())
        return found

    def _form(self) -> str:
        """How it is called, in short."""
        words = [self.prog]
        for action in self._actions:
            if not action.option_strings:
                name = action.metavar or action.dest
                name = " ".join(name) if isinstance(name, tuple) else name
                words.append(f"[{name}]" if action.nargs in ("?", "*") else name)
        return f"it is called as: {' '.join([*words, '[OPTION]...'])}"

    def _wrong(self, what: str, why: str, prefix: str = "", nearest: str | None = None) -> HyperError:
        return HyperError(
            f"{self.prog}: {what}",
            why=why,
            remedy=f"did you mean: {prefix} {nearest}" if nearest else f"see: {self.prog} --help",
            code=Exit.usage,
        )


def near(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant."""
    from difflib import get_close_matches  # only needed when something went wrong

    return next(iter(get_close_matches(word, words, n=1, cutoff=0.5)), None)


def _groups(parser: argparse.ArgumentParser) -> Iterator[argparse._SubParsersAction[Any]]:
    return (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _verbs(parser: argparse.ArgumentParser) -> list[str]:
    return [verb for group in _groups(parser) for verb in group.choices]


def _chosen(parser: Parser, words: Sequence[str]) -> Parser:
    """The parser of the verb that the words name; the parser itself where they name none."""
    for place, word in enumerate(words):
        for group in _groups(parser):
            if word in group.choices:
                return _chosen(group.choices[word], words[place + 1 :])
    return parser
