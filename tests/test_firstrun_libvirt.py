"""The jobs against a real libvirtd: pool, network, and a guest that boots.

Each libvirtd lives in namespaces of its own (mounts, network, processes) with fresh state, so that nothing of the
machine's own libvirt is seen or changed. Guests are emulated.
"""

import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hv.commands import firstrun
from hv.firstrun.catalogue import jobs_of
from hv.firstrun.domain import domain_uuid
from hv.firstrun.engine import Engine
from hv.firstrun.state import JobState, StateFolder, Status
from hv.firstrun.world import Journal, World
from installer.errors import Exit
from installer.execute.log import Log, Redactor
from installer.execute.runner import Finished, Runner
from installer.handoff import Expectations, Handoff, HandoffVm
from tests.lab.bootsector import boot_disk

MARKER = "MARK first-run-guest"
MIB = 1024**2
PATIENCE = 120.0
"""Seconds for libvirtd to answer and for a guest to boot; quiet: 1 and 2."""
ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
"""Head of /proc/net/route."""
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
START = """
set -eu
for name in etc/libvirt var/lib/libvirt var/cache/libvirt var/log/libvirt run; do
    mkdir -p "$1/private/$name" "/$name"
    mount --bind "$1/private/$name" "/$name"
done
# Devices without KVM: the same on every machine, and where KVM is there but broken libvirt would ask QEMU anew at
# every call.
mkdir "$1/private/dev"
mount -t tmpfs -o mode=755 dev "$1/private/dev"
cd "$1/private/dev"
for name in null zero full random urandom tty; do cp -a "/dev/$name" .; done
mkdir net pts shm
mknod net/tun c 10 200
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd
cd /
umount --lazy --recursive /dev || true # QEMU's own namespace takes along what is mounted there, seen or covered
mount --move "$1/private/dev" /dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
ip link set lo up
mkdir /run/libvirt
virtlogd --daemon
libvirtd &
wait $!
"""
"""Runs as the first process of the namespaces: it stays, to take in what orphans leave."""

pytestmark = pytest.mark.libvirt


@dataclass(frozen=True)
class Host:
    """A host to be: a folder for its files, and its libvirtd."""

    root: Path
    uri: str
    daemon: subprocess.Popen[bytes]

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def world(self, **changes: Any) -> World:
        runner = Runner(Log(self.root / "log", Redactor()), os.environ["PATH"])
        return replace(World(programs=runner, root=self.root, uri=self.uri), **changes)

    def engine(self, handoff: Handoff, world: World | None = None) -> Engine:
        # What the hardware is makes no difference to libvirt's jobs.
        jobs = [job for job in jobs_of(handoff) if job.name != "hardware"]
        states = StateFolder(self.path("/var/lib/hyper-nixos/firstrun"))
        return Engine(jobs, handoff, world or self.world(), states)

    def forget(self) -> None:
        """As if nothing had been done."""
        for file in self.path("/var/lib/hyper-nixos/firstrun").glob("*.json"):
            file.unlink()

    @contextmanager
    def connection(self) -> Iterator[Any]:
        opened = libvirt.open(self.uri)
        try:
            yield opened
        finally:
            opened.close()

    def console(self, name: str) -> str:
        file = self.path(f"/var/log/libvirt/qemu/{name}-console.log")
        return file.read_text(errors="replace") if file.exists() else ""


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(0.1)


