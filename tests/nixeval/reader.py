"""Reads Nix files without evaluating them: what every expression may come to, as far as the text alone can tell.

Both branches of a condition are taken, functions are applied, files imported; `config`, `pkgs` and what is computed from
them stay unknown, with the kind of value where the function that makes it says so. Syntax is tree-sitter-nix's to read.
A value is plain (a string, a number, a list, a set by name, …) or one of the classes here.
"""

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tree_sitter_nix
from tree_sitter import Language, Node, Parser

sys.setrecursionlimit(20_000)
OPEN = "<name>"
"""A name in a set that only an evaluation tells."""
DEEPEST = 400
"""Calls inside of each other; more is a recursion whose end the text does not tell."""
PARSER = Parser(Language(tree_sitter_nix.language()))


class NotNixError(Exception):
    """A file that is no Nix."""


@dataclass(frozen=True)
class Unknown:
    """A value that only an evaluation tells."""

    text: str
    """Where it comes from, for people."""
    kind: str | None = None
    """What it will be: bool, int, list, path, set, string; None where that is not known either."""


@dataclass(frozen=True)
class Rest:
    """Elements of a list that only an evaluation tells."""

    text: str


@dataclass(frozen=True)
class Either:
    """One of several values, or several that the module system merges."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """A path. Without a root it is below nixpkgs' nixos/modules (`modulesPath`)."""

    root: Path | None
    below: str = ""

    @property
    def path(self) -> Path | None:
        """The file or folder, if it is here."""
        return Path(os.path.normpath(f"{self.root}{self.below}")) if self.root else None


@dataclass(frozen=True)
class Native:
    """A function of nixpkgs' lib or a builtin, with the arguments that it has so far."""

    name: str
    given: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Function:
    """A function of the text."""

    node: Node
    scope: "Scope"


@dataclass(frozen=True)
class Option:
    """What mkOption makes."""

    attributes: Mapping[str, Any]


@dataclass
class Later:
    """An expression that is read when somebody asks."""

    node: Node
    scope: "Scope"
    value: Any = None
    state: str = "new"

    def read(self) -> Any:
        """The value; unknown where it needs itself."""
        if self.state == "reading":
            return Unknown(_text(self.node))
        if self.state == "new":
            self.state = "reading"
            self.value = self.scope.reader.read(self.node, self.scope)
            self.state = "read"
        return self.value


@dataclass(frozen=True)
class Applied:
    """A call that is made when somebody asks."""

    reader: "Reader"
    function: Any
    arguments: tuple[Any, ...]

    def read(self) -> Any:
        """The result."""
        result = self.function
        for argument in self.arguments:
            result = self.reader.apply(result, argument)
        return result


@dataclass(frozen=True)
class Scope:
    """Names that an expression may use."""

    reader: "Reader"
    file: Path
    names: Mapping[str, Any]
    outer: "Scope | None" = None
    opened: Any = None
    """The set of a `with`."""

    def find(self, name: str) -> Any:
        """What a name stands for. Names that are bound come before those of any `with`."""
        scope: Scope | None = self
        while scope:
            if name in scope.names:
                return force(scope.names[name])
            scope = scope.outer
        scope = self
        while scope:
            if scope.opened is not None:
                opened = force(scope.opened)
                if not isinstance(opened, dict) or name in opened:
                    return select(opened, name)
            scope = scope.outer
        return GLOBALS[name] if name in GLOBALS else Native(name)


GLOBALS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
LIBRARIES = {
    *(
        "asserts",
        "attrsets",
        "builtins",
        "cli",
        "customisation",
        "derivations",
        "fileset",
        "filesystem",
        "fixedPoints",
    ),
    *("generators", "gvariant", "lib", "licenses", "lists", "meta", "modules", "network", "options", "path"),
    *("platforms", "sources", "strings", "systems", "trivial", "types", "versions"),
}
"""Sets of functions in nixpkgs' lib."""


def _text(node: Node) -> str:
    text = (node.text or b"").decode()
    return re.sub(r"\s+", " ", text if len(text) <= 60 else f"{text[:57]}...")


