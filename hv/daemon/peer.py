"""Who is at the other end of a unix socket, by the kernel's word (SO_PEERCRED, unix(7))."""

import asyncio
import grp
import os
import pwd
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Caller

_UCRED = struct.Struct("3i")


def credentials(connection: Any) -> tuple[int, int, int]:
    """Process, user and group of the peer when it connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return pid, uid, gid


def caller(uid: int) -> Caller:
    """The person behind a user id, with the groups that the host gives them now. Raises Refused."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError as error:
        raise RefusedError(
            "unknown-caller",
            Status.denied,
            "hvd does not know you.",
            why=f"there is no account with the user id {uid}",
            remedy="Log in with an account of this host.",
        ) from error
    return _caller(entry)


def named(name: str) -> Caller:
    """The person of that name. Raises Refused."""
    try:
        return _caller(pwd.getpwnam(name))
    except KeyError as error:
        raise RefusedError(
            "unknown-account",
            Status.missing,
            f"There is no account {name!r}.",
            why="the host's accounts do not have that name",
            remedy="See `getent passwd` for the names.",
        ) from error


def _caller(entry: pwd.struct_passwd) -> Caller:
    groups = set()
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            groups.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return Caller(entry.pw_uid, entry.pw_name, frozenset(groups))


class PeerProtocol(H11Protocol):
    """HTTP whose `client` is the peer's group and process, and user: no header can say otherwise."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel, once a connection."""
        super().connection_made(transport)
        pid, uid, _ = credentials(transport.get_extra_info("socket"))
        self.client = (str(pid), uid)
