"""What a machine needs to boot over the network: iPXE script, kernel, initial RAM disk, and answers as a second one.

Everything comes over HTTP, by which large files travel far faster than by TFTP. The answers are an archive of their own
(installer/initrd.py), so that one kernel and one RAM disk serve a whole fleet.

The live system's store is part of the RAM disk, or is fetched by itself in stage 1 (iso/media/fetched-store.nix): a BIOS
gives iPXE no room for RAM disks of about 2 GiB and more, and while one is unpacked it is in memory twice.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from installer import embed
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.initrd import archive
from iso import contents
from iso.contents import Content

SCRIPT = "netboot.ipxe"
"""What nixpkgs calls its script."""
OURS = "boot.ipxe"
ANSWERS = "answers.initrd"
LOADER, LOADER_BIOS = "ipxe.efi", "undionly.kpxe"
"""iPXE itself, for firmware by UEFI and BIOS: `nix build .#netboot` has both."""
SMALL, STORE = "initrd-without-store", "nix-store.squashfs"
"""What is there so that the store can be fetched by itself."""
RAM_DISK_MOST = 3 * GIB // 2
"""Bytes of a RAM disk that every firmware still takes; from there on the store is fetched, if nobody says otherwise."""
BESIDE = 512 * MIB
"""Bytes of memory that the live system takes besides its store (iso/media/fetch-store.sh has the same)."""
_ARGUMENT = "hyper-nixos.store"


class Store(StrEnum):
    """Where the live system's store comes from."""

    ram_disk = "ram-disk"
    fetched = "fetched"


_KERNEL = re.compile(r"^kernel (\S+) (.*)$", re.MULTILINE)
_INITRD = re.compile(r"^initrd (\S+)$", re.MULTILINE)
_PAD = re.compile(re.escape(embed.ARGUMENT) + r"#*")


@dataclass(frozen=True)
class Netboot:
    """A folder as `nix build .#netboot` makes it."""

    folder: Path
    kernel: str
    arguments: str
    initrd: str

    @property
    def with_store_by_itself(self) -> bool:
        """Whether the store can be fetched: media that were built without it have it in the RAM disk alone."""
        return all((self.folder / name).is_file() for name in (SMALL, STORE))

    def choose(self, wanted: Store | None) -> Store:
        """Where the store comes from: as wanted, or else by the size of the RAM disk that has it.

        Raises:
            HyperError: it cannot come from there (Exit.medium).
        """
        if wanted is Store.fetched and not self.with_store_by_itself:
            raise HyperError(
                "the store cannot be fetched by itself",
                why=f"{self.folder} has no {SMALL} and {STORE}",
                remedy="build it again with `nix build .#netboot`, or leave the store in the RAM disk",
                code=Exit.medium,
            )
        if wanted or not self.with_store_by_itself:
            return wanted or Store.ram_disk
        large = (self.folder / self.initrd).stat().st_size > RAM_DISK_MOST
        return Store.fetched if large else Store.ram_disk


@dataclass(frozen=True)
class LaidOut:
    """A folder to be served."""

    names: tuple[str, ...]
    """What is in it."""
    store: Store
    memory: int
    """Bytes that a machine needs at least to start from it: unpacking has a RAM disk in memory twice."""


def wrong(folder: Path, why: str) -> HyperError:
    """The error for a folder that is none."""
    return HyperError(
        f"{folder} does not boot over the network",
        why=why,
        remedy="name what `nix build .#netboot` made: kernel, initrd and netboot.ipxe",
        code=Exit.medium,
    )


def read(folder: Path) -> Netboot:
    """Read the script. Raises HyperError (Exit.medium)."""
    try:
        script = (folder / SCRIPT).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(folder, f"{SCRIPT} cannot be read: {error}") from error
    kernel, initrd = _KERNEL.search(script), _INITRD.search(script)
    if kernel is None or initrd is None:
        raise wrong(folder, f"{SCRIPT} names no kernel and initial RAM disk")
    for name in (kernel[1], initrd[1]):
        if "/" in name or not (folder / name).is_file():
            raise wrong(folder, f"{SCRIPT} names {name}, which is not there")
    return Netboot(folder, kernel[1], kernel[2], initrd[1])


