"""Another machine installed over SSH: a real sshd in a mount namespace of its own, whose key is pinned, and connections
that are cut in the middle. What it installs is a stand-in (tests/remote_hv.py); what runs apart, and looks at it, is not.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from installer import embed
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.remote.installation import Remote, install_there
from installer.remote.kexec import NETWORK, start_kexec
from installer.remote.network import Carried, carry, parse
from installer.remote.target import Seen, Target, parse_look, parse_target, secret_files, sent_answers
from tests.nixeval.nix import REPOSITORY

PATIENCE = 60.0


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ssh://root@192.0.2.7", Target("root", "192.0.2.7", 22)),
        ("ssh://box", Target("root", "box", 22)),
        ("ssh://ada@box:2222/", Target("ada", "box", 2222)),
        ("ssh://root@[2001:db8::7]:22", Target("root", "2001:db8::7", 22)),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "box",
        "http://box",
        "ssh://",
        "ssh://root:secret@box",
        "ssh://box/path",
        "ssh://-oProxyCommand=x",
        "ssh://-x@box",
        "ssh://box:x",
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(HyperError) as raised:
        parse_target(text)
    assert raised.value.code is Exit.usage


def test_what_a_machine_says() -> None:
    assert parse_look("medium\nnixos\nx86_64\n") == Seen(True, "nixos", "x86_64", False)
    assert parse_look("debian\naarch64\nkexec\n") == Seen(False, "debian", "aarch64", True)
    assert parse_look("") == Seen(False, "unknown", "unknown", False)


def test_secrets_are_sent_and_named_where_they_lie_then() -> None:
    answers: dict[str, Any] = {
        "storage": {"encryption": {"passphrase": {"file": "/home/me/passphrase"}}},
        "users": [{"password_hash_file": {"file": "/on/the/target"}}, {"name": "file"}],
    }
    assert secret_files(answers) == ("/home/me/passphrase", "/on/the/target")
    sent = json.loads(sent_answers(answers, {"/home/me/passphrase": "/run/1"}))
    assert sent["storage"]["encryption"]["passphrase"] == {"file": "/run/1"}
    assert sent["users"] == answers["users"]


def test_a_folder_that_is_no_kexec_tree(tmp_path: Path) -> None:
    with pytest.raises(HyperError, match="is no kexec tree"):
        start_kexec(None, Seen(False, "debian", "x86_64", True), tmp_path)  # type: ignore[arg-type]


# ---- a real sshd ----

HV = """#!/bin/sh
cd /
export PYTHONPATH={path}
exec {python} -m tests.remote_hv {folder} "$@"
"""


@dataclass
class Server:
    """A machine that booted our medium."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    fingerprint: str

    def remote(self, answers: Path | None, **more: Any) -> Remote:
        given: dict[str, Any] = {
            "host_key": self.fingerprint,
            "identity": str(self.folder / "key"),
            "sleep": lambda _: None,
        }
        return Remote(
            target=f"ssh://root@127.0.0.1:{self.port}",
            answers=answers,
            runner=Runner(NoLog(), os.environ["PATH"]),
            **(given | more),
        )


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """sshd in a mount namespace with its own /run/hyper-nixos and /etc/hyper-nixos."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "hv").write_text(HV.format(path=REPOSITORY, python=sys.executable, folder=tmp_path))
    (programs / "hv").chmod(0o755)
    for name in ("key", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "authorized_keys").write_text((tmp_path / "key.pub").read_text())
    port = free_port()
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path}/authorized_keys\nPermitRootLogin yes\n"
        f"SetEnv PATH={programs}:{os.environ['PATH']} HOME={tmp_path}/home\n"
    )
    script = (
        f"set -e; mkdir -p /run/sshd /run/hyper-nixos /etc/hyper-nixos {tmp_path}/run {tmp_path}/etc\n"
        f"mount --bind {tmp_path}/run /run/hyper-nixos; mount --bind {tmp_path}/etc /etc/hyper-nixos\n"
        f"mkdir -p {tmp_path}/ssh; cp {tmp_path}/host {tmp_path}/ssh/ssh_host_ed25519_key\n"
        f"cp {tmp_path}/host.pub {tmp_path}/ssh/ssh_host_ed25519_key.pub; mount --bind {tmp_path}/ssh /etc/ssh\n"
        f"exec /usr/sbin/sshd -D -e -f {tmp_path}/sshd_config"
    )
    with (tmp_path / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stderr=log,
            start_new_session=True,
        )
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "host.pub"], check=True, capture_output=True, text=True
    )
    made = Server(tmp_path, port, process, said.stdout.split()[1])
    deadline = time.monotonic() + PATIENCE
    while "Server listening" not in (tmp_path / "sshd.log").read_text():
        assert process.poll() is None, (tmp_path / "sshd.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        yield made
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def say(server: Server, what: dict[str, Any]) -> None:
    """What the machine's `hv` is to do."""
    (server.folder / "etc/medium.json").write_text("{}")
    (server.folder / "script.json").write_text(json.dumps(what))


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    secret = tmp_path / "passphrase"
    secret.write_bytes(b"correct horse\n")
    file = tmp_path / "answers.toml"
    file.write_text(
        'version = 1\nhostname = "far"\n[storage]\nencryption = { enable = true, passphrase = '
        f'{{ file = "{secret}" }} }}\n'
    )
    return file


