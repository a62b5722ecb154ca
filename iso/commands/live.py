"""`hv live`: what the live system does by itself, and its page."""

import argparse
import json
import os
import select
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from installer import VERSION
from installer.command_line import Parser
from installer.embed import ANSWERS, WRAPPED
from installer.errors import Exit, HyperError
from installer.facts import Facts
from iso import login, pack_mounts
from iso.authorized import public_keys
from iso.page import Address, Situation, page

LISTEN = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (rtnetlink(7))."""
CALM_MS = 300
"""An interface that comes up tells so several times; the page is drawn once."""
WAY_OUT = "Enter: install, asked step by step. Alt+F2: a shell. Alt+F1: here."
WITHOUT_BLOCKS = ("dumb", "unknown", "vt")
"""Beginnings of TERM that promise neither colours nor UTF-8."""
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(prog="hv live", description="What the live system does by itself. Its services call this.")
    top.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help=argparse.SUPPRESS)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("prepare", help="take what was embedded into the medium, and open a way in over SSH")
    unlock = verbs.add_parser("unlock", help="open secrets of the medium that are wrapped")
    unlock.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="identity file of age; without it a passphrase is asked for",
    )
    verbs.add_parser("packs", help="mount systems that were added behind the medium")
    verbs.add_parser("show", help="print the page with addresses and the way in")
    verbs.add_parser("screen", help="keep that page on this terminal, and up to date")
    return top


def main(argv: list[str]) -> int:
    """Run one verb. Raises HyperError."""
    options = parser().parse_args(argv)
    if not login.is_root():
        raise HyperError(
            "the live system's own affairs are root's",
            why="the page shows a password",
            remedy=f"sudo hv live {options.verb}",
            code=Exit.privilege,
        )
    match options.verb:
        case "prepare":
            for line in login.prepare(options.root):
                print(line)
        case "unlock":
            for line in login.unlock(options.root, options.identity):
                print(line)
        case "packs":
            for line in pack_mounts.attach(
                options.root, pack_mounts.device(options.root, pack_mounts.run), pack_mounts.run
            ):
                print(line)
        case "show":
            print("\n".join(page(situation(options.root, machine(options.root)), styled=styled())))
        case "screen":
            keep(options.root)
    return Exit.ok


def styled() -> bool:
    """Whether standard output shows colours and block characters."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    terminal = os.environ.get("TERM") or "dumb"
    return sys.stdout.isatty() and encoding == "utf8" and not terminal.startswith(WITHOUT_BLOCKS)


def situation(root: Path, facts: Facts | None) -> Situation:
    """Everything that the page tells; all but the machine is read anew."""
    folder = root / login.FOLDER
    authorized = login.read(root / login.AUTHORIZED) or ""
    return Situation(
        version=VERSION,
        release=_release(root),
        facts=facts,
        addresses=addresses(),
        password=login.read(folder / login.PASSWORD),
        keys=_keys(authorized),
        host_keys=login.host_keys(root),
        answers=(folder / ANSWERS).exists(),
        problem=login.read(folder / login.PROBLEM),
        locked=(folder / WRAPPED).exists(),
    )


def addresses() -> tuple[Address, ...]:
    """Addresses that others can reach: neither loopback nor link-local. None when that cannot be asked."""
    try:
        told = subprocess.run(["ip", "-json", "address"], capture_output=True, check=True)
        interfaces = json.loads(told.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return ()
    return tuple(
        Address(interface=interface["ifname"], address=each["local"])
        for interface in interfaces
        for each in interface.get("addr_info", [])
        if each.get("scope") == "global" and not ip_address(each["local"]).is_link_local
    )


def keep(root: Path) -> None:
    """Draw the page, and again whenever the network changes. Enter begins to install. Ends with the terminal."""
    news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    news.bind((0, LISTEN))
    waiting = select.poll()
    waiting.register(news, select.POLLIN)
    waiting.register(sys.stdin, select.POLLIN)
    facts = machine(root)
    shown: list[str] = []
    while True:
        lines = page(situation(root, facts), styled=styled(), way_out=WAY_OUT)
        if lines != shown:
            print((CLEAR if styled() else "") + "\n".join(lines), end="", flush=True)
            shown = lines
        match _wait(waiting, news):
            case "gone":
                return
            case "enter":
                _install()
                shown = []


def _wait(waiting: select.poll, news: socket.socket) -> Literal["news", "enter", "gone"]:
    """Until there may be news, somebody pressed Enter, or the terminal is gone."""
    for descriptor, _ in waiting.poll():
        if descriptor == news.fileno():
            while waiting.poll(CALM_MS) and _drain(news):
                pass
        elif not os.read(descriptor, 1024):
            return "gone"
        else:
            return "enter"
    return "news"


def _install() -> None:
    """The guided installer on this terminal; what it said at its end stays until it is read."""
    # Errors too belong on the screen here; the page's own go to the journal.
    command = [sys.executable, "-m", "hv", "install"]
    subprocess.run(command, env=_environment(), stderr=subprocess.STDOUT, check=False)
    print("\nEnter: back to the page.", end="", flush=True)
    sys.stdin.readline()


def _environment() -> dict[str, str]:
    """Where Python finds what it found for us: the program is wrapped."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _drain(news: socket.socket) -> bool:
    try:
        return bool(news.recv(1 << 16, socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False
    except OSError:  # more news than fitted; that there were some is all that counts
        return True


def _release(root: Path) -> str | None:
    from installer.commands.medium import read_medium
    from installer.medium import MEDIUM_PATH

    try:
        return read_medium(root / MEDIUM_PATH.lstrip("/")).release
    except HyperError:
        return None


def machine(root: Path) -> Facts | None:
    """What this machine is; none when it cannot be read, which must not keep anybody from the way in."""
    from installer.probe import probe
    from installer.probe.root import LiveRoot

    try:
        return probe(LiveRoot(str(root)))
    except (HyperError, OSError, ValueError) as error:
        print(f"this machine cannot be read: {error}", file=sys.stderr)
        return None


def _keys(text: str) -> tuple[str, ...]:
    try:
        return public_keys(text.encode())
    except HyperError:
        return ()
