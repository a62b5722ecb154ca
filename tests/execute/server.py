"""Runs installers without a new interpreter for each: `python -m tests.execute.server`.

What they are made of is imported once, which takes a second; each run is a process of its own, forked off, that may
be told to die. A request is a line of JSON on standard input, its answer the exit status on standard output: below
zero the signal that killed it.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from installer.execute import abort, installation
from tests.execute import child

IMPORTED = (abort, installation)
REPOSITORY = Path(__file__).parents[2]
MOUNTS = 0x00020000
"""CLONE_NEWNS (setns(2))."""
DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG (prctl(2))."""


def serve() -> int:
    """Until nobody asks any more; in a child, what the installer ends with."""
    for line in sys.stdin:
        request = json.loads(line)
        if (pid := os.fork()) == 0:
            become(request)
            return child.main()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return 0


def become(request: dict[str, Any]) -> None:
    """In the child: what a program started there would have."""
    said = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for path in request["output"]]
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *said)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    libc = ctypes.CDLL(None, use_errno=True)
    # Killed with the server, as its own programs are killed with it (runner.py).
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)
    there = os.open(f"/proc/{request['holder']}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(there, MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter the mount namespace of {request['holder']}")
    os.close(there)
    os.chdir(REPOSITORY)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [child.__file__, *request["argv"]]


if __name__ == "__main__":
    sys.exit(serve())
