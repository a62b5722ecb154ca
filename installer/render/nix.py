"""The one serialiser: Python values to Nix text.

Every line of Nix that a host gets comes from here, so escaping is decided once. Syntax and escapes are those of the
Nix manual, "String literals" and "Identifiers"; the layout follows RFC 166 (nixfmt): two spaces, sets expanded,
a list of one and a call on one line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from installer.errors import Exit, HyperError

KEYWORDS = frozenset({"assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"})
"""Words that cannot be bare attribute names or variables."""

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*\Z")
PATH = re.compile(r"\.{1,2}(/[A-Za-z0-9._+-]+)+\Z")
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Path:
    """A path literal, relative to the file it stands in: `./disks.nix`."""

    text: str

    def __post_init__(self) -> None:
        if not PATH.match(self.text):
            raise _refusal(
                f"path {self.text!r}", "a path literal is ./ or ../ and plain names", "rename the file"
            )


@dataclass(frozen=True)
class Reference:
    """A variable, or an attribute of one: `Reference("lib", "mkForce")` is `lib.mkForce`."""

    names: tuple[str, ...]

    def __init__(self, variable: str, *attributes: str) -> None:
        if not IDENTIFIER.match(variable) or variable in KEYWORDS:
            raise _refusal(f"variable {variable!r}", "it is not a Nix identifier", "use another name")
        object.__setattr__(self, "names", (variable, *attributes))


@dataclass(frozen=True)
class Call:
    """A function applied to arguments: `lib.mkForce false`."""

    function: Reference
    arguments: tuple["Nix", ...]

    def __init__(self, function: Reference, *arguments: "Nix") -> None:
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "arguments", arguments)


@dataclass(frozen=True)
class Function:
    """A function of a set: `{ lib, ... }: body`; with `name` the whole set is bound too (`inputs@{ … }:`)."""

    arguments: tuple[str, ...]
    body: "Nix"
    open: bool = True
    """Whether further arguments are let in (`...`)."""
    name: str | None = None


@dataclass(frozen=True)
class Let:
    """Names for values: `let … in body`."""

    names: "Mapping[str, Nix]"
    body: "Nix"


@dataclass(frozen=True)
class Commented:
    """A value with a comment above it: the whole text, or a value in a set or list."""

    comment: str
    value: "Nix"


Nix: TypeAlias = "str | int | bool | Path | Reference | Call | Function | Let | Commented | Sequence[Nix] | Mapping[str, Nix] | None"
"""Everything that has a Nix text. Sets keep the order of their keys."""

LIB = {name: Reference("lib", name) for name in ("mkDefault", "mkForce", "mkMerge")}


def default(value: Nix) -> Call:
    """`lib.mkDefault value`: what a person's own module may replace without further ado."""
    return Call(LIB["mkDefault"], value)


def force(value: Nix) -> Call:
    """`lib.mkForce value`: wins over every plain definition."""
    return Call(LIB["mkForce"], value)


def uses(value: Nix, variable: str) -> bool:
    """Whether the value refers to a variable anywhere: what a file's function must take as an argument."""
    match value:
        case Reference():
            return value.names[0] == variable
        case Call():
            return uses(value.function, variable) or any(
                uses(argument, variable) for argument in value.arguments
            )
        case Commented():
            return uses(value.value, variable)
        case Function():
            return uses(value.body, variable)
        case Let():
            return uses(value.names, variable) or uses(value.body, variable)
        case Mapping():
            return any(uses(inner, variable) for inner in value.values())
        case None | str() | int() | Path():
            return False
        case _:
            return any(uses(inner, variable) for inner in value)


def to_nix(value: Nix) -> str:
    """The text of a whole Nix file, ending in a newline.

    Raises HyperError (exit code `answers`) for what Nix cannot hold: NUL, lone surrogates, integers beyond 64 bits.
    """
    return _expression(value, "") + "\n"


