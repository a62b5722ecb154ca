"""Reading answer files: what is good loads, whatever is wrong is told with its line, field, value and remedy."""

import json
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from installer.answers.load import Format, format_of, load
from installer.answers.places import Places, json_places, toml_places
from installer.answers.problems import AnswersError, shown, shown_path
from installer.answers.problems import Path as Field
from installer.answers.schema import Node, answers_schema, child, children, fields, is_secret, resolved
from installer.answers.toml import toml, toml_key
from installer.errors import HyperError
from tests.answers import BAD, EXAMPLES, GOOD, told

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIdwULbT1sBmicY+BuQAax9uWakoQGrJI/raZywv7hUf anna@desk"
SMALL: dict[str, Any] = {
    "version": 1,
    "hostname": "kvm1",
    "storage": {"disk": {"serial": "DISK0"}},
    "users": [{"name": "anna", "admin": True, "ssh_keys": [KEY]}],
}
MARKER = "correct-horse-battery-staple"


@pytest.mark.parametrize("path", GOOD + EXAMPLES, ids=lambda path: path.stem)
def test_good_files_load(path: Path) -> None:
    answers = load(path.read_bytes(), path.name)
    assert load(answers.model_dump_json(indent=2).encode(), "again.json") == answers


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_bad_files_are_explained(path: Path) -> None:
    expected = path.with_suffix(path.suffix + ".txt").read_text()
    assert expected
    assert told(path) == expected
    assert max(map(len, expected.splitlines())) <= 80


def test_toml_and_json_say_the_same() -> None:
    from_json = load(json.dumps(SMALL).encode(), "a.json")
    text = "".join(f"{key} = {toml(value)}\n" for key, value in SMALL.items())
    assert load(text.encode(), "a.toml") == from_json
    assert load(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(), "a.toml") == from_json
    assert format_of("A.JSON") is Format.json


# Every wrong type for every field ---------------------------------------------------------------------------------

WRONG: dict[str, Any] = {
    "string": "text",
    "integer": 7,
    "number": 7.5,
    "boolean": True,
    "array": ["text"],
    "object": {"text": 1},
}


def _accepted(node: Node) -> str:
    return str(node.get("type") or "object")


def _table(node: Node) -> dict[str, Any]:
    """The least that a table needs."""
    return {name: _value(children(node)[name]) for name in node.get("required", ())}


def _value(node: Node) -> Any:
    if examples := node.get("examples"):
        return examples[0]
    if choices := node.get("enum", [node["const"]] if "const" in node else None):
        return choices[0]
    match _accepted(node):
        case "string":
            return "text"
        case "integer":
            return node.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return [_value(child(node, 0) or {})]
        case _:
            return _table(node)


def _document(path: Field, value: Any) -> dict[str, Any]:
    """A file in which everything is right but one field."""
    document: Any = json.loads(json.dumps(SMALL))
    here, node = document, resolved(answers_schema())
    for part, following in pairwise(path):
        node = child(node, part) or {}
        if isinstance(part, int):
            here = here[part]
        else:
            fresh = [_value(child(node, 0) or {})] if isinstance(following, int) else _table(node)
            here = here.setdefault(part, fresh)
    here[path[-1]] = value
    return dict(document)


def _wrong_types() -> Iterator[tuple[Field, str]]:
    for path, node in fields():
        places = [(path, node)]
        if "items" in node:
            places.append(((*path, 0), child(node, 0) or {}))
        for place, inner in places:
            for kind in WRONG:
                if kind != _accepted(inner):
                    yield place, kind


@pytest.mark.parametrize(
    ("path", "kind"), list(_wrong_types()), ids=lambda value: str(value).replace(" ", "")
)
def test_every_wrong_type_is_told(path: Field, kind: str) -> None:
    value = WRONG[kind]
    if path[-1] == "prompt":
        document = _document(path[:-1], {"prompt": value})
    elif isinstance(path[-1], int):
        document = _document(path[:-1], [value])
    else:
        document = _document(path, value)
    text = json.dumps(document, indent=1)
    with pytest.raises(AnswersError) as caught:
        load(text.encode(), "wrong.json")
    problem = next(problem for problem in caught.value.problems if problem.path == path)
    assert problem.line == _line_of(path, text)
    assert problem.remedy
    assert shown_path(path) in str(caught.value).replace("\n      ", " ")
    if is_secret(path):
        assert problem.value in {"(a secret, not repeated)", "[ … ]", "{ … }"}
    else:
        assert problem.value in {shown(value), "(not repeated)"}


