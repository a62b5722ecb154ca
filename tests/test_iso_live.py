"""`hv live`: a way in is opened, what the medium holds is put in place, and the page follows the network."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from installer import embed
from installer.errors import Exit, HyperError
from iso import login, signature
from iso.commands import live
from iso.commands.live import WAY_OUT
from iso.contents import Content, filled
from tests.nixeval.nix import REPOSITORY

KEYS = b"""# The operators' keys
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT anna@desk
"""
PATIENCE = 60
"""Seconds; the page was there after two."""
CHPASSWD = """#!/bin/sh
cat > "$LIVE_TEST/stdin"
tr '\\0' ' ' < /proc/$$/cmdline > "$LIVE_TEST/argv"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A live system's root; in place of chpasswd a program that writes down how it was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "chpasswd").write_text(CHPASSWD)
    (programs / "chpasswd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("LIVE_TEST", str(tmp_path))
    folder = tmp_path / "root"
    (folder / "iso/hyper-nixos").mkdir(parents=True)
    return folder


def put(root: Path, area: bytes) -> None:
    (root / "iso" / embed.PATH).write_bytes(area)


def state(root: Path, name: str) -> Path:
    return root / login.FOLDER / name


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


@pytest.mark.root
def test_without_anything_embedded_a_password_is_made(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(root, embed.pack({}))
    assert live.main(["--root", str(root), "prepare"]) == 0
    password = state(root, "password").read_text()
    assert re.fullmatch(r"[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}", password)
    assert (root.parent / "stdin").read_text() == f"root:{password}\n"
    # Neither on a command line nor in what the service tells the journal.
    assert password not in (root.parent / "argv").read_text()
    assert password not in "".join(capfd.readouterr())
    assert modes(root / login.FOLDER) == {0o600}
    assert (root / login.FOLDER).stat().st_mode & 0o777 == 0o700


@pytest.mark.root
def test_host_keys_that_came_along_prove_the_machine(root: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "host"], check=True)
    name = "ssh_host_ed25519_key"
    put(root, embed.pack({f"host-keys/{name}": (tmp_path / "host").read_bytes()}))
    assert live.main(["--root", str(root), "prepare"]) == 0
    assert (root / "etc/ssh" / name).stat().st_mode & 0o777 == 0o600
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "host.pub"], check=True, capture_output=True, text=True
    )
    assert login.host_keys(root) == (("ED25519", said.stdout.split()[1]),)
    # One that is none does not keep sshd from starting with a key of its own.
    put(root, embed.pack({f"host-keys/{name}": b"nonsense"}))
    with pytest.raises(HyperError, match="is not taken"):
        live.main(["--root", str(root), "prepare"])
    assert not (root / "etc/ssh" / name).exists()


def test_passwords_differ_and_use_every_letter() -> None:
    made = {login.make_password() for _ in range(500)}
    assert len(made) == 500
    assert set("".join(made)) == {*login.LETTERS, "-"}


def test_a_medium_without_an_area_is_as_good(root: Path) -> None:
    login.prepare(root)
    assert state(root, "password").exists()
    assert not state(root, "problem").exists()


def test_embedded_keys_take_the_place_of_a_password(root: Path) -> None:
    files = {"answers.toml": b"version = 1\n", "authorized_keys": KEYS, "secrets/disk": b"hunter2"}
    put(root, embed.pack(files))
    assert login.prepare(root) == (
        "taken from the medium: answers.toml",
        "taken from the medium: authorized_keys",
        "taken from the medium: secrets/disk",
    )
    assert (root / "root/.ssh/authorized_keys").read_bytes() == KEYS
    assert (root / "root/.ssh").stat().st_mode & 0o777 == 0o700
    assert state(root, "answers.toml").read_bytes() == b"version = 1\n"
    assert state(root, "secrets/disk").read_bytes() == b"hunter2"
    assert modes(root / login.FOLDER) == {0o600}
    assert not state(root, "password").exists()
    assert not (root.parent / "stdin").exists()