@pytest.fixture
def host() -> Iterator[Host]:
    # Not pytest's own folder, which only root may enter: QEMU is not root.
    folder = Path(tempfile.mkdtemp(prefix="firstrun-"))
    folder.chmod(0o711)
    root = folder / "root"
    routes = root / "proc/net/route"
    routes.parent.mkdir(parents=True)
    routes.write_text(ROUTES)
    (root / "etc/nixos").mkdir(parents=True)
    (root / "etc/nixos/flake.nix").write_text("{ outputs = _: { }; }\n")
    socket = folder / "private/run/libvirt/libvirt-sock"
    with (folder / "libvirtd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [*NAMESPACES, "sh", "-c", START, "sh", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    there = Host(root, f"qemu:///system?socket={socket}", daemon)
    try:
        wait_for("libvirtd's socket", lambda: socket.exists() or daemon.poll() is not None)
        assert daemon.poll() is None, (folder / "libvirtd.log").read_text()
        yield there
    finally:
        daemon.kill()  # unshare(1) ignores the polite way; its child, and with it all others, goes along
        daemon.wait()
        shutil.rmtree(folder)


@pytest.fixture
def image(host: Host) -> Path:
    file = host.path("/var/lib/hyper-nixos/images/tiny.raw")
    file.parent.mkdir(parents=True)
    file.write_bytes(boot_disk(MARKER))
    return file


def vm(image: Path, root: Path, **changes: object) -> HandoffVm:
    given: dict[str, object] = {
        "name": "tiny",
        "image": f"/{image.relative_to(root)}",
        "image_format": "raw",
        "image_sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
        "memory": 64 * MIB,
        "vcpus": 1,
        "disk_size": 8 * MIB,
        "network": "default",
        "firmware": "bios",
        "autostart": True,
        "start": True,
    }
    return HandoffVm.model_validate(given | changes)


def handoff(*vms: HandoffVm, **changes: object) -> Handoff:
    given: dict[str, object] = {
        "hostname": "lab",
        "grow": None,
        "expectations": Expectations(virtualization="ready", iommu="on"),
        "pool": "/var/lib/libvirt/images",
        "vms": vms,
        "phase": "setup",
        "administrators": ("ada",),
    }
    return Handoff.model_validate(given | changes)


def by_name(states: Sequence[JobState]) -> dict[str, JobState]:
    return {state.job: state for state in states}


def trouble(states: Sequence[JobState]) -> dict[str, str]:
    """Everything that is not settled, with why."""
    return {
        state.job: f"{state.status}: {state.error or state.reason}"
        for state in states
        if state.status not in (Status.done, Status.skipped)
    }


def everything(connection: Any) -> dict[str, str]:
    """All definitions that libvirt keeps, running and not, by kind and name."""
    filling = re.compile(r"<(capacity|allocation|available) .*")
    kept = {
        f"pool {one.name()}": filling.sub("", one.XMLDesc(0)) for one in connection.listAllStoragePools(0)
    }
    kept |= {f"network {one.name()}": one.XMLDesc(0) for one in connection.listAllNetworks(0)}
    for one in connection.listAllDomains(0):
        kept[f"domain {one.name()}"] = one.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        kept[f"running {one.name()}"] = f"{one.ID()} {one.XMLDesc(0)}"
    return kept


def test_from_nothing_to_a_guest_that_runs(host: Host, image: Path) -> None:
    wanted = handoff(vm(image, host.root))
    states = host.engine(wanted).run()
    assert trouble(states) == {}
    assert "emulated" in by_name(states)["vm-tiny"].warnings[0], "no /dev/kvm below this root"
    wait_for("the guest's marker", lambda: MARKER in host.console("tiny"))
    with host.connection() as connection:
        pool = connection.storagePoolLookupByName("default")
        network = connection.networkLookupByName("default")
        domain = connection.lookupByName("tiny")
        assert pool.isActive() and pool.autostart() and network.isActive() and network.autostart()
        assert domain.isActive() and domain.autostart()
        assert domain.UUIDString() == domain_uuid("lab", "tiny")
        volume = pool.storageVolLookupByName("tiny.qcow2")
        assert volume.info()[1] == 8 * MIB
        before = everything(connection)
        disk = Path(volume.path())
    assert disk.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in disk.parent.iterdir()] == ["tiny.qcow2"]

    # Everything once more, as if nothing were known: not a definition changes, the guest is not even restarted.
    host.forget()
    inode = disk.stat().st_ino
    assert trouble(host.engine(wanted).run()) == {}
    with host.connection() as connection:
        assert everything(connection) == before
    assert disk.stat().st_ino == inode
    assert host.console("tiny").count(MARKER) == 1


