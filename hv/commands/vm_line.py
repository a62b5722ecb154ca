"""The command line of `hv vm`."""

import argparse
import re

from installer.command_line import Parser

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
PCI = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])")
USB = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
WORDS = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def amount(text: str) -> int:
    """Bytes of a size such as 512M, 2G or 10GiB (powers of 1024)."""
    found = WORDS.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 512M, 2G or 1.5T")
    return int(float(found[1]) * UNITS[found[2].lower()])


def processors(text: str) -> list[int]:
    """Processors of the host, as in 2-5,8, in that order; none for a word alone."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) > 8191:
            raise argparse.ArgumentTypeError(f"{text!r} names no processors: write 2-5,8")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def port(text: str) -> int:
    """A TCP port that people may listen on; 0: any."""
    if not text.isdecimal() or not (text == "0" or 1024 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write 1024 to 65535, or 0 for any")
    return int(text)


def called(text: str) -> str:
    """A name or UUID of a VM."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty, and no VM is called that: see `hv vm list`")
    return text


def pci(text: str) -> str:
    """An address as `hv passthrough` takes it, with its domain."""
    found = PCI.fullmatch(text.lower())
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no PCI address: write 0000:01:00.0 (`hv passthrough list`)"
        )
    return f"{found[1] or '0000'}:{found[2]}"


def usb(text: str) -> str:
    """Vendor and product."""
    if not USB.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no USB device: write vendor:product, 046d:c52b (lsusb)"
        )
    return text.lower()


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
            made.add_argument("name", type=called, metavar="VM", help="its name or UUID")
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


def _places(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--pin",
        type=processors,
        nargs="?",
        const=[],
        metavar="PROCESSORS",
        help="pin its processors to these of the host, e.g. 2-5, or to whole cores that are free (administrators)",
    )
    made.add_argument(
        "--node",
        type=int,
        metavar="N",
        help="take its memory, and with --pin its processors, from this NUMA node",
    )
    made.add_argument(
        "--hugepages",
        action="store_true",
        help="keep its memory in huge pages that are reserved on the host",
    )


