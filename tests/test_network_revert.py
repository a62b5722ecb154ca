"""A change of the network that nobody confirms goes back: real systemd, networkd, nftables, sshd and sudo."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hv.guard.state import FOLDER
from installer.errors import Exit
from tests.network.machine import ADDRESS, PATIENCE, SYSTEMS, Machine, started

pytestmark = [pytest.mark.vm, pytest.mark.nspawn]
SECONDS = 10
"""How long a change has where nobody confirms it."""
LONG = 600
"""Where somebody tries to, on a busy machine too."""
SWITCH = (
    "sudo systemd-run --quiet --pipe --collect --service-type=exec --unit=nixos-rebuild-switch-to-configuration "
    f"{SYSTEMS}/%s/bin/switch-to-configuration %s"
)
"""As nixos-rebuild does: in a unit of its own, so that it goes on when the connection breaks."""
APPLIED = "hv net status --json | grep -c 'applied.*[0-9]'"
OUTCOME = 'hv net status --json | sed -n \'s/.*"outcome": "\\(.*\\)".*/\\1/p\''


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with started(Machine, tmp_path_factory.mktemp("machine") / "host", "lan") as made:
        yield made


@pytest.fixture(autouse=True)
def on_lan(machine: Machine) -> Iterator[None]:
    """Each test begins on `lan`, with nothing waiting."""
    machine.give(SECONDS)
    yield
    machine.at_console(f"systemctl stop hyper-nixos-guard-revert.timer; rm -f {FOLDER}/*.json")
    machine.at_console("ip link delete br0; ip link delete br1")
    machine.at_console(f"HV_NET_GUARD=off {SYSTEMS}/lan/bin/switch-to-configuration switch")
    machine.boot_next("lan")
    machine.ssh_until(works=True)


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.at_console("hv net status --json").stdout)
    return found


def outcome(machine: Machine) -> str | None:
    last = status(machine)["last"]
    return last and str(last["outcome"])


def running(machine: Machine) -> str:
    return Path(machine.at_console("readlink /run/current-system").stdout.strip()).name


def links(machine: Machine, wanted: set[str]) -> None:
    """Wait until these are the interfaces with the host's address, and the bridges; networkd takes a moment."""
    found: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        shown = machine.at_console(
            "ip -brief -4 address; ip -brief link show type bridge"
        ).stdout.splitlines()
        found = {
            line.split()[0].partition("@")[0] for line in shown if ADDRESS in line or line.startswith("br")
        }
        if found == wanted:
            return
        time.sleep(0.2)
    raise AssertionError(f"{found}\n{machine.journal()}")


def rules(machine: Machine) -> str:
    return machine.at_console("nft list table inet hyper-nixos").stdout


def test_nobody_is_asked_who_is_at_the_machine(machine: Machine) -> None:
    """Nobody is logged in over SSH: the change is made and stays; one that is no change arms nothing either."""
    done = machine.at_console(f"{SYSTEMS}/lan/bin/switch-to-configuration switch")
    assert (done.returncode, "goes back" in done.stderr) == (0, False)
    done = machine.at_console(f"{SYSTEMS}/bridge/bin/switch-to-configuration switch")
    assert (done.returncode, status(machine)["waiting"]) == (0, None)
    links(machine, {"br0"})


@pytest.mark.parametrize("action", ["switch", "test"])
def test_a_change_that_locks_out_goes_back(machine: Machine, action: str) -> None:
    before = rules(machine)
    done = machine.ssh(SWITCH % ("lost", action))
    # The connection breaks while the switch goes on.
    machine.ssh_until(works=False)
    waiting = status(machine)["waiting"]
    assert waiting["previous"] == f"{SYSTEMS}/lan", done.stderr
    assert waiting["permanent"] is (action == "switch")
    assert running(machine) == "lost"
    assert machine.default == ("lost" if action == "switch" else "lan")
    assert (machine.root / "nix/var/nix/gcroots/hyper-nixos-guard").readlink() == Path(SYSTEMS) / "lan"
    machine.ssh_until(works=True)
    machine.wait('hv net status --json | grep -o \'"outcome": "reverted"\' | wc -l', "1")
    assert (running(machine), machine.default, machine.generation) == ("lan", "lan", "lan")
    links(machine, {"lan0"})
    assert rules(machine) == before != ""
    late = machine.ssh("sudo hv net confirm")
    assert late.returncode == Exit.failed
    assert "Too late" in late.stderr
    assert not (machine.root / "nix/var/nix/gcroots/hyper-nixos-guard").is_symlink()


