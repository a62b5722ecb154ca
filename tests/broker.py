"""A whole host for the broker's tests: libvirtd, hvd and hv-hostd in namespaces of their own, with people of their own.

Everything is real: libvirtd with its socket closed to people, QEMU (emulated), hvd under its own account, callers under
theirs. Nothing of the machine's own libvirt, accounts or network is seen or changed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hv.daemon.snapshots import UEFI_SINCE
from tests.forked import ask
from tests.nixeval.nix import REPOSITORY

UEFI_VARIABLES = REPOSITORY / "nix/modules/virtualization/uefi-variables.sh"

HV = (
    "hv",
    *(
        f"hv.commands.{name}"
        for name in ("vm", "vm_asking", "vm_changing", "vm_looking", "vm_making", "image")
    ),
)
"""What is run, and modules that most of its runs here need."""
PATIENCE = 120.0
"""Seconds for what takes a second or two on a quiet machine."""
PEOPLE = {
    "ada": ("hv-owners",),
    "eve": ("hv-owners",),
    "oscar": ("hv-operators",),
    "vic": ("hv-viewers",),
    "audra": ("hv-auditors",),
    "alma": ("hv-admins",),
    "bob": (),
}
"""Accounts, with the role's group of each."""
FIRST_UID = 64101
HVD_UID = 64100
GROUPS = ("hv-users", "hv-owners", "hv-operators", "hv-viewers", "hv-auditors", "hv-admins", "libvirtd")
START = """
set -eu
private=$1/private
for name in etc/libvirt etc/qemu var/lib/libvirt var/cache/libvirt var/log/libvirt var/lib/hvd run; do
    mkdir -p "$private/$name" "/$name"
    mount --bind "$private/$name" "/$name"
done
for file in passwd group; do mount --bind "$1/$file" /etc/$file; done
# What is in a home that is closed to others is put where they reach it, under the name that it has.
closed=$2
shift 2
number=0
for path; do
    number=$((number + 1))
    [ "$number" -gt "$closed" ] || continue
    mkdir -p "/run/open/$number"
    mount --bind "$path" "/run/open/$number"
done
number=0
for path; do
    number=$((number + 1))
    if [ "$number" -le "$closed" ]; then
        mount -t tmpfs -o mode=755 open "$path"
    else
        mkdir -p "$path"
        mount --bind "/run/open/$number" "$path"
    fi
done
# Devices without KVM: the same on every machine.
mkdir "$private/dev"
mount -t tmpfs -o mode=755 dev "$private/dev"
cd "$private/dev"
for name in null zero full random urandom tty; do cp -a "/dev/$name" .; done
mkdir net pts shm
mknod net/tun c 10 200
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd
cd /
umount --lazy --recursive /dev || true
mount --move "$private/dev" /dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
ip link set lo up
mkdir -p /run/libvirt /run/hvd /run/hv-hostd /run/lock /var/log/libvirt/qemu
chown hvd:hvd /run/hvd /var/lib/hvd
chmod 700 /var/lib/hvd /var/log/libvirt/qemu
virtlogd --daemon
while :; do
    libvirtd --pid-file /run/libvirtd.pid || true
    while [ -e /run/hold ]; do sleep 0.05; done
done
"""
"""Runs as the first process of the namespaces. libvirtd is started again whenever it ends, as systemd would."""
LIBVIRTD = """
unix_sock_group = "libvirtd"
unix_sock_ro_perms = "0770"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""
"""As nix/modules/privileges has it: the socket's mode decides, and people are not in the group."""
POOL = "<pool type='dir'><name>default</name><target><path>/var/lib/libvirt/images</path></target></pool>"
NETWORK = """<network><name>default</name><bridge name='virbr0'/><ip address='10.77.0.1' netmask='255.255.255.0'>
<dhcp><range start='10.77.0.10' end='10.77.0.99'/></dhcp></ip></network>"""


