"""The embed area behind an initial RAM disk: an archive of its own, as the kernel unpacks several one after the other
(initramfs buffer format). It is the last thing in the file and always as long, so it is found without unpacking.
"""

from installer import embed

FOLDER = "hyper-nixos"


def _member(number: int, name: str, mode: int, content: bytes, time: int = 0) -> bytes:
    fields = (number, mode, 0, 0, 1, time, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    head += bytes(-len(head) % 4)
    return head + content + bytes(-len(content) % 4)


def archive(area: bytes, before: int = 0) -> bytes:
    """The archive: `/hyper-nixos/embed.bin`, for root alone. The folder's time says how many zeros come before it, so that
    it can be taken out again to the byte.
    """
    made = _member(1, FOLDER, 0o40700, b"", before) + _member(2, embed.PATH, 0o100600, area)
    made += _member(0, "TRAILER!!!", 0, b"")
    return made + bytes(-len(made) % 512)


def appended(size: int, area: bytes) -> bytes:
    """What comes behind an initial RAM disk of this size: archives begin at multiples of 4."""
    before = -size % 4
    return bytes(before) + archive(area, before)
