"""`hv media netboot` and `serve`: the script, the answers in the RAM disk, and what is served."""

import hashlib
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hv.cli import dispatch
from installer import embed
from installer.errors import Exit, HyperError
from iso import login, netboot
from iso.qemu import Attached, Firmware, Machine, arguments, find_tools, prepare, run
from tests import linux_guest
from tests.media import fixture
from tests.media.kernel import kernel
from tests.nixeval.nix import REPOSITORY

SCRIPT = f"""#!ipxe
# Use the cmdline variable
kernel bzImage init=/nix/store/x/init initrd=initrd loglevel=4 {embed.kernel_argument()} ${{cmdline}}
initrd initrd
boot
"""
URL = "http://192.0.2.1:8080"


def hv(*words: str | Path) -> int:
    """Run `hv media`."""
    return dispatch(["media", *map(str, words)])


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder as the flake builds it."""
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "netboot.ipxe").write_text(SCRIPT)
    (folder / "bzImage").write_bytes(kernel())
    (folder / "initrd").write_bytes(fixture.INITRD)
    return folder


def made(built: Path, *words: str | Path) -> Path:
    """The folder to be served."""
    target = built.parent / "served"
    assert hv("netboot", built, "--output", target, "--url", URL, *words) == Exit.ok
    return target


def test_script_and_answers(built: Path) -> None:
    folder = made(
        built, "--answers", REPOSITORY / "examples/home-lab.toml", "--kernel-argument", "console=ttyS1"
    )
    lines = (folder / "boot.ipxe").read_text().splitlines()
    names = "initrd=initrd initrd=answers.initrd"
    assert lines == [
        "#!ipxe",
        " ".join(
            (f"kernel {URL}/bzImage init=/nix/store/x/init loglevel=4 console=ttyS1", names, "${cmdline}")
        ),
        f"initrd --name initrd {URL}/initrd",
        f"initrd --name answers.initrd {URL}/answers.initrd",
        "boot",
    ]
    archive = folder / "answers.initrd"
    assert archive.stat().st_mode & 0o777 == 0o600
    unpacked = folder.parent / "unpacked"
    unpacked.mkdir()
    with archive.open("rb") as file:
        subprocess.run(["cpio", "-i", "--quiet"], stdin=file, cwd=unpacked, check=True)
    # Where stage 1 puts it, the live system finds it.
    root = folder.parent / "root"
    (root / "run/hyper-nixos").mkdir(parents=True)
    (unpacked / embed.PATH).rename(root / "run/hyper-nixos/embed.bin")
    assert login.embedded(root)["answers.toml"] == (REPOSITORY / "examples/home-lab.toml").read_bytes()


def test_without_answers_there_is_one_ram_disk(built: Path) -> None:
    folder = made(built, "--kernel-argument", "a=b")
    assert sorted(file.name for file in folder.iterdir()) == ["boot.ipxe", "bzImage", "initrd"]
    assert "answers" not in (folder / "boot.ipxe").read_text()


@pytest.fixture
def by_itself(built: Path) -> Path:
    """The same with the store apart."""
    (built / netboot.SMALL).write_bytes(fixture.INITRD)
    (built / netboot.STORE).write_bytes(b"hsqs" * 1000)
    return built


def test_the_store_is_fetched_by_itself(by_itself: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = ("--answers", REPOSITORY / "examples/home-lab.toml", "--kernel-argument", "a=b")
    folder = made(by_itself, "--store", "fetched", *answers)
    assert "the store is fetched in stage 1; machines need at least" in capsys.readouterr().out
    digest = hashlib.sha256(b"hsqs" * 1000).hexdigest()
    store = f"hyper-nixos.store={URL}/nix-store.squashfs hyper-nixos.store-size=4000 hyper-nixos.store-sha256={digest}"
    names = "initrd=initrd-without-store initrd=answers.initrd ${cmdline}"
    assert (folder / "boot.ipxe").read_text().splitlines() == [
        "#!ipxe",
        f"kernel {URL}/bzImage init=/nix/store/x/init loglevel=4 {store} a=b {names}",
        f"initrd --name initrd-without-store {URL}/initrd-without-store",
        f"initrd --name answers.initrd {URL}/answers.initrd",
        "boot",
    ]
    there = ["answers.initrd", "boot.ipxe", "bzImage", "initrd-without-store", "nix-store.squashfs"]
    assert sorted(file.name for file in folder.iterdir()) == there


def test_where_the_store_comes_from_is_chosen_by_its_size(by_itself: Path) -> None:
    found = netboot.read(by_itself)
    assert found.choose(None) is netboot.Store.ram_disk
    with (by_itself / "initrd").open("r+b") as file:
        file.truncate(netboot.RAM_DISK_MOST + 1)
    assert found.choose(None) is netboot.Store.fetched
    assert found.choose(netboot.Store.ram_disk) is netboot.Store.ram_disk
    (by_itself / netboot.STORE).unlink()
    assert found.choose(None) is netboot.Store.ram_disk
    with pytest.raises(HyperError, match="cannot be fetched by itself") as error:
        made(by_itself, "--store", "fetched")
    assert "nix-store.squashfs" in error.value.why
    assert not (by_itself.parent / "served").exists()


def test_a_machine_gets_both_ram_disks(built: Path, tmp_path: Path) -> None:
    """What iPXE hands over, handed over by QEMU: one after the other."""
    folder = made(built, "--answers", REPOSITORY / "examples/home-lab.toml")
    machine = Machine(
        built / "bzImage",
        Firmware.bios,
        Attached.cd,
        memory=512,
        kernel=folder / "bzImage",
        initrds=(folder / "initrd", folder / "answers.initrd"),
        arguments="hv.netboot=yes",
        network=False,
    )
    trial = run(machine, find_tools(machine), expect=["HV-FIXTURE end"], patience=60, hear=lambda _: None)
    size = len(fixture.INITRD) + (folder / "answers.initrd").stat().st_size
    assert f"initrd={size} ".encode() in trial.serial
    assert b"hv.netboot=yes" in trial.serial


@pytest.mark.vm
def test_a_machine_boots_over_the_network(built: Path, tmp_path: Path) -> None:
    """A real iPXE gets the script by TFTP, and kernel and RAM disks over HTTP from `hv media serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = built.parent / "served"
    answers = ("--answers", REPOSITORY / "examples/home-lab.toml", "--kernel-argument", "hv.netboot=yes")
    assert hv("netboot", built, "--output", folder, "--url", f"http://10.0.2.2:{port}", *answers) == Exit.ok
    argv = [sys.executable, "-m", "hv", "media", "serve", str(folder), "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as server:
        try:
            assert server.stdout
            assert server.stdout.readline()
            expected = ("--expect", "hv.netboot=yes", "--expect", "HV-FIXTURE end")
            words = ("--bios", "--pxe", "--memory", "512", "--serial", tmp_path / "log")
            assert hv("try", folder, *words, *expected) == Exit.ok
        finally:
            server.terminate()
    said = (tmp_path / "log").read_text(errors="replace")
    found = re.search(r"HV-FIXTURE initrd=(\d+)", said)
    assert found
    # iPXE puts them one after the other, each at a multiple of four.
    assert int(found[1]) >= len(fixture.INITRD) + (folder / "answers.initrd").stat().st_size


INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys
echo "NETBOOT efi=$([ -d /sys/firmware/efi ] && echo yes) $(cat /proc/cmdline)"
echo "NETBOOT answers=$(sha256sum </hyper-nixos/embed.bin)"
echo "NETBOOT end"
poweroff -f
"""
"""The first process of a real Linux: what it was started with."""


@pytest.fixture
def linux(built: Path) -> Path:
    """The same with Debian's kernel, which is an EFI program, and a RAM disk of a size that is no multiple of four."""
    shutil.copy(next((linux_guest.kernel() / "boot").glob("vmlinuz-*")), built / "bzImage")
    ram = linux_guest.initramfs(INIT, ())
    (built / "initrd").write_bytes(ram + bytes(5 - len(ram) % 4))
    assert (built / "initrd").stat().st_size % 4 == 1
    return built


def embedded(folder: Path) -> str:
    """SHA-256 of what stage 1 finds."""
    archive = folder / "answers.initrd"
    unpacked = folder.parent / "unpacked"
    unpacked.mkdir()
    with archive.open("rb") as file:
        subprocess.run(["cpio", "-i", "--quiet"], stdin=file, cwd=unpacked, check=True)
    return hashlib.sha256((unpacked / embed.PATH).read_bytes()).hexdigest()


@contextmanager
def served(folder: Path, listen: str, *before: str) -> Iterator[str]:
    """By the command; what it says first."""
    argv = [*before, sys.executable, "-m", "hv", "media", "serve", str(folder), "--listen", listen]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as server:
        try:
            assert server.stdout
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@pytest.mark.vm
def test_uefi_boots_over_the_network(linux: Path, tmp_path: Path) -> None:
    """The card's own iPXE as an EFI driver, a real Linux, and both RAM disks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = linux.parent / "served"
    words = ("--answers", REPOSITORY / "examples/home-lab.toml", "--kernel-argument", "console=ttyS0")
    assert hv("netboot", linux, "--output", folder, "--url", f"http://10.0.2.2:{port}", *words) == Exit.ok
    with served(folder, f"127.0.0.1:{port}"):
        expected = ("--expect", "NETBOOT efi=yes", "--expect", "NETBOOT end")
        machine = ("--uefi", "--pxe", "--memory", "1024", "--serial", tmp_path / "log")
        assert hv("try", folder, *machine, *expected) == Exit.ok
    assert f"NETBOOT answers={embedded(folder)}" in (tmp_path / "log").read_text(errors="replace")


@pytest.fixture
def network() -> Iterator[tuple[str, ...]]:
    """A network of its own with a socket for a machine, `tap`, at 192.0.2.1; what runs a program in it."""
    name = f"hv-{secrets.token_hex(3)}"
    inside = ("ip", "netns", "exec", name)
    fixture.run("ip", "netns", "add", name)
    try:
        for words in (
            ("ip", "link", "set", "lo", "up"),
            ("ip", "tuntap", "add", "tap", "mode", "tap"),
            ("ip", "address", "add", "192.0.2.1/24", "dev", "tap"),
            ("ip", "link", "set", "tap", "up"),
        ):
            fixture.run(*inside, *words)
        yield inside
    finally:
        fixture.run("ip", "netns", "delete", name)


@pytest.mark.vm
@pytest.mark.root
def test_firmware_boots_by_http_itself(linux: Path, tmp_path: Path, network: tuple[str, ...]) -> None:
    """UEFI HTTP boot: the firmware's own network, a DHCP server with the recipe's lines, and iPXE from `serve`."""
    folder = linux.parent / "served"
    words = ("--answers", REPOSITORY / "examples/home-lab.toml", "--kernel-argument", "console=ttyS0")
    loader = ("--ipxe", linux_guest.ipxe())
    assert hv("netboot", linux, "--output", folder, "--url", URL, *words, *loader) == Exit.ok
    recipe = tmp_path / "dnsmasq.conf"
    recipe.write_text(
        f"port=0\ninterface=tap\nbind-interfaces\ndhcp-range=192.0.2.10,192.0.2.20\nlog-dhcp\nleasefile-ro\n"
        f"{netboot.http_boot(URL)}"
    )
    machine = Machine(folder, Firmware.uefi, Attached.pxe, memory=1024)
    tools = find_tools(machine)
    prepare(machine, tools, tmp_path)
    said = ""
    with served(folder, "192.0.2.1:8080", *network):
        dnsmasq = subprocess.Popen(
            [*network, "dnsmasq", "--no-daemon", "--user=root", f"--conf-file={recipe}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        argv = arguments(machine, tools, tmp_path)
        place = argv.index("-netdev")
        argv[place : place + 4] = (
            *("-netdev", "tap,id=lan,ifname=tap,script=no,downscript=no"),
            *("-device", "virtio-net-pci,netdev=lan,bootindex=1,romfile="),
        )
        argv += ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]
        argv += ["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]
        argv += ["-display", "none", "-serial", "stdio"]
        qemu = subprocess.Popen([*network, *argv], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        limit = threading.Timer(600, qemu.kill)
        limit.start()
        try:
            assert qemu.stdout
            for line in qemu.stdout:
                said += line.decode(errors="replace")
                if "NETBOOT end" in said:
                    break
        finally:
            limit.cancel()
            for each in (qemu, dnsmasq):
                each.kill()
                each.wait()
    assert "NETBOOT efi=yes" in said, said[-3000:]
    assert f"NETBOOT answers={embedded(folder)}" in said


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "initrd").unlink(), "which is not there"),
        (lambda folder: (folder / "netboot.ipxe").unlink(), "cannot be read"),
        (lambda folder: (folder / "netboot.ipxe").write_text("#!ipxe\n"), "names no kernel"),
        (
            lambda folder: (folder / "netboot.ipxe").write_text("kernel ../x y\ninitrd initrd\n"),
            "which is not there",
        ),
    ],
)
def test_what_is_no_netboot_folder(spoil: object, why: str, built: Path) -> None:
    assert callable(spoil)
    spoil(built)
    with pytest.raises(HyperError, match="does not boot over the network") as error:
        made(built)
    assert why in error.value.why
    assert not (built.parent / "served").exists()


@pytest.mark.parametrize("url", ["ftp://x", "192.0.2.1", "http://x/ y", "http://x/${a}"])
def test_addresses_that_ipxe_does_not_take(url: str, built: Path) -> None:
    with pytest.raises(HyperError, match="no address"):
        hv("netboot", built, "--output", built.parent / "served", "--url", url)


def test_it_is_served(built: Path) -> None:
    folder = made(built, "--kernel-argument", "a=b")
    argv = [sys.executable, "-m", "hv", "media", "serve", str(folder), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as server:
        try:
            assert server.stdout
            shown = server.stdout.readline().strip()
            found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/boot\.ipxe", shown)
            assert found, shown
            with urllib.request.urlopen(shown) as answer:
                assert answer.read().startswith(b"#!ipxe\n")
            with urllib.request.urlopen(f"{found[1]}/bzImage") as answer:
                assert answer.read() == kernel()
            for path in ("", "../result/netboot.ipxe", "%2e%2e/result/netboot.ipxe"):
                with pytest.raises(urllib.error.HTTPError) as error:
                    urllib.request.urlopen(f"{found[1]}/{path}")
                assert error.value.code == 404
        finally:
            server.terminate()


def test_other_folders_are_not_served(tmp_path: Path) -> None:
    with pytest.raises(HyperError, match="not served"):
        hv("serve", tmp_path)


@pytest.mark.parametrize("recipe", [netboot.dnsmasq(URL), netboot.http_boot(URL)])
def test_dnsmasq_takes_its_recipe(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "dnsmasq.conf").write_text(recipe)
    done = subprocess.run(
        ["dnsmasq", "--test", f"--conf-file={tmp_path / 'dnsmasq.conf'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "dhcp-range=192.0.2.0,proxy" in netboot.dnsmasq(URL)


def test_ipxe_goes_along(built: Path, tmp_path: Path) -> None:
    for name in (netboot.LOADER, netboot.LOADER_BIOS):
        (built / name).write_text(f"built {name}")
    given = tmp_path / "given.efi"
    given.write_text("given")
    folder = made(built, "--ipxe", given)
    assert (folder / netboot.LOADER).read_text() == "given"
    assert (folder / netboot.LOADER_BIOS).read_text() == f"built {netboot.LOADER_BIOS}"
    assert f"tftp-root={folder}" in netboot.dnsmasq(URL, folder)
    with pytest.raises(HyperError, match="is no file"):
        hv("netboot", built, "--output", tmp_path / "other", "--url", URL, "--ipxe", tmp_path / "none")
    assert not (tmp_path / "other").exists()
