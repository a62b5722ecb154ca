"""What is in an initrd: its files' names and the kernel modules among them.

An initrd is one or more newc archives one after the other, each plain or compressed (kernel doc
driver-api/early-userspace/buffer-format).
"""

import lzma
import re
import zlib
from collections.abc import Generator, Iterator

from installer.execute.evidence import Wrong
from installer.execute.runner import Runner

_NEWC = (b"070701", b"070702")
_HEADER = 110
_TRAILER = "TRAILER!!!"
_LINK = 0o120000
_KIND = 0o170000
_MODULE = re.compile(r"(?:^|/)([^/]+)\.ko(?:\.(?:xz|gz|zst))?$")
_TOOLS = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}
"""Compression that Python's library lacks, by magic number: the program that undoes it."""


def list_initrd(runner: Runner, data: bytes) -> dict[str, bytes]:
    """Names of all files with their content; a link's content is where it points.

    Raises:
        Wrong: it is no initrd, or is cut off.
    """
    return dict(_entries(runner, data))


def module_names(names: Iterator[str]) -> set[str]:
    """Kernel modules among file names, with `_` for `-` as the kernel has it."""
    return {match.group(1).replace("-", "_") for name in names if (match := _MODULE.search(name))}


def _entries(runner: Runner, data: bytes) -> Iterator[tuple[str, bytes]]:
    offset = 0
    while True:
        while data[offset : offset + 4096] and not data[offset : offset + 4096].strip(b"\0"):
            offset += 4096
        while data[offset : offset + 1] == b"\0":
            offset += 1
        if offset >= len(data):
            return
        if data[offset : offset + 6] in _NEWC:
            data = data[offset:]  # what is in it is aligned to its own beginning
            offset = yield from _archive(data, 0)
            continue
        plain, rest = _decompress(runner, data[offset:])
        yield from _entries(runner, plain)
        data, offset = rest, 0


def _archive(data: bytes, offset: int) -> Generator[tuple[str, bytes], None, int]:
    """Entries of one archive; returns where it ends (kernel doc: each part is padded to four bytes)."""
    while True:
        header = data[offset : offset + _HEADER]
        if len(header) < _HEADER or header[:6] not in _NEWC:
            raise Wrong("a whole initrd", f"an archive that breaks off at byte {offset}")
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name_at = offset + _HEADER
        name = data[name_at : name_at + name_size - 1].decode(errors="surrogateescape")
        content_at = (name_at + name_size + 3) & ~3
        if content_at + size > len(data):
            raise Wrong("a whole initrd", f"{name} breaks off")
        offset = (content_at + size + 3) & ~3
        if name == _TRAILER:
            return offset
        keep = mode & _KIND == _LINK or not _MODULE.search(name)
        yield name.removeprefix("./"), data[content_at : content_at + size] if keep else b""


def _decompress(runner: Runner, data: bytes) -> tuple[bytes, bytes]:
    """The plain data, and what follows the compressed part."""
    if data[:2] == b"\x1f\x8b":
        return _streamed(zlib.decompressobj(wbits=31), data)
    if data[:6] == b"\xfd7zXZ\0" or data[:3] == b"\x5d\0\0":
        return _streamed(lzma.LZMADecompressor(), data)
    tool = _TOOLS.get(data[:4])
    if tool is None:
        raise Wrong(
            "an initrd", f"data beginning with {data[:8].hex()}, which is neither newc nor compressed"
        )
    end = _zstd_end(data) if tool == "zstd" else len(data)
    return runner.run([tool, "-dc"], stdin=data[:end], quiet=True).stdout, data[end:]


def _zstd_end(data: bytes) -> int:
    """Where the first zstd frame ends (RFC 8878, section 3.1.1): zstd(1) minds what is behind it, be it zeros that fill up
    to the next archive or an archive with a host's secrets. Raises Wrong where it breaks off.
    """
    flags = data[4] if len(data) > 4 else 0
    single = flags >> 5 & 1
    at = 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
    last = False
    while not last and at + 3 <= len(data):
        header = int.from_bytes(data[at : at + 3], "little")
        last, repeated = bool(header & 1), header >> 1 & 3 == 1
        at += 3 + (1 if repeated else header >> 3)
    at += 4 * (flags >> 2 & 1)
    if not last or at > len(data):
        raise Wrong("a whole initrd", "compressed data that breaks off")
    return at


def _streamed(stream: "zlib._Decompress | lzma.LZMADecompressor", data: bytes) -> tuple[bytes, bytes]:
    try:
        plain = stream.decompress(data)
    except (zlib.error, lzma.LZMAError) as error:
        raise Wrong("a whole initrd", f"compressed data that breaks: {error}") from error
    if not stream.eof:
        raise Wrong("a whole initrd", "compressed data that breaks off")
    return plain, stream.unused_data
