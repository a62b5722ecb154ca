"""Secure Boot with the host's own keys: signed by sbsign, judged by sbverify, and in test_secure_boot_machine.py by OVMF."""

import json
import os
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hv.esp.difference import difference
from hv.esp.inventory import take
from hv.esp.writing import Disk
from hv.firstrun.phase import boot_default
from hv.firstrun.secure_boot import SecureBootJob
from hv.firstrun.world import Journal, World
from hv.secure_boot import firmware, keys
from hv.secure_boot.generations import systems
from hv.secure_boot.host import enrol, first_signed, sign, signer, standing
from hv.secure_boot.settings import SETTINGS_FILE
from hv.secure_boot.signing import Signer
from hv.unified_image import FOLDER as IMAGES
from hv.unified_image import read, section, unify
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from tests.boot_files import SETTINGS, SYSTEMD, Host
from tests.test_firstrun_engine import HANDOFF

STUB = SYSTEMD / "linuxx64.efi.stub"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def world_of(host: Host) -> World:
    return World(programs=Runner(NoLog(), PATH), root=host.root, journal=Journal())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path / "host")
    made.add(1)
    made.add(2, "hardened")
    made.install(2)
    return made


def signed(host: Host, default: str | None = None) -> World:
    world = world_of(host)
    assert sign(world, SETTINGS, default=default, hostname="kvm1")
    return world


def images(host: Host) -> set[str]:
    return {path.name for path in (host.boot / IMAGES).iterdir()}


def verified(host: Host, path: Path) -> bool:
    certificate = host.root / keys.FOLDER.lstrip("/") / "db.pem"
    done = subprocess.run(["sbverify", "--cert", certificate, path], capture_output=True, check=False)
    return done.returncode == 0


def test_every_system_has_a_signed_image_of_what_the_store_holds(host: Host) -> None:
    signed(host)
    assert images(host) == {
        "nixos-generation-1.efi",
        "nixos-generation-2.efi",
        "nixos-generation-2-specialisation-hardened.efi",
    }
    for name in images(host):
        assert verified(host, host.boot / IMAGES / name)
    image = host.boot / IMAGES / "nixos-generation-2-specialisation-hardened.efi"
    assert section(image, ".linux") == b"kernel"
    assert section(image, ".initrd") == b"initrd"
    line = section(image, ".cmdline")
    assert line == b"init=/nix/store/system-2-hardened/init generation=2hardened console=ttyS0"
    told = (section(image, ".osrel") or b"").decode()
    assert 'PRETTY_NAME="NixOS (hardened), signed"' in told
    for place in (
        "EFI/hyper-nixos/systemd-bootx64.efi",
        "EFI/systemd/systemd-bootx64.efi",
        "EFI/BOOT/BOOTX64.EFI",
    ):
        assert verified(host, host.boot / place)
    # NixOS's own entries stay, for the time that Secure Boot is off.
    assert len(list((host.boot / "loader/entries").glob("*.conf"))) == 3


def test_what_lies_on_the_boot_partition_is_never_signed(host: Host) -> None:
    for path in host.boot.rglob("*"):
        if path.is_file() and path.name != "loader.conf":
            path.write_bytes(b"somebody else's" + path.read_bytes())
    signed(host)
    for name in images(host):
        assert b"somebody" not in (host.boot / IMAGES / name).read_bytes()
    assert verified(host, host.boot / "EFI/hyper-nixos/systemd-bootx64.efi")


def test_the_default_is_the_image_of_the_system_that_is_asked_for(host: Host) -> None:
    world = signed(host, host.toplevel(2, "hardened"))
    lines = (host.boot / "loader/loader.conf").read_text().splitlines()
    assert lines == ["timeout 0", "editor 0", "default nixos-generation-2-specialisation-hardened.efi"]
    assert boot_default(world) == "/nix/store/system-2-hardened/init"
    # By hand, without a word on it, it stays what it is.
    signed(host)
    assert boot_default(world) == "/nix/store/system-2-hardened/init"


