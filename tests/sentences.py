"""The sentences that the guided installer shows and others make: those of the planner, the checks of answers, the probe
and the executor, found in their source.

Each becomes a template with named places, `partition {number}, {size}: {content}`. A piece that is said or not makes
two templates, so that translators see whole sentences.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

from installer.kinds import HolderKind, IommuState, VirtualizationState

REPOSITORY = Path(__file__).resolve().parents[1]
GUIDED = "guided"
"""The guided installer itself: its own words are marked, and only what its errors say is not."""
FOLDERS = (GUIDED, "answers", "plan", "plan/layouts", "plan/storage", "probe", "execute")
"""Below installer/: where such sentences are made."""
SILENT = {
    *("answers/declaration", "answers/places", "answers/reference", "answers/schema", "answers/skeleton"),
    *("answers/toml", "execute/abort", "plan/model", "plan/order", "plan/storage/element"),
    *("probe/blocks", "probe/draft", "probe/facter", "probe/hypervisor", "probe/nics", "probe/pci"),
    *("probe/questions", "probe/record", "probe/redact", "probe/root", "probe/show", "probe/udev"),
}
"""Modules whose words no page of the guided installer shows: those of other commands, names of kinds of devices, and
faults of the program itself.
"""
NOT_SHOWN = {
    *(
        "Expected '=' after a key",
        "Invalid statement|Invalid initial character",
        "Expected ']'|Expected '\\]\\]'",
    ),
    *(
        "Illegal character '\\\\n'",
        "Expected newline or end of document",
        "pci name",
        "model name",
        "core id",
    ),
    *("physical id", "smart health", "nvme health", "ssh-ed25519 AAAA… anna@desk", "medium:router"),
    *("cpuinfo flag {flag}", "vms", "cryptvms", "webhook:{number}", "medium:{each}", "ends:{key}"),
    *("path:{target}{configuration}", "swap {name}", "swap {device}", "holder {device}", "holder {name}"),
    *("holder {name}-", "holder {readtext}", "mount {target}", "ends {hash}", "model = {asked}"),
    "{name} at {start}+{size}",
    *("rotational = {asked}", "zfs {dataset} at {target}", "user {stuid}"),
    *("hypervisor.passthrough[{number}]", "the ISA bridge", "options {options}"),
    *("Make {layout} of {on}", "<{keys}H", "b{number}", "{size}b", "\\u{char}", "undo of {id}: {error}"),
}
"""Strings that look like a sentence and are for programs, or the same in every language."""
ALONE = {
    "answers/explain": ("text",),
    "execute/apart": ("Starting",),
    "execute/shared_esp": ("another",),
    "execute/progress": ("FAILED", "all", "done", "starting"),
    "plan/action_words": ("new", "EFI system", "BIOS boot", "plain dm-crypt"),
    "plan/describe": ("Afterwards", "Layout", "Warnings", "after", "before", "undo:"),
    "plan/losses": ("BitLocker volume", "LUKS container", "disk", "free"),
    "plan/source": ("none",),
}
"""Words that are a whole text."""
KEYS_TOLD = {"prebuilt"}
"""Modules where the keys of a table are sentences: what may be wrong, and whether it is."""
LISTED = (
    *('{name} "{label}"', "Make the array {name} (md {level}) of {on}", "{model} (serial {serial}, {size})"),
    *("{name} ({model}, serial {serial})", "{name} ({model}, no serial)"),
    *("{size} GiB {what}", "{size} MiB {what}", "{size} TiB {what}", "{other} of the same group: {reason}"),
    "hypervisor.passthrough[{number}] (ids {ids}) {found}",
    "hypervisor.passthrough[{number}] (address {address}) {found}",
    *("LUKS container {uuid} on {name}", "LVM physical volume {uuid} on {name}"),
    *("member of an md array {uuid} on {name}", "member of a ZFS pool {uuid} on {name}"),
    *("bcache device {uuid} on {name}", "serial = {serial}"),
    *("its action `{kind}` failed: {why}", "what it should have done is not there: {why}"),
    "it could not be checked which disk it writes to: {why}",
    'choose a larger disk, or a smaller storage.swap.size, or storage.swap.kind = "zram"',
)
"""Texts that the source puts together of pieces: without a word of ours between them, or with words in a value."""
STACKED = tuple(
    text
    for kind in HolderKind
    if " " in kind
    for text in (
        f"{{below}} is part of {kind} {{name}}",
        f"{kind} {{name}} on {{where}}",
        f"{kind} {{name}} is active on {{where}}",
    )
)
"""What is said of each kind of thing that disks are put together to."""
STATES = tuple(
    dict.fromkeys(
        state.value
        for kind in (VirtualizationState, IommuState)
        for state in kind
        if state not in (VirtualizationState.ready, IommuState.on)  # nothing is said where all is well
    )
)
"""How hardware virtualization and the IOMMU may stand."""
NO_SENTENCES = ("compile", "Literal", "TypeAdapter", "cast", "getattr", "Runner", "open")
"""Calls and subscripts whose strings are for programs."""
MOST = 12
"""Templates that one string may become."""


@dataclass(frozen=True)
class Place:
    """Where a value stands in a template."""

    name: str
    """What the value is, by the source."""


Part = str | Place


@dataclass
class _Source:
    """One module."""

    tree: ast.Module
    parents: dict[int, ast.AST] = field(default_factory=dict)
    within: Counter[int] = field(default_factory=Counter)
    """How often a string was met, as itself and as a part of a longer one."""
    called: set[int] = field(default_factory=set)
    """Strings that a longer one calls by a name."""
    keys_told: bool = False
    """Whether keys of tables are sentences."""
    errors_alone: bool = False
    """Whether only errors say something."""

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parents[id(child)] = node

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Its parents, the nearest first."""
        while (parent := self.parents.get(id(node))) is not None:
            yield parent
            node = parent

    def assigned(self, name: ast.Name) -> ast.expr | None:
        """What a local name stands for, where that is a text of its own: the nearest assignment before."""
        function = next((each for each in self.above(name) if isinstance(each, ast.FunctionDef)), None)
        if function is None:
            return None
        found: ast.expr | None = None
        for node in ast.walk(function):
            if isinstance(node, ast.AugAssign) and _called(node.target) == name.id:
                return None
            if isinstance(node, ast.For | ast.comprehension) and name.id in _names(node.target):
                return None
            if (
                isinstance(node, ast.Assign)
                and [_called(target) for target in node.targets] == [name.id]
                and node.lineno < name.lineno
                and (found is None or node.lineno > found.lineno)
            ):
                found = node.value
        return found if found is not None and _is_text(found) else None


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _called(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _is_text(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.IfExp(body=body, orelse=orelse):
            return _is_text(body) and _is_text(orelse)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _is_text(left) or _is_text(right)
        case _:
            return False


def _expanded(node: ast.AST, source: _Source, *, named: bool = False) -> list[tuple[Part, ...]]:
    """The templates that a string is; `named`: a text of its own, which a longer one calls by name."""
    source.within[id(node)] += not named
    if named:
        source.called.add(id(node))
    match node:
        case ast.Constant(value=str(text)):
            first, *others = re.split(r"(?<!\{)\{\}", text)  # filled by `str.format`
            return [(first, *(part for other in others for part in (Place("value"), other)))]
        case ast.IfExp(body=body, orelse=orelse) if _is_text(node):
            return [*_expanded(body, source, named=named), *_expanded(orelse, source, named=named)]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _joined([_expanded(left, source, named=named), _expanded(right, source, named=named)])
        case ast.JoinedStr(values=values):
            return _joined([_expanded(each, source, named=named) for each in values])
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return _expanded(value, source, named=named)
        case ast.FormattedValue(value=value):
            return [(Place(_place(value)),)]
        case ast.Name() if (meant := source.assigned(node)) is not None:
            return _expanded(meant, source, named=True)
        case _:
            return [(Place(_place(node)),)]


def _joined(alternatives: list[list[tuple[Part, ...]]]) -> list[tuple[Part, ...]]:
    found = [tuple(part for each in choice for part in each) for choice in product(*alternatives)]
    assert len(found) <= MOST, found[0]
    return found


def _place(node: ast.AST) -> str:
    """What to call a value: the last name in what makes it."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return re.sub("[^a-z]", "", name.lower()) or "value"
        case ast.Call(func=ast.Attribute(attr="join" | "get"), args=[*_, last]) | ast.Call(args=[last, *_]):
            return _place(last)
        case ast.Call(func=ast.Attribute(value=value, attr=name)):
            return _place(value) if name in ("upper", "lower", "strip") else _place(ast.Name(name))
        case ast.Call(func=called):
            return _place(called)
        case ast.BoolOp(values=[first, *_]):
            return _place(first)
        case ast.IfExp(body=body, orelse=orelse):
            return _place(orelse if isinstance(body, ast.Constant) else body)
        case ast.GeneratorExp(elt=inner) | ast.ListComp(elt=inner) | ast.Subscript(value=inner):
            return _place(inner)
        case ast.BinOp(left=inner) | ast.NamedExpr(value=inner) | ast.UnaryOp(operand=inner):
            return _place(inner)
        case ast.JoinedStr(values=values):
            return _place(
                next((each.value for each in values if isinstance(each, ast.FormattedValue)), node.values[0])
            )
        case ast.Starred(value=inner):
            return _place(inner)
        case _:
            return "value"


def written(parts: tuple[Part, ...]) -> str:
    """A template as the catalogue has it."""
    text, used = "", dict[str, int]()
    for part in parts:
        if isinstance(part, str):
            text += part.replace("{", "{{").replace("}", "}}")
            continue
        used[part.name] = number = used.get(part.name, 0) + 1
        text += "{" + part.name + (str(number) if number > 1 else "") + "}"
    return text


def is_sentence(parts: tuple[Part, ...]) -> bool:
    """Whether a person reads it: words in a row, or one beside a value."""
    literal = " ".join(part for part in parts if isinstance(part, str))
    words = re.findall(r"(?<![\w./=-])[A-Za-z][a-z']*(?![\w/=(-])", re.sub("`[^`]*`", "", literal))
    beside = "`" in literal or any(isinstance(part, Place) for part in parts)
    return (len(words) > 1 or (bool(words) and beside)) and (
        "|" not in literal and not literal.lstrip().startswith(("!", "#", "=", "^", "%", "\\"))
    )


def _is_word(node: ast.AST, source: _Source) -> bool:
    """Whether a word stands in for a value in a sentence: `{serial or 'none'}`."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(source.parents[id(node)], ast.BoolOp)
        and any(isinstance(each, ast.FormattedValue) for each in source.above(node))
        and bool(re.fullmatch("[a-z]+", str(node.value)))
    )


def _for_programs(node: ast.AST, source: _Source) -> bool:
    above = list(source.above(node))
    if source.errors_alone and not any(
        isinstance(each, ast.Call) and _called(each.func) == "HyperError" for each in above
    ):
        return True
    if isinstance(above[0], ast.Expr | ast.Compare | ast.MatchValue | ast.Subscript):
        return True
    if isinstance(above[0], ast.Dict) and node in above[0].keys and not source.keys_told:
        return True
    for each in above:
        if isinstance(each, ast.JoinedStr):
            return False
        if isinstance(each, ast.Call | ast.Subscript):
            name = _called(each.func if isinstance(each, ast.Call) else each.value)
            if name in NO_SENTENCES:
                return True
        if isinstance(each, ast.keyword) and each.arg in ("argv", "options"):
            return True
    return False


def of(path: Path) -> Iterator[str]:
    """Every template in a module, in order."""
    source = _Source(
        ast.parse(path.read_text()),
        keys_told=path.stem in KEYS_TOLD,
        errors_alone=path.parent.name == GUIDED,
    )
    nodes = [node for node in ast.walk(source.tree) if isinstance(node, ast.expr) and _is_text(node)]
    # The widest first: what is a part of it is no text of its own.
    nodes.sort(
        key=lambda each: (each.lineno, each.col_offset, -(each.end_lineno or 0), -(each.end_col_offset or 0))
    )
    found: list[tuple[ast.AST, list[tuple[Part, ...]]]] = []
    for node in nodes:
        if isinstance(node, ast.IfExp) or source.within[id(node)] or _for_programs(node, source):
            continue
        found.append((node, _expanded(node, source)))
    for text_node, templates in found:
        for parts in templates:
            if is_sentence(parts) or _is_word(text_node, source):
                text = re.sub(r"^\{indent\}\s*", "", written(parts))
                # What has a name and begins with a blank or a comma is said within a longer text alone.
                alone = text[:1] not in " ,;" or id(text_node) not in source.called
                if alone and text.strip() not in NOT_SHOWN:
                    yield text.strip()


@cache
def sentences() -> dict[str, Path]:
    """Every template, with the module that it is from first."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / "installer" / folder).glob("*.py")):
            name = f"{folder}/{path.stem}"
            if name not in SILENT:
                for text in (*of(path), *ALONE.get(name, ())):
                    found.setdefault(text, path)
    for text in (*LISTED, *STACKED, *STATES):
        found.setdefault(text, REPOSITORY / "installer/plan/losses.py")
    return found
