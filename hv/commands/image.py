"""`hv image`: what guests start from, fetched from its vendor and verified, or taken over from another hypervisor."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from installer.command_line import Parser
from installer.errors import Exit

if TYPE_CHECKING:
    from typing import Any

    from hv.client import Client
    from hv.firstrun.world import Programs
    from hv.images.shelf import Label
    from hv.images.template import Template
    from installer.download import Progress

VERSION = 1
"""Of the JSON that is printed."""

EXAMPLES = {
    "templates": "hv image templates",
    "show": "hv image show debian",
    "fetch": "hv image fetch ubuntu; hv image fetch debian --unsigned --dry-run",
    "convert": "hv image convert mail.vmdk mail.qcow2",
    "describe": "hv image describe mail.ova",
    "list": "hv image list --json",
    "import": "hv image import mail.qcow2 --os debian13; hv image import Win11.iso --name windows --os win11; "
    "hv image import mail.qcow2 --no-wait",
    "pull": "hv image pull ubuntu; hv image pull debian --unsigned --dry-run",
    "publish": "hv image publish debian",
    "delete": "hv image delete debian --dry-run",
}
"""By verb."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv image",
        description="Fetch and verify what guests start from, and convert what other hypervisors made.",
        epilog="Needs no privilege: everything is done under your own account. Exit codes: 0 done; 4 no such template; "
        "5 it will not do; 7 it is not signed, and --unsigned was not given; 13 it cannot be fetched or is not genuine.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    listed = _verb(verbs, "templates", "the systems that can be fetched, and what vouches for them")
    listed.add_argument("--json", action="store_true", help="for programs")
    shown = _verb(verbs, "show", "one template: addresses, keys, and what its guests get")
    shown.add_argument("name", metavar="TEMPLATE", help="as `hv image templates` lists it")
    shown.add_argument("--json", action="store_true", help="for programs")
    fetched = _verb(verbs, "fetch", "fetch and verify a template's image; prints where it is")
    fetched.add_argument("name", metavar="TEMPLATE", help="as `hv image templates` lists it")
    fetched.add_argument(
        "--arch", default=platform.machine(), metavar="ARCH", help="architecture (default: this machine's)"
    )
    fetched.add_argument(
        "--unsigned", action="store_true", help="checksums that nobody signed will do, fetched by https"
    )
    fetched.add_argument("--dry-run", action="store_true", help="only say what would be done")
    fetched.add_argument("--json", action="store_true", help="for programs")
    converted = _verb(verbs, "convert", "make a whole qcow2 file of a disk")
    converted.add_argument("file", type=Path, metavar="FILE", help="the disk; it stays as it is")
    converted.add_argument("into", type=Path, metavar="QCOW2", help="what is made")
    converted.add_argument("--format", metavar="FORMAT", help="when the file's name does not tell")
    converted.add_argument("--dry-run", action="store_true", help="only say what would be done")
    converted.add_argument("--json", action="store_true", help="for programs")
    read = _verb(verbs, "describe", "what a guest of another hypervisor would become here")
    read.add_argument("file", type=Path, metavar="FILE", help=".ova, .ovf, .vmx, .vbox, or Proxmox's .conf")
    read.add_argument("--json", action="store_true", help="for programs")
    kept = _verb(verbs, "list", "images that the broker has, for `hv vm create --image`")
    kept.add_argument("--json", action="store_true", help="for programs")
    brought = _verb(verbs, "import", "bring a disk or an ISO to the broker, converted under your account")
    brought.add_argument("file", type=Path, metavar="FILE", help="the disk or medium; it stays as it is")
    brought.add_argument("--name", help="what it is called there (default: the file's name)")
    brought.add_argument("--format", metavar="FORMAT", help="when the file's name does not tell")
    brought.add_argument("--os", default="generic", metavar="ID", help="its system, as libosinfo names it")
    pulled = _verb(verbs, "pull", "fetch and verify a template's image, and bring it to the broker")
    pulled.add_argument("template", metavar="TEMPLATE", help="as `hv image templates` lists it")
    pulled.add_argument("--name", help="what it is called there (default: the template's name)")
    pulled.add_argument(
        "--unsigned", action="store_true", help="checksums that nobody signed will do, fetched by https"
    )
    for each in (brought, pulled):
        each.add_argument("--dry-run", action="store_true", help="only say what would be done")
        each.add_argument(
            "--no-wait",
            action="store_true",
            help="when it is sent, print the operation's id and do not wait for it",
        )
        each.add_argument(
            "--pool", default="default", help="storage pool that it goes into (default: %(default)s)"
        )
        each.add_argument("--public", action="store_true", help="for everybody (administrators)")
        each.add_argument("--json", action="store_true", help="for programs")
    published = _verb(verbs, "publish", "let everybody use an image (administrators)")
    deleted = _verb(verbs, "delete", "delete an image that no disk stands on")
    deleted.add_argument("--dry-run", action="store_true", help="only say what would be done")
    published.add_argument("--dry-run", action="store_true", help="only say what would be done")
    for each in (published, deleted):
        each.add_argument("name", metavar="IMAGE", help="as `hv image list` lists it")
        each.add_argument("--json", action="store_true", help="for programs")
    return top


