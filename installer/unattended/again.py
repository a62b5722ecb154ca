"""Whether this host was installed on this disk before: what keeps a machine from installing itself at every boot.

A stick that stays in, or a network that is first in the boot order, starts the installer again after every reboot. What
remembers must outlive the reboot on any machine, also one without EFI variables that booted from the network. The disk
itself does: partitions, file systems and LUKS headers have names and UUIDs that follow from the disk and the host's name,
so that finding them there means that this installation wrote them.
"""

from collections.abc import Iterator

from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Disk, Partition
from installer.plan.actions import WritePartitionTable
from installer.plan.model import DiskIdentity, Plan


def refuse_again(facts: Facts, plan: Plan) -> None:
    """HyperError (Exit.again) if this plan was carried out here before, or begun."""
    for identity in plan.disks:
        disks = [disk for disk in facts.disks if _is(identity, disk)]
        found = [trace for disk in disks for trace in _traces(plan, identity, disk)]
        if found:
            raise HyperError(
                f"{plan.hostname} was installed on this disk before, or that was begun",
                why=f"{identity.name} has {found[0]}; an installer that starts at every boot would erase it every time",
                remedy="take the medium out, or put the disk first in the boot order; to install once more, boot with "
                "the kernel argument hv.unattended=again, or run `hv install --unattended --again`",
                code=Exit.again,
            )


def _is(identity: DiskIdentity, disk: Disk) -> bool:
    """Whether a plan's disk is this one, by the name that the plan finds it by."""
    return identity.by_id in disk.by_id if identity.by_id else identity.by_path == disk.path


def _traces(plan: Plan, identity: DiskIdentity, disk: Disk) -> Iterator[str]:
    uuids = {
        device.rpartition("/")[2].lower()
        for device in (
            *(each.device for each in plan.host.filesystems),
            *(each.device for each in plan.host.luks),
        )
        if device.startswith("/dev/disk/by-uuid/")
    }
    if disk.filesystem and disk.filesystem.uuid and disk.filesystem.uuid.lower() in uuids:
        yield f"the UUID {disk.filesystem.uuid}, which this host's has"
    for partition in disk.partitions:
        uuid = partition.filesystem.uuid if partition.filesystem else None
        if uuid and uuid.lower() in uuids:
            yield f"partition {partition.number} with the UUID {uuid}, which this host's has"
    for step in plan.steps:
        for action in step.actions:
            if isinstance(action, WritePartitionTable) and action.disk == identity.key:
                wanted = [(each.number, each.label, each.start, each.size) for each in action.partitions]
                if wanted == [_place(each) for each in disk.partitions]:
                    yield f"exactly the partitions {', '.join(each.label for each in action.partitions)}"


def _place(partition: Partition) -> tuple[int, str | None, int, int]:
    return partition.number, partition.label, partition.start, partition.size
