"""A layout that is on the disks already, as this host's own: taken over as it is, with nothing on it made anew.

Names and UUIDs follow from the disks and the host's name, so that what the answers lead to is either there, to the last
UUID, or the disks hold another host or another layout, which is refused.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from installer.answers.model import Answers
from installer.answers.select import title
from installer.errors import Exit, HyperError
from installer.facts.disks import Disk
from installer.facts.disks import Partition as Found
from installer.plan.actions import ClearTarget, PartitionSpec
from installer.plan.checks import (
    Check,
    NoSignatures,
    OnlyKept,
    PartitionTableIs,
    StoredPlanIs,
    VolumesAre,
)
from installer.plan.model import TARGET, DiskIdentity, Step
from installer.plan.storage.array import Array
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.filesystem import Filesystem, all_mounts
from installer.plan.storage.gpt import Partition
from installer.plan.storage.luks import Luks
from installer.plan.storage.swap import Swap
from installer.plan.storage.zfs import ZfsPool

STORED_PLAN = "/var/log/hyper-nixos/plan.json"
"""On the host."""
ALWAYS = (
    "/var/lib/libvirt",
    "/var/lib/swtpm-localca",
    "/var/lib/nixos",
    "/var/lib/hyper-nixos/secrets/keys",
    "/var/log/hyper-nixos",
)
"""Definitions of VMs, networks and pools, VMs' firmware variables and TPMs; who owns which file; keys of data disks; what
is known of the installation, by which an interrupted one knows the host again."""


def kept_paths(answers: Answers) -> tuple[str, ...]:
    """What a reinstallation keeps, sorted, with nothing named that lies below something else."""
    wanted = sorted({*ALWAYS, answers.first_run.pool, *answers.storage.keep})
    return tuple(
        each
        for each in wanted
        if not any(each != other and each.startswith(f"{other}/") for other in wanted)
    )


def adopted(layout: Layout, disks: Mapping[str, Disk], hostname: str) -> Layout:
    """The layout with its partitions where they are on the disks.

    Args:
        layout: What the answers lead to on empty disks.
        disks: Disks by their key in the plan.
        hostname: The host.

    Raises:
        HyperError: something of it is not there (Exit.unsuitable).
    """
    elements: list[Element] = []
    for element in layout.elements:
        if isinstance(element, Partition):
            (identity,) = layout.disks(element.key)
            disk = disks[identity.key]
            there = _same(element, disk, hostname)
            _require_content(layout, element, there, disk, hostname)
            elements.append(replace(element, number=there.number, start=there.start, size=there.size))
        else:
            elements.append(element)
    return Layout(elements=tuple(elements), gate=layout.gate)


def _same(wanted: Partition, disk: Disk, hostname: str) -> Found:
    found = [
        each
        for each in disk.partitions
        if each.label == wanted.label and each.type_uuid == wanted.type.value
    ]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{each.number}: {each.label or 'no name'}" for each in disk.partitions) or "nothing"
    raise _doubt(
        f"{title(disk)} has {len(found) or 'no'} partition called {wanted.label} of the type that the answers ask for; "
        f"there is: {listed}",
        hostname,
    )


def _require_content(layout: Layout, partition: Partition, there: Found, disk: Disk, hostname: str) -> None:
    """HyperError unless what stands on the partition carries the UUID that this host gives it."""
    for element in layout.above(partition.key):
        match element:
            case ZfsPool():
                # A pool's GUID is drawn by ZFS; its name follows from the disks.
                _require_pool(element.name, there, disk, hostname)
                continue
            case Luks():
                wanted, kind = element.uuid, "crypto_LUKS"
            case Array():
                wanted, kind = element.uuid, "linux_raid_member"
            case Filesystem():
                wanted, kind = element.uuid, element.type
            case Swap():
                wanted, kind = element.uuid, "swap"
            case _:
                continue
        if there.filesystem and there.filesystem.kind != kind:
            # A file system's UUID follows from the names alone, whatever its kind.
            raise _doubt(
                f"partition {there.number} of {title(disk)} holds {there.filesystem.kind}, and the answers ask for {kind}",
                hostname,
            )
        has = there.filesystem.uuid if there.filesystem else None
        # A further device of a btrfs carries the UUID of the whole; so do md's members.
        if has is None or _digits(has) != _digits(wanted):
            raise _doubt(
                f"partition {there.number} of {title(disk)} carries the UUID {has or '(none)'}, and this host's would "
                f"carry {wanted}",
                hostname,
            )


def _require_pool(name: str, there: Found, disk: Disk, hostname: str) -> None:
    holds = there.filesystem
    if holds is None or holds.kind != "zfs_member" or holds.label != name:
        has = f"{holds.kind} {holds.label or '(no name)'}" if holds else "nothing"
        raise _doubt(
            f"partition {there.number} of {title(disk)} holds {has}, and this host's would be of the ZFS pool {name}",
            hostname,
        )


def _digits(uuid: str) -> str:
    return uuid.replace("-", "").replace(":", "").lower()


def _doubt(why: str, hostname: str) -> HyperError:
    return HyperError(
        f"there is no host {hostname} on these disks that could be reinstalled as the answers have it",
        why=why,
        remedy="write hostname and [storage] as they were when it was installed (`hv rescue list` tells what is there); to "
        'give up what is on the disks, write storage.existing = "erase"',
        code=Exit.unsuitable,
    )


def taken_over(layout: Layout, disks: Mapping[str, Disk], answers: Answers, room: int) -> tuple[Step, ...]:
    """The layout's steps without anything that writes to a disk, and the one that clears what is not kept.

    Args:
        layout: As on the disks.
        disks: Disks by their key in the plan.
        answers: What is wanted.
        room: Bytes that the system needs.
    """
    steps = _as_found(layout.steps(), disks)
    mounts = tuple(mount.step for mount in all_mounts(layout))
    keys = tuple(step.id for step in steps if step.id.startswith("add-key-"))
    root = next(
        element.key
        for element in layout.elements
        if any(mount.mountpoint == "/" for mount in getattr(element, "mounts", ()))
    )
    keep = kept_paths(answers)
    identities = [identity for key in disks if (identity := layout[key].identity())]
    return (
        *steps,
        Step(
            id="find-host",
            summary=f"Find {answers.hostname} on its root by the plan that installed it",
            requires=(*mounts, *keys),
            actions=(),
            checks=(
                StoredPlanIs(
                    path=TARGET + STORED_PLAN,
                    hostname=answers.hostname,
                    disks=tuple(sorted(_name(each) for each in identities)),
                ),
            ),
        ),
        Step(
            id="clear-target",
            summary=f"Remove the old system of {answers.hostname}; what stays is {', '.join(keep)}",
            requires=("find-host",),
            writes=layout.writes(root),
            actions=(ClearTarget(root=TARGET, keep=keep, room=room),),
            checks=(OnlyKept(root=TARGET, keep=keep),),
            weight=3,
        ),
    )


def _name(identity: DiskIdentity) -> str:
    return identity.serial or identity.wwn or identity.name


def _as_found(steps: Iterable[Step], disks: Mapping[str, Disk]) -> tuple[Step, ...]:
    """Steps that only look where they would have written; those that would have nothing to look at are left out."""
    instead: dict[str, tuple[str, ...]] = {}
    found: list[Step] = []
    for step in steps:
        requires = tuple(
            dict.fromkeys(each for name in step.requires for each in instead.get(name, (name,)))
        )
        if not step.writes and not step.id.startswith("add-key-"):
            found.append(step.model_copy(update={"requires": requires}))
            continue
        checks = tuple(replaced for check in step.checks for replaced in _looking(check, disks))
        if not checks:
            instead[step.id] = requires
            continue
        found.append(
            step.model_copy(
                update={
                    "summary": f"Find as it is: {step.summary[0].lower()}{step.summary[1:]}",
                    "requires": requires,
                    "writes": (),
                    "actions": (),
                    "checks": checks,
                    "undo": (),
                    "weight": 0.2,
                }
            )
        )
    return tuple(found)


def _looking(check: Check, disks: Mapping[str, Disk]) -> Iterator[Check]:
    match check:
        case NoSignatures() | VolumesAre():
            return  # a group may have got further volumes since: they are kept
        case PartitionTableIs(disk=key):
            yield PartitionTableIs(disk=key, partitions=tuple(_specs(disks[key].partitions)))
        case _:
            yield check


def _specs(partitions: Sequence[Found]) -> Iterator[PartitionSpec]:
    for each in sorted(partitions, key=lambda one: one.number):
        yield PartitionSpec(
            number=each.number,
            label=each.label or "",
            type_uuid=each.type_uuid or "",
            start=each.start,
            size=each.size,
        )
