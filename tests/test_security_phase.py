"""Raising the phase with a way back: real systemd, sshd and sudo; a real login after each."""

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hv.firstrun import certificate
from hv.firstrun.phase import DECLARATION
from hv.firstrun.state import STATE_FOLDER, JobState, Status
from hv.firstrun.world import Clock, World
from hv.guard.state import FOLDER
from hv.history import FILE
from installer.answers.model import Phase
from installer.errors import Exit
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.handoff import HANDOFF_PATH
from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.network.machine import ADDRESS, PATIENCE, SYSTEMS, started
from tests.nixeval import services
from tests.phases.machine import PhaseMachine

pytestmark = [pytest.mark.vm, pytest.mark.nspawn]
SECONDS = 12
"""How long it has where nobody confirms it."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhaseMachine]:
    with started(PhaseMachine, tmp_path_factory.mktemp("machine") / "host", "setup") as made:
        yield made


@pytest.fixture(autouse=True)
def in_setup(machine: PhaseMachine) -> Iterator[None]:
    """Each test begins in phase setup, with nothing waiting."""
    yield
    if (running(machine), machine.default, phase(machine)["waiting"]) != ("setup", "setup", None):
        machine.at_console(f"HV_NET_GUARD=off {SYSTEMS}/setup/bin/switch-to-configuration switch")
        machine.boot_next("setup")
    machine.at_console(f"systemctl stop hyper-nixos-guard-revert.timer; rm -f {FOLDER}/*.json {FILE}")
    machine.declare(Phase.setup)
    machine.ssh_until(works=True)


def phase(machine: PhaseMachine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.at_console("hv security phase --json").stdout)
    return found


def running(machine: PhaseMachine) -> str:
    return Path(machine.at_console("readlink /run/current-system").stdout.strip()).name


def sshd_is(machine: PhaseMachine, name: str) -> None:
    """The real server has that phase's settings: a tunnel is only refused in the profile strict."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        tried = machine.ssh("true", "-v", "-o", "LogLevel=DEBUG1", "-o", "PubkeyAuthentication=no")
        # Who may not come by password is told the methods that remain; both phases: publickey alone.
        assert "publickey" in tried.stderr
        refused = machine.ssh("cat", "-W", "127.0.0.1:22")
        prohibited = "administratively prohibited" in refused.stderr or refused.returncode != 0
        if prohibited == (name == "hardened"):
            return
        time.sleep(0.3)
    raise AssertionError(f"sshd is not of phase {name}: {refused}")


def actions(machine: PhaseMachine) -> list[tuple[str, str]]:
    lines = machine.at_console(f"cat {FILE}").stdout.splitlines()
    return [(entry["action"], entry["who"]) for entry in map(json.loads, lines)]


