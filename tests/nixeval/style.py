"""What deadnix and statix find most, on our Nix files: names that nobody uses, and `with` over more than a list.

Neither program is to be had from Debian or PyPI. `nix fmt -- --check`, in CI, has the layout.
"""

from collections.abc import Iterator
from pathlib import Path

from tree_sitter import Node

from tests.nixeval.nix import REPOSITORY
from tests.nixeval.reader import PARSER

FOLDERS = ("nix", "iso", "tests/nixeval")


def files(root: Path = REPOSITORY) -> list[Path]:
    """Every Nix file that a person wrote."""
    return [
        root / "flake.nix",
        *(path for folder in FOLDERS for path in sorted((root / folder).rglob("*.nix"))),
    ]


def faults(path: Path) -> Iterator[str]:
    """One sentence a fault, with its line."""
    yield from _faults(PARSER.parse(path.read_bytes()).root_node)


def _faults(node: Node) -> Iterator[str]:
    line = node.start_point.row + 1
    match node.type:
        case "let_expression":
            names = list(_bound(node))
            if not names:
                yield f"{line}: let without a name"
            for name in names:
                if not _used(node, _text(name), name):
                    yield f"{name.start_point.row + 1}: {_text(name)} is not used"
        case "function_expression":
            for name in _arguments(node):
                if not _text(name).startswith("_") and not _used(node, _text(name), name):
                    yield f"{name.start_point.row + 1}: the argument {_text(name)} is not used"
        case "with_expression":
            body = node.child_by_field_name("body")
            if body and body.type not in {"list_expression", "select_expression", "variable_expression"}:
                yield f"{line}: with over more than a list"
        case "rec_attrset_expression":
            names = list(_bound(node))
            if not any(_used(node, _text(name), name) for name in names):
                yield f"{line}: rec, but no name is used"
        case "binding":
            path, value = node.child_by_field_name("attrpath"), node.child_by_field_name("expression")
            if path and value and value.type == "variable_expression" and _text(path) == _text(value):
                yield f"{line}: {_text(path)} = {_text(value)} is inherit"
        case "binary_expression":
            left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
            operator = node.child_by_field_name("operator")
            if (
                operator
                and _text(operator) in {"==", "!="}
                and {"true", "false"} & {_text(each) for each in (left, right) if each}
            ):
                yield f"{line}: compared with a truth value"
    for child in node.named_children:
        yield from _faults(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _bound(node: Node) -> Iterator[Node]:
    """Names that a let or a rec binds."""
    for group in node.named_children:
        for binding in group.named_children if group.type == "binding_set" else ():
            field = "attrpath" if binding.type == "binding" else "attrs"
            names = binding.child_by_field_name(field)
            for name in names.children_by_field_name("attr") if names else ():
                yield name
                if field == "attrpath":
                    break


def _arguments(node: Node) -> Iterator[Node]:
    """Names that a function takes; those of a module without `...` too."""
    if universal := node.child_by_field_name("universal"):
        yield universal
    formals = node.child_by_field_name("formals")
    for formal in formals.children_by_field_name("formal") if formals else ():
        name = formal.child_by_field_name("name")
        if name and _text(name):
            yield name


def _used(node: Node, name: str, binding: Node) -> bool:
    """Whether a name is used inside of an expression, other than where it is bound."""
    if node.type == "variable_expression":
        return _text(node) == name
    if node.type == "inherit":
        attributes = node.child_by_field_name("attrs")
        return attributes is not None and any(
            _text(each) == name and each != binding for each in attributes.children_by_field_name("attr")
        )
    return any(_used(child, name, binding) for child in node.named_children)
