"""The `hv` command: finds the command that was asked for, and reports how it ended. All else is theirs.

What a shell asks for at every key press (`--version`, completion) is answered before any framework is imported;
that is why imports here are few and late.
"""

import sys

COMMANDS = {
    "probe": ("installer.commands.probe", "Say what this machine is and what can pass through to guests"),
    "answers": ("installer.commands.answers", "Check, describe or start an answer file"),
    "install": ("installer.commands.install", "Install as an answer file says, or show what would be done"),
    "firstrun": ("hv.commands.firstrun", "See and steer what an installed host does at its first boot"),
    "completion": ("hv.commands.completion", "Print the completion script for a shell"),
}
"""Name of each command: its module, which has `main(argv) -> int` and `parser()`, and its summary."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells give it (bash(1), EXIT STATUS)."""
READER_GONE = 141
"""Exit code when the reader of our output went away: 128 + SIGPIPE."""


def usage() -> str:
    """The text of `hv --help`."""
    lines = [f"  {name:<12}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hv COMMAND [OPTION]...",
            "",
            "From a bare machine to a hardened NixOS virtualization host.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            "  --help      Show this, or what a command takes: hv COMMAND --help",
            "  --version   Show the version",
        ]
    )


def complain(what: str, why: str, remedy: str) -> None:
    """Prints the three lines that every error has."""
    print(f"{what}\n  why: {why}\n  do:  {remedy}", file=sys.stderr)


def unknown(word: str) -> int:
    """Names the commands nearest to a word that is none."""
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
    kind = "option" if word.startswith("-") else "command"
    remedy = f"did you mean: hv {near[0]}" if near else "see: hv --help"
    complain(f"hv: unknown {kind} {word!r}", f"the commands are: {', '.join(COMMANDS)}", remedy)
    return 2


def unexpected(command: str, error: Exception) -> int:
    """Reports an error nobody foresaw, in one line of its own: values further down may be secrets."""
    import os

    if os.environ.get("HV_DEBUG") == "1":
        raise error
    reason = (str(error).splitlines() or [""])[0]
    complain(
        f"hv {command}: stopped by an unexpected error",
        f"{type(error).__name__}: {reason}" if reason else type(error).__name__,
        "this is a defect: run it again with HV_DEBUG=1, and report the traceback with the command line",
    )
    return 1


def dispatch(argv: list[str]) -> int:
    """Runs the command that the command line names; returns its exit code."""
    match argv:
        case [] | ["-h" | "--help", *_]:
            print(usage(), file=sys.stdout if argv else sys.stderr)
            return 0 if argv else 2
        case ["-V" | "--version", *_]:
            from installer import VERSION

            print(f"hv {VERSION}")
            return 0
        case [name, *rest] if name in COMMANDS:
            from importlib import import_module

            return int(import_module(COMMANDS[name][0]).main(rest))
        case [name, *_]:
            return unknown(name)
    raise AssertionError(argv)


def run(argv: list[str]) -> int:
    """Dispatches, and turns whatever comes out into an exit code: never a traceback unless HV_DEBUG=1."""
    try:
        code = dispatch(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        import os

        # The interpreter flushes once more at exit and would complain: give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Exception as error:
        from installer.errors import HyperError

        if not isinstance(error, HyperError):
            return unexpected(argv[0], error)
        complain(error.what, error.why, error.remedy)
        return error.code
    return code


def main() -> int:
    """The console script. Output that the terminal cannot show is escaped instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return run(sys.argv[1:])
