"""hvd and hv-hostd as systemd runs them: the evaluated units, sandbox and all, in a container with a real systemd.

libvirt is its own test driver here: what is tried is that the sandbox lets the broker do its work and nothing else.
"""

import json
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import FIRST_UID, PEOPLE, accounts
from tests.network.machine import NSPAWN
from tests.nixeval import services
from tests.nixeval.nix import REPOSITORY

pytestmark = pytest.mark.nspawn
PATIENCE = 60.0
SOCKETS = {
    "hvd": "[Socket]\nListenStream=/run/hvd/hvd.sock\nDirectoryMode=0755\nSocketUser=hvd\nSocketGroup=hv-users\nSocketMode=0660\n",
    "hv-hostd": "[Socket]\nListenStream=/run/hv-hostd/hv-hostd.sock\nDirectoryMode=0755\nSocketUser=hvd\nSocketMode=0600\n",
}
"""As nix/modules/privileges/broker.nix has them."""
TREE = Path("/srv/hyper-nixos")
"""This checkout, in the container."""
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""Of the test driver's guest `test`."""


def python() -> str:
    """An interpreter that everybody may run: not one in somebody's home."""
    used = str(Path(sys.executable).resolve())
    return f"/usr/bin/python3.{sys.version_info.minor}" if used.startswith(("/root/", "/home/")) else used


def python_path() -> str:
    """Where the container's programs find this checkout and its packages: units see nobody's home, and it may be in one."""
    packages = Path(sysconfig.get_path("purelib"))
    within = packages.is_relative_to(REPOSITORY)
    return f"{TREE / packages.relative_to(REPOSITORY) if within else packages}:{TREE}"


def unit(name: str, module: str) -> str:
    """The evaluated unit with this checkout's program."""
    text = services.committed()[f"host/{name}.service"]
    words = f"{python()} -m {module}" + (" --connect test:///default" if name == "hvd" else "")
    text = re.sub(r"^ExecStart=.*$", f"ExecStart={words}", text, flags=re.MULTILINE)
    text = re.sub(r"^Environment=.*\n", "", text, flags=re.MULTILINE)
    paths = python_path()
    return text.replace(
        "[Service]\n", f"[Service]\nEnvironment=PYTHONPATH={paths} PYTHONDONTWRITEBYTECODE=1\n", 1
    )


