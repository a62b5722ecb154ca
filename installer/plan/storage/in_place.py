"""A folder of a btrfs whose new files are written in place: attribute C (chattr(1), btrfs(5), nodatacow)."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.plan.actions import MakeDirectory, Run
from installer.plan.checks import WrittenInPlace
from installer.plan.model import TARGET, Step
from installer.plan.storage.element import Element, HostPart, Layout
from installer.plan.storage.filesystem import all_mounts

POOL_MODE = 0o711
"""As libvirt keeps its folder of images."""


@dataclass(frozen=True, kw_only=True)
class InPlace(Element):
    """The folder of the VMs' disks. Copying each block that a guest rewrites would scatter its disk over ours."""

    on: str
    """Key of the file system."""
    path: str
    """Absolute path on the host."""

    def below(self) -> tuple[str, ...]:
        return (self.on,)

    def words(self) -> str:
        return f"{self.path} written in place"

    def steps(self, layout: Layout) -> Iterator[Step]:
        inside = [
            mount
            for mount in all_mounts(layout)
            if f"{self.path}/".startswith(mount.mountpoint.rstrip("/") + "/")
        ]
        yield Step(
            id=f"in-place-{self.key}",
            summary=f"Have files in {self.path} written in place",
            requires=(max(inside, key=lambda mount: len(mount.mountpoint)).step,),
            actions=(
                MakeDirectory(path=TARGET + self.path, mode=POOL_MODE),
                Run(argv=("chattr", "+C", TARGET + self.path)),
            ),
            checks=(WrittenInPlace(path=TARGET + self.path),),
            weight=0.1,
        )

    def host(self, layout: Layout) -> HostPart:
        del layout
        return HostPart(in_place=(self.path,))
