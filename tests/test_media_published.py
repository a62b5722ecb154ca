"""`hv media build --published`: from a real server, by manifests that were signed here; nobody publishes any yet."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hv.cli import dispatch
from installer.errors import Exit, HyperError
from tests.media import fixture
from tests.web_servers import Answer, Request, Server, serving


@dataclass
class Site:
    """A publisher: files by their path, and the server that hands them out."""

    files: dict[str, bytes]
    server: Server
    folder: Path

    def publish(self, facts: dict[str, object] | None = None, key: str = "release") -> None:
        """The image with manifest and signature."""
        image = self.folder / "hyper-nixos.iso"
        image.write_bytes(fixture.image("ours").read_bytes())
        manifest = self.folder / "hyper-nixos.iso.manifest.json"
        words = ["media", "manifest", str(image)]
        assert dispatch(words) == Exit.ok
        if facts:
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | facts))
        sign = ["ssh-keygen", "-q", "-Y", "sign", "-n", "hyper-nixos-medium", "-f", str(self.folder / key)]
        Path(f"{manifest}.sig").unlink(missing_ok=True)
        subprocess.run([*sign, str(manifest)], check=True, capture_output=True)
        for path in (image, manifest, Path(f"{manifest}.sig")):
            self.files[f"/{path.name}"] = path.read_bytes()

    def build(self, *words: str) -> int:
        """Run the command."""
        url = f"{self.server.url}/hyper-nixos.iso"
        given = ["--published", url, "--signers", str(self.folder / "signers")]
        output = ["--output", str(self.folder / "got.iso"), "--arch", "x86_64"]
        return dispatch(["media", "build", *given, *output, *words])

    def refused(self, *words: str) -> HyperError:
        """Nothing is left where the image would be."""
        with pytest.raises(HyperError) as error:
            self.build(*words)
        assert not list(self.folder.glob("*got.iso*"))
        return error.value


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("release", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True
        )
    (tmp_path / "signers").write_text(f"release@example.org {(tmp_path / 'release.pub').read_text()}")
    files: dict[str, bytes] = {}

    def answer(request: Request) -> Answer:
        body = files.get(request.path)
        return Answer(404) if body is None else Answer(200, body, {"ETag": f'"{hash(body)}"'})

    with serving(answer) as server:
        yield Site(files, server, tmp_path)


def test_fetched_and_it_verifies(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.publish()
    assert site.build() == Exit.ok
    assert "as release@example.org signed it" in capsys.readouterr().out
    got = site.folder / "got.iso"
    assert got.read_bytes() == fixture.image("ours").read_bytes()
    words = ["media", "verify", str(got), "--manifest", f"{got}.manifest.json"]
    assert dispatch([*words, "--signers", str(site.folder / "signers")]) == Exit.ok
    assert "signed by release@example.org" in capsys.readouterr().out
    # What is kept while it is fetched is not kept twice.
    assert not list((site.folder / "cache").rglob("*.iso"))


def test_signed_by_somebody_else_the_image_is_not_even_asked_for(site: Site) -> None:
    site.publish(key="other")
    assert "is by none of" in site.refused().why
    assert all(not request.path.endswith(".iso") for request in site.server.requests)


def test_an_altered_image_or_manifest_is_refused(site: Site) -> None:
    site.publish()
    good = dict(site.files)
    site.files["/hyper-nixos.iso"] = good["/hyper-nixos.iso"][:-1] + b"x"
    error = site.refused()
    assert error.code is Exit.medium
    assert "signed is" in error.why
    site.files |= good
    site.files["/hyper-nixos.iso.manifest.json"] += b" "
    assert "does not fit" in site.refused().why
    site.files |= good
    assert site.build() == Exit.ok


def test_an_image_that_is_no_longer_the_published_one_is_fetched_anew(site: Site) -> None:
    """It was fetched whole, could not be written, and was replaced meanwhile."""
    site.publish()
    real = site.files["/hyper-nixos.iso"]
    site.files["/hyper-nixos.iso"] = real[:-1] + b"x"
    with pytest.raises(HyperError):
        site.build()
    site.files["/hyper-nixos.iso"] = real
    with pytest.raises(HyperError, match="cannot be written"):
        site.build("--output", str(site.folder / "no/folder.iso"))
    kept = next((site.folder / "cache").rglob("hyper-nixos.iso"))
    kept.write_bytes(b"an older one")
    assert site.build() == Exit.ok
    assert (site.folder / "got.iso").read_bytes() == real


def test_another_medium_than_was_asked_for(site: Site) -> None:
    site.publish({"built": {"installable": "github:OWNER/NAME#packages.x86_64-linux.iso-minimal"}})
    assert "iso-minimal, and asked for was packages.x86_64-linux.iso" in site.refused().why
    site.publish({"built": {"installable": ".#legacyPackages.x86_64-linux.media.release.iso"}})
    assert site.build("iso", "--compression", "release") == Exit.ok


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--builder", "ssh://one"], "--published does not go with --builder"),
        (["--offline"], "--published does not go with --offline"),
        (["--published", "https://192.0.2.1/a.iso?x=1"], "is no address of an image"),
    ],
)
def test_words_that_do_not_go_together(site: Site, words: list[str], what: str) -> None:
    assert what in site.refused(*words).what
    assert site.server.requests == []


def test_without_signers_or_output(tmp_path: Path) -> None:
    with pytest.raises(HyperError, match="without --signers"):
        dispatch(["media", "build", "--published", "https://192.0.2.1/a.iso", "--output", "a.iso"])
    with pytest.raises(HyperError, match="goes with --published alone"):
        dispatch(["media", "build", "--signers", str(tmp_path)])
    with pytest.raises(HyperError, match="without --output"):
        dispatch(["media", "build", "--published", "https://192.0.2.1/a.iso", "--signers", str(tmp_path)])


def test_nothing_there(site: Site) -> None:
    error = site.refused()
    assert error.code is Exit.fetch
    assert "404" in error.why
