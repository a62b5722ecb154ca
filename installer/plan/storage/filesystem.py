"""What all file systems share: made with a fixed UUID, verified by blkid, mounted as the host will mount them."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from re import sub
from typing import ClassVar

from installer.plan.actions import Action, MakeDirectory, Run
from installer.plan.checks import Check, MountedAt, MountPointHeld, SignatureIs
from installer.plan.model import TARGET, HostFilesystem, Step
from installer.plan.storage.array import Array
from installer.plan.storage.element import Element, HostPart, Layout
from installer.plan.storage.gpt import Partition

STAGE_ONE = frozenset(
    ("/", "/nix", "/nix/store", "/var", "/var/log", "/var/lib", "/var/lib/nixos", "/etc", "/usr")
)
"""What NixOS mounts in stage 1 (`pathsNeededForBoot` in nixpkgs' nixos/lib/utils.nix)."""
SHOWN = frozenset(("noatime", "compress=zstd:1", "fmask=0077", "dmask=0077"))
"""Options that the mount table repeats word for word; others it rewrites or hides (`defaults`, `discard`)."""


@dataclass(frozen=True)
class Mount:
    """One place where a file system is mounted, in the live system (below the target) and on the host alike."""

    mountpoint: str
    """Absolute path on the host."""
    options: tuple[str, ...]
    """All options."""
    on_host: tuple[str, ...] = ()
    """Further options on the host alone: what to do when the device is missing."""
    held: bool = False
    """Nothing may be written below the mount point while nothing is mounted there: it would land on another disk."""

    @property
    def target(self) -> str:
        """Path on the live system."""
        return TARGET if self.mountpoint == "/" else TARGET + self.mountpoint

    @property
    def step(self) -> str:
        """Id of the step that mounts it."""
        if self.mountpoint == "/":
            return "mount-root"
        name = sub("[^a-z0-9]+", "-", self.mountpoint).strip("-")
        # Where the path cannot be read back from the name, or is called /root, two places could get the same.
        if name == "root" or self.mountpoint != "/" + name.replace("-", "/"):
            name = f"{name}-{sha256(self.mountpoint.encode()).hexdigest()[:6]}".lstrip("-")
        return f"mount-{name}"

    @property
    def in_force(self) -> tuple[str, ...]:
        """Options that the mount table must show."""
        return tuple(each for each in self.options if each in SHOWN or each.startswith("subvol="))


@dataclass(frozen=True, kw_only=True)
class Mounted(Element):
    """What is mounted somewhere."""

    mounts: tuple[Mount, ...]
    """Where."""
    at_once: bool = True
    """Whether it is mounted while the host is installed, or by the host alone."""

    @property
    @abstractmethod
    def type(self) -> str:
        """`fsType`, and the kernel module."""


@dataclass(frozen=True, kw_only=True)
class Filesystem(Mounted):
    """A file system on one device, or on several that it joins itself."""

    kind: ClassVar[str]
    """`fsType`, and blkid's TYPE."""
    label_limit: ClassVar[int]
    """Bytes of a label."""

    on: str
    """Key of the device."""
    uuid: str
    """Its UUID, as blkid writes it."""
    label: str
    """Its label."""
    more: tuple[str, ...] = ()
    """Keys of further devices, for kinds that join devices."""

    @property
    def type(self) -> str:
        return self.kind

    def below(self) -> tuple[str, ...]:
        return (self.on, *self.more)

    def words(self) -> str:
        return f"{self.kind} at {', '.join(mount.mountpoint for mount in self.mounts)}"

    @abstractmethod
    def make(self, device: str, *more: str) -> tuple[Action, ...]:
        """What makes it."""

    def made(self, device: str, *more: str) -> tuple[Check, ...]:
        """How that is verified."""
        del more
        return (SignatureIs(device=device, type=self.kind, uuid=self.uuid, label=self.label),)

    def unmake(self) -> tuple[Action, ...]:
        """What an interrupted `make` may leave behind."""
        return ()

    def steps(self, layout: Layout) -> Iterator[Step]:
        base = layout.device(self.on)
        device = base.device(layout)
        formatted = f"format-{self.key}"
        source = f"{1 + len(self.more)} devices" if self.more else base.place(layout)
        yield Step(
            id=formatted,
            summary=f"Make {self.words()} on {layout.places(self.below())}",
            requires=layout.ready(self.below()),
            writes=layout.writes(self.key),
            actions=self.make(device, *layout.devices(self.more)),
            checks=self.made(device, *layout.devices(self.more)),
            undo=self.unmake(),
            weight=2,
        )
        for mount in self.mounts:
            parent, hold = parent_mount(layout, mount), tuple(hold_steps(layout, mount))
            yield from hold
            yield Step(
                id=mount.step,
                summary=f"Mount {self.kind} of {source} at {mount.target}",
                requires=(
                    formatted,
                    *((parent.step,) if parent else ()),
                    *(each.id for each in hold),
                ),
                actions=(
                    MakeDirectory(path=mount.target),
                    Run(
                        argv=(
                            *("mount", "-t", self.kind),
                            *("-o", ",".join((*mount.options, *named(layout.devices(self.more))))),
                            device,
                            mount.target,
                        )
                    ),
                ),
                checks=(MountedAt(target=mount.target, uuid=self.uuid, options=mount.in_force),),
                undo=(Run(argv=("umount", mount.target)),),
                transient=True,
                weight=0.2,
            )

    def host(self, layout: Layout) -> HostPart:
        base = layout.device(self.on)
        # A mapped device has a name of its own; a partition is best known by what is in it, and so is what stands on
        # several devices, any of which may be the missing one. Not a logical volume: its snapshots have its UUID.
        by_content = isinstance(base, Partition | Array) or self.more
        device = f"/dev/disk/by-uuid/{self.uuid}" if by_content else base.device(layout)
        return HostPart(
            filesystems=tuple(
                HostFilesystem(
                    mountpoint=mount.mountpoint,
                    device=device,
                    kind=self.kind,
                    options=(*mount.options, *mount.on_host),
                    needed_for_boot=mount.mountpoint in STAGE_ONE,
                )
                for mount in self.mounts
            ),
            supported_filesystems=(self.kind,),
        )


def hold_steps(layout: Layout, mount: Mount) -> Iterator[Step]:
    """The step that makes a mount point's folder immutable (chattr(1), i); whoever mounts there is not hindered."""
    parent = parent_mount(layout, mount)
    below = {
        place.mountpoint: each
        for each in layout.elements
        if isinstance(each, Mounted)
        for place in each.mounts
    }
    # ZFS has no such attribute, and makes its mount points itself.
    if not mount.held or parent is None or below[parent.mountpoint].type == "zfs":
        return
    yield Step(
        id=mount.step.replace("mount-", "hold-", 1),
        summary=f"Have nothing written into {mount.mountpoint} while its file system is not mounted there",
        requires=(parent.step,),
        actions=(MakeDirectory(path=mount.target), Run(argv=("chattr", "+i", mount.target))),
        checks=(MountPointHeld(path=mount.target),),
        undo=(Run(argv=("chattr", "-i", mount.target)),),
        weight=0.1,
    )


def named(devices: tuple[str, ...]) -> tuple[str, ...]:
    """Mount options that tell the kernel of further devices, which nobody may have told it of before (btrfs(5))."""
    return tuple(f"device={device}" for device in devices)


def all_mounts(layout: Layout) -> tuple[Mount, ...]:
    """Every mount while the host is installed, parents before children."""
    found = (
        mount
        for each in layout.elements
        if isinstance(each, Mounted) and each.at_once
        for mount in each.mounts
    )
    return tuple(sorted(found, key=lambda mount: PurePosixPath(mount.mountpoint).parts))


def parent_mount(layout: Layout, mount: Mount) -> Mount | None:
    """The mount in whose tree this one's mount point lies; none for the root."""
    above = {str(parent) for parent in PurePosixPath(mount.mountpoint).parents} - {mount.mountpoint}
    inside = [each for each in all_mounts(layout) if each.mountpoint in above]
    return max(inside, key=lambda each: len(each.mountpoint), default=None)
