"""The units of a system for many hosts at a real boot: systemd in a container makes people and network files."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.answers.model import Answers
from installer.plan.planner import make_plan
from installer.plan.prebuilt import HOST_DATA
from installer.render.runtime import NETWORK, RuntimeData, runtime_data
from installer.render.users import PASSWORDS
from tests.network.machine import NSPAWN
from tests.nixeval.host import MODULES, evaluate
from tests.plan_cases import HASH, KEY, blank_disk, machine, medium

pytestmark = [pytest.mark.vm, pytest.mark.nspawn, pytest.mark.nixpkgs]
UNITS = ("hyper-nixos-host-accounts.service", "hyper-nixos-host-network.service")
CHOSEN = " ".join(f'"{unit}"' for unit in UNITS)
SELECT = f"""host: builtins.mapAttrs (_: unit: {{ inherit (unit) text wantedBy; }})
  {{ inherit (host.config.systemd.units) {CHOSEN}; }}"""
SYSTEM = '{ hypervisor = { enable = true; prebuilt.enable = true; tier = "minimal"; }; }'
PATIENCE = 120
LOOK = f"""[Unit]
After=multi-user.target {" ".join(UNITS)}
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'getent passwd alice zoe > /seen/passwd; id alice > /seen/id; stat -c "%%a %%U %%G" /home/alice > /seen/home; ls /run/systemd/network > /seen/network; cat /run/systemd/network/* > /seen/units; systemctl is-failed {" ".join(UNITS)} > /seen/failed; for unit in {" ".join(UNITS)} systemd-user-sessions.service; do systemctl show -P ActiveEnterTimestampMonotonic $unit; done > /seen/times; journalctl -b > /seen/journal'
ExecStopPost=/bin/systemctl poweroff --no-block
"""


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RuntimeData]]:
    folder = tmp_path_factory.mktemp("prebuilt")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
    try:
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        layers = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
        root = folder / "root"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
        for emptied in ("etc/systemd/system", "var/lib/hyper-nixos", "home", "seen"):
            shutil.rmtree(root / emptied, ignore_errors=True)
            (root / emptied).mkdir(parents=True)
        yield root, furnished(root)
    finally:
        subprocess.run(["umount", "--lazy", folder / "root"], check=False)
        subprocess.run(["umount", "--lazy", folder], check=False)


def furnished(root: Path) -> RuntimeData:
    """The evaluated units with this machine's systemd, and a host's data as the installer writes them."""
    answers = Answers.model_validate(
        {
            "version": 1,
            "hostname": "many",
            "storage": {"disk": {"serial": "ONE"}},
            "users": [
                {
                    "name": "alice",
                    "full_name": "Alice",
                    "admin": True,
                    "password_hash": HASH,
                    "ssh_keys": [KEY],
                },
                {"name": "zoe", "groups": ["hv-viewers"], "password_hash": HASH},
            ],
            "network": {"bridges": [{"name": "br0", "addressing": {"dhcp": "yes"}}]},
        }
    )
    facts = machine(blank_disk(serial="ONE"))
    data = runtime_data(answers, make_plan(facts, answers, medium()))
    for path, content in data.files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    for path, goal in data.links.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(goal)
    # This machine's own people may have the numbers.
    people = root / "etc/passwd"
    rows = people.read_text().splitlines(True)
    people.write_text("".join(row for row in rows if row.split(":")[2] not in ("1000", "1001")))
    for name in ("alice", "zoe"):
        place = root / PASSWORDS.lstrip("/") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(HASH)
    units = root / "etc/systemd/system"
    for name, unit in evaluate(SELECT, [str(MODULES), SYSTEM]).value.items():
        text = re.sub(r"/nix/store/[^/\s]*-systemd-[^/\s]*/bin/", "/usr/bin/", unit["text"])
        assert "ExecStart=/usr/bin/systemd-" in text
        (units / name).write_text(text)
        for target in unit["wantedBy"]:
            (units / f"{target}.wants").mkdir(exist_ok=True)
            (units / f"{target}.wants" / name).symlink_to(f"../{name}")
    (units / "look.service").write_text(LOOK)
    (units / "default.target").write_text(
        "[Unit]\nRequires=multi-user.target\nWants=look.service\nAfter=multi-user.target\n"
    )
    return data


def boot(root: Path) -> dict[str, str]:
    """Boot it; what was seen."""
    command = [*NSPAWN, "--private-network", "--directory", str(root)]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (root / "seen/journal").exists(), ended.stdout + ended.stderr
    return {path.name: path.read_text() for path in (root / "seen").iterdir()}


def test_people_and_network_are_there_before_anybody_logs_in(container: tuple[Path, RuntimeData]) -> None:
    root, data = container
    seen = boot(root)
    assert seen["failed"].split() == ["active", "active"], seen["journal"]
    assert seen["passwd"].splitlines() == [
        "alice:x:1000:100:Alice:/home/alice:/run/current-system/sw/bin/bash",
        "zoe:x:1001:100::/home/zoe:/run/current-system/sw/bin/bash",
    ]
    assert {"wheel", "hv-admins", "hv-users", "systemd-journal"} <= {
        *re.findall(r"\d+\(([^)]+)\)", seen["id"])
    }
    assert seen["home"].split() == ["700", "alice", "users"]
    shadow = (root / "etc/shadow").read_text()
    assert f"\nalice:{HASH}:" in shadow
    assert HASH not in seen["journal"]
    network = sorted(Path(path).name for path in data.files if Path(path).parent == Path(NETWORK))
    assert sorted(seen["network"].split()) == network
    assert seen["units"] == "".join(data.files[f"{NETWORK}/{name}"].decode() for name in network)
    accounts, files, sessions = (int(each) for each in seen["times"].split())
    assert 0 < files < accounts < sessions


def test_whom_another_system_removed_is_back_after_the_next_boot(
    container: tuple[Path, RuntimeData],
) -> None:
    root, _ = container
    for file in ("passwd", "shadow"):
        place = root / "etc" / file
        kept = [line for line in place.read_text().splitlines(True) if not line.startswith("alice:")]
        place.write_text("".join(kept))
    # Whoever changed their password in the meantime, and was not removed, keeps it.
    place = root / "etc/shadow"
    place.write_text(place.read_text().replace(f"zoe:{HASH}:", "zoe:$6$changed$changed:"))
    seen = boot(root)
    assert seen["passwd"].startswith("alice:x:1000:100:")
    shadow = place.read_text()
    assert f"\nalice:{HASH}:" in shadow
    assert "\nzoe:$6$changed$changed:" in shadow


def test_without_data_the_units_stay_away(container: tuple[Path, RuntimeData]) -> None:
    root, _ = container
    shutil.rmtree(root / HOST_DATA.lstrip("/"))
    seen = boot(root)
    assert seen["failed"].split() == ["inactive", "inactive"]
    assert not seen["network"]
