"""The catalogues of the guided installer's words: collected from its source, merged into each language, compiled; and
those of what it shows and others say (`tests/sentences.py`).

`python -m tests.words` writes them to installer/guided/locale; a test compares. A new language begins with
`python -m tests.words fr`.
"""

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from installer.answers.catalogue import FEATURES, TIERS
from installer.answers.schema import fields as every_field
from installer.answers.schema import node_at
from installer.guided.page import description
from installer.guided.told import SENTENCES
from installer.guided.words import CATALOGUES, DOMAIN
from tests.sentences import sentences

REPOSITORY = Path(__file__).resolve().parents[1]
GUIDED = REPOSITORY / "installer/guided"
PARTS = {"_": 1, "n_": 2}
"""How many texts each of the functions of installer/guided/words.py takes."""
DATES = ("POT-Creation-Date", "PO-Revision-Date", "Generated-By")
"""Headers that would change without any word changing."""
HEADERS = {"Project-Id-Version": "Hyper-NixOS"}
HEAD = "# The words of the guided installer; written by `python -m tests.words`, the translations by people."
HEAD_OF_SENTENCES = (
    "# What planner, checks, probe and executor say, as the guided installer shows it; the places and order of the English"
    "\n# are those of the source: `python -m tests.words` collects them, people translate."
)


Text = str | list[str] | tuple[str, ...]
"""One text, or its singular and plurals."""


class Words(Catalog):
    """A catalogue without dates: the same words are the same bytes."""

    def __iter__(self) -> Iterator[Message]:
        """The head of the file, without what changes from day to day, then the messages."""
        messages = super().__iter__()
        head = next(messages)
        unwanted = (*DATES, "Report-Msgid-Bugs-To", "Last-Translator", "Language-Team")
        lines = [
            f"{name}: {HEADERS.get(name, value)}"
            for name, value in self.mime_headers
            if name not in unwanted
        ]
        yield Message("", "\n".join(lines), flags=head.flags)
        yield from messages


def collected() -> Iterator[tuple[Text, Path]]:
    """Every text that is shown in the person's language, with the file that it is from."""
    for file in sorted(GUIDED.rglob("*.py")):
        tree = ast.parse(file.read_text())
        for text in _marked(tree):
            yield text, file
        for field in fields(tree):
            if described := description(field):
                yield described, REPOSITORY / "installer/answers/model.py"
    for path, _node in every_field():
        if described := description(path):
            yield described, REPOSITORY / "installer/answers/model.py"
    for name, tier in TIERS.items():
        assert tier.summary, name
        yield tier.summary, REPOSITORY / "installer/answers/tiers.json"
    for feature in FEATURES.values():
        for text in (feature.risk, feature.summary, *feature.impacts):
            yield text, REPOSITORY / "installer/answers/features.json"


def _marked(tree: ast.Module) -> Iterator[Text]:
    """Texts in `_("…")` and `n_("…", "…", count)`, in order. By the syntax tree, which looks into f-strings too."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PARTS
    ]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        assert isinstance(call.func, ast.Name)
        texts = [
            part.value
            for part in call.args[: PARTS[call.func.id]]
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        if len(texts) == 2:
            yield texts[0], texts[1]
        elif len(texts) == PARTS[call.func.id]:
            yield texts[0]


def fields(tree: ast.Module) -> Iterator[tuple[str | int, ...]]:
    """The fields that questions decide; a number in a path that is reckoned is any."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "field" and isinstance(node.value, ast.Tuple):
            path = tuple(
                part.value if isinstance(part, ast.Constant) and isinstance(part.value, str | int) else 0
                for part in node.value.elts
            )
            assert node_at(path) is not None, path
            yield path


def template() -> Words:
    """All of it, untranslated."""
    words = Words(domain=DOMAIN, header_comment=HEAD, fuzzy=False)
    for text, file in collected():
        _add(words, text, "", [(str(file.relative_to(REPOSITORY)), 0)])
    return words


def said_by_others() -> Words:
    """What others say, untranslated. Without places, which would make it twice as long: `git grep` finds them."""
    words = Words(domain=SENTENCES, header_comment=HEAD_OF_SENTENCES, fuzzy=False)
    for text in sentences():
        words.add(text)
    return words


