"""Whether a host can hibernate as its answers are: all of its memory goes to a disk that stage 1 can open, and back."""

from collections.abc import Iterator

from installer.answers.model import Answers, FilesystemKind, LayoutKind, Phase, StorageAnswers, VolumesKind
from installer.answers.problems import Path, Problem
from installer.answers.storage_shape import counted

_PATH: Path = ("storage", "swap", "hibernate")


def _zfs(storage: StorageAnswers) -> bool:
    return storage.filesystem is FilesystemKind.zfs or (
        storage.pool is not None and storage.pool.kind == "zfs"
    )


def _array_for_vms(storage: StorageAnswers) -> bool:
    """Whether md joins the disks of the pool for VMs (installer/plan/layouts/data_pool.py)."""
    pool = storage.pool
    if pool is None or counted(storage.pool_selectors) < 2:
        return False
    return not (pool.kind == "dir" and pool.filesystem is FilesystemKind.btrfs)


def check_hibernation(answers: Answers) -> Iterator[Problem]:
    """Every reason against it."""
    storage = answers.storage
    swap = storage.swap
    if not swap.hibernate:
        return
    several = storage.layout is not LayoutKind.one_disk or counted(storage.selectors) > 1
    encrypted, lvm = storage.encryption.enable, storage.volumes is not VolumesKind.none
    if swap.kind not in ("partition", "file"):
        yield Problem(
            _PATH,
            "needs swap on a disk, and zram is memory itself"
            if swap.kind == "zram"
            else "needs swap on a disk",
            'write `kind = "partition"` or `"file"`, or remove it',
        )
    elif swap.kind == "partition" and encrypted and not lvm:
        yield Problem(
            _PATH,
            "is not possible: the swap partition of an encrypted host has a new random key at every boot, which no image "
            "survives",
            'write `volumes = "lvm"` (swap behind the passphrase) or `kind = "file"`, or remove it',
        )
    elif swap.kind == "file" and answers.boot.firmware == "bios":
        yield Problem(
            _PATH,
            "is not possible with a file under BIOS: where the image lies in it is told to stage 1 by a UEFI variable",
            'write `kind = "partition"`, or remove it',
        )
    if several:
        yield Problem(
            _PATH,
            "is not possible with several disks: an array that is put together before the image is read differs from the one "
            "that the image knows",
            "remove it, or install on one disk",
        )
    if _zfs(storage):
        yield Problem(
            _PATH,
            "is not possible with ZFS: NixOS forbids it, since a pool that is imported before the image is read is ruined",
            "remove it, or choose another file system",
        )
    elif _array_for_vms(storage):
        yield Problem(
            _PATH,
            "is not possible with several disks for VMs that md joins: an array that is put together before the image is read "
            "differs from the one that the image knows",
            'remove it, write `filesystem = "btrfs"` for them, or choose one disk',
        )
    if answers.hypervisor.passthrough:
        yield Problem(
            _PATH,
            "is not possible: devices passed through to guests keep their state to themselves",
            "remove it",
        )
    if answers.security.phase is Phase.hardened and answers.security.profile != "development":
        yield Problem(
            _PATH,
            f"is what phase hardened with profile `{answers.security.profile}` forbids: an image on disk could replace the "
            "kernel",
            'remove it, or write `phase = "setup"`',
        )
