"""A disk image of an installed host, made from answers and a ready system: what `hv install` would leave on a disk, without
root, without a block device, and without mounting one. Two images of one request are equal, byte for byte, but for those with btrfs.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict

from installer.answers.model import Answers
from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.execute.context import Context
from installer.execute.evidence import Wrong
from installer.execute.journal import Journal
from installer.execute.live import LiveSystem
from installer.execute.log import Log, NoLog, Redactor
from installer.execute.partition_table import read_table, write_partitions
from installer.execute.progress import make_progress
from installer.execute.runner import Runner
from installer.execute.secrets import Secrets
from installer.medium import Medium, ReadyClosure
from installer.plan.actions import CopyClosure
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.render import RenderedHost, load_templates, render
from iso import host_filesystems, host_grub, nix_database
from iso.host_filesystems import make, place, require_tools, search_path, settle_times
from iso.host_machine import INSTEAD, facts, on_it, require_size
from iso.host_tree import Tree, for_any_disk, refusals

TOOLS = {"unshare", "sfdisk", "mkswap", "nix", "nix-env"}
_SPACE = "disk-image"


class Request(BaseModel):
    """What was asked for."""

    model_config = ConfigDict(frozen=True)

    answers: Answers
    """What is wanted, already for the made-up machine."""
    medium: Medium
    """Where the system comes from."""
    size: int
    """Bytes."""
    store: str | None
    """Store or cache with the system; none: as the medium says."""
    output: Path
    """The image."""
    kind: Literal["raw", "qcow2"]
    bios: bool = False
    """It starts by BIOS, not UEFI."""


@dataclass(frozen=True)
class Made:
    """What came of it."""

    output: Path
    size: int
    """Bytes of the disk."""
    used: int
    """Bytes that the file takes."""
    plan: Plan


def planned(answers: Answers, medium: Medium, size: int, *, bios: bool = False) -> tuple[Plan, RenderedHost]:
    """The plan and the configuration of the host. Raises HyperError (Exit.unsuitable) for what an image cannot be."""
    require_size(size)
    machine, given = facts(size, medium.system, bios=bios), on_it(answers)
    try:
        plan = make_plan(machine, given, medium)
    except HyperError as error:
        if "too small" not in error.what:
            raise
        raise HyperError(
            f"an image of {format_size(size)} is too small",
            why=error.why,
            remedy="write a larger --size; the file takes only what is in it",
            code=error.code,
        ) from error
    host = plan.host
    # The first start's activation makes its people's folders: it comes before file systems that nobody needs to start.
    there = tuple(
        each.model_copy(update={"needed_for_boot": True}) if each.mountpoint == "/home" else each
        for each in host.filesystems
    )
    # Nobody knows what the disk will be called: the host renews GRUB's menu, not its code.
    device = None if bios else host.grub_device
    host = host.model_copy(update={"filesystems": there, "grub_device": device})
    plan = plan.model_copy(update={"host": host})
    if found := refusals(plan):
        raise HyperError(
            "no disk image can be made from these answers",
            why="\n".join(found),
            remedy=INSTEAD,
            code=Exit.unsuitable,
        )
    return plan, render(machine, given, plan, medium, load_templates())


def with_system(medium: Medium, answers: Answers, store: str | None) -> Medium:
    """The medium with the system that the answers name by its store path, where a store was given that has it."""
    named = answers.system.closure or ""
    known = {each.toplevel for each in medium.closures}
    if (
        store is None
        or answers.system.source != "closure"
        or not named.startswith("/nix/store/")
        or named in known
    ):
        return medium
    ready = ReadyClosure(
        name=named,
        toplevel=named,
        cache=None if store == "auto" else store,
        nar_size=medium.estimated_closure,
    )
    return medium.model_copy(update={"closures": (*medium.closures, ready)})


def require_ready(answers: Answers, medium: Medium) -> None:
    """HyperError where the system is not ready, or is none that this computer can run programs of."""
    if answers.system.source != "closure":
        raise HyperError(
            "an image is made from a ready system, and the answers want it evaluated",
            why=f"system.source is {answers.system.source!r}",
            remedy="have `hv media host ANSWERS --render DIR` write the configuration, build it (`nix build "
            'DIR#nixosConfigurations.NAME.config.system.build.toplevel`), then write system.source = "closure" and '
            'system.closure = "/nix/store/…", and name the store with --from',
            code=Exit.answers,
        )
    named = {each.name: each for each in medium.closures}
    closure = named.get(answers.system.closure or "")
    if closure and closure.tier:
        raise HyperError(
            f"{closure.name} is a system for any host of a tier",
            why="its people are made by its activation, which is not run here",
            remedy="build a system for this host: `hv media host ANSWERS --render DIR`",
            code=Exit.unsuitable,
        )
    if os.uname().sysname != "Linux" or os.uname().machine != medium.system.split("-")[0]:
        raise HyperError(
            f"an image for {medium.system} is made on such a machine",
            why=f"programs of the host's system write its boot entries, and this is {os.uname().sysname} on "
            f"{os.uname().machine}",
            remedy="run it on a Linux machine of that kind, or in a VM",
            code=Exit.unsuitable,
        )


def build(request: Request, tell: Callable[[str], None]) -> Made:
    """Make the image.

    Raises:
        HyperError: it cannot be made; nothing is left behind.
    """
    require_ready(request.answers, request.medium)
    plan, _ = planned(request.answers, request.medium, request.size, bios=request.bios)
    require_programs(plan, request.kind)
    if request.output.exists():
        raise HyperError(
            f"{request.output} is there already",
            why="an image is not written over",
            remedy="remove it, or give the new one another name",
            code=Exit.usage,
        )
    try:
        work = Path(mkdtemp(prefix=".hv-host-", dir=request.output.absolute().parent))
    except OSError as error:
        raise HyperError(
            f"{request.output} cannot be written",
            why=error.strerror or str(error),
            remedy="name a place that you may write to, on a file system with room",
        ) from error
    try:
        (work / "request.json").write_text(request.model_dump_json())
        _inside(work, tell)
        os.replace(work / "image", request.output)  # noqa: PTH105 (two folders, one file system)
        plan = Plan.model_validate_json((work / "plan.json").read_text())
        return Made(request.output, request.size, request.output.stat().st_blocks * 512, plan)
    finally:
        # Much of it is read-only, as stores are: its owner may remove it, as root of a namespace.
        subprocess.run([*NAMESPACE, "rm", "-rf", "--", str(work)], check=False, capture_output=True)


def require_programs(plan: Plan, kind: str) -> None:
    """HyperError (Exit.unsuitable) where something is missing that the image is made with."""
    kinds = {each.kind for each in plan.host.filesystems}
    needed = TOOLS.union(*(host_filesystems.TOOLS[each] for each in kinds))
    if plan.host.loader == "grub":
        needed |= host_grub.TOOLS
    require_tools(needed | ({"qemu-img"} if kind == "qcow2" else set()))
    if plan.host.loader == "grub":
        host_grub.modules_folder()
    if "btrfs" in kinds:
        host_filesystems.require_subvolumes(Runner(NoLog(), search_path()))


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "--")
"""Root of nothing but what is the caller's own (user_namespaces(7))."""


