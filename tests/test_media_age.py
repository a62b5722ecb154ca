"""age's file format: both ways with the program `age`, and nothing that was altered is taken."""

import os
import subprocess
from pathlib import Path

import pexpect
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from installer.errors import HyperError
from iso import age
from tests.media.fixture import run

QUICK = 4
"""Work factor for tests that are not about it."""


@pytest.mark.parametrize("size", [0, 1, age.CHUNK - 1, age.CHUNK, age.CHUNK + 1, 3 * age.CHUNK])
def test_both_ways_with_age(size: int, tmp_path: Path) -> None:
    run("age-keygen", "-o", tmp_path / "identity")
    public = run("age-keygen", "-y", tmp_path / "identity").strip()
    keys = age.identities((tmp_path / "identity").read_text())
    content = os.urandom(size)
    (tmp_path / "plain").write_bytes(content)
    run("age", "-r", public, "-o", tmp_path / "theirs", tmp_path / "plain")
    assert age.unwrap((tmp_path / "theirs").read_bytes(), keys=keys) == content
    run("age-keygen", "-o", tmp_path / "second")
    other = run("age-keygen", "-y", tmp_path / "second").strip()
    (tmp_path / "ours").write_bytes(
        age.wrap(content, recipients=[age.recipient(other), age.recipient(public)])
    )
    for identity in ("identity", "second"):
        argv = ["age", "-d", "-i", str(tmp_path / identity), str(tmp_path / "ours")]
        assert subprocess.run(argv, capture_output=True, check=True).stdout == content


def test_a_passphrase_opens_what_age_made(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"content")
    child = pexpect.spawn("age", ["-p", "-o", str(tmp_path / "theirs"), str(tmp_path / "plain")], timeout=60)
    for _ in range(2):
        child.expect("passphrase")
        child.sendline("open sesame")
    child.expect(pexpect.EOF)
    wrapped = (tmp_path / "theirs").read_bytes()
    assert age.needs_passphrase(wrapped)
    assert age.unwrap(wrapped, passphrase=b"open sesame") == b"content"


WRAPPED = age.wrap(b"some content" * 20, passphrase=b"x", work=QUICK)


@given(st.integers(0, len(WRAPPED) - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_no_altered_byte_is_taken(place: int, change: int) -> None:
    altered = bytearray(WRAPPED)
    altered[place] ^= change
    with pytest.raises(HyperError):
        age.unwrap(bytes(altered), passphrase=b"x")


@given(st.integers(0, len(WRAPPED) - 1))
@settings(max_examples=40, deadline=None)
def test_nothing_cut_off_is_taken(end: int) -> None:
    with pytest.raises(HyperError):
        age.unwrap(WRAPPED[:end], passphrase=b"x")


def test_an_absurd_work_factor_is_not_tried() -> None:
    with pytest.raises(HyperError, match="cannot be opened") as error:
        age.unwrap(WRAPPED.replace(b" 4\n", b" 60\n"), passphrase=b"x")
    assert "work factor" in error.value.why


@pytest.mark.parametrize("word", ["", "age1", "age1qqqq", "AGE-SECRET-KEY-1QQ", "ssh-ed25519 AAAA"])
def test_wrong_recipients_are_refused(word: str) -> None:
    with pytest.raises(HyperError, match="not taken"):
        age.recipient(word)
    with pytest.raises(HyperError, match="not taken"):
        age.identities(word)
