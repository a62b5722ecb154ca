"""`hv media host`: an image of an installed host is made without root and without a device, and read back by other tools."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hv.cli import dispatch
from installer.answers.load import load
from installer.answers.sizes import GIB
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.partition_table import read_table
from installer.execute.runner import Runner
from installer.handoff import HANDOFF_PATH, Handoff
from installer.medium import Medium
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from iso import host_filesystems, host_grub, host_machine, host_tree
from iso.described import described
from tests.execute.rig import Rig, add_nix, run, tiny_system, with_closure
from tests.media import fixture
from tests.media.kernel import kernel
from tests.nixeval.host import evaluate_flake_host, flakes
from tests.nixeval.nix import require
from tests.plan_cases import HASH, medium

REPOSITORY = Path(__file__).parents[1]
SIZE = 5 * GIB
ANSWERS = f"""version = 1
hostname = "cloud1"

[storage]
disk = {{ serial = "whatever it will be" }}
swap = {{ kind = "partition", size = "64MiB" }}

[system]
source = "closure"
closure = "tiny"

[[users]]
name = "alice"
admin = true
password_hash = "{HASH}"
"""
RUNNER = Runner(NoLog(), "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")


@dataclass
class Given:
    """A folder with answers, a medium and a cache with a system."""

    folder: Path
    bios: bool = False

    def command(self, output: str, *more: str) -> list[str]:
        """Make an image of them."""
        folder = self.folder
        more = (*more, "--bios") if self.bios else more
        words = ["media", "host", str(folder / "answers.toml"), "--medium", str(folder / "medium.json")]
        words += ["--size", f"{SIZE}B", "--from", f"file://{folder}/cache", "--output", str(folder / output)]
        return [*words, *more]

    def make(self, output: str, *more: str) -> subprocess.CompletedProcess[str]:
        """The same without any right that root has over others (capabilities(7)): no mount, no device, no other's file.
        Its number is kept, since the Python of these tests may lie in root's home, and with it the one right that the
        kernel asks of this number alone before it may be root of a namespace (user_namespaces(7)).
        """
        argv = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
        environment = {
            **os.environ,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(
            [*argv, sys.executable, "-m", "hv", *self.command(output, *more)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def prepared(answers: str, *, bios: bool = False) -> Iterator[Given]:
    """A folder with these answers, and a system that was built for them."""
    folder = Path(tempfile.mkdtemp(prefix="hv-host-"))
    try:
        (folder / "answers.toml").write_text(answers)
        made = Rig(folder, "virtio-HVTEST")
        (folder / "bin").mkdir()
        add_nix(made)
        plan = plan_of(answers, bios=bios)
        fstab = "".join(
            f"{each.device} {each.mountpoint} {each.kind} noatime 0 1\n" for each in plan.host.filesystems
        )
        more: dict[str, Any] = {"nodev": _kernels(plan), "kernel": kernel()} if bios else {}
        toplevel = tiny_system(
            made,
            SimpleNamespace(link=Path("/dev/null")),
            "",
            uefi=not bios,
            fstab=fstab,
            modules=plan.host.initrd_modules,
            **more,
        )
        run(
            folder / "bin/nix",
            "copy",
            "--no-check-sigs",
            "--to",
            f"file://{folder}/cache?compression=none",
            toplevel,
        )
        (folder / "medium.json").write_text(with_closure(toplevel).model_dump_json())
        yield Given(folder, bios)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder)


def _kernels(plan: Plan) -> str:
    """Where GRUB finds them, from the top of the file system that it was started from."""
    return "/kernels" if len(plan.host.filesystems) > 1 else "/boot/kernels"


def plan_of(answers: str, *, bios: bool = False) -> Plan:
    """What is planned for an image."""
    on_it = host_machine.on_it(load(answers.encode(), "answers.toml"))
    machine = host_machine.facts(SIZE, "x86_64-linux", bios=bios)
    return make_plan(machine, on_it, with_closure("/nix/store/x"))


@pytest.fixture(scope="module")
def given() -> Iterator[Given]:
    with prepared(ANSWERS) as made:
        yield made


@pytest.fixture(scope="module")
def image(given: Given) -> Path:
    """Made once."""
    done = given.make("host.raw", "--json")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    path = given.folder / "host.raw"
    told = json.loads(done.stdout)
    assert (told["hostname"], told["size"]) == ("cloud1", SIZE)
    return path


def digest(path: Path) -> str:
    """Of every block that is not zero, with its place: whether others are holes or not."""
    found, at = hashlib.sha256(b"%d" % path.stat().st_size), 0
    with path.open("rb") as file:
        while True:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return found.hexdigest()
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            for place in range(at, end, 4096):
                block = os.pread(file.fileno(), min(4096, end - place), place)
                if block.strip(b"\0"):
                    found.update(b"%d " % place + block)
            at = end


def part(image: Path, number: int, into: Path) -> Path:
    """One partition in a file of its own, with its holes."""
    spec = next(each for each in read_table(RUNNER, str(image)) if each.number == number)
    target = into / f"part{number}"
    run("cp", "--sparse=always", image, target)
    run("fallocate", "--collapse-range", "--offset", "0", "--length", str(spec.start), target)
    os.truncate(target, spec.size)
    return target


def inside(file: Path, command: str) -> str:
    return subprocess.run(
        ["debugfs", "-R", command, str(file)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.nix
@pytest.mark.root
def test_what_is_in_the_image(image: Path, tmp_path: Path) -> None:
    assert image.stat().st_mode & 0o777 == 0o600, "it has hashes of passwords"
    assert image.stat().st_size == SIZE
    assert "No errors detected" in run("sfdisk", "--verify", image)
    table = read_table(RUNNER, str(image))
    assert [each.label for each in table] == ["cloud1-esp", "cloud1-swap", "cloud1-root"]
    boot, swap, root = (part(image, each.number, tmp_path) for each in table)
    run("fsck.fat", "-n", boot)
    run("e2fsck", "-fn", root)
    plan = plan_of(ANSWERS)
    devices = {each.mountpoint: each.device for each in plan.host.filesystems}
    for file, place in ((boot, "/boot"), (root, "/")):
        assert devices[place].endswith(run("blkid", "-p", "-o", "value", "-s", "UUID", file))
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", swap) == "swap"
    # The loader and the entries, as the host's own program wrote them, read back with mtools.
    assert run("mtype", "-i", boot, "::/loader/loader.conf") == "default nixos-generation-1.conf"
    assert run("mtype", "-i", boot, "::/EFI/BOOT/BOOTX64.EFI").startswith("MZ")
    assert "random-seed" not in run("mdir", "-/", "-b", "-i", boot, "::")
    # Root's files, with the modes that keep secrets.
    secret = inside(root, "stat /var/lib/hyper-nixos/secrets/passwords/alice")
    assert re.search(r"Mode:\s+0600", secret)
    assert re.search(r"User:\s+0\s+Group:\s+0", secret)
    assert inside(root, "cat /var/lib/hyper-nixos/secrets/passwords/alice").strip() == HASH
    assert "cloud1" in inside(root, "cat /etc/nixos/flake.nix") + inside(
        root, "cat /etc/nixos/configuration.nix"
    )
    handoff = Handoff.model_validate_json(inside(root, f"cat {HANDOFF_PATH}"))
    assert handoff.grow is not None
    assert handoff.grow.link == f"by-uuid/{devices['/'].rpartition('/')[2]}"
    assert "machine-id" not in inside(root, "ls -l /etc"), "each copy makes its own"
    assert '"/nix/var/nix/profiles"' in inside(root, "stat /nix/var/nix/gcroots/profiles"), (
        "not of this computer"
    )
    assert "system-1-link" in inside(root, "stat /nix/var/nix/profiles/system")
    # Nix itself finds every path whole, by the database that was written anew.
    tree = tmp_path / "tree"
    tree.mkdir()
    run("debugfs", "-R", f"rdump /nix {tree}", root)
    nix = image.parent / "bin/nix"
    assert (
        run(
            nix,
            "store",
            "verify",
            "--store",
            tree,
            "--all",
            "--no-trust",
            "--extra-experimental-features",
            "nix-command",
        )
        == ""
    )
    assert len(run(nix, "path-info", "--store", tree, "--all").splitlines()) == 1


@pytest.mark.nix
@pytest.mark.root
def test_two_images_are_equal_and_nothing_is_left(image: Path, given: Given) -> None:
    done = given.make("again.raw")
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    assert digest(given.folder / "again.raw") == digest(image)
    assert not list(given.folder.glob(".hv-host-*"))
    assert HASH not in done.stdout + done.stderr
    done = given.make("again.raw")
    assert done.returncode == Exit.usage
    assert "is there already" in done.stderr


def changed(tmp_path: Path, old: str, new: str) -> list[str]:
    """The command line of an image that nobody gets."""
    assert old in ANSWERS
    (tmp_path / "answers.toml").write_text(ANSWERS.replace(old, new))
    (tmp_path / "medium.json").write_text(with_closure(f"/nix/store/{'1' * 32}-tiny").model_dump_json())
    words = ["media", "host", str(tmp_path / "answers.toml"), "--medium", str(tmp_path / "medium.json")]
    return [*words, "--output", str(tmp_path / "no.raw")]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "[system]",
            "[storage.encryption]\nenable = true\npassphrase = { file = '/x' }\n\n[system]",
            "share the key",
        ),
        ("[system]", '[boot]\nloader = "grub"\n\n[system]', "grub-install asks the kernel"),
        ("swap =", 'existing = "keep"\nswap =', "nothing on it"),
        (
            'disk = { serial = "whatever it will be" }',
            'disks = [{ serial = "a" }, { serial = "b" }]\nlayout = "mirror"',
            "an image is one disk",
        ),
        ('source = "closure"\nclosure = "tiny"', 'source = "flake"', "wants it evaluated|want it evaluated"),
        ('closure = "tiny"', 'closure = "other"', "not on the medium"),
        (
            '"cloud1"',
            '"cloud1"\n[[hooks]]\nwhen = "after-install"\ncommand = ["/bin/true"]',
            "their programs are for the machine",
        ),
    ],
)
def test_what_an_image_cannot_be(tmp_path: Path, old: str, new: str, reason: str) -> None:
    with pytest.raises(HyperError) as error:
        dispatch(changed(tmp_path, old, new))
    assert re.search(reason, f"{error.value.what} {error.value.why}"), str(error.value)
    assert error.value.remedy
    assert sorted(each.name for each in tmp_path.iterdir()) == ["answers.toml", "medium.json"]


def test_a_size_that_is_none(tmp_path: Path) -> None:
    for size in ("much", "3MiB", "5000001KiB"):
        with pytest.raises(HyperError) as error:
            dispatch([*changed(tmp_path, "cloud1", "cloud2"), "--size", size])
        assert error.value.code is Exit.usage
    with pytest.raises(HyperError, match="too small"):
        dispatch([*changed(tmp_path, "cloud1", "cloud2"), "--size", "2GiB"])


def test_the_configuration_that_its_system_is_built_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = changed(tmp_path, 'source = "closure"\nclosure = "tiny"', 'source = "flake"')
    assert dispatch([*words, "--render", str(tmp_path / "etc")]) == Exit.ok
    assert "wrote" in capsys.readouterr().out
    disks = (tmp_path / "etc/disks.nix").read_text()
    assert "by-uuid" in disks
    assert host_machine.SERIAL not in disks, "it would be looked for on every machine"
    assert '"virtio_scsi"' in (tmp_path / "etc/hardware-configuration.nix").read_text()


@pytest.mark.nix
@pytest.mark.root
def test_a_system_for_other_disks_is_refused(given: Given) -> None:
    other = given.folder / "other.toml"
    (closure,) = Medium.model_validate_json((given.folder / "medium.json").read_bytes()).closures
    # By its store path: it is no system of the medium, and the store that has it is named.
    other.write_text(ANSWERS.replace("cloud1", "cloud9").replace('"tiny"', f'"{closure.toplevel}"'))
    (given.folder / "bare.json").write_text(medium(estimated_closure=1 << 24, closures=()).model_dump_json())
    instead = {"answers.toml": str(other), "medium.json": str(given.folder / "bare.json")}
    words = [instead.get(Path(each).name, each) for each in given.command("other.raw")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{given.folder}/bin:{os.environ['PATH']}")
        with pytest.raises(HyperError, match="built for other disks") as error:
            dispatch(words)
    assert "--render" in error.value.remedy
    assert not list(given.folder.glob("*other.raw*")) + list(given.folder.glob(".hv-host-*"))


def test_paths_of_the_target_and_nothing_else() -> None:
    root = Path("/srv/x")
    for text, there in {
        "/mnt": "/srv/x",
        "/mnt/boot": "/srv/x/boot",
        "path:/mnt/etc": "path:/mnt/etc",
        "/mnt2": "/mnt2",
        "/var/mnt/boot": "/var/mnt/boot",
    }.items():
        assert host_tree.retarget([text], root) == [there]


def on(filesystem: str) -> str:
    """The answers with another file system."""
    return ANSWERS.replace("swap =", f'filesystem = "{filesystem}"\nswap =')


@contextmanager
def mounted(image: Path, number: int, into: Path, *options: str) -> Iterator[Path]:
    """A partition of an image, by the kernel's own reading."""
    spec = next(each for each in read_table(RUNNER, str(image)) if each.number == number)
    into.mkdir(exist_ok=True)
    given = ",".join(("ro", "loop", f"offset={spec.start}", f"sizelimit={spec.size}", *options))
    run("mount", "-o", given, image, into)
    try:
        yield into
    finally:
        run("umount", into)


