"""The `hv` command: what it says, how it exits, and how little it imports."""

import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from hv import cli, manual
from hv.commands import completion
from hv.images.template import templates
from installer import VERSION
from installer.errors import Exit, HyperError

HEAVY = ("argparse", "jinja2", "parted", "pydantic", "pyudev", "rich", "typing")


def hv(*argv: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs hv as its start script does, in a fresh interpreter, after `code`."""
    start = (
        f"import sys; sys.argv = ['hv', *{argv!r}]\n{code}\nfrom hv.cli import script; sys.exit(script())"
    )
    return subprocess.run(
        [sys.executable, "-c", start],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def planted(body: str) -> str:
    """Code that puts a command into the table whose main does `body`."""
    return (
        "import types, hv.cli\n"
        "planted = sys.modules['planted'] = types.ModuleType('planted')\n"
        f"def run(argv):\n    {body}\n"
        "planted.main = run\n"
        "hv.cli.COMMANDS['planted'] = ('planted', 'For this test')\n"
    )


def test_version() -> None:
    done = hv("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"hv {VERSION}\n", "")


def test_help_names_every_command() -> None:
    done = hv("--help")
    assert done.returncode == 0
    for name, (_, summary) in cli.COMMANDS.items():
        assert f"{name} " in done.stdout
        assert summary in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_no_command_is_wrong_usage() -> None:
    done = hv()
    assert (done.returncode, done.stdout) == (Exit.usage, "")
    assert "usage: hv" in done.stderr


@pytest.mark.parametrize("threads", [False, True])
def test_the_quick_way_out_loses_nothing(threads: bool) -> None:
    """What is written but not yet out, what wants to be called at the end, and the exit code."""
    body = "import atexit; atexit.register(print, 'at the end'); sys.stdout.write('written'); return 3"
    done = hv("planted", code=("import threading\n" if threads else "") + planted(body))
    assert (done.returncode, done.stdout, done.stderr) == (3, "writtenat the end\n", "")


def test_threads_are_waited_for() -> None:
    body = "import threading, time; threading.Timer(0.2, lambda: print('done')).start(); return 0"
    done = hv("planted", code=planted(body))
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_same_through_python_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hv", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"hv {VERSION}\n")


@pytest.mark.parametrize(
    ("word", "meant"), [("prob", "probe"), ("instal", "install"), ("first-run", "firstrun")]
)
def test_unknown_command_is_guessed(word: str, meant: str) -> None:
    done = hv(word)
    assert (done.returncode, done.stdout) == (Exit.usage, "")
    assert f"unknown command {word!r}" in done.stderr
    assert f"did you mean: hv {meant}" in done.stderr


def test_unknown_command_far_from_all() -> None:
    done = hv("--frobnicate")
    assert done.returncode == Exit.usage
    assert "unknown option '--frobnicate'" in done.stderr
    assert "did you mean" not in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ("--version",),
        ("--help",),
        ("completion", "bash"),
        ("completion", "--jobs"),
        ("completion", "--vms"),
        ("completion", "--templates"),
        ("nonsense",),
    ],
)
def test_quick_answers_import_no_framework(argv: tuple[str, ...]) -> None:
    check = f"import atexit; before = set(sys.modules); atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules and m not in before], file=sys.stderr))"
    assert hv(*argv, code=check).stderr.endswith("[]\n")


def test_error_is_three_lines_and_its_code() -> None:
    body = "from installer.errors import HyperError, Exit; raise HyperError('it broke', why='a cause', remedy='mend it', code=Exit.busy)"
    done = hv("planted", code=planted(body))
    assert done.returncode == Exit.busy
    assert done.stderr == "it broke\n  why: a cause\n  do:  mend it\n"
    assert done.stderr == f"{HyperError('it broke', why='a cause', remedy='mend it')}\n"


def test_unexpected_error_has_no_traceback() -> None:
    done = hv("planted", code=planted("raise ValueError('first\\nsecond')"))
    assert done.returncode == Exit.failed
    assert "Traceback" not in done.stderr
    assert "why: ValueError: first\n" in done.stderr
    assert "second" not in done.stderr
    assert "HV_DEBUG=1" in done.stderr


def test_unexpected_error_with_traceback_when_asked() -> None:
    done = hv("planted", code=planted("raise ValueError('first')"), HV_DEBUG="1")
    assert done.returncode == Exit.failed
    assert "Traceback" in done.stderr


def test_interrupt() -> None:
    done = hv("planted", code=planted("raise KeyboardInterrupt"))
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "\ninterrupted\n")


def test_reader_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "hv", "--help"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_full_disk_is_said() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hv", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == Exit.failed
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_output_the_terminal_cannot_show_is_escaped() -> None:
    done = hv("planted", code=planted("print('\\u2192 \\udcff'); return 0"), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "\\u2192 \\udcff\n")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_has_main_and_parser(name: str) -> None:
    module = import_module(cli.COMMANDS[name][0])
    assert callable(module.main)
    assert manual.command_parser(name).prog == f"hv {name}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_shows_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        import_module(cli.COMMANDS[name][0]).main(["--help"])
    assert end.value.code == 0
    assert f"usage: hv {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_refuses_unknown_option(name: str) -> None:
    done = hv(name, "--frobnicate")
    assert done.returncode == Exit.usage
    assert "Traceback" not in done.stderr


def test_generated_files_are_current() -> None:
    fresh = manual.everything()
    folders = (manual.COMPLETIONS, manual.PAGES)
    kept = {path for folder in folders for path in folder.iterdir() if path.is_file()} | {manual.EXIT_CODES}
    assert kept == set(fresh)
    assert {path: path.read_text(encoding="utf-8") for path in kept} == fresh, (
        "write them anew: make generate"
    )


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_completion_prints_the_script(shell: str) -> None:
    done = hv("completion", shell)
    assert done.returncode == 0
    assert done.stdout == (manual.COMPLETIONS / completion.SCRIPTS[shell]).read_text(encoding="utf-8")
    assert all(name in done.stdout for name in cli.COMMANDS)


def complete_in_bash(line: str) -> list[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    ask = f"""
        source {manual.COMPLETIONS / "hv.bash"}
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words) - 1}
        COMP_LINE='{line}' COMP_POINT={len(line)}
        $(complete -p hv | sed 's/.*-F \\([^ ]*\\).*/\\1/') hv '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes() -> None:
    assert complete_in_bash("hv pro") == ["probe"]
    assert set(cli.COMMANDS) <= set(complete_in_bash("hv "))
    assert complete_in_bash("hv completion z") == ["zsh"]