def test_raised_and_confirmed(machine: PhaseMachine) -> None:
    told = machine.ssh("sudo hv security phase")
    assert (
        "Phase:     setup\n" in told.stdout and "What hardened, profile strict has otherwise:" in told.stdout
    )
    done = machine.ssh("sudo hv security harden --seconds 600")
    assert (done.returncode, "sudo hv security confirm" in done.stdout) == (0, True), done
    assert "way in: ada: over SSH, with 1 key(s)" in done.stdout
    found = phase(machine)
    assert (found["running"]["phase"], found["running"]["profile"]) == ("hardened", "strict")
    # What boots next is the old phase still, and so is what is declared.
    assert (machine.default, found["declared"], found["waiting"]["kind"]) == ("setup", "setup", "phase")
    sshd_is(machine, "hardened")
    assert (
        machine.ssh("sudo hv security harden --seconds 600").stdout
        == "Phase hardened, profile strict runs already.\n"
    )
    assert "waits to be confirmed" in machine.ssh("sudo hv security relax").stderr
    confirmed = machine.ssh("sudo hv security confirm")
    assert (confirmed.returncode, confirmed.stderr) == (0, ""), confirmed
    found = phase(machine)
    assert (machine.default, found["declared"], found["waiting"]) == ("hardened", "hardened", None)
    assert found["boots"]["phase"] == "hardened"
    assert "./phases/hardened.nix" in machine.read(DECLARATION)
    assert machine.at_console("systemctl is-active hyper-nixos-guard-revert.timer").stdout == "inactive\n"
    assert actions(machine) == [("harden", "ada"), ("confirmed", "ada")]
    journal = machine.at_console("journalctl --no-pager -t hyper-nixos").stdout
    assert "hyper-nixos harden: tries phase hardened, profile strict, by ada" in journal
    # The next boot.
    machine.cut_power()
    machine.start()
    machine.ssh_until(works=True)
    assert running(machine) == "hardened"
    sshd_is(machine, "hardened")
    # And back, recorded.
    relaxed = machine.ssh("sudo hv security relax")
    assert relaxed.returncode == 0, relaxed
    found = phase(machine)
    assert (found["running"]["phase"], found["declared"], machine.default) == ("setup", "setup", "setup")
    assert actions(machine)[-1] == ("relax", "ada")
    sshd_is(machine, "setup")
    assert machine.ssh("true").returncode == 0


def test_not_confirmed_goes_back(machine: PhaseMachine) -> None:
    assert machine.ssh(f"sudo hv security harden --seconds {SECONDS}").returncode == 0
    assert running(machine) == "hardened"
    assert machine.ssh("true").returncode == 0
    machine.wait('hv net status --json | grep -o \'"outcome": "reverted"\' | wc -l', "1")
    assert (running(machine), machine.default, phase(machine)["declared"]) == ("setup", "setup", "setup")
    sshd_is(machine, "setup")
    assert machine.ssh("true").returncode == 0
    late = machine.ssh("sudo hv security confirm")
    assert (late.returncode, "Too late: the phase went back." in late.stderr) == (Exit.failed, True)
    assert actions(machine) == [("harden", "ada"), ("reverted", "the guard")]


def test_an_old_connection_confirms_nothing(machine: PhaseMachine) -> None:
    shared = (
        "-o",
        "ControlMaster=auto",
        "-o",
        f"ControlPath={machine.folder}/shared",
        "-o",
        "ControlPersist=yes",
    )
    assert machine.ssh("sudo hv security harden --seconds 600", *shared).returncode == 0
    old = machine.ssh("sudo hv security confirm", *shared)
    machine.ssh("true", "-O", "exit", *shared)
    assert (old.returncode, "older than the change" in old.stderr) == (Exit.failed, True)
    assert machine.ssh("sudo hv security revert").returncode == 0
    assert running(machine) == "setup"


