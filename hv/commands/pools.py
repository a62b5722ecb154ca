"""`hv pools`: lists storage pools for VMs, and makes libvirt's what the host declares."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from hv.firstrun.world import LIBVIRT_URI, World, require_root
from hv.pools.agreement import ensure, forgotten, own_or_none, require
from hv.pools.declared import POOLS_FILE, Pool, read_declared
from hv.pools.definition import target_of
from installer.command_line import Parser
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Finished, Runner

EXAMPLES = {
    "apply": "sudo hv pools apply --dry-run; sudo hv pools apply",
    "status": "sudo hv pools status; sudo hv pools status --json",
    "list": "hv pools list; hv pools list --json",
}
"""By verb."""


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
    applied = verbs.add_parser(
        "apply", help="define and start what is declared; the service hyper-nixos-pools does this"
    )
    applied.add_argument("--dry-run", action="store_true", help="only say what would be done")
    status = verbs.add_parser("status", help="show whether each pool is as declared; changes nothing")
    for each in (applied, status):
        each.add_argument("--json", action="store_true", help="for programs")
    listed = verbs.add_parser("list", help="what VMs can use and what is free, by the broker; needs no root")
    listed.add_argument("--json", action="store_true", help="for programs")
    for name, examples in EXAMPLES.items():
        verbs.choices[name].epilog = f"Examples: {examples}"
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

    changing = options.verb == "apply" and not options.dry_run
    said: list[str] = []
    say = said.append if options.json else print
    standing: list[dict[str, Any]] = []
    with World(programs=runner, uri=options.connect).libvirt() as connection:
        for pool in pools:
            try:
                if changing:
                    ensure(connection, pool, run, say)
                elif options.verb == "apply":
                    own_or_none(connection, pool)
                    if (would := _would(connection, pool)) is not None:
                        standing.append(would)
                        say(
                            f"{pool.name}: would be made as declared, {target_of(pool)} ({would['trouble']})"
                        )
                        continue
                standing.append(_standing(pool, *require(connection, pool)))
                found = standing[-1]
                say(
                    f"{pool.name}: as declared, {target_of(pool)}, {found['free']} of {found['capacity']} bytes free"
                )
            except HyperError as error:
                standing.append(_standing(pool, error=error))
                if not options.json:
                    print(error, file=sys.stderr)
        lost = list(forgotten(connection, pools))
        for name in lost:
            say(f"{name}: not declared any more, and left as it is; `virsh pool-undefine {name}` forgets it")
    if options.json:
        print(json.dumps({"version": 1, "pools": standing, "not_declared": lost, "said": said}, indent=2))
    return Exit.ok if all(each["as_declared"] is not False for each in standing) else Exit.failed


def _would(connection: Any, pool: Pool) -> dict[str, Any] | None:
    """What `apply` would have to do for a pool; None: nothing."""
    try:
        require(connection, pool)
    except HyperError as error:
        return {**_standing(pool, error=error), "as_declared": None, "trouble": error.why}
    return None


def _standing(
    pool: Pool, free: int | None = None, capacity: int | None = None, *, error: HyperError | None = None
) -> dict[str, Any]:
    """One pool, for programs: sizes in bytes; `as_declared` is null where `apply --dry-run` would make it so."""
    target = target_of(pool)
    return {
        "name": pool.name,
        "kind": target.kind,
        "place": target.place,
        "as_declared": error is None,
        "free": free,
        "capacity": capacity,
        "trouble": f"{error.what} {error.why}" if error else None,
    }
