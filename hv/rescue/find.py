"""Installed hosts on a machine's disks: by the names of their partitions, and by the plan that is stored on their root."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.arrays import assemble
from installer.execute.devices import kernel_name, settle
from installer.execute.live import LiveSystem
from installer.execute.runner import CommandError, Runner
from installer.execute.signatures import probe_signature
from installer.execute.zfs import is_up
from installer.facts import Facts
from installer.plan.actions import AssembleArray
from installer.plan.identity import identify, shared_names
from installer.plan.model import DiskIdentity, Plan

ROOT = re.compile(r"^(?P<host>.+)-root(?:-(?P<number>[0-9]+))?$")
"""Name that the installer gives a partition of a root; several are numbered."""
STORED = ("var/log/hyper-nixos/plan.json", "*/var/log/hyper-nixos/plan.json", "*/hyper-nixos/plan.json")
"""Where the plan is below a root, or below the top of a btrfs with its subvolumes."""
UNREPLAYED = {"ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay"}
"""Mount options with which not one byte is written: also read-only a journal is played back else, which a host that hibernates
does not survive.
"""
POOL = "zfs_member"
READABLE = frozenset((*UNREPLAYED, POOL))
DATASET = "root"
"""Name of the root below its pool's."""
Ask = Callable[[str], bytes]
"""Gives the passphrase that a prompt asks for."""


@dataclass(frozen=True)
class RootPart:
    """One partition that a root stands on."""

    disk: DiskIdentity
    """Its disk."""
    number: int
    """Partition number."""
    kind: str | None
    """What blkid finds on it."""
    place: int | None = None
    """Its number among several; none: there was never another."""

    @property
    def device(self) -> str:
        """Its path."""
        return self.disk.partition(self.number)


@dataclass(frozen=True)
class Host:
    """A host that seems to be installed here."""

    name: str
    """What its partitions are called after; a long host name is cut there."""
    parts: tuple[RootPart, ...]
    """What its root stands on, in order."""

    @property
    def encrypted(self) -> bool:
        """Whether a passphrase is needed to look into it."""
        return any(each.kind == "crypto_LUKS" for each in self.parts)

    @property
    def words(self) -> str:
        """How its root is made, as far as the outermost layer shows."""
        return ", ".join(sorted({each.kind or "nothing known" for each in self.parts}))


def hosts(facts: Facts) -> tuple[Host, ...]:
    """Hosts whose root's partitions are on the machine's disks, by name."""
    shared = shared_names(facts.disks)
    found: dict[str, dict[int, RootPart]] = {}
    for disk in facts.disks:
        for partition in disk.partitions:
            match = ROOT.match(partition.label or "")
            if match is None:
                continue
            try:
                identity = identify(disk, f"disk-{disk.name}", shared)
            except (HyperError, ValueError):
                continue  # a disk without a name of its own cannot be told from others
            kind = partition.filesystem.kind if partition.filesystem else None
            place = int(match["number"]) if match["number"] else None
            found.setdefault(match["host"], {})[place or 1] = RootPart(
                identity, partition.number, kind, place
            )
    return tuple(
        Host(name, tuple(parts[number] for number in sorted(parts))) for name, parts in sorted(found.items())
    )


def the_host(found: tuple[Host, ...], name: str | None) -> Host:
    """The one that is meant. Raises HyperError (Exit.selection)."""
    matching = [each for each in found if name is None or each.name == name]
    if len(matching) == 1:
        return matching[0]
    there = ", ".join(each.name for each in found) or "none"
    raise HyperError(
        f"there is no host {name} here"
        if name and found
        else f"{len(matching) or 'no'} host{'s are' if len(matching) != 1 else ' is'} found",
        why=f"hosts whose root is on this machine's disks: {there}",
        remedy="name one of them with --host"
        if found
        else "connect its disks; `hv probe disks` shows what is there",
        code=Exit.selection,
    )


@contextmanager
def root_of(
    live: LiveSystem, runner: Runner, host: Host, ask: Ask, *, degraded: bool = False
) -> Iterator[Path]:
    """The root's file system, or the top of its btrfs, mounted read-only in a place of our own.

    What had to be opened for it stays open, under the name that the host gives it: mounting it by its plan goes on from
    there, and `hv rescue unmount` closes it.

    Args:
        live: The live system.
        runner: Runs programs.
        host: Which.
        ask: Gives the passphrase.
        degraded: Also with a disk of a mirror missing.

    Raises:
        HyperError: it cannot be opened or read.
    """
    devices = _opened(runner, host, ask, degraded=degraded)
    place = live.runtime / "rescue"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    signature = probe_signature(runner, devices[0])
    kind = signature.kind if signature else None
    if signature is None or kind not in READABLE:
        raise HyperError(
            f"the root of {host.name} cannot be read",
            why=f"{devices[0]} holds {kind or 'nothing known'}; what is read here: {', '.join(sorted(READABLE))}",
            remedy="mount it by hand",
            code=Exit.unsuitable,
        )
    if kind == POOL:
        name = signature.label or ""
        words = ["-t", "zfs", "-o", "ro", f"{name}/{DATASET}"]
        with _pool(runner, name, devices, host), _mounted(runner, host, words, place):
            yield place
        return
    options = ["ro", UNREPLAYED[kind]]
    options += ["subvolid=5", *(["degraded"] if degraded else [])] if kind == "btrfs" else []
    options += [f"device={each}" for each in devices[1:]]
    with _mounted(runner, host, ["-t", kind, "-o", ",".join(options), devices[0]], place):
        yield place


