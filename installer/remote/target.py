"""Which machine, what is sent to it, and what is asked of it. Pure."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from installer.errors import Exit, HyperError

FOLDER = "/run/hyper-nixos/remote"
"""On the target: answers and secrets, in memory, for root alone."""
ANSWERS = f"{FOLDER}/answers.json"
LOOK = 'cat /etc/hyper-nixos/medium.json >/dev/null 2>&1 && command -v hv >/dev/null && echo medium; . /etc/os-release 2>/dev/null; echo "${ID:-unknown}"; uname -m; command -v kexec >/dev/null && echo kexec; true'
"""Asks a machine what runs on it."""


@dataclass(frozen=True)
class Target:
    """An SSH server."""

    user: str
    """Who logs in: root, or somebody who is root there."""
    host: str
    """Name or address."""
    port: int
    """Port."""

    @property
    def name(self) -> str:
        """As known_hosts has it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


def parse_target(text: str) -> Target:
    """`ssh://[user@]host[:port]`. Raises HyperError."""
    try:
        parts = urlsplit(text)
        port = parts.port or 22
    except ValueError as error:
        raise _refusal(text, str(error)) from None
    if parts.scheme != "ssh":
        raise _refusal(text, "it does not begin with ssh://")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.password:
        raise _refusal(text, "a user, a host and a port are all that belongs into it; no password")
    host, user = parts.hostname or "", parts.username or "root"
    # Neither may be taken for an option of ssh.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._:%-]*", host) or not re.fullmatch(
        r"[a-z_][a-z0-9_.-]*", user
    ):
        raise _refusal(text, "user or host is not a name")
    return Target(user, host, port)


def _refusal(text: str, why: str) -> HyperError:
    return HyperError(
        f"the target {text!r} is not understood",
        why=why,
        remedy="write `--target ssh://root@192.0.2.7`, with `:PORT` where it is not 22",
        code=Exit.usage,
    )


@dataclass(frozen=True)
class Seen:
    """What a machine said."""

    medium: bool
    """Whether our live system runs there."""
    system: str
    """ID of os-release(5)."""
    processor: str
    """As uname(1) calls it."""
    kexec: bool
    """Whether it has kexec(8)."""


def parse_look(text: str) -> Seen:
    """The answer to LOOK."""
    lines = text.split()
    medium = lines[:1] == ["medium"]
    rest = lines[medium:]
    return Seen(
        medium=medium,
        system=rest[0] if rest else "unknown",
        processor=rest[1] if len(rest) > 1 else "unknown",
        kexec="kexec" in rest[2:],
    )


def secret_files(answers: Mapping[str, Any]) -> tuple[str, ...]:
    """Every file that the answers name for a secret, each once."""
    return tuple(dict.fromkeys(_files(answers)))


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if value.keys() == {"file"} and isinstance(value["file"], str):
            yield value["file"]
        for inner in value.values():
            yield from _files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _files(inner)


def sent_answers(answers: Mapping[str, Any], places: Mapping[str, str]) -> bytes:
    """The answers with secrets where they will lie on the target."""

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            if value.keys() == {"file"} and value["file"] in places:
                return {"file": places[value["file"]]}
            return {name: moved(inner) for name, inner in value.items()}
        return [moved(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(moved(answers), indent=1, default=str).encode()


def hv(*words: str) -> str:
    """A command line for the target's shell."""
    return shlex.join(("hv", *words))
