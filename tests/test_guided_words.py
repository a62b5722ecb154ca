"""The words of the guided installer: the catalogues are what the source says, German is whole, and it is what is shown."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from babel.messages.catalog import Message

from installer.answers.catalogue import FEATURES, TIERS
from installer.answers.load import load
from installer.facts import Facts
from installer.guided import words
from installer.guided.conversation import Back, Conversation, Place
from installer.guided.page import body, description, explanation, head
from installer.guided.questions import Many, One, Question
from installer.guided.situation import Level
from installer.guided.told import is_mixed
from installer.guided.topics import keyboard, welcome
from installer.guided.topics.catalogue import TOPICS
from tests import machines
from tests.guided_screens import KEY, Spoken, committed, environment, walk
from tests.guided_screens import command as dry_run
from tests.nixeval.cases import MEDIUM
from tests.terminal import ENTER, Terminal
from tests.test_guided import Elsewhere, Person
from tests.words import GUIDED, PARTS, everything, language, read, template, translations

FILES = translations()
NO_WORDS = re.compile(
    r"\bhv [a-z]+(?: --[a-z]+)*|`[^`]+`|[<?] |"
    "^(?:ext4|xfs|btrfs|zram|setup|hardened|development|balanced|strict|paranoid): "
)
"""What a person types, and values as the answer file has them: the same in every language."""
MACHINES = (
    *("lab-bios", "workstation", "identical-gpus", "server-md-lvm", "multipath-btrfs-pair"),
    *("stack-md", "stack-lvm", "laptop-bitlocker"),
)
NAMES = re.compile(r"X710 for 10GbE|Italiano \(it\)")
"""Names of devices and languages with an English word in them."""


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    words.use(words.ENGLISH)
    yield
    words.use(words.ENGLISH)


# The catalogues


def test_they_are_what_the_source_says() -> None:
    for path, content in everything().items():
        assert path.read_bytes() == content, f"{path.name}: python -m tests.words"


def test_each_language_is_offered_and_each_offered_one_is_there() -> None:
    there = {language(file) for file in FILES} | {words.ENGLISH}
    assert there == set(words.LANGUAGES) == set(welcome.LOCALES) == set(keyboard.BY_LANGUAGE)


def _texts(message: Message) -> list[tuple[str, str]]:
    """Pairs of English and translation; of a plural each translation with the English that has a number."""
    if isinstance(message.id, str):
        assert isinstance(message.string, str), message.id
        return [(message.id, message.string)]
    assert isinstance(message.string, tuple), message.id
    return [(message.id[-1], each) for each in message.string]


def _fields(text: str) -> list[str]:
    return sorted(name for _text, name, _format, _conversion in Formatter().parse(text) if name)


@pytest.mark.parametrize("file", FILES, ids=language)
def test_each_text_is_translated(file: Path) -> None:
    catalogue = read(file)
    for message in catalogue:
        if not message.id:
            continue
        assert not message.fuzzy, message.id
        assert len(_texts(message)) == (1 if isinstance(message.id, str) else catalogue.num_plurals)
        for english, other in _texts(message):
            assert other.strip(), english
            assert _fields(other) == _fields(english), (english, other)
            for end in (" ", "\n", ".", ":", "?"):
                assert other.endswith(end) == english.endswith(end), (english, other)
            for kept in NO_WORDS.findall(english):
                assert kept in other, (english, other)


def test_every_field_that_is_asked_for_is_described_in_them() -> None:
    known = {message.id for message in template()}
    fields = 0
    for name in MACHINES:
        for question in asked(name, "en"):
            if question.field and (text := description(question.field)):
                assert text in known, question.field
                fields += 1
    assert fields > 30
    for tier in TIERS.values():
        assert tier.summary in known
    for feature in FEATURES.values():
        assert known >= {feature.summary, feature.risk, *feature.impacts}


UNSEEN = {"there is no terminal", " has no keymap of its own", "this is a dry run"}
"""Reasons that the conversation does not show."""


def test_no_sentence_is_left_unmarked() -> None:
    """Strings of three words or more; what an error says, and what is told, stands in the other catalogue."""
    found = set()
    for file in sorted(GUIDED.rglob("*.py")):
        tree = ast.parse(file.read_text())
        marked = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr)
            or (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in (*PARTS, "HyperError", "told")
            )
        ]
        known = {id(below) for node in marked for below in _below(node)}
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in known
            and re.search("([A-Za-z]+ ){2}[a-z]{2,}", node.value)
        }
    assert found - {*keyboard.COMMON.values()} == UNSEEN


def _below(node: ast.AST) -> Iterator[ast.AST]:
    """The texts of a docstring or a call; not those of calls below an expression that is a statement."""
    if isinstance(node, ast.Expr):
        yield node.value
    else:
        yield from ast.walk(node)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de"}, "de"),
        ({"LANG": "de@euro"}, "de"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "de_CH.UTF-8", "LC_MESSAGES": ""}, "de"),
        ({"LANG": "dev_XX"}, "en"),
    ],
)
def test_the_system_says_its_language(variables: dict[str, str], expected: str) -> None:
    assert words.language_around(variables) == expected


# What is shown


def english(text: str) -> list[str]:
    """Sentences and phrases of the template in a text, whatever stands in their places."""
    flat = " ".join(text.split())
    return [
        found.group()
        for longest, pattern in _patterns()
        if longest in flat and (found := pattern.search(flat))
    ]


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Each with its longest piece, by which most are told to be missing."""
    german = read(next(file for file in FILES if language(file) == "de"))
    return tuple(
        _pattern(said)
        for message in german
        for said, other in (_texts(message) if message.id else ())
        # One word may well be a German one too, or a name.
        if len(re.findall("[a-zA-Z]{2,}", re.sub(r"\{[a-z]+\}", "", said))) > 1 and said != other
    )


