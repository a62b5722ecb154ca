"""The check of a migrated host's first boot: what it looks at, how it settles, and that it goes round at most so often."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hv.commands import health
from hv.firstrun.world import Clock, World
from hv.health import check
from hv.health.check import Seen
from installer.errors import Exit
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.migrate.fallback import Fallback
from installer.migrate.trial import ATTEMPTS, DONE, TRIAL, Expected, Trial
from tests.nixeval.cases import KEY

EXPECTED = Expected(administrators=("ada",), ssh=False, ports=(), addresses=(), routed=False, guests=())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A root that stands for the host."""
    for path, text in {
        "etc/passwd": "ada:x:1000:100::/home/ada:/bin/sh\n",
        "etc/group": "wheel:x:1:ada\nusers:x:100:\n",
        "etc/shadow": "ada:!:1::::::\n",
        "home/ada/.ssh/authorized_keys": f"{KEY} ada\n",
        "bin/sh": "",
        "nix/store/new/etc/ssh/sshd_config": "AuthorizedKeysFile %h/.ssh/authorized_keys\nHostKey %s/key\nUsePAM no\nPasswordAuthentication no\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("%s", str(tmp_path)))
    (tmp_path / "bin/sh").chmod(0o755)
    runner = Runner(NoLog(), f"/usr/sbin:{os.environ['PATH']}")
    runner.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # else the real sshd judges nobody's configuration
    (tmp_path / "run").mkdir()
    (tmp_path / "run/current-system").symlink_to(tmp_path / "nix/store/new")
    return World(programs=runner, root=tmp_path, clock=Clock(sleep=lambda _: None), uri="test:///default")


def test_a_libvirt_that_never_answers_is_not_waited_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it dies as it starts, and systemd holds its socket: the connection stands, and nobody speaks."""
    monkeypatch.setattr(check, "ANSWER_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "libvirt-sock"))
        held.listen()
        silent = replace(world, uri=f"qemu+unix:///system?socket={tmp_path}/libvirt-sock")
        expected = EXPECTED.model_copy(update={"guests": ("router",)})
        for question in (check.libvirt_answers, check.guests_run):
            seen = question(silent, expected, tmp_path)
            assert not seen.well
            assert "did not answer within" in seen.line


def trial(world: World, fallback: Fallback = Fallback.counted) -> Path:
    """One under way for the system that runs."""
    record = Trial(
        began=datetime.now(UTC),
        before="/nix/store/old",
        after=str(world.path("/run/current-system").resolve()),
        fallback=fallback,
        files=(),
        expected=EXPECTED,
    )
    file = world.path(TRIAL)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(record.model_dump_json())
    return file


def lock_out(world: World) -> None:
    world.path("/home/ada/.ssh/authorized_keys").unlink()


def system(world: World) -> Path:
    return world.path("/run/current-system").resolve()


@pytest.mark.libvirt
def test_a_host_that_is_well_is_kept(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    file = trial(world)
    assert health.check(world, 0) == Exit.ok, capsys.readouterr().out
    assert not file.exists()
    assert world.path(DONE).exists()
    assert "ok   logins: ada: over SSH" in capsys.readouterr().out
    assert health.status(world, json=False) == Exit.ok
    # The next boot looks at nothing: the unit's condition is the trial's file.
    assert health.check(world, 0) == Exit.ok


def test_a_host_that_nobody_gets_into_is_not(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    file = trial(world)
    lock_out(world)
    assert health.check(world, 0) == Exit.failed
    assert file.exists()
    told = capsys.readouterr().out
    assert "FAIL nobody could log in: ada: has no password for the console" in told
    assert "the machine goes back" in told
    assert health.status(world, json=True) == Exit.failed


def test_it_goes_round_only_so_often(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A boot menu that does not go back, whatever the reason, must not start the machine anew for ever."""
    trial(world)
    lock_out(world)
    assert [health.check(world, 0) for _ in range(ATTEMPTS)] == [Exit.failed] * ATTEMPTS
    assert health.check(world, 0) == Exit.ok
    assert "it is left as it is" in capsys.readouterr().out
    assert health.status(world, json=False) == Exit.failed


def test_an_attempt_counts_before_it_is_made(world: World) -> None:
    """A check that never ends, or that a power cut ends, is one too."""
    trial(world)

    def cut(seconds: float) -> None:
        raise KeyboardInterrupt

    lock_out(world)
    broken = World(
        programs=world.programs,
        root=world.root,
        clock=Clock(sleep=cut, monotonic=lambda: 0.0),
        uri=world.uri,
    )
    with pytest.raises(KeyboardInterrupt):
        health.check(broken, 10)
    found = health.verdict(world)
    assert found is not None
    assert (found.attempts, found.well) == (1, False)


def test_the_old_system_is_not_on_trial(world: World) -> None:
    file = trial(world)
    world.path("/run/current-system").unlink()
    world.path("/run/current-system").symlink_to(world.path("/nix"))
    assert health.check(world, 0) == Exit.ok
    assert file.exists()


@pytest.mark.libvirt
def test_only_a_host_that_is_well_becomes_the_default_of_the_boot_menu(world: World) -> None:
    trial(world, Fallback.grub)
    switch = system(world) / "bin/switch-to-configuration"
    switch.parent.mkdir()
    switch.write_text(f"#!/bin/sh\necho $1 >> {world.root}/switched\n")
    switch.chmod(0o755)
    keys = world.path("/home/ada/.ssh/authorized_keys").read_text()
    lock_out(world)
    assert health.check(world, 0) == Exit.failed
    assert not (world.root / "switched").exists()
    world.path("/home/ada/.ssh/authorized_keys").write_text(keys)
    assert health.check(world, 0) == Exit.ok
    assert (world.root / "switched").read_text() == "boot\n"


def test_somebody_who_came_over_ssh_must_be_able_to_again(world: World) -> None:
    """A password at the console is a way in, and no replacement for the one that was."""
    shadow = world.path("/etc/shadow")
    shadow.write_text(f"ada:$6$saltsalt${'x' * 86}:1::::::\n")
    lock_out(world)
    over = EXPECTED.model_copy(update={"ssh": True})
    seen = check.administrators(world, over, system(world))
    assert (seen.well, "nobody could log in over SSH" in seen.line) == (False, True)
    assert check.administrators(world, EXPECTED, system(world)).well


def expecting(**values: object) -> Expected:
    return EXPECTED.model_copy(update=values)


def test_the_network_is_the_one_from_before(world: World) -> None:
    """This machine's own addresses, as iproute2 tells them."""
    listed = [each for each in check._ip(world, "address", "show") for each in each.get("addr_info", ())]
    own = [f"{each['local']}/{each['prefixlen']}" for each in listed if each.get("scope") == "global"]
    if own:
        assert check.network(world, expecting(addresses=(own[0],)), system(world)).well
    gone = check.network(world, expecting(addresses=("198.51.100.7/24",)), system(world))
    assert (gone.well, "198.51.100.0/24" in gone.line) == (False, True)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Something that says what it is told to whoever connects."""
    says = [b"SSH-2.0-x\r\n"]
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(says[0])

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], says


def test_the_ssh_server_answers_at_an_address_of_the_host(
    world: World, listener: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, says = listener
    address = {"addr_info": [{"local": "127.0.0.1", "scope": "global", "prefixlen": 8}]}
    monkeypatch.setattr(check, "_ip", lambda *_: iter([address]))
    assert check.ssh_answers(world, expecting(ssh=True, ports=(port,)), system(world)) == Seen(
        True, f"SSH: answers at 127.0.0.1:{port}"
    )
    says[0] = b"HTTP"
    assert (
        "speaks something else"
        in check.ssh_answers(world, expecting(ssh=True, ports=(port,)), system(world)).line
    )
    assert not check.ssh_answers(world, expecting(ssh=True, ports=(1,)), system(world)).well


@pytest.mark.libvirt
def test_guests_that_started_with_the_host_run(world: World) -> None:
    """libvirt's own test driver has one guest, `test`, that runs."""
    assert check.guests_run(world, expecting(guests=("test",)), system(world)).well
    lost = check.guests_run(world, expecting(guests=("test", "router")), system(world))
    assert (lost.well, "router" in lost.line) == (False, True)
    dead = World(programs=world.programs, root=world.root, uri="qemu+unix:///system?socket=/nowhere")
    assert not check.libvirt_answers(dead, EXPECTED, system(world)).well
