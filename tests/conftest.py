"""Which tests this machine can run. What it lacks is deselected by marker, and one line at the end says so."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import namespaces, network_manager, tested_layouts
from tests.network import machine
from tests.nixeval import nix

# A busy machine is slow, not wrong; and CI tests a change, not its luck.
settings.register_profile("patient", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("patient")

# Debian's accounts without privileges do not have these, and the programs there are for everybody.
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"


def has_nixpkgs() -> bool:
    """Whether NIXPKGS names a tree and there is a Nix to evaluate it."""
    return bool(os.environ.get("NIXPKGS")) and nix.find() is not None


def has_capability(bit: int) -> bool:
    """Whether the kernel grants this process a capability (capabilities(7), proc(5))."""
    granted = re.search(
        r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE
    )
    return granted is not None and bool(int(granted[1], 16) >> bit & 1)


def has_root() -> bool:
    """Whether this process may mount: root with CAP_SYS_ADMIN."""
    return os.geteuid() == 0 and has_capability(21)


def has_libvirt() -> bool:
    """Whether a private libvirtd with QEMU can be started."""
    programs = ("libvirtd", "virtlogd", "qemu-system-x86_64", "qemu-img", "dnsmasq", "iptables", "ip")
    return has_root() and all(map(shutil.which, programs))


def has_uefi_snapshots() -> bool:
    """Whether libvirt keeps the firmware's variables in snapshots: 10.10 and later."""
    if not has_libvirt():
        return False
    said = subprocess.run(("libvirtd", "--version"), capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)\.\d+", said)
    assert found is not None, said
    return (int(found[1]), int(found[2])) >= (10, 10)


def has_nspawn() -> bool:
    """Whether this system boots in a container: systemd-nspawn with the kernel's overlayfs."""
    return has_root() and machine.boots()


def has_postgresql() -> bool:
    """Whether a private PostgreSQL can be started: it refuses to run as root, so its own user does."""
    return has_root() and all(map(shutil.which, ("initdb", "postgres", "runuser")))


def has_browser() -> bool:
    """Whether there is a browser to be driven."""
    return shutil.which("chromium") is not None and importlib.util.find_spec("playwright") is not None


def has_subvolumes() -> bool:
    """Whether mkfs.btrfs makes subvolumes of folders: release 6.12 and later."""
    if shutil.which("mkfs.btrfs") is None:
        return False
    done = subprocess.run(["mkfs.btrfs", "--help"], capture_output=True, text=True, check=False)
    return "--subvol" in done.stdout + done.stderr


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "nixpkgs": (has_nixpkgs, "NIXPKGS=<a nixpkgs tree> make test"),
    "nix": (lambda: nix.find() is not None, ".venv/bin/python -m tests.nixeval.nix --get"),
    "networkmanager": (
        lambda: has_root() and network_manager.find() is not None,
        "as root: .venv/bin/python -m tests.network_manager, then make test",
    ),
    "libvirt": (has_libvirt, "as root: make test"),
    "uefi_snapshots": (
        has_uefi_snapshots,
        "as root, where libvirt is 10.10 or later (Debian 13): make test",
    ),
    "postgresql": (
        has_postgresql,
        "as root, with the programs of the package postgresql on PATH: make test",
    ),
    "sys_resource": (lambda: has_capability(24), "as root, with CAP_SYS_RESOURCE: make test"),
    "nspawn": (has_nspawn, "as root, where systemd-nspawn boots: make test"),
    "root": (has_root, "as root: make test"),
    "subvolumes": (has_subvolumes, "with btrfs-progs 6.12 or later first on PATH: make test"),
    "browser": (has_browser, "with the package chromium: make test"),
}
"""Marker: whether this machine has what it needs, and how to run its tests."""


def pytest_configure() -> None:
    """In each worker, too: what its tests mount is seen by nobody else."""
    if has_root():
        namespaces.leave()


