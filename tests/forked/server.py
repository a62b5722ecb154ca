"""Runs a program of ours without a new interpreter for each time: `python -m tests.forked.server MODULE IMPORTED…`.

What it is made of is imported once, which takes a second for an installer; each run is a process of its own, forked
off, that may be told to die. A request is a line of JSON on standard input, its answer the exit status on standard
output: below zero the signal that killed it.
"""

import ctypes
import gc
import importlib
import io
import json
import os
import pwd
import runpy
import signal
import sys
from typing import Any

DEATH_SIGNAL, DUMPABLE = 1, 4
"""PR_SET_PDEATHSIG, PR_SET_DUMPABLE (prctl(2))."""
LIBC = ctypes.CDLL(None, use_errno=True)


def serve(module: str, imported: list[str]) -> None:
    """Until nobody asks any more; in a child, until the program ends."""
    for name in imported:
        importlib.import_module(name)
    gc.freeze()
    requests = io.FileIO(0, closefd=False)
    # Without a buffer: what was read ahead of a line would be the child's, too.
    while line := requests.readline():
        if (pid := os.fork()) == 0:
            become(json.loads(line))
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def become(request: dict[str, Any]) -> None:
    """In the child: what a program started there would have."""
    files = [os.open(request["input"], os.O_RDONLY)]
    files += [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for path in request["output"]]
    namespaces = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in request["namespaces"]]
    for number, descriptor in enumerate(files):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # Killed with the server, as its own programs are killed with it (runner.py).
    LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL)
    for path, there in zip(request["namespaces"], namespaces, strict=True):
        if LIBC.setns(there, 0) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
        os.close(there)
    if any(path.endswith("/pid") for path in request["namespaces"]):
        _leave_to_a_child()
    os.chdir(request["folder"])
    if user := request["user"]:
        account = pwd.getpwnam(user)
        os.setgroups(os.getgrouplist(user, account.pw_gid))
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
        # What a new program would be again.
        LIBC.prctl(DUMPABLE, 1)
        LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["", *request["argv"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        errors = "backslashreplace" if number == 2 else "strict"
        stream = os.fdopen(number, "w" if number else "r", buffering=1 if number == 2 else -1, errors=errors)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _leave_to_a_child() -> None:
    """Another PID namespace is its children's; this process ends as the child does."""
    if (pid := os.fork()) == 0:
        LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL)
        return
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        killer = os.WTERMSIG(status)
        if killer != signal.SIGKILL:
            signal.signal(killer, signal.SIG_DFL)
        os.kill(os.getpid(), killer)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
