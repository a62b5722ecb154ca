"""Secrets wrapped by the program age: what it is given comes back, what was altered is not taken, and errors are its own."""

import os
import subprocess
from pathlib import Path

import pexpect
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from installer.errors import Exit, HyperError
from iso import age
from tests.media.fixture import run


@pytest.mark.parametrize("size", [0, 1, 65536, 300_000])
def test_for_recipients(size: int, tmp_path: Path) -> None:
    public = []
    for name in ("one", "two"):
        run("age-keygen", "-o", tmp_path / name)
        public.append(run("age-keygen", "-y", tmp_path / name).strip())
    content = os.urandom(size)
    wrapped = age.wrap(content, recipients=public)
    assert not age.needs_passphrase(wrapped)
    for name in ("one", "two"):
        assert age.unwrap(wrapped, identity=tmp_path / name) == content
    run("age-keygen", "-o", tmp_path / "other")
    with pytest.raises(HyperError, match="cannot be opened") as error:
        age.unwrap(wrapped, identity=tmp_path / "other")
    assert error.value.code is Exit.medium
    assert "no identity matched" in error.value.why


@pytest.mark.parametrize("phrase", ["open sesame", "with: colon:", "ünïcode"])
def test_a_passphrase_that_a_person_types(phrase: str, tmp_path: Path) -> None:
    content = os.urandom(200_000)
    wrapped = age.wrap(content, passphrase=phrase.encode())
    assert age.needs_passphrase(wrapped)
    (tmp_path / "wrapped").write_bytes(wrapped)
    child = pexpect.spawn(
        "age", ["-d", "-o", str(tmp_path / "plain"), str(tmp_path / "wrapped")], timeout=120
    )
    child.expect("passphrase")
    child.sendline(phrase)
    child.expect(pexpect.EOF)
    assert (tmp_path / "plain").read_bytes() == content
    assert age.unwrap(wrapped, passphrase=phrase.encode()) == content


def test_a_wrong_passphrase_is_told() -> None:
    wrapped = age.wrap(b"content", passphrase=b"right")
    with pytest.raises(HyperError, match="cannot be opened") as error:
        age.unwrap(wrapped, passphrase=b"wrong")
    assert error.value.why == "incorrect passphrase"


@pytest.mark.parametrize("phrase", [b"", b"two\nlines", b"end\x04", b"\x03", b"x" * 2000])
def test_passphrases_that_no_terminal_hands_on(phrase: bytes) -> None:
    with pytest.raises(HyperError, match="passphrase") as error:
        age.wrap(b"content", passphrase=phrase)
    assert error.value.code is Exit.usage


@pytest.fixture(scope="module")
def wrapped_for(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """Something wrapped, and the identity that opens it."""
    identity = tmp_path_factory.mktemp("age") / "identity"
    run("age-keygen", "-o", identity)
    return age.wrap(b"some content" * 20, recipients=[run("age-keygen", "-y", identity).strip()]), identity


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans())
@settings(max_examples=60, deadline=None)
def test_nothing_altered_or_cut_off_is_taken(
    wrapped_for: tuple[bytes, Path], place: float, change: int, cut: bool
) -> None:
    wrapped, identity = wrapped_for
    at = int(place * len(wrapped))
    altered = wrapped[:at] if cut else wrapped[:at] + bytes([wrapped[at] ^ change]) + wrapped[at + 1 :]
    with pytest.raises(HyperError):
        age.unwrap(altered, identity=identity)


@pytest.mark.parametrize("word", ["", "age1", "age1qqqq", "AGE-SECRET-KEY-1QQ", "ssh-ed25519 AAAA"])
def test_wrong_recipients_are_refused(word: str) -> None:
    with pytest.raises(HyperError, match="cannot be wrapped") as error:
        age.wrap(b"content", recipients=[word])
    assert error.value.code is Exit.usage


def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for how in ({"recipients": ["age1"]}, {"passphrase": b"x"}):
        with pytest.raises(HyperError, match="wrapped or opened") as error:
            age.wrap(b"content", **how)
        assert error.value.code is Exit.unsuitable


def test_the_passphrase_is_on_no_command_line() -> None:
    """`ps` shows those of everybody."""
    seen: list[list[str]] = []
    started = subprocess.Popen.__init__

    def watch(self: "subprocess.Popen[bytes]", argv: list[str], **more: object) -> None:
        seen.append(argv)
        started(self, argv, **more)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", watch)
        age.wrap(b"content", passphrase=b"sesame")
    assert seen
    assert not any("sesame" in word for argv in seen for word in argv)
