"""What others say, told in the language of the person.

The planner, the checks of answers, the probe and the executor say what they say in English, know of no language, and
their words are what plans, journals, logs and programs carry. Where the guided installer shows such a text, the
catalogue's templates are tried on it, the most specific first; the values in its places are carried over, and told in
their turn where they are words themselves. A text that fits no template is shown as it is.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from string import Formatter

from installer.answers.problems import Problem, shown_path
from installer.errors import HyperError, paragraph
from installer.execute.progress import Moment, Screen, State
from installer.guided.words import CATALOGUES, ENGLISH, _, language, written

SENTENCES = "sentences"
"""Name of a language's catalogue of what others say."""
_TEXT = r'((?:"(?:[^"\\]|\\.)*"\n?)+)'
_ENTRY = re.compile(rf"^((?:#.*\n)*)msgid {_TEXT}msgstr {_TEXT}", re.MULTILINE)

NAMES = frozenset(("host", "hostname", "id", "key", "label", "name", "path", "user"))
"""Places with a name in them: a host called `none` stays so."""
_WEAK = 12
"""Letters. With fewer a template says so little that it is believed only where its values are no sentences."""
_SENTENCE = re.compile(r"(?<!\w)[a-z]+ [A-Za-z]{2,}|(?<![\w/.-])(?:at|by|from|in|of|on|to|with)(?![\w/.:-])")
_ENGLISH = re.compile(
    r"(?<![\w/.-])(?:and|are|at|be|by|for|from|has|is|it|its|no|not|of|on|or|that|the|this|to|with)(?![\w/.:-])"
)
"""Words that a sentence of which a part is told already would still have."""
_FIELD = re.compile(r"([a-z_]+[.\[_][\w.\[\]]*) (.+)", re.DOTALL)
"""A field of the answer file, and what is said of it."""
_KEY = 3
"""First letters that templates are found by."""


@dataclass(frozen=True)
class Template:
    """A sentence with places for values."""

    english: str
    """As in the catalogue."""
    other: str
    """Its translation."""
    literals: tuple[str, ...]
    """What stands before, between and after the places."""
    names: tuple[str, ...]
    """Of the places, in the order of the English."""
    weight: int
    """Letters that are its own."""
    longest: str
    """The longest of the literals."""

    @property
    def is_weak(self) -> bool:
        """Whether it says too little to be believed by itself; a label before a value, or the capital that begins a
        sentence, says enough.
        """
        return (
            bool(self.names)
            and self.weight < _WEAK
            and not re.match("[A-Za-z ]+: $|[A-Z][a-z]+ ", self.literals[0])
        )

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """The more specific the smaller. What begins with words comes first, so that `verify: …` is taken off before
        anything is sought in the rest.
        """
        own = sum(map(len, self.literals))
        return not self.literals[0], -self.weight, -own, len(self.names)

    def values(self, text: str) -> dict[str, str] | None:
        """What stands in the places; none: it is another sentence."""
        first, *rest = self.literals
        if not text.startswith(first):
            return None
        if not rest:
            return {} if text == first else None
        *between, last = rest
        end = len(text) - len(last)
        if end < len(first) or not text.endswith(last):
            return None
        found, start = {}, len(first)
        for name, literal in zip(self.names, between, strict=False):
            place = text.find(literal, start, end)
            if place < 0:
                return None
            found[name] = text[start:place]
            start = place + len(literal)
        found[self.names[-1]] = text[start:end]
        return found


def template(english: str, other: str) -> Template:
    """A template of the catalogue."""
    parts = list(Formatter().parse(english))
    literals, names = [""], []
    for text, name, _format, _conversion in parts:
        literals[-1] += text
        if name is not None:
            names.append(name)
            literals.append("")
    weight = sum(char.isalpha() for literal in literals for char in literal)
    return Template(english, other, tuple(literals), tuple(names), weight, max(literals, key=len))


