"""ZFS pools and datasets, read back from their own tools (zpool-status(8), zpool-list(8), zfs-list(8))."""

from installer.execute.devices import kernel_name
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.mounts import mounted_at, read_mounts
from installer.execute.runner import Runner
from installer.plan.actions import ImportPool
from installer.plan.checks import DatasetMounted, DatasetsAre, PoolIs

_JOINS = ("mirror", "raidz1", "raidz2", "raidz3")


def import_pool(runner: Runner, action: ImportPool) -> None:
    """Bring it up, unless it is."""
    if runner.run(["zpool", "list", "-H", "-o", "name", action.name], check=False).status != 0:
        runner.run(["zpool", "import", "-N", "-d", action.nodes, action.name])


def check_pool(runner: Runner, check: PoolIs) -> Evidence:
    """Up, healthy, on these devices, joined as asked."""
    health = runner.run(["zpool", "list", "-H", "-o", "health", check.name]).text.strip()
    ensure(health == "ONLINE", f"the pool {check.name} healthy", health or "nothing")
    words = [
        line.split()[0]
        for line in runner.run(["zpool", "status", "-P", check.name]).text.splitlines()
        if line.split()
    ]
    joins = [word.partition("-")[0] for word in words if word.partition("-")[0] in _JOINS]
    devices = {kernel_name(word) for word in words if word.startswith("/dev/")}
    wanted = {kernel_name(path) for path in check.devices}
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
