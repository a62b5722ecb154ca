"""The journal: whole after a kill, mirrored, and one installer at a time."""

import fcntl
import os
from pathlib import Path

import pytest

from installer.errors import Exit, HyperError
from installer.execute.journal import Journal, only_installer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_reads_back_what_it_wrote(path: Path) -> None:
    journal = Journal(path)
    journal.record("begun", token="0123-4567")
    journal.record("started", "one")
    journal.record("learned", "toplevel", details=("/nix/store/x",))
    journal.record("verified", "one", details=("found",))
    journal.record("started", "two")
    again = Journal(path)
    assert again.events == journal.events
    assert again.token == "0123-4567"
    assert again.verified("one")
    assert not again.verified("two")
    assert again.started("two")
    assert not again.started("three")
    assert again.learned("toplevel") == "/nix/store/x"
    assert again.evidence("one") == ("found",)
    assert not again.finished
    journal.record("undone", "two")
    assert not Journal(path).started("two")


def test_torn_last_line_is_dropped_at_every_length(path: Path) -> None:
    journal = Journal(path)
    journal.record("begun", token="t")
    whole = path.read_bytes()
    journal.record("started", "one")
    both = path.read_bytes()
    for length in range(len(whole), len(both)):
        path.write_bytes(both[:length])
        again = Journal(path)
        assert [event.what for event in again.events] == ["begun"]
        again.record("started", "other")
        assert [event.step for event in Journal(path).events] == [None, "other"]


def test_foreign_content_is_refused(path: Path) -> None:
    path.write_text("not a journal\n")
    with pytest.raises(HyperError, match="cannot be read") as caught:
        Journal(path)
    assert "--fresh" in caught.value.remedy


def test_a_mirror_that_cannot_be_written_is_given_up_and_the_journal_goes_on(
    path: Path, tmp_path: Path
) -> None:
    """The target's disk is gone: that must not hide why a step failed."""
    journal = Journal(path)
    journal.record("begun", token="a" * 16)
    mirror = tmp_path / "copy.jsonl"
    journal.mirror_to(mirror)
    mirror.unlink()
    mirror.symlink_to("/dev/full")
    journal.record("failed", "a")
    assert journal.mirror is None
    assert [event.what for event in Journal(path).events] == ["begun", "failed"]


def test_mirror_follows_and_stops_where_its_folder_is_gone(path: Path, tmp_path: Path) -> None:
    journal = Journal(path)
    journal.record("begun", token="t")
    mirror = tmp_path / "target/log/journal.jsonl"
    journal.mirror_to(mirror)
    journal.record("started", "one")
    assert mirror.read_bytes() == path.read_bytes()
    mirror.unlink()
    mirror.parent.rmdir()
    journal.record("done", "one")
    assert not mirror.parent.exists()


def test_one_installer_at_a_time(tmp_path: Path) -> None:
    with only_installer(tmp_path, 0):
        with pytest.raises(HyperError, match="another installer") as caught, only_installer(tmp_path, 0.1):
            pass
        assert caught.value.code is Exit.busy
        assert str(os.getpid()) in caught.value.why
    with only_installer(tmp_path, 0):
        pass


def test_what_a_killed_installer_left_running_keeps_the_lock(tmp_path: Path) -> None:
    import subprocess

    with only_installer(tmp_path, 0) as lock:
        left = subprocess.Popen(["sleep", "600"], pass_fds=(lock,))
    try:
        with pytest.raises(HyperError, match="another installer"), only_installer(tmp_path, 0.1):
            pass
    finally:
        left.kill()
        left.wait()
    with only_installer(tmp_path, 5) as lock, pytest.raises(BlockingIOError):
        other = os.open(tmp_path / "lock", os.O_RDWR)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)
