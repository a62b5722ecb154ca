"""ZFS pools and datasets, read back from their own tools (zpool-status(8), zpool-list(8), zfs-list(8))."""

import re

from installer.errors import Exit, HyperError
from installer.execute.devices import kernel_name, settle
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.mounts import mounted_at, read_mounts
from installer.execute.runner import CommandError, Runner
from installer.execute.signatures import probe_signature
from installer.plan.actions import ImportPool
from installer.plan.checks import DatasetMounted, DatasetsAre, PoolIs, PoolMembersAre

ID = re.compile(r"\(hostid=([0-9a-f]+)\)")
"""How `zpool import` says who had a pool last that was not exported (zpool_main.c, do_import)."""
_JOINS = ("mirror", "raidz1", "raidz2", "raidz3")


def is_up(runner: Runner, name: str) -> bool:
    """Whether the pool is imported."""
    return runner.run(["zpool", "list", "-H", "-o", "name", name], check=False).status == 0


def import_pool(runner: Runner, action: ImportPool, host_id: str, *options: str) -> None:
    """Bring it up, unless it is.

    A host does not export the pool that its root is on when it is switched off, and ZFS gives such a pool only to the id
    that had it last. So it is taken over if that id is the host's own, whose disks these are; from nobody else.

    Args:
        runner: Runs programs.
        action: Which pool.
        host_id: The host's, eight hexadecimal digits.
        options: More words for `zpool import`.

    Raises:
        CommandError: it is not there, lacks too many disks, or another system had it last.
    """
    if is_up(runner, action.name):
        return
    settle(runner)
    argv = ["zpool", "import", "-N", *options, "-d", action.nodes]
    try:
        runner.run([*argv, action.name])
    except CommandError as error:
        last = ID.search(error.why)
        if last is None or int(last[1], 16) != int(host_id, 16):
            raise
        runner.run([*argv, "-f", action.name])


def export_pool(live: LiveSystem, runner: Runner, name: str) -> None:
    """Let go of it.

    Raises:
        HyperError: it is not up, or somebody uses it (Exit.busy where a dataset is mounted: `zpool export` would unmount it).
    """
    places = [
        mount.target
        for mount in read_mounts(live.mountinfo)
        if mount.kind == "zfs" and mount.source.partition("/")[0] == name
    ]
    if places:
        raise HyperError(
            f"the pool {name} is not exported",
            why=f"datasets of it are mounted at {', '.join(places)}",
            remedy="unmount them, then run the same command again",
            code=Exit.busy,
        )
    runner.run(["zpool", "export", name])


def check_pool_members(runner: Runner, check: PoolMembersAre) -> Evidence:
    """What the devices' own labels say."""
    for device in check.devices:
        found = probe_signature(runner, device)
        said = f"{found.kind} {found.label}" if found else "nothing"
        ensure(said == f"zfs_member {check.name}", f"{device} in the pool {check.name}", said)
    return tuple(f"{device} carries the label of the pool {check.name}" for device in check.devices)


def check_pool(runner: Runner, check: PoolIs, *, degraded: bool = False) -> Evidence:
    """Up, healthy, on these devices, joined as asked; where it may be degraded, on those of them that are there."""
    health = runner.run(["zpool", "list", "-H", "-o", "health", check.name]).text.strip()
    healthy = ("ONLINE", "DEGRADED") if degraded else ("ONLINE",)
    ensure(health in healthy, f"the pool {check.name} healthy", health or "nothing")
    lines = [
        line.split()
        for line in runner.run(["zpool", "status", "-P", check.name]).text.splitlines()
        if line.split()
    ]
    joins = [words[0].partition("-")[0] for words in lines if words[0].partition("-")[0] in _JOINS]
    devices = {
        kernel_name(words[0]) for words in lines if words[0].startswith("/dev/") and words[1:2] == ["ONLINE"]
    }
    wanted = {kernel_name(path) for path in check.devices}
    if degraded:
        wanted.discard(None)
    ensure(devices == wanted, f"{check.name} on {sorted(map(str, wanted))}", str(sorted(map(str, devices))))
    expected = _expected(check.redundancy, len(check.devices))
    ensure(joins == expected, f"{check.name} as {expected or 'plain'}", str(joins))
    return (
        f"the pool {check.name} is {health}: {' '.join(joins) or 'plain'} of {', '.join(sorted(map(str, devices)))}",
    )


def _expected(redundancy: str, devices: int) -> list[str]:
    match redundancy:
        case "none":
            return []
        case "raid10":
            return ["mirror"] * (devices // 2)
        case _:
            return [redundancy]


def check_datasets(runner: Runner, check: DatasetsAre) -> Evidence:
    """Each is there."""
    listed = runner.run(["zfs", "list", "-H", "-o", "name"]).text.split()
    missing = [name for name in check.names if name not in listed]
    ensure(not missing, f"datasets {', '.join(check.names)}", f"without {', '.join(missing)}")
    return (f"ZFS has {', '.join(check.names)}",)


def check_dataset_mounted(live: LiveSystem, check: DatasetMounted) -> Evidence:
    """The dataset is what is mounted there."""
    mount = mounted_at(read_mounts(live.mountinfo), check.target)
    found = f"{mount.kind} {mount.source}" if mount else "nothing"
    ensure(found == f"zfs {check.dataset}", f"zfs {check.dataset} at {check.target}", found)
    return (f"{check.target}: {found}",)


def check_exported(runner: Runner, name: str) -> Evidence:
    """The live system has let go of it."""
    found = runner.run(["zpool", "list", "-H", "-o", "name", name], check=False)
    ensure(found.status != 0, f"the pool {name} exported", "it is up")
    return (f"the pool {name} is exported",)