def _pattern(said: str) -> tuple[str, re.Pattern[str]]:
    pieces = [" ".join(part.split()) for part in re.split(r"\{[a-z]+\}", said)]
    inside = " ?.+? ?".join(map(re.escape, pieces))
    return max(pieces, key=len), re.compile(r"(?<!\w)" + inside + (r"(?!\w)" if said[-1] != "}" else ""))


def test_english_would_be_noticed() -> None:
    assert english("Ja, und Which file\n system? auch")
    assert english("Your answers are in\n /x.")
    assert not english("Welches Dateisystem? gateway, Name, main")


ALICE: dict[str, Any] = {"Anmeldename": "alice", "Schlüssel?": ["paste", "done"], "Schlüssel:": KEY}
"""Answers by words of the German prompts."""
ALICE_IN_ENGLISH: dict[str, Any] = {
    "Login name": "alice",
    "a key?": "paste",
    "Another key": "done",
    "Key:": KEY,
}


def asked(name: str, spoken: str, **more: Any) -> list[Question]:
    """The questions of a conversation, each as it was put."""
    words.use(spoken)
    facts = machines.load(name)
    person = Person({**(ALICE if spoken == "de" else ALICE_IN_ENGLISH), **more})
    Conversation(TOPICS, facts, MEDIUM, person, Elsewhere(results={"try_network": str}), {}).all()
    return person.asked


@pytest.mark.parametrize("name", MACHINES)
def test_every_question_is_german(name: str) -> None:
    questions = asked(name, "de")
    assert len(questions) >= 20
    for question in questions:
        place = Place(1, 11, "", can_go_back=True)
        shown = [
            *head(question, place),
            question.prompt,
            *body(question, Level.beginner, 79),
            *body(question, Level.expert, 79),
            explanation(question, 79),
        ]
        if isinstance(question, One | Many):
            shown += [f"{option.title} {option.refused or ''}" for option in question.options]
        for text in shown:
            assert not english(text), text
            assert not is_mixed(NAMES.sub("", text)), text


