"""The history of a declaration: what each change was, whoever made it, and how it ended."""

import json
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hv.firstrun.world import World, to_json, write_atomically
from hv.guard.state import FOLDER, Outcome, StateFolder
from hv.history import FILE
from installer.errors import Exit, HyperError
from installer.frozen import Frozen

RECORDS = "/var/lib/hyper-nixos/setup/history"
"""One file a change."""
WAITS = "waits to be confirmed"
NEVER = "did not begin"
"""Refused, or the power went before anything was switched."""
WRITTEN = "written"
"""Nothing of the system changed with it: there was nothing to confirm."""


class Record(Frozen):
    """One change."""

    version: Literal[1] = 1
    """Format."""
    number: int
    """From 1."""
    at: datetime
    """When it was made."""
    who: str
    """Who made it."""
    summary: str
    """The changed fields, in a line."""
    before: str
    """host.toml, as the modules were written from it before."""
    after: str
    """host.toml, as the change wanted it."""

    @property
    def what(self) -> str:
        """What the guard and the host's history call it."""
        return f"setup {self.number}: {self.summary}"


def records(world: World) -> tuple[Record, ...]:
    """Every change, the oldest first. A damaged record is left out: it is no way back any more."""
    found = []
    folder = world.path(RECORDS)
    for file in folder.glob("*.json") if folder.is_dir() else ():
        try:
            found.append(Record.model_validate_json(file.read_bytes()))
        except (OSError, ValidationError):
            continue
    return tuple(sorted(found, key=lambda each: each.number))


def next_number(world: World) -> int:
    """One more than any file there, damaged or not."""
    folder = world.path(RECORDS)
    names = [file.stem for file in folder.glob("*.json")] if folder.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def keep(world: World, record: Record) -> None:
    """Write it, for good."""
    write_atomically(world.path(f"{RECORDS}/{record.number}.json"), to_json(record.model_dump(mode="json")))


def outcomes(world: World, found: tuple[Record, ...]) -> dict[int, str]:
    """How each ended, by the host's history: `confirmed`, `reverted`, …; or that it waits, or never began."""
    pending = StateFolder(world.path(FOLDER)).pending()
    log = world.path(FILE)
    ended: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the power went while it was written
        if entry.get("action") in {*Outcome, WRITTEN}:
            ended[str(entry.get("what"))] = str(entry["action"])
    waiting = pending.what if pending else None
    return {each.number: WAITS if each.what == waiting else ended.get(each.what, NEVER) for each in found}


def find(world: World, number: int) -> Record:
    """A change by its number. Raises HyperError."""
    found = records(world)
    for each in found:
        if each.number == number:
            return each
    raise HyperError(
        f"There is no change {number}.",
        why=f"the history has {', '.join(str(each.number) for each in found) or 'none yet'}",
        remedy="Take a number from `hv setup history`.",
        code=Exit.usage,
    )


def undone(now: str, record: Record) -> dict[str, Any]:
    """The declaration without a change: its fields as they were before it, every other as it is now.

    Raises HyperError when a later change, or a person, has changed the same field since.
    """
    old, new = tomllib.loads(record.before), tomllib.loads(record.after)
    result: dict[str, Any] = _undone(tomllib.loads(now), new, old, ())
    return result


def _undone(now: Any, after: Any, before: Any, path: tuple[str, ...]) -> Any:
    if after == before:
        return now
    if now == after:
        return before
    if all(isinstance(each, Mapping) for each in (now, after, before)):
        result = {}
        for name in dict.fromkeys((*before, *now, *after)):
            made = _undone(now.get(name), after.get(name), before.get(name), (*path, name))
            if made is not None:
                result[name] = made
        # In the order of what stands there now.
        order = [*now, *(name for name in result if name not in now)]
        return {name: result[name] for name in order if name in result}
    named = _by_name(now), _by_name(after), _by_name(before)
    if all(each is not None for each in named):
        return list(_undone(*named, path).values())
    raise HyperError(
        f"{'.'.join(path)} was changed again since: it cannot go back by itself.",
        why="going back would undo what was done later",
        remedy="Set the fields as you want them: `hv setup --set FIELD=VALUE`.",
        code=Exit.busy,
    )


def _by_name(tables: Any) -> dict[str, Any] | None:
    if not isinstance(tables, list) or not all(
        isinstance(each, Mapping) and "name" in each for each in tables
    ):
        return None
    return {str(each["name"]): each for each in tables}


def host_files(folder: Path) -> dict[str, str]:
    """Every file of /etc/nixos that is text; a repository's own folder is left out."""
    found = {}
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        inside = file.relative_to(folder)
        if file.is_file() and ".git" not in inside.parts:
            try:
                found[str(inside)] = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return found