def _inside(work: Path, tell: Callable[[str], None]) -> None:
    """Run this module in namespaces. Raises HyperError."""
    search = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [*NAMESPACE, sys.executable, "-m", "iso.host_image", str(work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            tell(line.rstrip("\n"))
        said = process.stderr.read()
    failed = work / "failed.json"
    if failed.exists():
        told = json.loads(failed.read_text())
        raise HyperError(told["what"], why=told["why"], remedy=told["remedy"], code=Exit(told["code"]))
    if process.returncode and "unshare: " not in said:
        raise HyperError(
            "the image was not made",
            why=said.strip()[-2000:] or f"exit status {process.returncode}",
            remedy="this is a fault of the program: report it with what stands above",
            code=Exit.step,
        )
    if process.returncode:
        raise HyperError(
            "the image was not made: this computer gives nobody a namespace",
            why=said.strip()[-2000:] or f"exit status {process.returncode}",
            remedy="where namespaces of users are forbidden, allow them (`sysctl kernel.unprivileged_userns_clone=1`, or "
            "`kernel.apparmor_restrict_unprivileged_userns=0`), or run it as root",
            code=Exit.privilege,
        )


def main(work: Path) -> int:
    """Inside: make everything in the folder."""
    try:
        _make(Request.model_validate_json((work / "request.json").read_text()), work)
    except (HyperError, Wrong, OSError) as error:
        told = {
            "what": error.what if isinstance(error, HyperError) else "the image was not made",
            "why": error.why if isinstance(error, HyperError) else str(error),
            "remedy": error.remedy if isinstance(error, HyperError) else "mend what is named, and try again",
            "code": int(error.code) if isinstance(error, HyperError) else int(Exit.step),
        }
        (work / "failed.json").write_text(json.dumps(told))
        return 1
    return 0


def _make(request: Request, work: Path) -> None:
    _hide_firmware()
    plan, rendered = planned(request.answers, request.medium, request.size, bios=request.bios)
    plan = _from(for_any_disk(plan), request.store)
    live = LiveSystem(runtime=work / "live")
    live.runtime.mkdir()
    redact = Redactor()
    progress = make_progress("plain", redact, sys.stdout)
    log = Log(live.log, redact)
    nix = {name: value for name, value in os.environ.items() if name.startswith("NIX_")}
    runner = Runner(log, search_path(), tick=progress.tick, environment=nix)
    context = Context(
        plan=plan,
        answers=on_it(request.answers),
        medium=request.medium,
        rendered=rendered,
        live=live,
        runner=runner,
        progress=progress,
        journal=Journal(live.journal),
        secrets=Secrets(redact, request.answers),
    )
    context.secrets.collect(plan)
    tree = Tree(context, work)
    tree.build()
    many = nix_database.write_anew(tree.root / "nix/var/nix/db/db.sqlite")
    progress.say(f"Nix's database: {many} store paths")
    tree.unmount()
    core = _grub(runner, plan, tree, work)
    image = work / "disk"
    image.touch(0o600)
    os.truncate(image, request.size)
    collected = tree.collected
    write_partitions(runner, str(image), plan.disks[0], collected.partitions)
    _name_partitions(runner, image, plan)
    for number, formatted in sorted(collected.formatted(tree.folders).items()):
        progress.say(f"Make partition {number}: {formatted.program}")
        if formatted.folder is not None:
            settle_times(formatted.folder, tree.store)
        part = work / f"partition{number}"
        make(runner, formatted, part)
        spec = next(each for each in collected.partitions if each.number == number)
        place(part, image, spec.start)
        part.unlink()
    if core:
        host_grub.put(runner, core, image)
    if sorted(read_table(runner, str(image)), key=lambda each: each.number) != [*collected.partitions]:
        raise HyperError(
            "the image's partition table is not the planned one",
            why="sfdisk reads another",
            remedy="report it, with the answers",
            code=Exit.step,
        )
    final = work / "image"
    if request.kind == "qcow2":
        progress.say("Convert it to qcow2")
        runner.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(image), str(final)])
        image.unlink()
    else:
        image.rename(final)
    # It has the hashes of its people's passwords.
    final.chmod(0o600)
    (work / "plan.json").write_text(plan.model_dump_json())


