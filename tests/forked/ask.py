"""Asks servers (server.py) to run programs of ours; they are started when they are needed, and end with this process."""

import atexit
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

_idle: dict[tuple[str, ...], list[subprocess.Popen[bytes]]] = {}
"""Servers that nobody waits for, by what they run."""


@dataclass(frozen=True)
class Where:
    """What a program finds around itself."""

    environment: dict[str, str]
    namespaces: tuple[str, ...]
    """Files of namespaces (namespaces(7)), in the order in which they are entered."""
    user: str | None = None
    """Who it is run as, by the accounts there; none: as we are."""
    folder: str = str(REPOSITORY)
    """Its working directory, there."""


def run(
    module: tuple[str, ...], argv: tuple[str, ...], where: Where, *, stdin: str = "", seconds: float
) -> subprocess.CompletedProcess[str]:
    """One run of `python -m MODULE`; the further words are modules that the server has imported before.

    Raises:
        subprocess.TimeoutExpired: It took longer, and was killed with all that it had started.
    """
    with _memory(stdin) as given, _memory() as out, _memory() as err:
        request = {
            "argv": argv,
            "input": _seen(given),
            "output": [_seen(out), _seen(err)],
            "environment": where.environment,
            "namespaces": where.namespaces,
            "user": where.user,
            "folder": where.folder,
        }
        status = _ask(module, json.dumps(request).encode() + b"\n", seconds)
        if status is None:
            raise subprocess.TimeoutExpired(argv, seconds)
        return subprocess.CompletedProcess(argv, status, _read(out), _read(err))


def _ask(module: tuple[str, ...], request: bytes, seconds: float) -> int | None:
    ready = _idle.setdefault(module, [])
    server = ready.pop() if ready else _start(module)
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(request)
    server.stdin.flush()
    if not select.select([server.stdout], [], [], seconds)[0]:
        server.kill()
        return None
    said = server.stdout.readline()
    assert said, "the server has ended: what it said last is on this process's standard error"
    ready.append(server)
    return int(said)


def _start(module: tuple[str, ...]) -> subprocess.Popen[bytes]:
    words = (sys.executable, "-m", "tests.forked.server", *module)
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    server = subprocess.Popen(
        words, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(server.kill)
    return server


@contextmanager
def _memory(text: str = "") -> Iterator[int]:
    """A file that is nowhere (memfd_create(2)): a pipe would be full before the program ends."""
    descriptor = os.memfd_create("said")
    try:
        os.write(descriptor, text.encode())
        yield descriptor
    finally:
        os.close(descriptor)


def _seen(descriptor: int) -> str:
    """As the server finds it."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _read(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")
