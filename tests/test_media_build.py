"""`hv media build`: a real Nix builds a small flake without a network, and its progress is followed."""

import hashlib
import json
import shlex
from pathlib import Path

import pytest

from hv.cli import dispatch
from installer.errors import Exit, HyperError
from iso import nix_build
from tests.execute.rig import STORE_CONFIGURATION
from tests.media import fixture
from tests.nixeval import nix as nixeval

FLAKE = """{
  outputs = _:
    let
      # Nix's own builder: needs neither a shell nor a sandbox.
      fetched = name: hash: derivation {
        inherit name;
        system = "builtin"; builder = "builtin:fetchurl"; url = "file://${./ours.iso}";
        outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hash; preferLocalBuild = true;
      };
    in
    {
      packages.x86_64-linux = {
        iso = fetched "ours.iso" "HASH";
        raw = fetched "other.iso" "0000000000000000000000000000000000000000000000000000000000000000";
      };
      legacyPackages.x86_64-linux.media = {
        release.iso = fetched "smallest.iso" "HASH";
        default.iso-with-standard = fetched "standard.iso" "HASH";
        dev.netboot = fetched "quick.iso" "HASH";
      };
    };
}
"""


@pytest.fixture
def flake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flake, and a Nix with a store of its own on PATH."""
    folder, programs = tmp_path / "flake", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    image = fixture.image("ours")
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    (folder / "flake.nix").write_text(FLAKE.replace("HASH", digest))
    (folder / "ours.iso").write_bytes(image.read_bytes())
    found = nixeval.require()
    settings = STORE_CONFIGURATION + f"sandbox-paths =\nbuild-hook = {programs}/nix __build-remote"
    for name in ("nix", "nix-store"):
        script = programs / name
        script.write_text(
            "#!/bin/sh\n"
            f"export NIX_CONFIG={shlex.quote(settings)} NIX_REMOTE={tmp_path / 'store'} XDG_CACHE_HOME={tmp_path}\n"
            f'exec {shlex.join(found.command(name))} "$@"\n'
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return folder


@pytest.mark.nix
@pytest.mark.root
def test_built_with_everything_that_is_said_of_it(
    flake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its store is a folder: what Nix calls /nix/store lies below it.
    real = nix_build.build

    def build(*words: object, **more: object) -> Path:
        path = real(*words, **more)  # type: ignore[arg-type]
        return Path(f"{tmp_path}/store{path}")

    monkeypatch.setattr(nix_build, "build", build)
    target = tmp_path / "medium.iso"
    words = [
        "media",
        "build",
        "iso",
        "--arch",
        "x86_64",
        "--flake",
        f"path:{flake}",
        "--output",
        str(target),
        "--offline",
    ]
    assert dispatch(words) == Exit.ok
    told = capsys.readouterr()
    assert "1 of 1 built" in told.err
    assert target.read_bytes() == fixture.image("ours").read_bytes()
    made = json.loads((tmp_path / "medium.iso.manifest.json").read_text())
    assert made["built"]["installable"].endswith("#packages.x86_64-linux.iso")
    assert (tmp_path / "SHA256SUMS").read_text().split() == [made["sha256"], "medium.iso"]
    assert json.loads((tmp_path / "medium.iso.spdx.json").read_text())["packages"]
    assert json.loads((tmp_path / "medium.iso.cdx.json").read_text())["components"]
    words = ["media", "verify", str(target), "--manifest", str(tmp_path / "medium.iso.manifest.json")]
    assert dispatch(words) == Exit.ok


@pytest.mark.nix
@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["iso", "--compression", "release"], "smallest.iso"),
        (["iso", "--tier", "standard"], "standard.iso"),
        (["netboot", "--compression", "dev"], "quick.iso"),
    ],
    ids=" ".join,
)
def test_compression_and_tier_name_the_medium(
    flake: Path, capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    words = ["media", "build", *words, "--arch", "x86_64", "--flake", f"path:{flake}", "--offline"]
    assert dispatch(words) == Exit.ok
    assert capsys.readouterr().out.strip().endswith(f"-{name}")


@pytest.mark.nix
@pytest.mark.root
def test_another_machine_builds(
    flake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The other machine is a store of its own behind Nix's own protocol; Nix takes `localhost` without SSH."""
    there = tmp_path / "there"
    monkeypatch.setenv("NIX_SSHOPTS", "")
    words = ["media", "build", "iso", "--arch", "x86_64", "--flake", f"path:{flake}", "--offline"]
    # One that builds only what asks for KVM; nothing is built here in its place.
    with pytest.raises(HyperError) as error:
        dispatch([*words, f"--builder=ssh://localhost?remote-store={there} x86_64-linux - 1 1 - kvm"])
    assert "Failed to find a machine for remote build" in error.value.why
    built = f"--builder=ssh://localhost?remote-store={there} x86_64-linux"
    assert dispatch([*words, built]) == Exit.ok
    told = capfd.readouterr()
    path = told.out.strip()
    assert "1 of 1 built" in told.err
    content = fixture.image("ours").read_bytes()
    assert Path(f"{there}{path}").read_bytes() == content
    assert Path(f"{tmp_path}/store{path}").read_bytes() == content


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["raw", "--compression", "dev"], "--compression dev does not go with raw"),
        (["qcow2", "--compression", "release"], "--compression release does not go with qcow2"),
        (["netboot", "--tier", "minimal"], "--tier minimal does not go with netboot"),
        (["iso", "--flake", "path:.#iso"], "--flake path:.#iso cannot be used"),
        (["iso", "--builder", " "], "--builder names no machine"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_does_not_go_together_is_refused_before_nix_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], what: str
) -> None:
    trap = tmp_path / "nix"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(HyperError) as error:
        dispatch(["media", "build", *words])
    assert (error.value.what, error.value.code) == (what, Exit.usage)
    assert not (tmp_path / "started").exists()


