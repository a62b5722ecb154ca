"""md arrays: brought up once, and read back from their members and from the kernel."""

from pathlib import Path

from installer.execute.devices import gone, kernel_name, settle, wait_for
from installer.execute.evidence import Evidence, ensure
from installer.execute.live import LiveSystem
from installer.execute.runner import Runner
from installer.plan.actions import AssembleArray
from installer.plan.checks import ArrayIs, ArrayMembersAre


def link(uuid: str) -> str:
    """Where udev shows an array, whatever it is called here."""
    return f"/dev/disk/by-id/md-uuid-{uuid}"


def assemble(runner: Runner, action: AssembleArray) -> None:
    """Bring it up, unless udev or an earlier run did."""
    settle(runner)
    device = link(action.uuid)
    if kernel_name(device) is None:
        _let_go(runner, action.devices)
        argv = ["mdadm", "--assemble", "--run", f"/dev/md/{action.name}", "--uuid", action.uuid]
        runner.run([*argv, *action.devices])
        settle(runner)
    wait_for((device,), f"mdadm brought up {action.name}")


def _let_go(runner: Runner, devices: tuple[str, ...]) -> None:
    """Stop arrays that udev began and waits with, as members of them are missing: they keep the others for themselves."""
    holders = {
        holder.name
        for device in devices
        for holder in Path("/sys/class/block", kernel_name(device) or "").glob("holders/md*")
    }
    for name in sorted(holders):
        if Path("/sys/class/block", name, "md/array_state").read_text().strip() == "inactive":
            runner.run(["mdadm", "--stop", f"/dev/{name}"])


def check_members(runner: Runner, check: ArrayMembersAre) -> Evidence:
    """What the members' own metadata says."""
    for device in check.devices:
        found = _values(runner, "--examine", device)
        said = (found.get("MD_UUID"), found.get("MD_LEVEL"), found.get("MD_DEVICES"))
        wanted = (check.uuid, check.level, str(len(check.devices)))
        ensure(said == wanted, f"{device} in the {check.level} {check.uuid} of {wanted[2]}", str(said))
    return tuple(f"{device} is a member of {check.level} {check.uuid}" for device in check.devices)


def check_array(runner: Runner, check: ArrayIs) -> Evidence:
    """Up, of this level, with every member at work."""
    name = kernel_name(check.device)
    ensure(name is not None, f"the array {check.uuid}", "no such device")
    found = _values(runner, "--detail", check.device)
    said = (found.get("MD_UUID"), found.get("MD_LEVEL"))
    ensure(said == (check.uuid, check.level), f"{check.device} as {check.level} {check.uuid}", str(said))
    members = {key: value for key, value in found.items() if key.startswith("MD_DEVICE_")}
    active = {
        kernel_name(path)
        for key, path in members.items()
        if key.endswith("_DEV") and members.get(key.removesuffix("_DEV") + "_ROLE", "").isdigit()
    }
    wanted = {kernel_name(path) for path in check.devices}
    there = ", ".join(sorted(map(str, active))) or "none"
    ensure(
        active == wanted,
        f"members {', '.join(sorted(map(str, wanted)))} at work in {name}",
        f"{there} (md does not take back by itself a disk that was away while the others were written)",
    )
    return (f"{check.device} is {name}: {check.level} of {', '.join(sorted(map(str, active)))}",)


def check_stopped(live: LiveSystem, uuid: str) -> Evidence:
    """No array with this UUID is up, and udev has taken its link away.

    The kernel lets go of a stopped array's device from a work queue of its own (`md_delayed_delete`), so udev may hear
    of it only after it was settled.
    """
    words = uuid.replace(":", "")
    for path in live.sysfs.glob("class/block/md*/md/uuid"):
        ensure(
            path.read_text().strip().replace("-", "") != words,
            f"the array {uuid} stopped",
            f"it is {path.parents[1].name}",
        )
    ensure(gone(link(uuid)), f"the array {uuid} stopped", f"{link(uuid)} is there")
    return (f"the array {uuid} is stopped",)


def _values(runner: Runner, mode: str, device: str) -> dict[str, str]:
    lines = runner.run(["mdadm", mode, "--export", device]).text.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
