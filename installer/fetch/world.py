"""What a look at the sources touches; tests give another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from installer.execute.runner import Runner
from installer.probe.root import LiveRoot, Root

LIVE = Path("/run/hyper-nixos/live")
"""Where the live system puts what was embedded into its medium."""


@dataclass(frozen=True)
class World:
    """The live system as the sources are looked for in it."""

    runner: Runner
    """For mount, blkid, nmcli, ssh-keygen."""
    root: Root = field(default_factory=LiveRoot)
    """For files of kernel, firmware and network."""
    live: Path = LIVE
    """Folder with what was embedded; secrets that come with answers go below it."""
    mounts: Path = Path("/run/hyper-nixos/answers-medium")
    """Where a labelled medium is mounted for the look."""
    patience: float = 300.0
    """Seconds for all tries to fetch one URL."""
    network_patience: float = 60.0
    """Seconds to wait for a lease before DHCP and DNS are asked."""
    dns_port: int = 53
    """Where name servers listen."""
    proxies: Mapping[str, str] | None = None
    """Proxies instead of the environment's."""

    def embedded(self, name: str) -> bytes | None:
        """A file that was embedded into the medium; none: it was not."""
        try:
            return (self.live / name).read_bytes()
        except FileNotFoundError:
            return None
