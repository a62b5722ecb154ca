"""The head of a qcow2 image (QEMU, docs/interop/qcow2.txt): whether it stands for itself, before anything opens it."""

import struct
from dataclasses import dataclass

MAGIC = b"QFI\xfb"
HEAD = 65536
"""Bytes that are looked at: every header with its extensions is in the first cluster of at least 512 bytes."""
_FIELDS = struct.Struct(">4sIQIIQIIQQIIQ")
_FEATURES = struct.Struct(">QQQII")
_KNOWN = {0x00000000, 0x6803F857, 0x23852875}
"""Header extensions that are harmless: end, feature names, bitmaps."""
_DIRTY, _CORRUPT, _COMPRESSION = 1, 2, 8
"""Incompatible features that name no other file."""


@dataclass(frozen=True)
class Image:
    """What the header says."""

    size: int
    """Bytes that a guest sees."""


def head(data: bytes) -> Image:
    """The image whose first bytes these are; ValueError if it is none, is damaged, or refers to another file."""
    if len(data) < _FIELDS.size or data[:4] != MAGIC:
        raise ValueError("it is not in qcow2 format")
    _, version, backing, backing_size, bits, size, crypt, _, _, _, _, snapshots, _ = _FIELDS.unpack_from(
        data
    )
    if version not in (2, 3):
        raise ValueError(f"qcow2 version {version} is not known")
    if not 9 <= bits <= 21:
        raise ValueError(f"its clusters of 2^{bits} bytes are not allowed")
    if backing or backing_size:
        raise ValueError("it refers to a backing file")
    if crypt:
        raise ValueError("it is encrypted")
    if snapshots:
        raise ValueError("it has snapshots in it")
    length = _FIELDS.size
    if version == 3:
        if len(data) < _FIELDS.size + _FEATURES.size:
            raise ValueError("it ends within its header")
        incompatible, _, _, _, length = _FEATURES.unpack_from(data, _FIELDS.size)
        if incompatible & ~(_DIRTY | _CORRUPT | _COMPRESSION):
            raise ValueError("it refers to an external data file, or needs features that are not known")
        if incompatible & _CORRUPT:
            raise ValueError("it is marked as damaged")
    at = length
    while True:
        if at % 8 or at + 8 > len(data):
            raise ValueError("its header extensions do not end")
        kind, extent = struct.unpack_from(">II", data, at)
        if kind not in _KNOWN:
            raise ValueError(f"its header extension {kind:#010x} is not allowed")
        if kind == 0:
            break
        at += 8 + -(-extent // 8) * 8
    if size <= 0:
        raise ValueError("it has no size")
    return Image(size)