def _wrong(node: Node) -> Iterator[Node]:
    """What is no Nix. A comma after the last formal is some, whatever tree-sitter-nix 0.1.0 says."""
    if node.is_error or node.is_missing:
        above = node.parent
        while above and not above.is_error and above.type in {"formal", "identifier"}:
            above = above.parent
        if node.is_error or not above or above.type != "formals":
            yield node
    if node.has_error:
        for child in node.children:
            yield from _wrong(child)


def force(value: Any) -> Any:
    """The value itself, of one that is read later."""
    while isinstance(value, Later | Applied):
        value = value.read()
    return value


def alternatives(value: Any) -> Iterator[Any]:
    """Each of the values that this may be."""
    value = force(value)
    if isinstance(value, Either):
        for each in value.values:
            yield from alternatives(each)
    else:
        yield value


def either(values: Sequence[Any]) -> Any:
    """One value of several."""
    return values[0] if len(values) == 1 else Either(tuple(values))


def select(value: Any, name: str) -> Any:
    """`value.name`."""
    value = force(value)
    match value:
        case Native(owner, ()) if owner in LIBRARIES:
            return Native(f"types.{name}" if owner == "types" else name)
        case Native(owner, ()) if owner.startswith("types."):
            return Native(f"{owner}.{name}")
        case dict():
            if name in value:
                return force(value[name])
            if OPEN in value:
                return force(value[OPEN])
            return Unknown(f"there is no {name}")
        case Either():
            found = [
                each for each in alternatives(value) if not isinstance(each, dict) or {name, OPEN} & {*each}
            ]
            return (
                either([select(each, name) for each in found]) if found else Unknown(f"there is no {name}")
            )
        case Unknown():
            return Unknown(f"{value.text}.{name}")
        case _:
            return Unknown(name)


def kind_of(value: Any) -> str | None:
    """What sort of value this is, as Unknown says it."""
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case str():
            return "string"
        case list():
            return "list"
        case dict():
            return "set"
        case Place():
            return "path"
        case Unknown():
            return value.kind
        case Either():
            kinds = {kind_of(each) for each in alternatives(value)}
            return kinds.pop() if len(kinds) == 1 else None
        case _:
            return None


def elements(value: Any) -> list[Any]:
    """Elements of a list, those that are not known as Rest."""
    found: list[Any] = []
    for each in alternatives(value):
        match each:
            case list():
                found.extend(each)
            case Unknown():
                found.append(Rest(each.text))
            case _:
                found.append(Rest("no list"))
    return found


def union(left: Any, right: Any) -> Any:
    """`left // right`."""
    left, right = force(left), force(right)
    if isinstance(left, dict) and isinstance(right, dict):
        both = {OPEN: Either((left[OPEN], right[OPEN]))} if OPEN in left and OPEN in right else {}
        return left | right | both
    return Either((left, right))


def _merge(target: dict[str, Any], name: str, value: Any) -> None:
    """Put a value below a name, beside what is there."""
    there = target.get(name)
    if isinstance(there, dict) and isinstance(value, dict):
        for inner, each in value.items():
            _merge(there, inner, each)
    elif name in target:
        target[name] = Either((there, value))
    else:
        target[name] = value


