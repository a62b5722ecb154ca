"""Whether every option that rendered hosts set exists and takes the value, from a fixture of the real option tree.

`NIXPKGS=… python -m tests.nixeval.options` writes the fixture, tests/golden/options.json: the options in use, with the
structure of their types, out of that nixpkgs and our modules. Checking needs Nix alone.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from installer.render.nix import to_nix
from tests.nixeval.host import MODULES, nixpkgs
from tests.nixeval.hosts import GOLDEN
from tests.nixeval.nix import REPOSITORY, EvaluationError, require

FIXTURE = REPOSITORY / "tests/golden/options.json"
VALUES = Path(__file__).with_name("values.nix")
OPTIONS = Path(__file__).with_name("options.nix")
SCALARS: Mapping[str, type] = {"bool": bool, "int": int, "path": str, "shellPackage": str}
"""Types by their name in nixpkgs' lib/types.nix; every other is told by the words in its name."""
OPEN = ("<name>",)
CONFIGURATION = ("specialisation", "<name>", "configuration")
"""Below this the whole option tree begins again."""

Pattern = tuple[str, ...]


def values(directory: Path) -> dict[str, Any]:
    """What the modules of a rendered host set, as Nix reads them."""
    found: dict[str, Any] = require().evaluate(
        f"import {VALUES} {{ root = {directory}/configuration.nix; }}"
    )
    return found


def leaves(value: Any, path: Pattern = ()) -> Iterator[Pattern]:
    """Paths of everything that is not a set with content; elements of lists of sets by `*`."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            below = (*path, name)
            yield from leaves(inner, () if len(below) == 3 and below[::2] == CONFIGURATION[::2] else below)
    elif isinstance(value, list) and value and all(isinstance(element, dict) for element in value):
        for element in value:
            yield from leaves(element, (*path, "*"))
    else:
        yield path


def problems(value: Any, options: Mapping[str, Any], path: Pattern = ()) -> Iterator[str]:
    """What does not fit the options: unknown names and values of another type, one sentence each."""
    if len(path) == 3 and path[::2] == CONFIGURATION[::2]:
        yield from problems(value, options)
        return
    described = next((options[key] for key in _keys(path) if key in options), None)
    if described is not None:
        if not fits(described, value):
            yield f"{'.'.join(path)} = {json.dumps(value)} does not fit {described}"
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from problems(inner, options, (*path, name))
    elif isinstance(value, list) and all(isinstance(element, dict) for element in value):
        for element in value:
            yield from problems(element, options, (*path, "*"))
    else:
        yield f"{'.'.join(path)}: the fixture has no such option"


def _keys(path: Pattern) -> Iterator[str]:
    """Keys of the fixture that a path may go by: each name itself, or as one that the type leaves open."""
    if not path:
        yield ""
        return
    for front in _keys(path[:-1]):
        for name in (path[-1], *OPEN):
            yield f"{front}.{name}" if front else name


def fits(kind: Mapping[str, Any], value: Any) -> bool:
    """Whether a plain value fits a type's structure."""
    name = kind["name"]
    nested = kind.get("of", {})
    match name:
        case "nullOr":
            return value is None or fits(nested["elemType"], value)
        case "enum":
            return value in kind["values"]
        case "either" | "coercedTo":
            return any(fits(inner, value) for inner in nested.values())
        case "listOf":
            return isinstance(value, list) and all(fits(nested["elemType"], element) for element in value)
        case "attrsOf" | "lazyAttrsOf":
            return isinstance(value, dict) and all(
                fits(nested["elemType"], inner) for inner in value.values()
            )
        case "submodule" | "attrs":
            return isinstance(value, dict)
        case "unspecified" | "anything" | "raw" | "systemd option":
            return True
    if wanted := SCALARS.get(name):
        return type(value) is wanted
    if (
        "int" in name.lower()
        or "unsigned" in name.lower()
        or "positive" in name.lower()
        or name == "nonnegative"
    ):
        return type(value) is int
    return isinstance(value, str)


def fixture() -> dict[str, Any]:
    """The fixture from the repository."""
    loaded: dict[str, Any] = json.loads(FIXTURE.read_text())
    return loaded


def main() -> int:
    """Write the fixture."""
    wanted = sorted({path for directory in GOLDEN.iterdir() for path in leaves(values(directory))})
    arguments = {
        "nixpkgs": str(nixpkgs()),
        "modules": f"[ {MODULES} ]",
        "paths": to_nix(wanted),
    }
    described = require().evaluate(f"import {OPTIONS}", arguments)
    if unknown := [entry["unknown"] for entry in described if "unknown" in entry]:
        raise EvaluationError(f"no such option: {', '.join('.'.join(path) for path in unknown)}")
    options = {".".join(entry["pattern"]): entry["type"] for entry in described}
    FIXTURE.write_text(json.dumps(options, indent=1, sort_keys=True) + "\n")
    print(f"{FIXTURE.relative_to(REPOSITORY)}: {len(options)} options")
    return 0


if __name__ == "__main__":
    sys.exit(main())
