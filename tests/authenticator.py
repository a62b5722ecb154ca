"""A software authenticator: a FIDO2 token without a touch of hardware, for machines that have none to plug in.

It speaks CTAP 2.0 with the extension hmac-secret, which is what systemd-cryptenroll(1) and cryptsetup(8) ask of a token through
libfido2, over CTAPHID on a device of the kernel's uhid driver: to every program it is a token at a USB port. Keys are derived
from a secret in a file, so that it is the same token at the next boot; another file is another token. It keeps no secret from
whoever reads that file, and is no token for anything but trials.

Sources: Client to Authenticator Protocol 2.0 (FIDO Alliance, 2019-01-30), chapters 5, 6, 8.1 and 10.1; Web Authentication
level 2, 6.1; Linux, include/uapi/linux/uhid.h.

    python3 authenticator.py SECRET-FILE [TOUCH-FILE]
"""

import hashlib
import hmac
import os
import select
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from fido2 import cbor

AAGUID = hashlib.sha256(b"hyper-nixos software authenticator").digest()[:16]
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's group (FIPS 186-4, D.1.2.3)."""
MAKE, ASSERT, INFO, PIN = 1, 2, 4, 6
"""Commands."""
OK, INVALID_COMMAND, INVALID_PARAMETER, MISSING = 0x00, 0x01, 0x02, 0x14
UNSUPPORTED_ALGORITHM, CANCELLED, NO_CREDENTIALS, NOT_TOUCHED = 0x26, 0x2D, 0x2E, 0x2F
"""What it answers (CTAP 2.0, 6.3)."""
PRESENT, ATTESTED, EXTENDED = 0x01, 0x40, 0x80
"""Flags of authenticator data."""