def store_is_whole(given: Given, root: Path) -> None:
    """Nix finds one path, as it should be, with the time that it gives all files."""
    nix = given.folder / "bin/nix"
    copy = given.folder / "store-copy"
    shutil.copytree(root / "nix", copy / "nix", symlinks=True)
    words = ("--store", copy, "--all", "--no-trust", "--extra-experimental-features", "nix-command")
    assert run(nix, "store", "verify", *words) == ""
    (path,) = (each for each in (root / "nix/store").iterdir() if each.name != ".links")
    assert {each.lstat().st_mtime for each in (path, *path.rglob("*"))} == {1.0}
    assert len(run(nix, "path-info", "--store", copy, "--all").splitlines()) == 1


@pytest.mark.nix
@pytest.mark.root
def test_a_host_on_xfs(tmp_path: Path) -> None:
    with prepared(on("xfs")) as given:
        digests = set()
        for name in ("host.raw", "again.raw"):
            done = given.make(name)
            assert done.returncode == Exit.ok, done.stdout + done.stderr
            digests.add(digest(given.folder / name))
        assert len(digests) == 1, "two images of one request"
        image = given.folder / "host.raw"
        run("xfs_repair", "-n", part(image, 3, tmp_path))
        with mounted(image, 3, tmp_path / "root") as root:
            assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
            secret = root / "var/lib/hyper-nixos/secrets/passwords/alice"
            assert (secret.read_text().strip(), secret.stat().st_mode & 0o7777) == (HASH, 0o600)
            assert not any((root / "boot").iterdir())
            store_is_whole(given, root)


