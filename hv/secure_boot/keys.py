"""The host's own keys for Secure Boot: made on it, once, and kept for root alone.

Three pairs (UEFI specification 2.10, 32.3): the platform key PK owns the machine, the key exchange key KEK may change what
the machine starts, and what the db key signed is started. RSA with 2048 bits and SHA-256, which every firmware takes.
"""

import os
import shutil
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from installer.errors import HyperError

FOLDER = "/var/lib/hyper-nixos/secure-boot/keys"
NAMES = ("PK", "KEK", "db")
BITS = 2048
YEARS = 30
"""Firmware does not look at the time; a host's keys are as old as the host."""


@dataclass(frozen=True)
class Keys:
    """Where they are."""

    folder: Path

    def key(self, name: str) -> Path:
        """A private key, PEM."""
        return self.folder / f"{name}.key"

    def certificate(self, name: str) -> Path:
        """Its certificate, PEM."""
        return self.folder / f"{name}.pem"

    @property
    def owner(self) -> str:
        """Whose the keys are, as signature lists name it: a UUID."""
        return (self.folder / "owner").read_text(encoding="ascii").strip()

    @property
    def there(self) -> bool:
        """Whether they were made. They become visible together, whole."""
        return (self.folder / "owner").is_file()

    def der(self, name: str) -> bytes:
        """The certificate as signature lists hold it. Raises HyperError."""
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509 import load_pem_x509_certificate

        try:
            return load_pem_x509_certificate(self.certificate(name).read_bytes()).public_bytes(Encoding.DER)
        except (OSError, ValueError) as error:
            raise HyperError(
                f"The host's Secure Boot certificate {name} cannot be read.",
                why=f"{self.certificate(name)}: {error}",
                remedy=f"Put the folder {self.folder} back from a backup. Without it: switch Secure Boot off in the "
                "firmware, move the folder away, and run `hv secure-boot sign --make-keys`.",
            ) from error


def make(folder: Path, hostname: str) -> Keys:
    """Make keys where there are none; a folder that a power cut left half made never has the final name."""
    keys = Keys(folder)
    if keys.there:
        return keys
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    for name in NAMES:
        private, public = _pair(f"Hyper-NixOS {name} of {hostname}")
        _write(partial / f"{name}.key", private)
        _write(partial / f"{name}.pem", public)
    _write(partial / "owner", f"{uuid.uuid4()}\n".encode())
    _sync(partial)
    partial.rename(folder)
    _sync(folder.parent)
    return keys


def _pair(name: str) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    # 64 characters are what a common name holds (RFC 5280, appendix A.1).
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A clock without battery may be behind, and firmware's own may be anywhere.
        .not_valid_before(now - timedelta(days=365))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, made.public_bytes(Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
