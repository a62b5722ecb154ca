"""A live system's store that stage 1 fetches by itself: the script with a real server, and with whatever goes wrong."""

import functools
import hashlib
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from random import Random

import pytest

from hv.cli import dispatch
from installer.answers.sizes import MIB
from installer.errors import Exit
from iso import netboot, qemu
from iso.commands import media_netboot
from iso.qemu import Attached, Firmware, Machine, find_tools
from tests import linux_guest
from tests.file_server import Mirror, mirror
from tests.media import stage1
from tests.nixeval import netboot as golden
from tests.nixeval import nix
from tests.nixeval.host import flakes
from tests.nixeval.nix import REPOSITORY

SCRIPT = REPOSITORY / "iso/media/fetch-store.sh"
STORE = Random(26).randbytes(3 * MIB + 12345)
PATH = f"/{netboot.STORE}"
GIB_IN_KIB = 1 << 20
AFTERWARDS = """
sh "$1" "$2" "$3"; code=$?
grep " $2/run/hyper-nixos-store " /proc/mounts
if [ -e "$2/run/hyper-nixos-store/nix-store.squashfs" ]; then sha256sum "$2/run/hyper-nixos-store/nix-store.squashfs"; fi
exit $code
"""
"""What the script leaves is looked at where it left it: its mount is gone with its namespace."""


