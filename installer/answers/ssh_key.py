"""One line of authorized_keys(5), taken apart: would sshd accept this key, and for a login shell?"""

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

RSA_BITS = 2048
"""Least length of an RSA key; sshd(8) refuses less than RequiredRSASize, and NIST SP 800-57 less than this."""

_CURVES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
"""RFC 5656 curves and the bytes of an uncompressed point on them (SEC 1, 2.3.3)."""
TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    *(f"ecdsa-sha2-{curve}" for curve in _CURVES),
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_FORBIDDING = {"command", "restrict", "no-pty", "cert-authority", "expiry-time", "from"}
"""Options that keep a key from giving its owner a shell from anywhere, at any time."""
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?')


class SshKey(NamedTuple):
    """A public key that sshd would read."""

    kind: str
    """Its type, e.g. `ssh-ed25519`."""
    blob: bytes
    """The key itself (RFC 4253, 6.6)."""
    comment: str
    """Whatever follows."""
    limits: tuple[str, ...]
    """Options that forbid an ordinary login with it."""


def parse_ssh_key(line: str) -> SshKey:
    """The key in one line; ValueError says in words what is wrong with it, without repeating the line."""
    if "PRIVATE KEY" in line:
        raise ValueError("is a private key; the public one ends in .pub")
    if "\n" in line or "\r" in line:
        raise ValueError("has more than one line")
    limits, rest = _options(line.strip())
    kind, _, rest = rest.partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    if kind == "ssh-dss":
        raise ValueError("is a DSA key, which sshd no longer takes")
    if kind not in TYPES:
        raise ValueError("does not begin with a key type such as `ssh-ed25519`")
    if not encoded:
        raise ValueError("has no key after its type")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64 after its type, so it is cut off or altered") from None
    _inspect(kind, blob)
    return SshKey(kind, blob, comment.strip(), limits)


def _options(line: str) -> tuple[tuple[str, ...], str]:
    """Options before the key type, as far as they forbid something, and the rest of the line."""
    if line.split(" ", 1)[0] in (*TYPES, "ssh-dss"):
        return (), line
    names = []
    index = 0
    while match := _OPTION.match(line, index):
        names.append(match[1].lower())
        index = match.end()
        if line[index : index + 1] != ",":
            break
        index += 1
    if (
        not names
        or line[index : index + 1] != " "
        or line[index:].split(" ", 2)[1] not in (*TYPES, "ssh-dss")
    ):
        raise ValueError("does not begin with a key type such as `ssh-ed25519`")
    return tuple(name for name in names if name in _FORBIDDING), line[index:].strip()


def _inspect(kind: str, blob: bytes) -> None:
    """Hold the key's inside against its type: RFC 4253 6.6 (RSA), 5656 3.1 (ECDSA), 8709 4 (Ed25519)."""
    parts = _strings(blob)
    if not parts or parts[0] != kind.encode():
        inner = (
            parts[0].decode("ascii", "replace") if parts and parts[0] in (t.encode() for t in TYPES) else ""
        )
        raise ValueError(f"says {kind} outside and {inner or 'something else'} inside")
    fields = parts[1:]
    if kind.startswith("sk-"):  # PROTOCOL.u2f: an application name at the end
        fields = fields[:-1]
    if "ed25519" in kind:
        good = [len(field) for field in fields] == [32]
    elif kind == "ssh-rsa":
        good = len(fields) == 2
        bits = int.from_bytes(fields[1], "big").bit_length() if good else 0
        if good and bits < RSA_BITS:
            raise ValueError(f"is an RSA key of {bits} bits; at least {RSA_BITS} are needed")
    else:
        curve = next(curve for curve in _CURVES if curve in kind)
        good = len(fields) == 2 and fields[0] == curve.encode()
        good = good and len(fields[1]) == _CURVES[curve] and fields[1][0] == 4
    if not good:
        raise ValueError("is cut off or altered: its parts do not have the right lengths")


def _strings(blob: bytes) -> list[bytes]:
    """The length-prefixed strings of a key (RFC 4251, 5); none when they do not fill it exactly."""
    found = []
    index = 0
    while index < len(blob):
        length = int.from_bytes(blob[index : index + 4], "big")
        found.append(blob[index + 4 : index + 4 + length])
        index += 4 + length
    return found if index == len(blob) and len(blob) > 0 else []


def fingerprint(blob: bytes) -> str:
    """A key's fingerprint, as ssh-keygen(1) shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
