"""Compressed swap in memory (kernel doc admin-guide/blockdev/zram)."""

from dataclasses import dataclass

from installer.plan.storage.element import Element, HostPart, Layout


@dataclass(frozen=True, kw_only=True)
class Zram(Element):
    """A zram device, which the host makes at every boot; it takes no disk."""

    percent: int
    """Size in percent of the memory."""

    def words(self) -> str:
        return f"zram, {self.percent} % of the memory"

    def host(self, layout: Layout) -> HostPart:
        del layout
        return HostPart(zram_percent=(self.percent,))