def test_another_language_may_be_chosen_later_and_answers_stay() -> None:
    facts = machines.load("workstation")

    class Wavering(Person):
        """Takes English, sees the second page, goes back, and takes German."""

        def ask(self, question: Question, place: Place) -> Any:
            if question.prompt == "How much shall be explained?":
                self.asked.append(question)
                raise Back
            return super().ask(question, place)

    person = Wavering({"Sprache": ["en", "de"], **ALICE, "Welches Dateisystem": "xfs"})
    conversation = Conversation(TOPICS, facts, MEDIUM, person, Elsewhere())
    raw = conversation.all()
    assert raw["locale"] == "de_DE.UTF-8"
    assert [question.prompt for question in person.asked[:5]] == [
        *("Language / Sprache", "How much shall be explained?"),
        *("Language / Sprache", "Wie viel soll erklärt werden?", "Welche Tastatur?"),
    ]
    assert person.asked[2].default == "en"  # type: ignore[attr-defined]

    # From the review, back to English: what was chosen in German is proposed.
    second = Person({"Sprache": "en"})
    conversation.front = second
    conversation.one("welcome")
    conversation.one("disks")
    assert second.asked[1].prompt == "How much shall be explained?"
    (filesystem,) = [each for each in second.asked if each.prompt == "Which file system?"]
    assert filesystem.default == "xfs"  # type: ignore[attr-defined]
    assert conversation.raw["locale"] == "en_US.UTF-8"
    assert {key: value for key, value in conversation.raw.items() if key != "locale"} == {
        key: value for key, value in raw.items() if key != "locale"
    }


def test_a_locale_that_a_file_said_is_kept_with_its_language() -> None:
    def locale(base: str, chosen: str) -> str:
        topics = tuple(topic for topic in TOPICS if topic.name == "welcome")
        facts: Facts = machines.load("lab-bios")
        raw = Conversation(
            topics, facts, MEDIUM, Person({"Sprache": chosen}), Elsewhere(), {"locale": base}
        ).all()
        return str(raw["locale"])

    assert locale("de_CH.UTF-8", "de") == "de_CH.UTF-8"
    assert locale("de_CH.UTF-8", "en") == "en_US.UTF-8"


# On the terminal