def test_jobs_are_listed(tmp_path: Path) -> None:
    for name in ("storage.json", "network.json", "lock"):
        (tmp_path / name).touch()
    assert completion.jobs(str(tmp_path)) == ["network", "storage"]
    assert completion.jobs(str(tmp_path / "missing")) == []


def test_templates_are_listed(tmp_path: Path) -> None:
    assert completion.templates() == sorted(templates())
    (tmp_path / "mine.toml").touch()
    assert completion.templates(str(tmp_path), str(tmp_path / "missing")) == ["mine"]


def test_every_exit_code_has_a_meaning() -> None:
    assert manual.exit_meanings().keys() == set(Exit)


def test_manual_pages_have_their_parts() -> None:
    for name, page in manual.pages().items():
        assert re.findall(r"^\.SH (.*)$", page, re.MULTILINE) == [
            *("NAME", "SYNOPSIS", "DESCRIPTION"),
            *("EXIT STATUS", "ENVIRONMENT", "SEE ALSO"),
        ], name


@pytest.mark.parametrize("name", [*(f"hv-{command}.1" for command in cli.COMMANDS), "hv.1"])
def test_man_shows_the_page_without_a_warning(name: str) -> None:
    command = ["man", "--warnings", "--local-file", "--encoding=utf8", str(manual.PAGES / name)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MANWIDTH": "80"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXIT STATUS" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
