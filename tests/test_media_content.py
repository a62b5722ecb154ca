"""`hv media show`, `embed`, `extract`, `diff`, `verify`, `reset`: on every kind of carrier, to the byte."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hv.cli import dispatch
from installer import embed
from installer.errors import Exit, HyperError
from iso import login
from iso.carrier import examine
from iso.embedding import embedded
from iso.image import opened
from tests.media import fixture
from tests.media.fixture import run
from tests.nixeval.nix import REPOSITORY

ANSWERS = REPOSITORY / "examples/home-lab.toml"


def hv(*words: str | Path) -> int:
    """Run `hv media`."""
    return dispatch(["media", *map(str, words)])


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A public key."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f", tmp_path / "id")
    return tmp_path / "id.pub"


def copy(name: str, folder: Path) -> Path:
    """An image that may be changed."""
    return Path(shutil.copy(fixture.image(name), folder / "medium.iso"))


def esp_disk(folder: Path) -> Path:
    """A raw disk image whose EFI system partition has the area, and an entry of systemd-boot."""
    path, esp = folder / "disk.raw", folder / "esp"
    with path.open("wb") as made:
        made.truncate(36 << 20)
    run("sgdisk", "-n", "1:2048:+32M", "-t", "1:ef00", path)
    with esp.open("wb") as made:
        made.truncate(32 << 20)
    run("mkfs.vfat", "--invariant", esp)
    (folder / "area").write_bytes(embed.pack({}))
    (folder / "entry").write_text(f"title NixOS\nlinux /k\noptions init=/x {embed.kernel_argument()}\n")
    run("mmd", "-i", esp, "::/hyper-nixos", "::/loader", "::/loader/entries")
    run("mcopy", "-i", esp, folder / "area", f"::/{embed.PATH}")
    run("mcopy", "-i", esp, folder / "entry", "::/loader/entries/nixos-generation-1.conf")
    with path.open("r+b") as made:
        made.seek(2048 * 512)
        made.write(esp.read_bytes())
    return path


def initrd(folder: Path) -> Path:
    """An initial RAM disk of an odd length."""
    path = folder / "initrd"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"compressed" * 101)
    return path


@pytest.mark.parametrize("kind", ["ours", "ours-aarch64", "disk", "initrd"])
def test_embedded_shown_extracted_and_reset(
    kind: str, tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    makers = {"disk": esp_disk, "initrd": initrd}
    path = makers[kind](tmp_path) if kind in makers else copy(kind, tmp_path)
    before = digest(path)
    arguments = (
        () if kind == "initrd" else ("--kernel-argument", "console=ttyS1", "--kernel-argument", "a.b=c")
    )
    (tmp_path / "secret").write_text("correct horse\n")
    (tmp_path / "office.nmconnection").write_text("[connection]\nid=office\n")
    (tmp_path / "ready").write_text("#!/bin/sh\n")
    words: tuple[str | Path, ...] = (
        "--answers",
        ANSWERS,
        "--key",
        key,
        "--secret",
        f"disk={tmp_path / 'secret'}",
    )
    words += ("--network", tmp_path / "office.nmconnection", "--hook", tmp_path / "ready")
    # To a copy, to a stream, and in place: the same bytes, twice.
    assert hv("embed", path, *words, *arguments, "--output", tmp_path / "copy") == Exit.ok
    assert digest(path) == before
    streamed = subprocess.run(
        [sys.executable, "-m", "hv", "media", "embed", path, *words, *arguments, "--output", "-"],
        capture_output=True,
        check=True,
        cwd=REPOSITORY,
    ).stdout
    for _ in range(2):
        assert hv("embed", path, *words, *arguments) == Exit.ok
        assert digest(path) == digest(tmp_path / "copy") == hashlib.sha256(streamed).hexdigest()
    capsys.readouterr()
    assert hv("show", path, "--json", "--answers") == Exit.ok
    told = json.loads(capsys.readouterr().out)
    assert [file["name"] for file in told["files"]] == [
        "answers.toml",
        "authorized_keys",
        "hooks/ready",
        "network/office.nmconnection",
        "secrets/disk",
    ]
    assert told["kernel_arguments"] == list(arguments[1::2])
    if kind.startswith("ours"):
        assert len(told["boot_configurations"]) == (9 if kind == "ours" else 6)
    assert "hostname" in told["answers"]
    # What the live system reads is what was put in.
    with opened(path) as image:
        files = embedded(image, examine(image)).files
    root = tmp_path / "root"
    login.install(root, files)
    assert (root / login.FOLDER / "secrets/disk").read_text() == "correct horse"
    assert (root / login.FOLDER / "hooks/ready").stat().st_mode & 0o777 == 0o700
    assert (root / login.CONNECTIONS / "office.nmconnection").stat().st_mode & 0o777 == 0o600
    # Out again, and in again from the folder.
    assert hv("extract", path, tmp_path / "out") == Exit.ok
    assert (tmp_path / "out/answers.toml").read_bytes() == ANSWERS.read_bytes()
    assert hv("diff", path, tmp_path / "copy") == Exit.ok
    assert hv("diff", path, tmp_path / "out") == (Exit.failed if arguments else Exit.ok)
    assert hv("verify", path) == Exit.ok
    assert hv("embed", path, "--folder", tmp_path / "out", *arguments) == Exit.ok
    assert digest(path) == digest(tmp_path / "copy")
    assert hv("reset", path) == Exit.ok
    assert digest(path) == before


def test_all_configurations_get_the_arguments(tmp_path: Path) -> None:
    path = copy("ours", tmp_path)
    assert hv("embed", path, "--kernel-argument", "console=ttyS9") == Exit.ok
    for file in ("/EFI/BOOT/grub.cfg", "/isolinux/isolinux.cfg"):
        run("xorriso", "-osirrox", "on", "-indev", path, "-extract", file, tmp_path / "cfg")
        assert (tmp_path / "cfg").read_text().count("# console=ttyS9 ") == 3
        (tmp_path / "cfg").unlink()
    run("xorriso", "-osirrox", "on", "-indev", path, "-extract", "/boot/efi.img", tmp_path / "efi.img")
    assert run("mtype", "-i", tmp_path / "efi.img", "::/EFI/BOOT/grub.cfg").count("# console=ttyS9 ") == 3
    run("fsck.vfat", "-n", tmp_path / "efi.img")


def test_more_is_added_or_replaced(tmp_path: Path, key: Path) -> None:
    path = copy("ours", tmp_path)
    assert hv("embed", path, "--key", key, "--kernel-argument", "x=1") == Exit.ok
    assert hv("embed", path, "--answers", ANSWERS, "--add") == Exit.ok
    with opened(path) as image:
        content = embedded(image, examine(image))
    assert (set(content.files), content.arguments) == ({"answers.toml", "authorized_keys"}, ("x=1",))
    assert hv("embed", path, "--answers", ANSWERS) == Exit.ok
    with opened(path) as image:
        content = embedded(image, examine(image))
    assert (set(content.files), content.arguments) == ({"answers.toml"}, ())


def test_shown_answers_have_no_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy("ours", tmp_path)
    text = ANSWERS.read_text()
    hashed = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
    text = text.replace(
        'password_hash_file = { file = "/run/secrets/anna.hash" }', f'password_hash = "{hashed}"'
    )
    assert hashed in text
    (tmp_path / "answers.toml").write_text(text)
    (tmp_path / "secret").write_text("s3cret-value")
    assert (
        hv("embed", path, "--answers", tmp_path / "answers.toml", "--secret", f"a={tmp_path / 'secret'}")
        == Exit.ok
    )
    assert hv("show", path, "--answers") == Exit.ok
    assert hv("show", path, "--answers", "--json") == Exit.ok
    shown = capsys.readouterr().out
    assert "hostname" in shown
    assert hashed not in shown
    assert "s3cret-value" not in shown


def test_what_answers_refer_to_and_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy("ours", tmp_path)
    text = ANSWERS.read_text().replace("/run/secrets/anna.hash", "/run/hyper-nixos/live/secrets/anna.hash")
    (tmp_path / "answers.toml").write_text(text)
    assert hv("embed", path, "--answers", tmp_path / "answers.toml") == Exit.ok
    assert "name secrets/anna.hash, which is not in the medium" in capsys.readouterr().out
    assert hv("embed", path, "--add", "--secret", f"anna.hash={tmp_path / 'answers.toml'}") == Exit.ok
    assert "not in the medium" not in capsys.readouterr().out


def refused(*words: str | Path) -> HyperError:
    """The error that a command ends with."""
    with pytest.raises(HyperError) as error:
        hv(*words)
    return error.value


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: b"no image at all" * 1000, "neither an ISO image"),
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data[:40000], "damaged|ends at byte|cut off|volume descriptor"),
        (lambda data: data[:32769] + b"XXXXX" + data[32774:], "no place for answers"),
        (lambda data: data.replace(b"HYPER-NIXOS-EMBD", b"HYPER-NIXOS-BROK"), "does not begin as one"),
        (lambda data: b"QFI\xfb" + bytes(1000), "only QEMU's tools"),
        (lambda data: b"", "neither an ISO image|ends at byte 0"),
    ],
)
def test_what_is_no_medium_is_refused_and_untouched(
    spoil: Callable[[bytes], bytes], why: str, tmp_path: Path, key: Path
) -> None:
    path = tmp_path / "medium"
    path.write_bytes(spoil(fixture.image("ours").read_bytes()))
    before = digest(path)
    error = (
        refused("verify", path) if why == "does not begin as one" else refused("embed", path, "--key", key)
    )
    assert error.code in (Exit.medium, Exit.record)
    assert re.search(why, f"{error.what} {error.why}"), error
    assert digest(path) == before


def test_a_stock_image_has_no_place(tmp_path: Path, key: Path) -> None:
    path = copy("25.05", tmp_path)
    before = digest(path)
    error = refused("embed", path, "--key", key)
    assert "no place for answers" in error.what
    assert "adopt" in error.remedy
    error = refused("embed", path, "--kernel-argument", "a=b")
    assert "no place for kernel arguments" in error.what
    assert digest(path) == before


def test_one_byte_too_much_is_refused_and_the_largest_fits(tmp_path: Path) -> None:
    path = copy("ours", tmp_path)
    before = digest(path)
    # A tar archive has records of 10240 bytes: header, content, two blocks at the end.
    largest = embed.ROOM // 10240 * 10240 - 512 - 1024
    (tmp_path / "secret").write_bytes(b"x" * (largest + 1))
    error = refused("embed", path, "--secret", f"a={tmp_path / 'secret'}")
    assert "room for" in error.why
    assert digest(path) == before
    (tmp_path / "secret").write_bytes(b"x" * largest)
    assert hv("embed", path, "--secret", f"a={tmp_path / 'secret'}") == Exit.ok
    assert hv("reset", path) == Exit.ok
    assert digest(path) == before


def test_arguments_fit_to_the_last_letter(tmp_path: Path) -> None:
    path = copy("ours", tmp_path)
    before = digest(path)
    room = embed.ARGUMENT_LENGTH - len(embed.ARGUMENT) - 1
    assert "room" in refused("embed", path, "--kernel-argument", "a" * (room + 1)).why
    assert digest(path) == before
    assert hv("embed", path, "--kernel-argument", "a" * room) == Exit.ok
    with opened(path) as image:
        assert embedded(image, examine(image)).arguments == ("a" * room,)


@pytest.mark.parametrize("argument", ["a b", "a;b", "#b", 'a"b', "a$b", "ä", ""])
def test_arguments_that_boot_loaders_would_change_are_refused(argument: str, tmp_path: Path) -> None:
    assert (
        "meaning of their own" in refused("embed", copy("ours", tmp_path), "--kernel-argument", argument).why
    )


def test_wrong_content_is_refused(tmp_path: Path, key: Path) -> None:
    path = copy("ours", tmp_path)
    before = digest(path)
    (tmp_path / "answers.toml").write_text("hostname = 3\n")
    assert refused("embed", path, "--answers", tmp_path / "answers.toml").code is Exit.answers
    (tmp_path / "text").write_text("no key\n")
    assert "authorized_keys" in refused("embed", path, "--key", tmp_path / "text").why
    assert "PEM" in refused("embed", path, "--ca", tmp_path / "text").why
    assert "NAME=SECRET" in refused("embed", path, "--secret", "a").why
    assert (
        "there is a place for" in refused("embed", path, "--hook", tmp_path / "text", "--network", key).why
    )
    assert "nothing was named" in refused("embed", path).what
    assert digest(path) == before


def test_a_target_that_cannot_be_written_leaves_nothing(tmp_path: Path, key: Path) -> None:
    path = copy("ours", tmp_path)
    error = refused("embed", path, "--key", key, "--output", tmp_path / "missing/x.iso")
    assert "cannot be written" in error.what
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


# ---- secrets that are wrapped ----


def test_secrets_for_an_identity_are_opened_by_age_and_by_the_live_system(tmp_path: Path) -> None:
    path = copy("ours", tmp_path)
    run("age-keygen", "-o", tmp_path / "identity")
    recipient = run("age-keygen", "-y", tmp_path / "identity").strip()
    (tmp_path / "secret").write_text("correct horse")
    assert hv("embed", path, "--secret", f"disk={tmp_path / 'secret'}", "--recipient", recipient) == Exit.ok
    assert b"correct horse" not in path.read_bytes()
    assert hv("extract", path, tmp_path / "out") == Exit.ok
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["secrets.age"]
    run("age", "-d", "-i", tmp_path / "identity", "-o", tmp_path / "opened", tmp_path / "out/secrets.age")
    assert embed.files_in((tmp_path / "opened").read_bytes()) == {"secrets/disk": b"correct horse"}
    root = tmp_path / "root"
    with opened(path) as image:
        login.install(root, embedded(image, examine(image)).files)
    run("age-keygen", "-o", tmp_path / "other")
    with pytest.raises(HyperError, match="cannot be opened"):
        login.unlock(root, tmp_path / "other")
    with pytest.raises(HyperError, match="somebody's identity"):
        login.unlock(root, None)
    assert login.unlock(root, tmp_path / "identity") == ["taken from the medium: secrets/disk"]
    assert (root / login.FOLDER / "secrets/disk").read_bytes() == b"correct horse"
    assert not (root / login.FOLDER / embed.WRAPPED).exists()
    with pytest.raises(HyperError, match="no locked secrets"):
        login.unlock(root, None)


def test_secrets_with_a_passphrase(tmp_path: Path) -> None:
    path = copy("ours", tmp_path)
    (tmp_path / "secret").write_text("correct horse")
    (tmp_path / "phrase").write_text("open sesame\n")
    words = ("--secret", f"disk={tmp_path / 'secret'}", "--passphrase", tmp_path / "phrase")
    assert hv("embed", path, *words) == Exit.ok
    root = tmp_path / "root"
    with opened(path) as image:
        login.install(root, embedded(image, examine(image)).files)
    with pytest.raises(HyperError, match="cannot be opened") as error:
        login.unlock(root, None, lambda _: "wrong")
    assert "incorrect passphrase" in error.value.why
    assert login.unlock(root, None, lambda _: "open sesame")
    assert (root / login.FOLDER / "secrets/disk").read_bytes() == b"correct horse"


def test_what_cannot_be_wrapped(tmp_path: Path, key: Path) -> None:
    path = copy("ours", tmp_path)
    (tmp_path / "phrase").write_text("\n")
    assert (
        "nothing to wrap" in refused("embed", path, "--key", key, "--passphrase", tmp_path / "phrase").what
    )
    words = ("--secret", f"a={key}")
    assert "empty" in refused("embed", path, *words, "--passphrase", tmp_path / "phrase").what
    assert "malformed recipient" in refused("embed", path, *words, "--recipient", "age1nonsense").why
    both = ("--recipient", "age1x", "--passphrase", tmp_path / "phrase")
    assert "not both" in refused("embed", path, *words, *both).why
