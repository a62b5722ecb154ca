"""Our NixOS modules as their text has them: the options that they declare, and those that they set.

The flake and nix/modules are where reading begins; `imports` are followed. tests/nixeval/options.py holds what is set
against the tree of options.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.nixeval.nix import REPOSITORY
from tests.nixeval.reader import (
    OPEN,
    Function,
    Native,
    Option,
    Place,
    Reader,
    Rest,
    Unknown,
    alternatives,
    elements,
    force,
    select,
)

Structure = Mapping[str, Any]
SELF = "self."
"""Modules of our own flake that the flake refers to."""
NO_DEFINITIONS = {
    "imports",
    "disabledModules",
    "options",
    "config",
    "freeformType",
    "key",
    "meta",
    "_class",
    "_file",
}
"""What a module has beside definitions (nixpkgs' lib/modules.nix)."""
RENAMED = {
    "port": "unsignedInt16",
    "lines": "separatedString",
    "commas": "separatedString",
    "envVar": "separatedString",
    "ints.unsigned": "unsignedInt",
    "ints.positive": "positiveInt",
    "ints.between": "intBetween",
    "ints.u8": "unsignedInt8",
    "ints.u16": "unsignedInt16",
    "ints.u32": "unsignedInt32",
    "nonEmptyListOf": "listOf",
}
"""Types whose own name is another than what one writes."""
ONE_INSIDE = {"listOf", "nonEmptyListOf", "nullOr", "attrsOf", "lazyAttrsOf", "uniq"}
SAME = {"addCheck": 0, "unique": 1}
"""Types that are one of their arguments, and which."""
ELEMENT = {"listOf": "*", "nonEmptyListOf": "*", "attrsOf": OPEN, "lazyAttrsOf": OPEN}
"""How a path goes on inside of a type."""


@dataclass(frozen=True)
class Module:
    """What one module says."""

    origin: str
    """File, or flake.nix."""
    medium: bool
    """Whether it is for the live medium: with NixOS's own modules for those."""
    options: Any
    config: Any


@dataclass
class Found:
    """All modules of the repository."""

    root: Path
    reader: Reader = field(default_factory=Reader)
    modules: list[Module] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)
    """Files that are modules."""
    upstream: set[str] = field(default_factory=set)
    """Modules of nixpkgs that ours import, below nixos/modules."""
    not_followed: list[str] = field(default_factory=list)
    """Modules that only an evaluation tells."""

    def add(self, value: Any, origin: Path, *, medium: bool) -> None:
        """A module, and what it imports."""
        for each in alternatives(value):
            match each:
                case Place(None, below):
                    self.upstream.add(below)
                case Place():
                    self._file(each, origin, medium=medium)
                case Function():
                    self.add(self.reader.apply(each, {}), origin, medium=medium)
                case dict():
                    self._module(each, origin, medium=medium)
                case Unknown(text) if text.startswith(SELF):
                    pass
                case _:
                    text = each.text if isinstance(each, Unknown | Rest) else type(each).__name__
                    self.not_followed.append(f"{origin.relative_to(self.root)}: module {text}")

    def _file(self, place: Place, origin: Path, *, medium: bool) -> None:
        path = place.path
        assert path
        if path.is_dir():
            path /= "default.nix"
        if not path.is_file():
            self.not_followed.append(f"{origin.relative_to(self.root)}: there is no {place.below}")
        elif path not in self.files:
            self.files.add(path)
            below_iso = path.is_relative_to(self.root / "iso")
            self.add(self.reader.file(path), path, medium=medium and below_iso)

    def _module(self, value: Mapping[str, Any], origin: Path, *, medium: bool) -> None:
        for each in elements(value.get("imports", [])):
            self.add(Unknown(each.text) if isinstance(each, Rest) else each, origin, medium=medium)
        if value.keys() & {"options", "config"}:
            config = value.get("config", {})
        else:
            config = {name: inner for name, inner in value.items() if name not in NO_DEFINITIONS}
        name = str(origin.relative_to(self.root))
        self.modules.append(Module(name, medium, value.get("options", {}), config))


def found(root: Path = REPOSITORY) -> Found:
    """The modules of nix/modules and of the flake, with the live medium's."""
    return _found(root)


@cache
def _found(root: Path) -> Found:
    result = Found(root)
    result.add(Place(root, "/nix/modules"), root / "flake.nix", medium=False)
    flake = root / "flake.nix"
    outputs = result.reader.apply(
        select(result.reader.file(flake), "outputs"),
        {
            "self": Unknown("self"),
            "nixpkgs": {"lib": Native("lib"), "legacyPackages": Unknown("legacyPackages")},
        },
    )
    for module in _values(select(outputs, "nixosModules")):
        result.add(module, flake, medium=False)
    # A host that only a module of the live medium leads to.
    result.add(Place(root, "/iso/live/sampler.nix"), flake, medium=False)
    _deeply(outputs)
    for arguments in result.reader.systems:
        for module in elements(select(arguments, "modules")):
            result.add(Unknown(module.text) if isinstance(module, Rest) else module, flake, medium=True)
    return result


