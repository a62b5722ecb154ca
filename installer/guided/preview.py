"""What the answers so far would come to: a plan, with what is not answered yet filled in for the moment."""

import json
from collections.abc import Mapping
from typing import Any

from installer.answers.load import Format, load
from installer.answers.model import Answers as AnswerFile
from installer.answers.problems import printable
from installer.answers.sizes import format_size
from installer.errors import HyperError
from installer.guided.questions import Answers
from installer.guided.situation import Situation, changed, said
from installer.guided.told import told
from installer.guided.words import _
from installer.plan.describe import draw
from installer.plan.model import Plan
from installer.plan.planner import make_plan

_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""Nobody's: all zeros. It only lets a plan be made before there are users, and is in no answer file."""


def complete(raw: Mapping[str, Any]) -> AnswerFile:
    """The answers as the installer reads them. Raises AnswersError."""
    return load(json.dumps(raw).encode(), "answers", Format.json)


def preview(situation: Situation, changes: Answers) -> Plan | HyperError:
    """The plan that these changes would make, or why there is none."""
    try:
        return make_plan(situation.facts, complete(changed(filled(situation), changes)), situation.medium)
    except HyperError as error:
        return error


def filled(situation: Situation) -> dict[str, Any]:
    """The answers so far, with what is not answered yet filled in; nothing of this changes what is done to disks."""
    raw = dict(situation.raw)
    raw.setdefault("version", 1)
    raw.setdefault("hostname", "host")
    raw.setdefault("hypervisor", {"tier": "minimal"})
    if not said(raw, ("users",)):
        raw["users"] = [{"name": "somebody", "admin": True, "ssh_keys": [_KEY]}]
    return raw


def disk_titles(plan: Plan) -> dict[str, str]:
    """What a person knows each disk of a plan by: model and serial number."""
    return {
        disk.key: printable(" ".join(filter(None, (disk.model, disk.serial or disk.wwn or disk.name))))
        for disk in plan.disks
    }


def drawing(plan: Plan, width: int = 76) -> str:
    """Disks before and after, in characters."""
    lines = []
    called = disk_titles(plan)
    before, after = _("before"), _("after")
    room = max(len(before), len(after))
    for picture in plan.pictures:
        lines.append(f" {called[picture.disk]}")
        # Both bars first: on a small screen they are what must not be below its edge.
        for name, regions in ((before, picture.before), (after, picture.after)):
            lines.append(f" {name:<{room}} {draw(regions, width - room - 1)}")
        for name, regions in ((after, picture.after), (before, picture.before)):
            lines.append(f" {name}:")
            for region in regions:
                number = "" if region.number is None else str(region.number)
                lines.append(
                    f"   {number:>3} {format_size(region.size):>9}  {told(region.content)}"[: width + 2]
                )
    return "\n".join(lines)
