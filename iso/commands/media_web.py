"""`hv media web` and `fleet`: the page, and a table that becomes answers."""

import argparse
import tomllib
from pathlib import Path

from installer.errors import Exit, HyperError
from iso import form


def web(options: argparse.Namespace) -> int:
    """Serve the page until stopped."""
    try:
        import uvicorn

        from installer.serve.run import Listen, require_tls
        from iso.web import Shop, find_bases, make_app
    except ImportError as error:
        raise HyperError(
            "this `hv` cannot serve",
            why=f"the Python package {error.name} is not installed",
            remedy="install hyper-nixos[server], or the package hv-server of the flake",
        ) from error
    from iso.described import described

    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise HyperError(
            "the page cannot be served so",
            why="--listen takes ADDRESS:PORT",
            remedy="write --listen 127.0.0.1:8090",
            code=Exit.usage,
        )
    require_tls(Listen(host.strip("[]"), int(port), behind_tls=options.behind_tls))
    names = {f"{name}:{port}" for name in (host, "localhost", *options.name)} | set(options.name)
    shop = Shop(
        find_bases(options.image),
        {record.name: record for record in options.machine},
        frozenset(names),
        described(options.medium) if options.medium else None,
    )
    print(f"http://{host}:{port}/", flush=True)
    uvicorn.run(
        make_app(shop),
        host=host.strip("[]"),
        port=int(port),
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    return Exit.ok


def fleet(options: argparse.Namespace) -> int:
    """Write a folder for `hv answers serve`."""
    target = Path(options.output)
    try:
        base = tomllib.loads(options.answers.read_text(encoding="utf-8"))
        table = options.image.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise HyperError(
            "the fleet cannot be read",
            why=str(error),
            remedy="name a CSV file, and a TOML file",
            code=Exit.answers,
        ) from error
    machines = form.fleet(table, base)
    files = form.fleet_files(machines)
    try:
        target.mkdir(mode=0o700)
        for name, data in files.items():
            path = target / name
            path.touch(mode=0o600)
            path.write_bytes(data)
    except OSError as error:
        raise HyperError(
            f"{target} cannot be written",
            why=error.strerror or str(error),
            remedy="name a folder that does not exist yet",
        ) from error
    print(f"{target}: {len(machines)} machines; hand them out: hv answers serve {target}")
    return Exit.ok


RUN = {"web": web, "fleet": fleet}
"""What each verb runs."""