@dataclass(frozen=True)
class Templates:
    """All of a language, found by their first letters; the most specific first."""

    by_start: Mapping[str, tuple[Template, ...]]
    """Those that begin with words."""
    open: tuple[Template, ...]
    """Those that begin with a value."""

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> "Templates":
        """In the order in which they are tried."""
        found: dict[str, list[Template]] = {}
        for each in sorted((template(*pair) for pair in sorted(pairs)), key=lambda each: each.rank):
            start = each.literals[0][:_KEY]
            found.setdefault(start if len(start) == _KEY else "", []).append(each)
        return cls({start: tuple(each) for start, each in found.items() if start}, tuple(found.get("", ())))

    def fitting(self, text: str) -> list[tuple[Template, dict[str, str]]]:
        """Templates that the text may be made of, with the values."""
        lines = "\n" in text
        found = [
            (each, values)
            for each in (*self.by_start.get(text[:_KEY], ()), *self.open)
            # Lines are told one by one, unless they belong together.
            if each.longest in text
            and not (lines and "\n" not in each.english)
            and (values := each.values(text)) is not None
        ]
        return sorted(found, key=lambda each: each[0].rank)


def read(content: str) -> Iterator[tuple[str, str]]:
    """The sentences of a catalogue that are translated (.po: the manual of GNU gettext, "The Format of PO Files")."""
    for comments, *texts in _ENTRY.findall(content):
        # What is escaped in it is escaped alike in JSON.
        english, other = (
            "".join(map(json.loads, text.split("\n")[:-1]))
            for text in (f"{each.rstrip()}\n" for each in texts)
        )
        if english and other and "fuzzy" not in comments:
            yield english, other


@cache
def _templates(spoken: str) -> Templates:
    catalogue = CATALOGUES / spoken / f"{SENTENCES}.po"
    return Templates.of(read(catalogue.read_text(encoding="utf-8")) if catalogue.is_file() else ())


def told(text: str) -> str:
    """A text of others in the language in use; itself in English, and where no template fits."""
    return written(text if language() == ENGLISH else _told(language(), text))


@lru_cache(maxsize=8192)
def _told(spoken: str, text: str) -> str:
    return _known(spoken, text) or text


@lru_cache(maxsize=8192)
def _known(spoken: str, text: str) -> str | None:
    """The translation; none: there is none, not even of its parts."""
    inner = text.strip()
    if not any(map(str.isalpha, inner)):
        return None
    if inner != text:
        known = _known(spoken, inner)
        start = text.index(inner)
        return None if known is None else text[:start] + known + text[start + len(inner) :]
    found = _by_template(spoken, text, weak=False) or _described(text)
    if found is None and "\n" in text:
        lines = [_known(spoken, line) for line in text.split("\n")]
        if any(lines):
            return "\n".join(known or line for known, line in zip(lines, text.split("\n"), strict=True))
        return None
    # Several texts in a row before templates that say little: each of them may fit one of those.
    found = found or _joined(spoken, text) or _by_template(spoken, text, weak=True)
    if found is None and (about := _FIELD.fullmatch(text)) and (said := _known(spoken, about[2])):
        return f"{about[1]} {said}"
    return found


@lru_cache(maxsize=8192)
def _fitting(spoken: str, text: str) -> list[tuple[Template, dict[str, str]]]:
    return _templates(spoken).fitting(text)


def _by_template(spoken: str, text: str, *, weak: bool) -> str | None:
    for each, values in _fitting(spoken, text):
        if weak != each.is_weak or any(_is_name(name) and "; " in value for name, value in values.items()):
            continue
        known = {name: _value(spoken, name, value) for name, value in values.items()}
        said = each.other.format(**{name: known[name] or value for name, value in values.items()})
        if not weak or (all(map(_is_one, values.values(), known.values())) and not is_mixed(said)):
            return said
    return None


def is_mixed(text: str) -> bool:
    """Whether some of it is still English. What is quoted is a name."""
    return bool(_ENGLISH.search(re.sub('`[^`]*`|"[^"]*"', "", text)))