@pytest.mark.root
def test_another_key_is_another_machine_and_gets_nothing(server: Server, answers: Path) -> None:
    say(server, {})
    with pytest.raises(HyperError, match="is not the machine whose key was named") as raised:
        install_there(server.remote(answers, host_key="SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))
    assert raised.value.code is Exit.consent
    assert server.fingerprint in raised.value.why
    assert "Accepted" not in (server.folder / "sshd.log").read_text()
    assert not (server.folder / "run/remote").exists()


@pytest.mark.root
def test_an_unknown_key_is_never_taken_on_trust(
    server: Server, answers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123
    say(server, {})
    with pytest.raises(HyperError, match="nobody can be asked") as raised:
        install_there(server.remote(answers, host_key=None))
    assert f"--host-key {server.fingerprint}" in raised.value.remedy
    assert "Accepted" not in (server.folder / "sshd.log").read_text()


@pytest.mark.root
def test_a_key_that_this_user_knows_is_enough(
    server: Server,
    answers: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    public = (tmp_path / "host.pub").read_text()
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {public}")
    say(server, {"plan": "the plan\n"})
    assert install_there(server.remote(answers, host_key=None, plan=True)) == Exit.ok
    assert capfd.readouterr().out == "the plan\n"


@pytest.mark.root
def test_another_system_is_told_how(server: Server, answers: Path) -> None:
    with pytest.raises(HyperError, match="our live system does not run on") as raised:
        install_there(server.remote(answers))
    assert raised.value.code is Exit.unsuitable
    assert "--kexec" in raised.value.remedy


@pytest.mark.root
def test_without_a_token_the_plan_is_shown_and_nothing_is_begun(
    server: Server, answers: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    say(server, {"plan": "the plan\ntoken 1234\n"})
    assert install_there(server.remote(answers)) == Exit.consent
    told = capfd.readouterr().out
    assert "token 1234" in told
    assert "Nothing was written" in told
    assert [call[:1] for call in calls(server)] == [["install"]]


def calls(server: Server) -> list[list[str]]:
    """How the machine's `hv` was called."""
    return [json.loads(line) for line in (server.folder / "calls").read_text().splitlines()]


@pytest.mark.root
def test_what_is_sent_lies_in_memory_for_root_alone(server: Server, answers: Path) -> None:
    say(server, {"plan": ""})
    install_there(server.remote(answers))
    folder = server.folder / "run/remote"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "answers.json": 0o600,
        "secret-0": 0o600,
    }
    assert (folder / "secret-0").read_bytes() == b"correct horse\n"
    sent = json.loads((folder / "answers.json").read_text())
    assert sent["storage"]["encryption"]["passphrase"] == {"file": "/run/hyper-nixos/remote/secret-0"}
    # No secret in a command line.
    assert "horse" not in (server.folder / "calls").read_text()


@pytest.mark.root
def test_an_installation_outlives_its_connection(
    server: Server, answers: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its supervisor runs on while every connection is cut, and the next one shows the rest, and its exit code."""
    say(server, {"lines": 30, "code": 9, "cut": 2})
    assert install_there(server.remote(answers, confirm="1234")) == Exit.step
    told = capfd.readouterr().out
    assert "losing it does no harm" in told
    assert told.count("The connection is lost; the installation goes on") == 2
    assert "line 29" in told
    # Who comes later sees how it ended.
    assert install_there(server.remote(None, attach=True)) == Exit.step
    assert "line 0" in capfd.readouterr().out
    assert [
        "install",
        "--answers",
        "/run/hyper-nixos/remote/answers.json",
        "--confirm",
        "1234",
        "--apart",
    ] in calls(server)


@pytest.mark.root
def test_a_refusal_there_is_one_here(
    server: Server, answers: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    say(server, {"refuse": int(Exit.consent)})
    assert install_there(server.remote(answers, confirm="0000")) == Exit.consent
    assert "does not run apart" not in capfd.readouterr().out


# Another system, in whose place ours is started


class AtTheKeyboard:
    """A terminal with somebody at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def kexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree whose script is a stand-in: it makes the machine ours, as kexec(8) would after a while."""
    for folder in ("tree", "home/.ssh"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home/.ssh/authorized_keys").write_text((tmp_path / "key.pub").read_text())
    (tmp_path / "tree/bzImage").write_bytes(b"kernel")
    (tmp_path / "tree/initrd.gz").write_bytes(b"initial RAM disk")
    (tmp_path / "tree/kexec-boot").write_text("#!/bin/sh\necho {} > /etc/hyper-nixos/medium.json\n")
    program = tmp_path / "programs/kexec"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "stdin", AtTheKeyboard())
    monkeypatch.setattr("builtins.input", lambda _prompt: "127.0.0.1")
    return tmp_path / "tree"


def own_network() -> Carried:
    """Of the machine that runs the tests, whose network the server has; tests/test_remote_network.py has others."""
    words = [f"{{ {words}; }} 2>/dev/null; true" for words in NETWORK]
    told = [
        subprocess.run(["sh", "-c", each], check=True, capture_output=True, text=True).stdout
        for each in words
    ]
    told[4] = "127.0.0.1 1 127.0.0.1 22"
    there = parse(told)
    assert there is not None
    return carry(there)


@pytest.mark.root
def test_another_system_ends_and_is_reached_by_the_same_keys(
    server: Server, answers: Path, kexec: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    say(server, {"plan": "the plan\ntoken 1234\n"})
    (server.folder / "etc/medium.json").unlink()
    assert install_there(server.remote(answers, kexec=kexec)) == Exit.consent
    told = capfd.readouterr().out
    assert "It has the same host key, and whoever logs in by key now does so then." in told
    assert "".join(f"  {line}\n" for line in own_network().lines) in told
    assert ("To have it keep this one" in told) is bool(own_network().answers)
    assert told.index("The live system runs there now.") < told.index("token 1234")
    sent = server.folder / "home/hyper-nixos-kexec"
    assert sent.stat().st_mode & 0o777 == 0o700
    assert (sent / "bzImage").read_bytes() == b"kernel"
    ram_disk = (sent / "initrd.gz").read_bytes()
    assert ram_disk.startswith(b"initial RAM disk070701")
    at = ram_disk.index(embed.MAGIC)
    files = embed.unpack(ram_disk[at : at + embed.AREA])
    assert files == {
        **{f"network/{name}": content for name, content in own_network().files.items()},
        "authorized_keys": (server.folder / "key.pub").read_bytes(),
        "host-keys/ssh_host_ed25519_key": (server.folder / "host").read_bytes(),
    }


@pytest.mark.root
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("programs/kexec", "kexec-tools"),
        ("ssh/ssh_host_ed25519_key.pub", "nobody could tell"),
        ("name", "nobody typed the machine's name"),
    ],
)
def test_another_system_runs_on_where_ours_cannot_take_its_place(
    server: Server, answers: Path, kexec: Path, monkeypatch: pytest.MonkeyPatch, *, change: str, words: str
) -> None:
    if change == "name":
        monkeypatch.setattr("builtins.input", lambda _prompt: "yes")
    else:
        (server.folder / change).unlink()
    with pytest.raises(HyperError) as raised:
        install_there(server.remote(answers, kexec=kexec))
    assert words in f"{raised.value.what} {raised.value.why} {raised.value.remedy}"
    assert not (server.folder / "home/hyper-nixos-kexec").exists()


@pytest.mark.root
def test_a_kernel_that_does_not_start_is_told_with_what_it_said(
    server: Server, answers: Path, kexec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("installer.remote.kexec.STARTED", 6.0)
    (kexec / "kexec-boot").write_text("#!/bin/sh\necho no room for the kernel >&2\nexit 1\n")
    with pytest.raises(HyperError, match="does not answer") as raised:
        install_there(server.remote(answers, kexec=kexec))
    assert "no room for the kernel" in raised.value.why