def _add(words: Words, text: Text, said: Text | None, places: list[tuple[str, int]]) -> Message:
    message = words.add(text, said, locations=places)
    # Babel's releases differ in which of these they set by themselves.
    message.flags = {"python-brace-format"} if "{" in str(text) else set()
    return message


def language(file: Path) -> str:
    """Of a catalogue."""
    return file.parent.parent.name


def translations() -> list[Path]:
    """Every language's catalogue."""
    return sorted(CATALOGUES.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))


def read(file: Path) -> Catalog:
    """A catalogue as people left it."""
    with file.open("rb") as content:
        return read_po(content, locale=language(file), domain=DOMAIN)


def of_sentences(spoken: str) -> Path:
    """A language's catalogue of what others say."""
    return CATALOGUES / spoken / f"{SENTENCES}.po"


def read_sentences(spoken: str) -> dict[str, Message]:
    """What others say, with the translations as people left them, by the English."""
    with of_sentences(spoken).open("rb") as content:
        return {str(message.id): message for message in read_po(content, locale=spoken) if message.id}


def merged_sentences(spoken: str) -> Words:
    """The sentences of now; for one that changed the old translation stays as a proposal (fuzzy)."""
    old = Catalog(locale=spoken)
    for message in read_sentences(spoken).values() if of_sentences(spoken).is_file() else ():
        old.add(message.id, message.string, flags=message.flags)
    old.update(said_by_others())
    return catalogue_of(spoken, old)


def catalogue_of(spoken: str, messages: Iterable[Message]) -> Words:
    """A catalogue of sentences."""
    words = Words(locale=spoken, domain=SENTENCES, header_comment=HEAD_OF_SENTENCES, fuzzy=False)
    for message in messages:
        if message.id:
            words.add(message.id, message.string).flags = {"fuzzy"} if message.fuzzy else set()
    return words


def text_of_sentences(words: Words) -> str:
    """As a .po file."""
    buffer = BytesIO()
    write_po(buffer, words, width=0, no_location=True, ignore_obsolete=True)
    return buffer.getvalue().decode()


def merged(file: Path) -> Words:
    """A translation with the texts of now; for one that changed the old translation stays as a proposal (fuzzy)."""
    old = read(file)
    old.update(template(), update_header_comment=True)
    words = Words(locale=language(file), domain=DOMAIN, header_comment=HEAD, fuzzy=False)
    for message in old:
        if message.id:
            fuzzy = message.fuzzy
            new = _add(words, message.id, message.string, message.locations)
            if fuzzy:
                new.flags |= {"fuzzy"}
    return words


def text(words: Words) -> str:
    """As a .po file. Without line numbers, which change with every line of the source."""
    buffer = BytesIO()
    write_po(buffer, words, width=0, include_lineno=False, ignore_obsolete=True)
    return buffer.getvalue().decode()


def compiled(words: Words) -> bytes:
    """As a .mo file."""
    buffer = BytesIO()
    write_mo(buffer, words)
    return buffer.getvalue()


def everything() -> dict[Path, bytes]:
    """Every generated file."""
    files = dict[Path, bytes]()
    for file in translations():
        words = merged(file)
        files[file] = text(words).encode()
        files[file.with_suffix(".mo")] = compiled(words)
    return files


def main() -> int:
    """Write them, and say what is left to translate."""
    arguments = argparse.ArgumentParser(prog="python -m tests.words", description=main.__doc__)
    arguments.add_argument("language", nargs="?", help="begin this language, for example fr")
    new: str | None = arguments.parse_args().language
    if new:
        begun = CATALOGUES / new / "LC_MESSAGES" / f"{DOMAIN}.po"
        begun.parent.mkdir(parents=True, exist_ok=True)
        if not begun.exists():
            begun.write_text(text(Words(locale=new, domain=DOMAIN, header_comment=HEAD, fuzzy=False)))
    for path, content in everything().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for file in translations():
        spoken = language(file)
        told = merged_sentences(spoken)
        of_sentences(spoken).write_text(text_of_sentences(told))
        for name, words in (("own words", merged(file)), ("words of others", told)):
            left = [message.id for message in words if message.id and not is_done(message)]
            print(f"{spoken}, {name}: {len(left)} to translate")
    return 0


def is_done(message: Message) -> bool:
    """Whether it is translated."""
    parts = message.string if isinstance(message.string, list | tuple) else (message.string,)
    return all(parts) and not message.fuzzy


if __name__ == "__main__":
    sys.exit(main())