def _is_one(value: str, known: str | None) -> bool:
    """Whether a value is one, and not the middle of several texts or a sentence that nobody knows."""
    return (
        _is_balanced(value)
        and not any(join in value for join in (" > ", " + "))
        and (known is not None or not _SENTENCE.search(value))
    )


def _is_balanced(text: str) -> bool:
    return text.count("(") == text.count(")")


def _value(spoken: str, name: str, value: str) -> str | None:
    return None if _is_name(name) and " " not in value else _known(spoken, value)


def _is_name(place: str) -> bool:
    return place.rstrip("0123456789") in NAMES


def _joined(spoken: str, text: str) -> str | None:
    """Several texts in a row. Names among them stay; a sentence that is not known makes the whole unknown."""
    for join, other in _joins().items():
        place = text.find(join)
        while place > 0:
            left, right = text[:place], text[place + len(join) :]
            place = text.find(join, place + 1)
            if not _is_balanced(left):
                continue
            whole = _single(spoken, left + ".") if join == ". " else None
            first = whole.removesuffix(".") if whole else _single(spoken, left)
            if first is None and _SENTENCE.search(left):
                continue
            second = _known(spoken, right)
            quoted = join != other and left.endswith("`") and right.startswith("`")
            said = (first or left) + other + (second or right)
            if (
                (first or second or quoted)
                and (second or not _SENTENCE.search(right))
                and not is_mixed(said)
            ):
                return said
    return None


def _single(spoken: str, text: str) -> str | None:
    return _by_template(spoken, text, weak=False) or _by_template(spoken, text, weak=True)


def _joins() -> dict[str, str]:
    """What stands between texts in a row."""
    return {
        ". ": ". ",
        "; ": "; ",
        ", ": ", ",
        " and ": _(" and "),
        " or ": _(" or "),
        " > ": " > ",
        " + ": " + ",
        ": ": ": ",
    }


def _described(text: str) -> str | None:
    """What the model says of a field, where it is a part of a sentence."""
    whole = f"{text[:1].upper()}{text[1:]}.".replace("`", "")
    said = _(whole)
    return None if said == whole else said.removesuffix(".")


# Errors


class ToldError(HyperError):
    """An error in the language of the person, as it is printed too."""

    def __init__(self, error: HyperError) -> None:
        self.problems: tuple[Problem, ...] = getattr(error, "problems", ())
        super().__init__(told(error.what), why=_reason(error), remedy=told(error.remedy), code=error.code)

    def __str__(self) -> str:
        if self.problems:
            return "\n\n".join([f"{self.what}:", *map(problem, self.problems)])
        return "\n".join(
            [*paragraph(self.what, "", ""), *_labelled("why", self.why), *_labelled("do", self.remedy)]
        )


def _reason(error: HyperError) -> str:
    """Why; where several things are wrong, each of them."""
    problems: tuple[Problem, ...] = getattr(error, "problems", ())
    return "; ".join(f"{shown_path(one.path)}: {told(one.wrong)}" for one in problems) or told(error.why)


def in_words(error: HyperError) -> HyperError:
    """The error as the person is told it."""
    return error if language() == ENGLISH or isinstance(error, ToldError) else ToldError(error)


def refusal(error: HyperError) -> str:
    """What happened, and why, in one sentence."""
    return f"{told(error.what)}: {_reason(error)}"


def problem(one: Problem) -> str:
    """One thing wrong with the answers, as `str` of it in English."""
    if language() == ENGLISH:
        return str(one)
    place = told(f"line {one.line}") if one.line else ""
    place += told(f", column {one.column}") if place and (one.column or 1) > 1 else ""
    field_ = shown_path(one.path) + (f" = {one.value}" if one.value is not None else "")
    head = ": ".join(part for part in (place, field_) if part)
    return "\n".join(
        [
            *paragraph(head or told("the whole file"), "  ", "      "),
            *_labelled("why", told(one.wrong), 4),
            *_labelled("do", told(one.remedy), 4),
        ]
    )


