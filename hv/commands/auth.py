"""`hv auth`: who you are to the broker, what you may do, and what was done."""

import argparse
import json

from hv.client import Client, quoted
from installer.command_line import Parser
from installer.errors import Exit


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv auth",
        description="Say who you are to the broker and what you may do; read what was done.",
        epilog="Exit codes: 0 allowed, or done; 10 not allowed; see docs.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    whoami = verbs.add_parser(
        "whoami", help="show your roles and what they allow", epilog="Examples: hv auth whoami --json"
    )
    can = verbs.add_parser(
        "can-i",
        help="say whether something is allowed, and why",
        epilog="Examples: hv auth can-i stop web; hv auth can-i create; hv auth can-i delete web --as bob",
    )
    can.add_argument("what", metavar="WHAT", help="a permission (`hv auth whoami`) or a command of hv vm")
    can.add_argument("object", metavar="VM", nargs="?", default="", help="with which VM")
    can.add_argument("--as", dest="who", metavar="USER", help="for somebody else (administrators)")
    log = verbs.add_parser(
        "log",
        help="show the audit trail, and whether it is whole (auditors)",
        epilog="Examples: hv auth log --limit 10",
    )
    log.add_argument(
        "--limit", type=int, default=50, metavar="N", help="how many of the last rows (default: %(default)s)"
    )
    for each in (whoami, can, log):
        each.add_argument("--json", action="store_true", help="print JSON")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    client = Client()
    match options.verb:
        case "whoami":
            return _whoami(client, options)
        case "can-i":
            return _can(client, options)
    return _log(client, options)


def _whoami(client: Client, options: argparse.Namespace) -> int:
    you = client.ask("GET", "/1")["you"]
    if options.json:
        print(json.dumps({"version": 1, **you}, indent=2))
        return 0
    print(f"{you['name']} (user id {you['uid']})")
    for role in you["roles"]:
        reach = "every VM" if role["reach"] == "all" else "your own VMs"
        print(f"  {role['name']}: {', '.join(role['permissions'])}; {reach}")
    if not you["roles"]:
        print(
            "  no role: an administrator gives one (hv-viewers, hv-operators, hv-owners, hv-auditors, hv-admins)"
        )
    return 0


def _can(client: Client, options: argparse.Namespace) -> int:
    where = f"/1/can-i?verb={quoted(options.what)}&object={quoted(options.object)}"
    found = client.ask("GET", where + (f"&as={quoted(options.who)}" if options.who else ""))
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{'yes' if found['allowed'] else 'no'}: {found['why']}")
        if not found["allowed"]:
            print(f"  do:  {found['remedy']}")
    return int(Exit.ok if found["allowed"] else Exit.privilege)


def _log(client: Client, options: argparse.Namespace) -> int:
    import time

    found = client.ask("GET", f"/1/audit?limit={options.limit}")
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for row in found["rows"]:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["time"]))
            print(
                f"{row['number']:>6}  {when}  {row['actor_name']:<12} {row['action']:<10} {row['target']}: {row['outcome']}"
            )
    if not found["whole"]:
        print(f"the trail was changed: row {found['broken_at']} does not follow from the one before")
        return int(Exit.failed)
    return 0
