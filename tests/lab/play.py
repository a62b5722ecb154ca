"""Plays a scenario through: blank disks, the live medium, the real installer, the booted host, its first run."""

import json
import re
import shlex
import sys
from datetime import datetime
from pathlib import Path

from installer.plan.model import Plan
from tests.lab import beside, closures, layers, mounts, people, rescue, userland, zfs
from tests.lab.channels import Agent, Job
from tests.lab.command import run
from tests.lab.guest import MARKER
from tests.lab.machine import Machine, Running
from tests.lab.paths import REPOSITORY, RUNS
from tests.lab.patience import patience
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSPHRASE, PASSWORD, PASSWORD_HASH, Scenario
from tests.lab.session import Ssh, make_key, serial_login
from tests.lab.sleeper import nobody_types
from tests.lab.unlocking import ASKED

ANSWERS = "/run/answers.toml"
LAST_WORDS = "last-words.txt"
"""What the installer said, to its last screen."""
LATE_FOR_POOLS = 150
"""Seconds. NixOS looks for a pool sixty times, with a second between (nixos/modules/tasks/filesystems/zfs.nix)."""
AT_IT = "(resync|recovery) =|=DELAYED"
"""What /proc/mdstat says of an array whose copies or parity are being made."""
COPYING = r"copying path '/nix/store/|MiB copied|debian-userland"
"""A line of the installer's that shows it in the middle of copying the system."""


def play(scenario: Scenario, *, quiet: bool = False) -> Recorder:
    """Play it; the record is in the run's folder, also when something fails."""
    folder = RUNS / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{scenario.name}"
    recorder = Recorder(scenario.name, scenario.summary, folder, quiet=quiet)
    recorder.say(scenario.summary)
    recorder.say(f"everything about this run is kept in {folder}")
    try:
        _play(scenario, recorder)
        for image in folder.glob("*.qcow2"):  # of use only to who looks into a failure
            image.unlink()
    finally:
        recorder.write()
    return recorder


def build(recorder: Recorder) -> Path:
    """The medium and all it is made of; returns the ISO image."""
    with recorder.phase("bootstrap the userland from Debian's packages"):
        userland.build()
    with recorder.phase("make the Nix store of the medium"):
        layers.base()
    with recorder.phase("add our programs and flakes"):
        layers.code()
    with recorder.phase("make the ISO image"):
        return layers.iso()


def _play(scenario: Scenario, recorder: Recorder) -> None:
    iso = build(recorder)
    machine = Machine(scenario.hardware, recorder.folder)
    machine.create()
    public_key = make_key(recorder.folder)
    answers = scenario.answers().replace("@ssh-key@", public_key)
    (recorder.folder / "answers.toml").write_text(answers)
    with machine.start("live", iso=iso) as running:
        with recorder.phase("boot the live medium", "firmware"):
            agent = running.live()
        before = beside.prepare(recorder, agent) if scenario.beside else ""
        install(scenario, recorder, running, agent)
        if scenario.kexec:
            boot(scenario, recorder, running)
            said = running.serial.text()
            started = said.count("BdsDxe: starting")
            recorder.prove("the firmware was started once, for the medium", started == 1, said[-1500:])
            first_run(scenario, recorder, running, Ssh(ADMINISTRATOR, machine.port, recorder.folder))
            return
        if scenario.beside:
            beside.kept(recorder, agent, before)
        recorder.picture(running.screenshot("installed"), "The installer has finished")
        agent.start(["bash", "-c", "sync; reboot -f"])
        running.wait_off(5)
    with machine.start("host") as running:
        boot(scenario, recorder, running)
        first_run(scenario, recorder, running, Ssh(ADMINISTRATOR, machine.port, recorder.folder))
    if scenario.rescued:
        rescue.rescue(scenario, recorder, machine, iso)
    if scenario.mirrored:
        plan = Plan.model_validate_json((recorder.folder / "plan.json").read_bytes())
        said = (recorder.folder / "recovery-key.age").read_text() if scenario.encrypted else ""
        # Either of the two ways in opens what is left, whichever disk is gone: of two, or the first and last of more.
        ways = (recovery_key(said, recorder.folder) if scenario.encrypted else "", PASSPHRASE)
        for disk, typed in zip((plan.disks[0], plan.disks[-1]), ways, strict=True):
            with machine.start(f"without-{disk.key}", without=disk.serial) as running:
                ssh = Ssh(ADMINISTRATOR, machine.port, recorder.folder)
                pulled(scenario, recorder, running, ssh, (str(disk.serial), typed))
        rescue.without(scenario, recorder, machine, iso, str(plan.disks[0].serial))


