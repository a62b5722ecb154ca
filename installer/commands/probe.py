"""`hv probe`: say what a machine is, for people, for programs, or as a record to replay."""

import sys

from installer.errors import Exit, HyperError
from installer.probe import draft
from installer.probe.draft import Facts
from installer.probe.root import LiveRoot, Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

TOPICS = ("machine", "processor", "iommu", "graphics", "disks", "network", "systems", "passthrough")
"""Keys of `installer.probe.show.TOPICS`, which --json does not load."""
STYLES = {"title": "bold cyan", "plain": "", "quiet": "dim", "good": "green", "fair": "yellow", "bad": "red"}


def parser() -> "argparse.ArgumentParser":
    """The command line."""
    from installer.command_line import Parser  # argparse takes longer than `--json` may

    found = Parser(
        prog="hv probe",
        description="Say what this machine is and what of it can pass through to guests. Changes nothing.",
        epilog="Without root some facts are unknown; each says why.",
    )
    found.add_argument(
        "topics",
        nargs="*",
        metavar="TOPIC",
        help=f"tell only of these, for people: {', '.join(TOPICS)} (default: all)",
    )
    output = found.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print the facts for programs")
    output.add_argument("--schema", action="store_true", help="print the JSON Schema of --json")
    output.add_argument("--record", metavar="DIR", help="write a redacted record that --root replays")
    source = found.add_mutually_exclusive_group()
    source.add_argument(
        "--root", metavar="DIR", help="probe a record made by --record, or a folder with a sys and a proc"
    )
    source.add_argument("--facter", metavar="FILE", help="take the machine from a nixos-facter report")
    return found


def main(argv: list[str]) -> int:
    """Runs the command; raises HyperError for records and reports that cannot be read."""
    if argv == ["--json"]:
        # What programs ask, perhaps often; reading the command line would take longer than reading the machine.
        print(dumps(draft(LiveRoot())))
        return Exit.ok
    command = parser()
    options = command.parse_args(argv)
    if unknown := [topic for topic in options.topics if topic not in TOPICS]:
        command.error(f"unknown topic {unknown[0]!r}; the topics are {', '.join(TOPICS)}")
    if options.topics and (options.json or options.schema or options.record):
        command.error("topics are for people; --json, --schema and --record are always whole")
    if options.schema:
        print(schema())
        return Exit.ok
    root = _root(options.root, options.facter)
    if options.record:
        return _record(root, options.record)
    facts = draft(root)
    if options.json:
        print(dumps(facts))
    else:
        _show(facts, options.topics)
    return Exit.ok


def dumps(facts: Facts) -> str:
    """The facts as `--json` prints them: the same as `json.dumps(facts, indent=2, ensure_ascii=False)`.

    The json module brings regular expressions along, which cost as much time as reading the machine.
    """
    return _dumps(facts, "\n")


ESCAPES = {code: f"\\u{code:04x}" for code in range(32)} | {
    ord(character): "\\" + letter for character, letter in zip('"\\\n\r\t\b\f', '"\\nrtbf', strict=True)
}
"""RFC 8259, section 7."""


def _dumps(value: object, line: str) -> str:
    """One value; `line` is a line break with the indentation of where it stands."""
    match value:
        case str():
            return f'"{value.translate(ESCAPES)}"'
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            below = [
                f'{line}  "{str(key).translate(ESCAPES)}": {_dumps(one, line + "  ")}'
                for key, one in value.items()
            ]
            return f"{{{','.join(below)}{line}}}" if below else "{}"
        case list() | tuple():
            below = [f"{line}  {_dumps(one, line + '  ')}" for one in value]
            return f"[{','.join(below)}{line}]" if below else "[]"
        case _:
            return str(value)


def schema() -> str:
    """JSON Schema (2020-12) of the facts, made from the types."""
    import json

    from installer import facts

    made = facts.Facts.model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=2)


def _root(folder: str | None, report: str | None) -> Root:
    import os

    if report is not None:
        from installer.probe import facter

        return facter.load(report)
    if folder is None:
        return LiveRoot()
    from installer.probe.record import FILE, ReplayRoot, load

    if not os.path.exists(os.path.join(folder, FILE)) and os.path.isdir(os.path.join(folder, "sys")):  # noqa: PTH110, PTH112, PTH118
        return LiveRoot(folder)
    return ReplayRoot(load(folder))


def _record(root: Root, folder: str) -> int:
    """Probes through a root that writes everything down, takes out what identifies the machine, saves."""
    import os

    from installer.probe.record import RecordingRoot, save
    from installer.probe.redact import redacted

    recording = RecordingRoot(root)
    draft(recording)
    if not recording.record.files:
        raise HyperError(
            "nothing was recorded",
            why="none of the files that the probe reads could be read",
            remedy="run it on the machine itself, with /sys and /proc mounted",
            code=Exit.record,
        )
    names = [os.uname().nodename, (root.text("/etc/machine-id") or "")]
    path = save(redacted(recording.record, names), folder)
    print(f"recorded without serials, addresses and names: {path}")
    print(f"look at it before you give it away; replay it with: hv probe --root {folder}")
    return Exit.ok


def _show(facts: Facts, topics: list[str]) -> None:
    """Plain lines for files and pipes, colours for terminals."""
    from installer.probe.show import lines

    if not sys.stdout.isatty():
        for _, text in lines(facts, topics):
            print(text)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for style, text in lines(facts, topics):
        console.print(Text(text, style=STYLES[style]), soft_wrap=True)
