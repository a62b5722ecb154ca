"""What was answered, a topic a line."""

from collections.abc import Mapping
from typing import Any

from installer.answers.problems import shown_path
from installer.guided.situation import said
from installer.guided.topics.more import PATHS
from installer.guided.words import _


def summary(name: str, raw: Mapping[str, Any]) -> str:
    """A topic's answers in a few words."""
    match name:
        case "welcome":
            return str(said(raw, ("locale",), ""))
        case "keyboard":
            return str(said(raw, ("keymap",), ""))
        case "network":
            links = [
                *said(raw, ("network", "bridges"), ()),
                *(each for each in said(raw, ("network", "ethernets"), ()) if "addressing" in each),
            ]
            return ", ".join(map(_addressed, links)) or _("DHCP on every wired port")
        case "disks":
            chosen = [*([said(raw, ("storage", "disk"))] if said(raw, ("storage", "disk")) else [])]
            chosen += said(raw, ("storage", "disks"), ())
            names = ", ".join(str(value) for each in chosen for value in each.values())
            return f"{said(raw, ('storage', 'layout'), '')}, {said(raw, ('storage', 'filesystem'), '')}, {names}"
        case "encryption":
            return "LUKS2" if said(raw, ("storage", "encryption", "enable")) else _("none")
        case "host":
            return f"{said(raw, ('hostname',), '')}, {said(raw, ('timezone',), '')}"
        case "users":
            return ", ".join(user["name"] for user in said(raw, ("users",), ()))
        case "hypervisor":
            return str(said(raw, ("hypervisor", "tier"), ""))
        case "passthrough":
            devices = said(raw, ("hypervisor", "passthrough"), ())
            return ", ".join(str(next(iter(each.values()))) for each in devices) or _("none")
        case "guests":
            return ", ".join(vm["name"] for vm in said(raw, ("first_run", "vms"), ())) or _("none")
        case "more":
            return ", ".join(shown_path(path) for path in PATHS if said(raw, path) is not None) or _("none")
        case _:
            return f"{said(raw, ('security', 'phase'), '')}, {said(raw, ('security', 'profile'), '')}"


def _addressed(link: Mapping[str, Any]) -> str:
    addresses = said(link, ("addressing", "addresses"), ())
    return f"{link['name']}: {', '.join(addresses) or 'DHCP'}"