def test_a_second_time_nothing_is_written(host: Host) -> None:
    world = signed(host)
    before = {path: path.stat().st_mtime_ns for path in host.boot.rglob("*") if path.is_file()}
    done = sign(world, SETTINGS, default=None, hostname=None)
    assert done is not None
    assert done.said == ()
    assert {path: path.stat().st_mtime_ns for path in host.boot.rglob("*") if path.is_file()} == before


def test_generations_come_and_go(host: Host) -> None:
    signed(host)
    host.add(3)
    host.remove(1)
    host.install(3)
    world = signed(host, host.toplevel(3))
    assert images(host) == {
        "nixos-generation-2.efi",
        "nixos-generation-2-specialisation-hardened.efi",
        "nixos-generation-3.efi",
    }
    assert boot_default(world) == "/nix/store/system-3/init"


def test_other_systems_files_stay(host: Host) -> None:
    (host.boot / IMAGES).mkdir(parents=True)
    (host.boot / IMAGES / "arch-linux.efi").write_bytes(b"arch")
    (host.boot / "EFI/BOOT/BOOTX64.EFI").write_bytes(b"MZ windows")
    signed(host)
    assert (host.boot / IMAGES / "arch-linux.efi").read_bytes() == b"arch"
    assert (host.boot / "EFI/BOOT/BOOTX64.EFI").read_bytes() == b"MZ windows"


def test_what_was_changed_on_the_partition_is_signed_anew(host: Host) -> None:
    world = signed(host)
    path = host.boot / IMAGES / "nixos-generation-1.efi"
    data = bytearray(path.read_bytes())
    data[-3000] ^= 1
    path.write_bytes(data)
    (host.boot / "EFI/systemd/systemd-bootx64.efi").write_bytes(
        (SYSTEMD / "systemd-bootx64.efi").read_bytes()
    )
    assert [each.split(":")[0] for each in standing(world, SETTINGS).wrong] == [
        "EFI/systemd/systemd-bootx64.efi",
        "EFI/Linux/nixos-generation-1.efi",
    ]
    assert standing(world, SETTINGS).ready is False
    signed(host)
    assert standing(world, SETTINGS).ready is True


def test_without_keys_nothing_happens(host: Host) -> None:
    before = sorted(host.boot.rglob("*"))
    world = world_of(host)
    assert sign(world, SETTINGS, default=None, hostname=None) is None
    assert sorted(host.boot.rglob("*")) == before
    now = standing(world, SETTINGS)
    assert (now.keys, now.ready) == (False, False)
    assert "--make-keys" in now.text()


def test_the_first_runs_job_makes_keys_and_signs(host: Host) -> None:
    file = host.root / SETTINGS_FILE.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(SETTINGS.model_dump_json())
    job = SecureBootJob("kvm1")
    assert job.applies(HANDOFF) == "Secure Boot was not asked for"
    assert job.applies(HANDOFF.model_copy(update={"secure_boot": True})) is None
    with pytest.raises(HyperError, match="cannot be signed"):
        job.run(world_of(host))
    world = replace(world_of(host), sign=first_signed)
    job.run(world)
    job.verify(world)
    assert boot_default(world) == "/nix/store/system-2/init"
    assert standing(world, SETTINGS).ready
    assert any("made keys" in line for line in world.journal.lines)
    assert world.journal.warnings == []


def test_nothing_is_given_to_a_firmware_while_the_host_would_not_start(host: Host) -> None:
    world = world_of(host)
    folder = Variables(world.path(firmware.VARIABLES))
    folder.put("SetupMode", b"\1")
    folder.put("SecureBoot", b"\0")
    folder.put("dbDefault", b"VENDOR")
    with pytest.raises(HyperError) as refused:
        enrol(world, SETTINGS, only_own=False)
    assert refused.value.code is Exit.lockout
    signed(host)
    (host.boot / "EFI/systemd/systemd-bootx64.efi").write_bytes(
        (SYSTEMD / "systemd-bootx64.efi").read_bytes()
    )
    with pytest.raises(HyperError) as refused:
        enrol(world, SETTINGS, only_own=False)
    assert "EFI/systemd/systemd-bootx64.efi" in refused.value.why
    host.install(2)
    with pytest.raises(HyperError) as refused:
        enrol(world, SETTINGS, only_own=False)
    assert "what is started by default is not signed" in refused.value.why
    assert not (folder.folder / f"PK-{firmware.GLOBAL}").exists()
    assert not (folder.folder / f"db-{firmware.DATABASE}").exists()


