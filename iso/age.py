"""Secrets wrapped so that who finds the medium cannot read them: the file format of age (age-encryption.org/v1), for
recipients (X25519) and for passphrases (scrypt). Files go both ways with the programs `age` and `rage`.
"""

import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from installer.errors import Exit, HyperError

VERSION = b"age-encryption.org/v1"
RECIPIENT, IDENTITY = "age", "age-secret-key-"
CHUNK = 64 * 1024
WORK = 18
"""Base-2 logarithm of scrypt's work factor: about a second, as age takes."""
MOST_WORK = 22
_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
"""Bech32's (BIP 173)."""
_NONCE = bytes(12)


def _refusal(why: str, remedy: str) -> HyperError:
    return HyperError("the wrapped secrets cannot be opened", why=why, remedy=remedy, code=Exit.medium)


def _bech32(text: str, prefix: str) -> bytes:
    """32 bytes of a recipient or identity. Raises ValueError."""
    if text not in (text.lower(), text.upper()):
        raise ValueError("it mixes upper and lower case")
    word = text.lower()
    head, _, data = word.rpartition("1")
    if head != prefix or len(data) < 7 or any(letter not in _LETTERS for letter in data):
        raise ValueError(f"it does not begin with {prefix}1")
    values = [_LETTERS.index(letter) for letter in data]
    checked = [ord(letter) >> 5 for letter in head] + [0] + [ord(letter) & 31 for letter in head] + values
    check = 1
    for value in checked:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    if check != 1:
        raise ValueError("its checksum does not fit: a letter is wrong")
    bits = 0
    for value in values[:-6]:
        bits = bits << 5 | value
    spare = len(values[:-6]) * 5 % 8
    key = (bits >> spare).to_bytes(len(values[:-6]) * 5 // 8, "big")
    if len(key) != 32:
        raise ValueError("it does not hold 32 bytes")
    return key


def recipient(text: str) -> bytes:
    """The key of a recipient, `age1…`. Raises HyperError (Exit.usage)."""
    try:
        return _bech32(text.strip(), RECIPIENT)
    except ValueError as error:
        raise HyperError(
            f"the recipient {text[:80]!r} is not taken",
            why=f"{error}; only X25519 recipients are known",
            remedy="make one with `age-keygen`, and name its public key, age1…",
            code=Exit.usage,
        ) from error


def identities(text: str) -> tuple[bytes, ...]:
    """Keys in an identity file (age-keygen(1)). Raises HyperError (Exit.usage) when there is none."""
    found = []
    for line in text.splitlines():
        if line.strip().upper().startswith("AGE-SECRET-KEY-1"):
            try:
                found.append(_bech32(line.strip(), IDENTITY))
            except ValueError as error:
                raise HyperError(
                    "the identity file is not taken",
                    why=f"a key in it is damaged: {error}",
                    remedy="give the file that `age-keygen` wrote",
                    code=Exit.usage,
                ) from error
    if not found:
        raise HyperError(
            "the identity file is not taken",
            why="there is no line AGE-SECRET-KEY-1… in it",
            remedy="give the file that `age-keygen` wrote",
            code=Exit.usage,
        )
    return tuple(found)


def _encoded(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except Base64Error as error:
        raise _refusal("its header is damaged", "embed the secrets again") from error


def _stanza(arguments: Sequence[bytes], body: bytes) -> bytes:
    text = _encoded(body)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    if len(text) % 64 == 0:
        lines.append(b"")
    return b"-> " + b" ".join(arguments) + b"\n" + b"\n".join(lines) + b"\n"


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, purpose).derive(secret)


def _stretched(passphrase: bytes, salt: bytes, work: int) -> bytes:
    return Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 1 << work, 8, 1).derive(passphrase)


