"""An installed host, mounted as its plan has it, and let go again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hv.rescue.asleep import discard, require_awake
from hv.rescue.degraded import without
from hv.rescue.find import Ask, Host, root_of, stored_plan
from installer.errors import Exit, HyperError
from installer.execute.arrays import assemble, check_array, check_stopped
from installer.execute.devices import identity_problem, kernel_name, read_device, settle
from installer.execute.evidence import Evidence, Wrong
from installer.execute.files import make_directory, write_file
from installer.execute.live import LiveSystem
from installer.execute.mounts import (
    below,
    check_mapper,
    check_mounted,
    check_not_mounted,
    mounted_at,
    read_mounts,
)
from installer.execute.runner import Runner
from installer.execute.signatures import probe_signature
from installer.execute.volumes import check_active
from installer.execute.zfs import check_dataset_mounted, check_exported, check_pool, export_pool, import_pool
from installer.plan.actions import Action, AssembleArray, ExportPool, ImportPool, MakeDirectory, Run
from installer.plan.checks import (
    ArrayIs,
    Check,
    DatasetMounted,
    MapperIs,
    MountedAt,
    NotMounted,
    PoolIs,
    VolumesActive,
)
from installer.plan.model import TARGET, DiskIdentity, Plan, Step

_MODE = 0o600
_UP = (ArrayIs, MapperIs, VolumesActive, PoolIs, MountedAt, DatasetMounted)
"""Checks of the steps that bring storage up; others have no place in a rescue."""


@dataclass(frozen=True)
class Tools:
    """What every part of a rescue is given."""

    live: LiveSystem
    """Where the live system's folders are."""
    runner: Runner
    """Runs programs."""
    ask: Ask
    """Gives the passphrase."""
    degraded: bool = False
    """Whether to go on although a disk of a mirror is missing."""
    discard_memory: bool = False
    """Whether to give up the memory of a host that hibernates."""

    @property
    def record(self) -> Path:
        """Plan of the host that is mounted."""
        return self.live.runtime / "rescue-plan.json"


def up_steps(plan: Plan) -> tuple[Step, ...]:
    """The steps of a plan that bring the host's storage up and mount it, in order."""
    return tuple(
        step for step in plan.steps if step.transient and any(isinstance(each, _UP) for each in step.checks)
    )


def mounted_plan(tools: Tools) -> Plan | None:
    """The plan of the host that is mounted now; none: none is."""
    mounts = read_mounts(tools.live.mountinfo)
    if mounted_at(mounts, TARGET) is None or not tools.record.is_file():
        return None
    return Plan.model_validate_json(tools.record.read_bytes())


def plan_of(tools: Tools, host: Host) -> Plan:
    """The host's stored plan, with its root opened as far as that takes. Raises HyperError, also for one that hibernates."""
    with root_of(tools.live, tools.runner, host, tools.ask, degraded=tools.degraded) as root:
        plan = stored_plan(root, host)
        if not tools.discard_memory:
            require_awake(plan, root)
        return plan


def mount(tools: Tools, plan: Plan) -> Iterator[str]:
    """Bring everything up and mount it at the target, saying what was done.

    Raises:
        HyperError: the target is taken (Exit.busy), a disk is missing or another, or something cannot be mounted.
    """
    taken = below(read_mounts(tools.live.mountinfo), TARGET)
    if taken and mounted_plan(tools) != plan:
        raise HyperError(
            f"{TARGET} is in use",
            why=f"mounted there: {', '.join(each.target for each in taken)}",
            remedy="`hv rescue unmount` if it is another host, else unmount it by hand",
            code=Exit.busy,
        )
    missing = require_disks(tools, plan)
    write_file(tools.record, plan.model_dump_json().encode(), _MODE)
    for disk in missing:
        yield f"{disk.name} ({disk.model or 'no model'}) is missing: what is written now has no second copy"
    for step in without(up_steps(plan), missing):
        settle(tools.runner)
        if _is_up(tools, step):
            yield f"{step.id}: so already"
            continue
        if device := dispensable(plan, step):
            yield f"{step.id}: {device} is not there, and the host starts without it"
            continue
        if tools.discard_memory and any(isinstance(check, MountedAt) for check in step.checks):
            # Before anything is written: whatever happens then, the host does not wake up any more.
            yield from discard(plan)
        for action in step.actions:
            _carry_out(tools, action, plan)
        settle(tools.runner)
        try:
            for check in step.checks:
                if isinstance(check, _UP):
                    yield f"{step.id}: {'; '.join(_verify(tools, check))}"
        except Wrong as error:
            raise HyperError(
                f"{plan.hostname} cannot be mounted whole",
                why=f"{step.id}: {error}",
                remedy="`hv rescue unmount` lets go of what is mounted; look at the disks with `hv probe disks`",
                code=Exit.step,
            ) from error
    if tools.discard_memory:
        yield from discard(plan)