def pulled(
    scenario: Scenario, recorder: Recorder, running: Running, ssh: Ssh, gone: tuple[str, str]
) -> None:
    """The host with one disk of its mirror or array gone: it starts, from another's boot partition, and says what it lacks.

    Args:
        scenario: What was installed.
        recorder: Keeps what is seen.
        running: The machine.
        ssh: Way in.
        gone: Serial number of the disk, and what opens the others, where they are encrypted.
    """
    serial, typed = gone
    with recorder.phase(f"start with {serial} pulled", "host"):
        if scenario.encrypted:
            running.serial.expect(ASKED, 60)
            running.serial.type(f"{typed}\n")
        ended = running.serial.expect(
            rf"{scenario.hostname} login:|emergency mode|rescue mode|Kernel panic", 120
        )[0]
    claim = f"with {serial} pulled the host starts to the login prompt"
    recorder.prove(claim, "login:" in ended, running.serial.text()[-1500:])
    with recorder.phase(f"what is there without {serial}", "host"):
        code, text = ssh.run(
            "cat /proc/sys/kernel/hostname; lsblk --nodeps --noheadings --output SERIAL", measured=30
        )
        there = text.split()
        recorder.prove(
            f"{serial} is really gone",
            code == 0 and scenario.hostname in there and serial not in there,
            text,
        )
        look = "cat /proc/mdstat; btrfs filesystem show; findmnt --noheadings /; ls /boot*"
        look += "; zpool status" if scenario.zfs else ""
        # sudo would take the first of several commands alone.
        text = ssh.sudo(f"bash -c {json.dumps(look)}", PASSWORD, measured=30)[1]
        recorder.excerpt(f"storage without {serial}", text)
        lacking = "missing" in text.lower() or bool(re.search(r"\[U*_U*\]", text))
        if scenario.zfs:
            lacking = "state: DEGRADED" in text
        recorder.prove(f"the root stands on what is left without {serial}", lacking, text)
        if scenario.encrypted:
            sealed = f"recovery-key-{scenario.hostname}.age"
            recorder.prove(
                f"the sealed recovery key lies on what is left without {serial}", sealed in text, text
            )
        ssh.sudo("systemctl poweroff", PASSWORD)
        running.wait_off(40)


