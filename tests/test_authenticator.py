"""The software authenticator, judged by a client that is not ours: the package fido2."""

import os
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from fido2.attestation.packed import PackedAttestation
from fido2.ctap import STATUS, CtapDevice, CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import PinProtocolV1
from fido2.hid import CTAPHID
from fido2.webauthn import AuthenticatorData

from tests.authenticator import CBOR, REPORT, Authenticator, Wire, reports

RELYING = "io.systemd.cryptsetup"
KEYS: list[Any] = [{"type": "public-key", "alg": -7}]


class Plugged(CtapDevice):
    """What a client finds at the end of the wire."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    @property
    def capabilities(self) -> int:
        return 0x0C

    @classmethod
    def list_devices(cls) -> Iterator[CtapDevice]:
        return iter(())

    def call(
        self,
        cmd: int,
        data: bytes = b"",
        event: Event | None = None,
        on_keepalive: Callable[[STATUS], None] | None = None,
    ) -> bytes:
        assert cmd == CTAPHID.CBOR
        answered = [
            part for report in reports(b"\0\0\0\x01", CBOR, data) for part in self.wire.take(report)
        ] or list(self.wire.tick(touched=True))
        assert all(len(part) == REPORT for part in answered)
        length = int.from_bytes(answered[0][5:7], "big")
        assert answered[0][4] == CBOR
        return (answered[0][7:] + b"".join(part[5:] for part in answered[1:]))[:length]


def token(secret: bytes) -> Ctap2:
    return Ctap2(Plugged(Wire(Authenticator(secret))))


def made(client: Ctap2) -> AuthenticatorData:
    names: tuple[Any, Any] = ({"id": RELYING, "name": "n"}, {"id": b"u" * 32, "name": "n"})
    found = client.make_credential(b"\1" * 32, *names, KEYS, extensions={"hmac-secret": True})
    PackedAttestation().verify(found.att_stmt, found.auth_data, b"\1" * 32)
    assert found.auth_data.extensions == {"hmac-secret": True}
    return found.auth_data


def secret_of(client: Ctap2, identifier: bytes, salt: bytes) -> bytes:
    protocol: Any = PinProtocolV1()
    agreement = client.client_pin(protocol.VERSION, 2)[1]
    mine, shared = protocol.encapsulate(agreement)
    sealed = protocol.encrypt(shared, salt)
    found = client.get_assertion(
        RELYING,
        b"\2" * 32,
        [{"type": "public-key", "id": identifier}],
        extensions={"hmac-secret": {1: mine, 2: sealed, 3: protocol.authenticate(shared, sealed)}},
    )
    assert found.auth_data.extensions
    return bytes(protocol.decrypt(shared, found.auth_data.extensions["hmac-secret"]))


def test_it_is_a_token_to_a_client() -> None:
    secret, salts = os.urandom(32), (os.urandom(32), os.urandom(32))
    client = token(secret)
    assert "hmac-secret" in client.info.extensions and not client.info.options["clientPin"]
    credential = made(client).credential_data
    assert credential
    first = secret_of(client, credential.credential_id, salts[0])
    # Plugged in again it is the same token; another salt, another credential: another secret.
    again = token(secret)
    assert secret_of(again, credential.credential_id, salts[0]) == first
    assert secret_of(again, credential.credential_id, salts[1]) != first
    other = made(again).credential_data
    assert other and secret_of(again, other.credential_id, salts[0]) != first
    told: Any = again.get_assertion(
        RELYING, b"\3" * 32, [{"type": "public-key", "id": credential.credential_id}], options={"up": False}
    )
    told.verify(b"\3" * 32, credential.public_key)
    assert not told.auth_data.is_user_present()


def test_another_token_knows_nothing_of_it() -> None:
    credential = made(token(os.urandom(32))).credential_data
    assert credential
    with pytest.raises(CtapError) as caught:
        secret_of(token(os.urandom(32)), credential.credential_id, os.urandom(32))
    assert caught.value.code == CtapError.ERR.NO_CREDENTIALS


def test_it_waits_for_a_touch() -> None:
    wire = Wire(Authenticator(os.urandom(32)))
    request = bytes([2]) + b"\xa3\x01\x61a\x02\x41b\x03\x80"
    assert not [part for report in reports(b"\0\0\0\x01", CBOR, request) for part in wire.take(report)]
    assert next(wire.tick(touched=False))[4] == 0xBB
    assert next(wire.tick(touched=True))[4] == CBOR and not list(wire.tick(touched=True))
