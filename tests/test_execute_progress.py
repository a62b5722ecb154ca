"""Progress on a terminal, on a serial line, and for programs."""

import io
import json
import os
import pty
from pathlib import Path

import pytest
from rich.console import Console

from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.nix_log import NixLog
from installer.execute.nix_store import check_realised, copy_closure, realise_flake
from installer.execute.progress import JsonLines, Plain, Progress, Terminal, make_progress, wants_plain
from installer.execute.runner import CommandError, Runner
from installer.plan.actions import CopyClosure, RealiseFlake
from installer.plan.model import Step
from tests.execute.rig import add_nix, add_to_store, rig, run

STEPS = tuple(
    Step(
        id=f"step-{n}",
        summary=f"Do thing {n} to a disk with quite a long name",
        actions=(),
        checks=(),
        weight=n,
    )
    for n in (1, 3)
)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def walk(progress: Progress, clock: Clock) -> None:
    progress.begin(STEPS)
    with progress.screen.shown():
        progress.start(STEPS[0])
        clock.seconds = 5
        progress.tick()
        clock.seconds = 40
        progress.tick()
        progress.end(STEPS[0], "verified")
        progress.start(STEPS[1])
        progress.inside(0.5, "passphrase hunter22 copied")
        progress.inside(0.4, "never back")
        progress.end(STEPS[1], "verified")


def secretive() -> Redactor:
    redact = Redactor()
    redact.add(b"hunter22")
    return redact


def test_plain_lines_with_heartbeat() -> None:
    out, clock = io.StringIO(), Clock()
    walk(Progress(Plain(out, lambda: len(STEPS), clock), secretive()), clock)
    lines = out.getvalue().splitlines()
    assert lines[0] == "[  0:00   0 %] 1/2 Do thing 1 to a disk with quite a long name"
    assert lines[1] == "[  0:40   0 %] still busy: Do thing 1 to a disk with quite a long name"
    assert lines[2].startswith("[  0:40  25 %] 2/2")
    assert lines[3] == "[  0:40  62 %] 2/2 50 % of this step: passphrase <secret> copied"
    assert len(lines) == 4


def test_json_lines() -> None:
    out, clock = io.StringIO(), Clock()
    walk(Progress(JsonLines(out, clock), secretive()), clock)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events if event["event"] != "alive"] == [
        *("step", "step", "step", "progress", "progress", "step")
    ]
    assert events[-1]["percent"] == 100
    assert events[-1]["state"] == "verified"
    assert "hunter22" not in out.getvalue()


def test_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=80, height=24, force_terminal=True, legacy_windows=False)
    walk(Progress(Terminal(console, lambda: len(STEPS), clock), secretive()), clock)
    text = out.getvalue()
    assert "done" in text
    assert "0:40" in text
    assert "hunter22" not in text
    assert "\x1b[?25h" in text, "the cursor comes back"


