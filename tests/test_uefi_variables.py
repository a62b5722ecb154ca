"""Firmware whose variables can be in a snapshot: descriptions and templates, as the host's QEMU gets them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.broker import UEFI_VARIABLES

DEBIANS = Path("/usr/share/qemu/firmware")
"""Descriptions as QEMU's own are, of Debian's firmware."""


def template(description: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(description.read_text())["mapping"].get("nvram-template", {})
    return found


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share with a space/qemu"
    (folder / "firmware").mkdir(parents=True)
    for description in DEBIANS.glob("*.json"):
        if Path(template(description).get("filename", "/nonexistent")).exists():
            shutil.copy(description, folder / "firmware")
    # One without variables, and one whose template is qcow2 already, as other distributions have it.
    one = next(folder.glob("firmware/60-*.json"))
    rom = json.loads(one.read_text())
    rom["mapping"] = {"device": "memory", "filename": rom["mapping"]["executable"]["filename"]}
    (folder / "firmware/70-rom.json").write_text(json.dumps(rom))
    ready = json.loads(one.read_text())
    ready["mapping"]["nvram-template"]["format"] = "qcow2"
    (folder / "firmware/80-ready.json").write_text(json.dumps(ready))
    return folder


def run(share: Path, templates: Path) -> None:
    subprocess.run(("sh", UEFI_VARIABLES, share, templates), check=True)


def test_each_raw_template_has_a_twin_that_comes_first(share: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in share.glob("firmware/*")}
    run(share, tmp_path / "templates")
    after = sorted(path.name for path in share.glob("firmware/*"))
    raw = [name for name in before if name not in ("70-rom.json", "80-ready.json")]
    assert len(raw) >= 3
    assert sorted(set(after) - set(before)) == sorted(name.replace(".json", "-qcow2.json") for name in raw)
    for name in raw:
        assert after.index(name.replace(".json", "-qcow2.json")) == after.index(name) - 1
        old, new = (
            json.loads((share / "firmware" / each).read_text())
            for each in (name, name.replace(".json", "-qcow2.json"))
        )
        made = new["mapping"].pop("nvram-template")
        raw_file = Path(old["mapping"].pop("nvram-template")["filename"])
        assert new == old and made["format"] == "qcow2"
        back = tmp_path / "back"
        subprocess.run(
            ("qemu-img", "convert", "-f", "qcow2", "-O", "raw", made["filename"], back), check=True
        )
        assert back.read_bytes() == raw_file.read_bytes()
    assert all((share / "firmware" / name).read_bytes() == data for name, data in before.items())


def test_a_template_that_is_missing_is_an_error(share: Path, tmp_path: Path) -> None:
    one = next(share.glob("firmware/60-*.json"))
    about = json.loads(one.read_text())
    about["mapping"]["nvram-template"]["filename"] = "/nonexistent/vars.fd"
    one.write_text(json.dumps(about))
    done = subprocess.run(
        ("sh", UEFI_VARIABLES, share, tmp_path / "templates"), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "/nonexistent/vars.fd" in done.stderr
