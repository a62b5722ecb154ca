"""Leads through the topics: forwards, and back to whatever was asked before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from installer.facts import Facts
from installer.guided.questions import Answers, Dialogue, Item, Line, Many, One, Question, Work
from installer.guided.situation import Level, Situation, changed
from installer.medium import Medium


class Back(Exception):  # noqa: N818  (no error: the person wants to go back)
    """The person wants to go back to the question before."""


@dataclass(frozen=True)
class Topic:
    """One thing to talk about."""

    name: str
    """What `interactive` in an answer file calls it."""
    title: Callable[[], str]
    """What people see, in their language."""
    dialogue: Callable[[Situation], Dialogue]
    """The questions."""


@dataclass(frozen=True)
class Place:
    """Where a question stands, for the head of the page."""

    number: int
    """Of the topic, from 1."""
    count: int
    """How many topics there are."""
    topic: str
    """Title of the topic."""
    can_go_back: bool
    """Whether there is something before it."""


class Front(Protocol):
    """Puts questions to a person."""

    @property
    def level(self) -> str:
        """How much is explained; one of `Level`."""

    def ask(self, question: Question, place: Place) -> Any:
        """The answer. Raises Back, or KeyboardInterrupt and EOFError when the person leaves."""

    def show(self, title: str, text: str) -> None:
        """A text of any length, page by page."""

    def working(self, title: str) -> None:
        """Say what is going on, before it takes its time."""


class World(Protocol):
    """Does what a `Work` asks for."""

    def do(self, work: Work) -> Any:
        """Its result; never raises for what can be told to the person."""


@dataclass
class _Said:
    """An item with its answer."""

    item: Item
    answer: Any


@dataclass
class Conversation:
    """The state of the conversation: every answer, so that any question can be come back to."""

    topics: Sequence[Topic]
    facts: Facts
    medium: Medium
    front: Front
    world: World
    base: Mapping[str, Any] = field(default_factory=dict)
    """What an answer file said beforehand."""
    secrets: str = "/run/hyper-nixos/secrets"
    held: Callable[[Callable[[], Any]], Any] = lambda step: step()
    """Does one thing, a question or a work; where Ctrl-C interrupts it, the person may go on with this very thing."""
    _said: dict[str, list[_Said]] = field(default_factory=dict)
    _decided: dict[str, Answers] = field(default_factory=dict)

    @property
    def raw(self) -> dict[str, Any]:
        """The answer file as it stands."""
        result = dict(self.base)
        for topic in self.topics:
            result = changed(result, self._decided.get(topic.name, {}))
        return result

    def all(self) -> dict[str, Any]:
        """Ask about every topic.

        Raises:
            Back: the person went back beyond the first question.
        """
        number, again = 0, False
        while number < len(self.topics):
            try:
                self.one(self.topics[number].name, again=again)
                number, again = number + 1, False
            except Back:
                number, again = self._before(number), True
        return self.raw

    def _before(self, number: int) -> int:
        """The topic before, that has asked anything."""
        for earlier in range(number - 1, -1, -1):
            if any(
                isinstance(said.item, Question) for said in self._said.get(self.topics[earlier].name, ())
            ):
                return earlier
        raise Back

    def one(self, name: str, *, again: bool = False) -> None:
        """Ask about one topic.

        Args:
            name: Of the topic.
            again: Come back to its last question, the ones before it as they were answered; else from its first.

        Raises:
            Back: the person went back beyond its first question.
        """
        topic = next(each for each in self.topics if each.name == name)
        earlier = self._said.get(name, [])
        kept = _without_last_question(earlier) if again else []
        while True:
            situation = Situation(self.facts, self.medium, self.raw, self.secrets, Level(self.front.level))
            try:
                self._decided[name] = self._talk(topic, situation, kept, earlier)
            except Back:
                shorter = _without_last_question(kept)
                if not any(isinstance(said.item, Question) for said in kept):
                    self._said[name] = earlier or kept
                    raise
                earlier = [*kept, *earlier[len(kept) :]]
                kept = shorter
            else:
                self._said[name] = kept
                return

    def _talk(self, topic: Topic, situation: Situation, kept: list[_Said], earlier: list[_Said]) -> Answers:
        """Replay what is kept, ask the rest; `kept` grows by what is answered."""
        dialogue = topic.dialogue(situation)
        item, decided = _next(dialogue, None)
        position = 0
        while item is not None:
            if position < len(kept) and _same(kept[position].item, item):
                answer = kept[position].answer
            else:
                del kept[position:]
                answer = self._answer(topic, item, earlier, kept)
                kept.append(_Said(item, answer))
            position += 1
            item, decided = _next(dialogue, answer)
        return decided

    def _answer(self, topic: Topic, item: Item, earlier: list[_Said], kept: list[_Said]) -> Any:
        if isinstance(item, Work):
            self.front.working(item.title)
            return self.held(lambda: self.world.do(item))
        assert isinstance(item, Question)
        number = next(place for place, each in enumerate(self.topics) if each is topic)
        before = number > 0 or any(isinstance(said.item, Question) for said in kept)
        place = Place(number + 1, len(self.topics), topic.title(), before)
        question = _remembered(item, earlier, len(kept))
        return self.held(lambda: self.front.ask(question, place))


def _next(dialogue: Dialogue, answer: Any) -> tuple[Item | None, Answers]:
    """What comes next, or what was decided."""
    try:
        return dialogue.send(answer), {}
    except StopIteration as end:
        decided: Answers = end.value
        return None, decided


def _without_last_question(said: list[_Said]) -> list[_Said]:
    last = next((n for n in range(len(said) - 1, -1, -1) if isinstance(said[n].item, Question)), 0)
    return said[:last]


def _same(old: Item, new: Item) -> bool:
    """Whether an answer to the one answers the other too: the question, not what surrounds it."""
    if type(old) is not type(new):
        return False
    if isinstance(old, Question) and isinstance(new, Question):
        return _meaning(old) == _meaning(new)
    return old == new


def _meaning(question: Question) -> tuple[Any, ...]:
    """What a question asks, in whatever language its words are: answers outlive a change of the language."""
    if question.field:
        return question.field
    if isinstance(question, One | Many):
        return tuple(option.value for option in question.options)
    return (question.prompt,)


def _remembered(question: Question, earlier: list[_Said], position: int) -> Question:
    """The question with the answer that was given to it before as its default."""
    if position >= len(earlier) or not _same(earlier[position].item, question):
        return question
    answer = earlier[position].answer
    match question:
        case One(options=options) if any(each.value == answer for each in options):
            return replace(question, default=answer)
        case Many(options=options):
            there = tuple(value for value in answer if any(each.value == value for each in options))
            return replace(question, default=there)
        case Line():
            return replace(question, default=answer)
        case _:
            return question