def test_nix_gets_words_never_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trap = tmp_path / "nix"
    trap.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{tmp_path}/said\nexit 1\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    words = [
        "--builder",
        "ssh-ng://one x86_64-linux",
        "--builder",
        "$(touch x); ssh://two",
        "--flake",
        "a b",
    ]
    with pytest.raises(HyperError):
        dispatch(["media", "build", "--arch", "aarch64", *words])
    said = (tmp_path / "said").read_text().splitlines()
    assert "a b#packages.aarch64-linux.iso" in said
    assert said[said.index("--builders") + 1] == "ssh-ng://one x86_64-linux ; $(touch x); ssh://two"
    assert said[said.index("--max-jobs") + 1] == "0"


@pytest.mark.nix
@pytest.mark.root
def test_a_build_that_fails_says_what_nix_said(flake: Path) -> None:
    with pytest.raises(HyperError, match="was not built") as error:
        dispatch(["media", "build", "raw", "--arch", "x86_64", "--flake", f"path:{flake}", "--offline"])
    assert "hash mismatch" in error.value.why


def test_without_nix_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HyperError, match="there is none here") as error:
        dispatch(["media", "build", "--arch", "x86_64", "--tier", "minimal"])
    assert error.value.code is Exit.unsuitable
    assert "hv media embed" in error.value.remedy
    assert "nix build '.#legacyPackages.x86_64-linux.media.default.iso-with-minimal'" in error.value.remedy


def test_progress_is_in_nix_own_numbers() -> None:
    told: list[str] = []
    follower = nix_build.Follower(told.append)
    events = [
        {"action": "start", "id": 1, "type": 104},
        {"action": "start", "id": 2, "type": 101},
        {"action": "start", "id": 3, "type": 105, "fields": [f"/nix/store/{'0' * 32}-linux-6.12.drv"]},
        {"action": "result", "id": 1, "type": 105, "fields": [1, 3, 1, 0]},
        {"action": "result", "id": 2, "type": 105, "fields": [1 << 20, 4 << 20, 0, 0]},
        {"action": "msg", "level": 0, "msg": "error: no"},
    ]
    for event in events:
        follower.line("@nix " + json.dumps(event) + "\n")
    follower.line("@nix no json\n")
    follower.line("plain\n")
    assert told[-1] == "1 of 3 built, 1 MiB of 4 MiB, linux-6.12"
    assert follower.last == ["error: no", "plain"]


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "bzImage").touch()
    with pytest.raises(HyperError, match="no image in"):
        nix_build.image_in(tmp_path)