def install(scenario: Scenario, recorder: Recorder, running: Running, agent: Agent) -> None:
    """Everything that happens in the live system."""
    agent.write(ANSWERS, (recorder.folder / "answers.toml").read_text())
    agent.write("/run/secrets/passphrase", scenario.passphrase + "\n", 0o600)
    if scenario.pin:
        agent.write("/run/secrets/pin", scenario.pin + "\n", 0o600)
    agent.write(f"/run/secrets/{ADMINISTRATOR}.hash", PASSWORD_HASH + "\n", 0o600)
    if scenario.unlock:
        # The lab's live system has no network; stage 1 will have the cards that it sees.
        checked(agent.start(["modprobe", "virtio_net"]), 5)
        checked(agent.start(["udevadm", "settle"]), 5)
    with recorder.phase("hv probe", "installer"):
        facts = checked(agent.start(["hv", "probe", "--json"], merge=False), 12)
        (recorder.folder / "facts-before.json").write_text(facts)
        recorder.files["facts_before"] = "facts-before.json"
    medium_text = (layers.code() / "medium.json").read_text()
    if scenario.source == "closure":
        with recorder.phase("build the host's system beforehand"):
            source = recorder.folder / "facts-before.json"
            payload, medium = closures.ready(
                scenario.hostname,
                recorder.folder / "answers.toml",
                source,
                recorder.folder,
                zfs=zfs.build() if scenario.zfs else None,
            )
        medium_text = medium.model_dump_json(indent=1)
        agent.write("/etc/hyper-nixos/medium.json", medium_text)
        running.plug(payload)
        mount = 'until [ -b "$0" ]; do udevadm settle; done; mkdir -p /payload; mount -t squashfs -o ro "$0" /payload'
        checked(agent.start(["bash", "-c", mount, "/dev/disk/by-id/virtio-HYPERNIXOS-CACHE"]), 5)
        if scenario.zfs:
            checked(agent.start(["sh", zfs.LOADED]), 20)
    (recorder.folder / "medium.json").write_text(medium_text)
    # Making new arrays' halves equal would take the processor from the installer, which is emulated.
    slow = "modprobe md_mod && echo 2000 >/proc/sys/dev/raid/speed_limit_max"
    agent.run("bash", "-c", slow if scenario.mirrored else "true")
    with recorder.phase("hv install --plan", "installer"):
        text = checked(agent.start(["hv", "install", "--answers", ANSWERS, "--plan"]), 20)
        (recorder.folder / "plan.txt").write_text(text)
        recorder.excerpt("hv install --plan", text)
        for line in text[: text.find("\nSteps (")].splitlines():
            recorder.detail(line)
    token = same_plan(recorder, agent, text)
    command = ["hv", "install", "--answers", ANSWERS, "--confirm", token, "--progress", "plain"]
    if scenario.interrupted:
        with recorder.phase("hv install, killed while it copies", "installer"):
            job = agent.start(command, screen=True, listen=recorder.detail)
            job.until(COPYING, 40)
            agent.run("pkill", "-KILL", "-f", "hv install")
            ended = job.wait(10)
        recorder.prove(
            "the installer was killed in the middle of copying", ended.code < 0, f"status {ended.code}"
        )
    with recorder.phase("hv install", "installer"):
        job = agent.start(command, screen=True, listen=recorder.detail)
        if scenario.kexec:
            # The agent goes with the live system, and takes lines along that were on their way: the host's first words
            # tell as much.
            job.until(r"^Log in:", 150, lambda: "stage 2" in running.serial.text())
            return
        answer = job.wait(150)
        recorder.excerpt("hv install", answer.text)
        (recorder.folder / LAST_WORDS).write_text(answer.text)
        log = agent.run("cat", "/run/hyper-nixos/install/install.log", measured=5).text
        (recorder.folder / "install.log").write_text(log)
    recorder.prove("the installer says that all is installed and proved", answer.code == 0, answer.text)
    if scenario.encrypted:
        recorder.prove(
            "the log does not have the recovery key, and who it is sealed for can read it",
            recovery_key(answer.text, recorder.folder) not in log,
            answer.text,
        )


def recovery_key(said: str, folder: Path) -> str:
    """The recovery key that the installer's last words have sealed, read with the administrator's secret key."""
    armoured = re.search(r"-----BEGIN AGE[\s\S]+END AGE ENCRYPTED FILE-----", said)
    assert armoured, said
    (folder / "recovery-key.age").write_text(f"{armoured[0]}\n")
    return run(["age", "--decrypt", "--identity", folder / "key", folder / "recovery-key.age"]).strip()


