"""Boot partitions, loader and the firmware's menu of a mounted host, made anew by its own system and proved as at its
installation.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hv.rescue.mount import Tools
from hv.rescue.mount import require_disks as _require_disks
from installer.errors import Exit, HyperError
from installer.execute.boot_entries import check_boot_entry, write_boot_entry
from installer.execute.boot_proof import prove_boot
from installer.execute.bootloader import install_boot_loader
from installer.execute.devices import settle
from installer.execute.evidence import Wrong
from installer.execute.partition_table import read_table
from installer.execute.shared_esp import check_foreign, look_at_esp, put_back_foreign
from installer.execute.signatures import check_signature
from installer.plan.actions import LookAtEsp, PutBackForeign, Run, WriteBootEntry
from installer.plan.checks import BootProof, PartitionTableIs, SignatureIs
from installer.plan.model import TARGET, DiskIdentity, HostFilesystem, HostStorage, Plan, Step

BOOT_STEP = re.compile(r"^format-(esp|boot|xbootldr)(-[0-9]+)?$")
"""Steps of a plan that make file systems to boot from, of the host alone."""
BY_ID = Path("/dev/disk/by-id")


@dataclass(frozen=True)
class Left:
    """What of a host can be made to boot, perhaps with disks missing."""

    disks: tuple[DiskIdentity, ...]
    """Boot disks that are there, in the plan's order."""
    host: HostStorage
    """The host's storage, without what is gone with them."""
    stand_in: HostFilesystem | None
    """Boot file system that takes the place of the first one, whose disk is gone; none: the first one is there."""
    lost: tuple[tuple[str, DiskIdentity], ...] = ()
    """Where GRUB has its files on disks that are gone, and these: the first that is there stands in for each."""


def left(plan: Plan, proof: BootProof, missing: tuple[DiskIdentity, ...]) -> Left:
    """What there is to boot from without these disks.

    Raises:
        HyperError: nothing, or the loader cannot be written with a disk missing (Exit.unsuitable).
    """
    disks = {disk.key: disk for disk in plan.disks}
    booting = tuple(disks[key] for key in (proof.disk, *proof.mirrors))
    if not missing:
        return Left(booting, plan.host, None)
    there = tuple(each for each in booting if each not in missing)
    grub = plan.host.loader != "systemd-boot"
    lost = tuple(each for each in booting if each in missing)
    if not there or (grub and any(each.by_id is None for each in lost)):
        raise HyperError(
            f"{plan.hostname} is not repaired with a disk missing",
            why="no disk is left that it boots from"
            if not there
            else "GRUB is installed to each disk that the host's configuration names, and no other can be named so",
            remedy="connect the disk; or go in with `hv rescue shell --degraded`, take the disk out of /etc/nixos, and rebuild "
            "the system there",
            code=Exit.unsuitable,
        )
    main = plan.host.esp_mountpoint or "/boot"
    places = dict(zip((main, *(each.mountpoint for each in plan.host.mirrors)), booting, strict=True))
    own = next(place for place, disk in places.items() if disk == there[0])
    still = {place for place, disk in places.items() if disk in there} - ({own} if own != main else set())
    closed = {
        action.argv[-1]
        for step in plan.steps
        for action in step.actions
        if isinstance(action, Run)
        and action.argv[:2] == ("cryptsetup", "open")
        and any(action.argv[-2].startswith(f"{disk.device}-part") for disk in missing)
    }
    host = plan.host.model_copy(
        update={
            "mirrors": tuple(each for each in plan.host.mirrors if each.mountpoint in still),
            # The host starts without what is `nofail`; whether it is there is looked at, and not required.
            "filesystems": tuple(
                each
                for each in plan.host.filesystems
                if "nofail" not in each.options or each.mountpoint in still
            ),
            "luks": tuple(each for each in plan.host.luks if not (each.dispensable and each.name in closed)),
            "key_luks": tuple(each for each in plan.host.key_luks if each.name not in closed),
        }
    )
    stand_in = (
        next(each for each in plan.host.filesystems if each.mountpoint == own) if own != main else None
    )
    gone = tuple((place, disk) for place, disk in places.items() if disk in lost) if grub else ()
    return Left(there, host, stand_in, gone)


