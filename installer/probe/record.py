"""A machine written down: everything the probe asked, with the answers, in one text file.

One readable JSON file, `machine.json`, and one line per path: it shows in a review what is told of a machine and
what changed, where thousands of files of a copied sysfs would not, and nothing is in it that the probe did not read.
"""

import json
import os
from collections.abc import Iterable, Mapping

from installer.errors import Exit, HyperError
from installer.probe.root import Root

FILE = "machine.json"
VERSION = 1
TEXT_SECTIONS = ("files", "data", "links", "answers", "problems")
"""Sections whose values are text: files, binary files in hexadecimal, where links lead, answers of
`installer.probe.questions` by `kind key`, and why a path could not be read."""
LIST_SECTIONS = ("folders",)
SECTIONS = (*TEXT_SECTIONS, *LIST_SECTIONS, "udev")
BINARY = ("/sys/firmware/",)
"""Where files are not text."""


class Record:
    """What a root answered; sections are described at `TEXT_SECTIONS`, `folders` lists names, `udev` properties."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.data: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.answers: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        self.folders: dict[str, list[str]] = {}
        self.udev: dict[str, dict[str, str]] = {}

    def dumps(self) -> str:
        """The file's text: sections and paths sorted, one line per path; long files are lists of lines."""
        parts = [f'"version": {VERSION}']
        for section in SECTIONS:
            entries = [
                f"  {json.dumps(key, ensure_ascii=False)}: {_value(value)}"
                for key, value in sorted(getattr(self, section).items())
            ]
            body = ",\n".join(entries)
            parts.append(f'"{section}": {{\n{body}\n}}' if entries else f'"{section}": {{}}')
        return "{\n" + ",\n".join(parts) + "\n}\n"


def _value(value: object) -> str:
    if isinstance(value, str) and "\n" in value:
        value = value.split("\n")
    if isinstance(value, list) and sum(len(text) for text in value) > 80:
        return "[\n" + ",\n".join(f"    {json.dumps(text, ensure_ascii=False)}" for text in value) + "]"
    if isinstance(value, dict):
        pairs = [
            f"    {json.dumps(key)}: {json.dumps(text, ensure_ascii=False)}"
            for key, text in sorted(value.items())
        ]
        return "{\n" + ",\n".join(pairs) + "}"
    return json.dumps(value, ensure_ascii=False)


class RecordingRoot(Root):
    """Answers from another root and writes down what it answered."""

    def __init__(self, inner: Root) -> None:
        self._inner = inner
        self.record = Record()

    def data(self, path: str) -> bytes | None:
        content = self._inner.data(path)
        if content is None:
            self._problem(path)
        elif path.startswith(BINARY):
            self.record.data[path] = content.hex()
        else:
            self.record.files[path] = content.decode("utf-8", "replace").rstrip("\n\0")
        return content

    def names(self, path: str) -> tuple[str, ...]:
        found = self._inner.names(path)
        if found:
            self.record.folders[path] = list(found)
        else:
            self._problem(path)
        return found

    def real(self, path: str) -> str | None:
        found = self._inner.real(path)
        if found is not None:
            self.record.links[path] = found
        else:
            self._problem(path)
        return found

    def udev(self, device: str) -> Mapping[str, str]:
        found = self._inner.udev(device)
        if found:
            self.record.udev[device] = dict(found)
        return found

    def ask(self, kind: str, key: str) -> str | None:
        answer = self._inner.ask(kind, key)
        if answer is not None:
            self.record.answers[f"{kind} {key}".strip()] = answer
        return answer

    def why(self, path: str) -> str:
        return self._inner.why(path)

    def silent(self, path: str) -> bool:
        return self._inner.silent(path)

    def _problem(self, path: str) -> None:
        """Only what is there and yet unreadable is worth a line."""
        reason = self._inner.why(path).removeprefix(f"{path}: ")
        if reason != MISSING:
            self.record.problems[path] = reason


MISSING = os.strerror(2)


class ReplayRoot(Root):
    """A recorded machine."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def data(self, path: str) -> bytes | None:
        text = self._record.files.get(path)
        if text is not None:
            return text.encode()
        try:
            return bytes.fromhex(self._record.data[path])
        except (KeyError, ValueError):
            return None

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(self._record.folders.get(path, ()))

    def real(self, path: str) -> str | None:
        return self._record.links.get(path)

    def udev(self, device: str) -> Mapping[str, str]:
        return self._record.udev.get(device, {})

    def ask(self, kind: str, key: str) -> str | None:
        return self._record.answers.get(f"{kind} {key}".strip())

    def why(self, path: str) -> str:
        return f"{path}: {self._record.problems.get(path, MISSING)}"


def save(record: Record, folder: str) -> str:
    """Writes the record into a folder, made if need be; gives the file's path."""
    path = os.path.join(folder, FILE)  # noqa: PTH118
    try:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(record.dumps())
    except OSError as error:
        raise HyperError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            remedy="name a folder that you may write to",
            code=Exit.record,
        ) from error
    return path


def load(folder: str) -> Record:
    """Reads a record; `HyperError` names what is wrong with it."""
    path = os.path.join(folder, FILE)  # noqa: PTH118
    remedy = "make a new record with `hv probe --record DIR` on the machine"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            found = json.load(file)
    except OSError as error:
        raise HyperError(
            f"{path} cannot be read", why=error.strerror or str(error), remedy=remedy, code=Exit.record
        ) from error
    except (ValueError, RecursionError) as error:
        raise HyperError(f"{path} is not JSON", why=str(error), remedy=remedy, code=Exit.record) from error
    try:
        return _checked(found)
    except ValueError as error:
        raise HyperError(
            f"{path} is not a record of a machine", why=str(error), remedy=remedy, code=Exit.record
        ) from error


def _checked(found: object) -> Record:
    """Sections may be missing; what is there must have the right type."""
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} stands where an object should")
    version = found.get("version")
    if version != VERSION:
        raise ValueError(f"version is {version!r}, this program reads {VERSION}")
    unknown = sorted(found.keys() - {"version", *SECTIONS})
    if unknown:
        raise ValueError(f"unknown section {unknown[0]!r}")
    record = Record()
    for section in TEXT_SECTIONS:
        getattr(record, section).update(
            {_clean(key): _text(section, key, value) for key, value in _object(found, section)}
        )
    for key, value in _object(found, "folders"):
        record.folders[_clean(key)] = sorted(_texts("folders", key, value))
    for key, value in _object(found, "udev"):
        if not isinstance(value, dict):
            raise _wrong("udev", key, value, "an object")
        record.udev[_clean(key)] = {
            _clean(name): _text("udev", f"{key} {name}", text) for name, text in value.items()
        }
    return record


def _object(found: dict[str, object], section: str) -> Iterable[tuple[str, object]]:
    value = found.get(section, {})
    if not isinstance(value, dict):
        raise _wrong(section, "", value, "an object")
    return value.items()


def _text(section: str, key: str, value: object) -> str:
    if isinstance(value, str):
        return _clean(value)
    return "\n".join(_texts(section, key, value))


def _texts(section: str, key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _wrong(section, key, value, "text or a list of texts")
    return [_clean(text) for text in value]


def _clean(text: str) -> str:
    """JSON can hold halves of characters, which no output takes."""
    return text.encode("utf-8", "replace").decode()


def _wrong(section: str, key: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{section} {key!r} is {type(value).__name__}, not {expected}")
