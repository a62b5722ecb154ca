"""Builds the installed system's initial RAM disk from its file systems, LUKS devices and module lists."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from . import initrd_systemd
from .initrd import LIBRARIES, LOADER, NEEDED_FOR_BOOT, Modules, write

FILESYSTEM_MODULES = {
    "ext4": ["ext4"],
    "xfs": ["xfs"],
    "btrfs": ["btrfs", "xxhash_generic", "blake2b_generic", "sha256_generic"],
    "vfat": ["vfat", "nls_cp437", "nls_ascii"],
}
CHECKSUMS = ("crc32c_generic", "crc32c_intel", "libcrc32c")
"""Asked for by algorithm, not by module: no dependency names them."""
LUKS_MODULES = (
    "dm_mod",
    "dm_crypt",
    "xts",
    "aes_generic",
    "aesni_intel",
    "cbc",
    "sha256_generic",
    "af_alg",
    "algif_skcipher",
)
ARRAY_MODULES = ("md_mod", "raid1", "raid10", "raid456")
VOLUME_MODULES = ("dm_mod", "dm_thin_pool", "dm_snapshot")
SYSTEMD_MODULES = ("autofs4",)
"""Debian's name of autofs."""
STAGE_2_ONLY = frozenset({"vfat", "zfs"})
"""Unless stage 1 mounts something of it."""


def mounts(filesystems: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Device, mount point, type and options of what stage 1 mounts, parents first."""
    found = []
    for point in sorted(filesystems, key=lambda path: (path.count("/") if path != "/" else 0, path)):
        entry = filesystems[point]
        if point in NEEDED_FOR_BOOT or entry.get("neededForBoot"):
            options = ",".join(entry.get("options") or ["defaults"])
            found.append((entry["device"], point, entry["fsType"], options))
    return found


def _luks_line(name: str, entry: dict[str, Any]) -> str:
    """Name, device, whether it may be missing, and options for cryptsetup."""
    missing = "dispensable" if "nofail" in entry.get("crypttabExtraOpts", []) else "needed"
    discards = "--allow-discards" if entry.get("allowDiscards") else ""
    return f"{name} {entry['device']} {missing} {discards}\n"


def main() -> None:
    """Read the input that Nix wrote, write `$out`."""
    given = json.loads(Path(os.environ["inputPath"]).read_text())  # noqa: SIM112 (Nix's names)
    userland, linux = Path(given["userland"]), Path(given["linux"])
    modules = Modules(next((linux / "lib/modules").iterdir()))
    early = mounts(given["filesystems"])
    kinds = {kind for _, _, kind, _ in early} | (set(given["supportedFilesystems"]) - STAGE_2_ONLY)
    names = [
        *CHECKSUMS,
        *given["modules"],
        *(name for kind in sorted(kinds) for name in FILESYSTEM_MODULES.get(kind, [kind])),
    ]
    if given["luks"]:
        names += [name for name in LUKS_MODULES if modules.known(name)]
    luks = "".join(_luks_line(name, entry) for name, entry in sorted(given["luks"].items()))
    # What is mapped and not encrypted are logical volumes.
    volumes = any(
        device.startswith("/dev/mapper/") and device.removeprefix("/dev/mapper/") not in given["luks"]
        for device, _, _, _ in early
    )
    several = [
        options for _, _, kind, options in early if kind == "btrfs" and "degraded" in options.split(",")
    ]
    if given["arrays"]:
        names += [name for name in ARRAY_MODULES if modules.known(name)]
    if volumes:
        names += [name for name in VOLUME_MODULES if modules.known(name)]
    programs = ["/usr/sbin/blkid"]
    programs += ["/usr/sbin/cryptsetup"] if given["luks"] else []
    programs += ["/usr/sbin/mdadm"] if given["arrays"] else []
    programs += ["/usr/sbin/lvm"] if volumes else []
    programs += ["/usr/bin/btrfs"] if several else []
    claims = "".join(
        f"{address} {device['vendor']} {device['device']}\n"
        for address, device in sorted(given["claims"].items())
    )
    table = "".join(f"{device} {point} {kind} {options}\n" for device, point, kind, options in early)
    command = [
        f"{userland}{LOADER}",
        "--library-path",
        f"{userland}{LIBRARIES}",
        f"{userland}/usr/bin/zstd",
        "-q",
        "-3",
    ]
    with (
        Path(os.environ["out"]).open("wb") as out,  # noqa: SIM112 (Nix's names)
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out) as compressor,
    ):
        assert compressor.stdin is not None
        known = [name for name in names if modules.known(name)]
        if given["systemd"]["enable"]:
            goldens = Path(__file__).parents[1] / "stage1"
            initrd_systemd.write(compressor.stdin, given, [*known, *SYSTEMD_MODULES], goldens)
        else:
            write(
                compressor.stdin,
                userland=userland,
                modules=modules,
                names=known,
                init=(Path(__file__).parent / "stage1.sh").read_bytes(),
                programs=programs,
                files={
                    "etc/luks": luks.encode(),
                    "etc/fstab": table.encode(),
                    "etc/claims": claims.encode(),
                    "etc/mdadm.conf": given["arrays"].encode(),
                },
            )
        compressor.stdin.close()
    if compressor.returncode != 0:
        raise SystemExit("initrd: zstd failed")


if __name__ == "__main__":
    main()
