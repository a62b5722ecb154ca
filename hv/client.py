"""Speaks to hvd: JSON over HTTP on a unix socket, with nothing but the standard library's fastest parts.

A quick command must not wait for a framework to be imported; even `http.client` would cost more than the answer.
"""

import json
import os
import socket
import sys

from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Protocol

    class Readable(Protocol):
        """What can be sent."""

        def read(self, count: int, /) -> bytes:
            """The next bytes."""
            ...


SOCKET = "/run/hvd/hvd.sock"
VARIABLE = "HV_SOCKET"
"""Another socket, for tests and for a broker that listens elsewhere."""
PATIENCE = 120.0
"""Seconds for an answer; the broker itself gives up on libvirt long before."""
RETURN = 30.0
"""Seconds that a broker which starts anew is waited for."""
PIECE = 1 << 18
"""Bytes of an upload's piece."""


class ProblemError(HyperError):
    """What the broker refused, with the members of its problem."""

    def __init__(self, body: "dict[str, Any]") -> None:
        super().__init__(
            str(body.get("title", "hvd refused.")),
            why=str(body.get("detail", "")),
            remedy=str(body.get("remedy", "")),
            code=Exit(int(body.get("code", 1))),
        )
        self.kind = str(body.get("type", "")).rpartition(":")[2]
        self.body = body


def quoted(text: str) -> str:
    """A piece of a path: percent-encoded UTF-8 (RFC 3986, 2.1)."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
    return "".join(chr(octet) if octet in plain else f"%{octet:02X}" for octet in text.encode())


class Answer:
    """Status, headers (names in lower case) and the body as it comes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        status = self._stream.readline(4096).split(b" ", 2)
        if len(status) < 2 or not status[1].isdigit():
            raise _unreachable("it closed the connection without an answer")
        self.status = int(status[1])
        self.headers: dict[str, str] = {}
        while (line := self._stream.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def pieces(self) -> "Iterator[bytes]":
        """The body, piece by piece (RFC 9112, 7.1)."""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self._stream.readline(64).split(b";")[0] or b"0", 16):
                yield self._stream.read(size)
                self._stream.readline(64)
        elif "content-length" in self.headers:
            left = int(self.headers["content-length"])
            while left and (piece := self._stream.read(min(left, PIECE))):
                left -= len(piece)
                yield piece
        else:
            while piece := self._stream.read(PIECE):
                yield piece

    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces())

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._connection.close()


