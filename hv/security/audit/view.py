"""A host as checks see it: files below a root, what programs say, and what the running system declares."""

import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from hv.firstrun.phase import CURRENT
from hv.firstrun.world import World
from hv.security import table
from hv.security.table import Description
from installer.errors import HyperError
from installer.logins import CLIENT, Settings, parse_settings

RECORDED = "commands"
"""Folder of a copied root with what programs said on the host: one file each, named by the program's words."""


class NotLookedAtError(Exception):
    """A check cannot tell, and says why."""


@dataclass(frozen=True)
class Listener:
    """A socket that takes connections or datagrams."""

    protocol: str
    """`tcp` or `udp`."""
    address: str
    """Where it listens."""
    port: int

    @property
    def reachable(self) -> bool:
        """Whether other machines reach it, as far as the address tells."""
        return not ip_address(self.address).is_loopback


@dataclass(frozen=True)
class Account:
    """A line of passwd(5) with its hash from shadow(5)."""

    name: str
    uid: int
    home: str
    shell: str
    hash: str | None
    """None: nothing in shadow."""


class View:
    """One host."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.live = world.root == Path("/")

    @property
    def now(self) -> datetime:
        """Wall clock, UTC."""
        return self.world.clock.now()

    def path(self, absolute: str) -> Path:
        """The host's path."""
        return self.world.path(absolute)

    def text(self, absolute: str) -> str:
        """A file. Raises NotLookedAtError where it cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except PermissionError as error:
            raise NotLookedAtError(f"{absolute} needs root") from error
        except OSError as error:
            raise NotLookedAtError(f"{absolute}: {error.strerror}") from error

    def mode(self, absolute: str) -> int | None:
        """Permission bits, links followed; None where there is nothing."""
        try:
            return stat.S_IMODE(self.path(absolute).stat().st_mode)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise NotLookedAtError(f"{absolute} needs root") from error

    def ask(self, *argv: str) -> str:
        """What a program says on the host; of a copied root, what it said. Raises NotLookedAtError."""
        if not self.live:
            return self.text(f"/{RECORDED}/{' '.join(argv).replace('/', '_')}")
        try:
            done = self.world.attempt(argv, timeout=60)
        except HyperError as error:
            raise NotLookedAtError(error.why) from error
        if done.status and not done.text:
            raise NotLookedAtError(f"`{' '.join(argv)}` ended with {done.status}: {done.stderr.strip()}")
        return done.text

    def setting(self, name: str) -> str:
        """A kernel setting, its blanks made one."""
        return " ".join(self.text(f"/proc/sys/{name.replace('.', '/')}").split())

    @cached_property
    def declared(self) -> Description:
        """What the running system says of itself."""
        found = table.read(self.path(CURRENT).resolve())
        if found is None:
            raise NotLookedAtError("the running system does not say what it declares")
        return found

    @cached_property
    def sshd(self) -> Settings:
        """What sshd makes of its configuration for somebody from outside (sshd(8), -T)."""
        file = self.path("/etc/ssh/sshd_config")
        if not file.exists():
            raise NotLookedAtError("no SSH server is configured")
        own = self.path(f"{CURRENT}/sw/bin/sshd")
        program = str(own) if own.exists() else "sshd"
        # With a key of its own: a server whose keys it would not take, because others can read them, tells nothing else.
        with tempfile.TemporaryDirectory() as folder:
            key = f"{folder}/key"
            self.world.attempt(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key), timeout=30)
            argv = (program, "-T", "-f", str(file), "-h", key, "-C", f"user=root,{CLIENT}")
            done = self.world.attempt(argv, timeout=30)
        if done.status:
            raise NotLookedAtError(f"sshd refuses its configuration: {done.stderr.strip()}")
        return parse_settings(done.text)

    def ssh(self, keyword: str) -> str:
        """One of sshd's settings, its lines joined."""
        return " ".join(self.sshd.get(keyword.lower(), ()))

    @cached_property
    def mounts(self) -> dict[str, tuple[str, frozenset[str]]]:
        """Mount point: file system and options (proc_pid_mounts(5)); the last one of a place counts."""
        rows = (line.split() for line in self.text("/proc/mounts").splitlines())
        return {row[1]: (row[2], frozenset(row[3].split(","))) for row in rows if len(row) > 3}

    @cached_property
    def accounts(self) -> tuple[Account, ...]:
        """Everybody."""
        shadow = dict(line.split(":")[:2] for line in self.text("/etc/shadow").splitlines() if ":" in line)
        rows = (line.split(":") for line in self.text("/etc/passwd").splitlines())
        return tuple(
            Account(row[0], int(row[2]), row[5], row[6], shadow.get(row[0]))
            for row in rows
            if len(row) > 6 and row[2].isdigit()
        )

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group: members that are listed."""
        rows = (line.split(":") for line in self.text("/etc/group").splitlines())
        return {row[0]: tuple(name for name in row[3].split(",") if name) for row in rows if len(row) > 3}

    @cached_property
    def listeners(self) -> tuple[Listener, ...]:
        """Sockets that wait for somebody (proc_net(5)): TCP in state LISTEN, UDP without a peer."""
        found = []
        for protocol, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
            try:
                rows = [line.split() for line in self.text(f"/proc/net/{protocol}").splitlines()[1:]]
            except NotLookedAtError:
                if protocol.endswith("6"):
                    continue  # no IPv6 here
                raise
            for row in rows:
                if len(row) > 3 and row[3] == state:
                    address, _, port = row[1].partition(":")
                    found.append(Listener(protocol.removesuffix("6"), _address(address), int(port, 16)))
        return tuple(found)


def _address(text: str) -> str:
    """An address as the kernel prints it: 32-bit words in the processor's order, which is the lowest byte first."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    raw = b"".join(words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


Look = Callable[[View], Iterator[str]]
"""Looks at a host; every sentence is evidence of a fault."""
