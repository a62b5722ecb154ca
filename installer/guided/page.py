"""A question as text: what both fronts say alike."""

from collections.abc import Iterator
from textwrap import wrap

from installer.answers.problems import Path, printable, shown_path
from installer.answers.schema import node_at
from installer.guided.conversation import Place
from installer.guided.questions import One, Question
from installer.guided.situation import Level
from installer.guided.words import _

BACK, EXPLAIN = "<", "?"
"""What a person types instead of an answer."""


def head(question: Question, place: Place) -> tuple[str, str]:
    """Left and right part of a page's first line."""
    where = _("{number} of {count}: {topic}").format(
        number=place.number, count=place.count, topic=place.topic
    )
    return question.title, where


def body(question: Question, level: Level, width: int) -> list[str]:
    """The page's text, in lines of at most `width` columns."""
    paragraphs = list(question.lines)
    if level is Level.beginner:
        paragraphs = [*question.more, *paragraphs]
    if level is Level.expert and question.field:
        paragraphs.append(_("Answer file: {field}").format(field=shown_path(question.field)))
    return list(_folded(paragraphs, width))


def explanation(question: Question, width: int) -> str:
    """Everything there is to say about a question."""
    paragraphs = [*question.more, *question.lines]
    if question.field:
        paragraphs.append(
            _("In the answer file: {field}. {description}")
            .format(field=shown_path(question.field), description=_(description(question.field)))
            .strip()
        )
    if isinstance(question, One):
        paragraphs += [
            _("{option}: not possible here. {reason}").format(option=each.title, reason=each.refused)
            for each in question.options
            if each.refused
        ]
    return "\n".join(_folded(paragraphs or [_("There is nothing more to say about this.")], width))


def description(field: Path) -> str:
    """What the model says of a field, in English; the catalogues of words have it too."""
    return str((node_at(field) or {}).get("description", "")).replace("`", "")


def _folded(paragraphs: list[str], width: int) -> Iterator[str]:
    for number, text in enumerate(filter(None, paragraphs)):
        if number:
            yield ""
        for line in text.splitlines() or [""]:
            # A line with blanks in front is a drawing or a table: it stays as it is.
            if line.startswith(" "):
                yield printable(line)
            else:
                yield from wrap(printable(line), width, break_on_hyphens=False) or [""]
