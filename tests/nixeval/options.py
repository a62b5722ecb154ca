"""Whether every option that our modules and rendered hosts set exists and takes the value.

Options of NixOS are in a fixture, tests/golden/options.json: those in use, with the structure of their types, for hosts
and for the live medium, which has more. `NIXPKGS=… python -m tests.nixeval.options` writes it, out of that nixpkgs.
Options of ours are those that the text of the modules declares (tests/nixeval/modules.py). Rendered hosts are read by
Nix, modules without it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from installer.render.nix import to_nix
from tests.nixeval import modules
from tests.nixeval.host import MODULES, nixpkgs
from tests.nixeval.hosts import GOLDEN
from tests.nixeval.nix import REPOSITORY, EvaluationError, require
from tests.nixeval.reader import OPEN, Function, Native, Place, Rest, Unknown, alternatives

FIXTURE = REPOSITORY / "tests/golden/options.json"
UNREAD = REPOSITORY / "tests/golden/unread.txt"
"""Definitions in our modules whose value the text does not tell; those are for an evaluation to judge."""
VALUES = Path(__file__).with_name("values.nix")
OPTIONS = Path(__file__).with_name("options.nix")
CONFIGURATION = ("specialisation", "<name>", "configuration")
"""Below this the whole option tree begins again."""

Pattern = tuple[str, ...]


def values(directory: Path) -> dict[str, Any]:
    """What the modules of a rendered host set, as Nix reads them."""
    found: dict[str, Any] = require().evaluate(
        f"import {VALUES} {{ root = {directory}/configuration.nix; }}"
    )
    return found


OURS = "hypervisor"
UPSTREAM = "nixos/modules"
"""Where `modulesPath` is."""


@dataclass(frozen=True)
class Options:
    """A tree of options: the structure of each one's type, by its pattern."""

    types: Mapping[str, Any]

    @cached_property
    def above(self) -> frozenset[str]:
        """Patterns that have options below them."""
        found: set[str] = set()
        for pattern in self.types:
            names = pattern.split(".")
            found.update(".".join(names[:length]) for length in range(len(names)))
        return frozenset(found)

    def type(self, path: Pattern) -> Any:
        """The type of the option, or of what is inside of one, at a path."""
        return next((self.types[key] for key in _keys(path) if key in self.types), None)

    def goes_on(self, path: Pattern) -> bool:
        """Whether there are options below a path."""
        return any(key in self.above for key in _keys(path))


@dataclass(frozen=True)
class Problem:
    """What does not fit the options, or cannot be said."""

    kind: str
    """`unknown`: no such option; `wrong`: a value of another type; `hidden`: the names of options are computed."""
    path: str
    text: str


def leaves(value: Any, path: Pattern = ()) -> Iterator[Pattern]:
    """Paths of everything that is not a set with content; elements of lists of sets by `*`."""
    for each in alternatives(value):
        if _restarts(path):
            yield path
            yield from leaves(each)
        elif isinstance(each, dict) and each:
            for name, inner in each.items():
                yield from leaves(inner, (*path, name))
        elif _sets(each):
            for element in each:
                yield from leaves(element, (*path, "*"))
        else:
            yield path


def unread(value: Any, path: Pattern = ()) -> Iterator[tuple[str, str]]:
    """Paths of values of which not even the kind is known, or a part of a list, and where they come from."""
    for each in alternatives(value):
        match each:
            case dict():
                for name, inner in each.items():
                    yield from unread(inner, (*path, name))
            case list():
                for inner in each:
                    yield from unread(inner, path)
            case Unknown(text, None) | Rest(text):
                yield ".".join(path), text


def unread_lines() -> list[str]:
    """One line a place."""
    found = {
        f"{module.origin}: {path} = {text}"
        for module in modules.found().modules
        for path, text in unread(module.config)
        if not path.startswith("assertions")
    }
    return sorted(found)


def _restarts(path: Pattern) -> bool:
    return len(path) == 3 and path[::2] == CONFIGURATION[::2]


def _sets(value: Any) -> bool:
    """Whether this is a list of sets."""
    return isinstance(value, list) and any(
        isinstance(each, dict) for element in value for each in alternatives(element)
    )


def problems(value: Any, options: Options, path: Pattern = ()) -> Iterator[Problem]:
    """What is wrong with the definitions of options in a set."""
    if _restarts(path):
        path = () if options.type(path) else path
    for each in alternatives(value):
        yield from _problems(each, options, path)


def _problems(value: Any, options: Options, path: Pattern) -> Iterator[Problem]:
    kind, deeper, place = options.type(path), options.goes_on(path), ".".join(path)
    if isinstance(value, dict) and value and deeper:
        for name, inner in value.items():
            yield from problems(inner, options, (*path, name))
    elif _sets(value) and (options.goes_on(below := (*path, "*")) or options.type(below)):
        for element in value:
            yield from problems(element, options, below)
    elif kind is not None:
        if isinstance(value, Unknown) and deeper:
            yield Problem("hidden", place, value.text)
        elif not fits(kind, value):
            yield Problem("wrong", place, f"{plainly(value)} does not fit {json.dumps(kind)}")
    elif deeper and isinstance(value, Unknown | Rest):
        yield Problem("hidden", place, value.text)
    elif path[-1:] == (OPEN,) and options.goes_on(path[:-1]):
        yield Problem("hidden", place, plainly(value))
    elif not (deeper and value == {}):
        yield Problem("unknown", place, "the fixture has no such option")