NOT_RUN = pytest.StashKey[Counter[str]]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Runs after `-m` chose: drops what cannot run here, and puts the machines last, so that mistakes show early.

    Of the machines, those that play a whole installation come first: run side by side, the short ones fill the end.
    """
    not_run: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    able: dict[str, bool] = {}
    for item in items:
        lacks = None
        for marker, (has, _) in NEEDS.items():
            if lacks is None and item.get_closest_marker(marker):
                if marker not in able:
                    able[marker] = has()
                lacks = None if able[marker] else marker
        if lacks is None:
            kept.append(item)
        else:
            not_run[lacks] += 1
            dropped.append(item)
    config.stash[NOT_RUN] = not_run
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    place = _places(kept)
    items[:] = sorted(kept, key=lambda item: (_late(item), place[item.path]))


def _places(items: list[pytest.Item]) -> dict[Path, float]:
    """Of each module, as it was found; those that wait for a libvirt are spread over the others, before the last fifth.

    One after the other, at the end of the alphabet, they would leave the processors with nothing to do.
    """
    modules = list(dict.fromkeys(item.path for item in items))
    wait = {item.path for item in items if item.get_closest_marker("libvirt")}
    busy, waiting = (
        [path for path in modules if path not in wait],
        [path for path in modules if path in wait],
    )
    each = 0.8 * len(busy) / max(len(waiting), 1)
    return {
        **{path: float(number) for number, path in enumerate(busy)},
        **{path: number * each - 0.5 for number, path in enumerate(waiting)},
    }


def _late(item: pytest.Item) -> int:
    if item.get_closest_marker("vm") is None:
        return 0
    return 1 if item.path.parent.name == "vm" else 2


def _name(nodeid: str) -> str:
    """A test's name with its parameters, without its group (`@group`, pytest-xdist)."""
    name = nodeid.rpartition("::")[2]
    return name[: name.rfind("@")] if name.rfind("@") > name.rfind("]") else name


MATRIX: list[tested_layouts.Row] = []
"""Results of the long tests, as they end."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the end of each test of `make test-matrix`; one that fails before it begins has failed as well."""
    if "matrix" not in report.keywords or not (report.when == "call" or report.failed):
        return
    minutes, seconds = divmod(round(report.duration), 60)
    counted = "; ".join(str(text) for name, text in report.user_properties if name == "proved")
    MATRIX.append(
        tested_layouts.Row(
            name=_name(report.nodeid),
            result="passed" if report.passed else "FAILED",
            when=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            took=f"{minutes}:{seconds:02}",
            counted=counted,
        )
    )


def pytest_unconfigure() -> None:
    """In each worker, too: what its tests had in common goes."""
    if (fixture := sys.modules.get("tests.media.fixture")) is not None:
        fixture.forget()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was run into the page; under xdist the one that gathers results does it, and is told what was not."""
    if hasattr(session.config, "workeroutput"):
        counts: Counter[str] = session.config.stash.get(NOT_RUN, Counter())
        session.config.workeroutput["not_run"] = dict(counts)
    elif MATRIX:
        tested_layouts.update(tested_layouts.PATH, MATRIX)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of xdist has ended: each of them has collected everything, so one's counts are all."""
    if not_run := getattr(node, "workeroutput", {}).get("not_run"):
        node.config.stash[NOT_RUN] = Counter(not_run)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What tests counted (`record_property("proved", …)`), and the one line of what was not run."""
    for report in terminalreporter.stats.get("passed", ()):
        for name, text in report.user_properties:
            if name == "proved":
                terminalreporter.write_line(f"{_name(report.nodeid)}: {text}")
    not_run = config.stash.get(NOT_RUN, Counter())
    if not_run:
        parts = [
            f"{count} marked {marker} (run them: {NEEDS[marker][1]})" for marker, count in not_run.items()
        ]
        terminalreporter.write_line(f"NOT RUN, this machine lacks something: {'; '.join(parts)}")
