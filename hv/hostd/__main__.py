"""Runs hv-hostd on systemd's socket, or by path: `python -m hv.hostd --socket FILE --for ACCOUNT`."""

import argparse
import json
import os
import pwd
import socket
import struct
import sys
import threading
from pathlib import Path

from hv.hostd.verbs import Host, answer
from installer.commands.answers import machine

REQUEST = 65536
"""Most bytes of a request."""
FIRST_FD = 3
"""SD_LISTEN_FDS_START."""


def serve_one(connection: socket.socket, allowed: frozenset[int], host: Host) -> None:
    """One request, one answer, one line in the journal."""
    with connection:
        connection.settimeout(30)
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", raw)
        if uid not in allowed:
            print(f"refused: user {uid} is not the broker", file=sys.stderr, flush=True)
            return
        try:
            with connection.makefile("rb") as stream:
                request = json.loads(stream.readline(REQUEST))
        except (OSError, ValueError):
            request = None
        given = answer(host, request)
        verb = request.get("verb") if isinstance(request, dict) else None
        print(f"{verb!r} {'failed' if 'error' in given else 'done'}", file=sys.stderr, flush=True)
        try:
            connection.sendall(json.dumps(given).encode() + b"\n")
        except OSError:
            return


def main() -> int:
    """Serve until stopped."""
    top = argparse.ArgumentParser(prog="hv-hostd", description="What the broker hvd needs root for.")
    top.add_argument(
        "--socket", type=Path, metavar="FILE", help="listen here instead of on systemd's socket"
    )
    top.add_argument("--for", dest="account", default="hvd", help="who may ask (default: %(default)s)")
    top.add_argument(
        "--machine", type=Path, metavar="RECORD", help="judge this recorded machine's devices instead"
    )
    options = top.parse_args()
    account = pwd.getpwnam(options.account)
    if options.socket is None:
        if os.environ.get("LISTEN_PID") != str(os.getpid()):
            print("hv-hostd was given no socket: systemd starts it", file=sys.stderr)
            return 2
        there = socket.socket(fileno=FIRST_FD)
    else:
        options.socket.unlink(missing_ok=True)
        there = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        there.bind(str(options.socket))
        os.chown(options.socket, account.pw_uid, -1)
        options.socket.chmod(0o600)
        there.listen(32)
    host = Host() if options.machine is None else Host(facts=lambda: machine(options.machine))
    allowed = frozenset({0, account.pw_uid})
    while True:
        connection, _ = there.accept()
        threading.Thread(target=serve_one, args=(connection, allowed, host), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
