"""The support bundle: what is in it, and that no secret is, wherever it was planted and however it was spelt."""

import io
import json
import subprocess
import sys
import tarfile
from base64 import b64encode
from pathlib import Path

import pytest

from installer.execute.live import LiveSystem
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.probe.root import LiveRoot
from installer.support import make_bundle
from installer.support.bundle import Collector
from installer.support.named import secret_files
from installer.support.scrub import Scrub
from tests.plan_cases import HASH, answers, machine

PASSPHRASE = 'correct horse "battery" staple'
WEBHOOK = "c2VjcmV0LWtleS1vZi10aGUtd2ViaG9vaw"
PASSWORD = "kwxm-3fzd-9apq"
MULTILINE = "first-line-of-secret\nsecond-line-of-secret"
NIX_KEY = "cache.example.org-1:" + b64encode(bytes(range(64))).decode()
PUBLIC_NIX_KEY = "cache.example.org-1:" + b64encode(bytes(range(32))).decode()
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nAAAAQyNTUxOQ\n-----END OPENSSH PRIVATE KEY-----"
UNKNOWN = (
    # Nobody told the bundle of these: it knows them by their looks.
    ("hash " + HASH, HASH),
    (PRIVATE_KEY, "b3BlbnNzaC1rZXktdjEAAAAA"),
    (PRIVATE_KEY.replace("-----END OPENSSH PRIVATE KEY-----", ""), "AAAAQyNTUxOQ"),
    (NIX_KEY, NIX_KEY.partition(":")[2]),
    ("age: AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQ", "AGE-SECRET-KEY-1QQPQ"),
    ("proxy http://anna:hunter2@proxy.example.org:3128 is used", "hunter2"),
    ("GET https://h/answers?key=abcdefgh failed", "abcdefgh"),
    ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
    ("token=s3cr3t-value next", "s3cr3t-value"),
    ('"wifi_psk": "my wireless", "x": 1', "my wireless"),
    ("PASSWORD='two words'", "two words"),
    ("live.nixos.passwd=typed-at-boot quiet", "typed-at-boot"),
    ("ghp_0123456789abcdefghijABCDEFGHIJ", "ghp_0123456789"),
)


def spellings(secret: str) -> set[str]:
    """The ways in which text may hold a secret."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        b64encode(secret.encode()).decode(),
        b64encode(secret.encode() + b"\n").decode(),
        secret.encode().hex(),
    }


def planted() -> str:
    """One text with everything that must not come out."""
    known = [each for secret in (PASSPHRASE, WEBHOOK, PASSWORD) for each in sorted(spellings(secret))]
    return "\n".join([*known, *MULTILINE.splitlines(), *(text for text, _ in UNKNOWN)])


def forbidden() -> set[str]:
    known = {each for secret in (PASSPHRASE, WEBHOOK, PASSWORD) for each in spellings(secret)}
    return known | set(MULTILINE.splitlines()) | {secret for _, secret in UNKNOWN}


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """A live system with secrets in every file, every program's output, and every name."""
    live = LiveSystem(runtime=tmp_path / "run")
    (live.runtime / "earlier-1").mkdir(parents=True)
    dirt = planted()
    for name in ("install.log", "plan.txt", "earlier-1/install.log"):
        (live.runtime / name).write_text(f"begin\n{dirt}\nend\n")
    event = {"version": 1, "what": "failed", "step": "luks-open", "details": dirt.splitlines()}
    (live.runtime / "journal.jsonl").write_text(json.dumps(event) + "\n")
    (live.runtime / "plan.json").write_text(
        json.dumps({"steps": [{"note": dirt}], "passphrase": PASSPHRASE})
    )
    (live.runtime / "facts.json").write_text(machine().model_dump_json())
    headers = live.runtime / "headers/main"
    headers.mkdir(parents=True)
    (headers / "luks.img").write_text(dirt)
    for path in (
        "etc/os-release",
        "proc/cmdline",
        "etc/hyper-nixos/medium.json",
        "var/log/hyper-nixos/install.log",
    ):
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_text(dirt)
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "dirt").write_text(dirt)
    for name in ("uname", "dmesg", "journalctl", "systemctl", "lsblk", "ip", "efibootmgr", "hv"):
        (programs / name).write_text(
            f"#!/bin/sh\ncat {tmp_path / 'dirt'}; cat {tmp_path / 'dirt'} >&2; exit 3\n"
        )
        (programs / name).chmod(0o755)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "disk.passphrase").write_text(PASSPHRASE + "\n")
    (secrets / "webhook").write_text(WEBHOOK)
    (secrets / "lines").write_text(MULTILINE)
    (tmp_path / "password").write_text(PASSWORD)
    runner = Runner(Log(tmp_path / "log", Redactor()), f"{programs}:/usr/bin:/bin")
    return Collector(runner, live, LiveRoot(str(tmp_path / "root")), (secrets, tmp_path / "password"))


