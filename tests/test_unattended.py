"""Whole unattended installations on a loop device: fetched over TLS, told to webhooks, refused a second time; and failures."""

import io
import json
import os
import pty
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.commands.install import main
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.disks import Filesystem, Partition
from installer.fetch.package import pack
from installer.plan.planner import make_plan
from installer.unattended.again import refuse_again
from installer.unattended.console import Everywhere, open_consoles
from installer.unattended.notice import Machine, failed, scp_address
from tests.execute.ready import Ready, answers_for
from tests.execute.rig import Namespace, add_nix, namespace, rig
from tests.plan_cases import HASH, answers, machine, medium
from tests.web_servers import Answer, Request, Server, make_authority, serving

SECRET = "webhook-key-that-nobody-sees"


class Site:
    """A rig with a server for answers and events."""

    def __init__(self, ready: Ready, server: Server, folder: Path) -> None:
        self.ready, self.server, self.folder = ready, server, folder
        self.answers: dict[str, Any] = {}

    @property
    def secret(self) -> Path:
        return self.folder / "live/secrets/webhook"

    def offer(self, *, system: dict[str, Any] | None = None, **changes: Any) -> None:
        """Answers for the rig's disk, with a webhook at the same server."""
        hook = {"url": f"{self.server.url}/events", "secret": {"file": str(self.secret)}}
        more = {"webhooks": [hook], "users": [self.user()]} | changes
        self.ready.prepare(system=system, **more)
        own = answers_for(self.ready.disk)["system"]
        more["system"] = own | {"ca_certificates": [(self.folder / "tls/ca.pem").read_text()]}
        self.answers = answers_for(self.ready.disk, **more)

    def steps(self) -> list[str]:
        plan = make_plan(self.ready.facts, Answers.model_validate(self.answers), self.ready.medium)
        return [step.id for step in plan.steps]

    def user(self) -> dict[str, Any]:
        return {
            "name": "alice",
            "admin": True,
            "password_hash_file": {"file": str(self.folder / "live/secrets/alice")},
        }

    def package(self) -> bytes:
        return pack(
            json.dumps(self.answers).encode(),
            "answers.json",
            {"webhook": SECRET.encode(), "alice": HASH.encode()},
        )

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(asked.body) for asked in self.server.requests if asked.path == "/events"]

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        argv = (
            *("nsenter", f"--mount=/proc/{self.ready.space.holder.pid}/ns/mnt", "--"),
            *(sys.executable, "-m", "tests.execute.unattended_child", str(self.folder), *more),
        )
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)

    def leaks(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        """Where a secret can be read that should be nowhere but in its own file."""
        texts = {"stdout": done.stdout, "stderr": done.stderr, "events": str(self.events())}
        for folder in (self.folder / "unattended", self.ready.rig.live.runtime):
            for path in folder.rglob("*"):
                if path.is_file() and "headers" not in path.parts and path.suffix != ".zst":
                    texts[str(path)] = path.read_text(errors="replace")
        return [name for name, text in texts.items() if SECRET in text or HASH in text]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "tls").mkdir()
    authority = make_authority(tmp_path / "tls")
    with rig(tmp_path) as made, namespace() as space:
        assert isinstance(space, Namespace)
        add_nix(made)
        made_site: list[Site] = []

        def answer(request: Request) -> Answer:
            return Answer(200, made_site[0].package()) if request.path == "/answers" else Answer(204)

        with serving(answer, authority) as server:
            made_site.append(Site(Ready(made, space), server, tmp_path))
            live, root = tmp_path / "live", tmp_path / "root"
            live.mkdir()
            (live / "ca.pem").write_bytes(authority.ca)
            (root / "proc").mkdir(parents=True)
            (root / "proc/cmdline").write_text(f"quiet hv.answers={server.url}/answers\n")
            for name in ("reboot", "poweroff"):
                script = made.folder / "bin" / name
                script.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/ended\n")
                script.chmod(0o755)
            yield made_site[0]


