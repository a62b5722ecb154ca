"""Bringing an image is an operation: broker, libvirt and sender are killed in the middle of it, it is cancelled, runs out
of time, and nobody sends; it goes on, or ends with the reason, and nothing of it is left.
"""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hv.commands import image
from hv.vm.qcow2 import HEAD
from tests.broker import PATIENCE, BrokerHost, broker_host, wait_for
from tests.file_server import Mirror
from tests.lab.bootsector import boot_disk
from tests.test_images import Signer
from tests.test_vm_boundary import announced, sent, whole
from tests.test_vm_faults import libvirtd, start
from tests.test_vm_images import here, signed_template, vendor, web

__all__ = ["here", "vendor", "web"]
pytestmark = pytest.mark.libvirt
LARGE = 80 << 20
"""Bytes of the image: more than one segment, and long enough on its way to be met there."""
TRIES = 6
LEFT = "SELECT received FROM uploads"
TOLD = "SELECT status, message FROM operations WHERE"
RUNNING = "SELECT id FROM operations WHERE status = 'running' AND kind = 'image-import'"


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        made.folder.chmod(0o777)
        raw = made.folder / "large.raw"
        raw.write_bytes(boot_disk("MARK-large") + os.urandom(LARGE))
        for kind in ("qcow2", "vmdk"):
            convert = ("qemu-img", "convert", "-f", "raw", "-O", kind, raw, made.folder / f"large.{kind}")
            subprocess.run(convert, check=True)
        raw.unlink()
        (made.folder / "large.vmx").write_text(
            'displayName = "large"\nmemsize = "48"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "large.vmdk"\n'
            'ethernet0.present = "TRUE"\n'
        )
        yield made


@pytest.fixture(autouse=True)
def clean(host: BrokerHost) -> Iterator[None]:
    """Nothing of one test is there for the next."""
    yield
    tidy(host)


def tidy(host: BrokerHost) -> None:
    """Nothing is there any more, neither in the pool nor of what counts."""
    for (running,) in asked(host, RUNNING):
        host.hv("alma", "vm", "cancel", running)
    for name in host.hv("alma", "vm", "list", "--names").out.splitlines():
        host.hv("alma", "vm", "delete", name, "--disks", "--force")
    for row in host.hv("alma", "image", "list", "--json").json["images"]:
        host.hv("alma", "image", "delete", row["name"])
    wait_for("the pool to be empty", lambda: not list(pool(host).iterdir()))
    wait_for(
        "nothing to count",
        lambda: asked(host, "SELECT * FROM volumes UNION ALL SELECT *, 0, 0 FROM uploads") == [],
    )
    assert host.hv("audra", "auth", "log", "--json").json["whole"]


def large(host: BrokerHost) -> tuple[str, ...]:
    return ("image", "import", str(host.folder / "large.qcow2"))


def pool(host: BrokerHost) -> Path:
    return host.path("/var/lib/libvirt/images")


def asked(host: BrokerHost, query: str) -> list[Any]:
    """What the broker has written down, read past it."""
    with closing(sqlite3.connect(host.path("/var/lib/hvd/hvd.sqlite"), timeout=30)) as there:
        return there.execute(query).fetchall()


def ended(host: BrokerHost, identifier: str) -> dict[str, Any]:
    """An operation, when it has ended; it has one row in the trail."""
    rows = wait_for(
        "its end",
        lambda: [
            row
            for row in host.hv("alma", "vm", "operations", "--json").json["operations"]
            if row["id"] == identifier and row["ended"]
        ],
    )
    trail = host.hv("audra", "auth", "log", "--json").json["rows"]
    assert [row["outcome"] for row in trail if row["operation"] == identifier] == [rows[0]["status"]]
    found: dict[str, Any] = rows[0]
    return found


@dataclass(frozen=True)
class Running:
    """A command that brings the large image, meanwhile."""

    wait: Callable[[], tuple[int, str]]
    """For its end: its status, and what it said."""
    process: "subprocess.Popen[str] | None" = None

    def end(self, number: signal.Signals) -> None:
        """Send `hv` itself a signal, which nsenter has started inside."""
        assert self.process is not None
        pid = self.process.pid
        os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), number)


def met(
    host: BrokerHost, begin: Callable[[], Running], meanwhile: Callable[[], bool]
) -> tuple[Running, str]:
    """Begin, and wait until the image is in the middle of that, with hvd stopped there; its operation. On a busy machine it may
    be over before anybody looks: then once more.
    """
    for _ in range(TRIES):
        running = begin()
        if (operation := stopped_there(host, meanwhile)) is not None:
            return running, operation
        running.wait()
        tidy(host)
    raise AssertionError(f"{TRIES} times it was over before it was met")


