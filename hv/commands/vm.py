"""`hv vm`: the life of virtual machines, through hvd and without sudo."""

import argparse
import json
import re
import sys

from hv.client import Client, checked, quoted
from hv.table import sized, table
from installer.command_line import Parser
from installer.errors import Exit, HyperError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
WORDS = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def amount(text: str) -> int:
    """Bytes of a size such as 512M, 2G or 10GiB (powers of 1024)."""
    found = WORDS.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 512M, 2G or 1.5T")
    return int(float(found[1]) * UNITS[found[2].lower()])


class _Verbs:
    """Adds the parsers of verbs, each with examples."""

    def __init__(self, top: argparse.ArgumentParser) -> None:
        self.group = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(
        self, name: str, summary: str, *examples: str, changes: bool = False, named: bool = True
    ) -> argparse.ArgumentParser:
        made = self.group.add_parser(
            name,
            help=summary,
            description=summary[:1].upper() + summary[1:] + ".",
            epilog="Examples: " + "; ".join(f"hv vm {each}" for each in examples) if examples else None,
        )
        if named:
            made.add_argument("name", metavar="VM", help="its name or UUID")
        made.add_argument("--json", action="store_true", help="print JSON")
        if changes:
            made.add_argument("--dry-run", action="store_true", help="only say what would be done")
            made.add_argument(
                "--no-wait", action="store_true", help="print the operation's id and do not wait for it"
            )
        return made


