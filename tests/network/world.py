"""A host and its neighbours as network namespaces, and connections between them."""

import contextlib
import ctypes
import itertools
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000
PATIENCE = 15.0
"""Seconds for what should happen; on an idle machine it takes milliseconds."""
FIRST_PORT, PORTS = 20000, 12000
"""Of clients; below those that the kernel chooses."""
SILENCE = 1.0
"""Seconds to wait for what should not happen, after everything that should has. The tests' control shows that all of it
happens within this when nothing forbids it."""

Result = TypeVar("Result")


def run(*argv: str, stdin: str | None = None) -> str:
    """Run a program that must succeed; what it printed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr or done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Attempt:
    """A connection that somebody tries."""

    source: str
    target: str
    """Namespace of who should answer."""
    address: str
    port: int
    udp: bool = False
    serial: int = 0
    """Tells several of the same kind apart."""

    @property
    def family(self) -> socket.AddressFamily:
        """IPv4 or IPv6."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def kind(self) -> socket.SocketKind:
        """Stream or datagram."""
        return socket.SOCK_DGRAM if self.udp else socket.SOCK_STREAM

    def __str__(self) -> str:
        protocol = "udp" if self.udp else "tcp"
        return f"{self.source} -> {self.target} [{self.address}] {protocol} {self.port}"