class RefusedError(Exception):
    """A request that is answered with a status alone."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status:#x}")
        self.status = status


@dataclass
class Authenticator:
    """The token itself: requests in, responses out."""

    secret: bytes
    """32 bytes, of which all of its keys are made."""
    agreement: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    """For secrets on their way; new whenever it is plugged in."""

    def wants_touch(self, request: bytes) -> bool:
        """Whether somebody has to touch it before this is answered."""
        if request[:1] == bytes([MAKE]):
            return True
        if request[:1] != bytes([ASSERT]):
            return False
        return bool(_mapping(request).get(5, {}).get("up", True))

    def answer(self, request: bytes) -> bytes:
        """A status, and what goes with it."""
        commands = {MAKE: self._make, ASSERT: self._assert, INFO: self._info, PIN: self._pin}
        try:
            command = commands.get(request[0]) if request else None
            if command is None:
                raise RefusedError(INVALID_COMMAND)
            return bytes([OK]) + cbor.encode(command(_mapping(request)))
        except RefusedError as refused:
            return bytes([refused.status])
        except (KeyError, TypeError, ValueError, IndexError):
            return bytes([INVALID_PARAMETER])

    def _info(self, _: Mapping[int, Any]) -> dict[int, Any]:
        return {
            1: ["FIDO_2_0"],
            2: ["hmac-secret"],
            3: AAGUID,
            4: {"rk": False, "up": True, "plat": False, "clientPin": False},
            5: 1200,
            6: [1],
        }

    def _pin(self, asked: Mapping[int, Any]) -> dict[int, Any]:
        """Its half of a shared secret (5.5.4); it has no PIN."""
        if asked[2] != 2:
            raise RefusedError(INVALID_PARAMETER)
        return {1: _cose(self.agreement.public_key(), -25)}

    def _make(self, asked: Mapping[int, Any]) -> dict[int, Any]:
        """A new credential, whose key is made of its id: the token remembers nothing."""
        if not any(each["alg"] == -7 for each in asked[4]):
            raise RefusedError(UNSUPPORTED_ALGORITHM)
        nonce = os.urandom(32)
        relying = hashlib.sha256(asked[2]["id"].encode()).digest()
        identifier = nonce + self._derived(b"mark", nonce + relying)
        key = self._key(identifier)
        extensions = {"hmac-secret": True} if asked.get(6, {}).get("hmac-secret") else {}
        data = relying + bytes([PRESENT | ATTESTED | (EXTENDED if extensions else 0)]) + bytes(4)
        data += AAGUID + struct.pack(">H", len(identifier)) + identifier
        data += cbor.encode(_cose(key.public_key(), -7))
        data += cbor.encode(extensions) if extensions else b""
        signature = key.sign(data + asked[1], ec.ECDSA(hashes.SHA256()))
        return {1: "packed", 2: data, 3: {"alg": -7, "sig": signature}}

    def _assert(self, asked: Mapping[int, Any]) -> dict[int, Any]:
        """That the token is here, and the secret that belongs to the credential and what was sent along."""
        relying = hashlib.sha256(asked[1].encode()).digest()
        offered = [each["id"] for each in asked.get(3, ())]
        mine = [each for each in offered if each[32:] == self._derived(b"mark", each[:32] + relying)]
        if not mine:
            raise RefusedError(NO_CREDENTIALS)
        present = PRESENT if asked.get(5, {}).get("up", True) else 0
        extensions = {}
        if present and (wanted := asked.get(4, {}).get("hmac-secret")):
            extensions["hmac-secret"] = self._secret(mine[0], wanted)
        data = relying + bytes([present | (EXTENDED if extensions else 0)]) + bytes(4)
        data += cbor.encode(extensions) if extensions else b""
        signature = self._key(mine[0]).sign(data + asked[2], ec.ECDSA(hashes.SHA256()))
        return {1: {"id": mine[0], "type": "public-key"}, 2: data, 3: signature}

    def _secret(self, identifier: bytes, wanted: Mapping[int, Any]) -> bytes:
        """HMAC of one or two salts, both ways under the shared secret (8.1 and 5.5.3, PIN protocol 1)."""
        point = ec.EllipticCurvePublicNumbers(
            int.from_bytes(wanted[1][-2], "big"), int.from_bytes(wanted[1][-3], "big"), ec.SECP256R1()
        ).public_key()
        shared = hashlib.sha256(self.agreement.exchange(ec.ECDH(), point)).digest()
        proof = hmac.digest(shared, wanted[2], "sha256")[:16]
        if not hmac.compare_digest(proof, wanted[3]) or len(wanted[2]) not in (32, 64):
            raise RefusedError(INVALID_PARAMETER)
        both = Cipher(algorithms.AES(shared), modes.CBC(bytes(16)))
        opener = both.decryptor()
        salts = opener.update(wanted[2]) + opener.finalize()
        random = self._derived(b"credential random", identifier)
        found = b"".join(
            hmac.digest(random, salts[at : at + 32], "sha256") for at in range(0, len(salts), 32)
        )
        closer = both.encryptor()
        return closer.update(found) + closer.finalize()

    def _key(self, identifier: bytes) -> ec.EllipticCurvePrivateKey:
        number = int.from_bytes(self._derived(b"key", identifier), "big")
        return ec.derive_private_key(number % (ORDER - 1) + 1, ec.SECP256R1())

    def _derived(self, purpose: bytes, of: bytes) -> bytes:
        return hmac.digest(self.secret, purpose + b"\0" + of, "sha256")


def _mapping(request: bytes) -> Mapping[int, Any]:
    found = cbor.decode(request[1:]) if request[1:] else {}
    if not isinstance(found, Mapping):
        raise TypeError("no map")
    return found


def _cose(key: ec.EllipticCurvePublicKey, algorithm: int) -> dict[int, Any]:
    """A public key (RFC 8152, 13.1.1)."""
    numbers = key.public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
    return {1: 2, 3: algorithm, -1: 1, -2: x, -3: y}


# CTAPHID (8.1) -----------------------------------------------------------------------------------------------------

REPORT = 64
"""Bytes of a report, each way."""
PING, INIT, CBOR, CANCEL, KEEPALIVE, ERROR = 0x81, 0x86, 0x90, 0x91, 0xBB, 0xBF
EVERYBODY = b"\xff" * 4
"""Channel on which one's own is asked for."""
PATIENCE = 30.0
"""Seconds in which it is touched."""


