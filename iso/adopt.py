"""Makes a medium of ours of a stock NixOS image, without building anything: the embed area, the argument to be filled, and
if wanted a payload, a store of programs that the live system starts.

What is there stays where it is: files are added behind it by xorriso, configurations of boot loaders are replaced, the one
inside the EFI image in place. Then the partition tables are put right, which growing alone leaves behind: sticks would not
boot. The volume's name never changes, because the live system finds its medium by it.
"""

import hashlib
import os
import re
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid5

from installer import embed
from installer.answers.sizes import MIB
from installer.errors import Exit, HyperError
from iso import fat
from iso.carrier import CONFIGURATIONS, Carrier, Kind, examine, file_systems
from iso.el_torito import Platform
from iso.image import Image, opened
from iso.partition_tables import (
    EFI_SYSTEM,
    MBR_EFI,
    MBR_PROTECTIVE,
    SECTOR,
    SIGNATURE,
    Gpt,
    GptPartition,
    both,
    mbr_entry,
    read_gpt,
    read_mbr,
    table_sectors,
    with_partition,
)
from iso.patches import Patch, apply, copy

UNIT = "hyper-nixos-medium.service"
START = "hyper-nixos/start"
PAYLOAD = "hyper-nixos/payload.squashfs"
GRUB_CONFIGURATION = "EFI/BOOT/grub.cfg"
_NAMESPACE = UUID("c0b1b7a6-3f0e-4f0b-9a43-0f3a4c6b5d11")
_LINE = re.compile(rb"^([ \t]*(?:linux[ \t]+\S+|APPEND)[ \t]+.*?)[ \t]*$", re.MULTILINE)
_MARKER = re.compile(rb"init=/nix/store/")
"""Only entries that start NixOS: not the memory test's."""
GPT_ENTRIES = 128
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]+(?:/[A-Za-z0-9+._?=-]+)*")


@dataclass(frozen=True)
class Payload:
    """A store that comes along."""

    squashfs: Path
    """Store paths at its top, and `nix-path-registration`, as nixpkgs' make-squashfs.nix makes it."""
    start: str
    """Program in it that the live system starts."""


def unit() -> str:
    """The unit that runs the payload's program, as short as can be: it stands on the kernel's command line."""
    return (
        "[Unit]\nRequiresMountsFor=/iso\nAfter=systemd-tmpfiles-setup.service\n"
        f"[Service]\nType=exec\nExecStart=/bin/sh /iso/{START}\n"
    )


def credential() -> tuple[str, ...]:
    """Kernel arguments that add that unit to a system which knows nothing of it (systemd.system-credentials(7), from
    systemd 256, as NixOS 24.11 has it), and start it.
    """
    encoded = b64encode(unit().encode()).decode()
    return f"systemd.set_credential_binary=systemd.extra-unit.{UNIT}:{encoded}", f"systemd.wants={UNIT}"


def script(payload: Payload) -> str:
    """What the unit runs: the payload's paths appear in the store, and are known to Nix; nothing is copied. A payload that
    was damaged is not used: Nix looks at what it fetches, and nobody at what is mounted.
    """
    with payload.squashfs.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"""\
# Adds the medium's payload to the running system's store, and starts its program.
set -eu
export PATH=/run/current-system/sw/bin
payload=/run/hyper-nixos/payload
echo "{digest}  /iso/{PAYLOAD}" | sha256sum --check --status || {{
    echo "Hyper-NixOS: the medium is damaged: its payload is not what was written. Write it again." | tee /dev/console >&2
    exit 1
}}
mkdir -p "$payload"
mount -t squashfs -o loop,ro /iso/{PAYLOAD} "$payload"
mount -o remount,rw,bind /nix/store || true
for path in "$payload"/*-*; do
    name=${{path##*/}}
    case $name in nix-path-registration) continue ;; esac
    [ -e "/nix/store/$name" ] && continue
    if [ -d "$path" ]; then mkdir "/nix/store/$name"; else : >"/nix/store/$name"; fi
    mount --bind "$path" "/nix/store/$name"
done
nix-store --load-db <"$payload/nix-path-registration"
exec {payload.start}
"""


