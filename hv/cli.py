"""The `hv` command: finds the command that was asked for, and reports how it ended. All else is theirs.

What a shell asks for at every key press (`--version`, completion) is answered before any framework is imported;
that is why imports here are few and late.
"""

import sys

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from installer.errors import HyperError

COMMANDS = {
    "probe": ("installer.commands.probe", "Say what this machine is and what can pass through to guests"),
    "answers": ("installer.commands.answers", "Check, describe or start an answer file"),
    "install": ("installer.commands.install", "Install as an answer file says, or show what would be done"),
    "media": ("iso.commands.media", "Customise, check, write and try install media"),
    "migrate": ("installer.commands.migrate", "Make a running NixOS a host, in place, or take it back"),
    "health": ("hv.commands.health", "Whether a migrated host may keep the system it booted"),
    "live": ("iso.commands.live", "What the live system does by itself, and its page"),
    "rescue": ("hv.commands.rescue", "Get into an installed host: logins, boot partitions, a shell"),
    "firstrun": ("hv.commands.firstrun", "See and steer what an installed host does at its first boot"),
    "support-bundle": (
        "installer.commands.support_bundle",
        "Write what helps to find a fault into one file",
    ),
    "net": ("hv.commands.net", "List networks; see and confirm a change, which else goes back"),
    "setup": ("hv.commands.setup", "Change what this host is; unconfirmed, it goes back"),
    "security": ("hv.commands.security", "See and change the phase, and check the protection"),
    "esp": ("hv.commands.esp", "Keep the boot partitions of several disks alike"),
    "secure-boot": ("hv.commands.secure_boot", "Sign what the host starts from, with keys of its own"),
    "devices": (
        "hv.commands.devices",
        "Make the virtual functions and shares that are declared",
    ),
    "image": ("hv.commands.image", "Fetch, verify and convert what guests start from"),
    "passthrough": ("hv.commands.passthrough", "Take devices from the host for guests, and give them back"),
    "pools": ("hv.commands.pools", "List storage pools, and make them what the host declares"),
    "vm": ("hv.commands.vm", "Make, run and change virtual machines, without sudo"),
    "auth": ("hv.commands.auth", "Say what you may do with VMs, and what was done"),
    "completion": ("hv.commands.completion", "Print the completion script for a shell"),
}
"""Name of each command: its module, which has `main(argv) -> int` and `parser()`, and its summary."""

ALSO = {"pool": "pools"}
"""Other names that people type."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells give it (bash(1), EXIT STATUS)."""
READER_GONE = 141
"""Exit code when the reader of our output went away: 128 + SIGPIPE."""


def usage() -> str:
    """The text of `hv --help`."""
    lines = [f"  {name:<16}{summary}" for name, (_, summary) in COMMANDS.items()]
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


def unknown(word: str) -> "HyperError":
    """The error for a word that is no command; names the nearest one."""
    from difflib import get_close_matches

    from installer.errors import Exit, HyperError

    near = get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
    return HyperError(
        f"hv: unknown {'option' if word.startswith('-') else 'command'} {word!r}",
        why=f"the commands are: {', '.join(COMMANDS)}",
        remedy=f"did you mean: hv {near[0]}" if near else "see: hv --help",
        code=Exit.usage,
    )


def report(command: str, error: Exception) -> int:
    """Prints an error and returns its exit code.

    Of an error that nobody foresaw only the first line is shown: values further down may be secrets.
    """
    import os

    from installer.errors import HyperError

    if not isinstance(error, HyperError):
        if os.environ.get("HV_DEBUG") == "1":
            raise error
        message = next(iter(str(error).splitlines()), "")
        error = HyperError(
            f"hv {command}: stopped by an unexpected error",
            why=f"{type(error).__name__}: {message}" if message else type(error).__name__,
            remedy="this is a defect: run it again with HV_DEBUG=1, and report the traceback with the command line",
        )
    print(error, file=sys.stderr)
    return error.code


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
        case [name, *rest] if (name := ALSO.get(name, name)) in COMMANDS:
            from importlib import import_module

            return int(import_module(COMMANDS[name][0]).main(rest))
    raise unknown(argv[0])


def run(argv: list[str]) -> int:
    """Dispatches, and turns whatever comes out into an exit code: never a traceback unless HV_DEBUG=1."""
    try:
        code = dispatch(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        code = READER_GONE
    except Exception as error:
        code = report(argv[0], error)
    try:
        sys.stdout.flush()
    except OSError:
        import os

        # The interpreter flushes once more at exit and would complain: give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def main() -> int:
    """The console script. Output that the terminal cannot show is escaped instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return run(sys.argv[1:])


def script() -> None:
    """The installed `hv`: `main`, and out at once.

    Taking an interpreter apart lasts as long as a third of its start, and a process that ends needs none of it. Only
    what may still be at work, or wants to be told that all is over, keeps Python's own way out: threads, and whatever
    brought them along.
    """
    code = main()
    if "threading" in sys.modules:
        sys.exit(code)
    import atexit
    import os

    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