def _keys(path: Pattern) -> Iterator[str]:
    """Patterns that a path may go by: each name itself, or as one that the type leaves open."""
    if not path:
        yield ""
        return
    for front in _keys(path[:-1]):
        for name in dict.fromkeys((path[-1], OPEN)):
            yield f"{front}.{name}" if front else name


def plainly(value: Any) -> str:
    """A value for people."""
    match value:
        case Unknown(text):
            return text
        case list():
            return f"[ {' '.join(plainly(each) for element in value for each in alternatives(element))} ]"
        case dict():
            return f"{{ {' '.join(value)} }}"
        case _:
            return json.dumps(value, default=repr)


def fits(kind: Mapping[str, Any], value: Any) -> bool:
    """Whether a value fits a type's structure, whichever of several it is."""
    return all(_fits(kind, each) for each in alternatives(value))


def _fits(kind: Mapping[str, Any], value: Any) -> bool:
    name = kind["name"]
    nested = kind.get("of")
    if isinstance(value, Rest) or (isinstance(value, Unknown) and value.kind is None):
        return True
    if isinstance(value, Native) and not value.given:
        return True  # a constant of lib
    told = value.kind if isinstance(value, Unknown) else None
    match name:
        case "nullOr":
            return value is None or nested is None or fits(nested["elemType"], value)
        case "enum":
            words = {bool: "bool", int: "int", str: "string"}
            return (
                value in kind["values"]
                if told is None
                else told in {words.get(type(each)) for each in kind["values"]}
            )
        case "either" | "coercedTo":
            return nested is None or any(fits(inner, value) for inner in nested.values())
        case "listOf":
            return told == "list" or (
                isinstance(value, list)
                and (not nested or all(fits(nested["elemType"], element) for element in value))
            )
        case "attrsOf" | "lazyAttrsOf":
            return told == "set" or (
                isinstance(value, dict)
                and (not nested or all(fits(nested["elemType"], inner) for inner in value.values()))
            )
        case "submodule" | "deferredModule":
            return told in {"set", "path"} or isinstance(value, dict | Function | Place)
        case "attrs":
            return told == "set" or isinstance(value, dict)
        case "functionTo":
            return isinstance(value, Function | Native)
        case "unspecified" | "anything" | "raw" | "systemd option":
            return True
        case "path" | "package" | "shellPackage" | "pathInStore" | "externalPath":
            return told in {"path", "package", "string"} or isinstance(value, str | Place)
        case "sysctl option value":
            return told in {"bool", "int", "string"} or value is None or isinstance(value, bool | int | str)
        case "bool":
            return told == "bool" or isinstance(value, bool)
        case "float":
            return isinstance(value, float)
    if any(word in name.lower() for word in ("int", "unsigned", "positive", "nonnegative")):
        return told == "int" or type(value) is int
    return told == "string" or isinstance(value, str)


def read() -> dict[str, dict[str, Any]]:
    """The fixture from the repository: `host`, and what `medium` has beside it."""
    loaded: dict[str, dict[str, Any]] = json.loads(FIXTURE.read_text())
    return loaded


def host_options(root: Path = REPOSITORY) -> Options:
    """Options of hosts."""
    return Options(read()["host"] | modules.declared(root))


def medium_options(root: Path = REPOSITORY) -> Options:
    """Options of the live medium."""
    return Options(read()["host"] | read()["medium"] | modules.declared(root))


def describe(paths: set[Pattern], upstream: set[str]) -> dict[str, Any]:
    """Types by pattern, from nixpkgs and our modules, with more modules of nixpkgs."""
    tree = nixpkgs() / UPSTREAM
    arguments = {
        "nixpkgs": str(nixpkgs()),
        "modules": f"[ {MODULES} {' '.join(str(tree) + each for each in sorted(upstream))} ]",
        "paths": to_nix(sorted(paths)),
    }
    described = require().evaluate(f"import {OPTIONS}", arguments)
    if unknown := [path for entry in described if OPEN not in (path := entry.get("unknown", [OPEN]))]:
        raise EvaluationError(f"no such option: {', '.join('.'.join(path) for path in unknown)}")
    return {".".join(entry["pattern"]): entry["type"] for entry in described if "pattern" in entry}


def fixture() -> dict[str, dict[str, Any]]:
    """The fixture anew."""
    found = modules.found()
    host = {path for directory in GOLDEN.iterdir() for path in leaves(values(directory))}
    host |= {path for module in found.modules if not module.medium for path in leaves(module.config)}
    medium = {path for module in found.modules if module.medium for path in leaves(module.config)}
    host, medium = ({path for path in each if path[:1] != (OURS,)} for each in (host, medium))
    of_hosts = describe(host, set())
    of_media = describe(medium, found.upstream)
    return {"host": of_hosts, "medium": {key: kind for key, kind in of_media.items() if key not in of_hosts}}


def main() -> int:
    """Write what needs no nixpkgs, then the fixture."""
    lines = unread_lines()
    UNREAD.write_text("\n".join(lines) + "\n")
    print(f"{UNREAD.relative_to(REPOSITORY)}: {len(lines)} definitions")
    trees = fixture()
    FIXTURE.write_text(json.dumps(trees, indent=1, sort_keys=True) + "\n")
    print(f"{FIXTURE.relative_to(REPOSITORY)}: {sum(map(len, trees.values()))} options")
    return 0


if __name__ == "__main__":
    sys.exit(main())