@pytest.mark.nix
@pytest.mark.root
@pytest.mark.subvolumes
def test_a_host_on_btrfs(tmp_path: Path) -> None:
    with prepared(on("btrfs")) as given:
        done = given.make("host.raw")
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        plan = plan_of(on("btrfs"))
        for each in (each for each in plan.host.filesystems if each.kind == "btrfs"):
            subvolume = next(word for word in each.options if word.startswith("subvol="))
            with mounted(given.folder / "host.raw", 3, tmp_path / "root", subvolume) as root:
                if each.mountpoint == "/":
                    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
                    assert not any((root / "nix").iterdir())
                    assert (root / HANDOFF_PATH.lstrip("/")).is_file()
                if each.mountpoint == "/nix":
                    (tmp_path / "whole").mkdir()
                    (tmp_path / "whole/nix").symlink_to(root)
                    store_is_whole(given, tmp_path / "whole")


@pytest.mark.vm
@pytest.mark.nix
@pytest.mark.root
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_a_bios_starts_it(filesystem: str) -> None:
    """By GRUB's code, which nobody with a view of a disk put there; the system's kernel is the fixture's, which tells."""
    with prepared(on(filesystem), bios=True) as given:
        # One of them as QEMU's own format.
        image = given.folder / ("host.raw" if filesystem == "ext4" else "host.qcow2")
        done = given.make(image.name)
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        if image.suffix == ".raw":
            assert "No errors detected" in run("sfdisk", "--verify", image)
        expected = ("--expect", "HV-FIXTURE firmware=bios", "--expect", "HV-FIXTURE end")
        words = ("media", "try", str(image), "--bios", "--usb", "--memory", "512", "--no-network")
        assert dispatch([*words, *expected, "--serial", str(given.folder / "serial")]) == Exit.ok
        said = (given.folder / "serial").read_text(errors="replace")
        assert "init=/nix/var/nix/profiles/system/init quiet" in said
        initrd = re.search(r"HV-FIXTURE initrd=(\d+)", said)
        assert initrd
        assert int(initrd[1]) > 0


