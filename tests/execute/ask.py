"""Asks the server (server.py) to run an installer; it is started with the first one, and ends with this process."""

import atexit
import json
import os
import select
import subprocess
import sys
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def run(holder: int, argv: tuple[str, ...], output: tuple[Path, Path], seconds: float) -> int:
    """One run of `tests.execute.child` in the mount namespace of another process; its exit status.

    Raises:
        subprocess.TimeoutExpired: It took longer, and was killed with all that it had started.
    """
    server = _started()
    assert server.stdin is not None
    assert server.stdout is not None
    request = {
        "holder": holder,
        "argv": argv,
        "output": [str(path) for path in output],
        "environment": dict(os.environ),
    }
    server.stdin.write(json.dumps(request).encode() + b"\n")
    server.stdin.flush()
    if not select.select([server.stdout], [], [], seconds)[0]:
        _started.cache_clear()
        server.kill()
        raise subprocess.TimeoutExpired(argv, seconds)
    said = server.stdout.readline()
    assert said, "the server of installers has ended: what it said last is on this process's standard error"
    return int(said)


@cache
def _started() -> subprocess.Popen[bytes]:
    words = (sys.executable, "-m", "tests.execute.server")
    server = subprocess.Popen(words, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(server.kill)
    return server