def test_what_status_says(host: Host) -> None:
    world = signed(host)
    folder = Variables(world.path(firmware.VARIABLES))
    folder.put("SetupMode", b"\0")
    folder.put("SecureBoot", b"\0")
    text = standing(world, SETTINGS).text()
    assert all(len(line) <= 80 for line in text.splitlines()), text
    assert "clear its keys in its set-up" in text
    folder.put("SetupMode", b"\1")
    assert "`hv secure-boot enrol`" in standing(world, SETTINGS).text()
    folder.put("SetupMode", b"\0")
    folder.put("db", b"lists" + signer(world, SETTINGS).keys.der("db"))
    assert "switch Secure Boot on" in standing(world, SETTINGS).text()
    folder.put("SecureBoot", b"\1")
    now = standing(world, SETTINGS)
    assert "nothing: every rebuild signs" in now.text()
    assert now.document() == {
        "version": 1,
        "enforced": True,
        "setup_mode": False,
        "enrolled": True,
        "keys": True,
        "ready": True,
        "default": "nixos-generation-2.efi",
        "images": 3,
        "systems": 3,
        "wrong": [],
    }


def test_keys_are_for_root_alone_and_made_once(host: Host) -> None:
    signed(host)
    folder = host.root / keys.FOLDER.lstrip("/")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.{kind}" for name in keys.NAMES for kind in ("key", "pem")),
        "owner",
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    signed(host)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_keys_that_a_power_cut_left_half_made_are_made_anew(host: Host) -> None:
    folder = host.root / keys.FOLDER.lstrip("/")
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True)
    (partial / "PK.key").write_text("half")
    signed(host)
    assert not partial.exists()
    assert "half" not in (folder / "PK.key").read_text()


class CutError(Exception):
    """The power goes."""


