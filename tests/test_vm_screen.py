"""Guests' screens by VNC and SPICE for people without sudo: `hv vm screen --vnc`, on a real libvirtd with real QEMU, read
by a viewer that speaks RFB; and others of the same host, who must not see them.
"""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hv.screen import owner_of_connection
from tests.broker import BrokerHost, broker_host, wait_for
from tests.lab.bootsector import CODE, DISK, LOADED_AT, SECTOR, TEXT_AT
from tests.test_vm_life import PLAIN, put, shown

pytestmark = pytest.mark.libvirt
MARKER = "MARK-keys"
ECHO = bytes.fromhex(
    "fb"  #      00        sti
    "b400"  #    01 key:   mov  ah, 0
    "cd16"  #    03        int  0x16           waits for a key: al = its character
    "88c4"  #    05        mov  ah, al
    "bafd03"  #  07        mov  dx, 0x3fd
    "ec"  #      0a wait:  in   al, dx
    "a820"  #    0b        test al, 0x20
    "74fb"  #    0d        jz   wait
    "88e0"  #    0f        mov  al, ah
    "b2f8"  #    11        mov  dl, 0xf8
    "ee"  #      13        out  dx, al
    "ebeb"  #    14        jmp  key
)
"""After its marker the guest writes to COM1 what is typed on its keyboard, instead of halting."""


