"""Runs the server."""

import ipaddress
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from installer.errors import Exit, HyperError
from installer.serve.app import Served, make_app
from installer.serve.state import State


@dataclass(frozen=True)
class Listen:
    """Where and how it listens."""

    host: str
    """Address."""
    port: int
    """TCP port."""
    certificate: Path | None = None
    """PEM certificate, with its chain."""
    key: Path | None = None
    """Its key."""
    behind_tls: bool = False
    """Something else in front does TLS."""


def serve(folder: Path, state_url: str, listen: Listen) -> None:
    """Serve until stopped. Raises HyperError."""
    state = State(state_url)
    served = Served(folder, state)
    require_tls(listen)
    state.tidy()
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    scheme = "https" if listen.certificate else "http"
    print(f"{len(served.fleet.machines)} machines: {scheme}://{listen.host}:{listen.port}/", flush=True)  # noqa: T201
    uvicorn.run(
        make_app(served),
        host=listen.host,
        port=listen.port,
        ssl_certfile=listen.certificate,
        ssl_keyfile=listen.key,
        access_log=False,
        log_level="warning",
        server_header=False,
        backlog=4096,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
    )
    state.close()


def require_tls(listen: Listen) -> None:
    """HyperError (Exit.usage) if answers or secrets would go over a network that others listen to."""
    try:
        is_local = ipaddress.ip_address(listen.host).is_loopback
    except ValueError:
        is_local = listen.host == "localhost"
    if listen.certificate or listen.behind_tls or is_local:
        return
    raise HyperError(
        "answers are not handed out without TLS",
        why=f"{listen.host} is reached over a network, and machines post their facts over https alone",
        remedy="name a certificate with --certificate and --key, or say --behind-tls if a proxy in front does it",
        code=Exit.usage,
    )
