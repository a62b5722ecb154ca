"""The guided installer on a real pseudo-terminal of 80x24, and line by line."""

import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from io import StringIO
from pathlib import Path

import pytest

from installer.answers.load import load
from installer.execute import apart
from installer.execute.live import LiveSystem
from installer.execute.progress import Plain
from installer.guided.words import LANGUAGES
from installer.medium import RELEASE
from tests.guided_screens import (
    KEY,
    command,
    committed,
    environment,
    kept_reinstalled,
    kept_several,
    reinstalled,
    several,
    walk,
)
from tests.nixeval.nix import REPOSITORY
from tests.terminal import CONTROL_C, DOWN, ENTER, Terminal


def test_the_screens_are_as_committed_and_fit(tmp_path: Path) -> None:
    """One walk through everything; then the plan, the end, and the answer file."""
    answers = tmp_path / "answers.toml"
    with Terminal(command(answers), environment()) as terminal:
        seen = dict(walk(terminal))
        terminal.choose("Make the plan")
        plan = terminal.until("Plan for host kvm1")
        terminal.choose("Close")
        terminal.until("dry run")
        assert terminal.end() == 0
    for name, text in seen.items():
        lines = text.splitlines()
        assert len(lines) <= 24, f"{name} scrolled:\n{text}"
        assert max(map(len, lines)) <= 80, name
        assert set(lines[1]) == {"-"}, f"{name} lost its head:\n{text}"
        pointed = [line for line in lines if line.startswith("  > ")]
        assert len(pointed) == (0 if "? explains, < goes back" in text else 1), f"{name}:\n{text}"
    assert "lines 1 to" in plan
    assert seen == committed(), "if wanted: python -m tests.guided_screens"
    assert answers.stat().st_mode & 0o777 == 0o600
    text = answers.read_text()
    assert "correct horse" not in text
    read = load(text.encode(), "answers.toml")
    assert read.users[0].ssh_keys == (KEY,)
    assert read.network.bridges[0].members == ("lan0",)


def test_many_disks_and_finer_points_are_as_committed_and_fit() -> None:
    seen = several()
    for name, text in seen.items():
        assert len(text.splitlines()) <= 24, f"{name} scrolled:\n{text}"
        assert set(text.splitlines()[1]) == {"-"}, f"{name} lost its head:\n{text}"
    assert seen == kept_several(), "if wanted: python -m tests.guided_screens"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_host_whose_guests_have_a_disk_of_their_own_is_installed_anew(language: str) -> None:
    """The screens are as committed, and fit."""
    seen = reinstalled(language)
    for name, text in seen.items():
        assert len(text.splitlines()) <= 24, f"{name} scrolled:\n{text}"
        assert set(text.splitlines()[1]) == {"-"}, f"{name} lost its head:\n{text}"
    assert seen == kept_reinstalled(language), "if wanted: python -m tests.guided_screens"


LINES = (
    *("1", "2", "1"),  # language, level, keyboard
    *("1", "1", "1", "3", "1", "", "1"),  # network, layout, disk, btrfs, zram, no data of others, agreed
    *("1", "hv-7", "Europe/Berlin"),  # not encrypted, name, zone
    *("alice", "2", KEY, "1", "1"),  # who, paste, the key, no more, nobody else
    *("", "", "", "", "1", "2"),  # tier, features, devices, guests, phase, profile
    "1",  # make the plan, and end
)