@contextmanager
def _standing_in(tools: Tools, stand_in: HostFilesystem | None, place: str) -> Iterator[None]:
    """A boot file system at the first one's place, where the system's own programs write to."""
    if stand_in is None:
        yield
        return
    own = f"{TARGET}{stand_in.mountpoint}"
    mount = [
        "mount",
        "-t",
        stand_in.kind,
        "-o",
        ",".join(_plain(stand_in.options)) or "defaults",
        stand_in.device,
    ]
    tools.runner.run(["umount", own])
    try:
        tools.runner.run([*mount, f"{TARGET}{place}"])
        try:
            yield
        finally:
            tools.runner.run(["umount", f"{TARGET}{place}"])
    finally:
        tools.runner.run([*mount, own])


@contextmanager
def _doubled(tools: Tools, own: str, places: Iterable[str]) -> Iterator[None]:
    """A boot file system also where those are missing that the system's own programs write to."""
    with ExitStack() as mounted:
        for place in places:
            if place == own:
                continue
            tools.runner.run(["mount", "--bind", f"{TARGET}{own}", f"{TARGET}{place}"])
            mounted.callback(tools.runner.run, ["umount", f"{TARGET}{place}"])
        yield


@contextmanager
def _named(tools: Tools, there: Left) -> Iterator[Path | None]:
    """A folder of disks' names in which those of missing ones lead to the one that stands in for them.

    Only GRUB's installer sees it, which stops at a disk that is not there; udev's own names stay as they are.
    """
    if not there.lost:
        yield None
        return
    folder = tools.live.runtime / "disk-names"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    links = [link for link in BY_ID.iterdir() if link.is_symlink()]
    for link in links:
        (folder / link.name).symlink_to(link.readlink())
    instead = there.disks[0].name
    for _, disk in there.lost:
        for link in links:
            rest = link.name.removeprefix(instead)
            if link.name == instead or (rest != link.name and rest.startswith("-part")):
                name = folder / f"{disk.name}{rest}"
                name.unlink(missing_ok=True)
                name.symlink_to(os.path.realpath(link))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain(options: tuple[str, ...]) -> tuple[str, ...]:
    """Without what only fstab knows."""
    return tuple(each for each in options if each != "nofail" and not each.startswith("x-"))


def repair(tools: Tools, plan: Plan) -> Iterator[str]:
    """Have the host's own system write loader, entries and kernels anew, then prove that every disk boots.

    Raises:
        HyperError: it could not be made so (Exit.step).
    """
    missing = _require_disks(tools, plan)
    proofs = [check for step in plan.steps for check in step.checks if isinstance(check, BootProof)]
    with ExitStack() as standing:
        booting = {proof: left(plan, proof, missing) for proof in proofs[:1]}
        for there in booting.values():
            place = plan.host.esp_mountpoint or "/boot"
            if there.lost:
                own = there.stand_in.mountpoint if there.stand_in else place
                standing.enter_context(_doubled(tools, own, [each for each, _ in there.lost]))
                yield from _stands_in(there)
            elif there.stand_in:
                standing.enter_context(_standing_in(tools, there.stand_in, place))
                yield f"{there.stand_in.mountpoint} stands in at {place}, whose disk is missing"
        yield from _repaired(tools, plan, booting, missing)


def _stands_in(there: Left) -> Iterator[str]:
    names = " and ".join(disk.name for _, disk in there.lost)
    yield f"{there.disks[0].name} stands in for {names} while GRUB is written"
    yield (
        f"until {names} is replaced, rebuilding the host stops at GRUB, unless it is taken out of /etc/nixos (mirroredBoots)"
    )


