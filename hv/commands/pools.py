"""`hv pools`: lists storage pools for VMs, and makes libvirt's what the host declares."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from hv.firstrun.world import LIBVIRT_URI, World, require_root
from hv.pools.agreement import ensure, forgotten, require
from hv.pools.declared import POOLS_FILE, Pool, read_declared
from hv.pools.definition import target_of
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Finished, Runner


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv pools",
        description="List storage pools that VMs can use, and make libvirt's what the host declares. No volume is ever "
        "removed.",
        epilog="Exit codes: 0 every pool is as declared; 1 at least one is not; see docs.",
    )
    top.add_argument(
        "--config",
        type=Path,
        default=Path(POOLS_FILE),
        metavar="FILE",
        help="what is declared (default: %(default)s)",
    )
    top.add_argument(
        "--connect", default=LIBVIRT_URI, metavar="URI", help="libvirt to use (default: %(default)s)"
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser(
        "apply", help="define and start what is declared; the service hyper-nixos-pools does this"
    )
    verbs.add_parser("status", help="show whether each pool is as declared; changes nothing")
    listed = verbs.add_parser("list", help="what VMs can use and what is free, by the broker; needs no root")
    listed.add_argument("--json", action="store_true", help="for programs")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    if options.verb == "list":
        from hv.client import Client
        from hv.commands import vm_looking

        return vm_looking.pools(Client(), options)
    pools = read_declared(options.config).pools
    require_root("Looking at storage pools")
    path = os.environ.get("PATH", "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    runner = Runner(NoLog(), path)

    def run(argv: tuple[str, ...]) -> Finished:
        return runner.run(argv, timeout=60)

    def each(connection: Any, pool: Pool) -> None:
        if options.verb == "apply":
            ensure(connection, pool, run, print)
        free, capacity = require(connection, pool)
        print(f"{pool.name}: as declared, {target_of(pool)}, {free} of {capacity} bytes free")

    good = True
    with World(programs=runner, uri=options.connect).libvirt() as connection:
        for pool in pools:
            try:
                each(connection, pool)
            except HyperError as error:
                good = False
                print(error, file=sys.stderr)
        for name in forgotten(connection, pools):
            print(
                f"{name}: not declared any more, and left as it is; `virsh pool-undefine {name}` forgets it"
            )
    return Exit.ok if good else Exit.failed
