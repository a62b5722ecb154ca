"""The engine, the states, and what people are told: jobs of straw, real files."""

import fcntl
import json
import multiprocessing
import os
import select
import shutil
import signal
import subprocess
import tarfile
import termios
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hv.commands import firstrun
from hv.firstrun import console
from hv.firstrun.backup import ARCHIVE, DECLARATION, BackupJob
from hv.firstrun.engine import PAUSES, Engine
from hv.firstrun.state import Failure, JobState, StateFolder, Status
from hv.firstrun.status import WIDTH, document, exit_code, table
from hv.firstrun.world import Clock, Journal, LaterError, TransientError, World
from installer.errors import Exit, HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Finished, Runner
from installer.handoff import Expectations, Handoff

HANDOFF = Handoff(
    hostname="straw",
    grow=None,
    expectations=Expectations(virtualization="ready", iommu="on"),
    pool="/var/lib/libvirt/images",
    vms=(),
    phase="setup",
    administrators=("ada",),
)


def nothing(_: World) -> None:
    """Success at once."""


def refuse(_: World) -> None:
    """A failure that time does not cure."""
    raise HyperError("It is broken.", why="somebody broke it", remedy="Mend it.")


@dataclass
class Straw:
    """A job that does what a test says and counts how often."""

    name: str
    requires: tuple[str, ...] = ()
    timeout: float = 60
    reason: str | None = None
    work: Callable[[World], None] = nothing
    check: Callable[[World], None] = nothing
    runs: int = 0

    def applies(self, handoff: Handoff) -> str | None:
        return self.reason

    def run(self, world: World) -> None:
        self.runs += 1
        self.work(world)

    def verify(self, world: World) -> None:
        self.check(world)