def echoing() -> bytes:
    """A raw disk: the lab's smallest guest, which listens to its keyboard."""
    code = bytearray(CODE[:-3] + ECHO)
    code[TEXT_AT : TEXT_AT + 2] = (LOADED_AT + len(code)).to_bytes(2, "little")
    sector = bytes(code) + f"\r\n{MARKER}\r\n\0".encode()
    return (sector.ljust(SECTOR - 2, b"\0") + b"\x55\xaa").ljust(DISK, b"\0")


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        raw, image = made.folder / "keys.raw", made.folder / "keys.qcow2"
        raw.write_bytes(echoing())
        subprocess.run(("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image), check=True)
        put(made, "keys", image)
        made.hv("ada", "vm", "create", "keys 1", "--image", "keys", *PLAIN, "--start")
        uuid = shown(made, "keys 1")["uuid"]
        wait_for("its marker", lambda: MARKER in made.console(uuid))
        yield made


def console(host: BrokerHost) -> str:
    return host.console(shown(host, "keys 1")["uuid"])


@contextmanager
def offered(host: BrokerHost, *words: str, who: str = "ada") -> Iterator[tuple[Any, dict[str, Any]]]:
    """`hv vm screen` as somebody, and where it waits."""
    drop = ("setpriv", f"--reuid={who}", f"--regid={who}", "--init-groups")
    argv = host.enter(*drop, sys.executable, "-m", "hv", "vm", "screen", "keys 1", "--json", *words)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=host.environment
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            while (line := process.stdout.readline()) and line != "}\n":
                lines.append(line)
            assert line, process.communicate()[1]
            yield process, json.loads("".join([*lines, "}"]))
        finally:
            process.kill()


def viewed(host: BrokerHost, who: str, address: str, text: str = "") -> dict[str, Any]:
    """What somebody's viewer sees there."""
    ran = host.run_as(who, sys.executable, "-m", "tests.rfb", address, text, stdin="\n")
    assert not ran.err, ran.err
    found: dict[str, Any] = ran.json
    return found


def is_screen(found: dict[str, Any]) -> bool:
    """Whether a viewer saw that guest's."""
    assert found["version"] == "RFB 003.008" and found["refused"] == 0 and found["kinds"] == [1], found
    assert found["name"] == "QEMU (keys 1)" and found["area"] == found["size"][0] * found["size"][1], found
    return bool(found["lit"] > 1000)  # what the BIOS wrote


def test_a_viewer_sees_the_screen_and_types_over_a_socket_that_others_cannot_reach(host: BrokerHost) -> None:
    with offered(host, "--vnc") as (process, where):
        path = Path(where["socket"])
        assert where["kind"] == "vnc" and where["port"] is None
        assert (
            stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        )
        assert viewed(host, "eve", str(path)) == {"error": "PermissionError"}
        # Two keys: QEMU's keyboard keeps few for a guest that is slow.
        assert is_screen(viewed(host, "ada", str(path), "ok"))
        try:
            wait_for("what was typed", lambda: console(host).endswith("ok"), 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {console(host)[-200:]!r}") from error
        assert process.wait(60) == 0
        assert not path.exists() and not path.parent.exists()
    rows = host.hv("audra", "auth", "log", "--json").json["rows"]
    told = [(row["actor_name"], row["outcome"]) for row in rows if row["action"] == "screen-vnc"]
    assert told[-2:] == [("ada", "opened"), ("ada", "closed")]


def test_a_port_is_for_programs_of_the_same_person_alone(host: BrokerHost) -> None:
    with offered(host, "--vnc", "--port") as (process, where):
        port = str(where["port"])
        assert where["host"] == "127.0.0.1" and where["socket"] is None
        assert "error" in viewed(host, "eve", port)
        assert "error" in viewed(host, "bob", port)
        assert is_screen(viewed(host, "ada", port))
        assert process.wait(60) == 0
        assert process.stderr.read().count("was turned away") == 2
        assert viewed(host, "ada", port) == {"error": "ConnectionRefusedError"}


def test_it_ends_when_the_guest_does_and_leaves_nothing(host: BrokerHost) -> None:
    with offered(host, "--vnc", who="oscar") as (process, where):  # an operator sees everybody's
        drop = ("setpriv", "--reuid=oscar", "--regid=oscar", "--init-groups")
        viewer = subprocess.Popen(
            host.enter(*drop, sys.executable, "-m", "tests.rfb", where["socket"]),
            stdout=subprocess.PIPE,
            text=True,
            env=host.environment | {"RFB_STAYS": "1"},
        )
        assert viewer.stdout is not None
        assert is_screen(json.loads(viewer.stdout.readline()))
        host.hv("ada", "vm", "stop", "keys 1", "--force")
        assert json.loads(viewer.stdout.readline()) == {"ended": "by the screen's side"}
        assert viewer.wait(60) == 0 and process.wait(60) == 0
        assert not Path(where["socket"]).exists()
    said = host.hv("ada", "vm", "screen", "keys 1", "--vnc", status=6).err
    assert "does not run" in said and "hv vm start" in said
    host.hv("ada", "vm", "start", "keys 1")


def test_a_signal_takes_the_socket_along(host: BrokerHost) -> None:
    with offered(host, "--vnc") as (process, where):
        assert Path(where["socket"]).exists()
        # nsenter passes no signals on; the process inside is its child.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]) if children else process.pid, 15)
        assert process.wait(60) != 0
        assert not Path(where["socket"]).parent.exists()


def test_who_may_not_see_it_is_told_why(host: BrokerHost) -> None:
    for who, status in (("eve", 10), ("vic", 10)):
        said = host.hv(who, "vm", "screen", "keys 1", "--vnc", status=status).err
        assert "`console`" in said and "hv-operators" in said
    said = host.hv("ada", "vm", "screen", "keys 1", "--spice", status=4).err
    assert "it has: VNC" in said and "--vnc" in said
    said = host.hv("ada", "vm", "screen", "keys 1", "--port", status=2).err
    assert "--vnc" in said
    there = host.folder / "taken"
    there.touch()
    host.folder.chmod(0o777)
    said = host.hv("ada", "vm", "screen", "keys 1", "--vnc", "--socket", str(there), status=2).err
    assert "cannot be waited for" in said and there.exists()


SPICE_LINK = """
import socket, struct, sys, json
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
# SpiceLinkMess (SPICE protocol, 'Link'): magic, version 2.2, size; session 0, channel main, no capabilities.
message = struct.pack("<IBBIII", 0, 1, 0, 0, 0, 18)
there.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(message)) + message)
head = b""
while len(head) < 16:
    head += there.recv(16 - len(head))
magic, major, minor, size = head[:4], *struct.unpack("<III", head[4:])
body = b""
while len(body) < size:
    body += there.recv(size - len(body))
print(json.dumps({"magic": magic.decode(), "major": major, "error": struct.unpack("<I", body[:4])[0], "size": size}))
"""


def test_a_guest_with_spice_answers_by_spice(host: BrokerHost) -> None:
    ran = host.hv("ada", "vm", "create", "spicy", "--spice", "--size", "1M", *PLAIN, "--start", status=None)
    if "no screens by SPICE" in ran.err:  # a QEMU without it
        assert "Leave --spice out" in ran.err and ran.status != 0
        return
    assert ran.status == 0, ran.err
    drop = ("setpriv", "--reuid=ada", "--regid=ada", "--init-groups")
    argv = host.enter(*drop, sys.executable, "-m", "hv", "vm", "screen", "spicy", "--spice", "--json")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=host.environment) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "}\n"))
        path = json.loads("".join([*lines, "}"]))["socket"]
        link = host.run_as("ada", sys.executable, "-c", SPICE_LINK, path).json
        # SPICE_LINK_ERR_OK, and a reply with the server's key (162 bytes) behind it.
        assert link["magic"] == "REDQ" and link["major"] == 2 and link["error"] == 0 and link["size"] > 162
        assert process.wait(60) == 0
    host.hv("ada", "vm", "delete", "spicy", "--disks", "--force")


def test_the_owner_of_a_connection_is_the_kernels_word(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
        with socket.socket(family) as viewer:
            viewer.connect((address, port))
            there, (_, theirs) = listener.accept()
            assert owner_of_connection(theirs, port) == os.getuid()
            assert owner_of_connection(port, theirs) == os.getuid()  # our own end, the other way round
            there.close()
    assert owner_of_connection(1, port) is None
    assert owner_of_connection(theirs, port, (str(tmp_path / "none"),)) is None
    listener.close()