class Container:
    """The host."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "root"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Build and boot it."""
        subprocess.run(("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.folder), check=True)
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir()
        layers = f"lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work"
        subprocess.run(("mount", "-t", "overlay", "-o", layers, "overlay", self.root), check=True)
        accounts(self.folder)
        units = self.root / "etc/systemd/system"
        subprocess.run(("rm", "-rf", units), check=True)
        units.mkdir()
        for name in ("passwd", "group"):
            (self.root / "etc" / name).write_text((self.folder / name).read_text())
        for name, module in (("hvd", "hv.daemon"), ("hv-hostd", "hv.hostd")):
            (units / f"{name}.service").write_text(unit(name, module))
            (units / f"{name}.socket").write_text(SOCKETS[name])
        target = "[Unit]\nRequires=sysinit.target sockets.target hvd.socket hv-hostd.socket\nAfter=sysinit.target sockets.target\n"
        (units / "default.target").write_text(target)
        logs = self.root / "var/log/libvirt/qemu"
        logs.mkdir(parents=True, exist_ok=True)
        logs.chmod(0o700)
        (logs / f"{UUID}-console.log").write_text("hello from a guest\n")
        (logs / f"{UUID}-console.log").chmod(0o600)
        console = (self.folder / "console").open("ab")
        command = (
            *NSPAWN,
            f"--bind-ro={REPOSITORY}:{TREE}",
            "--private-network",
            "--directory",
            str(self.root),
        )
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        end = time.monotonic() + PATIENCE
        while self.inside("systemctl", "is-active", "hvd.socket").stdout.strip() != "active":
            assert time.monotonic() < end, (self.folder / "console").read_text(errors="replace")
            time.sleep(0.2)

    def inside(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Something in it, as root."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return subprocess.CompletedProcess(argv, 1, "", "not yet")
        command = ("nsenter", "--target", children[0], "--all", "--wd=/", "--", *argv)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)

    def hv(self, who: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`hv` as somebody."""
        paths = f"PYTHONPATH={python_path()}"
        drop = ("setpriv", f"--reuid={who}", f"--regid={who}", "--init-groups")
        return self.inside(*drop, "env", "HOME=/", paths, python(), "-m", "hv", *words)

    def stop(self) -> None:
        """Take it down."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for path in (self.root, self.folder):
            subprocess.run(("umount", "--lazy", path), check=False, capture_output=True)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with tempfile.TemporaryDirectory(prefix="hvd-", ignore_cleanup_errors=True) as folder:
        made = Container(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


def said(container: Container) -> str:
    return container.inside("journalctl", "--no-pager", "--lines=60").stdout


def test_the_first_caller_starts_the_broker_and_is_known(container: Container) -> None:
    who = container.hv("ada", "auth", "whoami")
    assert who.returncode == 0 and who.stdout.startswith(f"ada (user id {FIRST_UID})"), who.stderr + said(
        container
    )
    assert container.inside("systemctl", "is-active", "hvd.service").stdout == "active\n", (
        "it said that it was ready"
    )
    assert container.hv("bob", "auth", "whoami").returncode == 10
    assert sorted(PEOPLE)[0] == "ada"


def test_it_sees_guests_and_writes_its_trail(container: Container) -> None:
    assert "test" in container.hv("vic", "vm", "list").stdout, said(container)
    assert container.hv("eve", "vm", "stop", "test", "--force").returncode == 10
    trail = container.hv("audra", "auth", "log", "--json")
    assert trail.returncode == 0, trail.stderr + said(container)
    assert json.loads(trail.stdout)["rows"][-1]["outcome"] == "denied"
    done = container.hv("oscar", "vm", "stop", "test", "--force")
    assert done.returncode == 0 and "stopped" in done.stdout, done.stderr + said(container)


def test_its_helper_reads_what_it_may_not(container: Container) -> None:
    logs = container.hv("oscar", "vm", "logs", "test")
    assert logs.stdout == "hello from a guest\n", logs.stderr + said(container)
    # Its verdict on a card is about the host's network, which it has to see, and cannot speak in.
    pid = container.inside(
        "systemctl", "show", "--property=MainPID", "--value", "hv-hostd.service"
    ).stdout.strip()
    spaces = container.inside("readlink", f"/proc/{pid}/ns/net", "/proc/1/ns/net").stdout.split()
    assert len(spaces) == 2 and spaces[0] == spaces[1]
    for path in (f"/var/log/libvirt/qemu/{UUID}-console.log", "/etc/shadow"):
        drop = ("setpriv", "--reuid=hvd", "--regid=hvd", "--init-groups")
        assert container.inside(*drop, "cat", path).returncode != 0


def test_it_is_held_in_its_sandbox(container: Container) -> None:
    pid = container.inside(
        "systemctl", "show", "--property=MainPID", "--value", "hvd.service"
    ).stdout.strip()
    status = container.inside("cat", f"/proc/{pid}/status").stdout
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert re.search(r"^Seccomp:\s+2$", status, re.M)
    links = container.inside("nsenter", "--target", pid, "--net", "ip", "-brief", "link").stdout
    assert [line.split()[0] for line in links.splitlines()] == ["lo"]
    writes = container.inside("nsenter", "--target", pid, "--mount", "touch", "/var/lib/libvirt/images/x")
    assert "Read-only" in writes.stderr


def test_it_stops_and_comes_back_with_what_it_knew(container: Container) -> None:
    before = json.loads(container.hv("audra", "auth", "log", "--json").stdout)["rows"]
    container.inside("systemctl", "restart", "hvd.service")
    after = json.loads(container.hv("audra", "auth", "log", "--json").stdout)
    assert after["whole"] and after["rows"][: len(before)] == before
    failed = container.inside("systemctl", "list-units", "--failed", "--plain", "--no-legend", "hv*").stdout
    assert failed == ""
