"""Files with secrets that an answer file names."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from installer.answers.model import Answers, SecretFile


def secret_files(answers: Answers) -> tuple[Path, ...]:
    """All of them, wherever they are named."""
    return tuple(dict.fromkeys(Path(found.file) for found in _found(answers)))


def _found(value: object) -> Iterator[SecretFile]:
    match value:
        case SecretFile():
            yield value
        case BaseModel():
            for name in type(value).model_fields:
                yield from _found(getattr(value, name))
        case tuple():
            for inner in value:
                yield from _found(inner)
        case _:
            return