def test_a_change_that_is_confirmed_stays(machine: Machine) -> None:
    machine.give(LONG)
    shared = (
        "-o",
        "ControlMaster=auto",
        "-o",
        f"ControlPath={machine.folder}/shared",
        "-o",
        "ControlPersist=yes",
    )
    assert machine.ssh("true", *shared).returncode == 0
    told = machine.ssh(SWITCH % ("bridge", "switch"), *shared)
    assert told.returncode == 0, told.stderr
    assert "It goes back to what it was in 10 min" in told.stderr
    machine.wait(APPLIED, "1")
    # Who was there before proves nothing: the old connection lives on, whatever the rules say of new ones.
    old = machine.ssh("sudo hv net confirm", *shared)
    assert old.returncode == Exit.failed
    assert "older than the change" in old.stderr
    outlived = machine.at_console("hv net confirm")
    assert "neither from an SSH connection nor from a console" in outlived.stderr
    new = machine.ssh("sudo hv net confirm")
    assert (new.returncode, new.stderr) == (0, "")
    assert outcome(machine) == "confirmed"
    assert machine.at_console("systemctl is-active hyper-nixos-guard-revert.timer").stdout == "inactive\n"
    machine.ssh("true", "-O", "exit", *shared)
    assert machine.ssh("sudo hv net confirm").stdout == "Nothing waits to be confirmed.\n"
    assert (running(machine), machine.default) == ("bridge", "bridge")
    links(machine, {"br0"})


def test_a_change_that_nobody_confirms_goes_back_although_it_works(machine: Machine) -> None:
    """What the bridge held is free again and has its address back."""
    assert machine.ssh(SWITCH % ("bridge", "switch")).returncode == 0
    links(machine, {"br0"})
    assert machine.ssh("true").returncode == 0
    machine.wait('hv net status --json | grep -o \'"outcome": "reverted"\' | wc -l', "1")
    links(machine, {"lan0"})
    assert machine.default == "lan"
    machine.ssh_until(works=True)


def test_nobody_confirms_through_the_host_itself(machine: Machine) -> None:
    machine.give(LONG)
    machine.write("/home/ada/key", (machine.folder / "key").read_text(), 0o600)
    machine.at_console("chown ada /home/ada/key")
    assert machine.ssh(SWITCH % ("bridge", "test")).returncode == 0
    machine.wait(APPLIED, "1")
    for address in (ADDRESS, "127.0.0.1", "::1"):
        around = machine.ssh(
            f"ssh -i key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null {address} sudo hv net confirm"
        )
        assert around.returncode == Exit.failed
        assert "comes from this host itself" in around.stderr


def test_two_changes_in_a_row_go_back_to_before_the_first(machine: Machine) -> None:
    assert machine.ssh(SWITCH % ("bridge", "test")).returncode == 0
    machine.ssh(SWITCH % ("lost", "switch"))
    machine.ssh_until(works=False)
    assert status(machine)["waiting"]["previous"] == f"{SYSTEMS}/lan"
    machine.ssh_until(works=True)
    machine.wait('hv net status --json | grep -o \'"outcome": "reverted"\' | wc -l', "1")
    assert (running(machine), machine.default) == ("lan", "lan")
    links(machine, {"lan0"})


def test_a_power_cut_does_not_save_a_lost_network(machine: Machine) -> None:
    """The boot loader starts the new system; the clock is set anew, and nobody can confirm."""
    machine.ssh(SWITCH % ("lost", "switch"))
    machine.ssh_until(works=False)
    machine.wait(APPLIED, "1")
    machine.cut_power()
    machine.start()
    assert running(machine) == "lost"
    assert machine.at_console("systemctl is-active hyper-nixos-guard-revert.timer").stdout == "active\n"
    machine.ssh_until(works=True)
    machine.wait('hv net status --json | grep -o \'"outcome": "reverted"\' | wc -l', "1")
    assert (running(machine), machine.default) == ("lan", "lan")
    links(machine, {"lan0"})


def test_a_power_cut_ends_a_change_that_was_only_tried(machine: Machine) -> None:
    machine.ssh(SWITCH % ("lost", "test"))
    machine.ssh_until(works=False)
    machine.cut_power()
    machine.start()
    machine.ssh_until(works=True)
    assert (running(machine), status(machine)["waiting"], outcome(machine)) == ("lan", None, "rebooted")


def test_going_back_waits_for_another_switch(machine: Machine) -> None:
    """NixOS's lock is held by something else when time is up."""
    machine.ssh(SWITCH % ("lost", "switch"))
    machine.ssh_until(works=False)
    machine.wait(APPLIED, "1")
    machine.at_console("systemd-run --unit=other flock /run/switch.lock sleep 25")
    machine.wait("hv net status --json | grep -o '\"returning\": true' | wc -l", "1")
    # Nothing else begins meanwhile, and it is too late to confirm.
    assert "is being changed right now" in machine.at_console("hv net confirm").stderr
    machine.ssh_until(works=True)
    assert running(machine) == "lan"
