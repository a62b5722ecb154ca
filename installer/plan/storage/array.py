"""md arrays (mdadm(8), md(4)): metadata 1.2, a bitmap, and names that follow from the disks."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.answers.model import Redundancy
from installer.plan.actions import Action, AssembleArray, Run
from installer.plan.checks import ArrayIs, ArrayMembersAre
from installer.plan.model import HostArray, Step
from installer.plan.storage.element import Device, HostPart, Layout
from installer.plan.storage.gpt import Partition

LEVELS = {
    Redundancy.mirror: "raid1",
    Redundancy.raid10: "raid10",
    Redundancy.raid5: "raid5",
    Redundancy.raid6: "raid6",
}
"""md's names."""
PARITY = frozenset(("raid5", "raid6"))
"""The kernel starts these without a disk only when they are clean, which they are once their parity was computed: it could
not tell what the missing part was (md(4), RECOVERY: "dirty" and degraded).
"""
MODULES = {"raid1": "raid1", "raid10": "raid10", "raid5": "raid456", "raid6": "raid456"}
"""Kernel modules behind them."""
BEGINNING = 136 << 20
"""Bytes of a member: mdadm puts the data at most 128 MiB and a bitmap from its start (mdadm, super1.c), and LVM its label
and metadata into the next MiB.
"""


@dataclass(frozen=True, kw_only=True)
class Array(Device):
    """Several devices as one. Its copies are made equal in the background, never assumed to be: a check would find
    differences in what nobody has written yet, and a rebuild after a power cut would have nothing to go by.
    """

    on: tuple[str, ...]
    """Keys of the members."""
    level: str
    """`raid1`, `raid10`, `raid5` or `raid6`."""
    uuid: str
    """As md writes it."""
    name: str
    """Name below /dev/md on the host."""
    hostname: str
    """Home of the array: elsewhere it gets another name."""

    def below(self) -> tuple[str, ...]:
        return self.on

    def device(self, layout: Layout) -> str:
        del layout
        # By its UUID: the live system is not the array's home, and gives it a name of its own.
        return f"/dev/disk/by-id/md-uuid-{self.uuid}"

    def ready(self, layout: Layout) -> str:
        del layout
        return f"assemble-{self.key}"

    def place(self, layout: Layout) -> str:
        del layout
        return f"the array {self.name} ({self.words()})"

    def words(self) -> str:
        return f"md {self.level}"

    def steps(self, layout: Layout) -> Iterator[Step]:
        members = layout.devices(self.on)
        device = self.device(layout)
        create = f"create-{self.key}"
        yield Step(
            id=create,
            summary=f"Make {self.place(layout)} of {layout.places(self.on)}",
            requires=layout.ready(self.on),
            writes=layout.writes(self.key),
            actions=(
                *self._cleared(layout),
                Run(
                    argv=(
                        *("mdadm", "--create", f"/dev/md/{self.name}"),
                        "--run",
                        *("--level", self.level),
                        *("--raid-devices", str(len(members))),
                        *("--metadata", "1.2"),
                        *("--bitmap", "internal"),
                        *("--homehost", self.hostname),
                        *("--name", self.name),
                        *("--uuid", self.uuid),
                        *members,
                    )
                ),
            ),
            checks=(ArrayMembersAre(uuid=self.uuid, level=self.level, devices=members),),
            undo=tuple(self.release(layout)),
            weight=1,
        )
        yield Step(
            id=self.ready(layout),
            summary=f"Bring up {self.place(layout)}",
            requires=(create,),
            actions=(AssembleArray(name=self.name, uuid=self.uuid, devices=members),),
            checks=(ArrayIs(device=device, uuid=self.uuid, level=self.level, devices=members),),
            undo=tuple(self.release(layout)),
            transient=True,
            weight=0.2,
        )

    def _cleared(self, layout: Layout) -> Iterator[Action]:
        """Zeros where the array will begin. What an array of the same shape held before comes to light with it, and is
        brought up by udev (a volume group) before anything could erase it.
        """
        for key in self.on:
            member = layout.device(key)
            length = min(member.size, BEGINNING) if isinstance(member, Partition) else BEGINNING
            yield Run(argv=("blkdiscard", "--zeroout", "--length", str(length), member.device(layout)))

    def release(self, layout: Layout) -> Iterator[Action]:
        yield Run(argv=("mdadm", "--stop", self.device(layout)))

    def host(self, layout: Layout) -> HostPart:
        del layout
        return HostPart(
            arrays=(HostArray(name=self.name, uuid=self.uuid),),
            initrd_modules=("md_mod", MODULES[self.level]),
        )
