"""The pools that a host declares: `hypervisor.storage.pools`, as nix/modules/storage/pools.nix writes them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from hv import evaluated
from installer.errors import HyperError

POOLS_FILE = "/etc/hyper-nixos/pools.json"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f]+$")]
Dataset = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)*$")]


class _Pool(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    """As guests' definitions name it."""
    autostart: bool = True
    """Whether it is started now and with libvirt."""


class FolderPool(_Pool):
    """Files in a folder."""

    kind: Literal["dir", "btrfs"]
    """`btrfs`: the folder is a subvolume of its own when it is made, and must be on btrfs."""
    path: AbsolutePath
    """The folder."""
    copy_on_write: bool = False
    """On btrfs: whether files made in it are copied on write, with checksums; else they are overwritten in place."""


class LvmPool(_Pool):
    """Logical volumes."""

    kind: Literal["lvm"]
    volume_group: Name
    """The group that holds them; it must exist."""


class ZfsPool(_Pool):
    """Volumes (zvols) below a dataset."""

    kind: Literal["zfs"]
    dataset: Dataset
    """The pool, or a dataset of it; it must exist."""


Pool = Annotated[FolderPool | LvmPool | ZfsPool, Field(discriminator="kind")]


class Declared(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pools: tuple[Pool, ...]


def read_declared(path: Path) -> Declared:
    """The file's content. Raises HyperError."""
    absent = HyperError(
        "This host declares no storage pools.",
        why=f"{path} does not exist",
        remedy="Declare them in `hypervisor.storage.pools` and rebuild.",
    )
    return evaluated.read(Declared, path, absent, "hypervisor.storage.pools")