def test_a_host_that_was_installed_anew_starts_the_guest_that_it_kept(host: Host, image: Path) -> None:
    wanted = handoff(vm(image, host.root))
    assert trouble(host.engine(wanted).run()) == {}
    with host.connection() as connection:
        connection.lookupByName("tiny").destroy()
        before = everything(connection)
        disk = Path(
            connection.storagePoolLookupByName("default").storageVolLookupByName("tiny.qcow2").path()
        )
    inode = disk.stat().st_ino
    # What a reinstallation takes away.
    shutil.rmtree(host.path("/var/lib/hyper-nixos/firstrun"))
    shutil.rmtree(host.path("/var/log/libvirt"))
    assert trouble(host.engine(wanted).run()) == {}
    wait_for("the guest's marker", lambda: MARKER in host.console("tiny"))
    with host.connection() as connection:
        after = everything(connection)
    assert after["domain tiny"] == before["domain tiny"]
    assert disk.stat().st_ino == inode


def test_uefi_guest_gets_its_firmware(host: Host, image: Path) -> None:
    wanted = handoff(vm(image, host.root, firmware="uefi", network=None, autostart=False, memory=256 * MIB))
    assert trouble(host.engine(wanted).run()) == {}
    with host.connection() as connection:
        domain = connection.lookupByName("tiny")
        assert domain.isActive() and not domain.autostart()
        running = domain.XMLDesc(0)
        assert "OVMF" in running and "pflash" in running and "<nvram" in running


def test_not_started_unless_asked(host: Host, image: Path) -> None:
    assert trouble(host.engine(handoff(vm(image, host.root, start=False))).run()) == {}
    with host.connection() as connection:
        assert not connection.lookupByName("tiny").isActive()


def test_command_line_end_to_end(host: Host, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = handoff(vm(image, host.root))
    host.path("/var/lib/hyper-nixos/handoff.json").write_text(record.model_dump_json())

    def hv(*words: str) -> int:
        return firstrun.main(["--root", str(host.root), "--connect", host.uri, *words])

    hv("skip", "hardware", "--reason", "a folder has none")
    image.rename(image.with_suffix(".away"))
    assert hv("run") == Exit.step
    assert "vm-tiny: FAILED" in capsys.readouterr().out
    image.with_suffix(".away").rename(image)
    assert hv("retry", "vm-tiny") == Exit.ok
    said = capsys.readouterr().out
    assert "vm-tiny: checked: tiny (qemu) runs" in said and "pool:" not in said
    assert hv("status") == Exit.ok


# What goes wrong, and how it is said.


def failed(host: Host, wanted: Handoff, job: str) -> JobState:
    found = by_name(host.engine(wanted).run())
    assert found[job].status is Status.failed, found[job]
    assert found[job].error is not None
    return found[job]


def test_broken_image_is_refused(host: Host, image: Path) -> None:
    wanted = handoff(vm(image, host.root), vm(image, host.root, name="second"))
    image.write_bytes(image.read_bytes()[:-1] + b"\1")
    state = failed(host, wanted, "vm-tiny")
    assert state.error is not None and "not the one that was asked for" in state.error.what
    assert hashlib.sha256(image.read_bytes()).hexdigest() in state.error.why
    assert state.attempts == 1, "the hash will not change by itself"
    assert not any(host.path("/var/lib/libvirt/images").iterdir())
    with host.connection() as connection:
        assert connection.listAllDomains(0) == []


def test_image_that_reaches_for_other_files_is_refused(host: Host, image: Path) -> None:
    layered = image.with_name("layered.qcow2")
    subprocess.run(
        ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(layered)), check=True
    )
    state = failed(host, handoff(vm(layered, host.root, image_format="qcow2")), "vm-tiny")
    assert state.error is not None and str(image) in state.error.why


def test_image_of_another_format_is_refused(host: Host, image: Path) -> None:
    state = failed(host, handoff(vm(image, host.root, image_format="qcow2")), "vm-tiny")
    assert state.error is not None and "not in qcow2 format" in state.error.why


