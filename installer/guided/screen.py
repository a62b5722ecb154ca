"""The conversation on a terminal of at least 80x24: arrows and Enter, on a screen or a serial console alike."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, TextIO

import questionary
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.output import Output, create_output
from questionary import Choice, Separator, Style

from installer.guided.conversation import Back, Place
from installer.guided.page import BACK, EXPLAIN, body, explanation, head
from installer.guided.questions import Line, Many, Notice, One, Option, Question, Secret
from installer.guided.situation import Level
from installer.guided.words import _

WIDEST = 80
SMALLEST_LIST = 6
"""Lines of a list that stay on the screen however long the text above is."""
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
DONE = object()


@dataclass
class Screen:
    """Pages, each from the top of an empty screen."""

    output: TextIO
    level: Level = Level.intermediate

    def __post_init__(self) -> None:
        self._input: Input = create_input()
        # A serial line answers no question about the cursor's place, and waiting for it costs seconds.
        self._drawn: Output = create_output(self.output)
        if hasattr(self._drawn, "enable_cpr"):
            self._drawn.enable_cpr = False

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

    def _clear(self, left: str, right: str) -> None:
        width, _rows = self._size()
        self.output.write("\x1b[0m\x1b[H\x1b[2J\x1b[3J")
        gap = max(2, width - len(left) - len(right) - 1)
        line = f"{left}{' ' * gap}{right}" if len(left) + len(right) + 2 < width else left[: width - 1]
        self._write([f"\x1b[1m{line}\x1b[0m", "-" * (width - 1)])

    def _write(self, lines: Sequence[str]) -> None:
        # A terminal in raw mode wants the carriage to return as well.
        self.output.write("".join(f"{line}\r\n" for line in lines))
        self.output.flush()

    def _page(self, question: Question, place: Place, rows: int, notes: Sequence[str] = ()) -> None:
        """Head and text, with `rows` lines left below."""
        width, height = self._size()
        self._clear(*head(question, place))
        lines = body(question, self.level, width - 1)
        room = max(3, height - 4 - rows - len(notes))
        if len(lines) > room:
            lines = [*lines[: room - 1], _("... ({key} has all of it)").format(key=_("Explain"))]
        self._write([*lines, *([""] if lines else []), *notes])

    def _select(self, prompt: str, choices: Sequence[Choice | Separator], default: Any) -> Any:
        asked = questionary.select(
            prompt,
            choices=list(choices),
            default=default,
            qmark="",
            pointer=" >",
            instruction=" ",
            style=STYLE,
            use_jk_keys=False,
            use_emacs_keys=False,
            input=self._input,
            output=self._drawn,
        )
        return asked.unsafe_ask()

    def _turns(self, place: Place) -> Iterator[Choice | Separator]:
        yield Separator(" ")
        yield Choice(_("Explain"), EXPLAIN)
        if place.can_go_back:
            yield Choice(_("Go back"), BACK)

    def _option(self, option: Option, mark: str = "") -> Choice:
        impossible = f" ({_('not possible here')})" if option.refused else ""
        width, _rows = self._size()
        room = width - 5 - len(impossible) - len(mark)
        title = option.title if len(option.title) <= room else f"{option.title[: room - 1]}…"
        return Choice(f"{mark}{title}{impossible}", option)

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
            rows = max(SMALLEST_LIST, min(len(choices) + 4, self._size()[1] - 8))
            self._page(question, place, rows)
            answer = self._select(question.prompt, [*choices, *self._turns(place)], default)
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
            rows = max(SMALLEST_LIST, min(len(choices) + 5, self._size()[1] - 8))
            notes = _wrapped(problem, self._size()[0] - 1).splitlines() if problem else []
            self._page(question, place, rows, notes)
            done = Choice(_("Go on with this"), DONE)
            default = next((each for each in choices if each.value is current), done)
            answer = self._select(question.prompt, [*choices, done, *self._turns(place)], default)
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
            if not text or self._unseen(_("The same again:")) == text:
                return text
            problem = _("The two were different; type it again.")

    def _unseen(self, prompt: str) -> str:
        asked = questionary.password(prompt, qmark="", style=STYLE, input=self._input, output=self._drawn)
        return str(asked.unsafe_ask())


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