def _verb(verbs: "argparse._SubParsersAction[Parser]", name: str, summary: str) -> argparse.ArgumentParser:
    """One of them, whose help says what it does and shows how it is called."""
    text = summary[:1].upper() + summary[1:] + "."
    return verbs.add_parser(name, help=summary, description=text, epilog=f"Examples: {EXAMPLES[name]}")


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    from installer.execute.interrupts import ended_by_signals

    with ended_by_signals():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    match options.verb:
        case "templates":
            return _templates(json_wanted=options.json)
        case "show":
            return _show(options.name, json_wanted=options.json)
        case "fetch":
            return _fetch(options)
        case "convert":
            return _convert(options)
        case "list":
            return _list(json_wanted=options.json)
        case "import":
            return _import(options)
        case "pull":
            return _pull(options)
        case "publish" | "delete":
            return _settle(options)
        case _:
            return _describe(options.file, json_wanted=options.json)


def _vouched(template: "Template") -> str:
    if template.trust is None:
        return "yours to bring"
    return "signed" if template.trust.kind.signed else "https only"


def _templates(*, json_wanted: bool) -> int:
    from hv.images.template import templates

    known = templates()
    if json_wanted:
        shown = [one.model_dump(mode="json") for one in known.values()]
        print(json.dumps({"version": VERSION, "templates": shown}, indent=2))
        return Exit.ok
    print(f"{'TEMPLATE':<18} {'KIND':<5} {'VOUCHED FOR':<15} SYSTEM")
    for one in known.values():
        print(f"{one.name:<18} {one.kind:<5} {_vouched(one):<15} {one.title}")
    if not all(one.fetched for one in known.values()):
        print("\nNo address was tried when this release was made: vendors move things.")
    return Exit.ok


def _show(name: str, *, json_wanted: bool) -> int:
    from textwrap import fill

    from hv.images.template import template
    from installer.answers.sizes import format_size

    one = template(name)
    if json_wanted:
        print(json.dumps({"version": VERSION, **one.model_dump(mode="json", exclude={"version"})}, indent=2))
        return Exit.ok
    print(f"{one.name}: {one.title}")
    for architecture, source in one.image.items():
        print(f"  {architecture}:\n    {source.url}{f'  {source.pattern}' if source.pattern else ''}")
    if one.trust is not None:
        print(f"  vouched for: {one.trust.kind}")
        for fingerprint in one.trust.fingerprints:
            print(f"    {fingerprint}")
    guest = one.guest
    extras = [text for text, on in (("Secure Boot", guest.secure_boot), ("TPM", guest.tpm)) if on]
    print(
        f"  guests get: {guest.cpus} processors, {format_size(guest.memory)} of memory, "
        f"{format_size(guest.disk)} of disk, {', '.join([guest.firmware.upper(), *extras])}"
    )
    if guest.user:
        print(f"  log in as: {guest.user}, with the key that the guest was made with")
    if one.bring:
        print(
            fill(
                one.bring,
                80,
                initial_indent="  ",
                subsequent_indent="  ",
                break_on_hyphens=False,
                break_long_words=False,
            )
        )
    if one.image and not one.fetched:
        print("  Its addresses were not tried when this release was made.")
    return Exit.ok


def _fetch(options: argparse.Namespace) -> int:
    from hv.images.fetching import fetch
    from hv.images.template import template
    from installer.download import Cache, cache_folder

    wanted = template(options.name)
    if options.dry_run:
        return _planned(_steps(wanted, options.arch, unsigned=options.unsigned), options)
    image = fetch(
        wanted,
        options.arch,
        Cache(cache_folder()),
        _programs(),
        unsigned=options.unsigned,
        say=lambda text: print(text, file=sys.stderr),
        progress=_progress(),
    )
    if options.json:
        print(json.dumps({"version": VERSION, **asdict(image), "path": str(image.path)}, indent=2))
    else:
        print(image.path)
    return Exit.ok