def _line_of(path: Field, text: str) -> int:
    """The line of a field in JSON with one field a line, found by its value alone."""

    def marked(value: Any, rest: Field) -> Any:
        if not rest:
            return "\x01here"
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        copy[rest[0]] = marked(value[rest[0]], rest[1:])
        return copy

    lines = json.dumps(marked(json.loads(text), path), indent=1).splitlines()
    return next(number for number, line in enumerate(lines, 1) if "\\u0001here" in line)


@pytest.mark.parametrize(
    ("path", "value"), [(("version",), True), (("storage", "encryption", "passphrase"), {"prompt": 1})]
)
def test_numbers_and_truth_are_not_the_same(path: Field, value: Any) -> None:
    with pytest.raises(AnswersError):
        load(json.dumps(_document(path, value)).encode(), "wrong.json")


def test_every_field_is_reached() -> None:
    """The table of wrong types covers the model, however it grows."""
    paths = {path for path, _ in _wrong_types()}
    assert {path for path, _ in fields()} <= paths
    assert len(paths) > 100


# Anything at all --------------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def _tell(data: bytes, name: str) -> str:
    """What is said of a file; anything but an answer or a HyperError is a crash."""
    try:
        load(data, name)
    except HyperError as error:
        text = str(error)
        assert all(char == "\n" or char.isprintable() for char in text), text
        return text
    return ""


@given(st.sampled_from(GOOD + EXAMPLES), st.data())
def test_mutilated_files_never_crash(path: Path, data: st.DataObject) -> None:
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    _tell(content[:start] + data.draw(st.binary(max_size=6)) + content[end:], path.name)
    _tell(content[:start], path.name)


@given(st.sampled_from([path for path, _ in fields()]), JSON_VALUES)
def test_strange_values_never_crash(path: Field, value: Any) -> None:
    if "prompt" not in path:
        _tell(json.dumps(_document(path, value)).encode(), "strange.json")


@given(st.binary(max_size=60), st.sampled_from(["a.toml", "a.json"]))
def test_noise_never_crashes(data: bytes, name: str) -> None:
    assert _tell(data, name)


@given(st.text(max_size=60), st.sampled_from(["a.toml", "a.json"]))
def test_text_never_crashes(text: str, name: str) -> None:
    assert _tell(text.encode("utf-8", "surrogatepass"), name)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000, "a = " + "9" * 5_000, "a = 0001-01-01T00:00:00+23:59"]
)
def test_hostile_toml_is_refused(text: str) -> None:
    assert _tell(text.encode(), "a.toml")


def test_a_large_file_is_refused() -> None:
    assert "larger than 4 MiB" in _tell(b"#" * (5 << 20), "a.toml")


# Secrets ----------------------------------------------------------------------------------------------------------

PLANTS: tuple[Any, ...] = (
    MARKER,
    [MARKER],
    {"file": MARKER},
    {MARKER: 1},
    {"prompt": MARKER},
    {"file": [MARKER]},
)
SECRET_PLACES: tuple[Field, ...] = (
    ("users", 0, "password_hash"),
    ("users", 0, "password_hash_file"),
    ("users", 0, "password"),
    ("users", 0, "passwd_hash"),
    ("users",),
    ("storage", "encryption"),
    ("storage", "encryption", "passphrase"),
    ("storage", "encryption", "pass_phrase"),
    ("storage",),
    ("passphrase",),
)


def _forms(value: Any) -> Iterator[tuple[bytes, str]]:
    yield json.dumps(value).encode(), "a.json"
    yield "".join(f"{key} = {toml(inner)}\n" for key, inner in value.items()).encode(), "a.toml"


@pytest.mark.parametrize("path", SECRET_PLACES, ids=shown_path)
@pytest.mark.parametrize("plant", PLANTS, ids=repr)
def test_secrets_are_never_repeated(path: Field, plant: Any) -> None:
    if path[-1] in {"users", "encryption", "storage"} and MARKER in (
        plant if isinstance(plant, dict) else ()
    ):
        return  # an unknown key in an ordinary table is named: that is what is wrong with it
    for data, name in _forms(_document(path, plant)):
        with pytest.raises(AnswersError) as caught:
            load(data, name)
        assert MARKER not in f"{caught.value} {caught.value.why} {caught.value.problems!r} {caught.value!r}"


