"""host.toml: what of an answer file still holds once a host is installed, and may change later.

It is an answer file without what only an installation can do: disks, booting, first guests, hooks. The same checks read it,
so an error in it is told like one in an answer file, with its line.
"""

from collections.abc import Mapping
from typing import Any

import tomli_w

from installer.answers.load import Format, load, parse
from installer.answers.model import Answers
from installer.answers.problems import AnswersError, Path, Problem

INSTALLED: tuple[Path, ...] = (
    ("interactive",),
    ("storage",),
    ("boot",),
    ("system", "source"),
    ("system", "closure"),
    ("system", "offline"),
    ("hypervisor", "passthrough"),
    ("security", "phase"),
    ("first_run", "vms"),
    ("hooks",),
    ("webhooks",),
    ("at_end",),
)
"""Fields that are no part of it."""
ELSEWHERE: dict[Path, str] = {
    ("storage",): "disks.nix has the disks; see docs/storage.md",
    ("hypervisor", "passthrough"): "passthrough.nix has them; see `hv passthrough`",
    ("security", "phase"): "`hv security harden` and `hv security relax` change it",
    ("first_run", "vms"): "`hv vm create` makes guests",
}
"""Where some of them are changed instead."""
PLACEHOLDER = b'\n[storage]\ndisk = { serial = "none" }\n'
"""For the model, which knows no host without disks. It stands below everything, so that no line moves."""
ALWAYS: tuple[Path, ...] = (
    ("version",),
    ("hostname",),
    ("locale",),
    ("keymap",),
    ("timezone",),
    ("ssh", "enable"),
    ("ssh", "port"),
    ("hypervisor", "tier"),
    ("hypervisor", "risk_tolerance"),
    ("security", "profile"),
)
"""Written although they are as by default: a later release may have other defaults, and a host stays as it is."""
EXPOSED = (
    "would be copied into the store that everybody on the host can read",
    "name a file for root alone: password_hash_file = { file = '/var/lib/hyper-nixos/secrets/passwords/NAME' }",
)
HEAD = """\
# What this host is. Change it with `sudo hv setup`, or here by hand and then `sudo hv setup apply`: the modules beside it
# are written anew from it, and your own lines in them stay. Fields: hv answers reference. There are no secrets in it.
"""


def load_declaration(data: bytes, name: str) -> Answers:
    """The declaration as answers; its disks mean nothing. Raises AnswersError with everything that is wrong."""
    raw = parse(data, name, Format.toml)
    foreign = [path for path in INSTALLED if _has(raw, path)]
    if foreign:
        remedy = "take it out; what is decided when a host is installed is not changed here"
        raise AnswersError(
            name,
            [
                Problem(path, "does not belong to a declaration", ELSEWHERE.get(path, remedy))
                for path in foreign
            ],
        )
    answers = load(data + PLACEHOLDER, name, Format.toml)
    if exposed := [number for number, user in enumerate(answers.users) if user.password_hash]:
        raise AnswersError(
            name, [Problem(("users", number, "password_hash"), *EXPOSED) for number in exposed]
        )
    return answers


def declared(answers: Answers, passwords: Mapping[str, str]) -> dict[str, Any]:
    """What a declaration has of answers; `passwords` maps login names to the files of their hashes on the host."""
    full = answers.model_dump(mode="json", exclude_none=True)
    found = answers.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for path in ALWAYS:
        _put(found, path, _get(full, path))
    for path in INSTALLED:
        _drop(found, path)
    for user in found.get("users", ()):
        user.pop("password_hash", None)
        user.pop("password_hash_file", None)
        if user["name"] in passwords:
            user["password_hash_file"] = {"file": passwords[user["name"]]}
    order = {name: number for number, name in enumerate(Answers.model_fields)}
    return {
        name: found[name] for name in sorted(found, key=order.__getitem__) if found[name] not in ({}, [])
    }


def declaration_text(answers: Answers, passwords: Mapping[str, str]) -> str:
    """The file, as the installer leaves it."""
    return f"{HEAD}\n{tomli_w.dumps(declared(answers, passwords))}"


def _has(raw: Mapping[str, Any], path: Path) -> bool:
    return _get(raw, path) is not None


def _get(raw: Any, path: Path) -> Any:
    for part in path:
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw


def _put(raw: dict[str, Any], path: Path, value: Any) -> None:
    *outer, last = path
    for part in outer:
        raw = raw.setdefault(str(part), {})
    raw[str(last)] = value


def _drop(raw: dict[str, Any], path: Path) -> None:
    *outer, last = path
    for part in outer:
        raw = raw.get(str(part), {})
    raw.pop(str(last), None)
