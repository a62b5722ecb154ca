"""Boot partitions, loader and the firmware's menu of a mounted host, made anew by its own system and proved as at its
installation.
"""

import os
import re
from collections.abc import Iterator
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
from installer.plan.model import TARGET, DiskIdentity, Plan, Step

BOOT_STEP = re.compile(r"^format-(esp|boot|xbootldr)(-[0-9]+)?$")
"""Steps of a plan that make file systems to boot from, of the host alone."""


def repair(tools: Tools, plan: Plan) -> Iterator[str]:
    """Have the host's own system write loader, entries and kernels anew, then prove that every disk boots.

    Raises:
        HyperError: it could not be made so (Exit.step).
    """
    live, runner = tools.live, tools.runner
    disks = {disk.key: disk for disk in plan.disks}
    actions = [action for step in plan.steps for action in step.actions]
    for look in (each for each in actions if isinstance(each, LookAtEsp)):
        # Of now, not of the installation: what another system changed on its partition since is its own again.
        yield from _look(tools, disks[look.disk], look)
    install_boot_loader(runner, Path(TARGET))
    yield "the system's own switch-to-configuration wrote loader, entries and kernels"
    for put in (each for each in actions if isinstance(each, PutBackForeign)):
        put_back_foreign(live, disks[put.disk], Path(put.path))
        yield from check_foreign(live, disks[put.disk], Path(put.path))
    for entry in (each for each in actions if isinstance(each, WriteBootEntry)):
        write_boot_entry(live, runner, entry, disks[entry.disk])
    try:
        for entry in (each for each in actions if isinstance(each, WriteBootEntry)):
            yield from check_boot_entry(live, runner, disks[entry.disk], entry.partition)
        proofs = [check for step in plan.steps for check in step.checks if isinstance(check, BootProof)]
        for proof in proofs[:1]:
            booting = tuple(disks[key] for key in (proof.disk, *proof.mirrors))
            for line in prove_boot(live, runner, proof, booting, plan.host):
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
    _require_disks(tools, plan)
    for step in plan.steps:
        if not BOOT_STEP.match(step.id):
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