def with_pad(configuration: bytes, extra: Sequence[str]) -> bytes:
    """A boot loader's configuration whose entries for NixOS end with these arguments and the one that can be filled."""
    words = " ".join([*extra, embed.kernel_argument()]).encode()

    def added(found: re.Match[bytes]) -> bytes:
        line = found[1]
        return line + b" " + words if _MARKER.search(line) else line

    return _LINE.sub(added, configuration)


def adopt(source: Path, target: Path, payload: Payload | None = None) -> None:
    """Write the adopted image. Raises HyperError; then there is no target."""
    with opened(source) as image:
        carrier = examine(image)
        _require_stock(image, carrier)
    if payload and not _STORE_PATH.fullmatch(payload.start):
        raise HyperError(
            f"the payload cannot start {payload.start[:80]!r}",
            why="that is no path in a Nix store",
            remedy="name the program with its whole path: /nix/store/…/bin/…",
            code=Exit.usage,
        )
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        copy(source, unfinished, ())
        _grow(unfinished, carrier, payload)
        _put_tables_right(unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _require_stock(image: Image, carrier: Carrier) -> None:
    why = None
    if carrier.kind is not Kind.iso or carrier.volume is None:
        why = f"it is {carrier.kind}, and only ISO images are adopted"
    elif carrier.area is not None or carrier.pads:
        why = "it has a place for answers already: use `hv media embed`"
    elif not any(_MARKER.search(each.content) for each in carrier.configurations):
        why = "no boot entry of it starts NixOS (init=/nix/store/…)"
    if why:
        raise HyperError(
            f"{image.name} is not adopted",
            why=why,
            remedy="name a stock NixOS image, as from nixos.org, 24.11 or later",
            code=Exit.medium,
        )


def _run(*argv: str | Path) -> None:
    words = [str(word) for word in argv]
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": EPOCH,
    }
    try:
        done = subprocess.run(words, capture_output=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise HyperError(
            "the image cannot be adopted here",
            why=f"{words[0]} is not installed",
            remedy="install xorriso and mtools",
            code=Exit.unsuitable,
        ) from error
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()[-5:]
        raise HyperError(
            "the image cannot be adopted", why=f"{words[0]}: " + "\n".join(said), remedy="mend what it names"
        )


EPOCH = "315532800"
"""Every time that is written: 1 January 1980, as nixpkgs has it, so that the same input gives the same image."""


def _grow(path: Path, carrier: Carrier, payload: Payload | None) -> None:
    assert carrier.volume
    extra = credential() if payload else ()
    with TemporaryDirectory(prefix="hv-adopt-") as made:
        folder = Path(made)
        maps: list[tuple[Path, str]] = []
        for number, each in enumerate(carrier.configurations):
            if each.place in CONFIGURATIONS:
                file = folder / f"configuration{number}"
                file.write_bytes(with_pad(each.content, extra))
                maps.append((file, each.place))
        (folder / "area").write_bytes(embed.pack({}))
        maps.append((folder / "area", embed.PATH))
        if payload:
            (folder / "start").write_text(script(payload))
            maps += [(folder / "start", START), (payload.squashfs, PAYLOAD)]
        efi = _efi_images(path, carrier, folder, extra)
        for file, _ in maps:
            if file.parent == folder:
                os.utime(file, (int(EPOCH), int(EPOCH)))
        _run(
            *("xorriso", "-no_rc", "-abort_on", "FAILURE", "-boot_image", "any", "keep", "-joliet", "on"),
            *("-volume_date", "uuid", carrier.volume.created, "-volume_date", "all_file_dates", f"={EPOCH}"),
            *("-dev", path, "-uid", "0", "-gid", "0"),
            *(word for file, place in maps for word in ("-map", file, f"/{place}")),
            *("-chown_r", "0", "/hyper-nixos", "--", "-chgrp_r", "0", "/hyper-nixos", "--"),
            *("-alter_date_r", "b", f"={EPOCH}", "/hyper-nixos", "--", "-commit"),
        )
    apply(path, efi)


def _efi_images(path: Path, carrier: Carrier, folder: Path, extra: Sequence[str]) -> list[Patch]:
    """EFI images with their own configuration, where they have one: what is changed in place."""
    found = []
    with opened(path) as image:
        for number, (name, offset, length) in enumerate(file_systems(image, carrier.catalog)):
            part = image.part(offset, length, name)
            system = fat.read_fat(part)
            entry = fat.find(part, system, GRUB_CONFIGURATION) if system else None
            if entry is None or system is None:
                continue
            work, configuration = folder / f"efi{number}", folder / "grub.cfg"
            work.write_bytes(image.read(offset, system.size))
            configuration.write_bytes(with_pad(fat.content(part, entry), extra))
            os.utime(configuration, (int(EPOCH), int(EPOCH)))
            _run("mcopy", "-o", "-m", "-i", work, configuration, f"::/{GRUB_CONFIGURATION}")
            found.append(Patch(offset, work.read_bytes()))
    return found


def _put_tables_right(path: Path) -> None:
    """Partitions that hold the file system end where it ends now; the copy of the GPT is at the end; what UEFI starts on a
    stick is in a partition of its own kind, also where there was no table.
    """
    with opened(path) as image:
        carrier = examine(image)
        assert carrier.volume
        end = -(-carrier.volume.size // MIB) * MIB + MIB
        sectors = end // SECTOR
        gpt, mbr = read_gpt(image), read_mbr(image)
        patches: list[Patch] = []
        if gpt is None:
            made = _new_tables(image, carrier, sectors)
            if made is None:
                return
            patches += made
        else:
            for each in gpt.partitions:
                if each.start == 0:
                    last = sectors - 1 - _copy_sectors(gpt)
                    gpt = _resized(gpt, each, last)
            patches += [Patch(offset, content) for offset, content in both(gpt, sectors)]
            for partition in mbr or ():
                if partition.start == 0 and partition.kind not in (MBR_EFI, MBR_PROTECTIVE):
                    offset, entry = mbr_entry(partition.number, partition.active, partition.kind, 0, sectors)
                    patches.append(Patch(offset, entry))
    with path.open("r+b") as file:
        file.truncate(end)
    apply(path, patches)


def _copy_sectors(gpt: Gpt) -> int:
    return table_sectors(gpt) + 1


def _resized(gpt: Gpt, partition: GptPartition, last: int) -> Gpt:
    start = (partition.number - 1) * gpt.entry_size + 40
    return replace(gpt, table=gpt.table[:start] + last.to_bytes(8, "little") + gpt.table[start + 8 :])


def _new_tables(image: Image, carrier: Carrier, sectors: int) -> list[Patch] | None:
    """A GPT, and the MBR that protects it, for an image without tables: the EFI image becomes a partition."""
    assert carrier.volume
    boot = next(
        (
            each
            for each in (carrier.catalog.images if carrier.catalog else ())
            if each.platform is Platform.uefi
        ),
        None,
    )
    if boot is None or any(image.read(SECTOR, 63 * SECTOR)):
        return None
    system = fat.read_fat(image.part(boot.offset, image.size - boot.offset, "El Torito"))
    if system is None:
        return None
    disk = uuid5(_NAMESPACE, carrier.volume.label + carrier.volume.created)
    empty = Gpt(1, 0, 64, 0, disk, 2, GPT_ENTRIES, 128, bytes(GPT_ENTRIES * 128), ())
    first = boot.offset // SECTOR
    partition = GptPartition(1, EFI_SYSTEM, first, first + -(-system.size // SECTOR) - 1, "EFI system")
    gpt = with_partition(empty, partition, uuid5(disk, "1"))
    offset, entry = mbr_entry(1, False, MBR_PROTECTIVE, 1, sectors - 1)
    return [
        *(Patch(place, content) for place, content in both(gpt, sectors)),
        Patch(offset, entry),
        Patch(510, SIGNATURE),
    ]
