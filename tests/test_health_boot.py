"""The first boot of a migrated host under a real systemd: a host that is well reaches boot-complete.target, which
systemd-bless-boot.service waits for; one that nobody gets into starts anew, and does not. The container's next start
plays the boot loader's part.
"""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from installer.migrate.fallback import Fallback
from installer.migrate.trial import DONE, TRIAL, VERDICT, Expected, Trial
from tests.network.machine import ADDRESS, PATIENCE, PROFILES, SYSTEMS, Machine
from tests.network.world import World, run
from tests.nixeval.nix import REPOSITORY

pytestmark = [pytest.mark.vm, pytest.mark.nspawn]
UNIT = REPOSITORY / "tests/golden/services/host/hyper-nixos-health.service"
BLESS = """[Unit]
Description=Stands in for systemd-bless-boot.service, which renames a file of the boot partition
DefaultDependencies=no
Requires=boot-complete.target
After=local-fs.target boot-complete.target

[Service]
Type=oneshot
ExecStart=/bin/touch /blessed
"""
REBOOTED = 133
"""What systemd-nspawn ends with when its machine starts anew and its unit is kept (systemd-nspawn(1))."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    world = World()
    made = Machine(world, tmp_path / "host")
    try:
        world.add("host", "admin")
        world.cable("host", "lan0", "admin")
        world.ip("host", "link add lan1 type veth peer name nowhere")
        world.neighbour("admin", "10.1.0.2/24")
        made.build()
        prepare(made)
        made.boot_next("lan")
        yield made
    finally:
        made.close()
        world.close()


def prepare(machine: Machine) -> None:
    """The service as it is evaluated, and a trial of the system `lan`, which followed `before`."""
    text = re.sub(r"^Environment=.*\n", "", UNIT.read_text(), flags=re.MULTILINE)
    # libvirt's own test driver answers: no libvirtd runs in here.
    command = "/usr/local/bin/hv health --connect test:///default check --patience 10"
    text = re.sub(r"^ExecStart=.*$", f"ExecStart={command}", text, flags=re.MULTILINE)
    machine.write("/etc/systemd/system/hyper-nixos-health.service", text)
    machine.write("/etc/systemd/system/bless.service", BLESS)
    for place, unit in (
        ("multi-user.target.wants", "hyper-nixos-health.service"),
        ("boot-complete.target.requires", "hyper-nixos-health.service"),
        ("basic.target.wants", "bless.service"),
    ):
        machine.link(f"/etc/systemd/system/{place}/{unit}", f"/etc/systemd/system/{unit}")
    run("chroot", str(machine.root), "groupadd", "--force", "wheel")
    run("chroot", str(machine.root), "usermod", "--append", "--groups", "wheel", "ada")
    machine.write(f"{SYSTEMS}/lan/etc/ssh/sshd_config", machine.read("/etc/ssh/sshd_config"))
    # The same network: the container's interfaces outlive it.
    store = machine.root / SYSTEMS.lstrip("/")
    shutil.copytree(store / "lan", store / "before", symlinks=True)
    trial = Trial(
        began=datetime.now(UTC),
        before=f"{SYSTEMS}/before",
        after=f"{SYSTEMS}/lan",
        fallback=Fallback.counted,
        files=(),
        expected=Expected(
            administrators=("ada",),
            ssh=True,
            ports=(22,),
            addresses=(f"{ADDRESS}/24",),
            routed=False,
            guests=("test",),
        ),
    )
    machine.write(TRIAL, trial.model_dump_json())


def there(machine: Machine, path: str) -> bool:
    return (machine.root / path.lstrip("/")).exists()


def test_a_host_that_is_well_is_blessed(machine: Machine) -> None:
    machine.start()
    machine.wait("test -e /blessed && echo blessed", "blessed")
    verdict = json.loads(machine.read(VERDICT))
    assert verdict["well"], verdict
    assert f"ok   SSH: answers at {ADDRESS}:22" in verdict["lines"]
    assert (there(machine, TRIAL), there(machine, DONE)) == (False, True)
    assert machine.ssh("true").returncode == 0


def test_a_host_that_nobody_gets_into_starts_anew_and_the_old_one_stays(machine: Machine) -> None:
    keys = machine.root / "home/ada/.ssh/authorized_keys"
    kept = keys.read_text()
    keys.write_text("")
    machine.start()
    assert machine.process is not None
    assert machine.process.wait(2 * PATIENCE) == REBOOTED
    machine.process = None
    assert not there(machine, "/blessed")
    verdict = json.loads(machine.read(VERDICT))
    assert (verdict["well"], verdict["attempts"]) == (False, 1)
    assert any(line.startswith("FAIL nobody could log in") for line in verdict["lines"])
    # The boot loader goes back to the system from before, with the keys that it declared.
    keys.write_text(kept)
    default = machine.root / PROFILES.lstrip("/") / "default"
    default.unlink()
    default.symlink_to(f"{SYSTEMS}/before")
    machine.start()
    machine.wait("test -e /blessed && echo blessed", "blessed")
    machine.ssh_until(works=True)
    assert there(machine, TRIAL)
    said = machine.at_console("hv health status").stdout
    assert "The machine went back to the system from before" in said