def _mosts(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--max-cpus",
        type=int,
        metavar="N",
        help="processors that it may get while it runs (`resize --cpus`)",
    )
    made.add_argument(
        "--max-memory",
        type=amount,
        metavar="SIZE",
        help="memory that it may get while it runs (`resize --memory`): more than --memory by steps of 128M",
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv vm",
        description="Virtual machines: make them, run them, change them. No sudo: what you may do follows from your "
        "groups (`hv auth whoami`).",
        epilog="Examples: hv vm create web --template ubuntu --key ~/.ssh/id_ed25519.pub --start; hv vm console web; "
        "hv vm stop web. Exit codes: 0 done; 4 no such VM; 5 a limit; 6 the VM is busy; 10 not allowed; see docs.",
    )
    verbs = _Verbs(top)
    create = verbs.add(
        "create",
        "make a VM",
        "create web --template ubuntu --key ~/.ssh/id_ed25519.pub --start",
        "create db --image ubuntu --size 40G --memory 4G",
        "create win --template windows --unattended --user ada --start",
        "create old --os win7 --iso win7",
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
    _mosts(create)
    _places(create)
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
    create.add_argument(
        "--os",
        metavar="ID",
        help="its system as libosinfo names it, e.g. debian12 or win11 (default: its image's): what is not said here is as that wants it",
    )
    create.add_argument(
        "--bus", choices=["virtio", "sata", "scsi"], help="how its disks are plugged in (default: virtio)"
    )
    create.add_argument(
        "--card", choices=["virtio", "e1000e"], help="model of its network cards (default: virtio)"
    )
    create.add_argument(
        "--spice",
        dest="screen",
        action="store_const",
        const="spice",
        help="a screen by SPICE, with its clipboard, instead of VNC",
    )
    create.add_argument(
        "--user", metavar="ACCOUNT", help="account that cloud-init makes, or with --unattended Windows"
    )
    create.add_argument(
        "--key",
        metavar="FILE",
        action="append",
        default=[],
        help="SSH public key for its first boot; may be given again",
    )
    create.add_argument(
        "--hostname", help="host name for cloud-init, or with --unattended Windows (default: from its name)"
    )
    create.add_argument(
        "--ignition",
        metavar="FILE",
        help="what Fedora CoreOS or Flatcar read at their first boot: JSON, as Butane writes it",
    )
    create.add_argument(
        "--unattended",
        action="store_true",
        help="Windows installs itself from the medium to a new disk, without asking; its account has no password "
        "until one is set at its screen",
    )
    create.add_argument(
        "--language",
        metavar="LOCALE",
        help="with --unattended: e.g. de-DE, which the medium must have (default: en-US)",
    )
    create.add_argument(
        "--edition", metavar="NAME", help="with --unattended: which of the medium's, e.g. 'Windows 11 Pro'"
    )
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
    autostart.add_argument("value", choices=["on", "off"], metavar="on|off", help="on or off")
    rename = verbs.add("rename", "give a stopped VM another name", "rename web www", changes=True)
    rename.add_argument("new", metavar="NAME", help="the new name")
    tag = verbs.add("tag", "give and take tags", "tag web +prod ~test", changes=True)
    tag.add_argument("tags", nargs="+", metavar="TAG", help="TAG or +TAG gives it, ~TAG takes it")
    edit = verbs.add(
        "edit",
        "change plain properties, and where on the host it runs",
        "edit web --description 'front'",
        "edit db --pin --hugepages",
        changes=True,
    )
    edit.add_argument("--description", metavar="TEXT", help="what it is for")
    edit.add_argument("--os", metavar="ID", help="its system")
    _places(edit)
    edit.add_argument("--unplaced", action="store_true", help="let it run anywhere on the host again")
    resize = verbs.add(
        "resize",
        "change processors, memory or the size of a disk, while it runs where that goes; says what waits for a restart",
        "resize web --cpus 4 --memory 4G",
        "resize web --max-cpus 8 --max-memory 16G",
        "resize web --size 40G",
        changes=True,
    )
    resize.add_argument("--cpus", type=int, metavar="N", help="virtual processors")
    resize.add_argument("--memory", type=amount, metavar="SIZE", help="memory, e.g. 2G")
    _mosts(resize)
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
    snapshot.add_argument(
        "what",
        choices=["create", "list", "revert", "delete"],
        metavar="ACTION",
        help="create, list, revert or delete",
    )
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
        type=pci,
        metavar="ADDR",
        help="a PCI device of the host, with all that goes along (`hv passthrough list`)",
    )
    attach.add_argument(
        "--usb", type=usb, metavar="ID", help="a USB device of the host by vendor:product, as lsusb shows it"
    )
    detach = verbs.add(
        "detach",
        "unplug something; disks are kept",
        "detach web --disk vdb",
        "detach web --pci 01:00.0",
        changes=True,
    )
    detach.add_argument("--disk", metavar="TARGET", help="a disk, by its target such as vdb")
    detach.add_argument("--mac", metavar="MAC", help="a network card")
    detach.add_argument("--pci", type=pci, metavar="ADDR", help="a PCI device, with what came along")
    detach.add_argument("--usb", type=usb, metavar="ID", help="a USB device")
    screen = verbs.add(
        "screen",
        "take a picture of a VM's screen, or open it for a viewer",
        "screen web",
        "screen web --output web.png",
        "screen web --vnc",
        "screen web --vnc --port 5901",
    )
    how = screen.add_mutually_exclusive_group()
    how.add_argument("--output", metavar="FILE", help="write it there, else it is drawn in the terminal")
    how.add_argument(
        "--vnc",
        dest="kind",
        action="store_const",
        const="vnc",
        help="let one viewer of yours connect, and pass on what it says, until it leaves",
    )
    how.add_argument(
        "--spice",
        dest="kind",
        action="store_const",
        const="spice",
        help="the same, by SPICE (`create --spice`)",
    )
    where = screen.add_mutually_exclusive_group()
    where.add_argument(
        "--socket",
        metavar="FILE",
        help="the viewer connects to this socket (default: a new one in a folder of yours)",
    )
    where.add_argument(
        "--port",
        type=port,
        nargs="?",
        const=0,
        metavar="PORT",
        help="it connects to 127.0.0.1 at this port instead (default: any that is free); programs of others are refused",
    )
    export = verbs.add(
        "export",
        "write a stopped VM to a file that other hypervisors read (OVA), or a disk of it (qcow2)",
        "export web --output web.ova",
        "export web --disk vdb --output data.qcow2",
    )
    export.add_argument(
        "--format",
        choices=["ova", "qcow2"],
        help="the whole VM, or a disk (default: as the file is called, else qcow2)",
    )
    export.add_argument("--disk", default="vda", metavar="TARGET", help="which disk (default: %(default)s)")
    export.add_argument("--output", required=True, metavar="FILE", help="where to; must not exist")
    export.add_argument("--dry-run", action="store_true", help="only say what would be written")
    remove = verbs.add(
        "disk-delete", "delete a disk that no VM uses", "disk-delete default/NAME.qcow2", named=False
    )
    remove.add_argument("disk", metavar="DISK", help="the disk (`hv vm disks`)")
    remove.add_argument("--dry-run", action="store_true", help="only say what would be done")
    imported = verbs.add(
        "import",
        "take over a VM of another hypervisor: .ova, .ovf, .vmx, .vbox, Proxmox's .conf",
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
    imported.add_argument(
        "--incomplete", action="store_true", help="make it also without disks that cannot be taken over"
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
    wait = verbs.add(
        "wait", "wait for an operation, as the command that began it would have", "wait ID", named=False
    )
    wait.add_argument("operation", metavar="OPERATION", help="its id (`hv vm operations`)")
    cancel = verbs.add("cancel", "cancel an operation", "cancel ID", named=False)
    cancel.add_argument("operation", metavar="OPERATION", help="its id (`hv vm operations`)")
    cancel.add_argument("--dry-run", action="store_true", help="only say what would be cancelled")
    return top