def _convert(options: argparse.Namespace) -> int:
    from hv.images.convert import FORMATS, convert, format_of, inspect
    from installer.answers.sizes import format_size
    from installer.errors import HyperError

    file, into, told = options.file, options.into, options.format
    if told is not None and told not in FORMATS:
        raise HyperError(
            f"{told!r} is no format of a disk.",
            why=f"--format takes {', '.join(FORMATS)}",
            remedy="Choose one of these.",
            code=Exit.usage,
        )
    if not file.is_file():
        raise _no_file(file)
    if into.exists():
        raise HyperError(
            f"{into} exists.",
            why="what is there would be lost",
            remedy="Name another file, or take that one away.",
            code=Exit.usage,
        )
    kind = told or format_of(file)
    made = inspect(file, kind, _programs()) if options.dry_run else convert(file, kind, into, _programs())
    if options.json:
        told_as = {"path": str(into), "format": "qcow2", "size": made.size, "made": not options.dry_run}
        print(json.dumps({"version": 1, **told_as}, indent=2))
    else:
        would = ", would be made" if options.dry_run else ""
        print(f"{into}: qcow2, {format_size(made.size)} for the guest{would}")
    return Exit.ok


def _describe(file: Path, *, json_wanted: bool) -> int:
    import tempfile

    from hv.images.foreign import read
    from installer.answers.sizes import format_size

    if not file.is_file():
        raise _no_file(file)
    with tempfile.TemporaryDirectory(prefix="hv-ova-") as folder:
        found = read(file, Path(folder))
    if json_wanted:
        shown = asdict(found)
        shown["disks"] = [{"name": disk.path.name, "format": disk.format} for disk in found.disks]
        print(json.dumps({"version": VERSION, **shown}, indent=2))
        return Exit.ok
    print(
        f"{found.name}: {found.cpus} processors, {format_size(found.memory)} of memory, {found.firmware.upper()}, "
        f"{found.nics} network cards with new addresses"
    )
    for disk in found.disks:
        print(f"  disk: {disk.path.name} ({disk.format})")
    for left in (*found.lost, *found.left):
        print(f"  not taken over: {left}")
    return Exit.ok


def _list(*, json_wanted: bool) -> int:
    from hv.client import Client
    from hv.table import sized, table

    found = Client().ask("GET", "/1/images")
    if json_wanted:
        print(json.dumps(found, indent=2))
    elif not found["images"]:
        print("no images: get one with `hv image pull TEMPLATE` or `hv image import FILE`")
    else:
        table(
            ("IMAGE", "KIND", "SIZE", "SYSTEM", "OWNER", "FOR"),
            [
                (
                    row["name"],
                    "iso" if row["kind"] == "iso" else "disk",
                    sized(row["size"]),
                    row["os"],
                    row["owner"],
                    "everybody" if row["public"] else "its owner",
                )
                for row in found["images"]
            ],
        )
    return Exit.ok


def _import(options: argparse.Namespace) -> int:
    import re

    from hv.client import Client
    from hv.images.shelf import Label, kind_of, require_welcome

    if not options.file.is_file():
        raise _no_file(options.file)
    client = Client()
    name = options.name or re.sub(r"[^A-Za-z0-9_.+-]+", "-", options.file.stem).strip("-._+")
    label = Label(name, options.os, options.file.name, options.public, options.pool)
    require_welcome(client, label)
    kind = options.format or kind_of(options.file)
    if options.dry_run:
        how = "as it is" if kind == "iso" else f"from {kind}, as a whole qcow2 file"
        return _planned(
            [f"{options.file} goes to the broker {how}: the image {name} ({options.os})"], options
        )
    return _brought(_bring(client, (options.file, kind), label, options), options)


def _bring(
    client: "Client", disk: "tuple[Path, str]", label: "Label", options: argparse.Namespace
) -> "dict[str, Any]":
    from hv.images.shelf import Way, bring

    json_wanted = getattr(options, "json", False)
    way = Way(
        _programs(),
        _progress(),
        wait=not getattr(options, "no_wait", False),
        say=_step,
        quiet=json_wanted,
    )
    return bring(client, disk, label, way)