@dataclass
class Time:
    """A clock that goes only when somebody sleeps."""

    seconds: float = 0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds

    def clock(self) -> Clock:
        start = datetime(2030, 1, 1, tzinfo=UTC)
        return Clock(
            now=lambda: start + timedelta(seconds=self.seconds),
            monotonic=lambda: self.seconds,
            sleep=self.sleep,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    runner = Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"])
    return World(programs=runner, root=tmp_path, clock=Time().clock())


def engine_of(world: World, *jobs: Straw) -> Engine:
    states = StateFolder(world.path("/var/lib/hyper-nixos/firstrun"))
    return Engine(jobs, HANDOFF, world, states, console.announce(world))


def test_what_comes_with_the_next_start_waits_for_it(world: World) -> None:
    """No failure, nothing that needs it is begun, and the next run takes it up again."""
    waits: list[bool] = [True]

    def work(_: World) -> None:
        if waits:
            waits.clear()
            raise LaterError("The rest comes with the next start.", why="It is so.", remedy="Start anew.")

    first, needs = Straw("first", work=work), Straw("needs", requires=("first",))
    states = engine_of(world, first, needs).run()
    assert [state.status for state in states] == ["waiting", "waiting"]
    assert states[0].error is None
    assert states[0].reason == "The rest comes with the next start. It is so."
    assert states[0].attempts == 1
    states = engine_of(world, first, needs).run()
    assert [state.status for state in states] == ["done", "done"]
    assert states[0].reason is None


def test_failure_holds_up_what_needs_it_and_nothing_else(world: World) -> None:
    first, bad, needs, needs_both, free = (
        Straw("first"),
        Straw("bad", work=refuse),
        Straw("needs", requires=("bad",)),
        Straw("needs-both", requires=("first", "needs")),
        Straw("free", requires=("first",)),
    )
    states = engine_of(world, first, bad, needs, needs_both, free).run()
    assert [state.status for state in states] == ["done", "failed", "waiting", "waiting", "done"]
    assert states[1].error is not None and states[1].error.remedy == "Mend it."
    assert states[1].attempts == 1, "a judgement is not repeated within one run"
    assert states[2].reason == "needs bad"
    assert exit_code(states) is Exit.step


def test_second_run_repeats_the_failed_and_leaves_the_done_alone(world: World) -> None:
    first, bad, needs = Straw("first"), Straw("bad", work=refuse), Straw("needs", requires=("bad",))
    engine_of(world, first, bad, needs).run()
    bad.work = nothing
    states = engine_of(world, first, bad, needs).run()
    assert (first.runs, bad.runs, needs.runs) == (1, 2, 1)
    assert {state.status for state in states} == {Status.done} and exit_code(states) is Exit.ok
    assert states[1].attempts == 2


def test_passing_trouble_is_tried_again_after_a_pause(world: World) -> None:
    time = Time()
    world = World(programs=world.programs, root=world.root, clock=time.clock())

    def third_time_lucky(_: World) -> None:
        if job.runs < 3:
            raise TransientError("Not yet.", why="it is early", remedy="Wait.")

    job = Straw("patient", work=third_time_lucky)
    (state,) = engine_of(world, job).run()
    assert (state.status, state.attempts, tuple(time.pauses)) == (Status.done, 3, PAUSES)


def test_unknown_errors_are_kept_with_their_kind(world: World) -> None:
    def fall(_: World) -> None:
        raise OSError(5, "Input/output error")

    (state,) = engine_of(world, Straw("falls", work=fall)).run()
    assert (state.status, state.attempts) == (Status.failed, 3)
    assert state.error is not None and "OSError" in state.error.why and "Input/output" in state.error.why


def test_a_job_is_done_only_when_its_effect_is_seen(world: World) -> None:
    (state,) = engine_of(world, Straw("believes", check=refuse)).run()
    assert state.status is Status.failed


def test_a_hanging_job_is_given_up(world: World) -> None:

    gate = threading.Event()

    def wait(_: World) -> None:
        gate.wait(60)

    hanging = Straw("hangs", timeout=-4.9, work=wait)
    states = engine_of(world, hanging, Straw("other")).run()
    gate.set()
    assert [state.status for state in states] == ["failed", "done"]
    assert states[0].error is not None and "hangs" in states[0].error.what
    assert states[0].attempts == 1


def test_a_command_gets_no_more_time_than_its_job(world: World) -> None:
    late = World(programs=world.programs, root=world.root, deadline=Clock().monotonic() + 0.3)
    with pytest.raises(HyperError, match="sleep"):
        late.attempt(("sleep", "60"))
    with pytest.raises(HyperError, match="out of time"):
        late.attempt(("true",))


def test_skipped_jobs_satisfy_others_and_say_why(world: World) -> None:
    states = engine_of(world, Straw("off", reason="nobody asked"), Straw("next", requires=("off",))).run()
    assert [state.status for state in states] == ["skipped", "done"]
    assert states[0].reason == "nobody asked"


def _die_in_job(root: Path) -> None:
    world = World(programs=Runner(Log(root / "log", Redactor()), os.environ["PATH"]), root=root)
    engine_of(world, Straw("first"), Straw("cut", work=lambda _: os.kill(os.getpid(), signal.SIGKILL))).run()


def test_power_cut_leaves_running_and_is_repeated(world: World) -> None:
    child = multiprocessing.get_context("fork").Process(target=_die_in_job, args=(world.root,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    first, cut = Straw("first"), Straw("cut")
    engine = engine_of(world, first, cut)
    assert [state.status for state in engine.all_states()] == ["done", "running"]
    states = engine.run()
    assert (first.runs, cut.runs) == (0, 1)
    assert states[1].status is Status.done and states[1].attempts == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\0", b'{"version": 2}', b'{"job": 7}', b"[]"])
def test_damaged_state_counts_as_never_tried(world: World, content: bytes) -> None:
    job = Straw("first")
    engine = engine_of(world, job)
    engine.states.folder.mkdir(parents=True)
    (engine.states.folder / "first.json").write_bytes(content)
    assert engine.all_states()[0].status is Status.pending
    assert "damaged" in (engine.all_states()[0].reason or "")
    assert engine.run()[0].status is Status.done


def test_only_one_run_at_a_time(world: World) -> None:
    states = engine_of(world).states
    with states.lock(), pytest.raises(HyperError) as refused, states.lock():
        pass
    assert refused.value.code is Exit.busy
    with states.lock():
        pass


def test_lines_go_to_the_console_and_into_the_state(world: World) -> None:
    said: list[str] = []
    world = World(
        programs=world.programs, root=world.root, clock=world.clock, journal=Journal(emit=said.append)
    )

    def talk(world: World) -> None:
        world.say("measuring")
        world.warn("it is old")
        world.attempt(("true",))

    (state,) = engine_of(world, Straw("talks", work=talk)).run()
    assert said == [
        "talks: started",
        "talks: measuring",
        "talks: warning: it is old",
        "talks: done and checked, 0.0 s",
    ]
    assert state.warnings == ("it is old",)
    assert state.log == ("measuring", "warning: it is old", "$ true  -> 0")


STATES = (
    JobState(job="grow-root", status=Status.skipped, reason="nothing was planned to grow"),
    JobState(
        job="hardware", status=Status.done, attempts=1, warnings=("KVM is lacking, planned was ready " * 5,)
    ),
    JobState(
        job="vm-with-a-name-that-has-no-end-at-all",
        status=Status.failed,
        attempts=3,
        started=datetime(2030, 1, 1, tzinfo=UTC),
        finished=datetime(2030, 1, 1, 0, 1, tzinfo=UTC),
        error=Failure(what="It is broken.", why="somebody broke it " * 9, remedy="Mend it."),
    ),
    JobState(job="phase", status=Status.waiting, reason="needs " + "x" * 200),
)


def test_status_fits_80_columns_and_hides_nothing() -> None:
    text = table("a-host", STATES)
    assert max(map(len, text.splitlines())) <= WIDTH
    column = text.splitlines()[2].index("NOTES")
    joined = "".join("".join(line[column:] for line in text.splitlines()[3:]).split())
    for part in ("nothing was planned to grow", "somebody broke it " * 9, "Mend it.", "x" * 200):
        assert "".join(part.split()) in joined
    for line in (
        "journalctl -u hyper-nixos-firstrun",
        "/var/log/hyper-nixos/firstrun.log",
        "hv firstrun retry",
    ):
        assert line in text
    assert "vm-with-a-name-" in text and "warning: KVM" in text


def test_status_document_is_stable() -> None:
    first = json.dumps(document("a-host", STATES))
    assert first == json.dumps(document("a-host", STATES))
    read = json.loads(first)
    assert read["settled"] is False
    assert [job["job"] for job in read["jobs"]] == [state.job for state in STATES]
    assert JobState.model_validate(read["jobs"][2]) == STATES[2]


def test_console_notice(world: World) -> None:
    seen: list[str] = []
    issue = world.path(console.ISSUE_FILE)
    look = Straw("looks", work=lambda _: seen.append(issue.read_text()))
    engine_of(world, look, Straw("bad", work=refuse)).run()
    assert "First run: under way, 2 jobs" in seen[0]
    assert "1 of 2 jobs done" in issue.read_text() and "failed: bad" in issue.read_text()
    assert "sudo hv firstrun retry JOB" in issue.read_text()
    assert (
        "hv firstrun status" in issue.read_text() and max(map(len, issue.read_text().splitlines())) <= WIDTH
    )
    assert issue.stat().st_mode & 0o777 == 0o644
    console.settle(world)
    assert "First run" not in issue.read_text()


def test_prompt_is_left_alone_from_job_to_job(world: World) -> None:
    """agetty forgets a name that is half typed when the notice is written anew."""
    files: list[int] = []
    issue = world.path(console.ISSUE_FILE)
    jobs = [
        Straw(name, work=lambda _: files.append(issue.stat().st_ino)) for name in ("one", "two", "three")
    ]
    engine_of(world, *jobs).run()
    assert len(files) == 3 and len({*files}) == 1
    assert "complete, 3 jobs" in issue.read_text()


def test_agetty_shows_the_notice(world: World) -> None:
    engine_of(world, Straw("first"), Straw("bad", work=refuse)).run()
    folder = world.path(console.ISSUE_FILE).parent
    # agetty wants a terminal, which script(1) gives it.
    command = ("script", "-qc", f"agetty --show-issue --issue-file {folder}", "/dev/null")
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert shown.replace("\r", "").strip() == world.path(console.ISSUE_FILE).read_text().strip()


def test_page_says_who_this_is(world: World) -> None:
    """The keys' fingerprints are ssh-keygen's own words, the addresses ip's; nothing else of the keys is there."""
    key = world.path("/etc/ssh/ssh_host_ed25519_key")
    key.parent.mkdir(parents=True)
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
    (key.parent / "ssh_host_rsa_key.pub").write_text("half wri")
    world.path("/proc/sys/kernel").mkdir(parents=True)
    world.path("/proc/sys/kernel/hostname").write_text("kvm-\\d\n")
    shown = console.page(world, [JobState(job="one", status=Status.done)])
    said = subprocess.run(("ssh-keygen", "-lf", str(key)), check=True, capture_output=True, text=True).stdout
    assert f"  ssh-ed25519 {said.split()[1]}" in shown.splitlines()
    assert shown.startswith("kvm-\\\\d\n  addresses: ")
    assert "First run: complete, 1 jobs" in shown and "PRIVATE" not in shown
    assert max(map(len, shown.splitlines())) <= WIDTH and len(shown.splitlines()) < 20


def _read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal shows, until it shows this."""
    shown = b""
    while wanted not in shown:
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 1000)
    return shown


def test_a_name_that_is_half_typed_is_kept(world: World) -> None:
    """A real agetty on a real terminal: while somebody types no prompt is drawn anew, and later one is."""
    reloads: list[tuple[str, ...]] = []

    class Watched:
        def run(self, argv: Sequence[str], **_: object) -> Finished:
            reloads.append(tuple(argv))
            return Finished(tuple(argv), 0, b"[]", "", 0.0)

    main, line = os.openpty()
    program = shutil.which("agetty", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program
    prompt = subprocess.Popen(
        (program, "--noissue", "--login-program", "/bin/true", "-", "linux"),
        stdin=line,
        stdout=line,
        stderr=line,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    try:
        real = replace(world, programs=Watched(), clock=Clock())
        world.path("/proc").mkdir(exist_ok=True)
        world.path(f"/proc/{prompt.pid}").symlink_to(f"/proc/{prompt.pid}")
        assert b"login:" in _read_until(main, b"login:")
        os.utime(os.ttyname(line), (1, 1))
        assert not console.somebody_types(real)
        os.write(main, b"ad")
        assert _read_until(main, b"d").endswith(b"ad")
        # The kernel notes a read in the access time of the terminal.
        assert Path(os.ttyname(line)).stat().st_atime > 1
        assert console.somebody_types(real)
        tell = console.announce(real)
        tell([JobState(job="one", status=Status.failed)])
        assert ("agetty", "--reload") not in reloads
        assert "failed: one" in world.path(console.ISSUE_FILE).read_text()
        later = replace(real, clock=Clock(now=lambda: datetime.now(UTC) + timedelta(minutes=1)))
        assert not console.somebody_types(later)
        # Whoever was left alone sees the news with the next one, or when nobody types any more.
        os.utime(os.ttyname(line), (1, 1))
        tell([JobState(job="one", status=Status.failed)])
        assert reloads.count(("agetty", "--reload")) == 1
        tell([JobState(job="one", status=Status.failed)])
        assert reloads.count(("agetty", "--reload")) == 1
    finally:
        prompt.kill()
        prompt.wait()
        os.close(main)
        os.close(line)


def test_issue_escapes_are_taken_literally() -> None:
    assert "\\\\d" in console.notice([JobState(job="vm-\\d", status=Status.failed)])


def test_a_console_that_cannot_be_written_to_is_no_failure(world: World) -> None:
    world.path("/run").mkdir()
    world.path("/run/issue.d").write_text("a file where a folder should be")
    assert engine_of(world, Straw("first")).run()[0].status is Status.done


# The command line, without anything to do for libvirt.


@pytest.fixture
def host(tmp_path: Path) -> Path:
    place = tmp_path / "var/lib/hyper-nixos"
    place.mkdir(parents=True)
    (place / "handoff.json").write_text(HANDOFF.model_dump_json())
    return tmp_path


def hv(host: Path, *words: str) -> int:
    return firstrun.main(["--root", str(host), "--connect", f"qemu:///system?socket={host}/none", *words])


def test_status_before_anything_ran(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hv(host, "status") == Exit.step
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines()[3:15]] == [
        *(
            "grow-root",
            "enrol",
            "hardware",
            "libvirt",
            "pool",
            "network",
            "images",
            "certificate",
            "secure-boot",
            "backup",
            "phase",
            "webhook",
        ),
    ]
    assert not (host / "var/lib/hyper-nixos/firstrun").exists(), "status writes nothing"


@pytest.mark.root
def test_skip_needs_a_reason_and_keeps_it(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HyperError) as usage:
        hv(host, "skip", "pool")
    assert usage.value.code == Exit.usage
    assert hv(host, "skip", "pool", "--reason", "made by hand") == Exit.ok
    capsys.readouterr()
    hv(host, "status", "--json")
    (pool,) = (job for job in json.loads(capsys.readouterr().out)["jobs"] if job["job"] == "pool")
    assert (pool["status"], pool["reason"]) == ("skipped", "passed over: made by hand")


@pytest.mark.root
@pytest.mark.parametrize("verb", [("retry", "poool"), ("skip", "poool", "--reason", "x")])
def test_unknown_job_is_named_with_the_known(host: Path, verb: tuple[str, ...]) -> None:
    with pytest.raises(HyperError) as refused:
        hv(host, *verb)
    assert refused.value.code is Exit.usage
    assert "poool" in refused.value.what and "network" in refused.value.why


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no first run"),
        (b"", "damaged"),
        (b"\xff\xfe", "damaged"),
        (HANDOFF.model_dump_json().replace('"setup"', '"soft"').encode(), "damaged"),
        (HANDOFF.model_dump_json()[:-40].encode(), "damaged"),
    ],
)
def test_handoff_that_cannot_be_used(host: Path, content: bytes | None, word: str) -> None:
    file = host / "var/lib/hyper-nixos/handoff.json"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(HyperError, match=word):
        hv(host, "status")


def test_running_as_somebody_is_refused(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HyperError) as refused:
        hv(host, "run")
    assert refused.value.code is Exit.privilege
    hv(host, "status")


@pytest.mark.root
def test_nothing_left_to_do(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = (
        "grow-root",
        "enrol",
        "hardware",
        "libvirt",
        "pool",
        "network",
        "images",
        "certificate",
        "secure-boot",
        "backup",
        "phase",
        "webhook",
    )
    for name in names:
        hv(host, "skip", name, "--reason", "test")
    issue = host / console.ISSUE_FILE.lstrip("/")
    issue.parent.mkdir(parents=True)
    issue.write_text("old")
    assert hv(host, "run") == Exit.ok
    assert "nothing left to do" in capsys.readouterr().out
    assert "old" not in issue.read_text() and "addresses: " in issue.read_text()


@pytest.mark.root
def test_run_without_libvirt_says_so(
    host: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hv.firstrun.libvirt.PATIENCE", 0.5)
    monkeypatch.setattr("hv.firstrun.engine.PAUSES", (0.0, 0.0))
    hv(host, "skip", "hardware", "--reason", "not of interest")
    assert hv(host, "run") == Exit.step
    text = capsys.readouterr().out
    assert "libvirt: FAILED: libvirt does not answer." in text and "pool: waiting, needs libvirt" in text
    assert "libvirt: FAILED" in (host / "var/log/hyper-nixos/firstrun.log").read_text()
    assert hv(host, "status") == Exit.step


def test_backup_of_the_configuration(world: World) -> None:
    """Whole, root's alone, the same after a second run and after one that was killed half way."""
    job = BackupJob()
    with pytest.raises(HyperError, match="no configuration"):
        job.run(world)
    for name, text in (("configuration.nix", "{ }"), ("phases/setup.nix", "{ }"), (".git/config", "x")):
        file = world.path(f"{DECLARATION}/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    archive = world.path(ARCHIVE)
    job.run(world)
    job.verify(world)
    with tarfile.open(archive) as packed:
        assert packed.getnames() == ["etc/nixos/configuration.nix", "etc/nixos/phases/setup.nix"]
    assert archive.stat().st_mode & 0o777 == 0o600
    # Half written, and half in place: power cuts leave either; the next run mends both.
    archive.with_name(f".{archive.name}.partial").write_bytes(b"half")
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(HyperError, match="not whole"):
        job.verify(world)
    job.run(world)
    job.verify(world)
    world.path(f"{DECLARATION}/configuration.nix").write_text("{ other = 1; }")
    with pytest.raises(HyperError, match=r"differs in\s+etc/nixos/configuration\.nix"):
        job.verify(world)