def _stopping(made: argparse.ArgumentParser) -> None:
    made.add_argument("--force", action="store_true", help="cut its power: what it has not written is lost")
    made.add_argument(
        "--wait",
        type=int,
        default=60,
        metavar="SECONDS",
        help="how long it may take to follow (default: %(default)s)",
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv vm",
        description="Virtual machines: make them, run them, change them. No sudo: what you may do follows from your "
        "groups (`hv auth whoami`).",
        epilog="Exit codes: 0 done; 4 no such VM; 5 a limit; 6 the VM is busy; 10 not allowed; see docs.",
    )
    verbs = _Verbs(top)
    create = verbs.add(
        "create",
        "make a VM",
        "create web --template ubuntu --key ~/.ssh/id_ed25519.pub --start",
        "create db --image ubuntu --size 40G --memory 4G",
        "create win --template windows --iso win11",
        changes=True,
        named=False,
    )
    create.add_argument("name", metavar="NAME", help="its name: letters, digits, spaces and -_.+@()")
    create.add_argument(
        "--template",
        metavar="TEMPLATE",
        help="what this system needs, and its image, fetched if it is not there (`hv image templates`)",
    )
    create.add_argument(
        "--unsigned", action="store_true", help="with --template: checksums that nobody signed will do"
    )
    create.add_argument("--image", metavar="IMAGE", help="start from this image (`hv image list`)")
    create.add_argument("--iso", metavar="IMAGE", help="boot from this medium first")
    create.add_argument(
        "--disk",
        metavar="DISK",
        action="append",
        default=[],
        help="a disk that is there already (`hv vm disks`); may be given again",
    )
    create.add_argument("--size", type=amount, metavar="SIZE", help="size of its disk, e.g. 20G")
    create.add_argument("--pool", default="default", help="storage pool of its disk (default: %(default)s)")
    create.add_argument("--cpus", type=int, metavar="N", help="virtual processors (default: 1)")
    create.add_argument("--memory", type=amount, metavar="SIZE", help="memory, e.g. 2G (default: 1G)")
    create.add_argument(
        "--network",
        metavar="NETWORK",
        action="append",
        help="network to plug it into, or `none` (default: default); may be given again",
    )
    create.add_argument("--firmware", choices=["bios", "uefi"], help="firmware (default: uefi)")
    create.add_argument(
        "--secure-boot", action="store_true", help="UEFI with Secure Boot and Microsoft's keys"
    )
    create.add_argument("--tpm", action="store_true", help="give it a TPM 2.0")
    create.add_argument("--os", metavar="ID", help="its system, e.g. debian13 or win11")
    create.add_argument("--user", metavar="ACCOUNT", help="account that cloud-init makes")
    create.add_argument(
        "--key",
        metavar="FILE",
        action="append",
        default=[],
        help="SSH public key for its first boot; may be given again",
    )
    create.add_argument("--hostname", help="host name for cloud-init (default: from its name)")
    create.add_argument("--tag", action="append", default=[], metavar="TAG", help="tag; may be given again")
    create.add_argument("--description", default="", metavar="TEXT", help="what it is for")
    create.add_argument("--autostart", action="store_true", help="start it with the host")
    create.add_argument("--start", action="store_true", help="start it now")
    listing = verbs.add("list", "list VMs", "list", "list --json", named=False)
    listing.add_argument("--state", metavar="STATE", help="only these, e.g. running")
    listing.add_argument("--tag", metavar="TAG", help="only these")
    listing.add_argument("--names", action="store_true", help="print names alone, one a line")
    verbs.add("show", "show everything about a VM", "show web")
    verbs.add("start", "start a VM", "start web", changes=True)
    _stopping(
        verbs.add(
            "stop", "ask a VM to shut down, and wait for it", "stop web", "stop web --force", changes=True
        )
    )
    _stopping(verbs.add("restart", "stop a VM and start it anew", "restart web", changes=True))
    verbs.add("pause", "let a VM stand still", "pause web", changes=True)
    verbs.add("resume", "let a paused VM go on", "resume web", changes=True)
    delete = verbs.add(
        "delete",
        "delete a VM; says what goes along, and keeps its disks",
        "delete web",
        "delete web --disks",
        changes=True,
    )
    delete.add_argument("--disks", action="store_true", help="delete its disks too")
    delete.add_argument("--force", action="store_true", help="also if it runs")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    console = verbs.add("console", "connect to the serial console; Ctrl-] leaves it", "console web")
    console.add_argument("--take", action="store_true", help="take it from whoever has it")
    logs = verbs.add("logs", "show what a VM wrote to its serial console", "logs web", "logs web --qemu")
    logs.add_argument(
        "--lines", type=int, default=200, metavar="N", help="how many of the last (default: %(default)s)"
    )
    logs.add_argument("--qemu", action="store_true", help="what libvirt and QEMU say instead")
    verbs.add("stats", "measure a VM", "stats web")
    autostart = verbs.add("autostart", "start a VM with the host, or not", "autostart web on", changes=True)
    autostart.add_argument("value", choices=["on", "off"], help="on or off")
    rename = verbs.add("rename", "give a stopped VM another name", "rename web www", changes=True)
    rename.add_argument("new", metavar="NAME", help="the new name")
    tag = verbs.add("tag", "give and take tags", "tag web +prod -test", changes=True)
    tag.add_argument("tags", nargs="+", metavar="TAG", help="TAG or +TAG gives it, ~TAG takes it")
    edit = verbs.add("edit", "change plain properties", "edit web --description 'front'", changes=True)
    edit.add_argument("--description", metavar="TEXT", help="what it is for")
    edit.add_argument("--os", metavar="ID", help="its system")
    resize = verbs.add(
        "resize",
        "change processors, memory or the size of a disk; says what waits for a restart",
        "resize web --cpus 4 --memory 4G",
        "resize web --size 40G",
        changes=True,
    )
    resize.add_argument("--cpus", type=int, metavar="N", help="virtual processors")
    resize.add_argument("--memory", type=amount, metavar="SIZE", help="memory, e.g. 2G")
    resize.add_argument("--size", type=amount, metavar="SIZE", help="size of the disk, which only grows")
    resize.add_argument("--disk", default="vda", metavar="TARGET", help="which disk (default: %(default)s)")
    snapshot = verbs.add(
        "snapshot",
        "keep how a VM is, list that, go back to it",
        "snapshot web create before-update",
        "snapshot web list",
        "snapshot web revert before-update",
        changes=True,
    )
    snapshot.add_argument("what", choices=["create", "list", "revert", "delete"], help="what to do")
    snapshot.add_argument("snapshot", nargs="?", metavar="SNAPSHOT", help="its name")
    snapshot.add_argument("--description", default="", metavar="TEXT", help="what it is for")
    clone = verbs.add("clone", "copy a stopped VM, with all its disks", "clone web web2", changes=True)
    clone.add_argument("new", metavar="NAME", help="the copy's name")
    clone.add_argument("--start", action="store_true", help="start the copy")
    attach = verbs.add(
        "attach",
        "plug in a disk, a network card or a device of the host",
        "attach web --size 10G",
        "attach web --network lan",
        "attach web --pci 0000:01:00.0",
        changes=True,
    )
    attach.add_argument("--size", type=amount, metavar="SIZE", help="a new disk of this size")
    attach.add_argument("--disk", metavar="DISK", help="a disk that is there (`hv vm disks`)")
    attach.add_argument("--pool", default="default", help="the disk's storage pool (default: %(default)s)")
    attach.add_argument("--network", metavar="NETWORK", help="a network card in this network")
    attach.add_argument(
        "--pci",
        metavar="ADDR",
        help="a PCI device of the host, with all that goes along (`hv passthrough list`)",
    )
    attach.add_argument(
        "--usb", metavar="ID", help="a USB device of the host by vendor:product, as lsusb shows it"
    )
    detach = verbs.add("detach", "unplug something; disks are kept", "detach web --disk vdb", changes=True)
    detach.add_argument("--disk", metavar="TARGET", help="a disk, by its target such as vdb")
    detach.add_argument("--mac", metavar="MAC", help="a network card")
    detach.add_argument("--pci", metavar="ADDR", help="a PCI device")
    detach.add_argument("--usb", metavar="ID", help="a USB device")
    screen = verbs.add(
        "screen", "take a picture of a VM's screen", "screen web --output web.png", "screen web"
    )
    screen.add_argument("--output", metavar="FILE", help="write it there, else it is drawn in the terminal")
    export = verbs.add(
        "export", "write a stopped VM's disk to a file (qcow2)", "export web --output web.qcow2"
    )
    export.add_argument("--disk", default="vda", metavar="TARGET", help="which disk (default: %(default)s)")
    export.add_argument("--output", required=True, metavar="FILE", help="where to; must not exist")
    remove = verbs.add(
        "disk-delete", "delete a disk that no VM uses", "disk-delete default/NAME.qcow2", named=False
    )
    remove.add_argument("disk", metavar="DISK", help="the disk (`hv vm disks`)")
    remove.add_argument("--dry-run", action="store_true", help="only say what would be done")
    imported = verbs.add(
        "import",
        "take over a VM of another hypervisor: .ova, .ovf, .vmx, Proxmox's .conf",
        "import mail.ova",
        "import 101.conf --as mail --dry-run",
        named=False,
    )
    imported.add_argument("file", metavar="FILE", help="its description; disks are looked for beside it")
    imported.add_argument(
        "--as", dest="new", metavar="NAME", help="the VM's name (default: as it was called)"
    )
    imported.add_argument(
        "--network",
        default="default",
        metavar="NETWORK",
        help="where its cards are plugged in (default: %(default)s)",
    )
    imported.add_argument("--dry-run", action="store_true", help="only say what it would become")
    apply = verbs.add(
        "apply",
        "make VMs what a file declares; the plan comes first",
        "apply vms.toml --dry-run",
        "apply vms.toml",
        named=False,
    )
    apply.add_argument("file", metavar="FILE", help="TOML or JSON: see docs, Virtual machines")
    apply.add_argument("--dry-run", action="store_true", help="only show the plan")
    apply.add_argument("--yes", action="store_true", help="do not ask")
    verbs.add("disks", "list disks that hvd made", "disks", named=False)
    verbs.add("pools", "list storage pools that VMs can use, and what is free", "pools", named=False)
    verbs.add("networks", "list networks that VMs can use", "networks", named=False)
    verbs.add("operations", "list what was done lately", "operations", named=False)
    cancel = verbs.add("cancel", "cancel an operation", "cancel ID", named=False)
    cancel.add_argument("operation", metavar="ID", help="the operation")
    return top


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    verb = options.verb.replace("-", "_")
    return int(globals()[f"_{verb}"](Client(), options))