class Cutting(Disk):
    """A disk whose power goes after so many changes."""

    def __init__(self, after: int) -> None:
        self.left = after

    def _count(self) -> None:
        if self.left == 0:
            raise CutError
        self.left -= 1

    def make_folder(self, path: Path) -> None:
        self._count()
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._count()
        return super().create(path)

    def write(self, handle: int, data: bytes) -> None:
        if self.left == 0:
            os.write(handle, data[: len(data) // 2])
        self._count()
        super().write(handle, data)

    def replace(self, old: Path, new: Path) -> None:
        self._count()
        super().replace(old, new)

    def remove(self, path: Path) -> None:
        self._count()
        super().remove(path)


def test_wherever_the_power_goes_the_default_is_signed(host: Host, tmp_path: Path) -> None:
    signed(host)
    host.add(3)
    host.remove(1)
    host.install(3)
    shutil.copy(SYSTEMD / "systemd-bootx64.efi", host.boot / "EFI/systemd/systemd-bootx64.efi")
    cuts = 0
    while True:
        there = tmp_path / "cut"
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(host.root, there, symlinks=True)
        at = Host.__new__(Host)
        at.root, at.generations = there, host.generations
        world = world_of(at)
        plain = signer(world, SETTINGS)
        cutting = Signer(SETTINGS, plain.keys, plain.programs, Cutting(cuts), there)
        found = systems(there)
        try:
            cutting.sign(found, host.toplevel(3))
        except CutError:
            cuts += 1
        else:
            break
        default = _default(at)
        # Before the very first change the default is still the entry that NixOS's own program named.
        if default.endswith(".efi"):
            assert verified(at, at.boot / IMAGES / default), cuts
            assert verified(at, at.boot / "EFI/hyper-nixos/systemd-bootx64.efi")
        else:
            assert cuts <= 3
        # The next run ends well.
        plain.sign(found, host.toplevel(3))
        assert standing(world, SETTINGS).ready is True
        assert _default(at) == "nixos-generation-3.efi"
    assert cuts > 10


def _default(host: Host) -> str:
    found = re.search(r"^default (\S+)$", (host.boot / "loader/loader.conf").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_a_default_that_cannot_be_signed_leaves_the_last_one(host: Host) -> None:
    signed(host)
    host.add(3)
    host.install(3)
    (host.root / "nix/store/system-3/kernel").unlink()
    with pytest.raises(HyperError, match="default system cannot be signed"):
        signed(host, host.toplevel(3))
    assert _default(host) == "nixos-generation-2.efi"


def test_an_older_generation_without_room_is_left_out_and_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.statvfs, []

    def statvfs(path: Path) -> object:
        calls.append(path)
        told = real(path)
        free = 1 << 40 if len(calls) == 1 else 0
        return os.statvfs_result((told.f_bsize, 1, free, free, free, 0, 0, 0, 0, 255))

    monkeypatch.setattr("hv.secure_boot.signing.os.statvfs", statvfs)
    world = world_of(host)
    done = sign(world, SETTINGS, default=host.toplevel(2), hostname="kvm1")
    assert done is not None
    assert done.images == ("nixos-generation-2.efi",)
    assert len(done.left_out) == 2
    assert all("there is no room" in each for each in done.left_out)
    assert len(world.journal.warnings) == 2


def test_the_ram_disks_secrets_are_in_the_signed_image_and_nowhere_else(host: Host) -> None:
    system = host.root / "nix/store/system-2"
    script = system / "secrets"
    script.write_text('#!/bin/sh\nprintf SECRET >>"$1"\n')
    script.chmod(0o755)
    document = json.loads((system / "boot.json").read_text())
    document["org.nixos.bootspec.v1"]["initrdSecrets"] = "/nix/store/system-2/secrets"
    (system / "boot.json").write_text(json.dumps(document))
    signed(host)
    image = host.boot / IMAGES / "nixos-generation-2.efi"
    assert section(image, ".initrd") == b"initrdSECRET"
    state = host.root / "var/lib/hyper-nixos"
    assert not [path for path in state.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    (state / "secure-boot/work-cut").mkdir()
    (state / "secure-boot/work-cut/initrd").write_bytes(b"SECRET")
    signed(host)
    assert not list(state.rglob("work-*"))
    # Gone, as secrets of an old generation may be: its image stays as it is.
    script.write_text("#!/bin/sh\nexit 1\n")
    host.add(3)
    host.install(3)
    signed(host, host.toplevel(3))
    assert section(image, ".initrd") == b"initrdSECRET"


def test_mirrored_boot_partitions_hold_the_images_before_the_default_that_names_them(
    host: Host, tmp_path: Path
) -> None:
    signed(host)
    source = take(host.boot)
    assert source.complaints() == ()
    found = source.default()
    assert found is not None
    assert found.path == f"{IMAGES}/nixos-generation-2.efi"
    empty = tmp_path / "mirror"
    empty.mkdir()
    order = [put.path for put in difference(source, take(empty), lambda *_: True).puts]
    for image in images(host):
        assert order.index(f"{IMAGES}/{image}") < order.index("loader/loader.conf")
    assert order.index("EFI/hyper-nixos/systemd-bootx64.efi") < order.index("loader/loader.conf")
    shutil.copytree(host.boot, empty, dirs_exist_ok=True)
    (empty / IMAGES / "nixos-generation-7.efi").write_bytes(b"old")
    assert difference(source, take(empty), lambda *_: True).drops == (f"{IMAGES}/nixos-generation-7.efi",)


class Variables:
    """The folder of the firmware's variables, as files; what the firmware itself thinks of them OVMF is asked for
    (test_secure_boot_machine.py)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def put(self, name: str, value: bytes) -> None:
        vendor = firmware.VENDORS.get(name, firmware.GLOBAL)
        (self.folder / f"{name}-{vendor}").write_bytes(struct.pack("<I", 7) + value)


def test_keys_are_given_in_setup_mode_alone(host: Host) -> None:
    world = signed(host)
    variables = Variables(world.path(firmware.VARIABLES))
    at = signer(world, SETTINGS)
    enroller = firmware.Enroller(variables.folder, at.keys, SETTINGS, world.programs)
    variables.put("SetupMode", b"\0")
    with pytest.raises(HyperError, match="does not take") as refused:
        list(enroller.enrol())
    assert refused.value.code is Exit.unsuitable
    assert "setup mode" in refused.value.why
    variables.put("SetupMode", b"\1")
    with pytest.raises(HyperError, match="vendor") as refused:
        list(enroller.enrol())
    assert "--only-own-keys" in refused.value.remedy


def test_what_is_written_names_the_hosts_certificate_beside_the_vendors(host: Host) -> None:
    world = signed(host)
    variables = Variables(world.path(firmware.VARIABLES))
    at = signer(world, SETTINGS)
    enroller = firmware.Enroller(variables.folder, at.keys, SETTINGS, world.programs)
    variables.put("SetupMode", b"\1")
    variables.put("dbDefault", b"VENDOR-DB")
    # Files take what is written as it is; firmware keeps the lists without the signature before them.
    with pytest.raises(HyperError, match="take db") as refused:
        list(enroller.enrol())
    assert "read back" in refused.value.why
    data = (variables.folder / f"db-{firmware.DATABASE}").read_bytes()
    assert struct.unpack("<I", data[:4]) == (firmware.ATTRIBUTES,)
    assert data.endswith(b"VENDOR-DB")
    assert at.keys.der("db") in data
    assert not (variables.folder / f"PK-{firmware.GLOBAL}").exists()
    found = enroller.changes(only_own=False)
    assert [each.name for each in found] == ["db", "KEK", "PK"]
    for each in found:
        assert each.written.endswith(each.lists)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "headers end early"),
        (b"MZ", "headers end early"),
        (b"\x7fELF" + b"\0" * 100, "does not begin"),
        (b"MZ" + b"\0" * 0x3A + struct.pack("<I", 0x40) + b"PE\0\0" + b"\0" * 200, "not of 64 bits"),
    ],
)
def test_files_that_are_no_images_are_refused(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "stub"
    path.write_bytes(content)
    with pytest.raises(HyperError) as refused:
        read(path)
    assert why in refused.value.why


def test_every_section_can_be_cut_off_without_a_crash(tmp_path: Path) -> None:
    data, path = STUB.read_bytes(), tmp_path / "stub"
    for size in range(0, 2048, 7):
        path.write_bytes(data[:size])
        with pytest.raises(HyperError):
            read(path)


def test_a_stub_takes_no_section_twice_and_none_without_room(tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    unify(STUB, {".cmdline": b"a"}, once)
    assert section(once, ".cmdline") == b"a"
    with pytest.raises(HyperError, match="not an image") as refused:
        unify(once, {".cmdline": b"b"}, twice)
    assert ".cmdline already" in refused.value.why
    many = {f".s{number}": b"x" for number in range(200)}
    with pytest.raises(HyperError) as refused:
        unify(STUB, many, twice)
    assert "no room" in refused.value.why


def test_sections_lie_one_behind_the_other(tmp_path: Path) -> None:
    out = tmp_path / "image"
    unify(STUB, {".osrel": b"o" * 5000, ".cmdline": b"", ".linux": b"k" * 70000}, out)
    image = read(out)
    end = 0
    for each in sorted(image.sections, key=lambda each: each.address):
        assert each.address >= end
        assert each.address % 16 == 0
        end = each.address + each.size
    added = [each for each in image.sections if each.name in {".osrel", ".cmdline", ".linux"}]
    assert all(each.address % image.alignment == 0 for each in added)
    shown = subprocess.run(["objdump", "-h", out], capture_output=True, text=True, check=True).stdout
    assert ".linux" in shown