def same_plan(recorder: Recorder, agent: Agent, shown: str) -> str:
    """Plan again on this machine, from the facts that the other printed: a plan is a pure function of its inputs.

    Returns:
        The token.
    """
    folder = recorder.folder
    given: list[str | Path] = ["--answers", folder / "answers.toml", "--facts", folder / "facts-before.json"]
    medium: list[str | Path] = ["--medium", folder / "medium.json"]
    hv: list[str | Path] = ["env", "-C", REPOSITORY, sys.executable, "-m", "hv"]
    document = json.loads(run([*hv, "install", *given, *medium, "--plan", "--json"]))
    plan = Plan.model_validate(document["plan"])
    (folder / "plan.json").write_text(plan.model_dump_json(indent=1))
    recorder.files["plan"] = "plan.json"
    token = str(document["token"])
    if token not in shown:  # for who looks into it
        there = agent.run(
            "hv", "install", "--answers", ANSWERS, "--plan", "--json", measured=20, merge=False
        )
        (folder / "plan-there.json").write_text(there.text)
    claim = "the machine's facts make the same plan elsewhere, token for token"
    recorder.prove(claim, f"--confirm {token}" in shown, f"here: {token}; there:\n{shown[-300:]}")
    return token


def checked(job: Job, measured: float) -> str:
    """Wait for a command that must succeed; its output."""
    answer = job.wait(measured)
    assert answer.code == 0, f"{job.what}: exit status {answer.code}\n{answer.text}"
    return answer.text


def boot(scenario: Scenario, recorder: Recorder, running: Running) -> None:
    """From power-on to the login prompt."""
    serial = running.serial
    with recorder.phase("firmware, boot loader, stage 1", "firmware"):
        if scenario.encrypted:
            serial.expect(ASKED, 40)
            recorder.picture(running.screenshot("passphrase"), "The installed disk asks for its passphrase")
            if scenario.zfs:
                nobody_types(recorder, running, LATE_FOR_POOLS)
            else:
                serial.type("not the passphrase\n")
                serial.expect(r"was not accepted[\s\S]*Enter passphrase for disk", 15)
            # In place of the passphrase, which opens the disks when one of a mirror is pulled.
            said = (recorder.folder / "recovery-key.age").read_text()
            serial.type(f"{recovery_key(said, recorder.folder)}\n")
        serial.expect(r"stage 2", 40)
    with recorder.phase("systemd up to the login prompt", "host"):
        ended = serial.expect(rf"{scenario.hostname} login:|emergency mode|rescue mode|Kernel panic", 50)[0]
    recorder.prove("the disk boots by itself to the login prompt", "login:" in ended, serial.text()[-1500:])
    recorder.picture(running.screenshot("booted"), "The installed host, booted from its own disk")