class Client:
    """One caller of one broker."""

    def __init__(self, path: str | None = None, patience: float = PATIENCE) -> None:
        self.path = path or os.environ.get(VARIABLE) or SOCKET
        self.patience = patience

    def open(
        self,
        method: str,
        where: str,
        data: "bytes | None" = None,
        headers: "dict[str, str] | None" = None,
        *,
        stream: "tuple[Readable, int] | None" = None,
        patience: "float | None" = PATIENCE,
    ) -> Answer:
        """Ask; the answer, also a refusal. `stream`: a file to send, and its size."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(patience)
        length = stream[1] if stream else len(data or b"")
        lines = [f"{method} {where} HTTP/1.1", "Host: hvd", "Connection: close", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            connection.connect(self.path)
            head = "\r\n".join([*lines, "", ""]).encode()
            self._send(connection, [head + (data or b"")])
            if stream is not None:
                self._send(connection, iter(lambda: stream[0].read(PIECE), b""))
            return Answer(connection)
        except OSError as error:
            connection.close()
            raise self._failed(error) from error

    def both_ways(self, where: str) -> "tuple[socket.socket, Answer]":
        """Ask for a stream; what is written to the socket as chunks (`chunk`) goes there, the answer is what comes back.

        Raises ProblemError for a refusal.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        head = (
            f"POST {where} HTTP/1.1\r\nHost: hvd\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        try:
            connection.settimeout(self.patience)
            connection.connect(self.path)
            connection.sendall(head.encode())
            answer = Answer(connection)
            if answer.status >= 400:
                checked(answer)
            connection.settimeout(None)
        except OSError as error:
            connection.close()
            raise self._failed(error) from error
        return connection, answer

    @staticmethod
    def _send(connection: socket.socket, pieces: "Iterable[bytes]") -> None:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has refused already, and its answer says why

    def _failed(self, error: OSError) -> HyperError:
        if isinstance(error, PermissionError):
            return HyperError(
                "You may not speak to hvd.",
                why=f"{self.path} is for the group hv-users, which everybody with a role is in",
                remedy="Ask an administrator for a role (hv-owners makes VMs), then log in again.",
                code=Exit.privilege,
            )
        return _unreachable(f"{self.path}: {error.strerror or error}")

    def ask(
        self,
        method: str,
        where: str,
        given: "object | None" = None,
        headers: "dict[str, str] | None" = None,
    ) -> "dict[str, Any]":
        """The answer's JSON. Raises ProblemError for a refusal."""
        data = None if given is None else json.dumps(given).encode()
        answer = self.open(method, where, data, headers, patience=self.patience)
        try:
            return checked(answer)
        finally:
            answer.close()

    def wait(self, operation: "dict[str, Any]", *, quiet: bool = False) -> "dict[str, Any]":
        """Wait for an operation to end, and tell how far it is; its result. Raises ProblemError if it failed.

        Ctrl-C cancels it; a lost terminal and a polite kill do not (installer.execute.interrupts).
        """
        shown = ""
        terminal = sys.stderr.isatty() and not quiet
        begun = False
        try:
            while operation["status"] in ("queued", "running", "cancelling"):
                if terminal and begun:
                    percent = operation["percent"]
                    line = f"{'' if percent is None else f'{percent:3.0f} % '}{operation['message']}"[:78]
                    if line != shown:
                        sys.stderr.write(f"\r\x1b[K{line}")
                        sys.stderr.flush()
                        shown = line
                operation = self._look(operation, 1 if begun or terminal else 30)
                begun = True
        except KeyboardInterrupt as error:
            if type(error) is not KeyboardInterrupt:
                raise  # nobody pressed it: a terminal that is lost ends the waiting alone
            operation = self.ask("DELETE", f"/1/operations/{operation['id']}")["operation"]
        finally:
            if shown:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
        if operation["status"] != "succeeded":
            raise ProblemError(operation["error"] or {"title": f"It is {operation['status']}."})
        result: dict[str, Any] = operation["result"]
        return result

    def _look(self, operation: "dict[str, Any]", seconds: int) -> "dict[str, Any]":
        """The operation now; the broker may be starting anew."""
        where = f"/1/operations/{operation['id']}?wait={seconds}"
        found: dict[str, Any] = self.ask_patiently("GET", where)["operation"]
        return found

    def ask_patiently(
        self,
        method: str,
        where: str,
        given: "object | None" = None,
        headers: "dict[str, str] | None" = None,
    ) -> "dict[str, Any]":
        """`ask`, again and again while the broker, or libvirt, is starting anew: only what may be asked twice."""
        import time

        end = time.monotonic() + RETURN
        while True:
            try:
                return self.ask(method, where, given, headers)
            except HyperError as error:
                if not passing(error) or time.monotonic() > end:
                    raise
                time.sleep(0.2)


def passing(error: HyperError) -> bool:
    """Whether it may go by itself: the broker does not answer, or libvirt does not answer it."""
    if isinstance(error, ProblemError):
        return error.kind == "libvirt-away"
    return error.code is Exit.failed


def chunk(data: bytes) -> bytes:
    """A piece of a body whose length nobody knows yet; an empty one ends it (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def checked(answer: Answer) -> "dict[str, Any]":
    """The JSON of a good answer. Raises ProblemError."""
    body = answer.body()
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        value = {"title": "hvd gave an answer that is no JSON.", "detail": repr(body[:200])}
        raise ProblemError(value) from None
    if answer.status >= 400:
        raise ProblemError(value)
    return dict(value)


def _unreachable(why: str) -> HyperError:
    return HyperError(
        "hvd does not answer.",
        why=why,
        remedy="See `systemctl status hvd.socket hvd`; it belongs to a host whose configuration enables "
        "hypervisor.privileges.broker.",
        code=Exit.failed,
    )
