"""A small viewer of screens by VNC (RFC 6143): shakes hands, asks for one picture, types, and says what it saw.

Run as a program, so that tests can be any user, in any namespace: `python -m tests.rfb ADDRESS [TEXT]`, where the address
is a socket's file or a port of 127.0.0.1. It prints JSON, waits for a line, and hangs up.
"""

import json
import os
import socket
import struct
import sys
from typing import Any

PATIENCE = 60.0
RAW = 0
"""Encoding of rectangles: pixels as they are (7.7.1)."""


class GoneError(Exception):
    """The other side hung up."""


def connected(address: str) -> socket.socket:
    there = socket.socket(socket.AF_UNIX if "/" in address else socket.AF_INET)
    there.settimeout(PATIENCE)
    there.connect(address if "/" in address else ("127.0.0.1", int(address)))
    return there


def exactly(there: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = there.recv(count - len(data))
        if not piece:
            raise GoneError
        data += piece
    return data


def seen(there: socket.socket, text: str = "") -> dict[str, Any]:
    """What the screen's side says and shows; text is typed."""
    version = exactly(there, 12)
    there.sendall(b"RFB 003.008\n")
    kinds = list(exactly(there, exactly(there, 1)[0]))
    there.sendall(b"\x01")  # no authentication: that was done before
    (refused,) = struct.unpack(">I", exactly(there, 4))
    there.sendall(b"\x01")  # shared
    wide, high = struct.unpack(">HH", exactly(there, 4))
    bits = exactly(there, 16)[0]
    name = exactly(there, struct.unpack(">I", exactly(there, 4))[0]).decode()
    there.sendall(struct.pack(">BBHi", 2, 0, 1, RAW))
    there.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, wide, high))
    while (kind := exactly(there, 1)[0]) != 0:
        assert kind == 2, f"message {kind}"  # a bell
    (count,) = struct.unpack(">xH", exactly(there, 3))
    lit = area = 0
    for _ in range(count):
        _, _, width, height, encoding = struct.unpack(">HHHHi", exactly(there, 12))
        assert encoding == RAW
        pixels = exactly(there, width * height * bits // 8)
        area += width * height
        lit += len(pixels) - pixels.count(0)
    for letter in text:
        for down in (1, 0):
            there.sendall(struct.pack(">BBxxI", 4, down, ord(letter)))
    return {
        "version": version.decode().strip(),
        "kinds": kinds,
        "refused": refused,
        "size": [wide, high],
        "name": name,
        "area": area,
        "lit": lit,
    }


def main() -> int:
    address, text = (*sys.argv[1:], "")[:2]
    try:
        there = connected(address)
        found = seen(there, text)
    except (OSError, GoneError) as error:
        print(json.dumps({"error": type(error).__name__}), flush=True)
        return 1
    print(json.dumps(found), flush=True)
    if os.environ.get("RFB_STAYS"):
        there.settimeout(None)
        while there.recv(65536):
            pass
        print(json.dumps({"ended": "by the screen's side"}), flush=True)
    else:
        sys.stdin.readline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