def test_foreign_disk_is_not_overwritten(host: Host, image: Path) -> None:
    theirs = host.path("/var/lib/libvirt/images/tiny.qcow2")
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"precious")
    state = failed(host, handoff(vm(image, host.root)), "vm-tiny")
    assert state.error is not None and "not ours" in state.error.what
    assert theirs.read_bytes() == b"precious"


def test_foreign_guest_of_that_name_is_left_alone(host: Host, image: Path) -> None:
    with host.connection() as connection:
        theirs = connection.defineXML(
            "<domain type='qemu'><name>tiny</name><memory>65536</memory><os><type>hvm</type></os></domain>"
        ).UUIDString()
    state = failed(host, handoff(vm(image, host.root)), "vm-tiny")
    assert state.error is not None and theirs in state.error.why
    with host.connection() as connection:
        assert connection.lookupByName("tiny").UUIDString() == theirs


def test_unknown_network_is_named(host: Host, image: Path) -> None:
    state = failed(host, handoff(vm(image, host.root, network="dmz")), "vm-tiny")
    assert state.error is not None and "'dmz'" in state.error.why


def test_pool_on_a_read_only_file_system(host: Host, image: Path) -> None:
    folder = host.path("/var/lib/libvirt/images")
    folder.mkdir(parents=True)
    subprocess.run(("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)), check=True)
    try:
        states = by_name(host.engine(handoff(vm(image, host.root))).run())
    finally:
        subprocess.run(("umount", str(folder)), check=True)
    assert states["pool"].status is Status.failed and states["network"].status is Status.done
    assert states["vm-tiny"].status is Status.waiting and states["vm-tiny"].reason == "needs pool"
    assert states["pool"].error is not None and "Read-only file system" in states["pool"].error.why


def test_pool_elsewhere_is_not_moved(host: Host) -> None:
    assert trouble(host.engine(handoff()).run()) == {}
    host.forget()
    state = failed(host, handoff(pool="/srv/guests"), "pool")
    assert state.error is not None
    assert "/var/lib/libvirt/images" in state.error.why and "/srv/guests" in state.error.why


def test_taken_subnet_gives_way_to_the_next(host: Host) -> None:
    # 192.168.122.0/24 and 192.168.123.0/24, as the kernel writes them on a little-endian machine.
    host.path("/proc/net/route").write_text(
        ROUTES
        + "eth0\t00000000\t017AA8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        + "eth0\t007AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        + "eth1\t007BA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    states = by_name(host.engine(handoff()).run())
    assert "192.168.122.0/24 is taken" in states["network"].warnings[0]
    assert "192.168.124.0/24" in states["network"].warnings[0]
    with host.connection() as connection:
        assert "192.168.124.1" in connection.networkLookupByName("default").XMLDesc(0)


def test_defined_network_moves_only_when_it_must(host: Host) -> None:
    """NixOS brings `default` along, defined and inactive."""
    with host.connection() as connection:
        connection.networkDefineXML(
            "<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>"
            "<ip address='192.168.122.1' netmask='255.255.255.0'/></network>"
        )
        uuid = connection.networkLookupByName("default").UUIDString()
    assert trouble(host.engine(handoff()).run()) == {}
    with host.connection() as connection:
        network = connection.networkLookupByName("default")
        assert network.UUIDString() == uuid and "192.168.122.1" in network.XMLDesc(0)
        network.destroy()
    host.forget()
    host.path("/proc/net/route").write_text(ROUTES + "e\t007AA8C0\t0\t1\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
    assert trouble(host.engine(handoff()).run()) == {}
    with host.connection() as connection:
        network = connection.networkLookupByName("default")
        assert network.UUIDString() == uuid and "192.168.123.1" in network.XMLDesc(0)


@dataclass(frozen=True)
class WithoutKvm:
    """Programs of a machine whose KVM is there but does not work."""

    real: Runner

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
    ) -> Finished:
        if "kvm" in argv:
            return Finished(tuple(argv), -6, b"", "failed to set MSR", 0.1)
        return self.real.run(argv, stdin=stdin, timeout=timeout, check=check)


def test_kvm_that_does_not_work_is_not_used(host: Host, image: Path) -> None:
    host.path("/dev").mkdir()
    host.path("/dev/kvm").touch()
    runner = Runner(Log(host.root / "log", Redactor()), os.environ["PATH"])
    world = host.world(programs=WithoutKvm(runner))
    states = host.engine(handoff(vm(image, host.root)), world).run()
    assert trouble(states) == {}
    assert "KVM cannot be used" in by_name(states)["vm-tiny"].warnings[0]
    with host.connection() as connection:
        assert "<domain type='qemu'" in connection.lookupByName("tiny").XMLDesc(0)


# Power cuts.


@dataclass
class Fuse:
    """Kills its process the moment the given number of effects would be passed."""

    left: int

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Fused:
    """Anything of libvirt's, where every call burns."""

    real: Any
    fuse: Fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            self.fuse.burn()
            bare = [argument.real if isinstance(argument, Fused) else argument for argument in arguments]
            return self._wrap(found(*bare))

        return call

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._wrap(one) for one in value]
        return Fused(value, self.fuse) if type(value).__module__ == "libvirt" else value


@dataclass(frozen=True)
class FusedPrograms:
    """Programs, each of which burns before and after."""

    real: Runner
    fuse: Fuse

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
    ) -> Finished:
        self.fuse.burn()
        done = self.real.run(argv, stdin=stdin, timeout=timeout, check=check)
        self.fuse.burn()
        return done


class FusedWorld(World):
    """A world whose power goes."""

    @contextmanager
    def libvirt(self) -> Iterator[Any]:
        assert isinstance(self.programs, FusedPrograms)
        with super().libvirt() as connection:
            yield Fused(connection, self.programs.fuse)


def run_until_the_cut(host: Host, wanted: Handoff, effects: int) -> None:
    fuse = Fuse(effects)
    runner = Runner(Log(host.root / "log", Redactor()), os.environ["PATH"])
    world = FusedWorld(
        programs=FusedPrograms(runner, fuse),
        root=host.root,
        uri=host.uri,
        journal=Journal(emit=lambda _: fuse.burn()),
    )
    engine = replace(host.engine(wanted, world), changed=lambda _: fuse.burn())
    os._exit(0 if trouble(engine.run()) == {} else 1)


def test_power_cuts_at_every_step_of_every_job(host: Host, image: Path) -> None:
    wanted = handoff(vm(image, host.root))
    fork, cuts, effects, settled = multiprocessing.get_context("fork"), 0, 0, 0
    cut_jobs: set[str] = set()
    while True:
        child = fork.Process(target=run_until_the_cut, args=(host, wanted, effects))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode in (0, -signal.SIGKILL), trouble(host.engine(wanted).all_states())
        if child.exitcode == 0:
            break
        cuts += 1
        states = host.engine(wanted).all_states()
        cut_jobs |= {state.job for state in states if state.status is Status.running}
        # One effect more each time, counted anew when a job got through: so each is cut at each of its steps.
        now_settled = sum(state.status in (Status.done, Status.skipped) for state in states)
        effects = 0 if now_settled > settled else effects + 1
        settled = now_settled
    assert cut_jobs == {"libvirt", "pool", "network", "vm-tiny", "certificate", "backup"}
    assert cuts > 40, "fewer effects than these jobs have"
    wait_for("the guest's marker", lambda: MARKER in host.console("tiny"))
    assert host.console("tiny").count(MARKER) == 1, "the guest was started once"
    assert [file.name for file in host.path("/var/lib/libvirt/images").iterdir()] == ["tiny.qcow2"]
    with host.connection() as connection:
        assert sorted(everything(connection)) == [
            *("domain tiny", "network default", "pool default", "running tiny"),
        ]
        before = everything(connection)
    host.forget()
    assert trouble(host.engine(wanted).run()) == {}
    with host.connection() as connection:
        assert everything(connection) == before
