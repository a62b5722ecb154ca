"""The conversation line by line: for screen readers, dumb terminals, and whoever asks for it (`--plain`)."""

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from installer.guided.conversation import Back, Place
from installer.guided.page import BACK, EXPLAIN, body, explanation, head
from installer.guided.questions import Line, Many, Notice, One, Option, Question, Secret
from installer.guided.situation import Level
from installer.guided.words import _

WIDTH = 78


@dataclass
class Plain:
    """Numbers and words, nothing that moves a cursor."""

    output: TextIO
    level: Level = Level.intermediate
    ask_line: Callable[[str], str] = input
    """Reads a line after a prompt. Raises EOFError."""
    ask_secret: Callable[[str], str] = getpass.getpass
    """The same, unseen."""

    def ask(self, question: Question, place: Place) -> Any:
        """The answer."""
        title, where = head(question, place)
        self._say("", f"== {title} ({where}) ==", *body(question, self.level, WIDTH), "")
        match question:
            case One():
                return self._one(question)
            case Many():
                return self._many(question)
            case Line():
                return self._line(question)
            case Secret():
                return self._secret(question)
            case Notice():
                self._typed(f"{question.prompt} {_('Enter goes on.')} ", question)
                return None
            case _:
                raise TypeError(type(question).__name__)

    def show(self, title: str, text: str) -> None:
        """The text as it is; the terminal scrolls."""
        self._say("", f"-- {title} --", *text.splitlines(), "")

    def working(self, title: str) -> None:
        """One line."""
        self._say(f"... {title}")

    def _say(self, *lines: str) -> None:
        self.output.write("".join(f"{line}\n" for line in lines))
        self.output.flush()

    def _typed(self, prompt: str, question: Question, read: Callable[[str], str] | None = None) -> str:
        """What was typed, once it is an answer."""
        while True:
            text = (read or self.ask_line)(prompt).strip()
            if text == BACK:
                raise Back
            if text != EXPLAIN:
                return text
            self.show(question.title, explanation(question, WIDTH))

    def _list(self, options: tuple[Option, ...], marks: tuple[str, ...]) -> None:
        for number, (option, mark) in enumerate(zip(options, marks, strict=True), start=1):
            impossible = f" ({_('not possible here')})" if option.refused else ""
            self._say(f"  {number}) {mark}{option.title}{impossible}")

    def _chosen(self, text: str, options: tuple[Option, ...]) -> Option | None:
        """The option that a number means; none: told why not."""
        if not text.isdecimal() or not 1 <= int(text) <= len(options):
            self._say(_("Type a number from 1 to {count}.").format(count=len(options)))
            return None
        option = options[int(text) - 1]
        if option.refused:
            self.show(option.title, option.refused)
            return None
        return option

    def _one(self, question: One) -> Any:
        options = question.options
        self._list(options, ("",) * len(options))
        default = next((n for n, each in enumerate(options, 1) if each.value == question.default), None)
        hint = f" [{default}]" if default else ""
        while True:
            text = self._typed(f"{question.prompt} ({_('? explains, < goes back')}){hint}: ", question)
            option = self._chosen(text or str(default or ""), options)
            if option is not None:
                return option.value

    def _many(self, question: Many) -> tuple[Any, ...]:
        options, chosen = question.options, set(question.default)
        while True:
            self._list(options, tuple("[x] " if each.value in chosen else "[ ] " for each in options))
            hint = _("a number switches, Enter alone goes on, ? explains, < goes back")
            text = self._typed(f"{question.prompt} ({hint}): ", question)
            if not text:
                answer = tuple(each.value for each in options if each.value in chosen)
                if (problem := question.check(answer)) is None:
                    return answer
                self._say(problem)
            elif (option := self._chosen(text, options)) is not None:
                chosen ^= {option.value}

    def _line(self, question: Line) -> str:
        default = f" [{question.default}]" if question.default else ""
        while True:
            text = self._typed(f"{question.prompt} ({_('? explains, < goes back')}){default}: ", question)
            text = text or question.default
            if (problem := question.check(text)) is None:
                return text
            self._say(problem)

    def _secret(self, question: Secret) -> str:
        while True:
            text = self._typed(
                f"{question.prompt} ({_('? explains, < goes back')}): ", question, self.ask_secret
            )
            if (problem := question.check(text)) is not None:
                self._say(problem)
            elif not text or not question.twice or self.ask_secret(_("The same again: ")) == text:
                return text
            else:
                self._say(_("The two were different; type it again."))
