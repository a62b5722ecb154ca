"""A guest's screen for a viewer on this host: listens for it, lets in nobody else, and passes on what both sides say.

The screen has no password of its own, and whoever connects could type into the guest. So the viewer's process has to
belong to whom this one belongs to (or to root), by the kernel's word: SO_PEERCRED (unix(7)) for a socket in the file
system, the owner in /proc/net/tcp (proc_pid_net(5)) for a port. A tunnel of OpenSSH's belongs to its user too.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading

from hv.client import Client, chunk, quoted
from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, Self

PIECE = 1 << 16
LOCAL = "127.0.0.1"
NAME = "screen"
UCRED = struct.Struct("3i")
ESTABLISHED = "01"
"""TCP_ESTABLISHED, in the tables below."""
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
"""Connections of IPv4; of IPv6, where a program may reach IPv4's addresses too."""


class Door:
    """Where the viewer connects. As a context: gone afterwards. Raises HyperError."""

    def __init__(self, path: "str | None" = None, port: "int | None" = None) -> None:
        self._folder: str | None = None
        self.path: str | None = None
        self.port: int | None = None
        if port is not None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._bind((LOCAL, port), f"port {port} of {LOCAL}")
            self.port = self._socket.getsockname()[1]
        else:
            if path is None:
                # Nobody else can look into a folder that mkdtemp made.
                self._folder = tempfile.mkdtemp(prefix="hv-", dir=os.environ.get("XDG_RUNTIME_DIR") or None)
                path = f"{self._folder}/{NAME}"
            self.path = os.path.abspath(path)  # noqa: PTH100 -- pathlib is slow to import
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mask = os.umask(0o177)
            try:
                self._bind(self.path, self.path)
            finally:
                os.umask(mask)
        self._socket.listen(8)

    def _bind(self, address: "Any", shown: str) -> None:
        try:
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            self.path = None  # what is there is not ours to remove
            self._tidy()
            raise HyperError(
                f"A viewer cannot be waited for at {shown}.",
                why=error.strerror or str(error),
                remedy="Name another with --socket or --port, or leave both out.",
                code=Exit.usage,
            ) from error

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets nobody in any more."""
        with contextlib.suppress(OSError):  # wakes up who waits in accept
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._tidy()

    def _tidy(self) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108 -- pathlib is slow to import
            self.path = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def accept(self) -> socket.socket:
        """The next viewer that may; the others are turned away, and that is said. OSError when it is closed."""
        while True:
            there, _ = self._socket.accept()
            owner = self._owner(there)
            if owner in (os.getuid(), 0):
                return there
            there.close()
            who = "a program that cannot be told" if owner is None else f"a program of user {owner}"
            print(f"note: {who} wanted to see the screen, and was turned away", file=sys.stderr, flush=True)

    def _owner(self, there: socket.socket) -> "int | None":
        if there.family == socket.AF_UNIX:
            return int(UCRED.unpack(there.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))[1])
        return owner_of_connection(there.getpeername()[1], there.getsockname()[1])


def owner_of_connection(theirs: int, ours: int, tables: "tuple[str, ...]" = TABLES) -> "int | None":
    """User id behind a connection from one port of 127.0.0.1 to another; None: it is in no table."""
    for table in tables:
        try:
            with open(table, encoding="ascii") as file:  # noqa: PTH123 -- pathlib is slow to import
                rows = [line.split() for line in file]
        except OSError:
            continue
        for row in rows[1:]:
            if len(row) > 7 and row[3] == ESTABLISHED and _is(row[1], theirs) and _is(row[2], ours):
                return int(row[7])
    return None


def _is(address: str, port: int) -> bool:
    host, _, number = address.partition(":")
    here = f"{int.from_bytes(socket.inet_aton(LOCAL), sys.byteorder):08X}"
    return host in (here, f"0000000000000000FFFF0000{here}") and int(number, 16) == port


def how_to(door: Door, kind: str) -> "list[str]":
    """Commands that show it, on this host and from another computer."""
    if door.path is not None:
        here = {"vnc": f"vncviewer {door.path}", "spice": f"remote-viewer spice+unix://{door.path}"}[kind]
        there, port = door.path, 5900
    else:
        here = {
            "vnc": f"vncviewer {LOCAL}::{door.port}",
            "spice": f"remote-viewer spice://{LOCAL}:{door.port}",
        }[kind]
        there, port = f"{LOCAL}:{door.port}", door.port or 5900
    away = {"vnc": f"vncviewer localhost::{port}", "spice": f"remote-viewer spice://localhost:{port}"}[kind]
    return [f"  {here}", f"from another computer: ssh -L {port}:{there} {socket.gethostname()}, then {away}"]


def serve(client: Client, name: str, kind: str, door: Door, *, as_json: bool = False) -> int:
    """One viewer, from where it connects until it or the guest ends; the exit code. Raises HyperError."""
    where = f"/1/vms/{quoted(name)}/screen/{kind}"
    name = client.ask("GET", where)["name"]

    def leave(_signal: int, _frame: "FrameType | None") -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)  # so that the socket does not stay
    if as_json:
        host = LOCAL if door.port else None
        about = {"name": name, "kind": kind, "socket": door.path, "host": host, "port": door.port}
        print(json.dumps({"version": 1, **about}, ensure_ascii=False, indent=2))
    else:
        print(f"The screen of {name}, for one viewer (Ctrl-C ends):")
        print("\n".join(how_to(door, kind)))
    sys.stdout.flush()
    first = Visit(client, where, door.accept())
    if kind == "spice":  # its other channels are connections of their own
        threading.Thread(target=_more, args=(client, where, door, first), daemon=True).start()
    else:
        door.close()
    by = first.run()
    if not as_json:
        print(
            f"{name}: {'the viewer left' if by == 'viewer' else 'its screen was closed: it ended, or hvd did'}"
        )
    return int(Exit.ok)


def _more(client: Client, where: str, door: Door, first: "Visit") -> None:
    while True:
        try:
            visit = Visit(client, where, door.accept())
        except (OSError, ValueError):
            return
        except HyperError as error:
            print(error, file=sys.stderr, flush=True)
            first.hang_up()
            return
        threading.Thread(target=visit.run, daemon=True).start()


class Visit:
    """One connection of a viewer, and its stream from hvd."""

    def __init__(self, client: Client, where: str, viewer: socket.socket) -> None:
        self._viewer = viewer
        try:
            self._there, self._answer = client.both_ways(where)
        except HyperError:
            viewer.close()
            raise
        self._left = False

    def run(self) -> str:
        """Pass on what they say; who ended it, `viewer` or `guest`."""
        typed = threading.Thread(target=self._to_guest, daemon=True)
        typed.start()
        try:
            for piece in self._answer.pieces():
                self._viewer.sendall(piece)
        except (OSError, ValueError):
            pass
        by = "viewer" if self._left else "guest"
        self.hang_up()
        typed.join()
        self._answer.close()
        self._viewer.close()
        return by

    def _to_guest(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._viewer.recv(PIECE):
                self._there.sendall(chunk(piece))
        self._left = True
        with contextlib.suppress(OSError):
            self._there.sendall(chunk(b""))

    def hang_up(self) -> None:
        """Ends it for the viewer."""
        with contextlib.suppress(OSError):
            self._viewer.shutdown(socket.SHUT_RDWR)
