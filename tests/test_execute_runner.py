"""Programs: streamed, bounded, ended whole, and never a secret in what is kept of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from installer.errors import Exit, HyperError
from installer.execute.live import LiveSystem
from installer.execute.log import MARK, Log, Redactor
from installer.execute.runner import CommandError, Runner, find_program
from installer.execute.secrets import Secrets, references
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests.plan_cases import ENCRYPTED, answers, machine, medium, storage

PATH = LiveSystem.search_path


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(Log(tmp_path / "log", Redactor()), PATH)


def sh(runner: Runner, script: str, **named: Any) -> str:
    return runner.run(["sh", "-c", script], **named).text


def test_input_reaches_it_and_output_comes_back(runner: Runner) -> None:
    data = os.urandom(3_000_000)
    assert runner.run(["cat"], stdin=data, quiet=True).stdout == data


def test_input_may_be_left_unread(runner: Runner) -> None:
    assert sh(runner, "exec <&-; echo fine", stdin=bytes(3_000_000)) == "fine"


def test_environment_is_small(runner: Runner) -> None:
    names = {line.split("=")[0] for line in sh(runner, "env").splitlines()}
    assert names <= {"PATH", "HOME", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"}


def test_failure_says_what_it_said(runner: Runner) -> None:
    with pytest.raises(CommandError) as caught:
        sh(runner, "echo the reason >&2; exit 3")
    assert caught.value.status == 3
    assert "the reason" in caught.value.why
    assert "exit status 3" in caught.value.why


def test_missing_program_is_a_failure(runner: Runner) -> None:
    with pytest.raises(CommandError):
        runner.run(["no-such-program-anywhere"])


def test_lines_and_times_are_logged(runner: Runner) -> None:
    sh(runner, "echo out; printf 'half\\rnext\\n' >&2; printf unended >&2")
    log = runner.log.path.read_text()
    for line in ("> out", "| half", "| next", "| unended", "= 0 after"):
        assert line in log


def test_timeout_ends_the_whole_group(runner: Runner, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(CommandError, match="sleep") as caught:
        sh(runner, f"sleep 600 & echo $! > {tmp_path}/pid; wait", timeout=1.0)
    assert "did not end within" in caught.value.why
    assert time.monotonic() - began < 60
    assert _dies(int((tmp_path / "pid").read_text()))


def _dies(process: int) -> bool:
    """Whether the process ends soon: SIGKILL returns before the last of a group is gone."""
    deadline = time.monotonic() + 60
    while _alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_interrupt_ends_the_program(runner: Runner, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sh(runner, f"echo $$ > {tmp_path}/pid; exec sleep 600", on_tick=interrupt)
    assert _dies(int((tmp_path / "pid").read_text()))


def test_program_dies_with_a_killed_installer(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from installer.execute.log import Log, Redactor\n"
        "from installer.execute.runner import Runner\n"
        f"r = Runner(Log(Path({str(tmp_path / 'log')!r}), Redactor()), {PATH!r})\n"
        f"r.run(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 600'])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    while _alive(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_programs_are_found(tmp_path: Path) -> None:
    assert find_program("sh", PATH)
    assert find_program("/bin/sh", "") == Path("/bin/sh")
    assert find_program("sh", str(tmp_path)) is None
    (tmp_path / "sh").write_text("not executable")
    assert find_program("sh", str(tmp_path)) is None


SECRET = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r\0"), min_size=1, max_size=40
).filter(lambda text: text.splitlines() == [text] and text not in MARK)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(secret=SECRET, before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_secret_in_the_log(tmp_path: Path, secret: str, before: str, after: str) -> None:
    redact = Redactor()
    redact.add(secret.encode())
    log = Log(tmp_path / "log", redact)
    log.path.write_text("")
    log.write(before + secret + after)
    log.write(json.dumps({"text": before + secret + after}))
    log.close()
    for line in log.path.read_text().splitlines():
        assert secret not in line.partition(" ")[2].replace(MARK, "\0"), line


def test_no_secret_of_a_program_in_log_or_error(runner: Runner) -> None:
    secret = "correct horse battery"
    runner.log.redact.add(secret.encode())
    with pytest.raises(CommandError) as caught:
        sh(runner, "read line; echo got $line; echo bad: $line >&2; exit 1", stdin=secret.encode() + b"\n")
    assert secret not in runner.log.path.read_text()
    assert secret not in str(caught.value)
    assert MARK in caught.value.why


# ---- secrets ----


def encrypted_plan(passphrase: dict[str, object], **more: object) -> tuple[Secrets, Plan]:
    given_answers = answers(storage=storage(encryption=ENCRYPTED | {"passphrase": passphrase}), **more)
    return Secrets(Redactor(), given_answers, ask=lambda _: "typed twice"), make_plan(
        machine(), given_answers, medium()
    )


def test_secret_from_a_file_loses_one_line_break(tmp_path: Path) -> None:
    file = tmp_path / "pass"
    file.write_text("correct horse\n")
    secrets, plan = encrypted_plan({"file": str(file)})
    secrets.collect(plan)
    (reference,) = [each for each in references(plan) if each.name == "passphrase"]
    assert secrets.value(reference) == b"correct horse"


def test_secret_is_asked_for_twice(tmp_path: Path) -> None:
    secrets, plan = encrypted_plan({"prompt": True})
    secrets.collect(plan)
    (reference,) = [each for each in references(plan) if each.name == "passphrase"]
    assert secrets.value(reference) == b"typed twice"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("", "is empty"),
        ("seven77", "shorter than 8"),
        ("two lines\nof secret", "line break"),
        ("with a \0 byte", "zero byte"),
    ],
)
def test_bad_secret_is_refused_before_anything(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "pass"
    if content is not None:
        file.write_text(content)
    secrets, plan = encrypted_plan({"file": str(file)})
    with pytest.raises(HyperError) as caught:
        secrets.collect(plan)
    assert caught.value.code is Exit.answers
    assert words in caught.value.why
    assert content is None or not content or content not in str(caught.value)


def test_hash_file_that_locks_everybody_out_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hash"
    file.write_text("!locked\n")
    users = [{"name": "bob", "admin": True, "password_hash_file": {"file": str(file)}}]
    given_answers = answers(users=users)
    with pytest.raises(HyperError) as caught:
        Secrets(Redactor(), given_answers).collect(make_plan(machine(), given_answers, medium()))
    assert caught.value.code is Exit.lockout