def test_a_power_cut_in_the_window_goes_back(machine: PhaseMachine) -> None:
    assert machine.ssh("sudo hv security harden --seconds 600").returncode == 0
    assert running(machine) == "hardened"
    machine.cut_power()
    machine.start()
    machine.ssh_until(works=True)
    machine.wait('hv net status --json | grep -o \'"outcome": "rebooted"\' | wc -l', "1")
    assert (running(machine), phase(machine)["waiting"], phase(machine)["declared"]) == (
        "setup",
        None,
        "setup",
    )


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_power_cut_while_it_is_made_permanent(machine: PhaseMachine, cut: str) -> None:
    """Somebody has confirmed: it is finished at the next boot, whatever was done of it."""
    assert machine.ssh("sudo hv security harden --seconds 600").returncode == 0
    script = f"{SYSTEMS}/hardened/bin/switch-to-configuration"
    plain = machine.read(script)
    stop = 'if [ "$action" = boot ]; then touch /cutting; sleep 600; fi\n'
    at = plain.index("exec 9>" if cut == "before" else '[ "$action" != boot ]')
    machine.write(script, plain[:at] + stop + plain[at:], 0o755)
    threading.Thread(target=machine.ssh, args=("sudo hv security confirm",), daemon=True).start()
    machine.wait("ls /cutting", "/cutting")
    machine.cut_power()
    machine.write(script, plain, 0o755)
    (machine.root / "cutting").unlink()
    assert machine.default == ("setup" if cut == "before" else "hardened")
    machine.start()
    machine.wait('hv net status --json | grep -o \'"outcome": "confirmed"\' | wc -l', "1")
    assert (running(machine), machine.default, phase(machine)["declared"]) == (
        "hardened",
        "hardened",
        "hardened",
    )
    machine.ssh_until(works=True)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        ("mv /home/ada/.ssh/authorized_keys /home/ada/away", "no usable key"),
        ("usermod --expiredate 1 ada", "expired"),
        ("usermod --shell /usr/sbin/nologin ada", "lets nobody in"),
        (f"sed -i '1i DenyUsers ada' {SYSTEMS}/hardened/etc/ssh/sshd_config", "DenyUsers"),
        (f"sed -i '1i Nonsense yes' {SYSTEMS}/hardened/etc/ssh/sshd_config", "refuses its configuration"),
        ("gpasswd -d ada wheel", "no member"),
    ],
)
def test_refused_when_it_would_lock_out(machine: PhaseMachine, spoil: str, word: str) -> None:
    saved = ["etc/passwd", "etc/shadow", "etc/group", "home/ada/.ssh/authorized_keys"]
    before = {
        name: machine.read(f"/{name}")
        for name in (*saved, f"{SYSTEMS}/hardened/etc/ssh/sshd_config".lstrip("/"))
    }
    try:
        assert machine.at_console(spoil).returncode == 0
        refused = machine.at_console("hv security harden")
        assert refused.returncode == Exit.lockout, refused
        assert word in " ".join(refused.stderr.split()) and "Nothing was changed." in " ".join(
            refused.stderr.split()
        )
    finally:
        for name, text in before.items():
            (machine.root / name).write_text(text)
    assert (running(machine), phase(machine)["waiting"]) == ("setup", None)
    machine.ssh_until(works=True)


def test_a_system_that_does_not_come_up_goes_back_at_once(machine: PhaseMachine) -> None:
    script = f"{SYSTEMS}/hardened/bin/switch-to-configuration"
    plain = machine.read(script)
    try:
        machine.write(script, plain.replace("activate\nsystemctl daemon-reload", "activate\nexit 7"), 0o755)
        refused = machine.ssh("sudo hv security harden --seconds 600")
        assert (refused.returncode, "ended with 7" in refused.stderr) == (Exit.failed, True), refused
    finally:
        machine.write(script, plain, 0o755)
    assert (running(machine), phase(machine)["waiting"]) == ("setup", None)
    assert machine.ssh("true").returncode == 0


def test_a_declaration_changed_by_hand_is_left_alone(machine: PhaseMachine) -> None:
    machine.write(DECLARATION, '{ hypervisor.phase = "setup"; } # mine\n')
    done = machine.ssh("sudo hv security harden --seconds 600")
    assert "is not as we write it" in done.stdout
    assert machine.ssh("sudo hv security confirm").returncode == 0
    assert machine.read(DECLARATION).endswith("# mine\n")
    assert machine.default == "hardened"


def test_a_rebuild_does_not_get_in_between(machine: PhaseMachine) -> None:
    assert machine.ssh("sudo hv security harden --seconds 600").returncode == 0
    between = machine.ssh(f"sudo {SYSTEMS}/setup/bin/switch-to-configuration switch")
    assert between.returncode != 0 and "A change of the phase waits to be confirmed" in between.stderr
    assert machine.ssh("sudo hv security revert").returncode == 0
    assert running(machine) == "setup"