def as_found(site: Site) -> Facts:
    """The machine as it is now: what its disk really carries, read with sfdisk and blkid."""
    disk = site.ready.disk
    table = json.loads(
        subprocess.run(["sfdisk", "--json", disk.device], check=True, capture_output=True).stdout
    )["partitiontable"]
    partitions = []
    for number, each in enumerate(table["partitions"], start=1):
        start, size = each["start"] * 512, each["size"] * 512
        told = subprocess.run(
            ["blkid", "-p", "-o", "export", "-O", str(start), "-S", str(size), disk.file],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        values = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        found = Filesystem(kind=values["TYPE"], uuid=values["UUID"]) if "UUID" in values else None
        partitions.append(
            Partition(
                number=number,
                name=f"vda{number}",
                start=start,
                size=size,
                label=each.get("name"),
                filesystem=found,
            )
        )
    (known,) = site.ready.facts.disks
    return site.ready.facts.model_copy(
        update={"disks": (known.model_copy(update={"table": "gpt", "partitions": tuple(partitions)}),)}
    )


@pytest.mark.root
@pytest.mark.nix
def test_fetched_installed_told_and_not_twice(site: Site) -> None:
    site.offer(at_end="reboot")
    done = site.run()
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert f"kernel argument: answers from {site.server.url}/answers" in done.stdout
    assert site.ready.file("/etc/shadow").splitlines()[1].startswith(f"alice:{HASH}:")
    events = site.events()
    assert [event["event"] for event in events][:1] == ["started"]
    assert events[-1]["event"] == "succeeded"
    steps = [
        event["step"]["id"]
        for event in events
        if event["event"] == "step" and event["step"]["state"] == "verified"
    ]
    assert steps == site.steps()
    assert (site.folder / "ended").read_text() == "reboot\n"
    assert site.leaks(done) == []

    # The machine comes back, and the stick is still in it.
    (site.folder / "facts.json").write_text(as_found(site).model_dump_json())
    for path in site.ready.rig.live.runtime.iterdir():
        if path.is_file():
            path.unlink()
    before = site.ready.disk.digest()
    again = site.run()
    assert again.returncode == Exit.again, again.stdout + again.stderr
    assert "NOT INSTALLED AGAIN: loop (code 14)" in again.stdout
    assert "hv.unattended=again" in again.stdout
    assert site.ready.disk.digest() == before
    assert (site.folder / "ended").read_text() == "reboot\n", "it starts again by itself"
    assert site.events() == events

    # Who means it says so.
    meant = site.run("--again")
    assert meant.returncode == Exit.ok, meant.stdout + meant.stderr


@pytest.mark.root
@pytest.mark.nix
def test_failure_is_told_everywhere_and_nothing_reboots(site: Site) -> None:
    site.offer(at_end="reboot", system={"modules": ("ext4",)})
    done = site.run()
    assert done.returncode == Exit.step, done.stdout + done.stderr
    assert not (site.folder / "ended").exists(), "a failed installation starts the machine again"
    notice = (site.folder / "unattended/notice.txt").read_text()
    assert notice in done.stdout
    assert "INSTALLATION FAILED: loop (code 9)" in notice
    assert f"{site.ready.disk.by_id} was written to" in notice
    assert "stays on" in notice
    assert max(map(len, notice.splitlines())) <= 160
    (bundle,) = (site.folder / "unattended").glob("support-*.tar.zst")
    assert str(bundle) in notice
    event = site.events()[-1]
    assert (event["event"], event["error"]["code"]) == ("failed", Exit.step)
    assert event["bundle"]["file"] == str(bundle)
    unpacked = subprocess.run(["zstd", "-dcq", bundle], check=True, capture_output=True).stdout
    assert SECRET.encode() not in unpacked
    assert HASH.encode() not in unpacked
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        names = archive.getnames()
    assert {"support-bundle/install/install.log", "support-bundle/install/unattended.log"} <= set(names)
    assert site.leaks(done) == []


@pytest.mark.root
@pytest.mark.nix
@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"storage": {"disk": {"serial": "none"}, "destroy": "matched"}}, Exit.selection, "none"),
        # Asked for by a kernel argument: then it is a failure.
        ({"storage": {"disk": {"serial": "none"}}}, Exit.consent, "do not consent"),
        ({"interactive": ["disks"]}, Exit.consent, "asked about disks"),
        ({"hostname": "Not A Name"}, Exit.answers, "hostname"),
    ],
)
def test_refusals_write_nothing(site: Site, changes: dict[str, Any], code: Exit, words: str) -> None:
    site.offer()
    site.answers |= changes
    before = site.ready.disk.digest()
    done = site.run()
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout
    assert "nothing was written to any disk" in done.stdout
    assert site.ready.disk.digest() == before
    assert site.leaks(done) == []


@pytest.mark.root
@pytest.mark.nix
def test_answers_that_wait_for_a_person_are_no_failure(site: Site) -> None:
    site.offer()
    del site.answers["storage"]["destroy"]
    (site.folder / "live/answers.toml").write_text(json.dumps(site.answers))
    (site.folder / "root/proc/cmdline").write_text("quiet\n")
    (site.folder / "bin/blkid").write_text("#!/bin/sh\nexit 2\n")
    (site.folder / "bin/blkid").chmod(0o755)
    before = site.ready.disk.digest()
    done = site.run()
    assert done.returncode == Exit.consent, done.stdout + done.stderr
    assert "There are answers (this medium), and nothing is done by itself" in done.stdout
    assert "FAILED" not in done.stdout
    assert not list((site.folder / "unattended").glob("support-*"))
    assert site.ready.disk.digest() == before