def test_serial_lines_and_pipes_get_plain_lines(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert wants_plain(file, {"TERM": "xterm"})
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as terminal:
        assert not wants_plain(terminal, {"TERM": "xterm-256color"})
        assert wants_plain(terminal, {"TERM": "dumb"})
        assert isinstance(make_progress("plain", Redactor(), terminal).screen, Plain)
        assert isinstance(make_progress("json", Redactor(), terminal).screen, JsonLines)
    os.close(parent)


# ---- Nix's own words ----


def nix_line(**event: object) -> bytes:
    return b"@nix " + json.dumps(event).encode()


def test_percentages_of_copies_and_builds() -> None:
    seen: list[tuple[float, str]] = []
    said: list[str | None] = []
    log = NixLog(progress=lambda share, text: seen.append((round(share, 3), text)))
    mib = 1 << 20
    for line in (
        nix_line(action="start", id=1, type=104, level=0, text=""),
        nix_line(action="start", id=2, type=103, level=3, text="copying 2 paths"),
        nix_line(action="result", id=2, type=106, fields=[100, 100 * mib]),
        nix_line(action="start", id=3, type=100, level=3, text="copying path 'a'"),
        nix_line(action="result", id=3, type=105, fields=[25 * mib, 50 * mib, 0, 0]),
        nix_line(action="stop", id=3),
        nix_line(action="result", id=1, type=105, fields=[1, 4, 1, 0]),
        nix_line(action="start", id=4, type=105, level=3, text="building 'x.drv'"),
        nix_line(action="result", id=4, type=101, fields=["a line of the build"]),
        nix_line(action="msg", level=0, msg="error: no"),
        nix_line(action="msg", level=7, msg="chatter"),
        b"@nix not json",
        b"plain words",
    ):
        said.append(log.line(line))
    assert seen == [
        (0.25, "25 MiB of 100 MiB copied"),
        (0.5, "50 MiB of 100 MiB copied"),
        (0.375, "50 MiB of 100 MiB copied, 1 of 4 built"),
    ]
    for words in ("copying path 'a'", "  a line of the build", "error: no", "@nix not json", "plain words"):
        assert words in said
    assert "chatter" not in said


@pytest.mark.nix
def test_closure_is_copied_with_progress_and_checked(tmp_path: Path) -> None:
    with rig(tmp_path) as made:
        add_nix(made)
        (tmp_path / "big").mkdir()
        (tmp_path / "big/file").write_bytes(os.urandom(20_000_000))
        path = add_to_store(made, tmp_path / "big", "big")
        target = tmp_path / "target"
        target.mkdir()
        out = io.StringIO()
        progress = Progress(JsonLines(out), Redactor())
        progress.begin(STEPS)
        progress.start(STEPS[0])
        runner = Runner(Log(tmp_path / "log", Redactor()), made.live.search_path)
        action = CopyClosure(toplevel=path, source="auto", store=str(target), options=("--no-check-sigs",))
        assert copy_closure(runner, progress, action) == path
        assert "1 store paths" in check_realised(runner, str(target), path)[0]
        assert (target / path[1:] / "file").stat().st_size == 20_000_000
        assert not (target / ".hv-install").exists()
        cache = f"file://{tmp_path}/cache?compression=none"
        run(made.folder / "bin/nix", "copy", "--to", cache, path)
        other = tmp_path / "other"
        other.mkdir()
        fetched = action.model_copy(update={"source": cache, "store": str(other)})
        assert copy_closure(runner, progress, fetched) == path
        assert check_realised(runner, str(other), path)
        run("rm", "-rf", other / path[1:])
        with pytest.raises(Exception, match="valid but not there"):
            check_realised(runner, str(other), path)


def test_first_small_copies_are_not_all_of_a_system() -> None:
    seen: list[float] = []
    log = NixLog(progress=lambda share, _: seen.append(share), least=1000)
    log.line(nix_line(action="start", id=1, type=100, level=3, text="copying path 'a'"))
    log.line(nix_line(action="result", id=1, type=105, fields=[10, 10, 0, 0]))
    assert seen == [0.01]


@pytest.mark.nix
def test_nix_says_why_it_failed(tmp_path: Path) -> None:
    with rig(tmp_path) as made:
        add_nix(made)
        runner = Runner(Log(tmp_path / "log", Redactor()), made.live.search_path)
        progress = Progress(JsonLines(io.StringIO()), Redactor())
        action = RealiseFlake(flake=f"path:{tmp_path}/nowhere", attribute="x", store=str(tmp_path))
        with pytest.raises(CommandError) as caught:
            realise_flake(runner, progress, action, 0)
        assert "nowhere" in caught.value.why


@pytest.mark.nix
def test_real_nix_tells_how_far_it_is(tmp_path: Path) -> None:
    with rig(tmp_path) as made:
        add_nix(made)
        (tmp_path / "big").mkdir()
        (tmp_path / "big/file").write_bytes(os.urandom(5_000_000))
        path = add_to_store(made, tmp_path / "big", "big")
        shares: list[float] = []
        log = NixLog(progress=lambda share, _: shares.append(share))
        runner = Runner(Log(tmp_path / "log", Redactor()), LiveSystem.search_path)
        copy = (
            "copy",
            "--no-check-sigs",
            "--to",
            str(tmp_path / "target"),
            "--log-format",
            "internal-json",
            path,
        )
        runner.run([str(made.folder / "bin/nix"), *copy], on_line=log.line)
        assert shares[-1] == 1
        assert 1 < len(shares) < 100, (
            "told more than once, though not for each of the thousand lines of Nix's"
        )
        assert shares == sorted(shares)
