"""`hv vm`: the life of virtual machines, through hvd and without sudo."""

import sys
from importlib import import_module

from hv.client import Client
from hv.commands.vm_line import parser

VERBS = {
    "list": ("vm_looking", "list_"),
    "show": ("vm_looking", "show"),
    "logs": ("vm_looking", "logs"),
    "stats": ("vm_looking", "stats"),
    "disks": ("vm_looking", "disks"),
    "pools": ("vm_looking", "pools"),
    "networks": ("vm_looking", "networks"),
    "operations": ("vm_looking", "operations"),
    "wait": ("vm_looking", "wait"),
    "console": ("vm_looking", "console"),
    "screen": ("vm_looking", "screen"),
    "create": ("vm_making", "create"),
    "clone": ("vm_making", "clone"),
    "export": ("vm_exporting", "export"),
    "import": ("vm_making", "import_"),
    "apply": ("vm_making", "apply"),
    "delete": ("vm_making", "delete"),
    "disk-delete": ("vm_making", "disk_delete"),
    "start": ("vm_changing", "start"),
    "stop": ("vm_changing", "stop"),
    "restart": ("vm_changing", "restart"),
    "pause": ("vm_changing", "pause"),
    "resume": ("vm_changing", "resume"),
    "autostart": ("vm_changing", "autostart"),
    "rename": ("vm_changing", "rename"),
    "tag": ("vm_changing", "tag"),
    "edit": ("vm_changing", "edit"),
    "resize": ("vm_changing", "resize"),
    "snapshot": ("vm_changing", "snapshot"),
    "attach": ("vm_changing", "attach"),
    "detach": ("vm_changing", "detach"),
    "cancel": ("vm_changing", "cancel"),
}
"""Where each verb is; the others are not imported."""


def main(argv: list[str]) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    options = parser().parse_args(argv)
    module, verb = VERBS[options.verb]
    return int(getattr(import_module(f"hv.commands.{module}"), verb)(Client(), options))


def start() -> int:
    """The command `vm-start`: short for `hv vm start`."""
    from hv.cli import run

    return run(["vm", "start", *sys.argv[1:]])


def stop() -> int:
    """The command `vm-stop`: short for `hv vm stop`."""
    from hv.cli import run

    return run(["vm", "stop", *sys.argv[1:]])
