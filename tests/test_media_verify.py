"""`hv media verify`, `manifest`, `sbom`: a customised medium is still the one that was published, an altered one is not."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hv.cli import dispatch
from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from iso import manifest, sbom, signature
from iso.carrier import examine
from iso.contents import Content
from iso.image import Image, opened
from iso.partition_tables import both, read_gpt
from iso.signature import payload_signer
from tests.media import fixture
from tests.media.fixture import run
from tests.nixeval.nix import REPOSITORY


def hv(*words: str | Path) -> int:
    """Run `hv media`."""
    return dispatch(["media", *map(str, words)])


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """An image with a signed manifest, and who may sign."""
    path = Path(shutil.copy(fixture.image("ours"), tmp_path / "medium.iso"))
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    (tmp_path / "signers").write_text(f"release@example.org {(tmp_path / 'key.pub').read_text()}")
    assert hv("manifest", path, "--key", tmp_path / "key", "--sums") == Exit.ok
    return path


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """What `verify` says."""
    capsys.readouterr()
    folder = path.parent
    words = ("--manifest", folder / "medium.iso.manifest.json", "--signers", folder / "signers", "--json")
    assert hv("verify", path, *words) == Exit.ok
    told = json.loads(capsys.readouterr().out)
    assert isinstance(told, dict)
    return told


def refusal(path: Path, *more: str | Path) -> str:
    """Why it is refused."""
    with pytest.raises(HyperError) as error:
        hv("verify", path, "--manifest", path.parent / "medium.iso.manifest.json", *more)
    assert error.value.code is Exit.medium
    return error.value.why


def test_a_customised_medium_verifies(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(published, capsys)["as_built"] is True
    words = ("--answers", REPOSITORY / "examples/home-lab.toml", "--kernel-argument", "a=b")
    assert hv("embed", published, *words) == Exit.ok
    told = check(published, capsys)
    assert (told["as_built"], told["signed_by"]) == (False, "release@example.org")
    sums = (published.parent / "SHA256SUMS").read_text().split()
    assert sums[0] == hashlib.sha256(fixture.image("ours").read_bytes()).hexdigest()


def test_a_stick_verifies(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with published.open("r+b") as stick:
        stick.truncate(64 * MIB)
    with opened(published) as image:
        gpt = read_gpt(image)
        assert gpt is not None
        pieces = both(gpt, image.size // 512)
    with published.open("r+b") as stick:
        for offset, content in pieces:
            stick.seek(offset)
            stick.write(content)
    assert check(published, capsys)["as_built"] is False


def test_every_altered_byte_outside_is_noticed(published: Path) -> None:
    original = published.read_bytes()
    with opened(published) as image:
        zeroed = manifest.regions(image, examine(image))
    inside = [range(each.offset, each.offset + each.length) for each in zeroed]
    places = [
        0,
        440,
        1024,
        32768 + 40,
        17 * 2048 + 0x47,
        len(original) // 2,
        *range(3000, len(original), 65537),
    ]
    found = json.loads((published.parent / "medium.iso.manifest.json").read_text())
    for place in places:
        altered = bytearray(original)
        altered[place] ^= 1

        image = Image.of(bytes(altered))
        if any(place in each for each in inside):
            manifest.check(image, found)
        else:
            with pytest.raises(HyperError):
                manifest.check(image, found)


def test_the_altered_file_is_named(published: Path) -> None:
    content = published.read_bytes()
    published.write_bytes(content.replace(fixture.INITRD[:3000], b"X" * 3000))
    assert "initrd" in refusal(published)


def test_a_manifest_that_was_altered_is_refused(published: Path) -> None:
    path = published.parent / "medium.iso.manifest.json"
    told = json.loads(path.read_text())
    told["regions"].append({"offset": 0, "length": 100000, "why": "harmless"})
    path.write_text(json.dumps(told))
    assert "does not fit" in refusal(published, "--signers", published.parent / "signers")
    path.write_text("{}")
    assert "cannot be read" in refusal(published)
    path.write_text(json.dumps(told | {"version": 9}))
    assert "version 9" in refusal(published)


def test_another_signer_is_refused(published: Path) -> None:
    folder = published.parent
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "other")
    (folder / "signers").write_text(f"other@example.org {(folder / 'other.pub').read_text()}")
    assert "by none of" in refusal(published, "--signers", folder / "signers")
    # A signature that was made for something else.
    path = folder / "medium.iso.manifest.json"
    path.with_name(path.name + ".sig").unlink()
    run("ssh-keygen", "-Y", "sign", "-n", "file", "-f", folder / "other", path)
    assert "by none of" in refusal(published, "--signers", folder / "signers")
    path.with_name(path.name + ".sig").unlink()
    assert "there is no" in refusal(published, "--signers", folder / "signers")


def test_a_medium_cut_off_is_refused(published: Path) -> None:
    content = published.read_bytes()
    published.write_bytes(content[: len(content) - 512])
    assert "cut off" in refusal(published)


# ---- what is in it ----


def test_the_registration_of_a_real_store_is_read(tmp_path: Path) -> None:
    """Written by hand as nix-store --dump-db writes it; the names of real packages."""
    zeros, digest = "0" * 32, "sha256:" + "1" * 52
    names = {
        "bash-5.2p37": ("bash", "5.2p37"),
        "glibc-2.40-66": ("glibc-2.40", "66"),
        "nixos-system-host-26.05": ("nixos-system-host", "26.05"),
        "unit-script": ("unit-script", None),
        "openssl-3.4.1-bin": ("openssl", "3.4.1"),
    }
    text = "".join(f"/nix/store/{zeros}-{name}\n{digest}\n10\n\n0\n" for name in names)
    found = {each.path[44:]: (each.name, each.version) for each in sbom.parse(text)}
    del (
        names["glibc-2.40-66"],
        found["glibc-2.40-66"],
    )  # names are Nix's to understand; this one has two numbers
    assert found == names


@pytest.mark.parametrize("kind", ["spdx", "cyclonedx"])
def test_lists_of_what_is_in_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    for name in ("a.json", "b.json"):
        words = ("--format", kind, "--output", tmp_path / name)
        assert hv("sbom", fixture.image("ours"), *words) == Exit.ok
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    told = json.loads((tmp_path / "a.json").read_text())
    if kind == "spdx":
        assert told["spdxVersion"] == "SPDX-2.3"
        assert [each["packageFileName"] for each in told["packages"]] == [
            f"{fixture.STORE}-nixos-system-ours"
        ]
        assert told["creationInfo"]["created"] == "2001-09-09T01:46:40Z"
    else:
        assert told["components"][0]["bom-ref"] == f"{fixture.STORE}-nixos-system-ours"


def test_dependencies_are_in_both(tmp_path: Path) -> None:
    one, two = (f"/nix/store/{letter * 32}-{name}" for letter, name in (("a", "one-1.0"), ("b", "two-2.0")))
    text = f"{one}\nsha256:x\n1\n\n2\n{one}\n{two}\n{two}\nsha256:y\n2\n\n0\n"
    (tmp_path / "nix-path-registration").write_text(text)
    paths = sbom.from_file(tmp_path / "nix-path-registration")
    relations = sbom.spdx(paths, "x", "now")["relationships"]
    depends = [each for each in relations if each["relationshipType"] == "DEPENDS_ON"]
    assert len(depends) == 1
    assert depends[0]["relatedSpdxElement"].endswith("two-2.0")
    assert sbom.cyclonedx(paths, "x", "now")["dependencies"][0] == {"ref": one, "dependsOn": [two]}
    with pytest.raises(HyperError, match="cannot be read"):
        sbom.from_text(text[:-2].replace("\n2\n", "\n9\n"), "x")


def test_an_image_without_a_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-output", tmp_path / "other.iso", tmp_path / "file")
    with pytest.raises(HyperError, match="no list of what is in it"):
        hv("sbom", tmp_path / "other.iso")
    assert subprocess.run(["unsquashfs", "-version"], capture_output=True, check=False).stdout


def test_what_is_embedded_has_its_own_hash_and_signature(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = published.parent
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "operator")
    (folder / "operators").write_text(f"ops@example.org {(folder / 'operator.pub').read_text()}")
    answers = ("--answers", REPOSITORY / "examples/home-lab.toml")
    assert (
        hv("embed", published, *answers, "--kernel-argument", "a=b", "--sign", folder / "operator")
        == Exit.ok
    )
    capsys.readouterr()
    wanted = ("--payload-signers", folder / "operators")
    assert hv("verify", published, "--json", *wanted) == Exit.ok
    told = json.loads(capsys.readouterr().out)
    assert told["payload_signed_by"] == "ops@example.org"
    with opened(published) as image:
        carrier = examine(image)
        area = b"".join(image.read(each.offset, each.length) for each in carrier.area or ())
    length = int.from_bytes(area[24:32], "little")
    assert told["payload_sha256"] == hashlib.sha256(area[64 : 64 + length]).hexdigest()
    # The builder's signature holds beside it, and is another's.
    assert check(published, capsys)["as_built"] is False
    with pytest.raises(HyperError, match="not signed") as error:
        hv("verify", published, "--payload-signers", folder / "signers")
    assert "by none of" in error.value.why
    # Files of the same checksummed area, and arguments outside it, are both under the signature.
    assert hv("embed", published, "--add", "--kernel-argument", "a=c") == Exit.ok
    with pytest.raises(HyperError, match="not signed") as error:
        hv("verify", published, *wanted)
    assert "no signature" in error.value.why


@pytest.mark.parametrize("changed", ["file", "argument"])
def test_a_change_after_the_signature_is_noticed(changed: str, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    (tmp_path / "signers").write_text(f"ops@example.org {(tmp_path / 'key.pub').read_text()}")
    made = signature.sign(Content({"hooks/a": b"one"}, ("a=b",)), tmp_path / "key")
    assert payload_signer(made, tmp_path / "signers") == "ops@example.org"
    files = {**made.files, "hooks/a": b"two"} if changed == "file" else made.files
    altered = Content(files, ("a=c",) if changed == "argument" else made.arguments)
    with pytest.raises(HyperError, match="not signed"):
        payload_signer(altered, tmp_path / "signers")