@dataclass
class Wire:
    """Reports in, reports out."""

    token: Authenticator
    channels: int = 0
    partial: tuple[bytes, int, int, bytes] | None = None
    """Channel, command, length and beginning of what is being received."""
    waiting: tuple[bytes, bytes, float] | None = None
    """Channel and request that wait for a touch, and when they are given up."""

    def take(self, report: bytes) -> Iterator[bytes]:
        """What is answered at once."""
        channel, rest = report[:4], report[4:REPORT]
        if rest[0] & 0x80:
            (length,) = struct.unpack(">H", rest[1:3])
            self.partial = (channel, rest[0], length, rest[3:][:length])
        elif self.partial and self.partial[0] == channel:
            _, command, length, begun = self.partial
            self.partial = (channel, command, length, (begun + rest[1:])[:length])
        if self.partial and len(self.partial[3]) == self.partial[2]:
            channel, command, _, message = self.partial
            self.partial = None
            yield from self._message(channel, command, message)

    def tick(self, *, touched: bool) -> Iterator[bytes]:
        """What becomes of a request that waits."""
        if not self.waiting:
            return
        channel, request, until = self.waiting
        if touched:
            self.waiting = None
            yield from reports(channel, CBOR, self.token.answer(request))
        elif time.monotonic() > until:
            self.waiting = None
            yield from reports(channel, CBOR, bytes([NOT_TOUCHED]))
        else:
            yield from reports(channel, KEEPALIVE, b"\x02")

    def _message(self, channel: bytes, command: int, message: bytes) -> Iterator[bytes]:
        match command:
            case 0x86:
                self.channels += 1
                own = struct.pack(">I", self.channels) if channel == EVERYBODY else channel
                # Protocol 2, its version; it speaks CBOR, and no CTAP1.
                yield from reports(channel, INIT, message + own + bytes([2, 1, 0, 0, 0x04 | 0x08]))
            case 0x81:
                yield from reports(channel, PING, message)
            case 0x90 if self.token.wants_touch(message):
                self.waiting = (channel, message, time.monotonic() + PATIENCE)
            case 0x90:
                yield from reports(channel, CBOR, self.token.answer(message))
            case 0x91:
                if self.waiting and self.waiting[0] == channel:
                    self.waiting = None
                    yield from reports(channel, CBOR, bytes([CANCELLED]))
            case _:
                yield from reports(channel, ERROR, bytes([INVALID_COMMAND]))


def reports(channel: bytes, command: int, message: bytes) -> Iterator[bytes]:
    """A message as reports (8.1.4)."""
    head = channel + bytes([command]) + struct.pack(">H", len(message))
    yield (head + message[: REPORT - 7]).ljust(REPORT, b"\0")
    rest = message[REPORT - 7 :]
    for number, at in enumerate(range(0, len(rest), REPORT - 5)):
        yield (channel + bytes([number]) + rest[at : at + REPORT - 5]).ljust(REPORT, b"\0")


# The kernel's side -------------------------------------------------------------------------------------------------

DESCRIPTOR = bytes.fromhex("06d0f10901a1010920150026ff007508954081020921150026ff00750895409102c0")
"""One application of the FIDO usage page with a report of 64 bytes each way (8.1.8.2)."""
DESTROY, OUTPUT, GET_REPORT, GET_REPORT_REPLY, CREATE, INPUT, SET_REPORT, SET_REPORT_REPLY = (
    *(1, 6, 9, 10, 11, 12, 13, 14),
)
"""Events of uhid."""
EVENT = 4380
"""Bytes of one: its kind, and the biggest of its bodies, that of CREATE."""
USB = 3
VENDOR, PRODUCT = 0x1209, 0x0001
"""Of pid.codes, for trials."""


def plugged_in(wire: Wire, touch: Path | None) -> None:
    """Serve a device until the process is ended. It counts as touched while the file is there; without one, always."""
    handle = os.open("/dev/uhid", os.O_RDWR)
    name = b"Hyper-NixOS software authenticator"
    numbers = struct.pack("<HHIIII", len(DESCRIPTOR), USB, VENDOR, PRODUCT, 0, 0)
    create = struct.pack("<I128s64s64s", CREATE, name, b"uhid", b"") + numbers + DESCRIPTOR
    os.write(handle, create.ljust(EVENT, b"\0"))
    print("plugged in", flush=True)
    while True:
        if select.select([handle], [], [], 0.1)[0]:
            event = os.read(handle, EVENT)
            (kind,) = struct.unpack_from("<I", event)
            if kind == OUTPUT:
                (size,) = struct.unpack_from("<H", event, 4 + 4096)
                # hidraw puts the number of the report before it: none.
                report = event[4 : 4 + size][-REPORT:]
                _send(handle, wire.take(report))
            elif kind in (GET_REPORT, SET_REPORT):
                (request,) = struct.unpack_from("<I", event, 4)
                reply = GET_REPORT_REPLY if kind == GET_REPORT else SET_REPORT_REPLY
                os.write(handle, struct.pack("<IIHH", reply, request, 5, 0).ljust(EVENT, b"\0"))
        else:
            _send(handle, wire.tick(touched=touch is None or touch.exists()))


def _send(handle: int, found: Iterator[bytes]) -> None:
    for report in found:
        os.write(handle, struct.pack("<IH", INPUT, len(report)) + report.ljust(4096, b"\0"))


def main(secret: str, touch: str | None = None) -> None:
    """Plug in the token whose secret is in that file, which is made where there is none."""
    file = Path(secret)
    if not file.exists():
        partial = file.with_suffix(".partial")
        with partial.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(os.urandom(32))
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(file)
    plugged_in(Wire(Authenticator(file.read_bytes())), Path(touch) if touch else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
