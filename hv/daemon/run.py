"""Runs the broker: socket from systemd (sd_listen_fds(3)) or by path, readiness told by sd_notify(3)."""

import argparse
import asyncio
import grp
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from hv.daemon.app import make_app
from hv.daemon.broker import Broker
from hv.daemon.hostd import SOCKET as HOSTD
from hv.daemon.peer import PeerProtocol
from hv.daemon.settings import FILE, read_settings
from hv.daemon.store import Store
from hv.daemon.virt import Libvirt
from hv.firstrun.world import LIBVIRT_URI
from installer.errors import Exit, HyperError

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="hvd", description="The broker between people and libvirt. systemd starts it; see `man hv-vm`."
    )
    top.add_argument(
        "--socket", type=Path, metavar="FILE", help="listen here instead of on systemd's socket"
    )
    top.add_argument("--group", help="who may connect to that socket (default: everybody in hv-users)")
    top.add_argument(
        "--state",
        type=Path,
        default=Path("/var/lib/hvd"),
        metavar="DIR",
        help="what it keeps (default: %(default)s)",
    )
    top.add_argument(
        "--config",
        type=Path,
        default=Path(FILE),
        metavar="FILE",
        help="the host's settings (default: %(default)s)",
    )
    top.add_argument(
        "--connect", default=LIBVIRT_URI, metavar="URI", help="libvirt to use (default: %(default)s)"
    )
    top.add_argument(
        "--hostd", default=HOSTD, metavar="FILE", help="socket of hv-hostd (default: %(default)s)"
    )
    return top


def listening(path: Path | None, group: str | None) -> socket.socket:
    """The socket. Raises HyperError."""
    if path is None:
        if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
            raise HyperError(
                "hvd was given no socket.",
                why="systemd passes one to the service (LISTEN_FDS), and there is no --socket",
                remedy="Start it with `systemctl start hvd.socket`.",
                code=Exit.usage,
            )
        return socket.socket(fileno=FIRST_FD)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777)
    try:
        made.bind(str(path))
    finally:
        os.umask(mask)
    os.chown(path, -1, grp.getgrnam(group or "hv-users").gr_gid)
    path.chmod(0o660)
    made.listen(128)
    return made


def notify(state: str) -> None:
    """Tell systemd, if it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


class Server(uvicorn.Server):
    """uvicorn that says when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As it does, then the word to systemd."""
        await super().startup(sockets)
        if self.started:
            notify("READY=1")


def main(argv: list[str] | None = None) -> int:
    """Serve until stopped."""
    options = parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        settings = read_settings(options.config)
        there = listening(options.socket, options.group)
        libvirt = Libvirt(options.connect)
        libvirt.start_events()
        store = Store(options.state / "hvd.sqlite")
        app = make_app(Broker(store, libvirt, settings, options.hostd))
    except HyperError as error:
        print(error, file=sys.stderr)
        return error.code
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        # The peer is the kernel's word; headers say nothing about it.
        proxy_headers=False,
        limit_concurrency=512,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )
    asyncio.run(Server(config).serve(sockets=[there]))
    return 0