def start() -> int:
    """The command `vm-start`: short for `hv vm start`."""
    from hv.cli import run

    return run(["vm", "start", *sys.argv[1:]])


def stop() -> int:
    """The command `vm-stop`: short for `hv vm stop`."""
    from hv.cli import run

    return run(["vm", "stop", *sys.argv[1:]])


def show_json(value: object) -> None:
    """For programs."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _where(options: argparse.Namespace, rest: str = "") -> str:
    return f"/1/vms/{quoted(options.name)}{rest}"


def _operate(
    client: Client, options: argparse.Namespace, where: str, given: "dict[str, Any]"
) -> "dict[str, Any] | None":
    """Do it and wait, or say what would be done; the result, None when there is nothing more to say."""
    if options.dry_run:
        plan = client.ask("POST", f"{where}?dry_run=1", given)
        if options.json:
            show_json(plan)
        else:
            print("\n".join(plan["plan"]))
        return None
    operation = client.ask("POST", where, given)["operation"]
    if options.no_wait:
        if options.json:
            show_json({"version": 1, "operation": operation["id"]})
        else:
            print(operation["id"])
        return None
    result = client.wait(operation, quiet=options.json)
    if options.json:
        show_json({"version": 1, **result})
        return None
    return result


def _act(
    client: Client, options: argparse.Namespace, verb: str, given: "dict[str, Any]", said: str = ""
) -> int:
    result = _operate(client, options, _where(options, f"/{verb}"), given)
    if result is not None:
        print(said or f"{result['name']}: {result['state']}")
    return 0


def _from_template(client: Client, options: argparse.Namespace) -> None:
    """Fills in what the template says and the command line does not; brings its image if it is not there."""
    from hv.images.shelf import known
    from hv.images.template import template

    wanted = template(options.template)
    guest = wanted.guest
    for field, value in (
        ("cpus", guest.cpus),
        ("memory", guest.memory),
        ("firmware", guest.firmware),
        ("os", wanted.os),
        ("size", guest.disk),
    ):
        if getattr(options, field) is None:
            setattr(options, field, value)
    options.tpm = options.tpm or guest.tpm
    options.secure_boot = options.secure_boot or guest.secure_boot
    if options.image or options.iso:
        return
    images = known(client)
    if wanted.name not in images and not options.dry_run:
        from hv.commands.image import pull

        pull(
            client,
            wanted.name,
            argparse.Namespace(name=wanted.name, unsigned=options.unsigned, public=False),
        )
    if wanted.kind == "iso":
        options.iso = wanted.name
    else:
        options.image = wanted.name


def _create(client: Client, options: argparse.Namespace) -> int:
    if options.template:
        _from_template(client, options)
    disks: list[dict[str, Any]] = []
    if options.image or options.size:
        disk: dict[str, Any] = {"pool": options.pool}
        if options.image:
            disk["image"] = options.image
        if options.size:
            disk["size"] = options.size
        disks.append(disk)
    for each in options.disk:
        pool, _, name = each.rpartition("/")
        disks.append({"pool": pool or options.pool, "volume": name})
    networks = options.network or ["default"]
    given: dict[str, Any] = {
        "name": options.name,
        "disks": disks,
        "nics": [{"network": each} for each in networks if each != "none"],
        "start": options.start,
        "autostart": options.autostart,
        "tags": options.tag,
        "description": options.description,
        "secure_boot": options.secure_boot,
        "tpm": options.tpm,
    }
    for field, value in (
        ("vcpus", options.cpus),
        ("memory", options.memory),
        ("firmware", options.firmware),
        ("os", options.os),
        ("iso", options.iso),
    ):
        if value is not None:
            given[field] = value
    keys = [key for file in options.key for key in _keys(file)]
    if keys or options.user or options.hostname:
        given["cloud_init"] = {"user": options.user, "keys": keys, "hostname": options.hostname}
    result = _operate(client, options, "/1/vms", given)
    if result is not None:
        print(f"{result['name']}: made, {result['state']}")
    return 0


def _keys(file: str) -> list[str]:
    """Public keys of a file, as ~/.ssh/*.pub and authorized_keys have them."""
    from pathlib import Path

    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise HyperError(
            f"The key file {file} cannot be read.",
            why=str(error),
            remedy="Name a file such as ~/.ssh/id_ed25519.pub.",
            code=Exit.usage,
        ) from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for key in keys:
        if "PRIVATE KEY" in key or len(key.split()) < 2:
            raise HyperError(
                f"{file} has no SSH public key.",
                why="a line of it is no public key"
                if "PRIVATE" not in key
                else "it is a private key, which stays with you",
                remedy="Name the file that ends in .pub.",
                code=Exit.usage,
            )
    return keys


def _list(client: Client, options: argparse.Namespace) -> int:
    found = client.ask("GET", "/1/vms")
    rows = [
        row
        for row in found["vms"]
        if (options.state is None or row["state"] == options.state)
        and (options.tag is None or options.tag in row["tags"])
    ]
    if options.json:
        show_json({"version": found["version"], "vms": rows})
    elif options.names:
        print("\n".join(row["name"] for row in rows))
    elif not rows:
        print("no VMs" if not found["vms"] else "no such VMs")
    else:
        table(
            ("NAME", "STATE", "CPUS", "MEMORY", "OWNER", "TAGS"),
            [
                (
                    row["name"],
                    row["state"],
                    str(row["vcpus"] or "-"),
                    sized(row["memory"]),
                    row["owner"] or "-",
                    ",".join(row["tags"]),
                )
                for row in rows
            ],
        )
    return 0


def _show(client: Client, options: argparse.Namespace) -> int:
    row = client.ask("GET", _where(options))
    if options.json:
        show_json(row)
        return 0
    lines = [
        ("name", row["name"]),
        ("state", row["state"] + (" (with saved memory)" if row["saved"] else "")),
        ("owner", row["owner"] or "nobody: hvd did not make it"),
        ("UUID", row["uuid"]),
        ("system", row["os"] or "-"),
        ("processors", f"{row['vcpus']}{'' if row['accelerated'] else ', emulated'}"),
        ("memory", sized(row["memory"])),
        ("firmware", row["firmware"] + (", TPM" if row["tpm"] else "")),
        ("autostart", "on" if row["autostart"] else "off"),
    ]
    if row["description"]:
        lines.append(("for", row["description"]))
    if row["tags"]:
        lines.append(("tags", ", ".join(row["tags"])))
    for disk in row["disks"]:
        volume = disk["volume"]
        what = (
            f"{volume['pool']}/{volume['name']}, {sized(volume['size'])}"
            if volume
            else disk["path"] or "empty"
        )
        if volume and volume["image"]:
            what += f", on image {volume['image']}"
        lines.append((f"{disk['device']} {disk['target']}", what))
    lines += [("network", f"{nic['network']}, {nic['mac']}, {nic['model']}") for nic in row["nics"]]
    lines += [
        ("device", " ".join(f"{key} {value}" for key, value in each.items())) for each in row["devices"]
    ]
    if row["snapshots"]:
        lines.append(("snapshots", str(row["snapshots"])))
    if row["changes_pending"]:
        lines.append(("note", "changes wait for the next start: `hv vm restart`"))
    print("\n".join(f"{name + ':':<13}{text}" for name, text in lines))
    return 0


def _start(client: Client, options: argparse.Namespace) -> int:
    return _act(client, options, "start", {})


def _stop(client: Client, options: argparse.Namespace) -> int:
    return _act(client, options, "stop", {"force": options.force, "wait": options.wait})


def _restart(client: Client, options: argparse.Namespace) -> int:
    return _act(client, options, "restart", {"force": options.force, "wait": options.wait})


def _pause(client: Client, options: argparse.Namespace) -> int:
    return _act(client, options, "pause", {})


def _resume(client: Client, options: argparse.Namespace) -> int:
    return _act(client, options, "resume", {})


def _delete(client: Client, options: argparse.Namespace) -> int:
    given = {"disks": options.disks, "force": options.force}
    where = _where(options, "/delete")
    if not options.dry_run and not options.yes and not options.json and sys.stdin.isatty():
        print("\n".join(client.ask("POST", f"{where}?dry_run=1", given)["plan"]))
        if input("Do it? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was done")
            return int(Exit.consent)
    result = _operate(client, options, where, given)
    if result is not None:
        print(f"{result['name']}: deleted")
        for disk in result["kept"]:
            print(f"kept: {disk}")
    return 0


def _logs(client: Client, options: argparse.Namespace) -> int:
    what = "qemu" if options.qemu else "console"
    found = client.ask("GET", _where(options, f"/logs?lines={options.lines}&what={what}"))
    if options.json:
        show_json(found)
    elif not found["exists"]:
        print(f"{found['name']} has written nothing yet", file=sys.stderr)
    else:
        # What a guest writes must not steer the terminal of whoever reads it.
        print(
            "".join(char if char.isprintable() or char in "\n\t" else "" for char in _plain(found["text"]))
        )
    return 0


def _plain(text: str) -> str:
    """Without escape sequences (ECMA-48)."""
    return re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])", "", text)


def _stats(client: Client, options: argparse.Namespace) -> int:
    found = client.ask("GET", _where(options, "/stats"))
    if options.json:
        show_json(found)
        return 0
    values = found["values"]
    lines = []
    if "cpu.time" in values:
        lines.append(
            (
                "processor",
                f"{values['cpu.time'] / 1e9:.1f} s used, {values.get('vcpu.current', '?')} virtual",
            )
        )
    if "balloon.current" in values:
        lines.append(
            (
                "memory",
                f"{sized(values['balloon.current'] * 1024)} of {sized(values.get('balloon.maximum', 0) * 1024)}",
            )
        )
    for number in range(values.get("block.count", 0)):
        name = values.get(f"block.{number}.name", "?")
        read, written = values.get(f"block.{number}.rd.bytes"), values.get(f"block.{number}.wr.bytes")
        lines.append((f"disk {name}", f"{sized(read)} read, {sized(written)} written"))
    for number in range(values.get("net.count", 0)):
        name = values.get(f"net.{number}.name", "?")
        lines.append(
            (
                f"network {name}",
                f"{sized(values.get(f'net.{number}.rx.bytes'))} in, {sized(values.get(f'net.{number}.tx.bytes'))} out",
            )
        )
    if found["partly"]:
        lines.append(("note", "QEMU did not answer in time: only what is known without it"))
    print("\n".join(f"{name + ':':<16}{text}" for name, text in lines) or f"{found['name']} does not run")
    return 0


def _autostart(client: Client, options: argparse.Namespace) -> int:
    said = f"{options.name}: {'starts' if options.value == 'on' else 'does not start'} with the host"
    return _act(client, options, "autostart", {"on": options.value == "on"}, said)


def _rename(client: Client, options: argparse.Namespace) -> int:
    return _act(
        client, options, "rename", {"name": options.new}, f"{options.name} is called {options.new} now"
    )


def _tag(client: Client, options: argparse.Namespace) -> int:
    given = {
        "add": [tag.removeprefix("+") for tag in options.tags if not tag.startswith("~")],
        "remove": [tag[1:] for tag in options.tags if tag.startswith("~")],
    }
    result = _operate(client, options, _where(options, "/tag"), given)
    if result is not None:
        print(f"{result['name']}: {', '.join(result['tags']) or 'no tags'}")
    return 0


def _edit(client: Client, options: argparse.Namespace) -> int:
    given = {
        key: value
        for key, value in (("description", options.description), ("os", options.os))
        if value is not None
    }
    if not given:
        raise HyperError(
            "Nothing was changed.",
            why="no property was named",
            remedy="See `hv vm edit --help`.",
            code=Exit.usage,
        )
    return _act(client, options, "edit", given)


def _listing(
    options: argparse.Namespace,
    found: "dict[str, Any]",
    what: str,
    columns: tuple[str, ...],
    cells: "Callable[[dict[str, Any]], tuple[str, ...]]",
) -> int:
    """What the broker has of a kind, for people or programs; `what` is its name in the answer."""
    rows = found[what]
    if options.json:
        show_json(found)
    elif not rows:
        print(f"no {options.verb}")
    else:
        table(columns, [cells(row) for row in rows])
    return 0


def _disks(client: Client, options: argparse.Namespace) -> int:
    return _listing(
        options,
        client.ask("GET", "/1/volumes"),
        "volumes",
        ("DISK", "SIZE", "VM", "IMAGE", "OWNER"),
        lambda row: (
            f"{row['pool']}/{row['name']}",
            sized(row["size"]),
            row["vm"] or "-",
            row["image"] or "-",
            row["owner"],
        ),
    )


def _up(row: "dict[str, Any]") -> str:
    return "up" if row["running"] else "down"


def _pools(client: Client, options: argparse.Namespace) -> int:
    return _listing(
        options,
        client.ask("GET", "/1/pools"),
        "pools",
        ("POOL", "KIND", "STATE", "SIZE", "FREE"),
        lambda row: (row["name"], row["kind"], _up(row), sized(row["capacity"]), sized(row["free"])),
    )


def _networks(client: Client, options: argparse.Namespace) -> int:
    return _listing(
        options,
        client.ask("GET", "/1/networks"),
        "networks",
        ("NETWORK", "KIND", "STATE", "AUTOSTART"),
        lambda row: (row["name"], row["mode"], _up(row), "yes" if row["autostart"] else "no"),
    )


def _operations(client: Client, options: argparse.Namespace) -> int:
    import time

    return _listing(
        options,
        client.ask("GET", "/1/operations"),
        "operations",
        ("BEGAN", "WHO", "WHAT", "VM", "STATUS", "ID"),
        lambda row: (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["created"])),
            row["actor_name"],
            row["kind"],
            row["target"],
            row["status"],
            row["id"],
        ),
    )


def _cancel(client: Client, options: argparse.Namespace) -> int:
    operation = client.ask("DELETE", f"/1/operations/{quoted(options.operation)}")["operation"]
    if options.json:
        show_json({"version": 1, "operation": operation})
    else:
        print(f"{operation['kind']} of {operation['target']}: {operation['status']}")
    return 0


def _console(client: Client, options: argparse.Namespace) -> int:
    from hv.console import connect

    return connect(client, _where(options, f"/console{'?take=1' if options.take else ''}"), options.name)


def _resize(client: Client, options: argparse.Namespace) -> int:
    given = {"vcpus": options.cpus, "memory": options.memory, "disk": options.disk, "size": options.size}
    given = {key: value for key, value in given.items() if value is not None}
    result = _operate(client, options, _where(options, "/resize"), given)
    if result is not None:
        waits = " and ".join(result["waits_for_restart"])
        print(
            f"{result['name']}: resized"
            + (f"; {waits} from the next start on: `hv vm restart`" if waits else "")
        )
    return 0


def _snapshot(client: Client, options: argparse.Namespace) -> int:
    if options.what == "list":
        found = client.ask("GET", _where(options, "/snapshots"))
        if options.json:
            show_json(found)
        elif not found["snapshots"]:
            print("no snapshots")
        else:
            import time

            table(
                ("SNAPSHOT", "MADE", "MEMORY", "AFTER", "FOR"),
                [
                    (
                        row["name"] + (" *" if row["current"] else ""),
                        time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"])),
                        "yes" if row["memory"] else "no",
                        row["parent"] or "-",
                        row["description"],
                    )
                    for row in found["snapshots"]
                ],
            )
        return 0
    if not options.snapshot:
        raise HyperError(
            "Which snapshot?",
            why="none was named",
            remedy=f"hv vm snapshot {options.name} {options.what} SNAPSHOT",
            code=Exit.usage,
        )
    given: dict[str, Any] = {"name": options.snapshot}
    verb = {"create": "snapshot", "revert": "snapshot-revert", "delete": "snapshot-delete"}[options.what]
    if options.what == "create":
        given["description"] = options.description
    did = {"create": "made", "revert": "is how it was then", "delete": "deleted"}[options.what]
    result = _operate(client, options, _where(options, f"/{verb}"), given)
    if result is not None:
        print(f"{result['name']}: snapshot {result['snapshot']}: {did}")
    return 0


def _clone(client: Client, options: argparse.Namespace) -> int:
    result = _operate(
        client, options, _where(options, "/clone"), {"name": options.new, "start": options.start}
    )
    if result is not None:
        print(f"{result['name']}: made, {result['state']}")
    return 0


def _attach(client: Client, options: argparse.Namespace) -> int:
    given: dict[str, Any] = {}
    if options.size or options.disk:
        given["disk"] = {"pool": options.pool}
        if options.size:
            given["disk"]["size"] = options.size
        if options.disk:
            pool, _, name = options.disk.rpartition("/")
            given["disk"] |= {"pool": pool or options.pool, "volume": name}
    if options.network:
        given["nic"] = {"network": options.network}
    given |= {key: value for key, value in (("pci", options.pci), ("usb", options.usb)) if value}
    result = _operate(client, options, _where(options, "/attach"), given)
    if result is not None:
        print(
            f"{result['name']}: plugged in {', '.join(f'{key} {value}' for key, value in result['attached'].items())}"
        )
    return 0


def _detach(client: Client, options: argparse.Namespace) -> int:
    given = {key: value for key in ("disk", "mac", "pci", "usb") if (value := getattr(options, key))}
    result = _operate(client, options, _where(options, "/detach"), given)
    if result is not None:
        print(f"{result['name']}: unplugged" + (f"; kept: {result['kept']}" if result["kept"] else ""))
    return 0


def _fetched(client: Client, where: str, file: "BinaryIO") -> int:
    """Writes what comes; how many bytes. Raises HyperError for a refusal."""
    answer = client.open("GET", where)
    try:
        if answer.status >= 400:
            checked(answer)
        count = 0
        for piece in answer.pieces():
            file.write(piece)
            count += len(piece)
        return count
    finally:
        answer.close()


def _screen(client: Client, options: argparse.Namespace) -> int:
    from io import BytesIO

    picture = BytesIO()
    _fetched(client, _where(options, "/screen"), picture)
    data = picture.getvalue()
    from hv.vm.picture import drawn, pixels, png

    wide, high, points = pixels(data)
    if options.output:
        with open(options.output, "wb") as file:  # noqa: PTH123 -- pathlib is slow to import
            file.write(png(wide, high, points))
    if options.json:
        show_json({"version": 1, "width": wide, "height": high, "file": options.output})
    elif options.output:
        print(f"{options.output}: {wide}x{high}")
    else:
        import shutil

        columns, rows = shutil.get_terminal_size()
        print(drawn(wide, high, points, columns, rows - 1))
    return 0


def _export(client: Client, options: argparse.Namespace) -> int:
    import os

    row = client.ask("GET", _where(options))
    disk = next((each for each in row["disks"] if each["target"] == options.disk and each["volume"]), None)
    if disk is None:
        raise HyperError(
            f"{row['name']} has no disk {options.disk!r} of hvd's.",
            why=f"it has: {', '.join(str(each['target']) for each in row['disks']) or 'none'}",
            remedy="Name one of these with --disk.",
            code=Exit.selection,
        )
    volume = disk["volume"]
    if volume["image"]:
        raise HyperError(
            f"The disk {options.disk} of {row['name']} does not stand alone.",
            why=f"it stands on the image {volume['image']}, and alone it is nothing",
            remedy=f"Make a copy, whose disks are whole, and export that: `hv vm clone '{row['name']}' NAME`.",
            code=Exit.unsuitable,
        )
    partial = f"{options.output}.partial"
    try:
        if os.path.exists(options.output):  # noqa: PTH110 -- pathlib is slow to import
            raise FileExistsError(17, "it is there already")
        with open(partial, "xb") as file:  # noqa: PTH123 -- see above
            count = _fetched(
                client, f"/1/volumes/{quoted(volume['pool'])}/{quoted(volume['name'])}/content", file
            )
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, options.output)  # noqa: PTH104 -- see above
    except OSError as error:
        raise HyperError(
            f"{options.output} cannot be written.",
            why=error.strerror or str(error),
            remedy="Name another file, or make room.",
        ) from error
    if options.json:
        show_json({"version": 1, "file": options.output, "bytes": count})
    else:
        print(f"{options.output}: {sized(count)}")
    return 0


def _disk_delete(client: Client, options: argparse.Namespace) -> int:
    pool, _, name = options.disk.rpartition("/")
    where = f"/1/volumes/{quoted(pool or 'default')}/{quoted(name)}"
    found = client.ask("DELETE", where + ("?dry_run=1" if options.dry_run else ""))
    if options.json:
        show_json(found)
    else:
        print("\n".join(found["plan"]) if options.dry_run else f"{found['name']}: deleted")
    return 0


def _import(client: Client, options: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from hv.commands.image import _programs, _progress
    from hv.images.foreign import read
    from hv.images.shelf import Label, bring

    file = Path(options.file)
    if not file.is_file():
        raise HyperError(
            f"{file} cannot be read.",
            why="there is no such file",
            remedy="Name an existing file.",
            code=Exit.usage,
        )
    with tempfile.TemporaryDirectory(prefix="hv-import-") as folder:
        found = read(file, Path(folder))
        name = options.new or found.name
        if not options.json:
            print(
                f"{name}: {found.cpus} processors, {sized(found.memory)}, {found.firmware}, {len(found.disks)} disks, {found.nics} cards with new addresses"
            )
            for left in found.left:
                print(f"  not taken over: {left}")
        given: dict[str, Any] = {
            "name": name,
            "vcpus": found.cpus,
            "memory": found.memory,
            "firmware": found.firmware,
            "nics": [{"network": options.network}] * found.nics,
        }
        if options.dry_run:
            if options.json:
                show_json({"version": 1, "spec": given, "disks": len(found.disks), "left": list(found.left)})
            return 0
        images = []
        try:
            for number, disk in enumerate(found.disks):
                label = Label(
                    f"{re.sub(r'[^A-Za-z0-9_.+-]+', '-', name).strip('-._+') or 'vm'}-disk{number}",
                    source=file.name,
                )
                images.append(label.name)
                bring(client, (disk.path, disk.format), label, _programs(), _progress())
            # Buses as a system without virtio drivers has them: what was installed elsewhere must find its disk.
            given["disks"] = [{"image": image, "bus": "sata"} for image in images]
            result = client.wait(client.ask("POST", "/1/vms", given)["operation"], quiet=options.json)
        except HyperError:
            for image in images:
                try:
                    client.ask("DELETE", f"/1/images/{quoted(image)}")
                except HyperError:
                    continue
            raise
    if options.json:
        show_json({"version": 1, **result, "left": list(found.left)})
    else:
        print(f"{result['name']}: made, {result['state']}")
    return 0


def _apply(client: Client, options: argparse.Namespace) -> int:
    from hv.declared import carry_out, plan, read

    wanted = read(options.file)
    steps = plan(wanted, client)
    if options.json and options.dry_run:
        show_json({"version": 1, "steps": [step.told() for step in steps]})
        return 0
    if not options.json:
        print("\n".join(step.line for step in steps) or "no VMs are declared")
    if options.dry_run:
        return 0
    due = [step for step in steps if step.requests]
    asks = due and not options.yes and not options.json and sys.stdin.isatty()
    if asks and input("Do it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was done")
        return int(Exit.consent)
    failed = 0
    for step in due:
        try:
            carry_out(step, client)
        except HyperError as error:
            failed = failed or int(error.code)
            print(error, file=sys.stderr)
        else:
            if not options.json:
                print(f"{step.name}: done")
    if options.json:
        show_json({"version": 1, "steps": [step.told() for step in steps], "failed": bool(failed)})
    return failed
