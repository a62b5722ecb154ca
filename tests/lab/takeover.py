"""A machine that runs something else is taken over from the operator's computer: `hv install --target --kexec`.

What is real: the other system, installed with its own loader; kexec(8), the kernel that it starts, and the initial RAM
disk as the command sends it; the embed area behind that, `hv live prepare`, SSH with the host key from before; the
installation and the host's boot. The live system is the lab's, with its layers in the RAM disk instead of on a medium.
"""

import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pexpect

from installer.errors import Exit
from tests.lab import layers, migration, userland
from tests.lab.answered import HV
from tests.lab.command import run
from tests.lab.machine import Machine
from tests.lab.paths import LAB
from tests.lab.patience import patience
from tests.lab.play import boot, build, checked
from tests.lab.recorder import Recorder
from tests.lab.scenarios import ADMINISTRATOR, PASSWORD, PASSWORD_HASH, SCENARIOS, Scenario
from tests.lab.session import Ssh
from tests.lab.tools import entered
from tests.lab.unattended import closure, online, plug, recorded

ROOTED = (
    "mkdir -p -m 700 /root/.ssh && echo {key} > /root/.ssh/authorized_keys && "
    "sed 's/^PermitRootLogin.*/PermitRootLogin prohibit-password/' /etc/ssh/sshd_config > /run/sshd_config && "
    "mkdir -p /run/systemd/system/sshd.service.d && "
    "printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/sshd -D -e -f /run/sshd_config\\n' "
    "> /run/systemd/system/sshd.service.d/root.conf && systemctl daemon-reload && systemctl restart sshd"
)
"""Rented machines let root in with a key. It stays systemd's service: what is started by hand has no /run/sshd once the
service has ended.
"""


PATIENT = """\
import sys
import installer.remote.kexec
from hv.cli import main
installer.remote.kexec.STARTED = {seconds}
sys.exit(main())
"""
"""`hv`, with the patience of the lab: an emulated machine starts slowly."""


def taken_over() -> Recorder:
    """From the running system of somebody else to our host on its disk, without touching the machine."""
    plain = SCENARIOS["bios-ext4"]
    what = replace(
        plain,
        name="taken-over",
        summary="BIOS; a machine that runs something else is taken over by kexec, and installed over SSH.",
        hardware=migration.hardware("bios"),
        interrupted=False,
        base=plain.name,
    )
    return recorded(what, _taken_over)


def tree(folder: Path, recorder: Recorder) -> Path:
    """A kexec tree as nixpkgs makes it: kernel, RAM disk with the whole live system, script."""
    folder.mkdir()
    built = build(recorder)
    tool = userland.build() / "root"
    for name, place in (("bzImage", "/boot/vmlinuz"), ("initrd.gz", "/boot/initrd")):
        extract = ("xorriso", "-osirrox", "on", "-indev", str(built), "-extract", place, str(folder / name))
        run(entered(tool, list(extract), keep_user=True))
        (folder / name).chmod(0o644)
    layered = folder / "layers"
    (layered / "medium/live").mkdir(parents=True)
    for layer, image in ((layers.base(), "base.squashfs"), (layers.code(), "code.squashfs")):
        (layered / "medium/live" / image).symlink_to(layer / image)
    more = folder / "layers.cpio"
    with more.open("wb") as stream:
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--dereference", "--quiet"],
            cwd=layered,
            input=b"medium\nmedium/live\nmedium/live/base.squashfs\nmedium/live/code.squashfs\n",
            stdout=stream,
            check=True,
        )
    with (folder / "initrd.gz").open("ab") as initrd:
        initrd.write(bytes(-initrd.tell() % 4))
        with more.open("rb") as stream:
            shutil.copyfileobj(stream, initrd)
    more.unlink()
    shutil.rmtree(layered)
    line = next(
        words
        for words in (LAB / "live/grub.cfg").read_text().splitlines()
        if words.strip().startswith("linux ")
    )
    arguments = " ".join(word for word in line.split()[2:] if word != "@pad@")
    (folder / "kexec-boot").write_text(
        "#!/usr/bin/env bash\n"
        'here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)\n'
        f'kexec --load "$here/bzImage" --initrd="$here/initrd.gz" --command-line "{arguments}"\n'
        "kexec -e\n"
    )
    return folder


