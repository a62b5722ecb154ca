"""Files on the target: whole or not there, with the right bits."""

import hashlib
import os
from pathlib import Path

import pytest

from installer.errors import HyperError
from installer.execute.certificates import write_certificates
from installer.execute.configuration import check_configuration, write_configuration
from installer.execute.evidence import Wrong
from installer.execute.files import copy_file, make_directory, write_file
from installer.render import RenderedHost

MIB = 1 << 20


def test_image_is_copied_with_its_holes(tmp_path: Path) -> None:
    source, path = tmp_path / "image", tmp_path / "pool/image"
    with source.open("wb") as file:
        file.write(os.urandom(MIB + 5))
        file.seek(40 * MIB)
        file.write(b"end")
        file.truncate(50 * MIB + 7)
    content = source.read_bytes()
    shares: list[float] = []
    digest = hashlib.sha256(content).hexdigest()
    copy_file(source, path, 0o600, digest, lambda share, _: shares.append(share))
    assert path.read_bytes() == content
    assert path.stat().st_blocks * 512 < 10 * MIB
    assert path.stat().st_mode & 0o7777 == 0o600
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_other_image_than_promised_is_not_left_there(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"other")
    with pytest.raises(HyperError, match="not the file that was meant"):
        copy_file(tmp_path / "image", tmp_path / "pool/image", 0o600, "0" * 64, lambda *_: None)
    assert not list((tmp_path / "pool").iterdir())


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a/b"
    write_file(path, b"first", 0o644)
    write_file(path, b"second", 0o600)
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o7777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["b"]


def test_folder_is_closed_and_its_parents_are_open(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_directory(tmp_path / "var/lib/secrets", 0o700)
    finally:
        os.umask(before)
    assert (tmp_path / "var/lib").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "var/lib/secrets").stat().st_mode & 0o7777 == 0o700


def test_configuration_reads_back_or_not(tmp_path: Path) -> None:
    rendered = RenderedHost(files={"flake.nix": "{ }\n", "users.nix": "ü"}, secrets=())
    write_configuration(tmp_path / "etc", rendered)
    assert check_configuration(tmp_path / "etc", rendered)
    (tmp_path / "etc/users.nix").write_text("u")
    with pytest.raises(Wrong, match="users"):
        check_configuration(tmp_path / "etc", rendered)


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/passwd"])
def test_configuration_never_leaves_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(HyperError, match="no file of the configuration"):
        write_configuration(tmp_path / "etc", RenderedHost(files={name: "x"}, secrets=()))
    assert not (tmp_path / "outside").exists()


def test_certificates_stand_beside_the_live_systems_own(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    write_certificates(tmp_path / "bundle.crt", (pem,))
    text = (tmp_path / "bundle.crt").read_text()
    assert text.endswith(pem)
    own = Path("/etc/ssl/certs/ca-certificates.crt")
    if own.is_file():
        assert own.read_text().strip() in text
