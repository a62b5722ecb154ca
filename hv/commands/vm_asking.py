"""What the commands of `hv vm` share: asking hvd, waiting, and telling what came of it."""

import argparse
import json

from hv.client import Client, quoted

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import Any


def show_json(value: object) -> None:
    """For programs."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def where_of(options: argparse.Namespace, rest: str = "") -> str:
    return f"/1/vms/{quoted(options.name)}{rest}"


def operate(
    client: Client, options: argparse.Namespace, where: str, given: "dict[str, Any]"
) -> "dict[str, Any] | None":
    """Do it and wait, or say what would be done; the result, None when there is nothing more to say."""
    if options.dry_run:
        plan = client.ask("POST", f"{where}?dry_run=1", given)
        if options.json:
            show_json(plan)
        else:
            print("\n".join(plan["plan"]))
        return None
    operation = client.ask("POST", where, given)["operation"]
    if options.no_wait:
        if options.json:
            show_json({"version": 1, "operation": operation["id"]})
        else:
            print(operation["id"])
        return None
    result = client.wait(operation, quiet=options.json)
    if options.json:
        show_json({"version": 1, **result})
        return None
    return result


def act(
    client: Client, options: argparse.Namespace, verb: str, given: "dict[str, Any]", said: str = ""
) -> int:
    result = operate(client, options, where_of(options, f"/{verb}"), given)
    if result is not None:
        print(said or f"{result['name']}: {result['state']}")
    return 0


def placement(options: argparse.Namespace) -> "dict[str, Any] | None":
    """Where on the host it is to run, if anything was said."""
    given: dict[str, Any] = {}
    if options.pin is not None:
        given |= {"cpus": options.pin} if options.pin else {"pin": True}
    if options.node is not None:
        given["node"] = options.node
    if options.hugepages:
        given["hugepages"] = True
    return given or None