def script(netboot: Netboot, url: str, content: Content, store: tuple[str, ...] = ()) -> str:
    """The iPXE script; `url` is where the folder is served, `store` what tells stage 1 from where to fetch it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or re.search(r"[\s$#;&|]", url):
        raise HyperError(
            f"{url} is no address that iPXE fetches from",
            why="it takes http://HOST/… and https://HOST/…",
            remedy="write for example http://192.0.2.1:8080",
            code=Exit.usage,
        )
    contents.check_arguments(content.arguments)
    arguments = _PAD.sub("", netboot.arguments).replace("${cmdline}", "").split()
    # By EFI the kernel finds its RAM disks by these names.
    initrd = SMALL if store else netboot.initrd
    names = [f"initrd={initrd}", *([f"initrd={ANSWERS}"] if content.files else [])]
    arguments = [word for word in arguments if not word.startswith("initrd=")]
    base = url.rstrip("/")
    lines = [
        "#!ipxe",
        f"kernel {base}/{netboot.kernel} {' '.join([*arguments, *store, *content.arguments, *names])} ${{cmdline}}",
        f"initrd --name {initrd} {base}/{initrd}",
    ]
    if content.files:
        lines.append(f"initrd --name {ANSWERS} {base}/{ANSWERS}")
    return "\n".join([*lines, "boot", ""])


def lay_out(
    netboot: Netboot,
    target: Path,
    url: str,
    content: Content,
    *,
    loader: Path | None = None,
    wanted: Store | None = None,
) -> LaidOut:
    """Write a folder to be served. Raises HyperError; then there is none.

    Args:
        netboot: What was built.
        target: The folder.
        url: Where it will be served.
        content: Answers and what goes with them.
        loader: iPXE as an EFI program, instead of the one that was built along.
        wanted: Where the store comes from; none: by its size.
    """
    script(netboot, url, content)  # says what is wrong with them before anything is copied
    store = netboot.choose(wanted)
    initrd = SMALL if store is Store.fetched else netboot.initrd
    loaders = {name: netboot.folder / name for name in (LOADER, LOADER_BIOS)}
    loaders |= {LOADER: loader} if loader else {}
    try:
        target.mkdir(mode=0o755)
        for name in (netboot.kernel, initrd):
            shutil.copyfile(netboot.folder / name, target / name)
        with (target / initrd).open("ab") as file:
            # By EFI the kernel puts its RAM disks one right behind the other, and finds the second at multiples of four alone.
            file.write(bytes(-file.tell() % 4))
            memory = 2 * file.tell() + BESIDE
        given: tuple[str, ...] = ()
        if store is Store.fetched:
            shutil.copyfile(netboot.folder / STORE, target / STORE)
            given = _told(target / STORE, url)
            memory += (target / STORE).stat().st_size
        for name, source in loaders.items():
            if source.is_file():
                shutil.copyfile(source, target / name)
        if content.files:
            path = target / ANSWERS
            path.touch(mode=0o600)
            path.write_bytes(archive(embed.pack(content.files)))
        (target / OURS).write_text(script(netboot, url, content, given), encoding="utf-8")
    except OSError as error:
        raise HyperError(
            f"{target} cannot be written",
            why=error.strerror or str(error),
            remedy="name a folder that does not exist yet, on a file system with room",
        ) from error
    return LaidOut(tuple(sorted(each.name for each in target.iterdir())), store, memory)


def _told(store: Path, url: str) -> tuple[str, ...]:
    """Kernel arguments that tell stage 1 about it (iso/media/fetch-store.sh)."""
    with store.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (
        f"{_ARGUMENT}={url.rstrip('/')}/{STORE}",
        f"{_ARGUMENT}-size={store.stat().st_size}",
        f"{_ARGUMENT}-sha256={digest}",
    )


def dnsmasq(url: str, folder: Path | None = None) -> str:
    """Configuration of a dnsmasq that stands beside a network's own DHCP server (proxyDHCP) and leads machines to the script.

    Firmware gets iPXE by TFTP, once; iPXE gets everything else over HTTP (dnsmasq(8), pxe-service, dhcp-match).

    Args:
        url: Where the folder is served.
        folder: The folder, if iPXE is in it.
    """
    host = urlsplit(url).hostname or "192.0.2.1"
    network = host.rpartition(".")[0] + ".0" if host.replace(".", "").isdigit() else "192.0.2.0"
    base = url.rstrip("/")
    place = folder.absolute() if folder else Path("/srv/tftp")
    needs = "" if folder else f"; needs iPXE's {LOADER_BIOS} and {LOADER} in {place}"
    return f"""\
# dnsmasq beside the DHCP server that the network has{needs}.
port=0
dhcp-range={network},proxy
enable-tftp
tftp-root={place}
dhcp-match=set:ipxe,175
dhcp-match=set:efi,option:client-arch,7
dhcp-match=set:efi,option:client-arch,9
pxe-service=tag:!ipxe,x86PC,"iPXE",{LOADER_BIOS}
pxe-service=tag:!ipxe,X86-64_EFI,"iPXE",{LOADER}
pxe-service=tag:!ipxe,BC_EFI,"iPXE",{LOADER}
pxe-service=tag:ipxe,x86PC,"Hyper-NixOS",{base}/{OURS}
pxe-service=tag:ipxe,X86-64_EFI,"Hyper-NixOS",{base}/{OURS}
dhcp-boot=tag:ipxe,{base}/{OURS}
"""


def http_boot(url: str) -> str:
    """What the network's own DHCP server says, so that firmware fetches iPXE by HTTP itself (UEFI 2.10, 24.7), in dnsmasq's
    words: nobody who stands beside it may answer there.
    """
    base = url.rstrip("/")
    return f"""\
# Firmware that boots by HTTP itself asks the network's own DHCP server; if that is dnsmasq:
dhcp-match=set:ipxe,175
dhcp-match=set:http,option:client-arch,16
dhcp-match=set:http,option:client-arch,19
dhcp-option-force=tag:http,tag:!ipxe,60,HTTPClient
dhcp-boot=tag:http,tag:!ipxe,{base}/{LOADER}
dhcp-boot=tag:ipxe,{base}/{OURS}
"""
