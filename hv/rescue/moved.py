"""Disks that hang elsewhere than at the installation, in an adapter or another slot: known by the partitions on them."""

import re
from collections.abc import Iterator

from installer.errors import HyperError
from installer.execute.devices import kernel_name
from installer.facts import Facts
from installer.facts.disks import Disk
from installer.plan.actions import ChangePartitionTable, PartitionSpec
from installer.plan.checks import PartitionTableIs
from installer.plan.identity import identify, shared_names
from installer.plan.model import DiskIdentity, Plan


def moved(plan: Plan, facts: Facts) -> dict[str, DiskIdentity]:
    """Disks of the plan that are here under another name, by key.

    A disk is taken for one of the plan's if it has every partition that the plan made there, with number, place and name,
    at least as large, and if no other disk has. One without a name of its own is not taken.
    """
    shared = shared_names(facts.disks)
    ours = {disk.device for disk in plan.disks}
    found: dict[str, DiskIdentity] = {}
    for disk in plan.disks:
        if kernel_name(disk.device) is not None:
            continue
        wanted = tuple(_made(plan, disk.key))
        here = [each for each in facts.disks if wanted and all(_has(each, spec) for spec in wanted)]
        if len(here) != 1:
            continue
        try:
            identity = identify(here[0], disk.key, shared)
        except (HyperError, ValueError):
            continue
        if identity.device not in ours:
            found[disk.key] = identity
    return found


def _made(plan: Plan, key: str) -> Iterator[PartitionSpec]:
    for step in plan.steps:
        for check in step.checks:
            if isinstance(check, PartitionTableIs) and check.disk == key:
                yield from check.partitions
                return
    for step in plan.steps:
        for action in step.actions:
            if isinstance(action, ChangePartitionTable) and action.disk == key:
                yield from (*action.change, *action.add)


def _has(disk: Disk, spec: PartitionSpec) -> bool:
    return any(
        (each.number, each.label, each.start) == (spec.number, spec.label, spec.start)
        and (each.size or 0) >= spec.size  # the root may have grown since
        for each in disk.partitions
    )


def renamed(plan: Plan, names: dict[str, DiskIdentity]) -> Plan:
    """The plan with every device path of these disks as it is now."""
    text = plan.model_dump_json()
    for disk in plan.disks:
        if disk.key in names:
            path = re.escape(disk.device) + r'(?=-part|["\s,:])'
            text = re.sub(path, lambda _, to=names[disk.key].device: to, text)  # type: ignore[misc]
    changed = Plan.model_validate_json(text)
    return changed.model_copy(update={"disks": tuple(names.get(disk.key, disk) for disk in changed.disks)})
