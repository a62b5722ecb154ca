"""The embed area: 4 MiB of the medium that are filled after it was built, in place, without Nix and without root.

It is the file `/hyper-nixos/embed.bin` in the root of the ISO; the live system sees it below `/iso`. All numbers are
little-endian:

| Offset | Bytes | What |
|---|---|---|
| 0 | 16 | `MAGIC` |
| 16 | 4 | format, `VERSION` |
| 20 | 4 | flags; none is defined, so every bit is 0 |
| 24 | 8 | length of the payload in bytes |
| 32 | 32 | SHA-256 of the 32 bytes before it and the payload |
| 64 | length | payload: a POSIX tar archive, or nothing |
| 64 + length | the rest | zeros |

An area without payload is as good as none. `python -m installer.embed` writes one to its standard output; the medium is
built with it, so taking a payload out again gives the medium that was built, byte for byte.
"""

import hashlib
import io
import re
import struct
import sys
import tarfile
from collections.abc import Mapping
from types import MappingProxyType

from installer.errors import Exit, HyperError

MAGIC = b"HYPER-NIXOS-EMBD"
VERSION = 1
AREA = 4 * 1024 * 1024
"""Bytes of the whole area; 256 KiB proved too small elsewhere, for certificates and network configuration."""
PATH = "hyper-nixos/embed.bin"
"""Below the root of the ISO."""
HEADER = struct.Struct("<16sIIQ32s")
SUMMED = HEADER.size - hashlib.sha256().digest_size
"""Bytes of the header that the checksum covers."""
ROOM = AREA - HEADER.size
"""Bytes that a payload may have."""

ARGUMENT = "hyper-nixos.pad="
"""The kernel argument that every boot entry ends with, filled with `#`: arguments are put in its place. It has a dot
because the kernel hands arguments without one on to init (admin-guide/kernel-parameters).
"""
ARGUMENT_LENGTH = 512
"""Characters of it, name and `#` together."""

ANSWERS = "answers.toml"
KEYS = "authorized_keys"
SIGNERS = "allowed_signers"
CA = "ca.pem"
WRAPPED = "secrets.age"
"""The secrets as an archive like this one, wrapped (iso/age.py)."""
SIGNATURE = "payload.sig"
"""An SSH signature over the other files and the kernel's arguments (iso/signature.py)."""
LOOSE = (ANSWERS, SIGNERS, KEYS, CA, WRAPPED, SIGNATURE)
"""Files in the root of the archive: answers, who must have signed them (installer/fetch), keys, certificates."""
SECRETS, NETWORK, HOOKS, HOST_KEYS = "secrets", "network", "hooks", "host-keys"
"""Folders: secrets that answers refer to; connections of NetworkManager, for the live system; programs that answers
name as hooks; keys by which the live system's SSH server proves itself.
"""
HOST_KEY = r"ssh_host_(ed25519|ecdsa|rsa)_key"
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_NAME = re.compile(
    rf"{'|'.join(map(re.escape, LOOSE))}|{SECRETS}/{_PLAIN}|{HOOKS}/{_PLAIN}|{NETWORK}/{_PLAIN}\.nmconnection|"
    rf"{HOST_KEYS}/{HOST_KEY}"
)


def refusal(why: str) -> HyperError:
    """The error for an area that is not taken."""
    return HyperError(
        "what was embedded into the medium is not taken",
        why=why,
        remedy="write the medium anew, or embed the files again",
        code=Exit.record,
    )


def pack(files: Mapping[str, bytes]) -> bytes:
    """A whole area with these files: those of `LOOSE`, and `secrets/NAME`; same files, same bytes.

    Raises:
        HyperError: a file has no place in it, or there is too much (Exit.record).
    """
    payload = archive(files) if files else b""
    if len(payload) > ROOM:
        raise refusal(f"the files take {len(payload)} bytes, and there is room for {ROOM}")
    summed = HEADER.pack(MAGIC, VERSION, 0, len(payload), b"")[:SUMMED]
    digest = hashlib.sha256(summed + payload).digest()
    return (summed + digest + payload).ljust(AREA, b"\0")


def unpack(area: bytes) -> Mapping[str, bytes]:
    """The files in an area.

    Raises:
        HyperError: it is no area, is damaged, or holds what nobody here knows (Exit.record).
    """
    if len(area) != AREA:
        raise refusal(f"the area has {len(area)} bytes instead of {AREA}")
    magic, version, flags, length, digest = HEADER.unpack_from(area)
    if magic != MAGIC:
        raise refusal("the area does not begin as one")
    if version != VERSION or flags:
        raise refusal(
            f"it has format {version} and flags {flags:#x}; this medium knows format {VERSION} without flags"
        )
    if length > ROOM:
        raise refusal(f"it claims {length} bytes, and there is room for {ROOM}")
    payload = area[HEADER.size : HEADER.size + length]
    if hashlib.sha256(area[:SUMMED] + payload).digest() != digest:
        raise refusal("its checksum does not fit: it was cut off or altered")
    return MappingProxyType(files_in(payload) if payload else {})


def payload_digest(area: bytes) -> str:
    """SHA-256 of the payload of an area that `unpack` takes."""
    length = HEADER.unpack_from(area)[3]
    return hashlib.sha256(area[HEADER.size : HEADER.size + length]).hexdigest()


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of them: same files, same bytes. Raises HyperError for a file that has no place."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name, content in sorted(files.items()):
            _check_name(name)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o600
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def files_in(payload: bytes) -> dict[str, bytes]:
    """The files in such an archive. Raises HyperError for anything else."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(payload), mode="r:") as opened:
            for member in opened:
                _check_name(member.name)
                content = opened.extractfile(member) if member.isreg() else None
                if content is None or member.name in files:
                    raise refusal(f"{member.name} in it is no regular file, or there twice")
                files[member.name] = content.read()
    except tarfile.TarError as error:
        raise refusal(f"its payload is no tar archive: {error}") from error
    return files


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise refusal(
            f"it has a file {name[:80]!r}; there is a place for {', '.join(LOOSE)}, "
            f"{SECRETS}/NAME, {HOOKS}/NAME, {NETWORK}/NAME.nmconnection and {HOST_KEYS}/ssh_host_KIND_key"
        )


def kernel_argument() -> str:
    """The argument as a medium is built with it."""
    return ARGUMENT.ljust(ARGUMENT_LENGTH, "#")


def arguments_in(command_line: str) -> tuple[str, ...]:
    """Arguments that were put in its place, from a command line of the kernel that was started with it."""
    at = command_line.find(ARGUMENT)
    if at < 0:
        return ()
    return tuple(command_line[at : at + ARGUMENT_LENGTH].removeprefix(ARGUMENT).lstrip("#").split())


if __name__ == "__main__":
    sys.stdout.buffer.write(pack({}))