def _labelled(label: str, text: str, indent: int = 2) -> list[str]:
    """A paragraph behind `why:` or `do:`."""
    labels = {"why": _("why: "), "do": _("do: ")}
    head = " " * indent + labels[label].ljust(max(map(len, labels.values())))
    return paragraph(text, head, " " * len(head))


# Lines that were folded already


_LABELS = {"  why: ": ("why", 2), "  do:  ": ("do", 2), "    why: ": ("why", 4), "    do:  ": ("do", 4)}
_HEADS = (("  * ", "    "), ("Warning: ", "  "))
_WIDTH = 80


def unfolded(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Paragraphs that `installer.errors.paragraph` folded: what stands before each, and its text.

    A line goes on in the next where that one is indented for it and its first word had no room.
    """
    found: list[tuple[str, str]] = []
    last = ""
    for line in lines:
        head = found[-1][0] if found else ""
        hanging = len(dict(_HEADS).get(head, head))
        text = re.sub("`[^`]{1,50}`", lambda quoted: quoted[0].replace(" ", "\xa0"), line.lstrip())
        indent = len(line) - len(line.lstrip())
        goes_on = found and text and last and indent >= hanging and (hanging or not indent)
        if goes_on and len(last) + 1 + len(text.split(" ")[0]) > _WIDTH:
            found[-1] = (head, f"{found[-1][1]} {line.lstrip()}")
        elif goes_on and head in _LABELS:
            found[-1] = (head, f"{found[-1][1]}\n{line[hanging:]}")
        else:
            start = next(
                (each for each in (*_LABELS, *(one for one, _rest in _HEADS)) if line.startswith(each)), ""
            )
            found.append((start, line.removeprefix(start)))
        last = line
    return found


def retold(lines: Iterable[str]) -> list[str]:
    """Lines of 80 columns, folded anew in the language in use."""
    given = list(lines)
    if language() == ENGLISH:
        return given
    result: list[str] = []
    for head, text in unfolded(given):
        said = told(text)
        if head in _LABELS:
            label, indent = _LABELS[head]
            result += _labelled(label, said, indent)
        elif head == "Warning: ":
            result += paragraph(told(head + text), "", "  ")
        elif said == text and not head:
            result.append(text)
        else:
            result += paragraph(said, head, dict(_HEADS).get(head, ""))
    return result


@dataclass
class InWords:
    """A screen of progress whose texts are told; lines for people wait for those that belong to them."""

    screen: Screen
    """Where they are shown."""
    _waiting: list[str] = field(default_factory=list)

    def step(self, at: Moment, state: State) -> None:
        """A step changed its state."""
        self._flush()
        self.screen.step(_moment(at), state)

    def inside(self, at: Moment, fraction: float, text: str) -> None:
        """The current step came further."""
        self._flush()
        self.screen.inside(_moment(at), fraction, told(text))

    def tick(self, percent: float) -> None:
        """Time passed."""
        self._flush()
        self.screen.tick(percent)

    def say(self, text: str) -> None:
        """A line, or several."""
        self._waiting += text.split("\n")

    def shown(self) -> AbstractContextManager[object]:
        """As the screen does; nothing waits when it ends."""
        return _Flushing(self.screen.shown(), self._flush)

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        for line in retold(lines):
            self.screen.say(line)


@dataclass
class _Flushing(AbstractContextManager[object]):
    inner: AbstractContextManager[object]
    flush: Callable[[], None]

    def __enter__(self) -> object:
        return self.inner.__enter__()

    def __exit__(self, *error: object) -> None:
        self.flush()
        self.inner.__exit__(*error)  # type: ignore[arg-type]


def _moment(at: Moment) -> Moment:
    said = told(at.step.summary)
    return (
        at
        if said == at.step.summary
        else Moment(at.number, at.step.model_copy(update={"summary": said}), at.percent)
    )