def dispensable(plan: Plan, step: Step) -> str | None:
    """The device that the step would mount, where it is not there and the host does without it."""
    optional = {each.mountpoint for each in plan.host.filesystems if "nofail" in each.options}
    for check in step.checks:
        if isinstance(check, MountedAt) and check.target.removeprefix(TARGET) in optional:
            for action in step.actions:
                if (
                    isinstance(action, Run)
                    and action.argv[0] == "mount"
                    and kernel_name(action.argv[-2]) is None
                ):
                    return action.argv[-2]
    return None


def unmount(tools: Tools, plan: Plan) -> Iterator[str]:
    """Unmount everything and close what was opened. Raises HyperError (Exit.busy)."""
    for step in reversed(up_steps(plan)):
        for action in step.undo:
            if isinstance(action, Run | ExportPool):
                try:
                    _take_back(tools, action)
                except HyperError as error:  # it may not be up; what counts is looked at below
                    tools.runner.log.write(f"! undo of {step.id}: {error}")
    settle(tools.runner)
    for check in (check for step in plan.steps for check in step.checks if isinstance(check, NotMounted)):
        try:
            yield from check_not_mounted(tools.live, check.target, check.mappers)
            for uuid in check.arrays:
                yield from check_stopped(tools.live, uuid)
            for name in check.pools:
                yield from check_exported(tools.runner, name)
        except Wrong as error:
            raise HyperError(
                f"{plan.hostname} is still in use",
                why=str(error),
                remedy=f"end what uses it (`fuser -vm {TARGET}`), then run the same command again",
                code=Exit.busy,
            ) from error
    tools.record.unlink(missing_ok=True)


def _take_back(tools: Tools, action: Run | ExportPool) -> None:
    if isinstance(action, ExportPool):
        export_pool(tools.live, tools.runner, action.name)
    else:
        tools.runner.run(action.argv)


def require_disks(tools: Tools, plan: Plan) -> tuple[DiskIdentity, ...]:
    """The plan's disks that are missing, where that is allowed and not all are.

    Raises:
        HyperError: one is missing where none may, or is another (Exit.selection).
    """
    missing = tuple(disk for disk in plan.disks if kernel_name(disk.device) is None)
    allowed = missing if tools.degraded and len(missing) < len(plan.disks) else ()
    for disk in plan.disks:
        if disk in allowed:
            continue
        name = kernel_name(disk.device)
        problem = (
            "it is not there" if name is None else identity_problem(disk, read_device(tools.live, name))
        )
        if problem:
            raise HyperError(
                f"a disk of {plan.hostname} is missing",
                why=f"{disk.device} ({disk.model or 'no model'}): {problem}",
                remedy="connect it as it was, without an adapter that gives it another name; of a mirror, --degraded goes "
                "on without it",
                code=Exit.selection,
            )
    return allowed


def _is_up(tools: Tools, step: Step) -> bool:
    try:
        for check in step.checks:
            if isinstance(check, _UP):
                _verify(tools, check)
    except (Wrong, HyperError, OSError):
        return False
    return True


def _verify(tools: Tools, check: Check) -> Evidence:
    live, runner = tools.live, tools.runner
    match check:
        case MapperIs():
            return check_mapper(live, check.name, check.uuid)
        case ArrayIs():
            return check_array(runner, check)
        case VolumesActive():
            return check_active(runner, check)
        case PoolIs():
            return check_pool(runner, check, degraded=tools.degraded)
        case DatasetMounted():
            return check_dataset_mounted(live, check)
        case MountedAt():
            found = mounted_at(read_mounts(live.mountinfo), check.target)
            signature = probe_signature(runner, found.source) if found else None
            uuid = signature.uuid if signature else None
            return check_mounted(live, check.target, check.options, check.uuid, uuid)
        case _:
            return ()


def _carry_out(tools: Tools, action: Action, plan: Plan) -> None:
    match action:
        case Run():
            stdin = tools.ask(f"Passphrase of {plan.hostname}: ") if action.stdin else None
            tools.runner.run(action.argv, stdin=stdin)
        case MakeDirectory():
            make_directory(Path(action.path), action.mode)
        case AssembleArray():
            assemble(tools.runner, action)
        case ImportPool():
            import_pool(tools.runner, action, plan.host_id)
        case _:
            raise HyperError(
                f"the stored plan of {plan.hostname} wants more than mounting",
                why=f"one of its steps that bring storage up does {action.kind}",
                remedy="mount it by hand; this is a fault of the program: report it with the plan's JSON",
            )