def members(path: Path) -> dict[str, str]:
    unpacked = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read().decode()
        return found


def test_no_secret_comes_out(collector: Collector, tmp_path: Path) -> None:
    bundle = make_bundle(collector, tmp_path / "out.tar.zst", note=planted())
    found = members(bundle.path)
    assert len(found) == len(bundle.members) > 15
    leaks = [(name, secret) for name, text in found.items() for secret in forbidden() if secret in text]
    assert leaks == []
    assert bundle.path.stat().st_mode & 0o777 == 0o600


class Untouched:
    """Scrubs nothing."""

    def document(self, content: bytes) -> bytes:
        return content


def test_test_would_notice(collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("installer.support.bundle.Scrub", lambda _secrets: Untouched())
    found = members(make_bundle(collector, tmp_path / "out.tar.zst").path)
    missing = [secret for secret in forbidden() if secret not in "".join(found.values())]
    assert missing == []


def test_what_helps_is_in_it(collector: Collector, tmp_path: Path) -> None:
    found = members(make_bundle(collector, tmp_path / "out.tar.zst", note="the step `x` failed").path)
    names = {name.removeprefix("support-bundle/") for name in found}
    assert names >= {
        *(
            "README.txt",
            "install/install.log",
            "install/journal.jsonl",
            "install/plan.json",
            "install/facts.json",
        ),
        *(
            "install/earlier-1/install.log",
            "host/install.log",
            "system/kernel-log.txt",
            "system/proc/cmdline",
        ),
    }
    assert not any("headers" in name for name in names)
    readme = found["support-bundle/README.txt"]
    assert "the step `x` failed" in readme
    assert "Hyper-NixOS" in readme
    assert found["support-bundle/install/install.log"].startswith("begin\n")
    assert found["support-bundle/install/install.log"].endswith("\nend\n")
    assert "exit status 3" in found["support-bundle/system/kernel-log.txt"]


def test_json_stays_json_and_facts_stay_facts(collector: Collector, tmp_path: Path) -> None:
    found = members(make_bundle(collector, tmp_path / "out.tar.zst").path)
    json.loads(found["support-bundle/install/plan.json"])
    json.loads(found["support-bundle/install/journal.jsonl"])
    assert json.loads(found["support-bundle/install/facts.json"]) == machine().model_dump(mode="json")


@pytest.mark.parametrize(
    "text",
    [
        "passphrase = { file = /run/secrets/disk.passphrase }",
        '"secret": {"file": "/run/x"}',
        "step password-hash:anna was done",
        PUBLIC_NIX_KEY,
        "https://cache.example.org/nix-cache-info",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDWOfxmK02LtqdIJL+wWvvsQA55tVpIzEYwg2MJalaAi ops",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Scrub([])(text) == text


def test_short_values_do_not_blacken_everything() -> None:
    assert Scrub([b"a\n", b"", b"12"])("a banana costs 12") == "a banana costs 12"


def test_files_that_answers_name() -> None:
    given = answers(
        webhooks=[{"url": "https://h/", "secret": {"file": "/run/secrets/hook"}}],
        users=[
            {"name": "anna", "admin": True, "password_hash": HASH},
            {"name": "ben", "password_hash_file": {"file": "/run/secrets/ben"}},
        ],
    )
    assert set(secret_files(given)) == {Path("/run/secrets/hook"), Path("/run/secrets/ben")}


@pytest.mark.root
def test_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hv", "support-bundle", "--output", tmp_path / "b.tar.zst"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "support-bundle/README.txt" in members(tmp_path / "b.tar.zst")
    assert Path("/dev/null").is_char_device()
    assert Path("/dev/null").stat().st_mode & 0o777 == 0o666


def test_no_room(collector: Collector) -> None:
    from installer.errors import HyperError

    with pytest.raises(HyperError, match="cannot be written"):
        make_bundle(collector, Path("/proc/bundle.tar.zst"))
