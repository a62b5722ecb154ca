"""The installation's log, and the one place where secrets are taken out of text."""

import copy
import json
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

MARK = "<secret>"


class Redactor:
    """Replaces every known secret by a mark, also where it appears inside a JSON string."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: bytes) -> None:
        """Remember a secret; the empty one would match everywhere and is left out."""
        text = secret.decode(errors="replace")
        forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}
        self._secrets |= {form for form in forms if form}
        if self._secrets:
            longest_first = sorted(self._secrets, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        return self._pattern.sub(MARK, text) if self._pattern else text


class Log:
    """Appends lines with the time in UTC; what is written went through the redactor."""

    def __init__(self, path: Path, redact: Redactor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.redact = redact
        self._file = path.open("a", encoding="utf-8", errors="replace")
        self._writing = threading.Lock()
        self._whose = ""
        path.chmod(0o600)

    def of(self, name: str) -> Self:
        """The same log for what goes on beside other things: each line says whose it is."""
        log = copy.copy(self)
        log._whose = f"[{name}] "
        return log

    def write(self, text: str) -> None:
        """Add each line of the text."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = "".join(f"{now} {self._whose}{line}\n" for line in self.redact(text).splitlines())
        with self._writing:
            self._file.write(lines)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NoLog(Log):
    """Keeps nothing: for questions that are asked again and again."""

    def __init__(self) -> None:
        self.redact = Redactor()

    def of(self, name: str) -> Self:  # noqa: ARG002
        """The same."""
        return self

    def write(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