@given(st.data())
def test_secrets_are_not_repeated_by_syntax_errors(data: st.DataObject) -> None:
    text = f'version = 1\n[[users]]\nname = "anna"\npassword_hash = "{MARKER}"\nadmin = true\n'.encode()
    start = data.draw(st.integers(0, text.index(MARKER.encode())))
    for mutated in (
        text[:start],
        text[:start] + data.draw(st.binary(min_size=1, max_size=2)) + text[start:],
    ):
        assert MARKER not in _tell(mutated, "a.toml")


def test_secrets_are_not_in_the_representation() -> None:
    hashed = "$y$j9T$H3eyyY4Tv4hzGBR8ybuhB.$3jZduENmF4HEsB03IPecO9mznGE9136xjC59tQf/i0C"
    answers = load(json.dumps(_document(("users", 0, "password_hash"), hashed)).encode(), "a.json")
    assert answers.users[0].password_hash == hashed
    assert hashed not in repr(answers)


# Positions --------------------------------------------------------------------------------------------------------


def _paths(value: Any, path: Field = ()) -> Iterator[Field]:
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TOML_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def _written(table: dict[str, Any], path: tuple[str, ...], data: st.DataObject) -> str:
    """The same table as TOML, with headers, dotted keys or inline as chance has it."""
    lines: list[str] = []
    later: list[str] = []
    for key, value in table.items():
        header = ".".join(map(_key, (*path, key)))
        if isinstance(value, dict) and data.draw(st.booleans()):
            later += [f"[{header}]  # table", _written(value, (*path, key), data)]
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for one in value:
                later += [f"\n[[ {header} ]]", _written(one, (*path, key), data)]
        elif isinstance(value, dict) and value and data.draw(st.booleans()):
            lines += [f"{_key(key)} . {_key(inner)}={toml(one)}" for inner, one in value.items()]
        elif isinstance(value, list) and value:
            lines.append(f"{_key(key)} = [ # list\n" + ",\n".join(map(toml, value)) + ", ]")
        else:
            lines.append(f"{_key(key)} = {toml(value)}")
    return "\n".join([*lines, *later, ""])


def _key(key: str) -> str:
    return toml_key(key)


@given(st.dictionaries(TEXT, TOML_VALUES, max_size=4), st.data())
def test_toml_positions_follow_the_parser(table: dict[str, Any], data: st.DataObject) -> None:
    text = _written(table, (), data)
    assert tomllib.loads(text) == table
    _hold(toml_places(text), table, text)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.sampled_from([None, 0, 2]))
def test_json_positions_follow_the_parser(table: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(table, indent=indent)
    _hold(json_places(text), table, text)


def _hold(places: Places, table: dict[str, Any], text: str) -> None:
    assert set(places.of) == set(_paths(table))
    lines = text.split("\n")
    for path, (line, column) in places.of.items():
        rest = lines[line - 1][column - 1 :]
        key = next((part for part in reversed(path) if isinstance(part, str)), "")
        if isinstance(path[-1], str) and not rest.startswith("["):
            written = {_key(part) for part in path if isinstance(part, str)} | {json.dumps(key)}
            assert rest.startswith(tuple(written)), (path, rest)


@pytest.mark.parametrize("path", GOOD + EXAMPLES, ids=lambda path: path.stem)
def test_every_field_of_real_files_has_a_position(path: Path) -> None:
    text = path.read_text()
    assert set(toml_places(text).of) == set(_paths(tomllib.loads(text)))


@pytest.mark.parametrize(
    "text",
    [
        'a = """x""""\nb = 1',
        "a = '''\n'x'''''\nb = 1",
        'a = "\\"#"\nb = 1',
        "a = 1979-05-27 07:32:00Z # c\nb = 1",
    ],
)
def test_odd_strings_are_stepped_over(text: str) -> None:
    places = toml_places(text)
    assert set(places.of) == {("a",), ("b",)} == {(key,) for key in tomllib.loads(text)}
    assert places.of["b",] == (text.count("\n") + 1, 1)


def test_a_table_stands_where_its_header_is() -> None:
    places = toml_places("[a.b]\nx = 1\n[a]\ny = 1\n[[c]]\n[[c]]\n[c.d]\nz = 1\n")
    found = {shown_path(path): place.line for path, place in places.of.items()}
    assert found == {
        "a": 3,
        "a.b": 1,
        "a.b.x": 2,
        "a.y": 4,
        "c": 5,
        "c[0]": 5,
        "c[1]": 6,
        "c[1].d": 7,
        "c[1].d.z": 8,
    }
