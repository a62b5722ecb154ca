"""The conversation on a terminal of at least 80x24: arrows and Enter, on a screen or a serial console alike."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import fill, wrap
from typing import Any, TextIO

import questionary
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.vt100 import Vt100_Output
from questionary import Choice, Separator, Style

from installer.guided.conversation import Back, Place
from installer.guided.page import BACK, EXPLAIN, body, explanation, head
from installer.guided.questions import Line, Many, Notice, One, Option, Question, Secret
from installer.guided.situation import Level
from installer.guided.words import _

WIDEST = 80
HEAD = 2
"""Lines of a page's head."""
LEAST_TEXT = 3
"""Lines of a page's text that stay on the screen however long the list below is: such a list is scrolled."""
STYLE = Style(
    [
        ("question", "bold"),
        ("pointer", "bold"),
        ("highlighted", "bold"),
        ("selected", "noinherit"),
        ("answer", "bold"),
        ("instruction", "noinherit"),
    ]
)
POINTER = " >"
DONE = object()


@dataclass
class Screen:
    """Pages, each from the top of an empty screen."""

    output: TextIO
    level: Level = Level.intermediate

    def __post_init__(self) -> None:
        self._input: Input = create_input()
        self._above = 0
        # A serial line answers no question about the cursor's place, and waiting for it costs seconds. So the list is
        # told how many lines are left for it: else it would take the whole screen, and push the page's head away.
        self._drawn = Vt100_Output(
            self.output, get_size=self._left, term=os.environ.get("TERM"), enable_cpr=False
        )

    def ask(self, question: Question, place: Place) -> Any:
        """The answer."""
        match question:
            case One():
                return self._one(question, place)
            case Many():
                return self._many(question, place)
            case Line():
                return self._line(question, place)
            case Secret():
                return self._secret(question, place)
            case Notice():
                self._one(_as_choice(question), place)
                return None
            case _:
                raise TypeError(type(question).__name__)

    def show(self, title: str, text: str) -> None:
        """A page after the other, back and forth."""
        lines = text.splitlines() or [""]
        height = self._size()[1] - 9
        first = 0
        while True:
            last = min(len(lines), first + height)
            self._clear(
                title,
                _("lines {first} to {last} of {all}").format(first=first + 1, last=last, all=len(lines)),
            )
            self._write(lines[first:last])
            choices = [Choice(_("More"), "more")] if last < len(lines) else []
            choices += [Choice(_("Close"), "close")]
            choices += [Choice(_("Up again"), "up")] if first else []
            match self._select("", choices, None):
                case "more":
                    first = last
                case "up":
                    first = max(0, first - height)
                case _:
                    return

    def working(self, title: str) -> None:
        """One line, below what stands there."""
        self._write([f"... {title}"])

    # Pages

    def _size(self) -> tuple[int, int]:
        columns, rows = shutil.get_terminal_size((WIDEST, 24))
        return min(columns, WIDEST), rows

    def _left(self) -> Size:
        """What is left of the screen below what was written."""
        columns, rows = shutil.get_terminal_size((WIDEST, 24))
        return Size(rows=max(1, rows - self._above), columns=columns)

    def _clear(self, left: str, right: str) -> None:
        width, _rows = self._size()
        self._above = 0
        self.output.write("\x1b[0m\x1b[H\x1b[2J\x1b[3J")
        gap = max(2, width - len(left) - len(right) - 1)
        line = f"{left}{' ' * gap}{right}" if len(left) + len(right) + 2 < width else left[: width - 1]
        self._write([f"\x1b[1m{line}\x1b[0m", "-" * (width - 1)])

    def _write(self, lines: Sequence[str]) -> None:
        # A terminal in raw mode wants the carriage to return as well.
        self.output.write("".join(f"{line}\r\n" for line in lines))
        self.output.flush()
        self._above += len(lines)

    def _page(self, question: Question, place: Place, rows: int, notes: Sequence[str] = ()) -> None:
        """Head and text, with `rows` lines left below."""
        width, height = self._size()
        self._clear(*head(question, place))
        lines = body(question, self.level, width - 1)
        room = height - HEAD - 1 - rows - len(notes)
        if room < LEAST_TEXT:
            notes = [*notes, _("The list is longer than the screen: the arrows move it.")]
            room = LEAST_TEXT
        if len(lines) > room:
            lines = [*lines[: room - 1], _("... ({key} has all of it)").format(key=_("Explain"))]
        self._write([*lines, *([""] if lines else []), *notes])

    def _select(self, prompt: str, choices: Sequence[Choice | Separator], default: Any) -> Any:
        asked = questionary.select(
            prompt,
            choices=list(choices),
            default=default,
            qmark="",
            pointer=POINTER,
            instruction=" ",
            style=STYLE,
            use_jk_keys=False,
            use_emacs_keys=False,
            input=self._input,
            output=self._drawn,
        )
        _bind(asked, {each.value for each in choices if not isinstance(each, Separator)})
        return asked.unsafe_ask()

    def _turns(self, place: Place) -> Iterator[Choice | Separator]:
        yield Separator(" ")
        yield Choice(_("Explain"), EXPLAIN)
        if place.can_go_back:
            yield Choice(_("Go back"), BACK)

    def _option(self, option: Option, mark: str = "") -> Choice:
        impossible = f" ({_('not possible here')})" if option.refused else ""
        width, _rows = self._size()
        indent = " " * (len(POINTER) + 1 + len(mark))
        lines = wrap(f"{option.title}{impossible}", width - 1 - len(indent), break_on_hyphens=False) or [""]
        return Choice(mark + f"\n{indent}  ".join(lines), option)

    def _one(self, question: One, place: Place) -> Any:
        choices = [self._option(each) for each in question.options]
        default = next(
            (
                choice
                for choice, option in zip(choices, question.options, strict=True)
                if option.value == question.default
            ),
            None,
        )
        while True:
            listed = [*choices, *self._turns(place)]
            self._page(question, place, _rows(listed))
            answer = self._select(question.prompt, listed, default)
            if answer == BACK:
                raise Back
            if answer == EXPLAIN:
                self.show(question.title, explanation(question, self._size()[0] - 1))
            elif answer.refused:
                self.show(answer.title, _wrapped(answer.refused, self._size()[0] - 1))
            else:
                return answer.value

    def _many(self, question: Many, place: Place) -> tuple[Any, ...]:
        chosen, current, problem = set(question.default), None, ""
        while True:
            choices = [
                self._option(each, "[x] " if each.value in chosen else "[ ] ") for each in question.options
            ]
            notes = _wrapped(problem, self._size()[0] - 1).splitlines() if problem else []
            done = Choice(_("Go on with this"), DONE)
            default = next((each for each in choices if each.value is current), done)
            listed = [*choices, done, *self._turns(place)]
            self._page(question, place, _rows(listed), notes)
            answer = self._select(question.prompt, listed, default)
            problem = ""
            if answer is DONE:
                picked = tuple(each.value for each in question.options if each.value in chosen)
                problem = question.check(picked) or ""
                if not problem:
                    return picked
            elif answer == BACK:
                raise Back
            elif answer == EXPLAIN:
                self.show(question.title, explanation(question, self._size()[0] - 1))
            elif answer.refused:
                self.show(answer.title, _wrapped(answer.refused, self._size()[0] - 1))
            else:
                chosen ^= {answer.value}
                current = answer

    def _line(self, question: Line, place: Place) -> str:
        default, problem = question.default, ""
        while True:
            notes = _wrapped(problem, self._size()[0] - 1).splitlines() if problem else []
            self._page(question, place, 3, [*notes, _("? explains, < goes back")])
            asked = questionary.text(
                question.prompt,
                default=default,
                qmark="",
                style=STYLE,
                input=self._input,
                output=self._drawn,
            )
            text = str(asked.unsafe_ask()).strip()
            if text == BACK:
                raise Back
            if text == EXPLAIN:
                self.show(question.title, explanation(question, self._size()[0] - 1))
                continue
            problem = question.check(text) or ""
            if not problem:
                return text
            default = text

    def _secret(self, question: Secret, place: Place) -> str:
        problem = ""
        while True:
            notes = _wrapped(problem, self._size()[0] - 1).splitlines() if problem else []
            self._page(question, place, 4, [*notes, _("? explains, < goes back")])
            text = self._unseen(question.prompt)
            if text == BACK:
                raise Back
            if text == EXPLAIN:
                self.show(question.title, explanation(question, self._size()[0] - 1))
                continue
            problem = question.check(text) or ""
            if problem:
                continue
            if not text or not question.twice or self._unseen(_("The same again:")) == text:
                return text
            problem = _("The two were different; type it again.")

    def _unseen(self, prompt: str) -> str:
        asked = questionary.password(prompt, qmark="", style=STYLE, input=self._input, output=self._drawn)
        return str(asked.unsafe_ask())


def _bind(asked: questionary.Question, values: Collection[Any]) -> None:
    """Space is Enter, and what is typed in a line works in a list too."""
    bindings = asked.application.key_bindings
    assert isinstance(bindings, KeyBindings)

    @bindings.add(" ")
    def _take(event: KeyPressEvent) -> None:
        event.app.key_processor.feed(KeyPress(Keys.ControlM))

    for key in (BACK, EXPLAIN):
        if key in values:
            bindings.add(key)(partial(_leave, key))


def _leave(key: str, event: KeyPressEvent) -> None:
    event.app.exit(result=key)


def _rows(listed: Sequence[Choice | Separator]) -> int:
    """Lines of a list with its prompt."""
    return 1 + sum(1 + str(each.title).count("\n") for each in listed)


def _as_choice(notice: Notice) -> One:
    return One(
        title=notice.title,
        prompt=notice.prompt,
        lines=notice.lines,
        more=notice.more,
        field=notice.field,
        options=(Option(None, _("Go on")),),
    )


def _wrapped(text: str, width: int) -> str:
    return "\n".join(fill(line, width, break_on_hyphens=False) for line in text.splitlines())
