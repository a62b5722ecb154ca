"""What hv-hostd does. Each verb has its fields, each field its type; nothing else is taken."""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installer.errors import HyperError

if TYPE_CHECKING:
    from installer.facts import Facts

LOGS = "/var/log/libvirt/qemu"
"""libvirt's logs, which only root may read."""
MOST = 8 << 20
"""Bytes of a log that are read."""
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _live() -> "Facts":
    from installer.probe import probe
    from installer.probe.questions import forget
    from installer.probe.root import LiveRoot

    forget()
    return probe(LiveRoot())


@dataclass(frozen=True)
class Host:
    """What it looks at."""

    root: Path = Path("/")
    """Logs are below this folder."""
    facts: "Callable[[], Facts]" = _live
    """Probes the hardware."""


def console_log(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """The end of what a guest wrote to its serial console. Fields: uuid, lines."""
    uuid = _uuid(request)
    return _tail(host, f"{uuid}-console.log", request)


def qemu_log(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """The end of what libvirt and QEMU wrote about a guest. Fields: uuid, name (libvirt's own), lines."""
    _uuid(request)
    name = request.get("name")
    if not isinstance(name, str) or "/" in name or "\0" in name or name in ("", ".", ".."):
        raise _wrong("name", "it is no name of a guest")
    return _tail(host, f"{name}.log", request)


def device_verdict(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Whether a guest can have a PCI device of this host, and what goes along with it; the kernel's boot_id. Fields: pci."""
    address = request.get("pci")
    if not isinstance(address, str) or not _PCI.fullmatch(address):
        raise _wrong("pci", "it is no PCI address with its domain")
    # Imported only when it is asked for: the probe is large, and logs are read far more often.
    from hv.passthrough import judge

    verdict = judge(host.facts(), address)
    boot = (host.root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return {
        "allowed": verdict.allowed,
        "reason": verdict.reason,
        "companions": list(verdict.companions),
        "boot": boot,
    }


def _uuid(request: dict[str, Any]) -> str:
    uuid = request.get("uuid")
    if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
        raise _wrong("uuid", "it is no UUID")
    return uuid


def _wrong(field: str, why: str) -> HyperError:
    return HyperError(
        f"hv-hostd does not take that {field}.", why=why, remedy="This is a defect of hvd: report it."
    )


def _tail(host: Host, name: str, request: dict[str, Any]) -> dict[str, Any]:
    lines = request.get("lines")
    if not isinstance(lines, int) or not 1 <= lines <= 100_000:
        raise _wrong("lines", "it is no number from 1 to 100000")
    folder = os.open(host.root / LOGS.lstrip("/"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return {"exists": False, "text": ""}
    except OSError as error:
        raise HyperError(
            f"{LOGS}/{name} cannot be read.",
            why=str(error.strerror),
            remedy="An administrator looks at what is there.",
        ) from error
    finally:
        os.close(folder)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise _wrong("uuid", "its log is no plain file")
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MOST))
        text = stream.read(MOST).decode(errors="replace")
    return {"exists": True, "text": "\n".join(text.splitlines()[-lines:])}


VERBS: dict[str, tuple[Callable[[Host, dict[str, Any]], dict[str, Any]], frozenset[str]]] = {
    "console-log": (console_log, frozenset({"uuid", "lines"})),
    "device-verdict": (device_verdict, frozenset({"pci"})),
    "qemu-log": (qemu_log, frozenset({"uuid", "name", "lines"})),
}
"""Each verb: what does it, and the fields that it takes."""


def answer(host: Host, request: object) -> dict[str, Any]:
    """What comes back for a request. Never raises."""
    try:
        verb = request.get("verb") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not isinstance(verb, str) or verb not in VERBS:
            raise _wrong("verb", f"known are: {', '.join(VERBS)}")
        does, fields = VERBS[verb]
        given = {key: value for key, value in request.items() if key != "verb"}
        if given.keys() != fields:
            raise _wrong("request", f"{verb} takes {', '.join(sorted(fields))}")
        return does(host, given)
    except HyperError as error:
        said = {"what": error.what, "why": error.why, "remedy": error.remedy}
        return {"error": {**said, "code": int(error.code)}}
    except OSError as error:
        return {
            "error": {
                "what": "hv-hostd could not do that.",
                "why": str(error),
                "remedy": "See `journalctl -u hv-hostd`.",
            }
        }
