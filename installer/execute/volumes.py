"""Volume groups of LVM, read back as JSON (lvmreport(7))."""

import json
from typing import Any

from installer.execute.devices import kernel_name, settle, wait_for
from installer.execute.evidence import Evidence, ensure
from installer.execute.runner import Runner
from installer.plan.checks import VolumesActive, VolumesAre


def check_volumes(runner: Runner, check: VolumesAre) -> Evidence:
    """The group's physical volumes and its volumes, no more and no less."""
    settle(runner)
    devices = {kernel_name(row["pv_name"]) for row in _report(runner, "vgs", "pv_name", check.group)}
    wanted = {kernel_name(path) for path in check.devices}
    ensure(
        devices == wanted,
        f"{check.group} on {', '.join(sorted(map(str, wanted)))}",
        ", ".join(sorted(map(str, devices))) or "nothing",
    )
    found = {
        row["lv_name"]: row["segtype"] for row in _report(runner, "lvs", "lv_name,segtype", check.group)
    }
    ensure(found == check.volumes, f"volumes {check.volumes} in {check.group}", str(found))
    return (f"{check.group} on {', '.join(sorted(map(str, devices)))}: {', '.join(sorted(found))}",)


def check_active(runner: Runner, check: VolumesActive) -> Evidence:
    """Their devices are there."""
    settle(runner)
    wait_for(check.devices, "the volume group was activated")
    return tuple(f"{device} is {kernel_name(device)}" for device in check.devices)


def _report(runner: Runner, program: str, columns: str, group: str) -> list[dict[str, Any]]:
    argv = [program, "--reportformat", "json", "--options", columns, group]
    (report,) = json.loads(runner.run(argv).text)["report"]
    (rows,) = report.values()
    return list(rows)