def test_line_by_line_it_asks_the_same(tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    # getpass wants a terminal; there is none, and it says so on standard error.
    lines = [*LINES[:14], "", *LINES[14:]]
    done = subprocess.run(
        [*command(answers), "--plain"],
        input="\n".join(lines) + "\n",
        env=environment() | {"TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.split("\nPlan for host")[0].splitlines())) < 160
    raw = tomllib.loads(answers.read_text())
    assert raw["hostname"] == "hv-7"
    assert raw["storage"]["filesystem"] == "btrfs"
    assert "Plan for host hv-7" in done.stdout


def test_without_a_medium_a_dry_run_assumes_one_and_says_so(tmp_path: Path) -> None:
    """`hv install --record DIR --dry-run` anywhere."""
    answers = tmp_path / "answers.toml"
    arguments = command(answers)
    at = arguments.index("--medium")
    arguments = [
        "--record" if word == "--machine" else word for word in arguments[:at] + arguments[at + 2 :]
    ]
    # No image is there to make a guest of, so that is not asked.
    lines = [*LINES[:14], "", *LINES[14:-4], *LINES[-3:]]
    done = subprocess.run(
        [*arguments, "--plain"],
        input="\n".join(lines) + "\n",
        env=environment() | {"TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "Plan for host hv-7" in done.stdout
    assert "No medium was there to look at" in done.stdout
    assert RELEASE in (REPOSITORY / "flake.nix").read_text().split("nixpkgs.url")[1].splitlines()[0]


def test_the_end_of_input_keeps_the_answers(tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    done = subprocess.run(
        [*command(answers), "--plain"],
        input="\n".join(LINES[:13]) + "\n",
        env=environment() | {"TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Nothing was written to any disk" in done.stdout
    assert tomllib.loads(answers.read_text())["hostname"] == "hv-7"


def test_a_dry_run_whose_terminal_goes_leaves_nothing_in_tmp(tmp_path: Path) -> None:
    there = tmp_path / "tmp"
    there.mkdir()
    process = subprocess.Popen(
        [*command(tmp_path / "answers.toml"), "--plain"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment() | {"TERM": "dumb", "TMPDIR": str(there)},
    )
    try:
        assert process.stdin
        assert process.stdout
        process.stdin.write("1\n")
        process.stdin.flush()
        # It is in the midst of its questions.
        assert process.stdout.readline()
        assert process.stdout.read(200)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert [*there.iterdir()] == []


def test_control_c_asks_and_a_window_may_change_its_size(tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    with Terminal(command(answers), environment()) as terminal:
        terminal.until("Sprache")
        terminal.choose("English")
        terminal.until("How much shall")
        terminal.resize(40, 100)
        terminal.choose("Some")
        wide = terminal.until("Which keyboard")
        assert max(map(len, wide.splitlines())) <= 80
        terminal.resize(24, 80)
        terminal.type(CONTROL_C)
        terminal.until("Leave the installation")
        terminal.choose("No, go on")
        # Just there, and not at the beginning.
        terminal.until("Which keyboard[\\s\\S]*Go back")
        terminal.type(CONTROL_C)
        terminal.until("Leave the installation")
        terminal.choose("Yes, leave")
        terminal.until("Nothing was written")
        assert terminal.end() == 0
    assert answers.exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("plain", [[], ["--plain"]], ids=["screen", "plain"])
def test_a_lost_terminal_keeps_the_answers(tmp_path: Path, number: signal.Signals, plain: list[str]) -> None:
    """Whoever was cut off in the middle goes on with what was answered."""
    answers = tmp_path / "answers.toml"
    with Terminal([*command(answers), *plain], environment()) as terminal:
        terminal.until("Sprache")
        for page in ("How much shall", "Which keyboard", "get its addresses"):
            terminal.type(ENTER)
            terminal.until(page)
        terminal.process.kill(number)
        terminal.until("go on with: hv install --guided")
        assert terminal.end() == 0
    assert tomllib.loads(answers.read_text())["keymap"] == "us"


def test_a_terminal_that_is_gone_for_good_keeps_the_answers(tmp_path: Path) -> None:
    """Not even an error can be written to it."""
    answers = tmp_path / "answers.toml"
    with Terminal(command(answers), environment()) as terminal:
        terminal.until("Sprache")
        terminal.type(ENTER)
        terminal.until("How much shall")
        terminal.type(ENTER)
        terminal.until("Which keyboard")
        terminal.process.ptyproc.fileobj.close()
        terminal.process.wait()
    assert tomllib.loads(answers.read_text())["locale"] == "en_US.UTF-8"


def test_control_c_asks_while_the_plan_is_shown_too(tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    given = REPOSITORY / "examples" / "home-lab.toml"
    argv = [*command(answers), "--answers", str(given), "--ask", "keyboard"]
    argv[argv.index("--machine") + 1] = "tests/machines/lab-bios"
    with Terminal(argv, environment()) as terminal:
        terminal.until("Which keyboard")
        terminal.type(ENTER)
        terminal.until("Change something")
        terminal.choose("Show every step")
        terminal.until("lines 1 to")
        terminal.type(CONTROL_C)
        terminal.until("Leave the installation")
        terminal.choose("No, go on")
        terminal.until("lines 1 to")
        terminal.choose("Close")
        terminal.until("Change something")


def test_with_everything_explained_no_page_loses_its_head(tmp_path: Path) -> None:
    """The longest texts above the longest lists; arrows, space, < and ? do what they say."""
    with Terminal(command(tmp_path / "answers.toml"), environment()) as terminal:
        terminal.until("Sprache")
        terminal.type(" ")
        terminal.until("How much shall")
        terminal.choose("Much: I do this")
        seen = [terminal.until("Which keyboard[\\s\\S]*Go back")]
        terminal.type("?")
        seen.append(terminal.until("Close"))
        terminal.type(ENTER)
        terminal.until("Which keyboard[\\s\\S]*Go back")
        terminal.type("<")
        terminal.until("How much shall")
        terminal.type(" ")
        terminal.until("Which keyboard[\\s\\S]*Go back")
        terminal.type(CONTROL_C)
        terminal.until("Leave the installation")
        terminal.choose("Yes, leave")
        assert terminal.end() == 0
    with Terminal([*command(tmp_path / "answers.toml"), "--ask", "hypervisor"], environment()) as terminal:
        terminal.until("How much host")
        terminal.type(ENTER)
        seen.append(terminal.until("The list is longer[\\s\\S]*Go on with this"))
        terminal.type(DOWN, DOWN, "<")
        terminal.until("How much host")
    for text in seen:
        assert set(text.splitlines()[1]) == {"-"}, text
        assert not any(line.endswith("…") for line in text.splitlines()), f"cut off:\n{text}"


@pytest.mark.parametrize(
    "error", ["HyperError('no', why='it broke', remedy='mend it')", "RuntimeError('broke')"]
)
def test_what_goes_wrong_loses_no_answers(tmp_path: Path, error: str) -> None:
    """A program that fails while something is asked; and a defect of our own."""
    answers = tmp_path / "answers.toml"
    program = (
        "import sys; from installer.errors import HyperError; from installer.guided.world import DryWorld; "
        "from installer.commands.install import main\n"
        f"def broken(self, name):\n    raise {error}\n"
        "DryWorld._set_keymap = broken\n"
        "try:\n    sys.exit(main(sys.argv[1:]))\n"
        "except HyperError as told:\n    sys.exit(str(told.why))\n"
    )
    arguments = command(answers)[4:]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--plain"],
        input="1\n2\n1\n",
        env=environment() | {"TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "broke" in done.stderr
    assert f"go on with: hv install --guided --answers {answers}" in done.stdout
    assert tomllib.loads(answers.read_text())["locale"] == "en_US.UTF-8"


def test_a_wrong_topic_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [*command(tmp_path / "answers.toml"), "--ask", "disks,wine"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "wine" in done.stderr
    assert "users" in done.stderr


def test_a_file_can_ask_for_the_rest(tmp_path: Path) -> None:
    given = tmp_path / "given.toml"
    given.write_text(
        'version = 1\nhostname = "kept"\ninteractive = ["users"]\n[storage]\ndisk = { serial = "S69ENF0R123456A" }\n'
    )
    with Terminal([*command(tmp_path / "answers.toml"), "--answers", str(given)], environment()) as terminal:
        terminal.until("Login name")
        terminal.type("alice", ENTER)
        terminal.until("Password of alice")
        terminal.type(ENTER)
        terminal.until("Where is a key")
        terminal.choose("paste")
        terminal.until("Key:")
        terminal.type(KEY, ENTER)
        terminal.until("Another key")
        terminal.choose("no more")
        terminal.until("somebody else")
        terminal.choose("No, that is all")
        terminal.until("Change something")
        terminal.choose("Leave, and keep")
        assert terminal.end() == 0
    raw = tomllib.loads((tmp_path / "answers.toml").read_text())
    assert raw["hostname"] == "kept"
    assert raw["users"][0]["name"] == "alice"


# Apart from the screen

TALKER = """
import json, sys, time
for number in range(3):
    print(json.dumps({"event": "message", "text": f"line {number}"}), flush=True)
    time.sleep(0.3)
print("it went wrong", file=sys.stderr)
sys.exit(9)
"""


@pytest.fixture
def live(tmp_path: Path) -> LiveSystem:
    runtime = tmp_path / "install"
    runtime.mkdir()
    return LiveSystem(runtime=runtime)


def supervised(live: LiveSystem) -> subprocess.Popen[bytes]:
    """A supervisor in a session of its own, as `start` makes one, with another program than the installer."""
    apart.said(live).write_text("")
    program = (
        "import sys; from pathlib import Path; from installer.execute import apart; "
        "from installer.execute.live import LiveSystem; "
        "sys.exit(apart.supervise(LiveSystem(runtime=Path(sys.argv[1])), [sys.executable, '-c', sys.argv[2]]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(live.runtime), TALKER, apart.__name__],
        env=environment(),
        start_new_session=True,
    )


def test_what_is_said_apart_is_followed_to_its_end(live: LiveSystem) -> None:
    process = supervised(live)
    output = StringIO()
    code = apart.follow(live, lambda total: Plain(output, total))
    assert process.wait() == code == 9
    assert "line 0\nline 1\nline 2\nit went wrong" in output.getvalue()
    # Whoever comes later sees the same.
    again = StringIO()
    assert apart.follow(live, lambda total: Plain(again, total)) == 9
    assert again.getvalue() == output.getvalue()


def test_a_hang_up_of_the_screen_does_not_reach_it(live: LiveSystem) -> None:
    process = supervised(live)
    program = (
        "import sys; from pathlib import Path; from installer.execute import apart; "
        "from installer.execute.live import LiveSystem; from installer.execute.progress import Plain; "
        "apart.follow(LiveSystem(runtime=Path(sys.argv[1])), lambda total: Plain(sys.stdout, total))"
    )
    screen = subprocess.Popen(
        [sys.executable, "-c", program, str(live.runtime)],
        env=environment(),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert screen.stdout is not None
    assert screen.stdout.readline()
    os.killpg(screen.pid, signal.SIGHUP)
    assert screen.wait() == -signal.SIGHUP
    assert process.wait() == 9
    events = [json.loads(line) for line in apart.said(live).read_text().splitlines()]
    assert events[-1] == {"event": "ended", "code": 9, "error": "it went wrong"}


def test_one_that_vanished_is_told(live: LiveSystem) -> None:
    from installer.errors import HyperError

    process = supervised(live)
    killer = threading.Timer(0.5, os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(HyperError, match="vanished"):
        apart.follow(live, lambda total: Plain(StringIO(), total), patience=1)
    killer.join()
    process.wait()


def test_nothing_to_look_at_is_an_error(live: LiveSystem) -> None:
    from installer.errors import HyperError

    with pytest.raises(HyperError, match="no installation was begun"):
        apart.follow(live, lambda total: Plain(StringIO(), total))