def first_run(scenario: Scenario, recorder: Recorder, running: Running, ssh: Ssh) -> None:
    """The hand-off taken up, and people who log in before and after."""
    with recorder.phase("logins in phase setup", "host"):
        seen = serial_login(running.serial, ADMINISTRATOR, PASSWORD)
        recorder.prove(
            f"{ADMINISTRATOR} logs in at the serial console with a password", "wheel" in seen, seen
        )
        code, text = ssh.run("id && hostname", measured=15)
        recorder.prove(
            f"{ADMINISTRATOR} logs in over SSH with a key", code == 0 and scenario.hostname in text, text
        )
        code, text = ssh.sudo("id -u", PASSWORD)
        recorder.prove(f"{ADMINISTRATOR} becomes root", code == 0 and text.strip().endswith("0"), text)
    with recorder.phase("first run", "host"):
        wait_first_run(recorder, ssh)
        code, text = ssh.run("hv firstrun status --json", measured=15)
        recorder.excerpt("hv firstrun status --json", text)
        status, table = ssh.run("hv firstrun status", measured=15)
        for line in table.splitlines():
            recorder.detail(line)
        journal = ssh.sudo("journalctl -b --no-pager -u hyper-nixos-firstrun", PASSWORD)[1]
        recorder.excerpt("journal of the first run", journal)
        recorder.prove("every job of the first run is done", (code, status) == (0, 0), table)
    if scenario.guest:
        log = f"/var/log/libvirt/qemu/{scenario.guest}-console.log"
        with recorder.phase("the guest inside the host", "host"):
            # A machine in a machine, and each as slow as the other leaves it.
            seconds = int(patience(60))
            wait = f"timeout {seconds} sh -c 'until grep -q {MARKER} {log}; do sleep 2; done'"
            ssh.sudo(f"bash -c {json.dumps(wait)}", PASSWORD, measured=80)
            text = ssh.sudo(f"cat {log}", PASSWORD, measured=20)[1]
            state = ""
            if MARKER not in text:  # for who looks into it
                look = f"virsh domstate --reason {scenario.guest}; cat /var/log/libvirt/qemu/{scenario.guest}.log"
                state = ssh.sudo(f"bash -c {json.dumps(look)}", PASSWORD, measured=20)[1]
        recorder.prove("the guest that the answers name runs and says so", MARKER in text, text + state)
    with recorder.phase("what is mounted", "host"):
        plan = Plan.model_validate_json((recorder.folder / "plan.json").read_bytes())
        text = ssh.sudo(f"sh -c {shlex.quote(mounts.command(plan.host))}", PASSWORD, measured=10)[1]
        recorder.excerpt("what is mounted", text)
        wrong = tuple(mounts.differences(plan.host, text))
    count = len(plan.host.filesystems)
    claim = f"the mount tree is the plan's: {count} places with subvolumes, swap, every device"
    recorder.prove(claim, not wrong, "\n".join(wrong) or text)
    with recorder.phase("the host as it is now", "host"):
        text = ssh.sudo("hv probe --json", PASSWORD, measured=20)[1]
        (recorder.folder / "facts-after.json").write_text(text[text.index("{") :])
        recorder.files["facts_after"] = "facts-after.json"
    if scenario.people:
        people.make_guests(recorder, ssh, PASSWORD)
    if scenario.hardened:
        hardened(scenario, recorder, running, ssh)
    recorder.picture(running.screenshot("done"), "The host, set up")
    if scenario.mirrored:
        with recorder.phase("arrays become whole", "host"):
            # As the plan warns: without their parity they do not start without a disk. What nobody writes to (swap) stays
            # `resync=PENDING`.
            until = f"while grep -Eq '{AT_IT}' /proc/mdstat 2>/dev/null; do sleep 2; done; cat /proc/mdstat"
            text = ssh.run(until, measured=400)[1]
        recorder.prove("no array is still being made whole", not re.search(AT_IT, text), text)
    ssh.sudo("systemctl poweroff", PASSWORD)
    running.wait_off(40)


def wait_first_run(recorder: Recorder, ssh: Ssh) -> None:
    """Join the job that runs since boot, and end with it."""
    code, text = ssh.sudo("systemctl start hyper-nixos-firstrun.service", PASSWORD, measured=180)
    if code != 0:  # what follows tells what came of it
        recorder.detail(f"`systemctl start hyper-nixos-firstrun` ended with {code}: {text}")


def hardened(scenario: Scenario, recorder: Recorder, running: Running, ssh: Ssh) -> None:
    """After the phase was raised: who gets in, and who does not."""
    with recorder.phase("logins in phase hardened", "host"):
        code, text = ssh.run(
            "readlink -f /run/current-system; readlink -f /nix/var/nix/profiles/system/specialisation/hardened"
        )
        current, wanted = text.split()
        recorder.prove("the running system is the hardened one", code == 0 and current == wanted, text)
        code, text = ssh.run("id")
        recorder.prove(f"{ADMINISTRATOR} still logs in over SSH with a key", code == 0, text)
        code, text = ssh.run(
            "id", "-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "BatchMode=yes"
        )
        refused = code == 255 and "Permission denied (publickey)" in text
        recorder.prove("SSH offers nothing but keys", refused, text)
        seen = serial_login(running.serial, ADMINISTRATOR, PASSWORD)
        recorder.prove(f"{ADMINISTRATOR} still logs in at the serial console", "wheel" in seen, seen)