def _pull(options: argparse.Namespace) -> int:
    from hv.client import Client
    from hv.images.shelf import Label, require_welcome
    from hv.images.template import template

    client = Client()
    wanted = template(options.template)
    name = options.name or wanted.name
    require_welcome(client, Label(name, wanted.os, "", options.public, options.pool))
    if options.dry_run:
        lines = _steps(wanted, platform.machine(), unsigned=options.unsigned)
        return _planned([*lines, f"then it goes to the broker: the image {name} ({wanted.os})"], options)
    return _brought(pull(client, options.template, options), options)


def pull(client: "Client", name: str, options: argparse.Namespace) -> "dict[str, Any]":
    """Fetch, verify, convert and send a template's image; what the broker made of it. Raises HyperError."""
    from hv.images.fetching import fetch
    from hv.images.shelf import Label
    from hv.images.template import template
    from installer.download import Cache, cache_folder

    wanted = template(name)
    image = fetch(
        wanted,
        platform.machine(),
        Cache(cache_folder()),
        _programs(),
        unsigned=options.unsigned,
        say=lambda text: print(text, file=sys.stderr),
        progress=_progress(),
    )
    label = Label(
        options.name or name,
        wanted.os,
        f"{image.url}, {image.vouched}",
        options.public,
        getattr(options, "pool", "default"),
    )
    return _bring(client, (image.path, image.format), label, options)


def _steps(wanted: "Template", arch: str, *, unsigned: bool) -> list[str]:
    """How a template's image comes here. Raises HyperError where it would be refused."""
    from hv.images.fetching import require_consent

    source = wanted.source(arch)
    require_consent(wanted, unsigned=unsigned)
    return [f"{wanted.title} is fetched from {source.url}", f"it is verified: {_vouched(wanted)}"]


def _planned(lines: list[str], options: argparse.Namespace) -> int:
    print(json.dumps({"version": VERSION, "plan": lines}, indent=2) if options.json else "\n".join(lines))
    return Exit.ok


def _brought(made: "dict[str, Any]", options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps({"version": VERSION, **made}, indent=2))
    elif options.no_wait:
        print(made["operation"])
    else:
        print(f"{made['name']}: there; `hv vm create NAME --image {made['name']}` makes a VM of it")
    return Exit.ok


def _settle(options: argparse.Namespace) -> int:
    from hv.client import Client, quoted

    client = Client()
    if options.verb == "publish" and options.dry_run:
        from hv.images.shelf import require_known

        require_known(client, options.name)
        return _planned([f"everybody may use {options.name}"], options)
    if options.verb == "publish":
        made = client.ask("POST", f"/1/images/{quoted(options.name)}/publish")
        said = "everybody may use it"
    else:
        dry = options.dry_run
        made = client.ask("DELETE", f"/1/images/{quoted(options.name)}{'?dry_run=1' if dry else ''}")
        said = "would be deleted" if dry else "deleted"
    print(json.dumps(made, indent=2) if options.json else f"{options.name}: {said}")
    return Exit.ok


def _no_file(file: Path) -> Exception:
    from installer.errors import HyperError

    return HyperError(
        f"{file} cannot be read.",
        why="there is no such file",
        remedy="Name an existing file.",
        code=Exit.usage,
    )


def _step(text: str) -> None:
    """On a terminal, on the line of progress; otherwise nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:78]}", end="", file=sys.stderr, flush=True)


def _progress() -> "Progress":
    """On a terminal a line that is written anew; otherwise nothing."""
    import time

    last = 0.0
    began: tuple[float, int] | None = None

    def tell(there: int, total: int | None) -> None:
        nonlocal last, began
        now = time.monotonic()
        began = began or (now, there)
        whole = there == total
        if not sys.stderr.isatty() or (now - last < 0.2 and not whole):
            return
        last = now
        speed = (there - began[1]) / max(now - began[0], 0.001) / (1 << 20)
        share = f"{there * 100 // total:3d} % of {total >> 20} MiB" if total else f"{there >> 20} MiB"
        end = "\n" if whole else ""
        print(f"\r\x1b[K{share}, {speed:.1f} MiB/s", end=end, file=sys.stderr, flush=True)

    return tell


def _programs() -> "Programs":
    from installer.execute.log import NoLog
    from installer.execute.runner import Runner

    path = os.environ.get("PATH", "/run/current-system/sw/bin:/usr/bin:/bin")
    return Runner(NoLog(), path, folder=Path.cwd())
