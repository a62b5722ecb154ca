"""Job certificate: an authority of this host's own, and a certificate by it, for whatever of the host speaks TLS.

Both are made here, once, so that no two hosts share a key and none was ever on a medium. Clients trust the authority by its
fingerprint, which the status page shows; a later certificate by the same authority needs nothing of them.

Keys are ECDSA on P-256 (RFC 5480), which every TLS 1.2 and 1.3 client takes. The authority signs hosts' certificates and
nothing below them (RFC 5280, 4.2.1.9).
"""

import hashlib
import ipaddress
import json
import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hv.firstrun.world import World, write_atomically
from installer.errors import HyperError
from installer.handoff import Handoff

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, KeyUsage

FOLDER = "/var/lib/hyper-nixos/tls"
AUTHORITY, AUTHORITY_KEY = f"{FOLDER}/ca.crt", f"{FOLDER}/ca.key"
CERTIFICATE, KEY = f"{FOLDER}/host.crt", f"{FOLDER}/host.key"
PRIVATE, PUBLIC = 0o600, 0o644
YEARS = {"authority": 30, "host": 10}
"""How long they are good. `hv firstrun renew`, which a timer starts every week, makes the host's anew in its last year."""
LATE = timedelta(days=365)
SKEW = timedelta(days=1)
"""A clock without battery may be behind at the first boot."""


@dataclass(frozen=True)
class CertificateJob:
    """Makes what is missing; what is there and good stays."""

    hostname: str
    name: str = "certificate"
    requires: tuple[str, ...] = ()
    timeout: float = 120

    def applies(self, handoff: Handoff) -> str | None:  # noqa: ARG002
        """Always."""
        return None

    def run(self, world: World) -> None:
        """The authority, then the host's. A key is on disk before anything names it: a power cut loses no pair."""
        world.path(FOLDER).mkdir(mode=0o755, parents=True, exist_ok=True)
        if foreign(world):
            world.say(f"{CERTIFICATE} is an administrator's own, and is kept")
            return
        there = _read(world, AUTHORITY)
        if there is not None and _good(world, there, self.hostname):
            # Also where somebody has taken the authority's key away to keep it elsewhere.
            world.say("the host's certificate is there already")
            return
        key, authority = self._authority(world, there)
        _host(world, self.hostname, key, authority)

    def verify(self, world: World) -> None:
        """As read back: signed by the authority, with the host's name, its key beside it for root alone."""
        authority, certificate = _read(world, AUTHORITY), _read(world, CERTIFICATE)
        wrong = []
        if certificate is None:
            wrong.append(f"{CERTIFICATE} cannot be read")
        elif not foreign(world) and (authority is None or not _good(world, authority, self.hostname)):
            wrong.append(f"{CERTIFICATE}, {KEY} and {AUTHORITY} do not belong together")
        for path in (KEY, AUTHORITY_KEY):
            file = world.path(path)
            if file.exists() and stat.S_IMODE(file.stat().st_mode) != PRIVATE:
                wrong.append(f"{path} is not for root alone")
        if wrong:
            raise HyperError(
                "The host's certificate is not good.",
                why="; ".join(wrong),
                remedy=f"Move {FOLDER} away, then `hv firstrun retry certificate`.",
            )
        for what, path in (("authority", AUTHORITY), ("host", CERTIFICATE)):
            if digest := fingerprint(world.path(path)):
                world.say(f"checked: {what} SHA-256 {digest}")

    def _authority(
        self, world: World, there: "Certificate | None"
    ) -> "tuple[EllipticCurvePrivateKey, Certificate]":
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        key = _key(world, AUTHORITY_KEY) if there is None else _there(world, AUTHORITY_KEY)
        if there is not None:
            if key is not None and there.public_key() == key.public_key():
                return key, there
            raise HyperError(
                "The authority's certificate and key do not belong together.",
                why=f"{AUTHORITY} is not of {AUTHORITY_KEY}, and somebody may trust it already",
                remedy=f"Put the right key back, or move {FOLDER} away, then `hv firstrun retry certificate`.",
            )
        assert key is not None
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hyper-NixOS host {self.hostname}")])
        now = world.clock.now()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + timedelta(days=365 * YEARS["authority"]))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(world, AUTHORITY, made)
        world.say(f"made an authority for this host, {AUTHORITY}")
        return key, made


