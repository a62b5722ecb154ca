"""What the first boot of a migrated host is measured by. Each check says what it saw; none of them raises."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from json import loads
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from hv.firstrun.logins import require_way_in
from hv.firstrun.world import World
from hv.libvirt_python import libvirt_module
from installer.errors import HyperError
from installer.migrate.trial import Expected

PAUSE = 3.0
BANNER_SECONDS = 10.0
ANSWER_SECONDS = 20.0
"""Starting libvirt behind its socket is a matter of a second or two; whoever is slower is asked again."""


@dataclass(frozen=True)
class Seen:
    """One thing that was looked at."""

    well: bool
    """Whether it held."""
    line: str
    """What was seen, for people."""


Check = Callable[[World, Expected, Path], Seen]


def administrators(world: World, expected: Expected, system: Path) -> Seen:
    """Somebody from before can still get in, as sshd of this system, the keys and the accounts say."""
    try:
        ways = require_way_in(world, expected.administrators, system)
    except HyperError as error:
        return Seen(False, f"nobody could log in: {error.why}")
    if expected.ssh and not any("over SSH" in way for way in ways):
        return Seen(
            False, f"nobody could log in over SSH, which was possible before; left: {'; '.join(ways)}"
        )
    return Seen(True, f"logins: {'; '.join(ways)}")


def network(world: World, expected: Expected, system: Path) -> Seen:
    """The host has an address in a network that it was in, and a default route if it had one."""
    del system
    if not expected.addresses:
        return Seen(True, "network: the host had no address before")
    now = [
        f"{each['local']}/{each['prefixlen']}"
        for link in _ip(world, "address", "show")
        for each in link.get("addr_info", ())
        if each.get("scope") == "global"
    ]
    before = [ip_interface(each).network for each in expected.addresses]
    fitting = [each for each in now if any(ip_interface(each).network == network for network in before)]
    if not fitting:
        return Seen(
            False,
            f"network: no address in {', '.join(map(str, before))}, where it was before; it has {', '.join(now) or 'none'}",
        )
    if expected.routed and not any(
        _ip(world, version, "route", "show", "default") for version in ("-4", "-6")
    ):
        return Seen(False, "network: there is no default route, and there was one")
    return Seen(True, f"network: {', '.join(fitting)}")


def ssh_answers(world: World, expected: Expected, system: Path) -> Seen:
    """The SSH server speaks at the host's own addresses: what a computer in the same network would connect to."""
    del system
    if not expected.ssh:
        return Seen(True, "SSH: not used before")
    addresses = [
        each["local"]
        for link in _ip(world, "address", "show")
        for each in link.get("addr_info", ())
        if each.get("scope") == "global"
    ]
    tried = []
    for address in addresses:
        for port in expected.ports:
            try:
                with socket.create_connection((address, port), BANNER_SECONDS) as connection:
                    connection.settimeout(BANNER_SECONDS)
                    if connection.recv(4) == b"SSH-":
                        return Seen(True, f"SSH: answers at {_shown(address)}:{port}")
                    tried.append(f"{_shown(address)}:{port} speaks something else")
            except OSError as error:
                tried.append(f"{_shown(address)}:{port} {error.strerror or error}")
    return Seen(False, f"SSH: no answer: {'; '.join(tried) or 'there is no address to ask'}")


def libvirt_answers(world: World, expected: Expected, system: Path) -> Seen:
    """libvirt answers."""
    del expected, system

    def ask() -> Seen:
        try:
            with world.libvirt() as connection:
                return Seen(True, f"libvirt: answers, version {connection.getLibVersion()}")
        except HyperError as error:
            return Seen(False, f"libvirt: {error.why}")

    return _in_time("libvirt", ask)


def guests_run(world: World, expected: Expected, system: Path) -> Seen:
    """Guests that started with the host run again."""
    del system
    if not expected.guests:
        return Seen(True, "guests: none started with the host before")
    return _in_time("guests", lambda: _guests(world, expected.guests))


def _guests(world: World, names: tuple[str, ...]) -> Seen:
    libvirt = libvirt_module()
    down = []
    try:
        with world.libvirt() as connection:
            for name in names:
                try:
                    if not connection.lookupByName(name).isActive():
                        down.append(f"{name} is off")
                except libvirt.libvirtError as error:
                    down.append(f"{name}: {error}")
    except HyperError as error:
        return Seen(False, f"guests: {error.why}")
    if down:
        return Seen(False, f"guests: {'; '.join(down)}")
    return Seen(True, f"guests: {', '.join(names)} run")


CHECKS: tuple[Check, ...] = (network, administrators, ssh_answers, libvirt_answers, guests_run)


def look(world: World, expected: Expected, system: Path, patience: float) -> tuple[Seen, ...]:
    """Every check, again and again until all hold or time is up; what was seen last."""
    end = world.clock.monotonic() + patience
    while True:
        seen = tuple(check(world, expected, system) for check in CHECKS)
        if all(each.well for each in seen) or world.clock.monotonic() >= end:
            return seen
        world.clock.sleep(PAUSE)


def _in_time(what: str, ask: Callable[[], Seen]) -> Seen:
    """What a question to libvirt comes to. Its library waits without end for a daemon that dies as it starts, and that
    systemd starts again and again behind its socket.
    """
    answers: SimpleQueue[Seen | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except BaseException as error:
            answers.put(error)

    Thread(target=run, daemon=True).start()
    try:
        found = answers.get(timeout=ANSWER_SECONDS)
    except Empty:
        return Seen(False, f"{what}: libvirt did not answer within {ANSWER_SECONDS:.0f} s")
    if isinstance(found, BaseException):
        raise found
    return found


def _ip(world: World, *words: str) -> Iterator[Any]:
    done = world.attempt(("ip", "-json", *words), timeout=30)
    if done.status == 0 and done.text.strip():
        yield from (each for each in loads(done.text) if each)


def _shown(address: str) -> str:
    return f"[{address}]" if ip_address(address).version == 6 else address