def digest(data: bytes) -> str:
    """Its SHA-256."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Fetched:
    """What came of it."""

    code: int
    said: str
    consoles: tuple[str, str]
    root: Path

    @property
    def whole(self) -> bool:
        """Whether the store is there, mounted read-only, where it is looked for."""
        link = self.root / "nix-store.squashfs"
        return (
            digest(STORE) in self.said.splitlines()[-1]
            and re.search(r"hyper-nixos-store tmpfs ro,", self.said) is not None
            and link.is_symlink()
            and str(link.readlink()) == "/run/hyper-nixos-store/nix-store.squashfs"
        )


def fetch(
    root: Path,
    url: str,
    *,
    size: int = len(STORE),
    sha256: str = digest(STORE),
    free: int = GIB_IN_KIB,
    patience: int = 60,
) -> Fetched:
    """Run it as stage 1 would."""
    for place in ("proc", "run", "dev", "sys/class/tty/console"):
        (root / place).mkdir(parents=True, exist_ok=True)
    words = (
        f"quiet hyper-nixos.store={url} hyper-nixos.store-size={size} hyper-nixos.store-sha256={sha256} a=*"
    )
    (root / "proc/cmdline").write_text(f"{words}\n")
    (root / "proc/meminfo").write_text(
        f"MemTotal:  {2 * free} kB\nMemFree:  1 kB\nMemAvailable:  {free} kB\n"
    )
    (root / "sys/class/tty/console/active").write_text("tty0 ttyS0\n")
    namespace = ("unshare", "--user", "--map-root-user", "--mount")
    done = subprocess.run(
        [*namespace, "sh", "-c", AFTERWARDS, "sh", SCRIPT, root, str(patience)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    consoles = [(root / "dev" / name).read_text() for name in ("tty0", "ttyS0")]
    return Fetched(done.returncode, done.stdout + done.stderr, (consoles[0], consoles[1]), root)


@pytest.fixture
def server() -> Iterator[Mirror]:
    """One that has the store."""
    with mirror() as made:
        made.files[PATH] = STORE
        yield made


def test_the_store_is_fetched_and_mounted_from_where_it_is_looked_for(
    server: Mirror, tmp_path: Path
) -> None:
    found = fetch(tmp_path, server.url + PATH)
    assert (found.code, found.whole) == (0, True), found.said
    assert server.asked == [(PATH, None)]
    for console in found.consoles:
        assert "fetching the store, 4 MiB, from" in console
        assert "with the SHA-256 that it should have" in console


def test_connections_that_break_are_gone_on_with(server: Mirror, tmp_path: Path) -> None:
    server.cuts[:] = [1 * MIB, 1000, 1 * MIB]
    found = fetch(tmp_path, server.url + PATH)
    assert (found.code, found.whole) == (0, True), found.said
    begun = [None, 1 * MIB, 1 * MIB + 1000, 2 * MIB + 1000]
    assert server.asked == [(PATH, begin and f"bytes={begin}-") for begin in begun]
    # Each brought something, so nobody waits longer and longer.
    assert found.said.count("once more in 1 seconds") == 3


def test_a_server_that_cannot_begin_in_the_middle(server: Mirror, tmp_path: Path) -> None:
    server.cuts[:] = [1 * MIB]
    server.ranges = False
    found = fetch(tmp_path, server.url + PATH)
    assert (found.code, found.whole) == (0, True), found.said
    assert server.asked[-1] == (PATH, None)


def test_a_server_that_comes_later(server: Mirror, tmp_path: Path) -> None:
    server.files.clear()
    late = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Busy, kept=server))
    threading.Thread(target=late.serve_forever, args=(0.02,), daemon=True).start()
    try:
        found = fetch(tmp_path, f"http://127.0.0.1:{late.server_port}{PATH}")
    finally:
        late.shutdown()
        late.server_close()
    assert (found.code, found.whole) == (0, True), found.said
    assert [int(each) for each in re.findall(r"once more in (\d+) seconds", found.said)] == [1, 2]


class _Busy(media_netboot._Handler):
    """Too busy at first (503), then a folder of ours."""

    def __init__(self, *words: object, kept: Mirror) -> None:
        self.kept = kept
        super().__init__(*words)  # type: ignore[arg-type]

    def do_GET(self) -> None:  # noqa: N802 -- as the class it comes from has it
        self.kept.asked.append((self.path, None))
        if len(self.kept.asked) <= 2:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(STORE)))
        self.end_headers()
        self.wfile.write(STORE)


SPOILED = STORE[:-1] + bytes([STORE[-1] ^ 1])


@pytest.mark.parametrize(
    "served",
    [SPOILED, STORE[:-5000], STORE + bytes(2 * MIB)],
    ids=["one bit", "shorter", "longer"],
)
def test_another_store_is_not_mounted(served: bytes, server: Mirror, tmp_path: Path) -> None:
    server.files[PATH] = served
    found = fetch(tmp_path, server.url + PATH)
    assert found.code == 1
    assert not (tmp_path / "nix-store.squashfs").is_symlink()
    # Once more from the beginning, as something may have gone wrong on its way.
    assert server.asked == [(PATH, None)] * 2
    for console in found.consoles:
        assert "ERROR: the store was not fetched: it is not the one that belongs to this kernel" in console
        assert "do:  make the folder anew with `hv media netboot`" in console


def test_what_was_spoiled_on_its_way_is_fetched_anew(server: Mirror, tmp_path: Path) -> None:
    """The server has another one until the connection breaks."""
    server.files[PATH] = SPOILED[: 1 * MIB] + bytes(len(STORE) - 1 * MIB)
    server.cuts[:] = [2 * MIB]

    class Changes(list[tuple[str, str | None]]):
        def append(self, asked: tuple[str, str | None]) -> None:
            super().append(asked)
            if len(self) == 2:
                server.files[PATH] = STORE

    server.asked = Changes()
    found = fetch(tmp_path, server.url + PATH)
    assert (found.code, found.whole) == (0, True), found.said
    assert "fetched once more from the beginning" in found.said


def test_too_little_memory_is_told_before_anything_is_fetched(server: Mirror, tmp_path: Path) -> None:
    found = fetch(tmp_path, server.url + PATH, size=3 << 30, free=GIB_IN_KIB * 3)
    assert found.code == 1
    assert server.asked == []
    for console in found.consoles:
        assert "it does not fit into this machine's memory" in console
        assert "it takes 3072 MiB, the live system 512 MiB more; 3072 of 6144 MiB are free" in console
        assert "start it from the ISO image" in console
        assert "Ctrl+Alt+Del" in console


def test_what_is_not_served_is_told_at_once(server: Mirror, tmp_path: Path) -> None:
    found = fetch(tmp_path, f"{server.url}/other")
    assert found.code == 1
    assert len(server.asked) == 1
    assert "404" in found.consoles[0]
    assert "hv media serve" in found.consoles[0]


def test_a_server_that_is_away_is_waited_for_and_told(tmp_path: Path) -> None:
    found = fetch(tmp_path, f"http://127.0.0.1:9{PATH}", patience=3)
    assert found.code == 1
    assert "once more in 1 seconds" in found.said
    assert "no byte came for 3 seconds" in found.consoles[1]
    assert "whether this machine has an address" in found.consoles[1]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"url": "ftp://x/y"}, "no address is known"),
        ({"size": -1}, "its size is not known"),
        ({"sha256": "none"}, "its SHA-256 is not known"),
    ],
)
def test_arguments_that_say_nothing(given: dict[str, object], why: str, tmp_path: Path) -> None:
    run: Callable[..., Fetched] = fetch
    found = run(tmp_path, **({"url": "http://127.0.0.1:9/x"} | given))
    assert found.code == 1
    assert why in found.consoles[0]


def test_the_script_and_the_command_know_of_the_same_room() -> None:
    found = re.search(r"(?m)^reserve=(\d+)", SCRIPT.read_text())
    assert found
    assert int(found[1]) * MIB == netboot.BESIDE


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_stage_1_is_what_was_committed(system: str) -> None:
    found = golden.stage_1(system)
    assert (found["failed"], found["warnings"]) == ([], [])
    assert found["wanted"] == golden.committed(), "python -m tests.nixeval.netboot"
    assert {"virtio_net", "e1000e", "r8169", "mlx5_core"} <= {*found["modules"]}
    # What the script runs: coreutils have the rest.
    assert {"curl", "mount", "umount"} <= {*found["programs"]}
    assert "coreutils" in found["packages"]


def test_stage_1_fetches_the_store_when_it_is_told_to_and_does_nothing_else() -> None:
    found = golden.committed()
    for name in (
        "hyper-nixos-store",
        "systemd-networkd",
        "systemd-networkd-wait-online",
        "systemd-resolved",
    ):
        unit = found["units"][f"{name}.service"].splitlines()
        assert "ConditionKernelCommandLine=hyper-nixos.store" in unit
    # Nothing starts it but the service that wants a network.
    assert {*map(len, found["wantedBy"].values())} == {0}
    assert "Wants=network-online.target" in found["units"]["hyper-nixos-store.service"].splitlines()
    # Where the script puts it: from the top of the first file system.
    (row,) = [each.split() for each in found["fstab"].splitlines() if " squashfs " in each]
    assert row[0] == "../nix-store.squashfs"
    assert '"$root/nix-store.squashfs"' in SCRIPT.read_text()
    assert "x-systemd.requires=hyper-nixos-store.service" in row[3].split(",")


@pytest.mark.nixpkgs
def test_both_are_in_what_the_flake_builds() -> None:
    found = nix.require().evaluate(
        f"let paths = {flakes()}.own.packages.x86_64-linux.netboot.passthru.storeByItself; in "
        "map (each: builtins.baseNameOf each) (builtins.attrNames paths)"
    )
    assert found == [netboot.SMALL, netboot.STORE]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`hv media serve`'s own server."""
    handler = functools.partial(media_netboot._Handler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def curl(*words: str) -> tuple[int, bytes]:
    """Its exit status, and what it fetched."""
    done = subprocess.run(("curl", "--silent", "--fail", *words), capture_output=True, check=False)
    return done.returncode, done.stdout


def test_what_is_served_can_be_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(STORE)
    with serving(tmp_path) as url:
        assert curl(f"{url}/file") == (0, STORE)
        assert curl("--range", "1000-", f"{url}/file") == (0, STORE[1000:])
        assert curl("--range", f"{len(STORE) - 1}-", f"{url}/file") == (0, STORE[-1:])
        assert curl("--range", f"{len(STORE)}-", f"{url}/file")[0] == 22
        # What it does not understand it may ignore (RFC 9110, 14.2).
        assert curl("--range", "5-9", f"{url}/file") == (0, STORE)
        assert curl("--range", "0-", f"{url}/../{tmp_path.name}/none")[0] == 22
        assert curl("--head", f"{url}/file")[0] == 0


CONTENT = Random(5).randbytes(20 * MIB)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a RAM disk of a real systemd, and a store with what comes after it."""
    folder = tmp_path_factory.mktemp("live")
    stage1.store(folder, CONTENT)
    (folder / "initrd").write_bytes(stage1.ram_disk())
    return folder


def boot(folder: Path, url: str, expect: list[str], *more: Path, named: bytes | None = None) -> str:
    """Start it; what came over the serial line. `named`: the store that the kernel arguments name, none: no store."""
    arguments = stage1.ARGUMENTS
    if named is not None:
        port = url.rpartition(":")[2]
        arguments += f" hyper-nixos.store=http://10.0.2.2:{port}{PATH}"
        arguments += f" hyper-nixos.store-size={len(named)} hyper-nixos.store-sha256={digest(named)}"
    kernel = next((linux_guest.kernel() / "boot").glob("vmlinuz-*"))
    machine = Machine(
        kernel,
        Firmware.bios,
        Attached.cd,
        memory=1024,
        kernel=kernel,
        initrds=(folder / "initrd", *more),
        arguments=arguments,
    )
    trial = qemu.run(machine, find_tools(machine), expect=expect, patience=600, hear=lambda _: None)
    said = trial.serial.decode(errors="replace")
    assert trial.found == expect, said[-3000:]
    return said


@pytest.mark.vm
def test_a_machine_fetches_its_store_and_starts_from_it(live: Path, server: Mirror) -> None:
    """A real systemd as stage 1, with the evaluated units and file systems, its network by DHCP, and an overlay."""
    store = (live / netboot.STORE).read_bytes()
    server.files[PATH] = store
    server.cuts[:] = [5 * MIB, 100]
    said = boot(live, server.url, ["STAGE2 end"], named=store)
    assert len(server.asked) == 3
    assert "STAGE2 store overlay overlay" in said
    assert "STAGE2 fetched tmpfs ro," in said
    assert f"STAGE2 content {digest(CONTENT)}" in said
    assert "STAGE2 the store takes what is added" in said
    # Who sets up the network after stage 1 finds it as it was.
    assert "STAGE2 addresses 0" in said


@pytest.mark.vm
@pytest.mark.matrix
def test_from_the_network_card_to_the_store(live: Path, tmp_path: Path) -> None:
    """The commands as they are typed: iPXE fetches kernel and RAM disk from `hv media serve`, stage 1 the store."""
    built = tmp_path / "built"
    built.mkdir()
    shutil.copy(next((linux_guest.kernel() / "boot").glob("vmlinuz-*")), built / "bzImage")
    shutil.copy(live / "initrd", built / netboot.SMALL)
    shutil.copy(live / netboot.STORE, built / netboot.STORE)
    (built / "initrd").write_bytes(b"one with everything")
    (built / netboot.SCRIPT).write_text(
        f"#!ipxe\nkernel bzImage {stage1.ARGUMENTS} initrd=initrd ${{cmdline}}\ninitrd initrd\nboot\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("--output", tmp_path / "served", "--url", f"http://10.0.2.2:{port}", "--store", "fetched")
    assert dispatch(["media", "netboot", *map(str, (built, *words))]) == Exit.ok
    argv = [sys.executable, "-m", "hv", "media", "serve", str(tmp_path / "served")]
    with subprocess.Popen(
        [*argv, "--listen", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as serving_it:
        try:
            assert serving_it.stdout
            assert serving_it.stdout.readline()
            machine = ("--bios", "--pxe", "--memory", "1024", "--serial", tmp_path / "log")
            expected = ("--expect", "STAGE2 end", "--timeout", "120")
            assert (
                dispatch(["media", "try", *map(str, (tmp_path / "served", *machine, *expected))]) == Exit.ok
            )
        finally:
            serving_it.terminate()
    assert f"STAGE2 content {digest(CONTENT)}" in (tmp_path / "log").read_text(errors="replace")


@pytest.mark.vm
@pytest.mark.matrix
def test_a_machine_does_not_start_from_another_store(live: Path, server: Mirror) -> None:
    store = (live / netboot.STORE).read_bytes()
    server.files[PATH] = store[:-1] + bytes([store[-1] ^ 1])
    said = boot(
        live, server.url, ["it is not the one that belongs to this kernel", "Ctrl+Alt+Del"], named=store
    )
    assert "STAGE2" not in said


@pytest.mark.vm
@pytest.mark.matrix
def test_a_machine_whose_store_is_in_the_ram_disk_wants_no_network(live: Path, tmp_path: Path) -> None:
    """As nixpkgs' netbootRamdisk has it: behind the same RAM disk, another archive."""
    (tmp_path / "store").write_bytes(linux_guest.cpio({netboot.STORE: (live / netboot.STORE).read_bytes()}))
    said = boot(live, "", ["STAGE2 end"], tmp_path / "store")
    assert f"STAGE2 content {digest(CONTENT)}" in said
    assert "Network Configuration" not in said
    assert "hyper-nixos:" not in said
