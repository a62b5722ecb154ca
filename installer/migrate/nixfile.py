"""One import more in somebody's Nix file, at a place that its syntax tree makes certain; else no change at all.

The tree is tree-sitter's. Nothing but the one line is touched: neither comments nor layout.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import tree_sitter_nix
from tree_sitter import Language, Node, Parser


@dataclass(frozen=True)
class Edit:
    """A file with one import more."""

    text: str
    """The whole file."""
    line: int
    """Number of the line that is new or longer, from 1."""


@dataclass(frozen=True)
class Uncertain:
    """There is no one place where the import certainly belongs."""

    why: str
    """For people."""


WRAPPERS = {
    "function_expression": "body",
    "let_expression": "body",
    "with_expression": "body",
    "assert_expression": "body",
    "parenthesized_expression": "expression",
}
"""Expressions whose value is that of a part of theirs."""
SETS = ("attrset_expression", "rec_attrset_expression")


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_nix.language()))


def parse(text: str) -> Node | None:
    """The expression of a file; none when it is no Nix, or nothing."""
    root = _parser().parse(text.encode()).root_node
    return None if root.has_error else root.child_by_field_name("expression")


def add_import(text: str, literal: str) -> Edit | Uncertain:
    """A module's file with `literal` (a path literal) as the last of its `imports`."""
    expression = parse(text)
    if expression is None:
        return Uncertain("the file is not read as Nix")
    module = _value(expression)
    if module.type not in SETS:
        return Uncertain(f"the module is no set written out ({_kind(module)})")
    named = [binding for binding in _bindings(module) if _path(binding) == ("imports",)]
    if not named:
        if any(name == "imports" for name in _inherited(module)):
            return Uncertain("`imports` is inherited from elsewhere")
        if any(_path(binding)[:1] == (None,) for binding in _bindings(module)):
            return Uncertain("names in the set are computed, and one may be `imports`")
        return _checked(text, _first_binding(text, module, literal), literal)
    value = named[0].child_by_field_name("expression")
    assert value is not None
    lists = list(_lists(value))
    if not lists:
        return Uncertain(f"`imports` is computed ({_kind(_value(value))})")
    return _checked(text, _appended(text, lists[-1], literal), literal)


def add_module(text: str, host: str, literal: str) -> Edit | Uncertain:
    """A flake.nix with `literal` as the last of the `modules` of one of its `nixosConfigurations`."""
    expression = parse(text)
    if expression is None:
        return Uncertain("flake.nix is not read as Nix")
    hosts = [
        value for path, value in _everything(expression, ()) if path[-2:] == ("nixosConfigurations", host)
    ]
    if len(hosts) != 1:
        return Uncertain(
            f"flake.nix does not write out nixosConfigurations.{host}"
            if not hosts
            else f"flake.nix has {len(hosts)} places for nixosConfigurations.{host}"
        )
    lists = [
        listed
        for path, value in _everything(hosts[0], ())
        if path[-1:] == ("modules",)
        for listed in _lists(value)
    ]
    if len(lists) != 1:
        return Uncertain(
            f"nixosConfigurations.{host} has no list of modules of its own"
            if not lists
            else f"nixosConfigurations.{host} has {len(lists)} lists of modules"
        )
    return _checked(text, _appended(text, lists[0], literal), literal)


def remove_import(text: str, literal: str) -> str | None:
    """The file without the import that was added, whatever else was changed since; none when it is not there once."""
    expression = parse(text)
    if expression is None:
        return None
    found = [node for node in _deep(expression) if node.type == "path_expression" and _text(node) == literal]
    if len(found) != 1:
        return None
    node = found[0]
    data = text.encode()
    parent = node.parent
    assert parent is not None
    binding = parent.parent
    if (
        parent.type == "list_expression"
        and len(parent.children_by_field_name("element")) == 1
        and binding is not None
        and binding.type == "binding"
        and binding.start_point.row == binding.end_point.row
        and _path(binding) == ("imports",)
        and _line_of(data, binding) == _text(binding).encode()
    ):
        node = binding  # a whole line of ours
    start, end = node.start_byte, node.end_byte
    if _line_of(data, node) == data[start:end]:
        start = data.rfind(b"\n", 0, start) + 1
        end = (data.find(b"\n", end) + 1) or len(data)
    elif data[start - 1 : start] == b" ":
        start -= 1
    removed = (data[:start] + data[end:]).decode()
    return removed if parse(removed) is not None else None


def _line_of(data: bytes, node: Node) -> bytes:
    """The line, or lines, that a node stands in, without indentation."""
    start = data.rfind(b"\n", 0, node.start_byte) + 1
    end = data.find(b"\n", node.end_byte)
    return data[start : end if end >= 0 else len(data)].strip()


