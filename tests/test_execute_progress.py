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
from installer.execute.nix_log import NixLog, used_since_now
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


def test_steps_side_by_side_are_all_told() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(Plain(out, lambda: len(STEPS), clock), secretive())
    progress.begin(STEPS)
    progress.start(STEPS[0])
    progress.start(STEPS[1])
    clock.seconds = 40
    progress.tick()
    progress.end(STEPS[1], "verified")
    assert progress.percent == 75
    clock.seconds = 80
    progress.tick()
    progress.end(STEPS[0], "failed")
    lines = [line.partition("] ")[2] for line in out.getvalue().splitlines()]
    first, second = (step.summary for step in STEPS)
    assert lines == [
        f"1/2 {first}",
        f"2/2 {second}",
        f"still busy: {first}; {second}",
        f"still busy: {first}",
        "1/2 failed",
    ]


def test_lines_of_a_serial_console_are_folded_between_words() -> None:
    out = io.StringIO()
    long = Step(id="long", summary="Erase " + "every signature " * 8 + "on the disk", actions=(), checks=())
    screen = Plain(out, lambda: 1, Clock(), columns=80)
    progress = Progress(screen, secretive())
    progress.begin((long,))
    progress.start(long)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) < 80
    assert all(line.startswith(" " * 15) for line in lines[1:])
    assert " ".join(" ".join(lines).split()).endswith(long.summary)


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


def test_percentages_of_copies_and_builds() -> None:
    seen: list[tuple[float, str]] = []
    mib = 1 << 20
    used = [0]
    log = NixLog(lambda share, text: seen.append((round(share, 3), text)), lambda: used[0])
    log.tick()
    assert seen == []
    for amount, line in (
        (0, b"these 4 derivations will be built:"),
        (0, b"  /nix/store/" + b"a" * 32 + b"-x.drv"),
        (0, b"these 2 paths will be fetched (1.00 MiB download, 100.00 MiB unpacked):"),
        (0, b"copying path '/nix/store/a' from 'local'..."),
        (25, b"warning: words"),
        (50, b"copying path '/nix/store/b' from 'local'..."),
        (100, b"building '/nix/store/x.drv'..."),
        (100, b"building '/nix/store/y.drv'..."),
    ):
        used[0] = amount * mib
        assert log.line(line) == line.decode()
        if line.startswith(b"warning"):
            log.tick()
    assert seen == [
        (0.0, "0 B on the disk, 1 of 2 paths (100 MiB), build 0 of 4"),
        (0.125, "25 MiB on the disk, 1 of 2 paths (100 MiB), build 0 of 4"),
        (0.25, "50 MiB on the disk, 2 of 2 paths (100 MiB), build 0 of 4"),
        (0.5, "100 MiB on the disk, 2 of 2 paths (100 MiB), build 1 of 4"),
        (0.625, "100 MiB on the disk, 2 of 2 paths (100 MiB), build 2 of 4"),
    ]


def test_paths_of_known_size_are_bounds_for_what_the_disk_says() -> None:
    seen: list[float] = []
    used = [0]
    log = NixLog(
        lambda share, _: seen.append(share), lambda: used[0], sizes={"/nix/store/a": 60, "/nix/store/b": 40}
    )
    log.line(b"copying path '/nix/store/a' to 'local'...")
    used[0] = 1000  # the disk takes more than the path has, as small files do
    log.tick()
    used[0] = 30  # or less, where it compresses
    log.line(b"copying path '/nix/store/b' to 'local'...")
    assert seen == [0.0, 0.6, 0.6]


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
        run("chmod", "-R", "u+w", other / path[1:])  # store paths are not writable
        run("rm", "-rf", other / path[1:])
        with pytest.raises(Exception, match="valid but not there"):
            check_realised(runner, str(other), path)


def test_first_small_copies_are_not_all_of_a_system() -> None:
    seen: list[float] = []
    log = NixLog(lambda share, _: seen.append(share), lambda: 10, least=1000)
    log.line(b"copying path '/nix/store/a' from 'local'...")
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
    """The wording that is understood is what Nix says."""
    with rig(tmp_path) as made:
        add_nix(made)
        (tmp_path / "big").mkdir()
        (tmp_path / "big/file").write_bytes(os.urandom(5_000_000))
        path = add_to_store(made, tmp_path / "big", "big")
        runner = Runner(Log(tmp_path / "log", Redactor()), LiveSystem.search_path)
        target = tmp_path / "target"
        target.mkdir()
        shares: list[float] = []
        log = NixLog(lambda share, _: shares.append(share), used_since_now(str(target)))
        nix = (
            str(made.folder / "bin/nix"),
            "build",
            "--store",
            str(target),
            "--no-link",
            "--print-build-logs",
        )
        take = ("--extra-substituters", f"{made.folder}/store?trusted=1", "--option", "substitute", "true")
        runner.run([*nix, *take, path], on_line=log.line, on_tick=log.tick)
        assert (log.to_copy, log.copies) == (1, 1)
        assert 4_500_000 < log.unpacked < 5_500_000
        # A builder within Nix: the sandbox needs no shell.
        expression = """derivation {
          name = "built"; system = "builtin"; builder = "builtin:buildenv"; derivations = [ ]; manifest = "none";
        }"""
        runner.run(
            [*nix, "--option", "sandbox-paths", "", "--impure", "--expr", expression], on_line=log.line
        )
        assert (log.to_build, log.builds) == (1, 1)
        assert shares