@contextmanager
def _mounted(runner: Runner, host: Host, words: list[str], place: Path) -> Iterator[None]:
    try:
        runner.run(["mount", *words, str(place)])
    except CommandError as error:
        raise HyperError(
            f"the root of {host.name} cannot be mounted",
            why=error.why,
            remedy="connect all of its disks; where one of a mirror is lost, add --degraded",
            code=Exit.unsuitable,
        ) from error
    try:
        yield
    finally:
        runner.run(["umount", str(place)])


@contextmanager
def _pool(runner: Runner, name: str, devices: tuple[str, ...], host: Host) -> Iterator[None]:
    """The pool, to be read only: not one byte of it is written, so it does not matter who had it last."""
    if is_up(runner, name):
        yield
        return
    words = [word for device in devices if kernel_name(device) for word in ("-d", device)]
    try:
        runner.run(["zpool", "import", "-N", "-f", "-o", "readonly=on", *words, name])
    except CommandError as error:
        raise HyperError(
            f"the pool of {host.name} cannot be read",
            why=error.why,
            remedy="connect all of its disks: without a mirror's one it can be read, without more than its redundancy allows "
            "it cannot",
            code=Exit.unsuitable,
        ) from error
    try:
        yield
    finally:
        runner.run(["zpool", "export", name])


def stored_plan(root: Path, host: Host) -> Plan:
    """The plan that installed the host. Raises HyperError (Exit.record)."""
    for pattern in STORED:
        for path in sorted(root.glob(pattern)):
            try:
                return Plan.model_validate_json(path.read_bytes())
            except ValueError as error:
                why = f"{path}: {str(error).splitlines()[0]}"
                break
        else:
            continue
        break
    else:
        why = f"there is none below {root}, where its root is mounted"
    raise HyperError(
        f"the plan that installed {host.name} cannot be read",
        why=why,
        remedy="mount what is needed by hand: without the plan nobody knows what belongs together",
        code=Exit.record,
    )


def _opened(runner: Runner, host: Host, ask: Ask, *, degraded: bool) -> tuple[str, ...]:
    """Devices of the root's file system, with arrays assembled, LUKS open and volume groups active."""
    settle(runner)
    devices = tuple(each.device for each in host.parts)
    names = tuple(f"cryptroot-{each.place}" if each.place else "cryptroot" for each in host.parts)
    if _kind(runner, devices[0]) == "linux_raid_member":
        devices, names = (_assembled(runner, host, devices, degraded=degraded),), ("cryptroot",)
    if _kind(runner, devices[0]) == "crypto_LUKS":
        devices = _unlocked(runner, dict(zip(names, devices, strict=True)), ask, host)
    if _kind(runner, devices[0]) == "LVM2_member":
        devices = (_activated(runner, devices[0]),)
    return devices


def _kind(runner: Runner, device: str) -> str | None:
    signature = probe_signature(runner, device)
    return signature.kind if signature else None


def _assembled(runner: Runner, host: Host, devices: tuple[str, ...], *, degraded: bool) -> str:
    """An array that starts without a member is written to as it starts: nothing that is done without being asked for."""
    examined = runner.run(["mdadm", "--examine", "--export", devices[0]]).text
    said = dict(line.split("=", 1) for line in examined.splitlines() if "=" in line)
    uuid, members = said.get("MD_UUID", ""), said.get("MD_DEVICES", "")
    if not degraded and members != str(len(devices)):
        raise HyperError(
            f"a disk of {host.name} is missing",
            why=f"{len(devices)} of the {members} members of the array below its root are here",
            remedy="connect all of its disks; where one of a mirror is lost, add --degraded",
            code=Exit.selection,
        )
    assemble(runner, AssembleArray(name="root", uuid=uuid, devices=devices))
    return f"/dev/disk/by-id/md-uuid-{uuid}"


def _unlocked(runner: Runner, devices: dict[str, str], ask: Ask, host: Host) -> tuple[str, ...]:
    """Opened, each under its name."""
    passphrase: bytes | None = None
    for name, device in devices.items():
        if kernel_name(f"/dev/mapper/{name}") is not None:
            continue
        passphrase = ask(f"Passphrase of {host.name}: ") if passphrase is None else passphrase
        try:
            runner.run(
                ["cryptsetup", "open", "--type", "luks2", "--key-file", "-", device, name], stdin=passphrase
            )
        except CommandError as error:
            raise HyperError(
                f"{device} of {host.name} does not open",
                why=error.why,
                remedy="try again; the keyboard of this system may have another layout than that of the host",
                code=Exit.unsuitable,
            ) from error
    settle(runner)
    return tuple(f"/dev/mapper/{name}" for name in devices)


def _activated(runner: Runner, device: str) -> str:
    group = runner.run(["pvs", "--noheadings", "--options", "vg_name", device]).text.strip()
    runner.run(["vgchange", "--activate", "y", group])
    settle(runner)
    return f"/dev/mapper/{group.replace('-', '--')}-root"
