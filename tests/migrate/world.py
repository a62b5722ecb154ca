"""Systems to migrate: styles of configuration below a root that stands for a machine, and Nix that evaluates them."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.migrate.evaluation import EvaluationError, Evaluator
from installer.migrate.findings import Configuration, Findings
from installer.migrate.module import Source
from installer.migrate.probe import Asked, Looking, look
from installer.migrate.summary import Summary
from tests.nixeval.host import nixpkgs
from tests.nixeval.nix import REPOSITORY, require
from tests.nixeval.nix import EvaluationError as NixError

STYLES = Path(__file__).with_name("styles")
FLAKE = Path(__file__).with_name("flake.nix")
RECORDED = REPOSITORY / "tests/golden/migrate.json"
"""What Nix says of each style: read where there is no nixpkgs, and held against it where there is one."""
GIB = 1 << 30
SEARCH = os.environ["PATH"]
ANY = Asked()
"""Nobody named a configuration."""


def runner() -> Runner:
    """Runs programs of this machine."""
    return Runner(NoLog(), SEARCH)


class LocalNix(Evaluator):
    """The same questions, to a Nix with a local nixpkgs: for flakes through tests/migrate/flake.nix."""

    def host_names(self, configuration: Configuration) -> tuple[str, ...]:
        return tuple(self._ask(f"builtins.attrNames {self._hosts(configuration, None)}"))

    def reference(self, configuration: Configuration, root: Path | None = None) -> str:
        return self._hosts(configuration, root)

    def _hosts(self, configuration: Configuration, root: Path | None) -> str:
        folder = (root or Path(configuration.root)) / Path(configuration.entry).parent
        return f"(import {FLAKE} {{ nixpkgs = {nixpkgs()}; }} {folder}).nixosConfigurations"

    def _flake(self, installable: str, function: str) -> Any:
        hosts, _, attribute = installable.partition("#nixosConfigurations")
        return self._ask(f"({function}) {hosts}{attribute}")

    def _channel(self, expression: str) -> Any:
        call = "import <nixpkgs/nixos> {"
        if call not in expression:
            raise AssertionError(expression)
        return self._ask(expression.replace(call, f"import {nixpkgs()}/nixos {{ system = null;"))

    def _ask(self, expression: str) -> Any:
        try:
            return require().evaluate(expression)
        except NixError as error:
            raise EvaluationError("Nix refuses", why=str(error), remedy="look") from error


class RecordedNix(Evaluator):
    """What it said when it was recorded."""

    def __init__(self, style: str, base: Path) -> None:
        super().__init__(runner())
        self.style, self.base = style, base
        self.said: dict[str, Any] = json.loads(RECORDED.read_text())

    def host_names(self, configuration: Configuration) -> tuple[str, ...]:
        return tuple(self.said["styles"][self.style]["hosts"])

    def host_files(self, configuration: Configuration) -> dict[str, tuple[str, ...]]:
        found = self.said["styles"][self.style]["host_files"]
        return {
            host: tuple(f"{configuration.root}/{each}" for each in files) for host, files in found.items()
        }

    def summary(self, configuration: Configuration, root: Path | None = None) -> Summary:
        definers = [f"{configuration.root}/{each}" for each in self.said["styles"][self.style]["definers"]]
        return Summary.model_validate(self.said["summary"] | {"definers": definers})


def machine(base: Path, style: str | None, *, folder: str = "etc/nixos") -> Path:
    """A root that stands for a machine with a configuration of this style."""
    for path, text in {
        "etc/os-release": 'ID=nixos\nVERSION_ID="26.05"\n',
        "etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n",
        "etc/group": "root:x:0:\nwheel:x:1:alice\nusers:x:100:\n",
        "etc/shadow": "root:!:1::::::\nalice:!:1::::::\n",
        "etc/ssh/authorized_keys.d/alice": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT a\n",
        "proc/sys/kernel/hostname": "box\n",
        "proc/self/mountinfo": "21 1 8:2 / / rw - ext4 /dev/sda2 rw\n22 21 8:1 / /boot rw - vfat /dev/sda1 rw\n"
        "23 1 0:5 / /sys/firmware/efi/efivars rw - efivarfs efivarfs rw\n",
        "proc/net/tcp": "  sl  local rem st\n   0: 00000000:0016 00000000:0000 0A\n   1: 00000000:0035 00000000:0000 0A\n",
        "sys/firmware/efi/fw_platform_size": "64\n",
        "boot/loader/loader.conf": "timeout 5\n",
        "var/lib/libvirt/qemu/router.xml": "<domain><name>router</name></domain>",
        "var/lib/libvirt/qemu/autostart/router.xml": "",
        "run/libvirt/qemu/router.xml": "",
        "var/lib/libvirt/storage/default.xml": "",
    }.items():
        file = base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    system = base / "nix/store/00000000000000000000000000000000-nixos-system-box"
    system.mkdir(parents=True)
    (system / "kernel").write_bytes(b"k" * 1000)
    (system / "initrd").write_bytes(b"i" * 1000)
    for link in ("run/current-system", "run/booted-system", "nix/var/nix/profiles/system"):
        (base / link).parent.mkdir(parents=True, exist_ok=True)
        (base / link).symlink_to(system)
    if style:
        shutil.copytree(STYLES / style, base / folder)
    else:
        (base / "etc/nixos").mkdir()
    return base


def seen(base: Path, evaluator: Evaluator, asked: Asked = ANY) -> Findings:
    """What the probe finds."""
    return look(Looking(str(base), runner(), evaluator, lambda _: (40 * GIB, 30 * GIB)), asked)


@cache
def source() -> Source:
    """This repository in Nix's store, as a flake's files are: what git knows, with the changes of now."""
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "nix", "installer", "hv", "iso", "templates",
         "pyproject.toml", "README.md", "LICENSE", "flake.nix"],
        capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "source")
        for name in filter(None, listed):
            if (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, folder / name)
        nix = require()
        path = nix.run("nix-store", "--add", str(folder)).strip()
        digest = nix.run("nix", "hash", "path", str(folder)).strip()
    return Source(path=path, locked={"type": "path", "path": path, "narHash": digest})


def relative(paths: Mapping[str, Any] | tuple[str, ...], root: Path) -> Any:
    """Files below a root, by their path there; others are left out."""
    if isinstance(paths, Mapping):
        return {name: relative(tuple(files), root) for name, files in paths.items()}
    return [each.removeprefix(f"{root}/") for each in paths if each.startswith(f"{root}/")]


def record() -> None:
    """Write the recording anew."""
    styles: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for style in sorted(each.name for each in STYLES.iterdir()):
        with tempfile.TemporaryDirectory() as temporary:
            base = machine(Path(temporary).resolve(), style)
            found = seen(base, LocalNix(runner())).configuration
            assert found.summary, (style, found.fault)
            nix, root = LocalNix(runner()), Path(found.root)
            styles[style] = {
                "hosts": list(found.hosts),
                "host_files": relative(nix.host_files(found), root) if found.hosts else {},
                "definers": relative(found.summary.definers, root),
            }
            if style == "channel":
                summary = found.summary.model_dump(mode="json")
    summary |= {"packages": ["nano-9.0"], "units": ["sshd.service"], "definers": []}
    summary["sshd"]["more"] = re.sub(r"/nix/store/[^/]+", "/nix/store/sshd", summary["sshd"]["more"])
    summary["toplevel"] = "/nix/store/00000000000000000000000000000000-nixos-system-box"
    RECORDED.write_text(json.dumps({"summary": summary, "styles": styles}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    record()