def stopped_there(host: BrokerHost, meanwhile: Callable[[], bool]) -> str | None:
    assert host.hvd is not None
    end = time.monotonic() + PATIENCE
    while not asked(host, f"SELECT name FROM images WHERE size >= {LARGE}"):
        assert time.monotonic() < end, "no image came"
        if meanwhile():
            # nsenter, which started it in no namespace of processes, became it.
            os.kill(host.hvd.pid, signal.SIGSTOP)
            if running := asked(host, RUNNING):
                return str(running[0][0])
            os.kill(host.hvd.pid, signal.SIGCONT)
        time.sleep(0.001)
    return None


def goes_on(host: BrokerHost) -> None:
    """hvd does."""
    assert host.hvd is not None
    os.kill(host.hvd.pid, signal.SIGCONT)


def comes(host: BrokerHost) -> Callable[[], bool]:
    """The volume is there, and not all that shall be in it."""
    return lambda: any(path.stat().st_blocks for path in pool(host).iterdir())


def read_back(host: BrokerHost) -> Callable[[], bool]:
    """All was sent, its sender waits for the end, and it is no image yet."""
    return lambda: bool(asked(host, f"{TOLD} status = 'running' AND message = 'reading it back'"))


def partly(host: BrokerHost) -> Callable[[], bool]:
    """Some of it is there for certain."""
    return lambda: any(received > 1 << 20 for (received,) in asked(host, LEFT))


def as_somebody(host: BrokerHost, *words: str) -> Running:
    """A command of ada's."""
    process = start(host, "ada", words)

    def wait() -> tuple[int, str]:
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out + err

    return Running(wait, process)


def in_this_process(*words: str) -> Running:
    """`hv image` with what this process has put in the place of templates."""
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(image.main(list(words))))
    thread.start()

    def wait() -> tuple[int, str]:
        thread.join(PATIENCE)
        return (status or [-1])[0], ""

    return Running(wait)


@pytest.fixture
def template(host: BrokerHost, vendor: Signer, web: Mirror, here: pytest.MonkeyPatch) -> str:
    """One that this process knows, whose image is the large one."""
    signed_template(vendor, web, here, (host.folder / "large.qcow2").read_bytes())
    return "mine"


@pytest.mark.parametrize(
    ("command", "moment"),
    [("import", comes), ("import", read_back), ("pull", comes), ("vm import", comes)],
)
def test_the_broker_is_killed_in_the_middle_and_it_goes_on(
    host: BrokerHost,
    template: str,
    command: str,
    moment: Callable[[BrokerHost], Callable[[], bool]],
) -> None:
    begin = {
        "import": lambda: as_somebody(host, *large(host)),
        "pull": lambda: in_this_process("pull", template, "--name", "large"),
        "vm import": lambda: as_somebody(
            host, "vm", "import", str(host.folder / "large.vmx"), "--network", "default"
        ),
    }
    running, operation = met(host, begin[command], moment(host))
    host.restart(kill=True)
    status, said = running.wait()
    assert status == 0, said
    assert ended(host, operation)["status"] == "succeeded"
    rows = host.hv("alma", "image", "list", "--json").json["images"]
    assert len(rows) == 1 and rows[0]["volume"].startswith(operation)
    assert [path.name for path in pool(host).iterdir() if "image" in path.name] == [rows[0]["volume"]]
    stored = pool(host) / rows[0]["volume"]
    compare = ("qemu-img", "compare", "-q", stored, host.folder / "large.qcow2")
    assert subprocess.run(compare, check=False).returncode == 0
    if command == "vm import":
        assert host.hv("ada", "vm", "list", "--names").out == "large\n"


@pytest.mark.parametrize("moment", [comes, read_back])
def test_libvirtd_is_killed_in_the_middle_and_it_goes_on(
    host: BrokerHost, moment: Callable[[BrokerHost], Callable[[], bool]]
) -> None:
    running, operation = met(host, lambda: as_somebody(host, *large(host)), moment(host))
    os.kill(libvirtd(host), signal.SIGKILL)
    goes_on(host)
    status, said = running.wait()
    assert status == 0, said
    assert ended(host, operation)["status"] == "succeeded"
    wait_for("libvirtd to be back", host.answers)


