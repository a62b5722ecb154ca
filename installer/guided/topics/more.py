"""Finer points, for experts: fields of the answer file that no other page asks about, by their names."""

import json
import tomllib
from collections.abc import Mapping
from functools import partial
from typing import Any

from installer.answers.load import Format, load
from installer.answers.problems import Path, shown_path
from installer.errors import HyperError
from installer.guided.page import description
from installer.guided.preview import filled
from installer.guided.questions import Dialogue, Line, Many, One, Option
from installer.guided.situation import Level, Situation, changed
from installer.guided.told import told
from installer.guided.words import _

GROUPS: dict[str, tuple[Path, ...]] = {
    "boot": (
        ("boot", "loader"),
        ("boot", "firmware"),
        ("boot", "esp_size"),
        ("boot", "kernels"),
        ("boot", "secure_boot"),
        ("boot", "generations"),
        ("boot", "kernel_params"),
    ),
    "storage": (
        ("storage", "root_size"),
        ("storage", "subvolumes"),
        ("storage", "mount_options"),
        ("storage", "swap", "size"),
        ("storage", "swap", "zram_percent"),
        ("storage", "esp"),
        ("storage", "keep"),
    ),
    "storage.pool": (
        ("storage", "pool", "filesystem"),
        ("storage", "pool", "redundancy"),
        ("storage", "pool", "nodatacow"),
        ("storage", "pool", "record_size"),
        ("first_run", "pool"),
    ),
    "storage.encryption": (
        ("storage", "encryption", "pbkdf_memory"),
        ("storage", "encryption", "pbkdf_iterations"),
        ("storage", "encryption", "allow_discards"),
        ("storage", "encryption", "recovery_recipients"),
        ("storage", "encryption", "ssh", "port"),
        ("storage", "encryption", "ssh", "keys"),
    ),
    "network, ssh": (
        ("domain",),
        ("network", "bonds"),
        ("network", "vlans"),
        ("network", "management"),
        ("network", "dns"),
        ("network", "ntp"),
        ("network", "proxy"),
        ("network", "no_proxy"),
        ("ssh", "enable"),
        ("ssh", "port"),
        ("ssh", "password_login"),
    ),
    "system": (
        ("system", "source"),
        ("system", "closure"),
        ("system", "substituters"),
        ("system", "ca_certificates"),
        ("system", "offline"),
    ),
    "hypervisor": (
        ("hypervisor", "risk_tolerance"),
        ("hypervisor", "hugepages_1g"),
        ("hypervisor", "hugepages_2m"),
        ("hypervisor", "cpu_model"),
    ),
    "hooks, webhooks, at_end": (("hooks",), ("webhooks",), ("at_end",)),
}
"""Every field that is asked for here, a page each; a test compares with the model."""
PATHS: tuple[Path, ...] = tuple(path for group in GROUPS.values() for path in group)
DONE = "done"
EXAMPLES: dict[Path, str] = {
    ("webhooks",): '[{ url = "https://fleet.example.org/events" }]',
    ("hooks",): '[{ when = "after-install", command = ["/run/hooks/ready"] }]',
    ("network", "vlans"): '[{ name = "vlan10", id = 10, link = "lan0" }]',
    ("network", "bonds"): '[{ name = "bond0", members = ["lan0", "lan1"] }]',
}


def title() -> str:
    """For the head of the page."""
    return _("Finer points")


def dialogue(situation: Situation) -> Dialogue:
    """Which fields, then the value of each as it stands in the answer file."""
    if situation.level is not Level.expert:
        return {}
    values = {path: value for path in PATHS if (value := situation.said(*path)) is not None}
    changes: dict[Path, Any] = dict(values)
    while True:
        group = yield _menu(changes)
        if group == DONE:
            # Whole tables and lists first taken out, so that what was set before and is unset now is gone.
            return {**dict.fromkeys(values), **changes}
        chosen = yield Many(
            title=_("Finer points"),
            prompt=_("Which fields do you want to set yourself?"),
            lines=(_("What was set and is not chosen is unset."),),
            options=tuple(Option(path, shown_path(path)) for path in GROUPS[group]),
            default=tuple(path for path in GROUPS[group] if path in changes),
        )
        for path in GROUPS[group]:
            if path not in chosen:
                changes.pop(path, None)
                continue
            text = yield Line(
                title=_("Finer points"),
                prompt=f"{shown_path(path)} =",
                lines=(
                    _(description(path)),
                    _("As in the answer file: {example}").format(example=EXAMPLES[path])
                    if path in EXAMPLES
                    else _("As in the answer file (TOML); a text can be without its quotation marks."),
                ),
                default=toml(changes[path]) if path in changes else "",
                check=partial(problem, situation, path),
                field=path,
            )
            changes[path] = value_of(text)


def _menu(changes: Mapping[Path, Any]) -> One:
    def shown(group: str) -> str:
        own = [shown_path(path) for path in GROUPS[group] if path in changes]
        return f"{group}: {', '.join(own)}" if own else group

    return One(
        title=_("Finer points"),
        prompt=_("Set fields by their names?"),
        lines=(_("Recommended: none; each has a default that suits most hosts."),),
        options=(Option(DONE, _("no more")), *(Option(group, shown(group)) for group in GROUPS)),
        default=DONE,
    )


def value_of(text: str) -> Any:
    """What was typed, as TOML reads it; a bare word is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def toml(value: Any) -> str:
    """A value on one line, as TOML has it."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return (
                "{ " + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + " }"
            )
        case list() | tuple():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def problem(situation: Situation, path: Path, text: str) -> str | None:
    """What the answer file's own check says about this field."""
    if not text.strip():
        return _("Type a value, or go back and choose the field no more.")
    raw = changed(filled(situation), {path: value_of(text)})
    try:
        load(json.dumps(raw).encode(), "answers", Format.json)
    except HyperError as error:
        for each in getattr(error, "problems", ()):
            if tuple(each.path)[: len(path)] == path:
                return f"{shown_path(tuple(each.path))} {told(each.wrong)}: {told(each.remedy)}".replace(
                    "`", ""
                )
    return None