@dataclass
class Reader:
    """Reads files, and remembers which it met."""

    imported: set[Path] = field(default_factory=set)
    """Files that were read as data or as functions, not as modules."""
    systems: list[Any] = field(default_factory=list)
    """Arguments of every call of nixosSystem."""
    known: dict[Path, Any] = field(default_factory=dict)
    depth: int = 0

    def file(self, path: Path) -> Any:
        """Value of a file."""
        if path not in self.known:
            self.known[path] = Unknown(f"{path} needs itself")
            root = PARSER.parse(path.read_bytes()).root_node
            if wrong := next(_wrong(root), None):
                raise NotNixError(f"{path}:{wrong.start_point.row + 1}")
            self.known[path] = self.read(root, Scope(self, path, {}))
        return self.known[path]

    def read(self, node: Node, scope: Scope) -> Any:
        """Value of an expression."""
        part = node.child_by_field_name

        def inner(name: str, within: Scope = scope) -> Any:
            child = part(name)
            return self.read(child, within) if child else None

        match node.type:
            case "source_code" | "parenthesized_expression":
                return inner("expression")
            case "variable_expression":
                return scope.find(_text(node))
            case "integer_expression":
                return int(_text(node))
            case "float_expression":
                return float(_text(node))
            case "string_expression" | "indented_string_expression":
                return self._string(node, scope)
            case "path_expression":
                if any(child.type == "interpolation" for child in node.named_children):
                    return Unknown(_text(node), "path")
                return Place(scope.file.parent, "/" + (node.text or b"").decode())
            case "attrset_expression" | "rec_attrset_expression":
                return self._set(node, scope, recursive=node.type.startswith("rec"))
            case "let_expression":
                names: dict[str, Any] = {}
                within = Scope(self, scope.file, names, scope)
                self._bind(node, within, scope, names)
                return inner("body", within)
            case "with_expression":
                environment = part("environment")
                assert environment
                return inner("body", Scope(self, scope.file, {}, scope, Later(environment, scope)))
            case "assert_expression":
                return inner("body")
            case "if_expression":
                condition = force(inner("condition"))
                if isinstance(condition, bool):
                    return inner("consequence" if condition else "alternative")
                return Either((inner("consequence"), inner("alternative")))
            case "function_expression":
                return Function(node, scope)
            case "apply_expression":
                argument = part("argument")
                assert argument
                return self.apply(inner("function"), Later(argument, scope))
            case "select_expression":
                return self._select(node, scope)
            case "has_attr_expression":
                return Unknown(_text(node), "bool")
            case "unary_expression":
                value = force(inner("argument"))
                if _operator(node) == "!":
                    return not value if isinstance(value, bool) else Unknown(_text(node), "bool")
                return -value if type(value) in {int, float} else Unknown(_text(node), kind_of(value))
            case "binary_expression":
                return self._binary(node, scope)
            case "list_expression":
                return [Later(child, scope) for child in node.children_by_field_name("element")]
            case "uri_expression":
                return _text(node)
            case _:
                return Unknown(_text(node))

    def _string(self, node: Node, scope: Scope) -> Any:
        text = ""
        for child in node.named_children:
            if child.type == "interpolation":
                expression = child.child_by_field_name("expression")
                assert expression
                value = force(self.read(expression, scope))
                if not isinstance(value, str):
                    return Unknown(_text(node), "string")
                text += value
            elif child.type == "escape_sequence":
                text += (child.text or b"").decode().removeprefix("\\").removeprefix("''")
            elif child.type in {"string_fragment", "dollar_escape"}:
                text += (child.text or b"").decode()
        return text

    def _name(self, node: Node, scope: Scope) -> str:
        """A name in a path of names; OPEN where it is computed from what is not known."""
        match node.type:
            case "identifier":
                return _text(node)
            case "interpolation":
                expression = node.child_by_field_name("expression")
                assert expression
                value = force(self.read(expression, scope))
            case _:
                value = self._string(node, scope)
        return value if isinstance(value, str) else OPEN

    def _set(self, node: Node, scope: Scope, *, recursive: bool) -> dict[str, Any]:
        names: dict[str, Any] = {}
        within = Scope(self, scope.file, names, scope) if recursive else scope
        self._bind(node, within, scope, names)
        return names

    def _bind(self, node: Node, within: Scope, outside: Scope, names: dict[str, Any]) -> None:
        """Bindings of a set or a let."""
        for binding in (
            child
            for group in node.named_children
            if group.type == "binding_set"
            for child in group.named_children
        ):
            match binding.type:
                case "binding":
                    path, expression = (
                        binding.child_by_field_name("attrpath"),
                        binding.child_by_field_name("expression"),
                    )
                    assert path
                    assert expression
                    keys = [self._name(each, within) for each in path.children_by_field_name("attr")]
                    literal = expression.type == "attrset_expression"
                    value: Any = (
                        self._set(expression, within, recursive=False)
                        if literal
                        else Later(expression, within)
                    )
                    for key in reversed(keys[1:]):
                        value = {key: value}
                    _merge(names, keys[0], value)
                case "inherit" | "inherit_from":
                    attributes = binding.child_by_field_name("attrs")
                    source = binding.child_by_field_name("expression")
                    assert attributes
                    for each in attributes.children_by_field_name("attr"):
                        name = self._name(each, outside)
                        if source:
                            names[name] = Applied(self, Native("getAttr", (name,)), (Later(source, within),))
                        else:
                            names[name] = Applied(self, outside.find, (name,))

    def _select(self, node: Node, scope: Scope) -> Any:
        expression, path = node.child_by_field_name("expression"), node.child_by_field_name("attrpath")
        assert expression
        assert path
        value = force(self.read(expression, scope))
        for each in path.children_by_field_name("attr"):
            name = self._name(each, scope)
            if name != OPEN:
                value = select(value, name)
            elif isinstance(value, dict) and value:
                value = either([force(inner) for inner in value.values()])
            else:
                value = Unknown(_text(node))
        default = node.child_by_field_name("default")
        return Either((value, self.read(default, scope))) if default else value

    def _binary(self, node: Node, scope: Scope) -> Any:
        left_node, right_node = node.child_by_field_name("left"), node.child_by_field_name("right")
        assert left_node
        assert right_node
        operator = _operator(node)
        if operator in {"==", "!=", "<", ">", "<=", ">=", "&&", "||", "->"}:
            return Unknown(_text(node), "bool")
        left, right = force(self.read(left_node, scope)), force(self.read(right_node, scope))
        match operator:
            case "//":
                return union(left, right)
            case "++":
                return elements(left) + elements(right)
            case "|>":
                return self.apply(right, left)
            case "<|":
                return self.apply(left, right)
        if operator == "+":
            if isinstance(left, Place) and isinstance(right, str):
                return Place(left.root, left.below + right)
            if isinstance(left, str) and isinstance(right, str):
                return left + right
        elif type(left) is int and type(right) is int:
            return {"-": left - right, "*": left * right, "/": left // (right or 1)}.get(operator)
        return Unknown(_text(node), kind_of(left) or kind_of(right))

    def apply(self, function: Any, argument: Any) -> Any:
        """`function argument`."""
        results = [self._apply(each, argument) for each in alternatives(function)]
        return either(results)

    def _apply(self, function: Any, argument: Any) -> Any:
        if self.depth > DEEPEST:
            return Unknown("a deep recursion")
        self.depth += 1
        try:
            match function:
                case Function(node, scope):
                    return self._enter(node, scope, argument)
                case Native(name, given):
                    given = (*given, argument)
                    arity, run = NATIVES.get(name, (0, None))
                    if run is None:
                        return (
                            Native(name, given)
                            if name.startswith("types.")
                            else Unknown(name, KINDS.get(name))
                        )
                    return run(self, *given) if len(given) == arity else Native(name, given)
                case dict() if "__functor" in function:
                    return Unknown("a functor")
                case Unknown(text, kind):
                    return Unknown(text if text.endswith("()") else f"{text}()", kind)
                case _ if callable(function):
                    return function(argument)
                case _:
                    return Unknown("a call")
        finally:
            self.depth -= 1

    def _enter(self, node: Node, scope: Scope, argument: Any) -> Any:
        body, formals = node.child_by_field_name("body"), node.child_by_field_name("formals")
        universal = node.child_by_field_name("universal")
        assert body
        names: dict[str, Any] = {}
        within = Scope(self, scope.file, names, scope)
        if universal:
            names[_text(universal)] = argument
        if formals:
            given = force(argument)
            for formal in formals.children_by_field_name("formal"):
                named, default = formal.child_by_field_name("name"), formal.child_by_field_name("default")
                assert named
                name = _text(named)
                if not name:
                    continue  # the comma after the last
                if isinstance(given, dict) and name in given:
                    names[name] = given[name]
                elif default:
                    names[name] = Later(default, within)
                else:
                    names[name] = ARGUMENTS.get(name, Unknown(name))
        return self.read(body, within)


ARGUMENTS: Mapping[str, Any] = {"lib": Native("lib"), "modulesPath": Place(None)}
"""What modules are given by these names."""


def _operator(node: Node) -> str:
    operator = node.child_by_field_name("operator")
    return _text(operator) if operator else ""


def _import(reader: Reader, place: Any) -> Any:
    place = force(place)
    path = place.path if isinstance(place, Place) else None
    if path and path.is_dir():
        path /= "default.nix"
    if path and path.is_file():
        reader.imported.add(path)
        return reader.file(path)
    return Unknown("import")


def _met(reader: Reader, place: Any, _arguments: Any) -> Any:
    _import(reader, place)
    return Unknown("callPackage", "package")


def _data(parse: Callable[[str], Any]) -> Callable[[Reader, Any], Any]:
    def run(_: Reader, place: Any) -> Any:
        place = force(place)
        path = place.path if isinstance(place, Place) else None
        return parse(path.read_text()) if path and path.is_file() else Unknown("a file of data")

    return run


def _map(reader: Reader, function: Any, values: Any) -> list[Any]:
    return [
        Rest("map")
        if isinstance(each, Rest) and function is None
        else Applied(reader, function, (_element(each),))
        for each in elements(values)
    ]


def _element(each: Any) -> Any:
    return Unknown(each.text) if isinstance(each, Rest) else each


def _map_attrs(reader: Reader, function: Any, values: Any) -> Any:
    found: list[Any] = []
    for each in alternatives(values):
        if isinstance(each, dict):
            found.append(
                {name: Applied(reader, function, (_known(name), value)) for name, value in each.items()}
            )
        else:
            found.append({OPEN: Applied(reader, function, (Unknown(OPEN, "string"), _element_of(each)))})
    return either(found)


def _known(name: str) -> Any:
    return Unknown(OPEN, "string") if name == OPEN else name


def _element_of(value: Any) -> Any:
    return Unknown(f"{value.text}.{OPEN}") if isinstance(value, Unknown) else Unknown(OPEN)


def _gen_attrs(reader: Reader, names: Any, function: Any) -> Any:
    found: dict[str, Any] = {}
    for each in elements(names):
        for name in alternatives(_element(each)):
            key = name if isinstance(name, str) else OPEN
            _merge(found, key, Applied(reader, function, (_known(key),)))
    return found


def _pairs(_: Reader, pairs: Any) -> Any:
    found: dict[str, Any] = {}
    for each in elements(pairs):
        for pair in alternatives(_element(each)):
            name = force(select(pair, "name"))
            _merge(
                found,
                name if isinstance(name, str) else OPEN,
                Applied(_, Native("getAttr", ("value",)), (pair,)),
            )
    return found


def _map_attrs_to_list(reader: Reader, function: Any, values: Any) -> list[Any]:
    return [
        Applied(reader, function, (_known(name), value))
        for each in alternatives(values)
        for name, value in (each if isinstance(each, dict) else {OPEN: _element_of(each)}).items()
    ]


def _get(_: Reader, name: Any, values: Any) -> Any:
    name = force(name)
    return select(values, name) if isinstance(name, str) else Unknown("getAttr")


def _remove(_: Reader, values: Any, names: Any) -> Any:
    gone = {force(each) for each in elements(names) if isinstance(force(each), str)}
    kept = [
        {name: value for name, value in each.items() if name not in gone} if isinstance(each, dict) else each
        for each in alternatives(values)
    ]
    return either(kept)


def _zip(reader: Reader, function: Any, sets: Any) -> Any:
    found: dict[str, list[Any]] = {}
    for each in elements(sets):
        for one in alternatives(_element(each)):
            for name, value in (one if isinstance(one, dict) else {OPEN: _element_of(one)}).items():
                found.setdefault(name, []).append(value)
    return {name: Applied(reader, function, (_known(name), values)) for name, values in found.items()}


def _merged(_: Reader, definitions: Any) -> Any:
    found = [Unknown(each.text) if isinstance(each, Rest) else each for each in elements(definitions)]
    return either(found) if found else {}


def _system(reader: Reader, arguments: Any) -> Any:
    reader.systems.append(arguments)
    return Unknown("nixosSystem")


def _concat(_: Reader, lists: Any) -> list[Any]:
    return [
        inner for each in elements(lists) for inner in ([each] if isinstance(each, Rest) else elements(each))
    ]


def _joined(_: Reader, separator: Any, parts: Any) -> Any:
    known = [force(each) for each in elements(parts)]
    separator = force(separator)
    if isinstance(separator, str) and all(isinstance(each, str) for each in known):
        return separator.join(known)
    return Unknown("concatStringsSep", "string")


def _to_string(_: Reader, value: Any) -> Any:
    value = force(value)
    return (
        str(value)
        if isinstance(value, str | int) and not isinstance(value, bool)
        else Unknown("toString", "string")
    )


def _option(_: Reader, attributes: Any) -> Any:
    found = [each for each in alternatives(attributes) if isinstance(each, dict)]
    return Option(found[0]) if found else Unknown("mkOption")


def _enable_option(_: Reader, _text: Any) -> Any:
    return Option({"type": Native("types.bool"), "default": False})


NATIVES: Mapping[str, tuple[int, Callable[..., Any]]] = {
    # What the module system takes off again.
    "mkIf": (2, lambda _, condition, value: force(value)),
    "mkMerge": (1, _merged),
    "mkDefault": (1, lambda _, value: force(value)),
    "mkForce": (1, lambda _, value: force(value)),
    "mkVMOverride": (1, lambda _, value: force(value)),
    "mkOptionDefault": (1, lambda _, value: force(value)),
    "mkImageMediaOverride": (1, lambda _, value: force(value)),
    "mkOverride": (2, lambda _, priority, value: force(value)),
    "mkOrder": (2, lambda _, priority, value: force(value)),
    "mkBefore": (1, lambda _, value: force(value)),
    "mkAfter": (1, lambda _, value: force(value)),
    # What is there or not.
    "optionalAttrs": (2, lambda _, condition, value: force(value)),
    "optionals": (2, lambda _, condition, value: force(value)),
    "optional": (2, lambda _, condition, value: [value]),
    "optionalString": (2, lambda _, condition, value: Unknown("optionalString", "string")),
    # Sets and lists.
    "attrValues": (1, lambda reader, values: _map_attrs_to_list(reader, Native("second"), values)),
    "attrNames": (1, lambda reader, values: _map_attrs_to_list(reader, Native("first"), values)),
    "first": (2, lambda _, one, two: force(one)),
    "second": (2, lambda _, one, two: force(two)),
    "const": (2, lambda _, one, two: force(one)),
    "concatLists": (1, _concat),
    "concatMap": (2, lambda reader, function, values: _concat(reader, _map(reader, function, values))),
    "filter": (2, lambda _, predicate, values: elements(values)),
    "unique": (1, lambda _, values: elements(values)),
    "filterAttrs": (2, lambda _, predicate, values: force(values)),
    "genAttrs": (2, _gen_attrs),
    "getAttr": (2, _get),
    "intersectAttrs": (2, lambda _, names, values: force(values)),
    "listToAttrs": (1, _pairs),
    "map": (2, _map),
    "mapAttrs": (2, _map_attrs),
    "mapAttrs'": (
        2,
        lambda reader, function, values: _pairs(reader, _map_attrs_to_list(reader, function, values)),
    ),
    "mapAttrsToList": (2, _map_attrs_to_list),
    "attrsToList": (1, lambda reader, values: _map_attrs_to_list(reader, Native("nameValuePair"), values)),
    "mergeAttrsList": (1, _merged),
    "nameValuePair": (2, lambda _, name, value: {"name": name, "value": value}),
    "recursiveUpdate": (2, lambda _, left, right: Either((left, right))),
    "removeAttrs": (2, _remove),
    "setAttrByPath": (2, lambda _, path, value: Unknown("setAttrByPath", "set")),
    "zipAttrsWith": (2, _zip),
    "concatStringsSep": (2, _joined),
    "toString": (1, _to_string),
    # Files.
    "import": (1, _import),
    "callPackage": (2, _met),
    "importJSON": (1, _data(json.loads)),
    "importTOML": (1, _data(tomllib.loads)),
    "nixosSystem": (1, _system),
    # Modules that only say that an option has gone; setting it is a mistake here.
    "mkRenamedOptionModule": (2, lambda _, old, new: {}),
    "mkRemovedOptionModule": (2, lambda _, old, instead: {}),
    # Options.
    "mkOption": (1, _option),
    "mkEnableOption": (1, _enable_option),
}
"""Functions by name, with how many arguments they take."""

KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("concatLines", "concatMapStrings", "concatMapStringsSep", "concatStrings", "escapeShellArg"),
            *("escapeShellArgs", "removePrefix", "removeSuffix", "replaceStrings", "toJSON", "readFile"),
            *(
                "getExe",
                "getExe'",
                "makeBinPath",
                "fixedWidthString",
                "toUpper",
                "toLower",
                "concatMapAttrsStringSep",
            ),
        ),
        "string",
    ),
    **dict.fromkeys(
        ("all", "any", "elem", "hasAttr", "hasInfix", "hasPrefix", "hasSuffix", "isString", "pathExists"),
        "bool",
    ),
    **dict.fromkeys(("length", "stringLength", "max", "min"), "int"),
}
"""What functions give that are not followed."""