def nix_string(text: str) -> str:
    """A string literal on one line: `"` with every special character escaped."""
    _check_text(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    # A raw carriage return in a literal is read as a newline (Nix's lexer folds line ends), so it must be escaped.
    escaped = escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f'"{escaped}"'


def nix_name(name: str) -> str:
    """An attribute name, quoted where it is no identifier."""
    return name if IDENTIFIER.match(name) and name not in KEYWORDS else nix_string(name)


def _refusal(what: str, why: str, remedy: str) -> HyperError:
    return HyperError(f"{what} cannot be written as Nix", why=why, remedy=remedy, code=Exit.answers)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _refusal(f"the text {text!r}", "Nix strings cannot hold the character NUL", "leave it out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        why = f"character {error.start} is half of a surrogate pair and no Unicode text"
        raise _refusal(f"the text {text!a}", why, "write the text as valid UTF-8") from None


def _expression(value: Nix, indent: str) -> str:
    """Text of a value whose first line stands after other text at `indent`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            if abs(value) > LARGEST_INTEGER:
                raise _refusal(f"the number {value}", "Nix integers have 64 bits", "use a smaller number")
            return str(value)
        case str():
            return _indented_string(value, indent) if _reads_well_indented(value) else nix_string(value)
        case Path():
            return value.text
        case Reference():
            return ".".join((value.names[0], *map(nix_name, value.names[1:])))
        case Call():
            arguments = (_operand(argument, indent) for argument in value.arguments)
            return " ".join((_expression(value.function, indent), *arguments))
        case Function():
            names = [*value.arguments, *(["..."] if value.open else [])]
            name = f"{value.name}@" if value.name else ""
            return f"{name}{{ {', '.join(names)} }}:\n{indent}{_expression(value.body, indent)}"
        case Let():
            bindings = "\n".join(_bindings(value.names, indent + "  "))
            return f"let\n{bindings}\n{indent}in\n{indent}{_expression(value.body, indent)}"
        case Commented():
            return f"{_comment(value.comment, indent)}\n{indent}{_expression(value.value, indent)}"
        case Mapping():
            return _set(value, indent)
        case _:
            return _list(value, indent)


def _operand(value: Nix, indent: str) -> str:
    """Text of a value as an argument or a list element, in parentheses where Nix needs them."""
    text = _expression(value, indent)
    negative = isinstance(value, int) and not isinstance(value, bool) and value < 0
    return f"({text})" if negative or isinstance(value, Call | Function | Let | Commented) else text


def _set(values: Mapping[str, Nix], indent: str) -> str:
    if not values:
        return "{ }"
    inner = indent + "  "
    return "\n".join(("{", *_bindings(values, inner), f"{indent}}}"))


def _bindings(values: Mapping[str, Nix], indent: str) -> Iterator[str]:
    for name, value in values.items():
        path = [nix_name(name)]
        comment, value = _uncommented(value)  # noqa: PLW2901 -- the comment is written, the value follows
        # `boot.loader.timeout = 5;` reads better than three sets of one.
        while isinstance(value, Mapping) and len(value) == 1:
            ((inner_name, inner_value),) = value.items()
            inner_comment, value = _uncommented(inner_value)  # noqa: PLW2901
            path.append(nix_name(inner_name))
            comment += inner_comment
        yield from (indent + _comment(text, indent) for text in comment)
        if isinstance(value, Function):
            yield f"{indent}{'.'.join(path)} =\n{indent}  {_expression(value, indent + '  ')};"
        else:
            yield f"{indent}{'.'.join(path)} = {_expression(value, indent)};"


def _uncommented(value: Nix) -> tuple[tuple[str, ...], Nix]:
    comments: tuple[str, ...] = ()
    while isinstance(value, Commented):
        comments += (value.comment,)
        value = value.value
    return comments, value


def _list(values: Sequence[Nix], indent: str) -> str:
    if not values:
        return "[ ]"
    if len(values) == 1 and not isinstance(values[0], Commented):
        flat = _operand(values[0], indent)
        if "\n" not in flat:
            return f"[ {flat} ]"
    return "\n".join(("[", *_elements(values, indent + "  "), f"{indent}]"))


def _elements(values: Sequence[Nix], indent: str) -> Iterator[str]:
    for element in values:
        comments, value = _uncommented(element)
        yield from (indent + _comment(text, indent) for text in comments)
        yield indent + _operand(value, indent)


def _comment(text: str, indent: str) -> str:
    _check_text(text)
    return f"\n{indent}".join(f"# {line}".rstrip() for line in re.split(r"[\r\n]+", text))


def _reads_well_indented(text: str) -> bool:
    """Whether an indented string holds the text without a single escape and without its indentation changing it."""
    lines = text.split("\n")
    return (
        len(lines) > 2
        and lines[-1] == ""
        and not any(special in text for special in ("''", "${", "\t", "\r", "\\"))
        and all(line.isprintable() and not line.startswith(" ") and line == line.rstrip() for line in lines)
        and all(line.isascii() for line in lines)
    )


def _indented_string(text: str, indent: str) -> str:
    inner = indent + "  "
    lines = (inner + line if line else "" for line in text.split("\n")[:-1])
    return "\n".join(("''", *lines, f"{indent}''"))