def wrap(
    content: bytes,
    *,
    recipients: Sequence[bytes] = (),
    passphrase: bytes | None = None,
    chance: Callable[[int], bytes] = os.urandom,
    work: int | None = None,
) -> bytes:
    """The content for these recipients, or for a passphrase; age allows no mixture."""
    key = chance(16)
    stanzas = []
    if passphrase is not None:
        salt, work = chance(16), work or WORK
        sealed = ChaCha20Poly1305(_stretched(passphrase, salt, work)).encrypt(_NONCE, key, None)
        stanzas.append(_stanza([b"scrypt", _encoded(salt), b"%d" % work], sealed))
    else:
        for public in recipients:
            own = X25519PrivateKey.from_private_bytes(chance(32))
            share = own.public_key().public_bytes_raw()
            secret = own.exchange(X25519PublicKey.from_public_bytes(public))
            wrapping = _derived(secret, share + public, b"age-encryption.org/v1/X25519")
            sealed = ChaCha20Poly1305(wrapping).encrypt(_NONCE, key, None)
            stanzas.append(_stanza([b"X25519", _encoded(share)], sealed))
    header = VERSION + b"\n" + b"".join(stanzas) + b"---"
    mac = hmac.digest(_derived(key, b"", b"header"), header, hashlib.sha256)
    nonce = chance(16)
    cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    pieces = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)] or [b""]
    body = b"".join(
        cipher.encrypt(number.to_bytes(11, "big") + bytes([number == len(pieces) - 1]), piece, None)
        for number, piece in enumerate(pieces)
    )
    return header + b" " + _encoded(mac) + b"\n" + nonce + body


_HEADER = re.compile(
    rb"age-encryption\.org/v1\n((?:-> [!-~]+(?: [!-~]+)*\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)+)---"
    rb" ([A-Za-z0-9+/]{43})\n"
)
_ONE = re.compile(rb"-> ([!-~ ]+)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63})\n")


def needs_passphrase(wrapped: bytes) -> bool:
    """Whether it was wrapped with a passphrase."""
    return wrapped.startswith(VERSION + b"\n-> scrypt ")


def unwrap(wrapped: bytes, *, keys: Sequence[bytes] = (), passphrase: bytes | None = None) -> bytes:
    """The content. Raises HyperError (Exit.medium): none of the keys fits, or it is damaged."""
    found = _HEADER.match(wrapped)
    if found is None:
        raise _refusal("it is no file of age, version 1", "embed the secrets again")
    key = _file_key(found[1], keys, passphrase)
    if key is None:
        raise _refusal(
            "the passphrase does not fit" if passphrase is not None else "none of the identities fits",
            "try again, with the passphrase or identity that the secrets were wrapped for",
        )
    header = wrapped[: found.end(1)] + b"---"
    mac = hmac.digest(_derived(key, b"", b"header"), header, hashlib.sha256)
    if not hmac.compare_digest(mac, _decoded(found[2])):
        raise _refusal("its header was altered", "embed the secrets again")
    nonce, body = wrapped[found.end() : found.end() + 16], wrapped[found.end() + 16 :]
    cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    sealed = [body[at : at + CHUNK + 16] for at in range(0, len(body), CHUNK + 16)]
    try:
        return b"".join(
            cipher.decrypt(number.to_bytes(11, "big") + bytes([number == len(sealed) - 1]), piece, None)
            for number, piece in enumerate(sealed or [b""])
        )
    except InvalidTag as error:
        raise _refusal("it was cut off or altered", "embed the secrets again") from error


def _file_key(stanzas: bytes, keys: Sequence[bytes], passphrase: bytes | None) -> bytes | None:
    for arguments, body in _ONE.findall(stanzas):
        sealed = _decoded(body.replace(b"\n", b""))
        match arguments.split(b" "):
            case [b"scrypt", salt, work] if passphrase is not None and work.isdigit() and len(work) < 3:
                if int(work) > MOST_WORK:
                    raise _refusal(f"its work factor is {int(work)}", "embed the secrets again")
                tried = [_stretched(passphrase, _decoded(salt), int(work))]
            case [b"X25519", share]:
                tried = [_agreed(identity, _decoded(share)) for identity in keys]
            case _:
                continue
        for wrapping in tried:
            try:
                return ChaCha20Poly1305(wrapping).decrypt(_NONCE, sealed, None)
            except InvalidTag:
                continue
    return None


def _agreed(identity: bytes, share: bytes) -> bytes:
    own = X25519PrivateKey.from_private_bytes(identity)
    try:
        secret = own.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError as error:  # a share of another length, or one that gives nothing
        raise _refusal("its header is damaged", "embed the secrets again") from error
    public = own.public_key().public_bytes_raw()
    return _derived(secret, share + public, b"age-encryption.org/v1/X25519")
