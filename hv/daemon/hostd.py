"""How the broker asks hv-hostd: one line of JSON there, one back."""

import json
import socket
from typing import Any

from hv.daemon.problems import RefusedError, Status
from installer.errors import Exit

SOCKET = "/run/hv-hostd/hv-hostd.sock"
ANSWER = 32 << 20
"""Most bytes of an answer."""


def ask(path: str, request: dict[str, Any], seconds: float = 30) -> dict[str, Any]:
    """Its answer. Raises Refused."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
            there.settimeout(seconds)
            there.connect(path)
            there.sendall(json.dumps(request).encode() + b"\n")
            with there.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline(ANSWER))
    except (OSError, ValueError) as error:
        raise RefusedError(
            "no-hostd",
            Status.unavailable,
            "The helper that reads what only root may does not answer.",
            why=f"{path}: {error}",
            remedy="An administrator sees why with `systemctl status hv-hostd.socket hv-hostd`.",
        ) from error
    if "error" in answer:
        told = answer["error"]
        status = Status.missing if told.get("code") == Exit.selection else Status.failed
        raise RefusedError("hostd", status, told["what"], why=told["why"], remedy=told["remedy"])
    return answer