@pytest.mark.parametrize(
    ("area", "why"),
    [
        (embed.pack({"authorized_keys": KEYS})[:-1], "bytes instead of"),
        (embed.pack({"authorized_keys": b"not a key\n"}), "line 1 of authorized_keys"),
        (embed.pack({"authorized_keys": b"# nothing\n"}), "holds no key"),
        (embed.pack({"authorized_keys": KEYS}).replace(b"anna@desk", b"eve!@desk"), "checksum"),
    ],
    # pytest tells programs in their environment what runs, and an area is longer than that may be.
    ids=("short", "no key", "empty", "altered"),
)
def test_a_bad_area_is_refused_and_nobody_is_locked_out(root: Path, area: bytes, why: str) -> None:
    put(root, area)
    with pytest.raises(HyperError) as error:
        login.prepare(root)
    assert why in error.value.why
    assert error.value.code is Exit.record
    assert state(root, "problem").read_text() == error.value.why
    assert not (root / "root").exists()
    assert (root.parent / "stdin").read_text() == f"root:{state(root, 'password').read_text()}\n"


FILES = {"answers.toml": b"version = 1\n", "authorized_keys": KEYS, "secrets/disk": b"hunter2"}
ARGUMENTS = ("hv.unattended", "console=ttyS1,115200")


@pytest.fixture
def signing(root: Path, tmp_path: Path) -> Path:
    """The key of whom this live system trusts, and another."""
    for name in ("key", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True
        )
    signers = root / login.SIGNERS
    signers.parent.mkdir(parents=True)
    signers.write_text(f"ops@example.org {(tmp_path / 'key.pub').read_text()}")
    started(root, ARGUMENTS)
    return tmp_path / "key"


def started(root: Path, arguments: tuple[str, ...]) -> None:
    """The kernel's command line with these in their place, as boot loaders hand it on."""
    (root / "proc").mkdir(exist_ok=True)
    line = (
        f"BOOT_IMAGE=/boot/bzImage init=/nix/store/x/init {filled(arguments).decode()} initrd=/boot/initrd\n"
    )
    (root / "proc/cmdline").write_text(line)


def signed(key: Path) -> dict[str, bytes]:
    return dict(signature.sign(Content(FILES, ARGUMENTS), key).files)


def test_what_is_signed_is_taken_and_by_whom_is_told(root: Path, signing: Path) -> None:
    put(root, embed.pack(signed(signing)))
    assert login.prepare(root)[0] == "what the medium holds is signed by ops@example.org"
    assert state(root, "answers.toml").read_bytes() == FILES["answers.toml"]
    assert not state(root, "problem").exists()


@pytest.mark.parametrize(
    ("files", "arguments", "why"),
    [
        (lambda key: FILES, ARGUMENTS, "there is no signature in it"),
        (lambda key: signed(key.with_name("other")), ARGUMENTS, "signature is by none of"),
        (lambda key: signed(key) | {"secrets/disk": b"hunter3"}, ARGUMENTS, "signature is by none of"),
        (lambda key: signed(key) | {"secrets/more": b""}, ARGUMENTS, "signature is by none of"),
        (signed, (*ARGUMENTS, "hv.answers=https://192.0.2.1/"), "signature is by none of"),
        (signed, ARGUMENTS[:1], "signature is by none of"),
        (signed, (), "signature is by none of"),
        (lambda key: {}, ARGUMENTS, "there is no signature in it"),
    ],
    ids=[
        "unsigned",
        "another key",
        "altered",
        "added",
        "argument added",
        "argument gone",
        "none",
        "no files",
    ],
)
def test_where_signers_are_known_nothing_else_is_taken(
    root: Path,
    signing: Path,
    files: Callable[[Path], dict[str, bytes]],
    arguments: tuple[str, ...],
    why: str,
) -> None:
    put(root, embed.pack(files(signing)))
    started(root, arguments)
    with pytest.raises(HyperError) as error:
        login.prepare(root)
    assert why in error.value.why
    assert state(root, "problem").read_text() == error.value.why
    assert not (root / "root").exists()
    assert sorted(each.name for each in (root / login.FOLDER).iterdir()) == ["password", "problem"]


def test_where_signers_are_known_a_medium_with_nothing_in_it_starts(root: Path, signing: Path) -> None:
    put(root, embed.pack({}))
    started(root, ())
    (made,) = login.prepare(root)
    assert made.startswith("made a password")
    (root / "proc/cmdline").write_text("quiet\n")
    assert login.prepare(root)