def test_the_certificate_is_renewed_in_its_last_year_by_its_unit(machine: PhaseMachine) -> None:
    """In the sandbox that the unit evaluates to; without one to renew it does nothing."""
    name = "hyper-nixos-certificate.service"
    text = services.committed()[f"host/{name}"].replace("@hv@", "/usr/local")
    machine.write(f"/etc/systemd/system/{name}", re.sub(r"@[a-z0-9+._-]+@", "/usr", text))
    begin = f"systemctl daemon-reload; systemctl start {name}; systemctl show --property=Result,ExecMainCode {name}"
    assert "ExecMainCode=0" in machine.at_console(begin).stdout, "nothing is run without a certificate"
    handoff = make_plan(cases.machine(), cases.answers(), cases.medium()).handoff
    machine.write(HANDOFF_PATH, handoff.model_dump_json())
    machine.write(
        f"{STATE_FOLDER}/certificate.json", JobState(job="certificate", status=Status.done).model_dump_json()
    )
    old = datetime.now(UTC) - timedelta(days=365 * certificate.YEARS["host"] - 300)
    world = World(programs=Runner(NoLog(), ""), root=machine.root, clock=Clock(now=lambda: old))
    certificate.CertificateJob(handoff.hostname).run(world)
    before = machine.read(certificate.CERTIFICATE)
    said = machine.at_console(begin).stdout
    assert "Result=success" in said, machine.at_console(f"journalctl --no-pager --unit {name}").stdout
    ends = machine.at_console(
        f"openssl x509 -in {certificate.CERTIFICATE} -noout -checkend {9 * 365 * 86400}"
    )
    assert machine.read(certificate.CERTIFICATE) != before and ends.returncode == 0, ends
    names = machine.at_console(
        f"openssl x509 -in {certificate.CERTIFICATE} -noout -ext subjectAltName"
    ).stdout
    assert ADDRESS in names, "the kernel told it the host's address"


def test_the_audit_finds_what_is_planted_on_a_running_machine(machine: PhaseMachine) -> None:
    """The kernel's, systemd's and sshd's own words: what is found after planting was not there before."""

    def failed() -> set[str]:
        said = json.loads(machine.at_console("hv security audit --json").stdout)
        return {
            f"{each['id']}: {line}"
            for each in said["checks"]
            if each["verdict"] == "failed"
            for line in each["evidence"]
        }

    machine.at_console(f"HV_NET_GUARD=off {SYSTEMS}/hardened/bin/switch-to-configuration switch")
    before = failed()
    assert not any(
        line.startswith(("phase:", "ssh-root", "ssh-ports", "users-root", "ports: tcp 8080"))
        for line in before
    )
    saved = {name: machine.read(name) for name in ("/etc/passwd", "/etc/group")}
    config = f"{SYSTEMS}/hardened/etc/ssh/sshd_config"
    plain = machine.read(config)
    planted = (
        "echo toor:x:0:0::/:/bin/sh >>/etc/passwd; chmod 666 /etc/group; chmod 644 /etc/shadow; chmod 644 /etc/ssh/host_key;"
        f"sed -i '1i PermitRootLogin yes' {config};"
        "systemd-run --unit=strange python3 -m http.server 8080; systemd-run --unit=broken false;"
        "mount -o remount,suid /dev/shm"
    )
    machine.at_console("cp /etc/ssh/host /etc/ssh/host_key; chmod 600 /etc/ssh/host_key")
    try:
        machine.at_console(planted)
        machine.wait("ss -Hltn sport = :8080 | wc -l", "1")
        machine.wait("systemctl is-failed broken", "failed")
        fresh = {line.partition(":")[0] for line in failed() - before}
    finally:
        machine.write(config, plain)
        for name, text in saved.items():
            machine.write(name, text)
        machine.at_console(
            "systemctl stop strange; systemctl reset-failed; chmod 640 /etc/shadow; rm /etc/ssh/host_key"
        )
    wanted = {
        "users-root",
        "files-accounts",
        "files-secrets",
        "ssh-host-keys",
        "ssh-root",
        "ports",
        "services-failed",
    }
    assert wanted <= fresh