def wait_for(what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What the condition gives, once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
    return value


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read."""
        return json.loads(self.out)


@dataclass
class BrokerHost:
    """The host."""

    folder: Path
    inside: int
    """Process in whose namespaces it is."""
    settings: dict[str, Any] = field(default_factory=dict)
    machine: str = "identical-gpus"
    """The recorded machine whose devices hv-hostd judges."""
    hvd: subprocess.Popen[bytes] | None = None
    hostd: subprocess.Popen[bytes] | None = None

    def path(self, absolute: str) -> Path:
        """A file of the host, from outside."""
        return self.folder / "private" / absolute.lstrip("/")

    @property
    def uri(self) -> str:
        """libvirt, for root."""
        return f"qemu:///system?socket={self.path('/run/libvirt/libvirt-sock')}"

    def enter(self, *argv: str, processes: bool = True) -> tuple[str, ...]:
        """A command inside."""
        kinds = ("--mount", "--net", *(("--pid",) if processes else ()))
        return ("nsenter", "--target", str(self.inside), *kinds, "--wd=/", "--", *argv)

    def run_as(self, who: str, *argv: str, stdin: str = "", seconds: float = PATIENCE) -> Ran:
        """A program as somebody, with the groups that they have."""
        drop = () if who == "root" else ("setpriv", f"--reuid={who}", f"--regid={who}", "--init-groups")
        done = subprocess.run(
            self.enter(*drop, *argv),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=self.environment,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    @property
    def environment(self) -> dict[str, str]:
        """For programs inside."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
        }

    def hv(self, who: str, *argv: str, status: int | None = 0, stdin: str = "") -> Ran:
        """`hv` as somebody; it must end with that status (None: any)."""
        where = ask.Where(
            environment=self.environment,
            namespaces=tuple(f"/proc/{self.inside}/ns/{kind}" for kind in ("net", "mnt", "pid")),
            user=None if who == "root" else who,
            folder="/",
        )
        done = ask.run(HV, argv, where, stdin=stdin, seconds=PATIENCE)
        ran = Ran(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in ran.err, ran.err
        if status is not None:
            assert ran.status == status, f"{argv}: {ran.status}\n{ran.out}{ran.err}{self.log()[-3000:]}"
        return ran

    def under_way(self) -> list[tuple[str, str]]:
        """Kind and target of what runs now. A result may say "running" too, of a guest: rows are looked at, not words."""
        rows = self.hv("alma", "vm", "operations", "--json").json["operations"]
        return [(row["kind"], row["target"]) for row in rows if row["status"] == "running"]

    def start(self) -> None:
        """hvd and hv-hostd."""
        config = self.folder / "hvd.json"
        config.write_text(json.dumps(self.settings))
        config.chmod(0o644)
        log = (self.folder / "hvd.log").open("ab")
        drop = ("setpriv", "--reuid=hvd", "--regid=hvd", "--init-groups")
        python = (sys.executable, "-m")
        if self.hostd is None:
            record = str(REPOSITORY / "tests/machines" / self.machine)
            helper = (*python, "hv.hostd", "--socket", "/run/hv-hostd/hv-hostd.sock", "--machine", record)
            self.hostd = subprocess.Popen(
                self.enter(*helper, processes=False), stdout=log, stderr=log, env=self.environment
            )
            wait_for("hv-hostd", self.path("/run/hv-hostd/hv-hostd.sock").exists)
            self.run_as("root", "chown", "hvd", "/run/hv-hostd/hv-hostd.sock")
        # The socket is systemd's on a host; here it is made by root, since hvd is not in hv-users.
        broker = (*python, "hv.daemon", "--socket", "/run/hvd/hvd.sock", "--config", str(config))
        self.path("/run/hvd/hvd.sock").unlink(missing_ok=True)
        self.hvd = subprocess.Popen(
            self.enter(*drop, *broker, processes=False), stdout=log, stderr=log, env=self.environment
        )
        wait_for(
            "hvd",
            lambda: (
                self.path("/run/hvd/hvd.sock").exists() or self.hvd is None or self.hvd.poll() is not None
            ),
        )
        assert self.hvd.poll() is None, self.log()
        wait_for(
            "hvd's answer",
            lambda: self.run_as("ada", sys.executable, "-m", "hv", "auth", "whoami").status == 0,
        )

    def stop(self, *, kill: bool = False) -> None:
        """hvd alone."""
        if self.hvd is not None:
            (self.hvd.kill if kill else self.hvd.terminate)()
            self.hvd.wait()
            self.hvd = None

    def restart(self, *, kill: bool = False, **settings: Any) -> None:
        """hvd anew, with other settings."""
        self.stop(kill=kill)
        self.settings = settings
        self.start()

    def log(self) -> str:
        """What hvd said."""
        return (self.folder / "hvd.log").read_text(errors="replace")

    @contextmanager
    def libvirt(self) -> Iterator[Any]:
        """libvirt itself, as root, to look at what was done."""
        import libvirt

        libvirt.registerErrorHandler(lambda *_: None, None)
        opened = libvirt.open(self.uri)
        try:
            yield opened
        finally:
            opened.close()

    def answers(self) -> bool:
        """Whether libvirtd does: its socket is there a moment before."""
        import libvirt

        try:
            with self.libvirt():
                return True
        except libvirt.libvirtError:
            return False

    def console(self, uuid: str) -> str:
        """Everything that a guest wrote to its serial console."""
        file = self.path(f"/var/log/libvirt/qemu/{uuid}-console.log")
        return file.read_text(errors="replace") if file.exists() else ""

    def restart_libvirtd(self, hold: float = 0.0) -> None:
        """Ends it; it comes back by itself, after a pause."""
        hold_file = self.path("/run/hold")
        if hold:
            hold_file.touch()
        pid_file = self.path("/run/libvirtd.pid")
        self.run_as("root", "kill", "-TERM", pid_file.read_text().strip())
        if hold:
            time.sleep(hold)
            hold_file.unlink()

    def qemu(self, name: str) -> int:
        """A guest's QEMU, as a process from outside."""
        found = subprocess.run(["pgrep", "-f", f"guest={name},"], capture_output=True, text=True, check=True)
        return int(found.stdout.split()[0])


def accounts(folder: Path) -> None:
    """The host's passwd and group."""
    passwd = Path("/etc/passwd").read_text()
    group = Path("/etc/group").read_text()
    passwd += f"hvd:x:{HVD_UID}:{HVD_UID}::/:/bin/sh\n"
    group += f"hvd:x:{HVD_UID}:\n"
    members: dict[str, list[str]] = {name: [] for name in GROUPS}
    members["libvirtd"] = ["hvd"]
    # systemd gives hvd its socket; here it makes it itself, and may give it to a group that it is in.
    members["hv-users"] = ["hvd"]
    for number, (name, roles) in enumerate(PEOPLE.items()):
        uid = FIRST_UID + number
        passwd += f"{name}:x:{uid}:{uid}::/:/bin/sh\n"
        group += f"{name}:x:{uid}:\n"
        for role in roles:
            members[role].append(name)
            members["hv-users"].append(name)
    for number, (name, people) in enumerate(members.items()):
        group += f"{name}:x:{HVD_UID + 100 + number}:{','.join(people)}\n"
    (folder / "passwd").write_text(passwd)
    (folder / "group").write_text(group)


def give_firmware(host: BrokerHost) -> None:
    """What nix/modules/virtualization gives QEMU, made by the same script of Debian's firmware."""
    firmware = host.path("/etc/qemu/firmware")
    firmware.mkdir()
    for description in Path("/usr/share/qemu/firmware").glob("*x86_64*.json"):
        shutil.copy(description, firmware)
    done = host.run_as("root", "sh", str(UEFI_VARIABLES), "/etc/qemu", "/var/lib/libvirt/uefi")
    assert done.status == 0 and list(firmware.glob("*-qcow2.json")), done.err


def opened() -> tuple[str, ...]:
    """The number of outermost folders that let others not through, these, and what of ours is in them."""
    needed = sorted({REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)})
    outermost = {
        path: [each for each in path.parents if not each.stat().st_mode & 0o001][-1:] for path in needed
    }
    closed = sorted({str(each) for found in outermost.values() for each in found})
    return (str(len(closed)), *closed, *(str(path) for path in needed if outermost[path]))


