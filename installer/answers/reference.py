"""The reference page of the answer file, read off the model."""

from installer.answers.problems import Path, shown_key
from installer.answers.schema import Node, answers_schema, children, fields, is_table, resolved
from installer.answers.toml import toml

_INTRO = """# Answer file

An answer file says everything that an installation needs to know. It is written in [TOML](https://toml.io), or
with the same names in JSON, and read strictly: a field that is not listed here is an error, and so is a value
of the wrong type; text is never taken for a number. `hv answers check FILE` tells every problem at once, with
its line, `hv answers new` writes a file to start from, and `hv answers schema` prints the JSON Schema for
editors. Secrets never stand in the file: it names other files that hold them, or holds hashes.

This page is made from the model by `hv answers reference`.
"""


def reference() -> str:
    """The page, in Markdown: one section for each table, one row for each field."""
    root = resolved(answers_schema())
    sections = [_INTRO, _section((), root, "Fields above the first table.")]
    for path, node in fields():
        table, inner = _table_of(path, node)
        if is_table(inner):
            sections.append(_section(table, inner, str(node.get("description", ""))))
    sections.append(_secrets())
    return "\n".join(sections)


def _table_of(path: Path, node: Node) -> tuple[Path, Node]:
    return ((*path, 0), resolved(node["items"])) if "items" in node else (path, node)


def _header(path: Path) -> str:
    name = ".".join(shown_key(part) for part in path if isinstance(part, str))
    return f"[[{name}]]" if path and path[-1] == 0 else f"[{name}]"


def _section(path: Path, node: Node, words: str) -> str:
    required = set(node.get("required", ()))
    rows = [
        f"| `{name}` | {_type(child)} | {_default(name in required, child)} | {_cell(_words(child))} |"
        for name, child in children(node).items()
    ]
    title = f"`{_header(path)}`" if path else "The file"
    return "\n".join(
        [
            f"## {title}",
            "",
            words,
            "",
            "| Field | Type | Default | Meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _secrets() -> str:
    return (
        "## Secrets\n\n"
        '`{ file = "/absolute/path" }` names a file on the live system; one trailing newline is dropped. '
        "`{ prompt = true }` asks at the console, which an unattended installation cannot.\n"
    )


def _words(node: Node) -> str:
    words = str(node.get("description", ""))
    item = resolved(node["items"]) if "items" in node else node
    bounds = [
        f"{name} {node[key]}"
        for name, key in (("at least", "minimum"), ("at most", "maximum"))
        if key in node
    ]
    if bounds:
        words += f" {' and '.join(bounds).capitalize()}."
    if title := item.get("title"):
        words += f" {'Each is' if item is not node else 'It is'} {title}."
    if examples := node.get("examples") or item.get("examples"):
        words += f" Example: `{toml(examples[0])}`."
    return words


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _type(node: Node) -> str:
    if node.get("writeOnly") and children(node):
        return "secret"
    if choices := node.get("enum", [node["const"]] if "const" in node else None):
        return ", ".join(f"`{toml(choice)}`" for choice in choices)
    match node.get("type"):
        case "array":
            item = resolved(node["items"])
            return "list of tables" if is_table(item) else f"list of {_type(item)}"
        case "object":
            inner = node.get("additionalProperties")
            return f"table of {_type(resolved(inner))}" if isinstance(inner, dict) else "table"
        case "integer":
            return "whole number"
        case "boolean":
            return "`true`, `false`"
        case _:
            return "text"


def _default(required: bool, node: Node) -> str:
    if required:
        return "**required**"
    default = node.get("default")
    if default is None or (isinstance(default, dict) and is_table(node)) or default in ([], {}, ""):
        return ""
    if isinstance(default, dict):
        return "; ".join(f"`{shown_key(key)} = {toml(value)}`" for key, value in default.items())
    return f"`{toml(default)}`"
