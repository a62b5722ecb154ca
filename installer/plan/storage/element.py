"""What every kind of storage answers: what it stands on, how it is made, and what the host must know of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from installer.plan.actions import Action
from installer.plan.model import (
    DiskIdentity,
    HostArray,
    HostFilesystem,
    HostKeyLuks,
    HostLuks,
    HostSwapFile,
    Region,
    Step,
)


@dataclass(frozen=True, kw_only=True)
class HostPart:
    """One element's share of `HostStorage`; the shares of all elements are joined in order."""

    filesystems: tuple[HostFilesystem, ...] = ()
    luks: tuple[HostLuks, ...] = ()
    swap_devices: tuple[str, ...] = ()
    random_swap_devices: tuple[str, ...] = ()
    zram_percent: tuple[int, ...] = ()
    swap_files: tuple[HostSwapFile, ...] = ()
    esp_mountpoints: tuple[str, ...] = ()
    xbootldr_mountpoints: tuple[str, ...] = ()
    grub_devices: tuple[str, ...] = ()
    key_luks: tuple[HostKeyLuks, ...] = ()
    arrays: tuple[HostArray, ...] = ()
    volume_groups: tuple[str, ...] = ()
    thin_pools: tuple[str, ...] = ()
    zfs_pools: tuple[str, ...] = ()
    zfs_nodes: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    initrd_modules: tuple[str, ...] = ()
    supported_filesystems: tuple[str, ...] = ()

    def __add__(self, other: "HostPart") -> "HostPart":
        return HostPart(
            **{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)}
        )


@dataclass(frozen=True, kw_only=True)
class Element(ABC):
    """One thing in a layout. Elements name each other by key, so that one may stand on several (md, mirrors, pools)."""

    key: str
    """What other elements and the step ids call it."""

    def below(self) -> tuple[str, ...]:
        """Keys of what it stands on."""
        return ()

    @abstractmethod
    def words(self) -> str:
        """What it is, for a person, in a few words."""

    def steps(self, layout: "Layout") -> Iterator[Step]:
        """How it is made and brought up."""
        del layout
        return iter(())

    def release(self, layout: "Layout") -> Iterator[Action]:
        """What takes it down at the end, after everything is unmounted."""
        del layout
        return iter(())

    def host(self, layout: "Layout") -> HostPart:
        """What the host's configuration says about it."""
        del layout
        return HostPart()

    def regions(self, layout: "Layout") -> Iterator[tuple[str, Region]]:
        """Stretches of disks it takes, each with the disk's key, for the drawing."""
        del layout
        return iter(())

    def identity(self) -> DiskIdentity | None:
        """The disk's identity, if it is one."""
        return None


class Base(Element):
    """An element that others stand on."""

    @abstractmethod
    def ready(self, layout: "Layout") -> str:
        """Id of the step after which others can stand on it."""


class Device(Base):
    """A block device."""

    @abstractmethod
    def device(self, layout: "Layout") -> str:
        """Path under which the live system reaches it, once `ready`."""

    @abstractmethod
    def place(self, layout: "Layout") -> str:
        """Which device it is, for a person: `partition 2 of Samsung … (serial …)`."""


@dataclass(frozen=True)
class Layout:
    """Elements in the order in which they are made: what one stands on comes before it."""

    elements: tuple[Element, ...]
    """All of them."""
    gate: tuple[str, ...] = ()
    """Ids of steps that must be verified before the first write."""
    by_key: dict[str, Element] = field(init=False, compare=False, repr=False)
    """The same by key."""

    def __post_init__(self) -> None:
        known: dict[str, Element] = {}
        for element in self.elements:
            if element.key in known:
                raise ValueError(f"two elements are called {element.key}")
            if missing := [key for key in element.below() if key not in known]:
                raise ValueError(f"{element.key} stands on {missing[0]}, which no earlier element is")
            known[element.key] = element
        object.__setattr__(self, "by_key", known)

    def __getitem__(self, key: str) -> Element:
        return self.by_key[key]

    def base(self, key: str) -> Base:
        """An element that others stand on."""
        element = self[key]
        if not isinstance(element, Base):
            raise TypeError(f"nothing stands on {key}, which is {element.words()}")
        return element

    def device(self, key: str) -> Device:
        """An element that is a block device."""
        element = self[key]
        if not isinstance(element, Device):
            raise TypeError(f"{key}, which is {element.words()}, is no device")
        return element

    def above(self, key: str) -> tuple[Element, ...]:
        """Elements that stand directly on this one."""
        return tuple(element for element in self.elements if key in element.below())

    def devices(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """Paths of several devices."""
        return tuple(self.device(key).device(self) for key in keys)

    def places(self, keys: tuple[str, ...]) -> str:
        """Several devices for a person."""
        return " and ".join(self.device(key).place(self) for key in keys)

    def ready(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """Ids of the steps after which others can stand on all of them."""
        return tuple(dict.fromkeys(self.base(key).ready(self) for key in keys))

    def disks(self, key: str) -> tuple[DiskIdentity, ...]:
        """Every disk that writing to this element writes to."""
        if identity := self[key].identity():
            return (identity,)
        found = {disk.key: disk for below in self[key].below() for disk in self.disks(below)}
        return tuple(found.values())

    def writes(self, key: str) -> tuple[str, ...]:
        """Keys of those disks."""
        return tuple(disk.key for disk in self.disks(key))

    def content(self, key: str) -> str:
        """What stands on an element, from the bottom to the top: `LUKS2 > btrfs at /, /home`."""
        return " + ".join(
            " > ".join(filter(None, (element.words(), self.content(element.key))))
            for element in self.above(key)
        )

    def steps(self) -> Iterator[Step]:
        """Steps of all elements."""
        for element in self.elements:
            yield from element.steps(self)

    def release(self) -> Iterator[Action]:
        """Takes everything down, from the top to the bottom."""
        for element in reversed(self.elements):
            yield from element.release(self)

    def host(self) -> HostPart:
        """What the host's configuration says about all of it."""
        return sum((element.host(self) for element in self.elements), HostPart())

    def regions(self, disk: str) -> tuple[Region, ...]:
        """What is where on one disk."""
        found = (each for element in self.elements for each in element.regions(self))
        return tuple(
            sorted((region for key, region in found if key == disk), key=lambda region: region.start)
        )
