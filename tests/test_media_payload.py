"""What kernel arguments start on a system that knows nothing of us, and what our live system does with what is not signed:
with a real systemd of 257, a real Nix, real mounts.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import segno

from hv.cli import dispatch
from installer import embed
from installer.errors import Exit
from installer.medium import ReadyClosure
from iso import adopt, login, packs
from iso.carrier import examine
from iso.embedding import embedded
from iso.image import opened
from tests.lab import userland
from tests.media import fixture
from tests.media.fixture import run
from tests.network.machine import NSPAWN
from tests.nixeval.nix import REPOSITORY

pytestmark = [pytest.mark.vm, pytest.mark.nspawn]
NAME = f"{fixture.STORE[11:]}-hyper-nixos"
PATIENCE = 120


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Path]:
    """Debian trixie on an overlay, with a folder where the live system mounts its medium."""
    place = tmp_path / "system"
    place.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", place)
    for name in ("upper", "work", "root"):
        (place / name).mkdir()
    layers = f"lowerdir={userland.build()}/root,upperdir={place}/upper,workdir={place}/work"
    run("mount", "-t", "overlay", "-o", layers, "overlay", place / "root")
    (place / "root/iso/hyper-nixos").mkdir(parents=True)
    try:
        yield place / "root"
    finally:
        run("umount", "--lazy", "--recursive", place)


def boot(system: Path, *arguments: str, before: Sequence[str] = ()) -> None:
    """Start it with these arguments, until it switches itself off."""
    argv = [*NSPAWN, "--private-network", *before, "--directory", str(system), *arguments]
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)


def test_systemd_runs_what_the_arguments_say(system: Path) -> None:
    (system / "iso/hyper-nixos/start").write_text("echo started >/marker\nsystemctl poweroff\n")
    boot(system, *adopt.credential())
    assert (system / "marker").read_text() == "started\n"


def test_without_the_arguments_nothing_is_run(system: Path) -> None:
    (system / "iso/hyper-nixos/start").write_text("echo started >/marker\nsystemctl poweroff\n")
    boot(system, "systemd.unit=poweroff.target")
    assert not (system / "marker").exists()


UNIT = REPOSITORY / "tests/golden/services/medium/hyper-nixos-live.service"
LATER = """[Unit]
After=hyper-nixos-live.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'systemctl is-failed hyper-nixos-live.service >/state; cp -r /run/hyper-nixos/live /found; journalctl -b -u hyper-nixos-live -o cat >/journal; systemctl poweroff --no-block'
"""


@pytest.mark.parametrize("altered", [False, True], ids=["as signed", "altered"])
def test_the_live_system_takes_only_what_is_signed(system: Path, tmp_path: Path, altered: bool) -> None:
    """The evaluated unit; its medium was customised and signed by the commands, then one letter of the answers changed."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    image = Path(shutil.copy(fixture.image("ours"), tmp_path / "medium.iso"))
    answers = REPOSITORY / "examples/home-lab.toml"
    words = ["media", "embed", str(image), "--answers", str(answers), "--sign", str(tmp_path / "key")]
    assert dispatch(words) == Exit.ok
    with opened(image) as medium:
        files = dict(embedded(medium, examine(medium)).files)
    if altered:
        files["answers.toml"] = files["answers.toml"].replace(b"hostname", b"hostnamE", 1)
    (system / "iso" / embed.PATH).write_bytes(embed.pack(files))
    (system / "etc/hyper-nixos").mkdir()
    (system / login.SIGNERS).write_text(f"ops@example.org {(tmp_path / 'key.pub').read_text()}")
    units = system / "etc/systemd/system"
    text = re.sub(r"^Environment=.*\n", "", UNIT.read_text(), flags=re.MULTILINE)
    (units / UNIT.name).write_text(text.replace("@hv@", "/usr/local"))
    (units / "later.service").write_text(LATER)
    program = system / "usr/local/bin/hv"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text('#!/bin/sh\ncd / && PYTHONPATH=/hyper-nixos exec python3 -m hv "$@"\n')
    program.chmod(0o755)
    # Of what the page needs, Debian's userland lacks this alone.
    shutil.copytree(Path(segno.__file__).parent, system / "usr/lib/python3/dist-packages/segno")
    bound = f"--bind-ro={REPOSITORY}:/hyper-nixos"
    boot(system, f"systemd.wants={UNIT.name}", "systemd.wants=later.service", before=[bound])
    found = {path.name for path in (system / "found").iterdir()}
    told = (system / "journal").read_text()
    if altered:
        assert (system / "state").read_text() == "failed\n"
        assert found == {"password", "problem"}
        assert "its signature is by none of" in (system / "found/problem").read_text()
    else:
        assert (system / "state").read_text() == "active\n"
        assert (system / "found/answers.toml").read_bytes() == answers.read_bytes()
        assert "what the medium holds is signed by ops@example.org" in told