@pytest.mark.root
@pytest.mark.nix
def test_no_answers_and_a_server_that_is_down(site: Site) -> None:
    cmdline = site.folder / "root/proc/cmdline"
    cmdline.write_text("quiet\n")
    script = site.folder / "bin/blkid"
    script.write_text("#!/bin/sh\nexit 2\n")
    script.chmod(0o755)
    done = site.run()
    assert done.returncode == Exit.nothing
    assert "No answers for an unattended installation" in done.stdout
    assert "FAILED" not in done.stdout
    cmdline.write_text("hv.answers=https://127.0.0.1:9/answers\n")
    done = site.run()
    assert done.returncode == Exit.fetch
    assert "INSTALLATION FAILED (code 13)" in done.stdout
    cmdline.write_text("hv.answers=https://127.0.0.1:9/answers hv.unattended=no\n")
    assert site.run().returncode == Exit.nothing


# ---- parts ----


def test_a_blank_disk_and_another_host_are_no_traces() -> None:
    facts = machine()
    plan = make_plan(facts, answers(), medium())
    refuse_again(facts, plan)
    (disk,) = facts.disks
    (action,) = (a for step in plan.steps for a in step.actions if a.kind == "write-partition-table")
    parts = tuple(
        Partition(number=p.number, name=f"x{p.number}", start=p.start, size=p.size, label=p.label)
        for p in action.partitions
    )
    begun = facts.model_copy(update={"disks": (disk.model_copy(update={"partitions": parts}),)})
    with pytest.raises(HyperError, match="before") as caught:
        refuse_again(begun, plan)
    assert caught.value.code is Exit.again
    refuse_again(begun, make_plan(facts, answers(hostname="other"), medium()))
    # A disk that is known by its place alone.
    (identity,) = plan.disks
    placed = identity.model_copy(
        update={"by_id": None, "by_path": "pci-0000:01:00.0-nvme-1", "ends": "0" * 64}
    )
    nameless = begun.disks[0].model_copy(update={"by_id": (), "path": "pci-0000:01:00.0-nvme-1"})
    with pytest.raises(HyperError, match="before"):
        refuse_again(
            begun.model_copy(update={"disks": (nameless,)}), plan.model_copy(update={"disks": (placed,)})
        )


def test_words_for_the_screen_fit_and_can_be_passed_on() -> None:
    error = HyperError("the step `x` failed", why="a cause\n  disks: y", remedy="mend it", code=Exit.step)
    lines = failed(
        error,
        "kvm1",
        Machine("Vendor R1", "ABC", ("192.0.2.5", "2001:db8::5")),
        "/run/b.tar.zst",
        wrote="nothing.",
    )
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for word in (
        "kvm1",
        "code 9",
        "the step `x` failed",
        "a cause",
        "mend it",
        "ABC",
        "192.0.2.5",
        "/run/b.tar.zst",
    ):
        assert word in text
    assert scp_address("2001:db8::5", "/x") == "root@[2001:db8::5]:/x"
    long = failed(error, None, Machine("V", None, ("192.0.2.5",)), "/run/" + "x" * 80, wrote="nothing.")
    assert f"scp root@192.0.2.5:/run/{'x' * 80} ." in long, "a command that is broken cannot be typed after"


def test_every_console_hears_it(tmp_path: Path) -> None:
    first, first_end = pty.openpty()
    second, second_end = pty.openpty()
    devices = tmp_path / "dev"
    devices.mkdir()
    (devices / "tty0").symlink_to(os.ttyname(first_end))
    (devices / "ttyS0").symlink_to(os.ttyname(second_end))
    (devices / "ttyS1").write_text("a file")
    (tmp_path / "active").write_text("tty0 ttyS0 ttyS1 ttyS2\n")
    main_output = io.StringIO()
    consoles = open_consoles(tmp_path / "active", devices)
    assert len(consoles) == 2
    everywhere = Everywhere(main_output, consoles)
    everywhere.write("hello\n")
    everywhere.flush()
    assert os.read(first, 100) == os.read(second, 100) == b"hello\r\n"
    consoles[0].close()
    everywhere.write("again\n")
    everywhere.flush()
    assert os.read(second, 100) == b"again\r\n"
    assert main_output.getvalue() == "hello\nagain\n"
    assert (devices / "ttyS1").read_text() == "a file"
    for descriptor in (first, first_end, second, second_end):
        os.close(descriptor)


def test_console_that_nobody_reads_does_not_hold_it_up(tmp_path: Path) -> None:
    far, near = pty.openpty()
    (tmp_path / "tty0").symlink_to(os.ttyname(near))
    (tmp_path / "active").write_text("tty0\n")
    everywhere = Everywhere(io.StringIO(), open_consoles(tmp_path / "active", tmp_path))
    for _ in range(2000):
        everywhere.write("x" * 100 + "\n")
        everywhere.flush()
    os.close(far)
    os.close(near)


@pytest.mark.parametrize(
    "argv",
    [["--again", "--answers", "x"], ["--unattended", "--plan"], ["--unattended", "--confirm", "x"]],
)
def test_options_that_contradict_each_other(argv: list[str]) -> None:
    with pytest.raises(HyperError) as caught:
        main(argv)
    assert caught.value.code == Exit.usage
