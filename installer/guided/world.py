"""What is done while asking: keymap, clock, keys from elsewhere, a trial of the network, hashes, secrets in memory."""

import os
import re
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from installer.answers.password_hash import hash_fault
from installer.errors import HyperError
from installer.execute.files import make_directory, write_file
from installer.execute.runner import Runner
from installer.guided.questions import Failed, Work
from installer.guided.told import told
from installer.guided.words import _, use
from installer.web import Client, Place

SITES = {"github": "https://github.com/{account}.keys", "gitlab": "https://gitlab.com/{account}.keys"}
LARGEST = 256 << 10
"""Bytes: nobody has more keys than this."""
SECONDS = 10
IPV4 = 4
GOOD = 200
"""HTTP's code for an answer."""
KEYMAPS = ("/run/current-system/sw/share/keymaps", "/usr/share/keymaps", "/usr/share/kbd/keymaps")
TRIAL = ("cache.nixos.org", 443)
"""Where a host gets its software from."""
HASHERS = (("mkpasswd", "--method=yescrypt", "--stdin"), ("openssl", "passwd", "-6", "-stdin"))
"""What makes a hash of a password, the better one first."""
_VIRTUAL_CONSOLE = re.compile(r"/dev/tty[0-9]+")


@dataclass
class LiveWorld:
    """The live system."""

    runner: Runner
    secrets: Path
    """Folder for what was typed; in memory."""
    explain_at: Callable[[str], None]
    """Told how much is to be explained."""
    sites: dict[str, str] = field(default_factory=lambda: dict(SITES))
    keymaps: tuple[str, ...] = KEYMAPS
    trial: tuple[str, int] = TRIAL
    mounts: Path = Path("/dev/disk/by-path")

    def do(self, work: Work) -> Any:
        """Its result."""
        task: Callable[..., Any] = getattr(self, f"_{work.task}")
        return task(*work.arguments)

    def _speak(self, language: str) -> None:
        use(language)

    def _explain_at(self, level: str) -> None:
        self.explain_at(level)

    def _reckon(self, search: Callable[[], Any]) -> Any:
        """What takes its time without touching the world."""
        return search()

    def _now(self) -> datetime:
        return datetime.now(UTC)

    def _time_zones(self) -> frozenset[str]:
        return frozenset(available_timezones())

    def _keymaps(self) -> frozenset[str]:
        files = (path for folder in self.keymaps for path in Path(folder).rglob("*.map*"))
        return frozenset(re.sub(r"\.map(\.gz)?$", "", path.name) for path in files)

    def _set_keymap(self, name: str) -> str | None:
        """Why the keymap was not changed; none: it was."""
        try:
            terminal = os.ttyname(0)
        except OSError:
            return "there is no terminal"
        if not _VIRTUAL_CONSOLE.fullmatch(terminal):
            return f"{terminal} has no keymap of its own"
        try:
            self.runner.run(["loadkeys", name])
        except HyperError as error:
            return told(error.why)
        return None

    def _try_network(self) -> str:
        """What came of it, for people."""
        try:
            with socket.create_connection(self.trial, timeout=SECONDS):
                return _("The live system reaches {host}.").format(host=self.trial[0])
        except OSError as error:
            return _(
                "The live system does not reach {host}: {reason}. The installation needs it unless the medium "
                "carries the whole system."
            ).format(host=self.trial[0], reason=error.strerror or error)

    def _try_address(self, port: str, address: str, gateway: str) -> Failed | None:
        """What speaks against an address on a port; none: nothing does, or it cannot be tried.

        By ARP probes (RFC 5227), which claim nothing: somebody who answers has the address.
        """
        if ip_address(address).version != IPV4:
            return None
        reasons = []
        if self._answers(port, address):
            reasons.append(
                _("Another machine on {port} has the address {address}.").format(port=port, address=address)
            )
        if gateway and self._answers(port, gateway) is False:
            reasons.append(
                _(
                    "The gateway {gateway} does not answer on {port}: wrong port, wrong cable, or wrong address?"
                ).format(gateway=gateway, port=port)
            )
        return Failed(" ".join(reasons)) if reasons else None

    def _answers(self, port: str, address: str) -> bool | None:
        """Whether somebody has the address; none: nobody could ask (arping(8), -D)."""
        try:
            done = self.runner.run(
                ["arping", "-D", "-q", "-c", "3", "-w", "3", "-I", port, address],
                check=False,
                timeout=SECONDS,
            )
        except HyperError:
            return None
        return {0: False, 1: True}.get(done.status)

    def _keys_from(self, site: str, account: str) -> tuple[str, ...] | str:
        """The account's public keys, or why there are none."""
        url = self.sites[site].format(account=account)
        try:
            reply = Client(patience=SECONDS).ask(Place.parse(url))
        except HyperError as error:
            return _("{url} cannot be reached: {reason}.").format(url=url, reason=told(error.why))
        if reply.status != GOOD:
            return _("{url} answers {code}: is the name right?").format(url=url, code=reply.status)
        text = reply.body.decode("utf-8", "replace")
        keys = tuple(line.strip() for line in text.splitlines() if line.strip())
        return keys or _("{account} has no public keys there.").format(account=account)

    def _keys_on_sticks(self) -> tuple[str, ...] | str:
        """Lines of .pub files on removable disks, which are mounted for reading only, for a moment."""
        found: list[str] = []
        devices = [
            path
            for path in sorted(self.mounts.glob("*"))
            if "usb" in path.name and path.resolve().is_block_device()
        ]
        for device in devices:
            found += self._keys_on(device)
        if not devices:
            return _("No stick is plugged in.")
        return tuple(dict.fromkeys(found)) or _("There is no .pub file in the top folder of any stick.")

    def _keys_on(self, device: Path) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="hv-stick-") as folder:
            try:
                self.runner.run(["mount", "-o", "ro,nosuid,nodev,noexec", str(device), folder])
            except HyperError:
                return []  # no file system that can be read, or the medium itself
            try:
                files = sorted(Path(folder).glob("*.pub"))
                return [
                    line.strip()
                    for file in files
                    if file.is_file() and file.stat().st_size < LARGEST
                    for line in file.read_text(errors="replace").splitlines()
                    if line.strip()
                ]
            finally:
                self.runner.run(["umount", folder])

    def _hash_password(self, password: str) -> str | Failed:
        """yescrypt (crypt(5)), or SHA-512 where only OpenSSL is there; the password goes through standard input."""
        for program in HASHERS:
            try:
                done = self.runner.run(program, stdin=password.encode(), quiet=True)
            except HyperError:
                continue  # the next one may be there
            if hash_fault(hashed := done.text.strip()) is None:
                return hashed
        return Failed(
            _(
                "The password cannot be hashed: neither mkpasswd nor openssl works here. Install one of them, or go on "
                "without a password (Enter), with an SSH key."
            )
        )

    def _keep_secret(self, name: str, value: str) -> str:
        """Path of a file that only root reads, in memory."""
        make_directory(self.secrets, 0o700)
        path = self.secrets / name
        write_file(path, value.encode() + b"\n", 0o600)
        return str(path)


@dataclass
class DryWorld(LiveWorld):
    """Asking without doing: nothing of this computer is changed, and a recorded machine is not mistaken for it."""

    recorded: bool = False
    """Whether the facts are those of another machine."""

    def _set_keymap(self, name: str) -> str | None:  # noqa: ARG002
        return "this is a dry run"

    def _try_network(self) -> str:
        if self.recorded:
            return _("Not tried: this is a recorded machine.")
        return super()._try_network()

    def _try_address(self, port: str, address: str, gateway: str) -> Failed | None:
        return None if self.recorded else super()._try_address(port, address, gateway)

    def _keep_secret(self, name: str, value: str) -> str:  # noqa: ARG002
        return str(self.secrets / name)
