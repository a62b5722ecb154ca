"""`hv answers`: check an answer file, print its schema or reference, start a new one."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from installer.command_line import Parser
from installer.errors import Exit, HyperError, paragraph

if TYPE_CHECKING:
    from installer.answers.login import Access
    from installer.answers.model import Answers
    from installer.answers.problems import AnswersError
    from installer.facts import Facts
    from installer.facts.disks import Disk


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(prog="hv answers", description="Answer files: what a person wants of a machine.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="tell everything that is wrong with an answer file")
    check.add_argument(
        "file", metavar="FILE", help="answer file, TOML or JSON; - reads TOML or JSON from the input"
    )
    _machine(check, "and hold it against this machine")
    check.add_argument("--json", action="store_true", help="print the result for programs")

    commands.add_parser("schema", help="print the JSON Schema of answer files")

    new = commands.add_parser("new", help="print a commented answer file to start from")
    _machine(new, "and name its free disks")

    commands.add_parser("reference", help="print the reference page, in Markdown")

    read = commands.add_parser(
        "import", help="read another installer's file as answers, and tell everything that does not map"
    )
    read.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="a disko configuration (Nix or JSON), Proxmox's answer.toml, a kickstart",
    )
    read.add_argument(
        "--from",
        dest="kind",
        choices=("auto", "disko", "proxmox", "kickstart"),
        default="auto",
        help="what it is (default: told by its content)",
    )
    read.add_argument("--json", action="store_true", help="for programs: the answers, and what is left")
    _machine(read, "take kernel names of disks for those of this machine")

    export = commands.add_parser("export", help="print the disks' layout in another tool's form")
    export.add_argument("file", metavar="FILE", help="answer file")
    export.add_argument("--disko", action="store_true", required=True, help="as a disko configuration")
    export.add_argument(
        "--machine", metavar="RECORD", type=Path, required=True, help="for this recorded machine"
    )
    export.add_argument("--medium", metavar="FILE", type=Path, help="description of the medium")

    serve = commands.add_parser("serve", help="hand out answers to machines, and follow how they install")
    serve.add_argument("folder", metavar="DIR", type=Path, help="folder with fleet.toml and what it names")
    serve.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        default="127.0.0.1:8443",
        help="where to listen (default: %(default)s)",
    )
    serve.add_argument(
        "--certificate", metavar="FILE", type=Path, help="certificate for TLS, PEM, with its chain"
    )
    serve.add_argument("--key", metavar="FILE", type=Path, help="its key, PEM")
    serve.add_argument("--behind-tls", action="store_true", help="a proxy in front of the server does TLS")
    serve.add_argument(
        "--state",
        metavar="URL",
        help="where the state is kept: sqlite:////PATH, or postgresql+psycopg://USER@HOST/DATABASE (default: "
        "state.sqlite in DIR)",
    )
    serve.add_argument(
        "--forget", metavar="NAME", help="let a machine have its answers anew, and end: nothing is served"
    )
    return top


def _machine(command: argparse.ArgumentParser, purpose: str) -> None:
    command.add_argument(
        "--machine",
        metavar="RECORD",
        type=Path,
        help=f"{purpose}: a folder that `hv probe --record` wrote, or the output of `hv probe --json`",
    )


def main(argv: list[str]) -> int:
    """Run the command; errors are HyperError, but for `check --json`, which prints them."""
    options = parser().parse_args(argv)
    match options.command:
        case "check":
            return _check(options)
        case "schema":
            from installer.answers.schema import schema_text

            print(schema_text(), end="")
        case "new":
            from installer.answers.skeleton import skeleton

            print(skeleton(machine(options.machine) if options.machine else None), end="")
        case "reference":
            from installer.answers.reference import reference

            print(reference(), end="")
        case "import":
            return _import(options)
        case "export":
            return _export(options)
        case "serve":
            _serve(options)
    return Exit.ok


def _serve(options: argparse.Namespace) -> None:
    try:
        from installer.serve.run import Listen, serve
        from installer.serve.state import State
    except ImportError as error:
        raise HyperError(
            "this `hv` cannot serve",
            why=f"the Python package {error.name} is not installed",
            remedy="install hyper-nixos[server], or the package hv-server of the flake",
        ) from error
    state = options.state or f"sqlite:///{options.folder.absolute() / 'state.sqlite'}"
    if options.forget:
        known = State(state).forget(options.forget)
        print(
            f"{options.forget}: {'its answers are handed out anew' if known else 'had not been handed out'}"
        )
        return
    host, colon, port = options.listen.rpartition(":")
    if (
        not colon
        or not port.isdecimal()
        or int(port) > 65535
        or bool(options.certificate) != bool(options.key)
    ):
        raise HyperError(
            "the server cannot listen so",
            why="--listen takes ADDRESS:PORT, and --certificate and --key go together",
            remedy="write for example `--listen 192.0.2.1:8443 --certificate cert.pem --key key.pem`",
            code=Exit.usage,
        )
    listen = Listen(host.strip("[]"), int(port), options.certificate, options.key, options.behind_tls)
    serve(options.folder.absolute(), state, listen)


def _import(options: argparse.Namespace) -> int:
    from installer.commands.foreign import read, text

    found = read(options.file, options.kind, machine(options.machine) if options.machine else None)
    if options.json:
        left = [{"path": each.path, "value": each.value, "why": each.why} for each in found.left]
        print(
            json.dumps({"version": 1, "answers": found.answers, "left": left}, indent=1, ensure_ascii=False)
        )
        return Exit.ok
    print(text(options.file.name, found), end="")
    for each in found.left:
        print("\n".join(paragraph(str(each), "not taken over: ", "  ")), file=sys.stderr)
    return Exit.ok


def _export(options: argparse.Namespace) -> int:
    from installer.answers.model import ExistingKind
    from installer.commands.medium import read_medium
    from installer.plan.planner import make_layout
    from installer.render.disko import disko

    answers = read_answers(options.file)
    if answers.storage.existing is not ExistingKind.erase:
        raise HyperError(
            "a layout beside what is kept cannot be exported",
            why=f"storage.existing is {answers.storage.existing.value!r}, and disko lays out blank disks",
            remedy='export it with existing = "erase", and leave out what is kept',
            code=Exit.answers,
        )
    layout = make_layout(machine(options.machine), answers, read_medium(options.medium))
    exported = disko(layout, answers.hostname)
    print(exported.text, end="")
    for each in exported.left:
        print(f"not in it: {each}", file=sys.stderr)
    return Exit.ok


def read_answers(file: str) -> "Answers":
    """The answers in a file, or in the standard input for `-`. Raises HyperError (Exit.answers, Exit.lockout)."""
    from installer.answers.load import LARGEST, Format, load

    try:
        if file == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
            return load(data, "standard input", Format.json if data.lstrip()[:1] == b"{" else Format.toml)
        with Path(file).open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise HyperError(
            f"the answer file {file} cannot be read",
            why=getattr(error, "strerror", None) or str(error),
            remedy="name an existing file; `hv answers new` prints one to start from",
            code=Exit.answers,
        ) from None
    return load(data, Path(file).name)


def machine(record: Path) -> "Facts":
    """The facts of a recorded machine. Raises HyperError (Exit.record)."""
    from pydantic import ValidationError

    from installer.facts import Facts

    if record.is_dir():
        from installer.probe import probe
        from installer.probe.record import ReplayRoot, load

        return probe(ReplayRoot(load(str(record))))
    try:
        return Facts.model_validate_json(record.read_bytes())
    except OSError as error:
        why = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        why = f"{error.error_count()} fields do not fit; the first: {where or 'the whole file'}: {first['msg']}"
    raise HyperError(
        f"the machine {record} cannot be read",
        why=why,
        remedy="give a folder that `hv probe --record DIR` wrote, or a file with the output of `hv probe --json`",
        code=Exit.record,
    )


def _check(options: argparse.Namespace) -> int:
    from installer.answers.login import accesses
    from installer.answers.problems import AnswersError

    try:
        answers = read_answers(options.file)
    except AnswersError as error:
        if not options.json:
            raise
        print(json.dumps(_told(error), indent=2, ensure_ascii=False))
        return error.code
    found = accesses(answers)
    lines, errors = _on_machine(answers, machine(options.machine)) if options.machine else ([], [])
    if options.json:
        result = {
            "problems": [
                {"what": error.what, "why": error.why, "remedy": error.remedy, "code": error.code}
                for error in errors
            ],
            "logins": [access._asdict() for access in found],
        }
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        verdict = "does not fit this machine" if errors else "no problems"
        print("\n".join([f"{options.file}: {verdict}", *lines, "", *_logins(answers, found)]))
        for refused in errors:
            print(f"\n{refused}", file=sys.stderr)
    return errors[0].code if errors else Exit.ok


def _told(error: "AnswersError") -> dict[str, object]:
    from installer.answers.problems import shown_path

    return {
        "problems": [
            {
                "field": shown_path(problem.path),
                "value": problem.value,
                "line": problem.line,
                "column": problem.column,
                "what": problem.wrong,
                "remedy": problem.remedy,
                "code": problem.code,
            }
            for problem in error.problems
        ]
    }


_FATES = {
    "erase": "everything on it would be destroyed",
    "keep": "what is said to go would be destroyed, the rest stays",
    "reinstall": "the system on it would be replaced, what is kept stays (--plan tells)",
}


def _on_machine(answers: "Answers", facts: "Facts") -> tuple[list[str], list[HyperError]]:
    """What the answers mean on a machine, and everything about it that does not fit them."""
    from installer.answers.model import ExistingKind
    from installer.answers.presets import proposed
    from installer.answers.select import device_title, select_disks, select_passthrough, title
    from installer.answers.storage_shape import counted, luks_devices
    from installer.plan.layouts.fates import fates
    from installer.plan.layouts.kept import is_blank, keep, kept_losses
    from installer.plan.reach import require_contained
    from installer.plan.requirements import firmware_to_use, pbkdf_memory

    lines: list[str] = []
    errors: list[HyperError] = []
    disks: tuple[Disk, ...] = ()
    with _noting(errors):
        lines += ["  firmware:   " + firmware_to_use(facts, answers)]
    with _noting(errors):
        answers, because = proposed(facts, answers)
        if because:
            lines += paragraph(because, "  layout:     ", " " * 14)
        selectors = (*answers.storage.selectors, *answers.storage.pool_selectors)
        disks = tuple(disk for selector in selectors for disk in select_disks(selector, facts))
        if answers.storage.existing is ExistingKind.erase:
            require_contained(disks, facts.disks)
        fate = _FATES[answers.storage.existing.value]
        for disk in disks:
            lines += paragraph(f"{title(disk)}; {fate}", "  disk:       ", " " * 14)
        if answers.storage.existing is ExistingKind.keep:
            system = disks[: counted(answers.storage.selectors)]
            meant = fates(facts, answers, system)
            for disk in system:
                if len(system) > 1 and is_blank(disk):
                    continue
                firmware = firmware_to_use(facts, answers)
                kept = keep(facts, answers, disk, firmware, meant.of(disk), alone=len(system) == 1)
                for each in kept_losses(kept, "").kept:
                    lines += paragraph(each, "  stays:      ", " " * 14)
        pool = disks[counted(answers.storage.selectors) :]
        for data in fates(facts, answers, disks[: counted(answers.storage.selectors)], pool).mounted:
            name = f"partition {data.partition.number} of " if data.partition else ""
            lines += paragraph(
                f"{name}{title(data.disk)}, at {data.wanted.mount}", "  mounted:    ", " " * 14
            )
    with _noting(errors):
        if answers.storage.encryption.enable:
            pbkdf_memory(facts, answers, luks_devices(answers.storage))
    with _noting(errors):
        for choice in select_passthrough(answers, facts, disks):
            for device in choice.functions:
                lines += paragraph(device_title(device), "  for guests: ", " " * 14)
            for caution in choice.device.passthrough.cautions:
                lines += paragraph(caution, " " * 14 + "caution: ", " " * 16)
    if not errors:
        lines += ["  Sizes and every single step: hv install --answers FILE --machine RECORD --plan"]
    return lines, errors


@contextmanager
def _noting(errors: list[HyperError]) -> Iterator[None]:
    """Go on after an error, to tell all of them."""
    try:
        yield
    except HyperError as error:
        errors.append(error)


def _logins(answers: "Answers", found: "tuple[Access, ...]") -> list[str]:
    lines = ["Who can log in:"]
    for access in found:
        lines.append(f"  {access.user}{', administrator' if access.admin else ''}")
        for phase, ways in access.ways.items():
            lines += paragraph(
                ", ".join(ways) or "not at all", f"    in phase {phase}: ".ljust(23), " " * 23
            )
    if any(user.password_hash_file for user in answers.users):
        lines += ["", "Files with password hashes are read, and looked at, when installing."]
    return lines
