"""What is generated from the commands' parsers and exit codes: manual pages, completion scripts, a table for the site.

`python -m hv.manual` writes them anew; a test fails when they are not what it would write. Completion scripts need
shtab, which only developers have; manual pages (`python -m hv.manual --pages DIR`) need nothing, so packages can
build them.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from hv.cli import COMMANDS
from hv.commands.completion import SCRIPTS
from installer.errors import Exit

FOLDER = Path(__file__).parent
COMPLETIONS = FOLDER / "completions"
PAGES = FOLDER.parent / "docs" / "man"
EXIT_CODES = FOLDER.parent / "docs" / "reference" / "exit-codes.md"

ENVIRONMENT = {
    "HV_DEBUG": "When 1, an unexpected error shows its traceback.",
}
"""Variables that every command heeds."""


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command, as the command itself uses it."""
    made = import_module(COMMANDS[name][0]).parser()
    if not isinstance(made, argparse.ArgumentParser):
        raise TypeError(name)
    return made


def whole_parser() -> argparse.ArgumentParser:
    """One parser with every command below it, for programs that complete."""
    whole = argparse.ArgumentParser(prog="hv", description="From a bare machine to a virtualization host")
    whole.add_argument("--version", action="store_true", help="show the version")
    commands = whole.add_subparsers(dest="command")
    for name, (_, summary) in COMMANDS.items():
        # Commands inherit everything from their own parser; argparse has no other way to hang one below another.
        commands.add_parser(name, help=summary, parents=[command_parser(name)], add_help=False)
    return whole


def parsers_below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Subcommands of a parser, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def exit_meanings() -> dict[int, str]:
    """Meaning of each exit code, from the docstrings in installer.errors."""
    source = inspect.getsource(Exit)
    told = re.findall(r'^ {4}(\w+) = (\d+)\n {4}"""(.+?)"""$', source, re.MULTILINE)
    meanings = {int(code): meaning for _, code, meaning in told}
    if meanings.keys() != set(Exit):
        raise ValueError(f"exit codes without docstring: {set(Exit) - meanings.keys()}")
    return meanings


def _escape(text: str) -> str:
    """Text as roff shows it unchanged (groff_man_style(7)): no escape sequences, no requests, plain hyphens."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.MULTILINE)


def _help(action: argparse.Action, prog: str) -> str:
    """An action's help with argparse's holes (%(default)s and the like) filled."""
    holes = vars(action) | {"prog": prog}
    if action.choices is not None:
        holes["choices"] = ", ".join(map(str, action.choices))
    return (action.help or "") % holes


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def _shown(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Actions that people are told of: options first; not --help, which every command has."""
    for action in sorted(parser._actions, key=lambda action: not action.option_strings):
        hidden = action.help == argparse.SUPPRESS
        if not hidden and not isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            yield action


def _term(action: argparse.Action) -> str:
    """How an action is written on the command line, in roff."""
    value = f"\\fI{_escape(_metavar(action))}\\fR"
    takes = action.nargs != 0
    if not action.option_strings:
        return f"[{value}]" if action.nargs in ("?", "*") else value
    return ", ".join(
        f"\\fB{_escape(option)}\\fR" + (f" {value}" if takes else "") for option in action.option_strings
    )


def _synopsis(parser: argparse.ArgumentParser) -> str:
    words = [f"\\fB{_escape(parser.prog)}\\fR"]
    for action in _shown(parser):
        word = _term(action).split(", ", maxsplit=1)[0] if action.option_strings else _term(action)
        words.append(f"[{word}]" if action.option_strings and not action.required else word)
    if parsers_below(parser):
        words.append("\\fICOMMAND\\fR ...")
    return " ".join(words)


def _summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The `help` of each subcommand, which argparse keeps beside the parsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {choice.dest: choice.help or "" for choice in action._choices_actions}
    return {}