def _first_binding(text: str, module: Node, literal: str) -> Edit:
    """A set without `imports` gets them as its first line."""
    data = text.encode()
    bindings = list(_bindings(module))
    brace = module.start_byte + _text(module).index("{")
    indent = b" " * (
        bindings[0].start_point.column
        if bindings and bindings[0].start_point.row > module.start_point.row
        else 2
    )
    line = indent + f"imports = [ {literal} ];".encode()
    after = data[brace + 1 :]
    # What follows the brace on its line, a comment perhaps, stays there.
    if after.split(b"\n", 1)[0].strip() == b"" and b"\n" in after:
        head, rest = data[: brace + 1] + after.split(b"\n", 1)[0], after.split(b"\n", 1)[1]
        new = head + b"\n" + line + b"\n" + rest
    else:
        new = data[: brace + 1] + b" " + line.strip() + after
        return Edit(new.decode(), data[: brace + 1].count(b"\n") + 1)
    return Edit(new.decode(), data[: brace + 1].count(b"\n") + 2)


def _appended(text: str, listed: Node, literal: str) -> Edit:
    """A list with one element more, laid out as it is."""
    data = text.encode()
    bracket = listed.end_byte - 1
    begun = data.rfind(b"\n", 0, bracket) + 1
    elements = listed.children_by_field_name("element")
    if data[begun:bracket].strip() == b"" and listed.start_point.row != listed.end_point.row:
        own_line = [
            each
            for each in elements
            if data[data.rfind(b"\n", 0, each.start_byte) + 1 : each.start_byte].strip() == b""
        ]
        column = own_line[-1].start_point.column if own_line else bracket - begun + 2
        new = data[:begun] + b" " * column + literal.encode() + b"\n" + data[begun:]
        return Edit(new.decode(), data[:begun].count(b"\n") + 1)
    before = data[:bracket].rstrip(b" ")
    if before.rpartition(b"\n")[2].lstrip().startswith(b"#") or b"#" in _after_last(data, elements, bracket):
        new = before + b"\n" + literal.encode() + b" " + data[bracket:]
    else:
        new = before + b" " + literal.encode() + b" " + data[bracket:]
    return Edit(new.decode(), data[:bracket].count(b"\n") + 1)


def _after_last(data: bytes, elements: list[Node], bracket: int) -> bytes:
    return data[elements[-1].end_byte : bracket] if elements else b""


def _checked(text: str, edit: Edit, literal: str) -> Edit | Uncertain:
    """Only what certainly reads as before, with one path more, is handed out."""
    before, after = parse(text), parse(edit.text)
    if before is None or after is None:
        return Uncertain("the file would not be read as Nix afterwards")

    def words(node: Node) -> list[str]:
        return [_text(each) for each in _deep(node) if not each.children]

    added = len(words(after)) - len(words(before))
    if remove_import(edit.text, literal) is None or added < 1:
        return Uncertain(f"{literal} stands in the file already")
    return edit


def _value(node: Node) -> Node:
    """The expression that a node's value is written in."""
    while field := WRAPPERS.get(node.type):
        inner = node.child_by_field_name(field)
        if inner is None:
            break
        node = inner
    return node


def _lists(node: Node) -> Iterator[Node]:
    """Lists written out that are the value, or are joined to it with `++`."""
    node = _value(node)
    if node.type == "list_expression":
        yield node
    elif node.type == "binary_expression" and any(child.type == "++" for child in node.children):
        for field in ("left", "right"):
            side = node.child_by_field_name(field)
            if side is not None:
                yield from _lists(side)


def _set_body(node: Node) -> Node | None:
    return next((child for child in node.children if child.type == "binding_set"), None)


def _bindings(node: Node) -> Iterator[Node]:
    body = _set_body(node)
    yield from (child for child in body.children if child.type == "binding") if body else ()


def _inherited(node: Node) -> Iterator[str]:
    body = _set_body(node)
    for child in body.children if body else ():
        if child.type in ("inherit", "inherit_from"):
            for attributes in child.children:
                if attributes.type == "inherited_attrs":
                    yield from (_text(each) for each in attributes.children)


def _path(binding: Node) -> tuple[str | None, ...]:
    """Names of a binding; none for one that is computed."""
    path = binding.child_by_field_name("attrpath")
    assert path is not None
    return tuple(_name(each) for each in path.children_by_field_name("attr"))


def _name(attribute: Node) -> str | None:
    if attribute.type == "identifier":
        return _text(attribute)
    if any(child.type == "interpolation" for child in _deep(attribute)):
        return None
    return _text(attribute).strip('"')


def _everything(node: Node, path: tuple[str | None, ...]) -> Iterator[tuple[tuple[str | None, ...], Node]]:
    """Every binding below a node, with its names from there."""
    for child in node.children:
        if child.type == "binding":
            value = child.child_by_field_name("expression")
            below = path + _path(child)
            if value is not None:
                yield below, value
                yield from _everything(value, below)
        else:
            yield from _everything(child, path)


def _deep(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _deep(child)


def _text(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def _kind(node: Node) -> str:
    return node.type.replace("_expression", "").replace("apply", "a function's result").replace("_", " ")
