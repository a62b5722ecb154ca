"""Certificates for the live system's own downloads: the answers' beside those it has."""

from pathlib import Path

from installer.execute.files import write_file

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
)
"""Where NixOS, Debian and Fedora keep the whole bundle."""


def write_certificates(path: Path, certificates: tuple[str, ...]) -> None:
    """Write one bundle of the live system's certificates and these (PEM)."""
    own = next((bundle for bundle in map(Path, _BUNDLES) if bundle.is_file()), None)
    parts = [own.read_text() if own else "", *certificates]
    write_file(path, "\n".join(part.strip() for part in parts if part.strip()).encode() + b"\n", 0o644)