def _taken_over(what: Scenario, recorder: Recorder) -> None:
    installed = migration.base("bios", recorder)
    folder = recorder.folder
    for file in ("key", "key.pub"):
        shutil.copy2(installed / file, folder / file)
    image = f"{migration.DISK.serial}.qcow2"
    backing = ("-b", str(installed / image), "-F", "qcow2", str(folder / image))
    run(
        entered(
            userland.build() / "root", ["qemu-img", "create", "-q", "-f", "qcow2", *backing], keep_user=True
        )
    )
    secret = folder / f"{ADMINISTRATOR}.hash"
    secret.write_text(PASSWORD_HASH + "\n")
    text = what.answers().replace("@ssh-key@", (folder / "key.pub").read_text().strip())
    (folder / "answers.toml").write_text(text.replace("/run/secrets/alice.hash", str(secret)))
    with recorder.phase("the kexec tree"):
        kexec = tree(folder / "kexec", recorder)
    machine = Machine(what.hardware, folder, reached_inside=True)
    with machine.start("other") as running:
        with recorder.phase("boot the other system", "host"):
            running.serial.expect(r"workshop login:", 120)
            ssh = Ssh(ADMINISTRATOR, machine.port, folder)
            assert ssh.first("true")[0] == 0
        key = ssh.run("cat /etc/ssh/ssh_host_ed25519_key.pub", measured=20)[1]
        run(["sh", "-c", f"printf %s '{key.strip()}' > {folder / 'host.pub'}"])
        shown = run(["ssh-keygen", "-l", "-f", folder / "host.pub"]).split()[1]
        rooted = ROOTED.format(key=shlex.quote((folder / "key.pub").read_text().strip()))
        code, seen = ssh.sudo(f"sh -c {shlex.quote(rooted)}", PASSWORD, measured=30)
        assert code == 0, seen
        code, seen = Ssh("root", machine.port, folder).first("id -u; cat /etc/os-release")
        claim = "something else runs on the machine"
        recorder.prove(claim, code == 0 and "medium" not in seen, f"exit status {code}\n{seen}")
        target = f"ssh://root@127.0.0.1:{machine.port}"
        words = ["install", "--target", target, "--host-key", shown, "--identity", folder / "key"]
        words += ["--answers", folder / "answers.toml"]
        with recorder.phase("hv install --target --kexec", "installer"):
            argv = [
                *HV[:3],
                sys.executable,
                "-c",
                PATIENT.format(seconds=patience(60)),
                *words,
                "--kexec",
                kexec,
            ]
            operator = pexpect.spawn(
                str(argv[0]), list(map(str, argv[1:])), timeout=patience(60), encoding="utf-8"
            )
            operator.logfile_read = (folder / "operator.log").open("w")
            operator.expect("Type its name")
            operator.sendline("127.0.0.1")
            operator.expect("It starts", timeout=patience(120))
            agent = running.taken_over()
        said = checked(agent.start(["hv", "live", "prepare"]), 10)
        recorder.prove(
            "the live system takes keys and host key that came with it", said.count("taken from") >= 2, said
        )
        lines = agent.run("cat", "/proc/cmdline", "/proc/mounts").text
        recorder.prove("it runs from memory, with no medium in the machine", "iso9660" not in lines, lines)
        plug(*closure(what, recorder, agent), running, agent)
        online(agent, keys_of_its_own=False)
        with recorder.phase("the plan, from there", "installer"):
            operator.expect("The live system runs there now", timeout=patience(120))
            operator.expect(pexpect.EOF, timeout=patience(60))
            operator.close()
        text = (folder / "operator.log").read_text()
        recorder.excerpt("hv install --target --kexec", text)
        recorder.prove(
            "the same command goes on to the plan, by the same host key",
            operator.exitstatus == Exit.consent,
            text,
        )
        recorder.prove("the plan says what is lost", "HVMAIN01" in text and "ext4" in text, text)
        token = text.split("token  ")[1].split()[0]
        with recorder.phase("hv install --target --confirm", "installer"):
            done = subprocess.run(
                list(map(str, [*HV, *words, "--confirm", token])),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=patience(240),
                check=False,
            )
        recorder.prove("it is installed, seen from here", done.returncode == 0, done.stdout + done.stderr)
        agent.start(["bash", "-c", "sync; reboot -f"])
        running.wait_off(5)
    with machine.start("host") as running:
        boot(what, recorder, running)
        code, text = Ssh(ADMINISTRATOR, machine.port, folder).first("hostname")
        recorder.prove(
            "our host runs on its disk, and its administrator logs in", "kvm2" in text and not code, text
        )
    shutil.rmtree(folder / "kexec")


__all__ = ["taken_over"]