def test_a_walk_in_german(tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    say = Spoken("de")
    with Terminal(dry_run(answers), environment()) as terminal:
        seen = dict(walk(terminal, "de"))
        terminal.choose(say("Make the plan, and end"))
        seen["plan"] = terminal.until(f"Plan für den Host kvm1[\\s\\S]*{say('Close')}")
        terminal.choose(say("Close"))
        terminal.until(say.seen("Your answers are in {path}.", path=""))
        assert terminal.end() == 0
    for name, text in seen.items():
        lines = text.splitlines()
        assert len(lines) <= 24, f"{name} scrolled:\n{text}"
        assert max(map(len, lines)) <= 80, name
        assert set(lines[1]) == {"-"}, f"{name} lost its head:\n{text}"
        # The right part of a head is left out where it has no room.
        assert re.search(r"\d von \d+: |Zeilen \d|\d of \d+: Welcome", lines[0]), f"{name}:\n{text}"
        assert name == "language" or not english(text), f"{name}: {english(text)}\n{text}"
    kept = committed("de")
    assert len(kept) > 5
    assert {name: seen[name] for name in kept} == kept, "if wanted: python -m tests.guided_screens"
    text = answers.read_text()
    assert text.startswith("# Antworten aus der geführten Installation.")
    read_back = load(text.encode(), "answers.toml")
    assert read_back.locale == "de_DE.UTF-8"
    assert read_back.users[0].ssh_keys == (KEY,)


def test_no_fixed_entry_is_cut_off() -> None:
    """Entries that are sentences of ours fit; those with names of devices, and summaries, are cut where they must."""
    say = Spoken("de")
    for name in MACHINES:
        for question in asked(name, "de"):
            if isinstance(question, One) and question.field != ("hypervisor", "tier"):
                for option in question.options:
                    refused = f" ({say('not possible here')})" if option.refused else ""
                    assert len(option.title + refused) <= 75, option.title


def test_the_systems_language_is_offered_first_and_can_be_left(tmp_path: Path) -> None:
    with Terminal(dry_run(tmp_path / "answers.toml"), environment("de_AT.UTF-8")) as terminal:
        first = terminal.until("Sprache[\\s\\S]*Erklären")
        assert "  > Deutsch" in first
        assert "1 von 12: Willkommen" in first
        terminal.type(ENTER)
        terminal.until("Wie viel soll erklärt werden")
        terminal.choose("Zurück")
        terminal.until("Sprache")
        terminal.choose("English")
        assert not re.search("Erklären|Zurück|Willkommen", terminal.until("How much shall be explained"))
        terminal.choose("Go back")
        terminal.until("Sprache[\\s\\S]*Explain")
        terminal.choose("Deutsch")
        assert not english(terminal.until("Wie viel soll erklärt werden"))


def test_a_files_locale_is_spoken_where_language_is_not_asked(tmp_path: Path) -> None:
    given = tmp_path / "given.toml"
    given.write_text('version = 1\nlocale = "de_CH.UTF-8"\ninteractive = ["users"]\n')
    command = [*dry_run(tmp_path / "answers.toml"), "--answers", str(given), "--plain"]
    done = subprocess.run(
        command, input="", env=environment("en_US.UTF-8"), capture_output=True, text=True, check=False
    )
    assert "== Der erste Administrator (1 von 1: Personen) ==" in done.stdout, done.stdout + done.stderr


def test_line_by_line_it_is_german_too(tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    lines = (
        *("", "2", "?", "<", "", ""),  # language, level; keyboard: explained, back; level, keyboard
        *(
            "7",
            "1",
            "1",
            "3",
            "1",
            "?",
            "3",
            "1",
            "",
            "1",
        ),  # network: no 7th; layout; disk: not the 3rd; btrfs, zram, no data of others, yes
        *(
            "1",
            "Hv 7",
            "hv-7",
            "Berlin",
            "Europe/Berlin",
        ),  # not encrypted; a wrong name and zone, then good ones
        *("alice", "", "2", "nonsense", KEY, "1", "1"),  # who, no password, paste: wrong, then the key; done
        *("7", "7", "", "", "", "", "1", "2"),  # tier; a feature on … off; devices, guests, phase, profile
    )
    done = subprocess.run(
        [*dry_run(answers), "--plain"],
        input="\n".join(lines) + "\n",
        env=environment("de_DE.UTF-8") | {"TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    for expected in (
        *("[2]: ", "? erklärt, < geht zurück", "Eine Zahl von 1 bis 4 eingeben.", "-- Tastatur --"),
        *("(hier nicht möglich)", "Von ihm läuft der Installer selbst.", "Vielleicht: Europe/Berlin"),
        *("eine Zahl schaltet um", "Nicht angenommen (", "== Übersicht (12 von 12: Übersicht) =="),
        *("Auf keinen Datenträger wurde geschrieben.", "weiter geht es mit: hv install --guided"),
    ):
        assert expected in done.stdout, expected + done.stdout[-6000:]
    assert not english(done.stdout)
    assert tomllib.loads(answers.read_text())["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize("latin", [True, False])
def test_a_terminal_without_utf8_gets_letters_that_it_has(tmp_path: Path, latin: bool) -> None:
    """Bytes of UTF-8 would be two letters each there, and every line too long."""
    variables = environment("de_DE.UTF-8")
    with Terminal(dry_run(tmp_path / "answers.toml"), variables, latin=latin) as terminal:
        first = terminal.until("Sprache[\\s\\S]*Erkl")
        assert ("Erklaeren" in first) == latin
        assert ("Erklären" in first) == (not latin)
        terminal.choose("Deutsch")
        second = terminal.until("Wie viel soll erkl")
        assert ("Zurueck" in second) == latin
        assert second.isascii() == latin


def test_an_output_in_ascii_gets_letters_that_it_has(tmp_path: Path) -> None:
    given = environment("de_DE.UTF-8") | {"TERM": "dumb", "PYTHONIOENCODING": "ascii"}
    command = [*dry_run(tmp_path / "answers.toml"), "--plain"]
    done = subprocess.run(command, input="\n", env=given, capture_output=True, text=True, check=False)
    assert "? erklaert, < geht zurueck" in done.stdout, done.stdout + done.stderr
    assert "UnicodeEncodeError" not in done.stderr


def test_every_letter_of_the_catalogues_has_another_way_to_be_written() -> None:
    words.write_in_ascii(wanted=True)
    try:
        for message in read(FILES[0]):
            for _said, other in _texts(message) if message.id else ():
                assert words.written(other).isascii(), other
    finally:
        words.write_in_ascii(wanted=False)