@dataclass
class World:
    """Namespaces of one test."""

    prefix: str = field(default_factory=lambda: f"hv{os.getpid()}-")
    names: list[str] = field(default_factory=list)
    echoes: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    ports: Iterator[int] = field(default_factory=itertools.count)
    listening: dict[tuple[str, int, int, int], socket.socket] = field(default_factory=dict)

    def add(self, *names: str) -> None:
        """Make namespaces, with loopback up and duplicate address detection off: addresses work at once."""
        for name in names:
            run("ip", "netns", "add", self.prefix + name)
            self.names.append(name)
            self.ip(name, "link set lo up")
            self.sysctl(name, "net.ipv6.conf.all.accept_dad", 0)
            self.sysctl(name, "net.ipv6.conf.default.accept_dad", 0)

    def sysctl(self, name: str, key: str, value: int) -> None:
        """Set a setting of one namespace."""
        self.run(name, "sysctl", "--quiet", "--write", f"{key}={value}")

    def run(self, name: str, *argv: str, stdin: str | None = None) -> str:
        """Run a program in a namespace."""
        return run(*self.command(name, *argv), stdin=stdin)

    def command(self, name: str, *argv: str) -> tuple[str, ...]:
        """What runs a program in a namespace."""
        return ("ip", "netns", "exec", self.prefix + name, *argv)

    def ip(self, name: str, words: str) -> str:
        """ip(8) in a namespace."""
        return run("ip", "-n", self.prefix + name, *words.split())

    def bridge(self, name: str, bridge: str, *addresses: str) -> None:
        """A bridge, up."""
        self.ip(name, f"link add {bridge} type bridge")
        self.ip(name, f"link set {bridge} up")
        self._address(name, bridge, addresses)

    def cable(
        self, ours: str, link: str, theirs: str, *, bridge: str = "", addresses: Iterable[str] = ()
    ) -> None:
        """A veth pair: `link` here, `eth0` there; into a bridge or with addresses."""
        run(
            *f"ip link add {link} netns {self.prefix}{ours} type veth peer name eth0 netns {self.prefix}{theirs}".split()
        )
        if bridge:
            self.ip(ours, f"link set {link} master {bridge}")
        self.ip(ours, f"link set {link} up")
        self.ip(theirs, "link set eth0 up")
        self._address(ours, link, addresses)

    def neighbour(self, name: str, *addresses: str, via: Iterable[str] = ()) -> None:
        """Addresses of eth0, and gateways."""
        self._address(name, "eth0", addresses)
        for gateway in via:
            self.ip(name, f"route add default via {gateway}")

    def _address(self, name: str, link: str, addresses: Iterable[str]) -> None:
        for address in addresses:
            self.ip(name, f"address add {address} dev {link}")

    def inside(self, name: str, act: Callable[[], Result]) -> Result:
        """Do something in a namespace: a thread of its own enters it (setns(2)); sockets stay there."""
        done: list[Result] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                with Path(f"/run/netns/{self.prefix}{name}").open() as space:
                    if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                done.append(act())
            except BaseException as error:  # handed on below
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    def _server(self, attempt: Attempt) -> socket.socket:
        key = (attempt.target, attempt.family, attempt.kind, attempt.port)
        if key not in self.listening:

            def listen() -> socket.socket:
                made = socket.socket(attempt.family, attempt.kind)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if attempt.family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind(("", attempt.port))
                made.setblocking(False)
                if not attempt.udp:
                    made.listen(64)
                return made

            self.listening[key] = self.inside(attempt.target, listen)
        return self.listening[key]

    def tried(self, attempts: Collection[Attempt], expected: Collection[Attempt]) -> dict[Attempt, str]:
        """Try them all at once: those that came through, with the address that the target saw.

        Waits for all that are expected, then a moment longer for those that are not.
        """
        servers = {attempt: self._server(attempt) for attempt in attempts}
        clients: dict[Attempt, socket.socket] = {}
        seen: dict[Attempt, str] = {}
        ports: dict[tuple[socket.socket, int], Attempt] = {}
        with contextlib.ExitStack() as stack:
            for attempt in attempts:
                clients[attempt] = stack.enter_context(self._client(attempt))
                ports[servers[attempt], clients[attempt].getsockname()[1]] = attempt
            deadline = time.monotonic() + PATIENCE
            while (now := time.monotonic()) < deadline:
                if all(attempt in seen for attempt in expected):
                    deadline = min(deadline, now + SILENCE)
                for server in select.select([*{*servers.values()}], [], [], 0.05)[0]:
                    for port, address in self._arrived(server):
                        # Masquerading keeps the port where it is free.
                        if found := ports.get((server, port)):
                            seen[found] = address
        return seen

    def _client(self, attempt: Attempt) -> socket.socket:
        client = self.inside(attempt.source, lambda: socket.socket(attempt.family, attempt.kind))
        client.setblocking(False)
        # A port that no other attempt has: by it the target tells them apart, and those of two hosts could be the same.
        client.bind(("", FIRST_PORT + next(self.ports) % PORTS))
        with contextlib.suppress(BlockingIOError, OSError):
            client.connect((attempt.address, attempt.port))
        if attempt.udp:
            with contextlib.suppress(OSError):
                client.send(b"?")
        return client

    @staticmethod
    def _arrived(server: socket.socket) -> Iterator[tuple[int, str]]:
        with contextlib.suppress(BlockingIOError):
            while True:
                if server.type == socket.SOCK_DGRAM:
                    peer = server.recvfrom(64)[1]
                else:
                    connection, peer = server.accept()
                    connection.close()
                yield peer[1], peer[0]

    def pings(self, name: str, address: str) -> bool:
        """Whether an address answers an ICMP echo request (RFC 792)."""
        made = self.inside(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        with made as client:
            # Type, code, checksum of these very bytes, identifier (each its own: a connection to the firewall), number.
            number = next(self.echoes)
            client.sendto(struct.pack("!5H", 0x0800, 0xFFFF - 0x0800 - number, number, 0, 0), (address, 0))
            client.settimeout(SILENCE)
            with contextlib.suppress(TimeoutError):
                while True:
                    packet, (sender, _) = client.recvfrom(1500)
                    if sender == address and packet[20] == 0:
                        return True
        return False

    def stop_listening(self, name: str, port: int) -> None:
        """Close the servers of one port, for a real one."""
        for key in [key for key in self.listening if key[0] == name and key[3] == port]:
            self.listening.pop(key).close()

    def close(self) -> None:
        """Take everything down."""
        for server in self.listening.values():
            server.close()
        for name in self.names:
            subprocess.run(("ip", "netns", "delete", self.prefix + name), check=False, capture_output=True)


def load(world: World, name: str, ruleset: str) -> None:
    """Load a ruleset as NixOS's service does (nftables.nix): its own tables are replaced, no other is touched."""
    tables = [line.split()[1:3] for line in ruleset.splitlines() if line.startswith("table ")]
    fresh = "".join(f"table {family} {table}\ndelete table {family} {table}\n" for family, table in tables)
    world.run(name, "nft", "-f", "-", stdin=fresh + ruleset)