def _repaired(
    tools: Tools, plan: Plan, booting: Mapping[BootProof, Left], missing: tuple[DiskIdentity, ...]
) -> Iterator[str]:
    live, runner = tools.live, tools.runner
    disks = {disk.key: disk for disk in plan.disks if disk not in missing}
    actions = [action for step in plan.steps for action in step.actions]
    looks = [each for each in actions if isinstance(each, LookAtEsp) and each.disk in disks]
    puts = [each for each in actions if isinstance(each, PutBackForeign) and each.disk in disks]
    entries = [each for each in actions if isinstance(each, WriteBootEntry) and each.disk in disks]
    for look in looks:
        # Of now, not of the installation: what another system changed on its partition since is its own again.
        yield from _look(tools, disks[look.disk], look)
    with ExitStack() as named:
        names = [named.enter_context(_named(tools, there)) for there in booting.values()]
        install_boot_loader(runner, Path(TARGET), next(filter(None, names), None))
    yield "the system's own switch-to-configuration wrote loader, entries and kernels"
    for put in puts:
        put_back_foreign(live, disks[put.disk], Path(put.path))
        yield from check_foreign(live, disks[put.disk], Path(put.path))
    for entry in entries:
        write_boot_entry(live, runner, entry, disks[entry.disk])
    try:
        for entry in entries:
            yield from check_boot_entry(live, runner, disks[entry.disk], entry.partition)
        for proof, there in booting.items():
            for line in prove_boot(live, runner, proof, there.disks, there.host):
                yield f"proved: {line}"
    except Wrong as error:
        raise HyperError(
            f"{plan.hostname} would still not boot",
            why=str(error),
            remedy="`hv rescue shell` goes into the host; a boot partition whose file system is damaged is made anew with "
            "--format",
            code=Exit.step,
        ) from error


def remake(tools: Tools, plan: Plan) -> Iterator[str]:
    """Make the boot file systems anew that cannot be mounted any more, as the plan made them; the others stay.

    Raises:
        HyperError: a partition is not where the plan has it (Exit.unsuitable), or nothing can be made on it.
    """
    missing = {disk.key for disk in _require_disks(tools, plan)}
    for step in plan.steps:
        if not BOOT_STEP.match(step.id) or missing.intersection(step.writes):
            continue
        (signature,) = (check for check in step.checks if isinstance(check, SignatureIs))
        if _mounts(tools, signature):
            yield f"{signature.device}: its file system can be mounted, and stays"
            continue
        _require_place(tools, plan, step)
        for action in step.actions:
            if isinstance(action, Run):
                tools.runner.run(action.argv)
        settle(tools.runner)
        yield from check_signature(
            tools.runner, signature.device, signature.type, signature.uuid, signature.label
        )


def _mounts(tools: Tools, signature: SignatureIs) -> bool:
    place = tools.live.runtime / "rescue"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        check_signature(tools.runner, signature.device, signature.type, signature.uuid, None)
        tools.runner.run(["mount", "-t", signature.type, "-o", "ro", signature.device, str(place)])
    except (Wrong, HyperError, OSError):
        return False
    tools.runner.run(["umount", str(place)])
    return True


def _require_place(tools: Tools, plan: Plan, step: Step) -> None:
    """HyperError unless the disk's table is the planned one: nothing else is written over."""
    disk = next(each for each in plan.disks if each.key == step.writes[0])
    wanted = next(
        check.partitions
        for each in plan.steps
        for check in each.checks
        if isinstance(check, PartitionTableIs) and check.disk == disk.key
    )
    there = read_table(tools.runner, os.path.realpath(disk.device))
    if any(each not in there for each in wanted):
        raise HyperError(
            f"nothing is made anew on {disk.name}",
            why="its partition table is not the one that the host was installed with",
            remedy="make the boot partition by hand, with the UUID that /etc/nixos/disks.nix has, then run this again",
            code=Exit.unsuitable,
        )


def _look(tools: Tools, disk: DiskIdentity, look: LookAtEsp) -> Iterator[str]:
    folder = tools.live.headers / disk.key / "esp"
    (folder / "files.json").unlink(missing_ok=True)
    look_at_esp(tools.live, tools.runner, disk, look.model_copy(update={"room": 0}))
    yield from check_foreign(tools.live, disk, None)