def test_both_are_killed_and_libvirt_comes_back_last(host: BrokerHost) -> None:
    """As when a host is started anew."""
    running, operation = met(host, lambda: as_somebody(host, *large(host)), partly(host))
    hold = host.path("/run/hold")
    hold.touch()
    os.kill(libvirtd(host), signal.SIGKILL)
    host.restart(kill=True)
    wait_for(
        "what is taken up again", lambda: f"{operation} image-import of large is taken up" in host.log()
    )
    hold.unlink()
    status, said = running.wait()
    assert status == 0, said
    assert ended(host, operation)["status"] == "succeeded"
    wait_for("libvirtd to be back", host.answers)


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGKILL, partly), (signal.SIGHUP, partly), (signal.SIGTERM, read_back)],
)
def test_a_sender_that_was_ended_goes_on_where_it_was(
    host: BrokerHost, number: signal.Signals, moment: Callable[[BrokerHost], Callable[[], bool]]
) -> None:
    running, operation = met(host, lambda: as_somebody(host, *large(host)), moment(host))
    running.end(number)
    running.wait()
    goes_on(host)
    assert list(host.folder.glob("hv-image-*")) == []
    if moment is partly:
        wait_for(
            "it to tell how far it is", lambda: asked(host, f"{TOLD} id = '{operation}' AND percent > 0")
        )
        ((status, message),) = asked(host, f"{TOLD} id = '{operation}'")
        assert status == "running" and message.endswith("are here")
        host.hv("ada", *large(host))
    assert ended(host, operation)["status"] == "succeeded"
    assert host.hv("ada", "image", "list", "--json").json["images"][0]["volume"].startswith(operation)


def test_ctrl_c_cancels_it(host: BrokerHost) -> None:
    running, operation = met(host, lambda: as_somebody(host, *large(host)), comes(host))
    running.end(signal.SIGINT)
    goes_on(host)
    status, said = running.wait()
    assert status and "was cancelled" in said, said
    assert ended(host, operation)["status"] == "cancelled"


@pytest.fixture
def half(host: BrokerHost, tmp_path: Path) -> str:
    """An upload whose sender is gone."""
    data = whole(tmp_path)
    status, answer = announced(host, data, name="half")
    assert status == 202 and sent(host, answer["operation"]["id"], data[:HEAD])[0] == 200
    return str(answer["operation"]["id"])


def written(host: BrokerHost, statement: str) -> None:
    """Something is as if time had passed."""
    with closing(sqlite3.connect(host.path("/var/lib/hvd/hvd.sqlite"), timeout=30)) as there, there:
        there.execute(statement)


def test_it_is_cancelled_by_its_id(host: BrokerHost, half: str) -> None:
    assert "would be cancelled" in host.hv("ada", "vm", "cancel", half, "--dry-run").out
    assert host.hv("ada", "vm", "cancel", half).out == "image-import of half: cancelled\n"
    assert ended(host, half)["error"]["title"] == "image-import of half was cancelled."
    assert "image-import of half was cancelled" in host.hv("ada", "vm", "wait", half, status=6).err


@pytest.mark.parametrize("restarted", [False, True])
def test_its_time_runs_out(host: BrokerHost, half: str, restarted: bool) -> None:
    if restarted:
        host.stop(kill=True)
    written(host, "UPDATE operations SET deadline = created + 0.001 WHERE status = 'running'")
    if restarted:
        host.start()
    row = ended(host, half)
    assert row["status"] == "failed" and row["error"]["title"] == "image-import of half ran out of time."


def test_a_sender_that_does_not_come_back_is_not_waited_for(host: BrokerHost, half: str) -> None:
    written(host, "UPDATE uploads SET changed = changed - 7200")
    row = ended(host, half)
    assert row["status"] == "failed" and "no more came for 120 minutes" in row["error"]["detail"]


def test_what_is_on_its_way_counts(host: BrokerHost, tmp_path: Path) -> None:
    """What is announced counts from then on; what a guest will see counts as soon as the head tells it."""
    host.restart(user={"disk": 5 << 20})
    try:
        data = whole(tmp_path, "4M")
        status, answer = announced(host, data, name="one", length=3 << 20)
        assert status == 202
        status, other = announced(host, data, name="two", length=3 << 20)
        assert status == 429 and "5 MiB of disks" in other["detail"] and "hv vm disks" in other["remedy"]
        host.hv("ada", "vm", "cancel", answer["operation"]["id"])
        wait_for("its room", lambda: asked(host, "SELECT * FROM volumes") == [])
        data = whole(tmp_path, "9M")
        status, answer = announced(host, data, name="wide")
        operation = answer["operation"]["id"]
        status, answer = sent(host, operation, data)
        assert status == 429 and "5 MiB of disks" in answer["detail"]
        assert ended(host, operation)["error"]["type"] == answer["type"]
        # A file that is longer than what its guest sees counts with its length.
        data = whole(tmp_path, "1M").ljust(2 << 20, b"\0")
        status, answer = announced(host, data, name="long")
        assert sent(host, answer["operation"]["id"], data)[0] == 200
        assert ended(host, answer["operation"]["id"])["status"] == "succeeded"
        assert asked(host, "SELECT size FROM volumes") == [(2 << 20,)]
    finally:
        host.restart()