def _values(value: Any) -> Iterator[Any]:
    for each in alternatives(value):
        if isinstance(each, dict):
            yield from each.values()


def _deeply(value: Any, depth: int = 12) -> None:
    """Read everything inside of a value, for what is met on the way."""
    for each in alternatives(value) if depth else ():
        for inner in each.values() if isinstance(each, dict) else each if isinstance(each, list) else ():
            _deeply(inner, depth - 1)


# What modules declare.


def declared(root: Path = REPOSITORY) -> dict[str, Structure]:
    """Every option that our modules declare, by its pattern, as the fixture has those of NixOS."""
    options: dict[str, Structure] = {}
    for module in found(root).modules:
        options |= dict(declarations(found(root).reader, module.options))
    return options


def declarations(
    reader: Reader, options: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Structure]]:
    """Options below a set of them, and those of submodules."""
    for each in alternatives(options):
        match each:
            case Option(attributes):
                yield ".".join(path), structure(attributes.get("type"))
                yield from _inside(reader, attributes.get("type"), path)
            case dict():
                for name, inner in each.items():
                    yield from declarations(reader, inner, (*path, name))


def _inside(reader: Reader, kind: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Structure]]:
    """Options of the submodules in a type."""
    for each in alternatives(kind):
        match each:
            case Native(name, given):
                word = name.removeprefix("types.")
                if word in ELEMENT:
                    below = (*path, ELEMENT[word])
                    inside = list(_inside(reader, given[0], below))
                    if inside or structure(given[0])["name"] == "submodule":
                        yield ".".join(below), structure(given[0])
                    yield from inside
                elif word == "coercedTo":
                    yield from _inside(reader, given[2], path)
                elif word in {"submodule", "submoduleWith"}:
                    modules = select(given[0], "modules") if word == "submoduleWith" else given[0]
                    yield from _of_submodule(reader, modules, path)
                else:
                    for inner in given:
                        yield from _inside(reader, inner, path)
            case list():
                for inner in each:
                    yield from _inside(reader, inner, path)


def _of_submodule(reader: Reader, modules: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Structure]]:
    for each in alternatives(modules):
        match each:
            case Function():
                yield from _of_submodule(reader, reader.apply(each, {}), path)
            case Place():
                file = each.path
                if file and file.is_file():
                    yield from _of_submodule(reader, reader.file(file), path)
            case list():
                for inner in each:
                    yield from _of_submodule(reader, inner, path)
            case dict():
                for inner in elements(each.get("imports", [])):
                    yield from _of_submodule(reader, inner, path)
                yield from declarations(reader, each.get("options", {}), path)


def _quoted(text: str) -> str:
    """As lib.strings.escapeNixString writes it, of which the type makes its name."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")


def structure(kind: Any) -> Structure:
    """A type as the fixture has it; `unspecified` where the text does not tell."""
    values = [force(each) for each in alternatives(kind)]
    if len(values) != 1 or not isinstance(values[0], Native) or not values[0].name.startswith("types."):
        return {"name": "unspecified"}
    word, given = values[0].name.removeprefix("types."), values[0].given
    if word in SAME:
        return structure(given[SAME[word]])
    if word in ONE_INSIDE:
        return {"name": RENAMED.get(word, word), "of": {"elemType": structure(given[0])}}
    match word:
        case "enum":
            names = [force(each) for each in elements(given[0])]
            if all(isinstance(each, str | int | bool | None) for each in names):
                return {"name": "enum", "values": names}
            return {"name": "unspecified"}
        case "either":
            return {"name": word, "of": {"left": structure(given[0]), "right": structure(given[1])}}
        case "oneOf":
            first, *others = (structure(each) for each in elements(given[0]))
            for other in others:
                first = {"name": "either", "of": {"left": first, "right": other}}
            return first
        case "coercedTo":
            return {
                "name": word,
                "of": {"coercedType": structure(given[0]), "finalType": structure(given[2])},
            }
        case "strMatching":
            pattern = force(given[0])
            return {"name": f"strMatching {_quoted(pattern)}" if isinstance(pattern, str) else word}
        case "submodule" | "submoduleWith":
            return {"name": "submodule"}
        case _:
            return {"name": RENAMED.get(word, word)}
