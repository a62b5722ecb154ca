"""A screen's picture: libvirt gives PPM or PNG; people get PNG, or half blocks in a terminal."""

import re
import struct
import zlib

from installer.errors import HyperError

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 1 << 26
"""Points."""


def pixels(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and points, three bytes each, red, green, blue. Raises HyperError."""
    try:
        return _ppm(data) if data[:2] == b"P6" else _png(data)
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        raise HyperError(
            "The picture cannot be read.",
            why=str(error) or "it ends early",
            remedy="Take it again with --output FILE.",
        ) from error


def _ppm(data: bytes) -> tuple[int, int, bytes]:
    found = re.match(rb"P6\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)\s+255\s", data)
    if found is None:
        raise ValueError("it is no PPM with 255 levels")
    wide, high = int(found[1]), int(found[2])
    points = data[found.end() : found.end() + wide * high * 3]
    if len(points) != wide * high * 3 or wide * high > _LARGEST:
        raise ValueError("its points are not all there")
    return wide, high, points


def _png(data: bytes) -> tuple[int, int, bytes]:
    """8 bits a colour, not interlaced, as QEMU writes them (PNG specification, 9.2 and 11.2)."""
    if data[:8] != _PNG:
        raise ValueError("it is neither PNG nor PPM")
    at, packed = 8, b""
    wide = high = samples = 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            wide, high, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            samples = {2: 3, 6: 4}.get(colour, 0)
            if depth != 8 or not samples or interlaced or wide * high > _LARGEST:
                raise ValueError("a PNG of another kind than QEMU writes")
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    raw = zlib.decompress(packed)
    stride = wide * samples
    before = bytearray(stride)
    rows = []
    for row in range(high):
        start = row * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        _unfilter(raw[start], line, before, samples)
        rows.append(bytes(line))
        before = line
    points = b"".join(rows)
    if samples == 4:
        points = b"".join(points[index : index + 3] for index in range(0, len(points), 4))
    return wide, high, points


def _unfilter(kind: int, line: bytearray, above: bytearray, samples: int) -> None:
    for index in range(len(line)):
        left = line[index - samples] if index >= samples else 0
        up = above[index]
        corner = above[index - samples] if index >= samples else 0
        match kind:
            case 0:
                return
            case 1:
                guess = left
            case 2:
                guess = up
            case 3:
                guess = (left + up) // 2
            case 4:
                near = left + up - corner
                guess = min((left, up, corner), key=lambda value: abs(near - value))
            case _:
                raise ValueError(f"filter {kind}")
        line[index] = (line[index] + guess) & 255


def png(wide: int, high: int, points: bytes) -> bytes:
    """The picture as a PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    stride = wide * 3
    raw = b"".join(b"\0" + points[row * stride : (row + 1) * stride] for row in range(high))
    head = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return _PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 6)) + chunk(b"IEND", b"")


def drawn(wide: int, high: int, points: bytes, columns: int, rows: int) -> str:
    """In half blocks of 24-bit colour (ECMA-48, SGR 38 and 48), as large as the terminal and the picture allow."""
    scale = max(wide / max(1, columns), high / max(2, rows * 2), 1.0)
    across, down = max(1, int(wide / scale)), max(2, int(high / scale) // 2 * 2)

    def colour(column: int, row: int) -> str:
        at = (min(high - 1, int(row * scale)) * wide + min(wide - 1, int(column * scale))) * 3
        return f"{points[at]};{points[at + 1]};{points[at + 2]}"

    lines = []
    for row in range(0, down, 2):
        cells = [
            f"\x1b[38;2;{colour(column, row)}m\x1b[48;2;{colour(column, row + 1)}m▀"
            for column in range(across)
        ]
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
