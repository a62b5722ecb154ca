"""The answer model as JSON Schema, and ways to walk it: messages, the reference and the skeleton all read it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from installer.answers.model import Answers
from installer.answers.problems import Path

Node = dict[str, Any]
"""One schema, references followed."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Titles are written by hand, where they help; titles made of field names help nobody."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


@cache
def answers_schema() -> Node:
    """The whole schema (draft 2020-12), closed: unknown keys are errors in every table."""
    schema = Answers.model_json_schema(schema_generator=_Generator)
    for definition in [schema, *schema["$defs"].values()]:
        definition.pop("title", None)
    return {"$schema": DIALECT, "title": "Hyper-NixOS answer file", **schema}


def resolved(node: Node) -> Node:
    """The schema with its reference followed and `or null` taken off; what stands beside the reference wins."""
    for key in ("anyOf", "allOf"):
        inner = [option for option in node.get(key, ()) if option != {"type": "null"}]
        if len(inner) == 1:
            rest = {name: value for name, value in node.items() if name != key}
            return resolved({**inner[0], **rest})
    if reference := node.get("$ref"):
        name = reference.rpartition("/")[2]
        rest = {name: value for name, value in node.items() if name != "$ref"}
        return resolved({**answers_schema()["$defs"][name], **rest})
    return node


def children(node: Node) -> dict[str, Node]:
    """Fields of a table, or of all kinds of table that may stand there."""
    found = dict(node.get("properties", {}))
    for option in node.get("oneOf", ()):
        found |= children(resolved(option))
    return {name: resolved(child) for name, child in found.items()}


def child(node: Node, part: str | int) -> Node | None:
    """The schema of a field or list element; none where the model has none."""
    if isinstance(part, int):
        items = node.get("items")
        return resolved(items) if items is not None else None
    if found := children(node).get(part):
        return found
    extra = node.get("additionalProperties")
    return resolved(extra) if isinstance(extra, dict) else None


def node_at(path: Path) -> Node | None:
    """The schema of a field; none where the model has none."""
    node: Node | None = resolved(answers_schema())
    for part in path:
        if node is None:
            return None
        node = child(node, part)
    return node


def is_table(node: Node) -> bool:
    """Whether it has fields and a section of its own; secrets are written in one line."""
    return bool(children(node)) and not node.get("writeOnly")


def is_secret(path: Path) -> bool:
    """Whether the field, or a table around it, is marked as a secret."""
    return any((node_at(path[:length]) or {}).get("writeOnly") for length in range(len(path) + 1))


def holds_secret(node: Node) -> bool:
    """Whether there is a secret anywhere in what may stand here."""
    below = [*children(node).values(), *([resolved(node["items"])] if "items" in node else [])]
    return bool(node.get("writeOnly")) or any(holds_secret(inner) for inner in below)


def fields(node: Node | None = None, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every field of the model, depth first, in its order; elements of lists stand at position 0."""
    for name, inner in children(node or resolved(answers_schema())).items():
        here = (*path, name)
        yield here, inner
        if "items" in inner:
            item = resolved(inner["items"])
            yield from fields(item, (*here, 0)) if children(item) else ()
        elif children(inner):
            yield from fields(inner, here)


def schema_text() -> str:
    """The schema as a file: JSON, indented, one newline at its end."""
    return json.dumps(answers_schema(), indent=2, ensure_ascii=False) + "\n"
