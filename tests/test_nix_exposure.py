"""How much an attacker who takes over a service of ours could reach, by systemd's own measure."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.nixeval import services

REACHED = 3.0
"""Most for a service that a person reaches."""
BUDGETS: dict[str, tuple[float, str]] = {
    "host/hvd.service": (REACHED, "people reach it"),
    "host/hv-hostd.service": (REACHED, "root without capabilities; the broker's account alone reaches it"),
    "host/hyper-nixos-certificate.service": (2.0, "root, by a timer: it writes the host's certificate"),
    "host/hyper-nixos-devices.service": (
        REACHED,
        "root, at boot: it writes to sysfs and sets up network cards (CAP_NET_ADMIN, CAP_SYS_ADMIN)",
    ),
    "host/hyper-nixos-esp-check.service": (
        2.0,
        "root, by a timer: it reads boot partitions and partition tables",
    ),
    "host/hyper-nixos-health.service": (
        9.8,
        "root, on a first boot, asked by nobody: it asks sshd and libvirt, and may write the boot menu",
    ),
    "host/hyper-nixos-host-accounts.service": (
        3.5,
        "root, at boot, asked by nobody: systemd-sysusers writes accounts, systemd-tmpfiles their home folders",
    ),
    "host/hyper-nixos-host-network.service": (
        9.8,
        "root, before udev, asked by nobody: it makes links in /run, and a sandbox that fails so early is no network",
    ),
    "host/hyper-nixos-md-check.service": (2.0, "root, by a timer: it writes to sysfs"),
    "host/hyper-nixos-pools.service": (2.0, "root, at boot: it makes folders anywhere and asks libvirt"),
    "host/hyper-nixos-firstrun.service": (
        9.8,
        "root, once, asked by nobody: it grows disks, defines guests, and switches the system, which does everything",
    ),
    "host/hyper-nixos-guard.service": (
        REACHED,
        "root, at a switch and at boot, asked by nobody: it keeps a record and asks systemd for a timer",
    ),
    "initrd/hyper-nixos-btrfs-degraded.service": (
        9.8,
        "root in stage 1, where there is nobody else: it makes a file and asks udev again about disks",
    ),
    "initrd/hyper-nixos-vfio.service": (
        9.8,
        "root in stage 1, where there is nobody else and nothing of the host yet: it writes two files of sysfs a device",
    ),
    "medium/hyper-nixos-live.service": (
        9.8,
        "root, once, on a system without data of anybody: it reads the medium, and says who may log in over SSH",
    ),
    "medium/hyper-nixos-packs.service": (
        9.8,
        "root, once, on a system without data of anybody: it mounts what was added to the medium",
    ),
    "medium-initrd/hyper-nixos-store.service": (
        9.8,
        "root in stage 1, once, where there is nobody else: it fetches a file whose SHA-256 is given, into memory",
    ),
    "medium/hyper-nixos-unattended.service": (
        9.8,
        "root, once, on a system without data of anybody: it installs a host, which does everything",
    ),
    "medium/hyper-nixos-page.service": (
        9.8,
        "a page without input of its own: whoever is at this screen has a shell of root on the next one",
    ),
}
"""Most exposure that `systemd-analyze security` may find in each service, and why."""


def exposure(text: str, name: str, folder: Path) -> float:
    """systemd's own measure of a unit, 0 to 10, worst first (systemd-analyze(1), security)."""
    unit = folder / name
    unit.write_text(re.sub(r"@[a-z0-9+._-]+@", "/usr", text))
    command = ("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


@pytest.mark.nixpkgs
def test_services_are_as_committed() -> None:
    assert services.services() == services.committed(), "if wanted: python -m tests.nixeval.services"


def test_each_service_has_a_budget_with_its_reason() -> None:
    assert services.committed().keys() == BUDGETS.keys(), "give each service of ours a budget"
    assert all(reason for _, reason in BUDGETS.values())


def test_each_service_that_a_module_defines_is_measured() -> None:
    measured = {Path(path).name for path in services.committed()}
    left = services.declared() - measured
    assert left == set(), "switch it on in EVERYTHING of tests/nixeval/services.py, then run it"


@pytest.mark.parametrize("path", BUDGETS)
def test_a_service_stays_within_its_budget(path: str, tmp_path: Path) -> None:
    budget, _ = BUDGETS[path]
    assert exposure(services.committed()[path], Path(path).name, tmp_path) <= budget


def test_no_service_that_people_reach_asks_for_more() -> None:
    """Who connects to a socket that is open to groups of people reaches the service behind it."""
    reached = {
        path for path, text in services.committed().items() if re.search(r"^Requires=.*\.socket", text, re.M)
    }
    assert reached
    assert all(BUDGETS[path][0] <= REACHED for path in reached)


def test_the_measure_can_fail(tmp_path: Path) -> None:
    text = services.committed()["host/hvd.service"]
    held = r"^(Capability|Private|Protect|Restrict|SystemCall|NoNew|User|Group).*\n"
    assert exposure(re.sub(held, "", text, flags=re.MULTILINE), "hvd.service", tmp_path) > REACHED