def _body(parser: argparse.ArgumentParser, summary: str = "") -> Iterator[str]:
    """Description and options of a parser, and of those below it."""
    told = summary[:1].upper() + summary[1:].removesuffix(".") + "." if summary else ""
    for paragraph in (parser.description or told, parser.epilog or ""):
        if paragraph:
            yield from (".PP", _escape(paragraph))
    for action in _shown(parser):
        yield from (".TP", _term(action), _escape(_help(action, parser.prog)) or "\\&")
    for name, below in parsers_below(parser).items():
        yield from (f".SS {_synopsis(below)}", *_body(below, _summaries(parser).get(name, "")))


def _page(name: str, summary: str, synopsis: str, body: list[str]) -> str:
    others = sorted({"hv", *(f"hv-{command}" for command in COMMANDS)} - {name})
    lines = [
        '.\\" Written by python -m hv.manual; do not edit.',
        f'.TH {name.upper()} 1 "" "Hyper\\-NixOS" "Hyper\\-NixOS"',
        ".SH NAME",
        f"{_escape(name)} \\- {_escape(summary[0].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        synopsis,
        ".SH DESCRIPTION",
        *body,
        ".SH EXIT STATUS",
    ]
    for code, meaning in exit_meanings().items():
        lines += [".TP", f"\\fB{code}\\fR", _escape(meaning)]
    lines.append(".SH ENVIRONMENT")
    for variable, meaning in ENVIRONMENT.items():
        lines += [".TP", f"\\fB{variable}\\fR", _escape(meaning)]
    lines += [".SH SEE ALSO", ", ".join(f"\\fB{_escape(other)}\\fR(1)" for other in others)]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every manual page: file name, text."""
    whole = whole_parser()
    overview = [".PP", "From a bare machine to a hardened NixOS virtualization host. The commands:"]
    for name, (_, summary) in COMMANDS.items():
        overview += [".TP", f"\\fBhv {_escape(name)}\\fR", _escape(summary)]
    made = {"hv.1": _page("hv", "install and run a NixOS virtualization host", _synopsis(whole), overview)}
    for name, (_, summary) in COMMANDS.items():
        parser = command_parser(name)
        made[f"hv-{name}.1"] = _page(f"hv-{name}", summary, _synopsis(parser), list(_body(parser)))
    return made


def completions() -> dict[str, str]:
    """Every completion script: file name, text."""
    import shtab

    # By metavar: what to offer where a value is due.
    values = {
        "FILE": shtab.FILE,
        "RECORD": shtab.FILE,
        "DIR": shtab.DIRECTORY,
        "JOB": shtab.cmd("hv completion --jobs"),
        "VM": shtab.cmd("hv completion --vms"),
        "IMAGE": shtab.cmd("hv completion --images"),
        "OPERATION": shtab.cmd("hv completion --operations"),
        "TEMPLATE": shtab.cmd("hv completion --templates"),
    }
    whole = whole_parser()
    waiting = [whole]
    while waiting:
        parser = waiting.pop()
        waiting += parsers_below(parser).values()
        for action in parser._actions:
            if isinstance(action.metavar, str) and action.metavar in values:
                action.complete = values[action.metavar]  # type: ignore[attr-defined]
    return {file: shtab.complete(whole, shell) for shell, file in SCRIPTS.items()}


def exit_codes() -> str:
    """The table of exit codes, for the site."""
    rows = [f"| {code} | {meaning} |" for code, meaning in exit_meanings().items()]
    return "\n".join(["| Code | Meaning |", "|---|---|", *rows]) + "\n"


def everything() -> dict[Path, str]:
    """Every generated file of the tree."""
    return {
        **{PAGES / file: text for file, text in pages().items()},
        **{COMPLETIONS / file: text for file, text in completions().items()},
        EXIT_CODES: exit_codes(),
    }


def main() -> int:
    """Write what is generated."""
    arguments = argparse.ArgumentParser(prog="python -m hv.manual", description=main.__doc__)
    arguments.add_argument("--pages", metavar="DIR", type=Path, help="write the manual pages alone, to DIR")
    folder: Path | None = arguments.parse_args().pages
    written = {folder / file: text for file, text in pages().items()} if folder else everything()
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
