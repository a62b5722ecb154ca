"""`hv setup` on a machine with a real systemd, sshd and sudo: tried, confirmed, taken back; a real login after each."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hv.guard.state import FOLDER
from hv.history import FILE
from installer.errors import Exit
from tests.declaration.machine import CASE, SetupMachine
from tests.network.machine import SYSTEMS, started
from tests.nixeval.cases import rendered

pytestmark = [pytest.mark.vm, pytest.mark.nspawn]
SECONDS = 12
"""How long a change has where nobody confirms it."""
ZURICH = "sudo hv setup --set timezone=Europe/Zurich"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SetupMachine]:
    with started(SetupMachine, tmp_path_factory.mktemp("machine") / "host", "setup") as made:
        yield made


@pytest.fixture(autouse=True)
def as_installed(machine: SetupMachine) -> Iterator[None]:
    """Each test begins with the host as installed, and nothing waiting."""
    yield
    if (running(machine), machine.default) != ("setup", "setup"):
        machine.at_console(f"HV_NET_GUARD=off {SYSTEMS}/setup/bin/switch-to-configuration switch")
        machine.boot_next("setup")
    machine.at_console(
        f"systemctl stop hyper-nixos-guard-revert.timer; rm -rf {FOLDER}/*.json {FILE} /var/lib/hyper-nixos/setup"
    )
    for path, text in rendered(CASE).files.items():
        machine.write(f"/etc/nixos/{path}", text)
    machine.ssh_until(works=True)


def running(machine: SetupMachine) -> str:
    return Path(machine.at_console("readlink /run/current-system").stdout.strip()).name


def history(machine: SetupMachine) -> list[tuple[str, str, str]]:
    found: dict[str, Any] = json.loads(machine.at_console("hv setup history --json").stdout)
    return [(each["who"], each["summary"], each["outcome"]) for each in found["changes"]]


def settled(machine: SetupMachine, outcome: str) -> None:
    machine.wait(f'hv net status --json | grep -o \'"outcome": "{outcome}"\' | wc -l', "1")


def test_applied_and_confirmed(machine: SetupMachine) -> None:
    done = machine.ssh(ZURICH)
    assert (done.returncode, "sudo hv setup confirm" in done.stdout) == (0, True), done
    assert 'timezone: "Europe/London" -> "Europe/Zurich"' in done.stdout
    assert running(machine) == "changed"
    # What boots next, and what is declared, is as it was still.
    assert machine.default == "setup"
    assert machine.read("/etc/nixos/host.toml") == rendered(CASE).files["host.toml"]
    assert history(machine) == [("ada", "timezone", "waits to be confirmed")]
    # Neither another change, nor a rebuild, gets in between.
    second = machine.ssh("sudo hv setup --set keymap=de")
    assert (second.returncode, "waits to be confirmed" in second.stderr) == (Exit.busy, True), second
    between = machine.ssh(f"sudo {SYSTEMS}/setup/bin/switch-to-configuration switch")
    assert between.returncode != 0 and "A change of the declaration waits" in between.stderr
    confirmed = machine.ssh("sudo hv setup confirm")
    assert (confirmed.returncode, confirmed.stderr) == (0, ""), confirmed
    assert (running(machine), machine.default, machine.generation) == ("changed", "changed", "changed")
    for file in ("host.toml", "host.applied.toml", "configuration.nix"):
        assert "Europe/Zurich" in machine.read(f"/etc/nixos/{file}")
    assert history(machine) == [("ada", "timezone", "confirmed")]
    assert machine.ssh("true").returncode == 0
    assert machine.ssh("sudo hv setup apply").stdout == (
        "Nothing to change: the declaration and the files beside it agree.\n"
    )
    # And undone, along the same road.
    undone = machine.ssh("sudo hv setup revert 1")
    assert undone.returncode == 0, undone
    assert machine.ssh("sudo hv setup confirm").returncode == 0
    assert (running(machine), machine.default) == ("setup", "setup")
    assert machine.read("/etc/nixos/host.toml") == rendered(CASE).files["host.toml"]
    assert [outcome for _, _, outcome in history(machine)] == ["confirmed", "confirmed"]


def test_not_confirmed_goes_back(machine: SetupMachine) -> None:
    """The change shuts everybody out: nobody could confirm it, and nobody has to."""
    done = machine.ssh(f"sudo hv setup --set ssh.port=2222 --seconds {SECONDS}")
    assert done.returncode == 0, done
    assert running(machine) == "cut-off"
    assert machine.ssh("true").returncode == 255
    settled(machine, "reverted")
    assert (running(machine), machine.default) == ("setup", "setup")
    machine.ssh_until(works=True)
    assert machine.read("/etc/nixos/host.toml") == rendered(CASE).files["host.toml"]
    assert history(machine) == [("ada", "ssh.port", "reverted")]
    late = machine.ssh("sudo hv setup confirm")
    assert (late.returncode, "Too late: the declaration went back." in late.stderr) == (Exit.failed, True)


def test_asked_page_by_page_and_tried(machine: SetupMachine) -> None:
    """The pages of the machine itself, to the end: time zone; then build it and try it; yes."""
    lines = ("Europe/Zurich", "", "", "", "9", "1")
    typed = "".join(f"{line}\\n" for line in lines)
    done = machine.ssh(f"printf '{typed}' | sudo hv setup host --plain")
    assert (done.returncode, "sudo hv setup confirm" in done.stdout) == (0, True), done
    assert running(machine) == "changed"
    assert machine.ssh("sudo hv setup confirm").returncode == 0
    assert "Europe/Zurich" in machine.read("/etc/nixos/configuration.nix")


def test_leaving_keeps_what_was_typed(machine: SetupMachine) -> None:
    typed = "".join(f"{line}\\n" for line in ("Europe/Zurich", "", "", "", "10"))
    done = machine.ssh(f"printf '{typed}' | sudo hv setup host --plain")
    assert (done.returncode, "go on with: sudo hv setup --file" in done.stdout) == (0, True), done
    assert running(machine) == "setup"
    again = machine.ssh("sudo hv setup --file /var/lib/hyper-nixos/setup/draft.toml")
    assert again.returncode == 0, again
    assert running(machine) == "changed"
    assert machine.ssh("sudo hv setup cancel").returncode == 0


def test_taken_back_at_once(machine: SetupMachine) -> None:
    assert machine.ssh(ZURICH).returncode == 0
    assert machine.ssh("sudo hv setup cancel").returncode == 0
    assert (running(machine), history(machine)[0][2]) == ("setup", "reverted")


def test_what_a_person_wrote_is_kept(machine: SetupMachine) -> None:
    toml = machine.read("/etc/nixos/host.toml").replace("[ssh]\n", "[ssh] # how we get in\n")
    module = machine.read("/etc/nixos/configuration.nix")
    mine = module.replace("  time.timeZone", '  environment.etc.motd.text = "mine";\n\n  time.timeZone')
    machine.write("/etc/nixos/host.toml", toml)
    machine.write(
        "/etc/nixos/configuration.nix", module[:-2] + "  # mine\n  services.fwupd.enable = true;\n}\n"
    )
    assert mine != module
    done = machine.ssh(ZURICH)
    assert (done.returncode, "your own lines in configuration.nix stay" in done.stdout) == (0, True), done
    assert machine.ssh("sudo hv setup confirm").returncode == 0
    made = machine.read("/etc/nixos/configuration.nix")
    assert "services.fwupd.enable = true;" in made and "Europe/Zurich" in made and "London" not in made
    assert "[ssh] # how we get in" in machine.read("/etc/nixos/host.toml")


def test_what_a_person_changes_meanwhile_is_left_alone(machine: SetupMachine) -> None:
    assert machine.ssh(ZURICH).returncode == 0
    machine.write("/etc/nixos/host.toml", machine.read("/etc/nixos/host.toml") + "# mine\n")
    said = machine.ssh("sudo hv setup confirm")
    assert "was changed meanwhile, so it was left alone" in said.stdout
    assert machine.read("/etc/nixos/host.toml").endswith("# mine\n")


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_power_cut_while_it_is_tried_goes_back(machine: SetupMachine, cut: str) -> None:
    script = f"{SYSTEMS}/changed/bin/switch-to-configuration"
    plain = machine.read(script)
    if cut == "before":
        at = plain.index("exec 9>")
        machine.write(script, plain[:at] + "touch /cutting; sleep 600\n" + plain[at:], 0o755)
        threading.Thread(target=machine.ssh, args=(ZURICH,), daemon=True).start()
        machine.wait("ls /cutting", "/cutting")
    else:
        assert machine.ssh(ZURICH).returncode == 0
    machine.cut_power()
    machine.write(script, plain, 0o755)
    (machine.root / "cutting").unlink(missing_ok=True)
    machine.start()
    settled(machine, "rebooted")
    machine.ssh_until(works=True)
    assert (running(machine), machine.default) == ("setup", "setup")
    assert machine.read("/etc/nixos/host.toml") == rendered(CASE).files["host.toml"]
    assert history(machine)[0][2] == "rebooted"


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_power_cut_while_it_is_kept_is_finished(machine: SetupMachine, cut: str) -> None:
    assert machine.ssh(ZURICH).returncode == 0
    script = f"{SYSTEMS}/changed/bin/switch-to-configuration"
    plain = machine.read(script)
    at = plain.index("exec 9>" if cut == "before" else '[ "$action" != boot ]')
    stop = 'if [ "$action" = boot ]; then touch /cutting; sleep 600; fi\n'
    machine.write(script, plain[:at] + stop + plain[at:], 0o755)
    threading.Thread(target=machine.ssh, args=("sudo hv setup confirm",), daemon=True).start()
    machine.wait("ls /cutting", "/cutting")
    machine.cut_power()
    machine.write(script, plain, 0o755)
    (machine.root / "cutting").unlink()
    machine.start()
    settled(machine, "confirmed")
    machine.ssh_until(works=True)
    assert (running(machine), machine.default) == ("changed", "changed")
    for file in ("host.toml", "host.applied.toml", "configuration.nix"):
        assert "Europe/Zurich" in machine.read(f"/etc/nixos/{file}")


def test_refused_when_it_would_lock_out(machine: SetupMachine) -> None:
    config = f"{SYSTEMS}/changed/etc/ssh/sshd_config"
    plain = machine.read(config)
    try:
        machine.write(config, "DenyUsers ada\n" + plain)
        refused = machine.ssh(ZURICH)
        assert refused.returncode == Exit.lockout, refused
    finally:
        machine.write(config, plain)
    assert (running(machine), machine.at_console(f"ls {FOLDER}").stdout) == ("setup", "")
    declared = machine.ssh("sudo hv setup --set users.anna.admin=false")
    assert (declared.returncode, "anna: is no administrator" in declared.stderr) == (Exit.lockout, True)


def test_a_system_that_does_not_come_up_goes_back_at_once(machine: SetupMachine) -> None:
    script = f"{SYSTEMS}/changed/bin/switch-to-configuration"
    plain = machine.read(script)
    try:
        machine.write(script, plain.replace("activate\nsystemctl daemon-reload", "activate\nexit 7"), 0o755)
        refused = machine.ssh(ZURICH)
        assert (refused.returncode, "ended with 7" in refused.stderr) == (Exit.failed, True), refused
    finally:
        machine.write(script, plain, 0o755)
    assert running(machine) == "setup"
    assert machine.ssh("true").returncode == 0
