"""What a machine needs to boot over the network: iPXE script, kernel, initial RAM disk, and answers as a second one.

Everything comes over HTTP, by which large files travel far faster than by TFTP. The answers are an archive of their own
(installer/initrd.py), so that one kernel and one RAM disk serve a whole fleet.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from installer import embed
from installer.errors import Exit, HyperError
from installer.initrd import archive
from iso import contents
from iso.contents import Content

SCRIPT = "netboot.ipxe"
"""What nixpkgs calls its script."""
OURS = "boot.ipxe"
ANSWERS = "answers.initrd"
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


def script(netboot: Netboot, url: str, content: Content) -> str:
    """The iPXE script; `url` is where the folder is served."""
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
    names = [f"initrd={netboot.initrd}", *([f"initrd={ANSWERS}"] if content.files else [])]
    arguments = [word for word in arguments if not word.startswith("initrd=")]
    base = url.rstrip("/")
    lines = [
        "#!ipxe",
        f"kernel {base}/{netboot.kernel} {' '.join([*arguments, *content.arguments, *names])} ${{cmdline}}",
        f"initrd --name {netboot.initrd} {base}/{netboot.initrd}",
    ]
    if content.files:
        lines.append(f"initrd --name {ANSWERS} {base}/{ANSWERS}")
    return "\n".join([*lines, "boot", ""])


def lay_out(netboot: Netboot, target: Path, url: str, content: Content) -> None:
    """Write a folder to be served. Raises HyperError; then there is none."""
    text = script(netboot, url, content)
    try:
        target.mkdir(mode=0o755)
        for name in (netboot.kernel, netboot.initrd):
            shutil.copyfile(netboot.folder / name, target / name)
        if content.files:
            path = target / ANSWERS
            path.touch(mode=0o600)
            path.write_bytes(archive(embed.pack(content.files)))
        (target / OURS).write_text(text, encoding="utf-8")
    except OSError as error:
        raise HyperError(
            f"{target} cannot be written",
            why=error.strerror or str(error),
            remedy="name a folder that does not exist yet",
        ) from error


def dnsmasq(url: str) -> str:
    """Configuration of a dnsmasq that stands beside a network's own DHCP server (proxyDHCP) and leads machines to the script.

    Firmware gets iPXE by TFTP, once; iPXE gets everything else over HTTP (dnsmasq(8), pxe-service, dhcp-match).
    """
    host = urlsplit(url).hostname or "192.0.2.1"
    network = host.rpartition(".")[0] + ".0" if host.replace(".", "").isdigit() else "192.0.2.0"
    return f"""\
# dnsmasq beside the DHCP server that the network has; needs iPXE's undionly.kpxe and ipxe.efi in /srv/tftp.
port=0
dhcp-range={network},proxy
enable-tftp
tftp-root=/srv/tftp
dhcp-match=set:ipxe,175
dhcp-match=set:efi,option:client-arch,7
dhcp-match=set:efi,option:client-arch,9
pxe-service=tag:!ipxe,x86PC,"iPXE",undionly.kpxe
pxe-service=tag:!ipxe,X86-64_EFI,"iPXE",ipxe.efi
pxe-service=tag:!ipxe,BC_EFI,"iPXE",ipxe.efi
pxe-service=tag:ipxe,x86PC,"Hyper-NixOS",{url.rstrip("/")}/{OURS}
pxe-service=tag:ipxe,X86-64_EFI,"Hyper-NixOS",{url.rstrip("/")}/{OURS}
dhcp-boot=tag:ipxe,{url.rstrip("/")}/{OURS}
"""
