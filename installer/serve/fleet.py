"""`fleet.toml`: which machine gets which answers. And who a machine that asks is. Pure, but for reading the folder."""

import tomllib
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from installer.answers.load import load
from installer.answers.model import Mac, SecretFile
from installer.errors import Exit, HyperError
from installer.frozen import Frozen
from installer.probe.identity import Identity

FILE = "fleet.toml"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


def _below(path: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError("names a path below the folder, without ..")
    return path


Below = Annotated[str, AfterValidator(_below)]
"""A path below the folder."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Value = str | int | bool


class Match(Frozen):
    """Which machine. All conditions must hold."""

    serial: str | None = None
    """Serial number of the system, exactly."""
    uuid: str | None = None
    """UUID of the system, upper or lower case."""
    mac: Mac | None = None
    """Permanent address of one of its network cards, upper or lower case."""
    facts: dict[str, Value] = Field(default={})
    """Facts by their place in `hv probe --json`: `"firmware.product" = "PowerEdge*"`; a place with lists in it fits if
    one of their elements does."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.serial or self.uuid or self.mac or self.facts):
            raise ValueError("says no condition, so that every machine would fit")
        return self


class Machine(Frozen):
    """One entry."""

    name: Name
    """What it is called here."""
    answers: Below
    """Answer file, below the folder."""
    secrets: Below | None = None
    """Folder with secrets, below the folder; its files are handed out with the answers."""
    hand_out: Literal["once", "always"] = "once"
    """`once`: to the first machine that fits and to no other, until it was installed; `always`: whenever asked."""
    token_sha256: Digest | None = None
    """SHA-256 of the token that the machine must show; it is embedded in its medium as `secrets/answers-token`."""
    match: Match
    """Which machine it is for."""


class Fleet(Frozen):
    """The whole file."""

    version: Literal[1]
    """Format of the file; 1."""
    webhook_secret: SecretFile | None = None
    """Key with which machines sign their events; without it events are taken unsigned."""
    machines: tuple[Machine, ...] = Field(alias="machine", default=())
    """Entries."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [machine.name for machine in self.machines]
        twice = (
            sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        )
        if twice:
            raise ValueError(f"the name {twice[0]} stands twice")
        return self


@dataclass(frozen=True)
class Refusal:
    """Why a machine gets nothing."""

    status: int
    """State of HTTP."""
    why: str
    """For people; goes to the machine, so that it names no other."""


@dataclass(frozen=True)
class Chooser:
    """Finds the entry for a machine: by serial number, UUID and MAC at once, by facts alone one by one."""

    fleet: Fleet

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], list[Machine]]:
        found: dict[tuple[str, str], list[Machine]] = defaultdict(list)
        for machine in self.fleet.machines:
            found[_key(machine.match)].append(machine)
        return dict(found)

    def choose(self, identity: Identity, facts: object) -> Machine | Refusal:
        """The one entry that fits."""
        keys: list[tuple[str, str]] = [("", "")]
        keys += [("serial", identity.serial)] if identity.serial else []
        keys += [("uuid", identity.uuid.lower())] if identity.uuid else []
        keys += [("mac", mac.lower()) for mac in dict.fromkeys(identity.macs)]
        fitting = [
            machine
            for key in keys
            for machine in self._by_key.get(key, ())
            if fits(machine.match, identity, facts)
        ]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            return Refusal(404, "no entry fits this machine")
        return Refusal(409, f"{len(fitting)} entries fit this machine, one is expected")


def _key(match: Match) -> tuple[str, str]:
    """The condition by which an entry is found."""
    if match.serial:
        return "serial", match.serial
    if match.uuid:
        return "uuid", match.uuid.lower()
    return ("mac", match.mac.lower()) if match.mac else ("", "")


def fits(match: Match, identity: Identity, facts: object) -> bool:
    """Whether every condition holds; what a machine lacks does not fit."""
    return (
        (match.serial is None or match.serial == identity.serial)
        and (match.uuid is None or match.uuid.lower() == (identity.uuid or "").lower())
        and (match.mac is None or match.mac.lower() in {mac.lower() for mac in identity.macs})
        and all(_holds(facts, path.split("."), value) for path, value in match.facts.items())
    )


def _holds(found: object, path: list[str], wanted: Value) -> bool:
    if isinstance(found, list):
        return any(_holds(each, path, wanted) for each in found)
    if path:
        return isinstance(found, dict) and path[0] in found and _holds(found[path[0]], path[1:], wanted)
    if isinstance(wanted, str):
        return isinstance(found, str) and fnmatchcase(found, wanted)
    return type(found) is type(wanted) and found == wanted


def read_fleet(folder: Path) -> Fleet:
    """The fleet of a folder, with every file that it names looked at.

    Raises:
        HyperError: the file, or one that it names, is not as it should be (Exit.answers).
    """
    path = folder / FILE
    try:
        fleet = Fleet.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad(path, f"it is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _bad(path, f"{_named(first['loc'])}: {first['msg'].removeprefix('Value error, ')}") from None
    seen: set[str] = set()
    for machine in fleet.machines:
        if machine.answers not in seen:
            load(_read(folder, machine.answers), machine.answers)  # raises everything that is wrong with it
            seen.add(machine.answers)
        if machine.secrets and not (folder / machine.secrets).is_dir():
            raise _bad(path, f"{machine.name}: there is no folder {machine.secrets}")
    return fleet


def contents(folder: Path, machine: Machine) -> tuple[bytes, dict[str, bytes]]:
    """Answers and secrets of an entry. Raises HyperError."""
    secrets = {}
    if machine.secrets:
        for path in sorted((folder / machine.secrets).iterdir()):
            if path.is_file():
                secrets[path.name] = path.read_bytes()
    return _read(folder, machine.answers), secrets


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise _bad(folder / name, error.strerror or str(error)) from error


def _named(place: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in place) or "the whole file"


def _bad(path: Path, why: str) -> HyperError:
    return HyperError(
        f"the fleet cannot be read: {path}",
        why=why,
        remedy="correct it; docs/answers-server.md shows a whole one",
        code=Exit.answers,
    )
