"""Job certificate: made once, read by OpenSSL, kept over power cuts; an administrator's own is left alone."""

import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hv.firstrun import certificate, console
from hv.firstrun.certificate import AUTHORITY, AUTHORITY_KEY, CERTIFICATE, KEY, CertificateJob, fingerprint
from hv.firstrun.state import STATE_FOLDER, JobState, StateFolder, Status
from hv.firstrun.world import Clock, World, write_atomically
from installer.errors import HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.handoff import HANDOFF_PATH
from installer.plan.planner import make_plan
from tests.plan_cases import answers, machine, medium

JOB = CertificateJob("kvm1")
FILES = (AUTHORITY_KEY, AUTHORITY, KEY, CERTIFICATE)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(programs=Runner(NoLog(), os.environ["PATH"]), root=tmp_path)


def done(world: World) -> dict[str, bytes]:
    JOB.run(world)
    JOB.verify(world)
    return {path: world.path(path).read_bytes() for path in FILES}


def test_openssl_accepts_it_and_keys_are_roots_alone(world: World) -> None:
    done(world)
    for path in (KEY, AUTHORITY_KEY):
        assert stat.S_IMODE(world.path(path).stat().st_mode) == 0o600
    ours, theirs = str(world.path(AUTHORITY)), str(world.path(CERTIFICATE))
    for name in (("-verify_hostname", "kvm1"), ("-verify_ip", "127.0.0.1")):
        subprocess.run(
            ("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ours, *name, theirs),
            check=True, capture_output=True,
        )  # fmt: skip
    wrong = ("openssl", "verify", "-CAfile", ours, "-verify_hostname", "other", theirs)
    assert subprocess.run(wrong, check=False, capture_output=True).returncode != 0
    shown = subprocess.run(
        ("openssl", "x509", "-in", ours, "-noout", "-fingerprint", "-sha256"),
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    digest = fingerprint(world.path(AUTHORITY))
    assert digest == shown.partition("=")[2].strip().replace(":", "").lower()
    assert f"authority {digest}" in console.page(world, ())
    assert max(map(len, console.page(world, ()).splitlines())) < 80


def test_a_client_that_trusts_the_authority_gets_through(world: World) -> None:
    done(world)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(world.path(CERTIFICATE), world.path(KEY))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with server.wrap_socket(connection, server_side=True) as secured:
                secured.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        client = ssl.create_default_context(cafile=str(world.path(AUTHORITY)))
        with (
            socket.create_connection(listening.getsockname()) as plain,
            client.wrap_socket(plain, server_hostname="kvm1") as secured,
        ):
            assert secured.recv(5) == b"hello"
        thread.join(30)


def test_it_is_made_once(world: World) -> None:
    assert done(world) == done(world)


def test_no_two_hosts_share_a_key(world: World, tmp_path: Path) -> None:
    other = replace(world, root=tmp_path / "other")
    first, second = done(world), done(other)
    assert all(first[path] != second[path] for path in FILES)


class PowerCutError(BaseException):
    """Nothing after it happens."""


def test_a_power_cut_at_any_write_is_made_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for cut in range(1, len(FILES) + 1):
        left = cut
        here = replace(world, root=world.root / str(cut))

        def writes(path: Path, text: str, mode: int = 0o644) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise PowerCutError
            write_atomically(path, text, mode)

        monkeypatch.setattr(certificate, "write_atomically", writes)
        with pytest.raises(PowerCutError):
            JOB.run(here)
        kept = {path: here.path(path).read_bytes() for path in FILES if here.path(path).exists()}
        assert len(kept) == cut - 1
        after = done(here)
        # What was on disk, and may have been seen, stays.
        assert {path: after[path] for path in kept} == kept


def test_an_administrators_own_is_kept(world: World, tmp_path: Path) -> None:
    other = replace(world, root=tmp_path / "other")
    theirs = CertificateJob("elsewhere")
    theirs.run(other)
    world.path(CERTIFICATE).parent.mkdir(parents=True)
    for path in (CERTIFICATE, KEY):
        world.path(path).write_bytes(other.path(path).read_bytes())
        world.path(path).chmod(0o600)
    before = world.path(CERTIFICATE).read_bytes()
    JOB.run(world)
    JOB.verify(world)
    assert world.path(CERTIFICATE).read_bytes() == before


def test_it_is_made_anew_in_its_last_year_by_the_same_authority(world: World) -> None:
    before = done(world)
    later = datetime.now(UTC) + timedelta(days=365 * certificate.YEARS["host"] - 300)
    after = done(replace(world, clock=Clock(now=lambda: later)))
    assert (after[CERTIFICATE] != before[CERTIFICATE], after[KEY]) == (True, before[KEY])
    assert world.path(AUTHORITY).read_bytes() == before[AUTHORITY]


@pytest.mark.root
@pytest.mark.parametrize("status", [Status.done, Status.skipped])
def test_the_timer_renews_it_and_begins_no_other_job(world: World, tmp_path: Path, status: Status) -> None:
    """By the clock of the machine: the certificate that is there has 300 days left."""
    before = datetime.now(UTC) - timedelta(days=365 * certificate.YEARS["host"] - 300)
    there = done(replace(world, clock=Clock(now=lambda: before)))
    write_atomically(
        world.path(HANDOFF_PATH), make_plan(machine(), answers(), medium()).handoff.model_dump_json()
    )
    states = StateFolder(world.path(STATE_FOLDER))
    states.write(JobState(job="certificate", status=status, reason=None))
    command = (sys.executable, "-m", "hv", "firstrun", "--root", str(tmp_path), "renew")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    renewed = world.path(CERTIFICATE).read_bytes() != there[CERTIFICATE]
    assert (renewed, "left alone" in said) == ((True, False) if status is Status.done else (False, True)), (
        said
    )
    assert world.path(AUTHORITY).read_bytes() == there[AUTHORITY]
    assert [path.name for path in world.path(STATE_FOLDER).glob("*.json")] == ["certificate.json"]
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "made " not in again


def test_what_does_not_belong_together_is_told(world: World) -> None:
    done(world)
    world.path(AUTHORITY_KEY).unlink()
    done_still = world.path(CERTIFICATE).read_bytes()
    JOB.run(world)  # kept elsewhere by an administrator: nothing is to be signed
    assert (world.path(CERTIFICATE).read_bytes(), world.path(AUTHORITY_KEY).exists()) == (done_still, False)
    world.path(CERTIFICATE).unlink()
    with pytest.raises(HyperError, match="do not belong together") as caught:
        JOB.run(world)
    assert "may trust it already" in caught.value.why
    assert not world.path(AUTHORITY_KEY).exists()
    world.path(CERTIFICATE).write_bytes(done_still)
    world.path(KEY).chmod(0o644)
    with pytest.raises(HyperError, match="not good"):
        JOB.verify(world)


def test_a_damaged_key_is_told(world: World) -> None:
    world.path(KEY).parent.mkdir(parents=True)
    world.path(KEY).write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(HyperError, match="cannot be read as a key"):
        JOB.run(world)
    assert not world.path(CERTIFICATE).exists()
