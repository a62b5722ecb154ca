"""Swap files and partitions, plain or encrypted with a key that lives until the next boot (mkswap(8), crypttab(5))."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.plan.actions import Action, Run
from installer.plan.checks import SignatureIs, SwapActive
from installer.plan.model import HostSwapFile, Step
from installer.plan.storage.array import Array
from installer.plan.storage.element import Element, HostPart, Layout
from installer.plan.storage.gpt import Partition

LABEL_LIMIT = 15
"""Bytes of a label, without the final zero."""


@dataclass(frozen=True, kw_only=True)
class Swap(Element):
    """A plain swap partition, in use already while the system is installed."""

    on: str
    """Key of the device."""
    uuid: str
    """Its UUID."""
    label: str
    """Its label."""

    def below(self) -> tuple[str, ...]:
        return (self.on,)

    def words(self) -> str:
        return "swap"

    def steps(self, layout: Layout) -> Iterator[Step]:
        base = layout.device(self.on)
        device = base.device(layout)
        yield Step(
            id=f"format-{self.key}",
            summary=f"Make swap on {base.place(layout)}",
            requires=(base.ready(layout),),
            writes=layout.writes(self.on),
            actions=(Run(argv=("mkswap", "-U", self.uuid, "-L", self.label, device)),),
            checks=(SignatureIs(device=device, type="swap", uuid=self.uuid, label=self.label),),
            weight=0.5,
        )
        yield Step(
            id=f"activate-{self.key}",
            summary=f"Swap to {base.place(layout)} during the installation",
            requires=(f"format-{self.key}",),
            actions=(Run(argv=("swapon", device)),),
            checks=(SwapActive(device=device),),
            undo=tuple(self.release(layout)),
            transient=True,
            weight=0.2,
        )

    def release(self, layout: Layout) -> Iterator[Action]:
        yield Run(argv=("swapoff", layout.device(self.on).device(layout)))

    def host(self, layout: Layout) -> HostPart:
        base = layout.device(self.on)
        by_content = isinstance(base, Partition | Array)
        return HostPart(
            swap_devices=(f"/dev/disk/by-uuid/{self.uuid}" if by_content else base.device(layout),)
        )


@dataclass(frozen=True, kw_only=True)
class RandomKeySwap(Element):
    """Swap beside an encrypted root. The host encrypts it with a new random key at every boot: what guests' memory
    left there cannot be read after a power cut even with the passphrase, no second argon2id delays the boot, and there
    is no header to lose. The price: no hibernation. Nothing is made at installation, so
    no UUID exists; the host names it by the disk's identity.
    """

    on: str
    """Key of the device."""

    def below(self) -> tuple[str, ...]:
        return (self.on,)

    def words(self) -> str:
        return "swap, new random key at every boot"

    def host(self, layout: Layout) -> HostPart:
        return HostPart(random_swap_devices=(layout.device(self.on).device(layout),))


@dataclass(frozen=True, kw_only=True)
class SwapFile(Element):
    """A file on the root, which the host makes at its first boot; encrypted where the root is."""

    path: str
    """Where."""
    size: int
    """Bytes."""

    def words(self) -> str:
        return f"swap file {self.path}"

    def host(self, layout: Layout) -> HostPart:
        del layout
        return HostPart(swap_files=(HostSwapFile(path=self.path, size=self.size),))