def fingerprint(file: Path) -> str | None:
    """SHA-256 of a certificate, 64 hexadecimal digits; None where there is none."""
    try:
        der = ssl.PEM_cert_to_DER_cert(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return hashlib.sha256(der).hexdigest()


def foreign(world: World) -> bool:
    """Whether the host's certificate is somebody else's: not by our authority, so an administrator put it there."""
    certificate, authority = _read(world, CERTIFICATE), _read(world, AUTHORITY)
    if certificate is None:
        return False
    return authority is None or certificate.issuer != authority.subject


def _host(world: World, hostname: str, signer: "EllipticCurvePrivateKey", authority: "Certificate") -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = _key(world, KEY)
    names: list[x509.GeneralName] = [x509.DNSName(hostname), x509.DNSName("localhost")]
    names += [x509.IPAddress(each) for each in _addresses(world)]
    now = world.clock.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(min(now + timedelta(days=365 * YEARS["host"]), authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    _write(world, CERTIFICATE, made)
    world.say(f"made {CERTIFICATE} for {', '.join(str(each.value) for each in names)}")


def _addresses(world: World) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Addresses that others reach the host by now, and its own (ip-address(8))."""
    yield from (ipaddress.ip_address(each) for each in ("127.0.0.1", "::1"))
    try:
        links = json.loads(
            world.attempt(("ip", "-json", "address", "show", "up", "scope", "global"), timeout=5).text
        )
        found = [
            each["local"]
            for link in links
            if not str(link.get("ifname", "")).startswith(("virbr", "vnet", "podman", "docker"))
            for each in link.get("addr_info", ())
            if "local" in each and not each.get("temporary")
        ]
    except (HyperError, ValueError):
        return
    yield from (ipaddress.ip_address(each) for each in found)


def _usage(*, authority: bool) -> "KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key(world: World, path: str) -> "EllipticCurvePrivateKey":
    """The key that is there, or a new one, on disk before it is used."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if (there := _there(world, path)) is not None:
        world.path(path).chmod(PRIVATE)
        return there
    made = ec.generate_private_key(ec.SECP256R1())
    text = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    # Nobody may read it even while it is written.
    before = os.umask(0o077)
    try:
        write_atomically(world.path(path), text, PRIVATE)
    finally:
        os.umask(before)
    return made


def _there(world: World, path: str) -> "EllipticCurvePrivateKey | None":
    """The key that is there; None where there is none. Raises HyperError for what is no key of this job's."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        there = serialization.load_pem_private_key(world.path(path).read_bytes(), None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise HyperError(
            f"{path} cannot be read as a key.",
            why=type(error).__name__,
            remedy=f"Move it away, then `hv firstrun retry certificate`: {FOLDER} is made anew where it is not whole.",
        ) from error
    if not isinstance(there, ec.EllipticCurvePrivateKey):
        raise HyperError(
            f"{path} is another kind of key.",
            why=f"it is {type(there).__name__}, not one that this job makes",
            remedy="If it is yours, `hv firstrun skip certificate --reason …`; else move it away and retry.",
        )
    return there


def _write(world: World, path: str, certificate: "Certificate") -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    write_atomically(world.path(path), certificate.public_bytes(Encoding.PEM).decode(), PUBLIC)


def _read(world: World, path: str) -> "Certificate | None":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(world.path(path).read_bytes())
    except (OSError, ValueError):
        return None


def _good(world: World, authority: "Certificate", hostname: str) -> bool:
    """Whether the host's certificate is there, by the authority, for this name and key, and good for a year more."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    certificate, key = _read(world, CERTIFICATE), _there(world, KEY)
    if certificate is None or key is None:
        return False
    try:
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        hostname in names.get_values_for_type(x509.DNSName)
        and certificate.public_key() == key.public_key()
        and certificate.not_valid_after_utc > world.clock.now() + LATE
    )