def test_the_payload_is_in_the_store_and_started(system: Path, tmp_path: Path) -> None:
    """The script that the unit runs, on a store that has something already."""
    tree = tmp_path / "tree"
    program = tree / NAME / "bin/start"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\ncat /nix/store/{NAME[:-1]}t/content >/told\nnix-store --query --references {NAME_PATH} >>/told\n"
    )
    program.chmod(0o755)
    other = tree / f"{NAME[:-1]}t"
    other.mkdir()
    (other / "content").write_text("from the payload\n")
    other_path = f"/nix/store/{other.name}"
    zeros = "0" * 52
    (tree / "nix-path-registration").write_text(
        f"{other_path}\nsha256:{zeros}\n120\n\n0\n{NAME_PATH}\nsha256:{zeros}\n120\n\n1\n{other_path}\n"
    )
    squashfs = system / "iso" / adopt.PAYLOAD
    run("mksquashfs", tree, squashfs, "-all-root", "-quiet", "-no-progress")
    made = adopt.Payload(squashfs, f"{NAME_PATH}/bin/start")
    (system / "iso" / adopt.START).write_text(adopt.script(made))
    (system / "nix/store").mkdir(parents=True, exist_ok=True)
    (system / "inside").write_text(
        "set -e\nmount -t tmpfs tmpfs /run\nmkdir -p /run/current-system/sw\nln -s /usr/bin /run/current-system/sw/bin\n"
        "mount --bind /nix/store /nix/store\nmount -o remount,ro,bind /nix/store\n"
        "export PATH=/usr/bin:/usr/sbin:/bin:/sbin\n"
        f"exec /bin/sh /iso/{adopt.START}\n"
    )
    for name in ("dev", "proc"):
        run("mount", "--rbind", f"/{name}", system / name)
    argv = ["unshare", "--mount", "chroot", str(system), "/bin/sh", "/inside"]
    whole = squashfs.read_bytes()
    squashfs.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "the medium is damaged" in done.stderr
    assert not (system / "told").exists()
    squashfs.write_bytes(whole)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert (system / "told").read_text() == f"from the payload\n{other_path}\n"


NAME_PATH = f"/nix/store/{NAME}"
PACKS = UNIT.with_name("hyper-nixos-packs.service")
READ = """[Unit]
After=hyper-nixos-packs.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'systemctl is-active hyper-nixos-packs.service >/state; cp /run/hyper-nixos/packs.json /told; cat /run/hyper-nixos/packs/1/content >/read; journalctl -b -u hyper-nixos-packs -o cat >/journal; systemctl poweroff --no-block'
"""


def test_packs_are_mounted_as_it_boots(system: Path, tmp_path: Path) -> None:
    """The evaluated unit under a real systemd; a real ISO image on a loop device, with a pack behind it, mounted by the
    kernel.
    """
    image = Path(shutil.copy(fixture.image("ours"), tmp_path / "medium.iso"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/content").write_text("from the pack\n")
    run("mksquashfs", tmp_path / "in", tmp_path / "squashfs", "-quiet", "-no-progress")
    closure = ReadyClosure(name="kvm1", toplevel=f"/nix/store/{'1' * 32}-kvm1", cache="cache", nar_size=1)
    packs.add(image, tmp_path / "squashfs", (closure,))
    units = system / "etc/systemd/system"
    text = re.sub(r"^Environment=.*\n", "", PACKS.read_text(), flags=re.MULTILINE)
    (units / PACKS.name).write_text(text.replace("@hv@", "/usr/local"))
    (units / "read.service").write_text(READ)
    program = system / "usr/local/bin/hv"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text('#!/bin/sh\ncd / && PYTHONPATH=/hyper-nixos exec python3 -m hv "$@"\n')
    program.chmod(0o755)
    loop = run("losetup", "--find", "--show", "--read-only", image).strip()
    medium = tmp_path / "medium"
    medium.mkdir()
    try:
        # Kernels without iso9660 run these tests: what is mounted has no files, and says that it is this disk.
        run("mount", "-t", "tmpfs", "-o", "ro", loop, medium)
        bound = [f"--bind-ro={REPOSITORY}:/hyper-nixos", f"--bind-ro={medium}:/iso"]
        bound += [f"--bind={each}" for each in ("/dev/loop-control", *Path("/dev").glob("loop[0-9]*"))]
        boot(system, f"systemd.wants={PACKS.name}", "systemd.wants=read.service", before=bound)
    finally:
        for words in (("umount", medium), ("losetup", "--detach", loop)):
            subprocess.run(list(map(str, words)), check=False, capture_output=True)
    assert (system / "state").read_text() == "active\n", (system / "journal").read_text()
    assert (system / "read").read_text() == "from the pack\n"
    (told,) = json.loads((system / "told").read_text())
    assert (told["name"], told["cache"]) == ("kvm1", "file:///run/hyper-nixos/packs/1/cache")
    assert "system kvm1: from a pack behind the medium" in (system / "journal").read_text()