def two_disks(host: BrokerHost) -> Path:
    """A VM whose first disk is small and whose second one is large."""
    small = host.folder / "small.vmdk"
    subprocess.run(("qemu-img", "create", "-q", "-f", "vmdk", small, "1M"), check=True)
    both = host.folder / "both.vmx"
    large = (
        (host.folder / "large.vmx").read_text().replace("scsi0:0", "scsi0:1").replace('"large"', '"both"')
    )
    both.write_text(f'{large}scsi0:0.present = "TRUE"\nscsi0:0.fileName = "small.vmdk"\n')
    return both


def test_a_vm_whose_taking_over_was_ended_is_gone_on_with(host: BrokerHost) -> None:
    """The first disk is not brought again, and the second one goes on."""
    words = ("vm", "import", str(two_disks(host)), "--network", "default")
    running, operation = met(host, lambda: as_somebody(host, *words), partly(host))
    running.end(signal.SIGKILL)
    running.wait()
    goes_on(host)
    (first,) = host.hv("ada", "image", "list", "--json").json["images"]
    host.hv("ada", *words)
    rows = {row["name"]: row for row in host.hv("ada", "image", "list", "--json").json["images"]}
    assert rows.pop("both-disk0") == first
    assert rows["both-disk1"]["volume"].startswith(operation) and len(rows) == 1
    assert len(host.hv("ada", "vm", "show", "both", "--json").json["disks"]) == 2


def test_half_a_vm_is_not_taken_over(host: BrokerHost) -> None:
    """The second disk is refused: the first one goes too. What would be refused in any case is told before one byte is sent."""
    said = host.hv(
        "ada", "vm", "import", str(host.folder / "large.vmx"), "--network", "nowhere", status=4
    ).err
    assert "no network 'nowhere'" in said
    both = two_disks(host)
    host.restart(user={"disk": 8 << 20})
    try:
        said = host.hv("ada", "vm", "import", str(both), status=5).err
        assert "more disks than allowed" in said
        assert host.hv("ada", "image", "list", "--json").json["images"] == []
    finally:
        host.restart()


def test_what_would_be_refused_is_refused_before_a_disk_is_converted(host: BrokerHost) -> None:
    """The file is none that could be converted: nobody comes so far."""
    broken = host.folder / "broken.vmdk"
    broken.write_bytes(b"x")
    for who, words, status in (
        ("ada", ("--name", "a/b"), 2),
        ("ada", ("--pool", "nowhere"), 4),
        ("vic", (), 10),
        ("ada", ("--public",), 10),
    ):
        said = host.hv(who, "image", "import", str(broken), *words, status=status).err
        assert "broken.vmdk" not in said, said
    host.hv("vic", "image", "import", str(broken), "--dry-run", status=10)
    assert "no whole disk" in host.hv("ada", "image", "import", str(broken), status=5).err


def test_without_waiting_its_id_is_printed(host: BrokerHost, tmp_path: Path) -> None:
    small = host.folder / "quick.qcow2"
    subprocess.run(("qemu-img", "create", "-q", "-f", "qcow2", small, "1M"), check=True)
    operation = host.hv("ada", "image", "import", str(small), "--no-wait").out.strip()
    assert host.hv("ada", "vm", "wait", operation).out == "image-import of quick: succeeded\n"
    told = host.hv("ada", "vm", "wait", operation, "--json").json
    assert (told["version"], told["name"], told["size"]) == (1, "quick", 1 << 20)
    assert "lacks the permission" in host.hv("eve", "vm", "wait", operation, status=10).err
    assert ended(host, operation)["result"]["name"] == "quick"
    told = host.hv("ada", "image", "import", str(small), "--name", "again", "--no-wait", "--json").json
    assert told["version"] == 1 and ended(host, told["operation"])["kind"] == "image-import"
    told = json.loads(host.hv("ada", "image", "import", str(small), "--name", "third", "--json").out)
    assert (told["version"], told["name"], told["size"]) == (1, "third", 1 << 20)