def test_what_a_prototype_says(tmp_path: Path) -> None:
    folder, stage = tmp_path / "folder", tmp_path / "stage"
    stage.mkdir()
    (folder / "a b").mkdir(parents=True)
    (folder / "a b").chmod(0o750)
    (folder / "a b/file").write_text("x")
    (folder / "a b/file").chmod(0o4711)
    (folder / "link").symlink_to("a/b")
    text, spaces = host_filesystems.prototype(folder, stage)
    owner = f"{os.getuid()} {os.getgid()}"
    assert spaces
    assert text.splitlines()[3:] == [
        f"a/b d--750 {owner}",
        f"file -u-711 {owner} {stage}/4",
        "$",
        f"link l--777 {owner} a/b",
        "$",
    ]
    assert (stage / "4").read_text() == "x"


@pytest.mark.parametrize("name", ["a\tb", "$", ":x", "a\nb"])
def test_names_that_a_prototype_cannot_say(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(HyperError, match="xfs cannot be made"):
        host_filesystems.prototype(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("version", "enough"), [("v6.2", False), ("v6.11.1", False), ("v6.12", True), ("v7.0", True)]
)
def test_subvolumes_need_a_newer_program(version: str, enough: bool, tmp_path: Path) -> None:
    (tmp_path / "mkfs.btrfs").write_text(f"#!/bin/sh\necho 'mkfs.btrfs, part of btrfs-progs {version}'\n")
    (tmp_path / "mkfs.btrfs").chmod(0o755)
    runner = Runner(NoLog(), f"{tmp_path}:/usr/bin:/bin")
    if enough:
        host_filesystems.require_subvolumes(runner)
    else:
        with pytest.raises(HyperError, match="no btrfs") as error:
            host_filesystems.require_subvolumes(runner)
        assert "6.12" in error.value.remedy


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_the_package_brings_what_images_are_made_with(system: str) -> None:
    """All but Nix and QEMU, which are the system's."""
    words = require().evaluate(f"{flakes()}.own.packages.{system}.hv.makeWrapperArgs")
    there = {re.sub(r"-(bin|\d.*)$", "", name[44:]) for name in words[3].removesuffix("/bin").split("/bin:")}
    wanted = {"btrfs-progs", "dosfstools", "e2fsprogs", "libfaketime", "mtools", "squashfs", "util-linux"}
    wanted |= {"xfsprogs", "libisoburn"} | ({"grub"} if system.startswith("x86") else set())
    assert wanted <= there


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    """An image with a description in its store, and another one without."""
    tree = tmp_path / "store"
    tree.mkdir()
    named = f"{'1' * 32}-medium.json"
    (tree / named).write_text(medium().model_dump_json())
    (tree / "nix-path-registration").write_text(f"/nix/store/{named}\n{'0' * 64}\n120\n\n0\n")
    (tmp_path / "image").mkdir()
    run("mksquashfs", tree, tmp_path / "image/nix-store.squashfs", "-quiet", "-no-progress")
    run("xorriso", "-as", "mkisofs", "-R", "-quiet", "-o", tmp_path / "medium.iso", tmp_path / "image")
    return tmp_path / "medium.iso"


def test_the_medium_is_read_out_of_an_image(iso: Path, tmp_path: Path) -> None:
    assert described(iso) == medium()
    (tmp_path / "medium.json").write_text(medium().model_dump_json())
    assert described(tmp_path / "medium.json") == medium()
    with pytest.raises(HyperError, match="does not say what it carries") as error:
        described(fixture.image("24.11"))
    assert "there is no medium.json in its store" in error.value.why
    with pytest.raises(HyperError, match="cannot be read") as error:
        described(tmp_path / "none")
    assert "take an ISO image of ours" in error.value.remedy


def test_the_configuration_of_a_host_that_a_bios_starts(tmp_path: Path) -> None:
    words = changed(tmp_path, 'source = "closure"\nclosure = "tiny"', 'source = "flake"')
    assert dispatch([*words, "--bios", "--render", str(tmp_path / "etc")]) == Exit.ok
    disks = (tmp_path / "etc/disks.nix").read_text()
    assert 'device = "nodev";' in disks
    assert 'fsIdentifier = "provided";' in disks
    assert host_machine.SERIAL not in disks


@pytest.mark.parametrize(
    ("apart", "kernel", "wrong"),
    [
        (True, "/kernels/x-bzImage", False),
        (False, "/nix/store/x/bzImage", False),
        (False, "/boot/kernels/x", False),
        (True, "/nix/store/x/bzImage", True),
        (False, "/@/nix/store/x/bzImage", True),
        (False, "($drive1)//@/nix/store/x/bzImage", True),
    ],
)
def test_menus_that_name_what_is_mounted_here(apart: bool, kernel: str, wrong: bool, tmp_path: Path) -> None:
    (tmp_path / "grub").mkdir()
    (tmp_path / "grub/grub.cfg").write_text(
        f"menuentry x {{\n  linux {kernel} init=/nix/store/x/init\n  initrd {kernel} {kernel}-secrets\n}}\n"
    )
    if wrong:
        with pytest.raises(HyperError, match="would not find the kernel"):
            host_grub.require_found(tmp_path, apart=apart)
    else:
        host_grub.require_found(tmp_path, apart=apart)


@pytest.mark.nixpkgs
def test_a_bios_host_evaluates(tmp_path: Path) -> None:
    """NixOS's own program writes GRUB's menu, and is told of no disk."""
    words = changed(tmp_path, 'source = "closure"\nclosure = "tiny"', 'source = "flake"')
    assert dispatch([*words, "--bios", "--render", str(tmp_path / "etc")]) == Exit.ok
    select = (
        "{ config, ... }: let g = config.boot.loader.grub; in "
        "{ inherit (g) enable devices fsIdentifier; top = builtins.isString config.system.build.toplevel.drvPath; }"
    )
    found = evaluate_flake_host(tmp_path / "etc", "cloud1", select)
    assert found.failed_assertions == ()
    assert found.value == {"enable": True, "devices": ["nodev"], "fsIdentifier": "provided", "top": True}