@contextmanager
def broker_host(**settings: Any) -> Iterator[BrokerHost]:
    """A host, until it is no longer needed."""
    folder = Path(tempfile.mkdtemp(prefix="broker-"))
    folder.chmod(0o755)
    accounts(folder)
    conf = folder / "private/etc/libvirt"
    conf.mkdir(parents=True)
    (conf / "libvirtd.conf").write_text(LIBVIRTD)
    (folder / "private/var/lib/libvirt/images").mkdir(parents=True)
    (folder / "private/var/lib/libvirt/images").chmod(0o711)
    with (folder / "libvirtd.log").open("wb") as log:
        first = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                START,
                "sh",
                str(folder),
                *opened(),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    host: BrokerHost | None = None
    try:
        socket = folder / "private/run/libvirt/libvirt-sock"
        wait_for("libvirtd's socket", lambda: socket.exists() or first.poll() is not None)
        assert first.poll() is None, (folder / "libvirtd.log").read_text()
        host = BrokerHost(folder, int(children.read_text().split()[0]), dict(settings))
        wait_for("libvirtd's answer", host.answers)
        with host.libvirt() as connection:
            connection.storagePoolDefineXML(POOL).create()
            connection.networkDefineXML(NETWORK).create()
            if connection.getLibVersion() >= UEFI_SINCE:
                give_firmware(host)
        host.start()
        yield host
    finally:
        for process in (host.hvd, host.hostd) if host else ():
            if process is not None:
                process.kill()
                process.wait()
        first.kill()
        first.wait()
        shutil.rmtree(folder, ignore_errors=True)