def _grub(runner: Runner, plan: Plan, tree: Tree, work: Path) -> host_grub.Core | None:
    """GRUB's code for the image, where a BIOS starts it."""
    if plan.host.loader != "grub":
        return None
    by_place = {each.mountpoint: each.device for each in plan.host.filesystems}
    device = by_place.get("/boot", by_place["/"])
    place_ = next(each for each in tree.collected.partitions if each.type_uuid == host_grub.BIOS_BOOT)
    return host_grub.make_core(
        runner,
        work,
        device.removeprefix("/dev/disk/by-uuid/"),
        "/grub" if "/boot" in by_place else "/boot/grub",
        (place_.start, place_.size),
    )


def _hide_firmware() -> None:
    """Programs of the host's system write boot entries into firmware variables where there are any: not into these."""
    for place_ in ("/sys/firmware/efi",):
        if Path(place_).is_dir():
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "hv-image", place_], check=True)


def _from(plan: Plan, store: str | None) -> Plan:
    """The plan with another source of the system."""
    if store is None:
        return plan
    source = f"{store}{'&' if '?' in store else '?'}trusted=1" if "://" in store else store
    steps = []
    for step in plan.steps:
        actions = tuple(
            each.model_copy(update={"source": source, "options": ("--no-check-sigs",)})
            if isinstance(each, CopyClosure)
            else each
            for each in step.actions
        )
        steps.append(step.model_copy(update={"actions": actions}))
    return plan.model_copy(update={"steps": tuple(steps)})


def _name_partitions(runner: Runner, image: Path, plan: Plan) -> None:
    """The table's and the partitions' own identifiers, which libparted draws: from the host's, so that they stay."""
    base = f"{_SPACE}:{plan.host_id}:{plan.hostname}"
    argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel"]
    runner.run([*argv, "--disk-id", str(image), str(uuid5(NAMESPACE_URL, base))])
    for each in read_table(runner, str(image)):
        runner.run(
            [
                *argv,
                "--part-uuid",
                str(image),
                str(each.number),
                str(uuid5(NAMESPACE_URL, f"{base}:{each.number}")),
            ]
        )


def summary(made: Made) -> dict[str, Any]:
    """For programs."""
    return {
        "version": 1,
        "image": str(made.output),
        "size": made.size,
        "used": made.used,
        "hostname": made.plan.hostname,
        "filesystems": [each.model_dump(mode="json") for each in made.plan.host.filesystems],
    }


def words(made: Made) -> str:
    """For people."""
    places = ", ".join(f"{each.kind} at {each.mountpoint}" for each in made.plan.host.filesystems)
    return (
        f"{made.output}: {made.plan.hostname} on {format_size(made.size)} ({places}); the file takes "
        f"{format_size(made.used)}"
    )


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(Path(sys.argv[1])))
