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
    script = programs / "nix"
    script.write_text(
        "#!/bin/sh\n"
        f"export NIX_CONFIG={shlex.quote(STORE_CONFIGURATION + 'sandbox-paths =')} NIX_REMOTE={tmp_path / 'store'} XDG_CACHE_HOME={tmp_path}\n"
        f'exec {shlex.join(found.command("nix"))} "$@"\n'
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
def test_a_build_that_fails_says_what_nix_said(flake: Path) -> None:
    with pytest.raises(HyperError, match="was not built") as error:
        dispatch(["media", "build", "raw", "--arch", "x86_64", "--flake", f"path:{flake}", "--offline"])
    assert "hash mismatch" in error.value.why


def test_without_nix_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HyperError, match="there is none here") as error:
        dispatch(["media", "build"])
    assert error.value.code is Exit.unsuitable
    assert "hv media embed" in error.value.remedy


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