def test_no_password_is_shown_that_was_not_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HyperError, match="nobody can log in"):
        login.prepare(root)
    assert not state(root, "password").exists()


def test_fingerprints_are_those_of_ssh_keygen(root: Path) -> None:
    folder = root / "etc/ssh"
    folder.mkdir(parents=True)
    for kind in ("rsa", "ed25519", "ecdsa"):
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / f"ssh_host_{kind}_key")]
        subprocess.run(command, check=True)
    shown = dict(login.host_keys(root))
    assert next(iter(shown)) == "ED25519"
    for path in folder.glob("*.pub"):
        told = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout
        assert told.split()[1] in shown.values()


def test_only_root_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "is_root", lambda: False)
    with pytest.raises(HyperError) as error:
        live.main(["show"])
    assert error.value.code is Exit.privilege


HERE = f"{sys.executable} -m hv live"
IN_A_COPY = f"""
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
{HERE} --root "$1" prepare
grep ^root: /etc/shadow
"""


@pytest.mark.root
def test_chpasswd_itself_takes_the_password(tmp_path: Path) -> None:
    command = ["unshare", "--mount", "sh", "-c", IN_A_COPY, "sh", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, shadow = done.stdout.splitlines()
    assert told.startswith("made a password")
    salted = shadow.split(":")[1]
    password = state(tmp_path, "password").read_text()
    check = "use strict; chomp(my $p = <STDIN>); exit(crypt($p, $ARGV[0]) eq $ARGV[0] ? 0 : 1)"
    asked = subprocess.run(["perl", "-e", check, salted], input=f"{password}\n", text=True, check=False)
    assert asked.returncode == 0
    assert salted not in Path("/etc/shadow").read_text()


@contextmanager
def terminal(*argv: str, **environment: str) -> Iterator[int]:
    """A program on a terminal of its own; the other end of it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv,
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        start_new_session=True,
        env=os.environ | {"PYTHONUTF8": "1"} | environment,
    )
    os.close(theirs)
    try:
        yield ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until(ours: int, wanted: str) -> str:
    """What the terminal shows, as soon as it shows this."""
    text = ""
    end = time.monotonic() + PATIENCE
    while wanted not in text:
        ready, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{wanted!r} did not appear in {text!r}"
        text += os.read(ours, 1 << 16).decode(errors="replace")
    return text


ADDRESS = "192.0.2.7"
END = WAY_OUT[-10:]


@pytest.mark.root
def test_the_screen_follows_the_network(tmp_path: Path) -> None:
    folder = tmp_path / login.FOLDER
    folder.mkdir(parents=True)
    (folder / "password").write_text("abcd-efgh-jkmn")
    # Its address comes after the page stands, on the word of the person at the terminal.
    inside = f"ip address show; (read go < {tmp_path}/go; ip address add {ADDRESS}/24 dev lo) & exec {HERE} --root {tmp_path} screen"
    os.mkfifo(tmp_path / "go")
    with terminal("unshare", "--net", "sh", "-c", inside, TERM="linux") as ours:
        before = until(ours, END)
        assert "no address yet" in before
        assert "█" not in before
        (tmp_path / "go").write_text("go\n")
        after = until(ours, f"ssh root@{ADDRESS}")
        after += until(ours, END) if END not in after else ""
        assert after.count("\x1b[2J") == 1
        assert "█" in after
        # Enter begins to install. This is no live system, so the installer says that at once; the page comes back.
        os.write(ours, b"\n")
        said = until(ours, "Enter: back to the page.")
        assert "medium" in said
        os.write(ours, b"\n")
        until(ours, END)


@pytest.mark.root
@pytest.mark.parametrize("term", ["dumb", "vt220"])
def test_a_plain_terminal_gets_plain_text(tmp_path: Path, term: str) -> None:
    with terminal("unshare", "--net", *HERE.split(), "--root", str(tmp_path), "screen", TERM=term) as ours:
        text = until(ours, END)
        assert "\x1b" not in text
        assert "Hyper-NixOS" in text
