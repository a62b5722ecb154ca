"""Before rebooting: will the disk boot? Read from what is on it, against what the installed closure says."""

import fcntl
import fnmatch
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.execute.boot_entries import readable
from installer.execute.devices import appearing, kernel_name, settle
from installer.execute.evidence import Evidence, Wrong, ensure
from installer.execute.files import within
from installer.execute.initrd import list_initrd, module_names
from installer.execute.live import LiveSystem
from installer.execute.mounts import mounted_at, read_mounts
from installer.execute.nix_store import profile_toplevel
from installer.execute.partition_table import read_table
from installer.execute.runner import Runner
from installer.execute.signatures import probe_signature
from installer.plan.checks import BootProof
from installer.plan.model import DiskIdentity, HostStorage

_SPEC = "org.nixos.bootspec.v1"
_SPECIALISATIONS = "org.nixos.specialisation.v1"
_BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
_FALLBACK = {"x86_64-linux": "BOOTX64.EFI", "aarch64-linux": "BOOTAA64.EFI"}
"""UEFI specification, 3.5.1.1: what firmware starts without a boot entry."""
_NO_DEVICE = {"tmpfs", "proc", "sysfs", "devtmpfs", "devpts", "efivarfs", "overlay", "none", "ramfs"}
_BLKFLSBUF = 0x1261
"""_IO(0x12, 97), linux/fs.h: write out and forget what is cached of a block device."""
_GRUB_LINE = re.compile(r"^\s*(linux|initrd)\s+(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class BootSpec:
    """One bootable system of the closure (NixOS RFC 125)."""

    name: str
    """`default`, or the specialisation's name."""
    init: str
    """Store path that `init=` names."""
    kernel: str
    """Store path."""
    initrd: str
    """Store path."""
    parameters: tuple[str, ...]
    """Kernel parameters."""
    system: str
    """Nix system double."""


@dataclass(frozen=True)
class LoaderEntry:
    """What the loader on the disk will do, as far as it concerns us."""

    name: str
    """File or menu entry."""
    kernel: Path
    """File as it is mounted here."""
    initrds: tuple[Path, ...]
    """Likewise."""
    options: tuple[str, ...]
    """Kernel command line."""


def boot_specs(root: Path) -> tuple[BootSpec, ...]:
    """The system profile's own boot description and those of its specialisations."""
    toplevel = profile_toplevel(root)
    try:
        document = json.loads(within(root, f"{toplevel}/boot.json").read_bytes())
    except (OSError, ValueError) as error:
        raise Wrong(f"a boot description in {toplevel}/boot.json", str(error)) from error
    return tuple(_specs(document, "default"))


def _specs(document: dict[str, Any], name: str) -> Iterator[BootSpec]:
    spec = document[_SPEC]
    yield BootSpec(
        name, spec["init"], spec["kernel"], spec["initrd"], tuple(spec["kernelParams"]), spec["system"]
    )
    for child, below in sorted(document.get(_SPECIALISATIONS, {}).items()):
        yield from _specs(below, child)


def prove_boot(
    live: LiveSystem, runner: Runner, check: BootProof, disks: tuple[DiskIdentity, ...], host: HostStorage
) -> Evidence:
    """Every boot entry, the loader, the file systems and the initrd's modules; entries and loader on every disk.

    Args:
        live: The live system.
        runner: Runs programs.
        check: What must hold.
        disks: Each must boot the host alone; in the order of the host's boot file systems.
        host: What was planned for it.

    Raises:
        Wrong: the first thing that would keep the disk from booting.
    """
    root = Path(check.root)
    specs = boot_specs(root)
    settle(runner)  # the links by UUID that the host's fstab goes by
    places = (host.esp_mountpoint or "/boot", *(each.mountpoint for each in host.mirrors))
    found: list[str] = []
    for disk, place in zip(disks, places, strict=True):
        boot = within(root, place)
        if host.loader == "systemd-boot":
            kernels = within(root, host.xbootldr_mountpoint) if host.xbootldr_mountpoint else boot
            entries = tuple(_boot_loader_entries(kernels))
            found += _check_systemd_boot(boot, entries, specs)
        else:
            entries = tuple(_grub_entries(root, boot))
            found += _check_grub(runner, boot, disk, check.firmware)
        found += [_check_entry(root, spec, entries) for spec in specs]
        found += _firmware_entry(live, runner, disk) if check.firmware == "uefi" else ()
    return (
        *found,
        *_check_file_systems(live, runner, root, host),
        *_check_modules(runner, root, specs, check.initrd_modules),
    )


def prove_files(runner: Runner, root: Path, host: HostStorage, modules: tuple[str, ...]) -> Evidence:
    """The part of it that is files, on one disk that is not there yet: entries, loader, initrd's modules.

    Raises:
        Wrong: the first thing that would keep it from booting.
    """
    specs = boot_specs(root)
    boot = within(root, host.esp_mountpoint or "/boot")
    if host.loader == "grub":
        entries = tuple(_grub_entries(root, boot))
        loader = _check_grub_files(boot)
    else:
        entries = tuple(
            _boot_loader_entries(within(root, host.xbootldr_mountpoint or str(host.esp_mountpoint)))
        )
        loader = _check_systemd_boot(boot, entries, specs)
    return (
        *loader,
        *(_check_entry(root, spec, entries) for spec in specs),
        *_check_modules(runner, root, specs, modules),
    )


def _boot_loader_entries(esp: Path) -> Iterator[LoaderEntry]:
    """Type 1 entries (UAPI Boot Loader Specification)."""
    for file in sorted((esp / "loader/entries").glob("*.conf")):
        lines = [line.split(None, 1) for line in file.read_text().splitlines() if line.strip()]
        values = [(words[0], words[1].strip() if len(words) > 1 else "") for words in lines]
        kernels = [value for key, value in values if key in ("linux", "efi")]
        if kernels:
            yield LoaderEntry(
                name=file.name,
                kernel=esp / kernels[0].lstrip("/"),
                initrds=tuple(esp / value.lstrip("/") for key, value in values if key == "initrd"),
                options=tuple(word for key, value in values if key == "options" for word in value.split()),
            )


def _check_systemd_boot(
    esp: Path, entries: tuple[LoaderEntry, ...], specs: tuple[BootSpec, ...]
) -> Evidence:
    fallback = _FALLBACK[specs[0].system]
    for file in (esp / "EFI/systemd" / f"systemd-{fallback.lower()}", esp / "EFI/BOOT" / fallback):
        ensure(
            file.is_file() and file.read_bytes()[:2] == b"MZ", f"the loader {file}", "no EFI program there"
        )
    settings = esp / "loader/loader.conf"
    ensure(settings.is_file(), str(settings), "no such file")
    lines = [line.split(None, 1) for line in settings.read_text().splitlines()]
    default = next((words[1].strip() for words in lines if len(words) > 1 and words[0] == "default"), None)
    ensure(default is not None, f"a default entry in {settings}", "none")
    names = [entry.name for entry in entries]
    chosen = [name for name in names if fnmatch.fnmatch(_uncounted(name), str(default)) or name == default]
    ensure(bool(chosen), f"an entry for the default {default}", ", ".join(names) or "no entries")
    return (f"systemd-boot and EFI/BOOT/{fallback} are on the ESP; default {default}",)


def _uncounted(name: str) -> str:
    """An entry's id is its file name without boot counters, `nixos-1+3-0.conf` (systemd, Automatic Boot Assessment)."""
    return re.sub(r"\+\d+(-\d+)?(?=\.conf$)", "", name)


def _check_entry(root: Path, spec: BootSpec, entries: tuple[LoaderEntry, ...]) -> str:
    """There is an entry that starts this system, with the closure's own kernel and initrd behind it."""
    ours = [entry for entry in entries if f"init={spec.init}" in entry.options]
    ensure(
        bool(ours),
        f"a boot entry with init={spec.init} ({spec.name})",
        ", ".join(e.name for e in entries) or "none",
    )
    entry = ours[0]
    missing = [
        word
        for word in spec.parameters
        if word not in entry.options and not set(word.split()) <= set(entry.options)
    ]
    ensure(
        not missing,
        f"kernel parameters {' '.join(spec.parameters)} in {entry.name}",
        f"without {' '.join(missing)}",
    )
    _same_content(within(root, spec.kernel), entry.kernel, appended=False)
    ensure(bool(entry.initrds), f"an initrd in {entry.name}", "none")
    _same_content(within(root, spec.initrd), entry.initrds[0], appended=True)
    return f"{spec.name}: {entry.name} starts {spec.init} with the closure's kernel and initrd"


def _same_content(expected: Path, found: Path, *, appended: bool) -> None:
    """Byte for byte; an initrd may have secrets appended."""
    ensure(found.is_file(), f"{found} with the content of {expected}", "no such file")
    with expected.open("rb") as left, found.open("rb") as right:
        while chunk := left.read(1 << 20):
            ensure(
                right.read(len(chunk)) == chunk, f"{found} with the content of {expected}", "other content"
            )
        ensure(appended or not right.read(1), f"{found} as long as {expected}", "a longer file")


def _firmware_entry(live: LiveSystem, runner: Runner, disk: DiskIdentity) -> Evidence:
    """What the firmware's own boot menu says; without an entry it starts EFI/BOOT of the disk."""
    if not readable(live):
        return ("firmware variables cannot be read here: the firmware starts EFI/BOOT",)
    listed = runner.run(["efibootmgr", "--verbose"], check=False).text
    path = os.path.realpath(disk.device)
    uuids = runner.run(["sfdisk", "--json", path], quiet=True).text
    ours = {
        str(each.get("uuid", "")).lower()
        for each in json.loads(uuids)["partitiontable"].get("partitions", ())
    }
    entries = [line for line in listed.splitlines() if any(uuid and uuid in line.lower() for uuid in ours)]
    if not entries:
        return ("the firmware has no entry for this disk yet: it starts EFI/BOOT",)
    return tuple(f"firmware entry: {line.split(chr(9))[0].strip()}" for line in entries)


def _grub_entries(root: Path, boot: Path) -> Iterator[LoaderEntry]:
    """`linux` and `initrd` lines of grub.cfg, in pairs; `($drive1)` and where /boot lies are taken off their paths."""
    text = _grub_configuration(boot).read_text()
    kernel: tuple[Path, tuple[str, ...]] | None = None
    for match in _GRUB_LINE.finditer(text):
        words = match.group(2).split()
        if match.group(1) == "linux":
            kernel = (_grub_file(root, boot, words[0]), tuple(words[1:]))
        elif kernel:
            initrds = tuple(_grub_file(root, boot, word) for word in words)
            yield LoaderEntry("grub.cfg", kernel[0], initrds, kernel[1])
            kernel = None


def _grub_configuration(boot: Path) -> Path:
    path = boot / "grub/grub.cfg"
    ensure(path.is_file(), str(path), "no such file")
    return path


def _grub_file(root: Path, boot: Path, word: str) -> Path:
    """A path as GRUB sees it, from the top of its own file system, to where that is mounted here."""
    path = re.sub(r"^\([^)]*\)", "", word)
    if "/nix/store/" in path:
        return root / path[path.index("/nix/store/") + 1 :]
    if "/kernels/" in path:
        return boot / path[path.index("/kernels/") + 1 :]
    return boot / path.removeprefix("/boot").lstrip("/")


def _check_grub(runner: Runner, boot: Path, disk: DiskIdentity, firmware: str) -> Evidence:
    _grub_configuration(boot)
    if firmware == "uefi":
        programs = [path for path in boot.glob("EFI/*/*") if path.suffix.lower() == ".efi"]
        ensure(
            any(path.read_bytes()[:2] == b"MZ" for path in programs),
            f"GRUB below {boot}/EFI",
            "no EFI program",
        )
        return (f"GRUB is on the ESP: {', '.join(str(path.relative_to(boot)) for path in programs)}",)
    path = os.path.realpath(disk.device)
    cores = [each for each in read_table(runner, path) if each.type_uuid == _BIOS_BOOT]
    ensure(bool(cores), f"a BIOS boot partition on {disk.name}", "none")
    # A partition and its disk are cached apart: what was written by one name may be read stale by the other.
    os.sync()
    with Path(path).open("rb") as device:
        fcntl.ioctl(device.fileno(), _BLKFLSBUF)
        code = device.read(440)
        device.seek(cores[0].start)
        core = device.read(512)
    ensure(b"GRUB" in code, f"GRUB's boot code on {disk.name}", "other boot code, or none")
    ensure(any(core), "GRUB's core image in the BIOS boot partition", "an empty partition")
    return (f"GRUB's boot code and core image are on {disk.name}", *_check_grub_files(boot))


def _check_grub_files(boot: Path) -> Evidence:
    _grub_configuration(boot)
    modules = boot / "grub/i386-pc/normal.mod"
    ensure(modules.is_file(), str(modules), "no such file")
    return (f"GRUB's modules and menu are in {boot.name}/grub",)


def _check_file_systems(live: LiveSystem, runner: Runner, root: Path, host: HostStorage) -> Iterator[str]:
    """Every line of the closure's fstab resolves, to the very device that is mounted there now."""
    table = within(root, f"{profile_toplevel(root)}/etc/fstab")
    ensure(table.is_file(), f"{table}", "no such file: the host would not know its file systems")
    mounts = read_mounts(live.mountinfo)
    lines = [
        line.split() for line in table.read_text().splitlines() if line.strip() and not line.startswith("#")
    ]
    rows = [
        (words[0].replace("\\040", " "), words[1].replace("\\040", " "), words[2], words[3])
        for words in lines
    ]
    missing = {each.mountpoint for each in host.filesystems} - {place for _, place, _, _ in rows}
    ensure(not missing, f"{', '.join(sorted(missing))} in the host's fstab", "no such line")
    planned = {each.mountpoint for each in host.filesystems}
    later = {each.mountpoint for each in host.filesystems if each.later}
    for device, place, kind, options in rows:
        if kind == "zfs":
            mount = mounted_at(mounts, str(root) + (place if place != "/" else ""))
            ensure(mount is not None and mount.source == device, f"{device} mounted at {place}", str(mount))
            yield f"{place}: {device}, mounted here"
            continue
        if kind in _NO_DEVICE or not (device.startswith("/dev/") or "=" in device):
            continue
        if kind == "swap" and (
            device in host.random_swap_devices
            or (device.startswith("/dev/mapper/") and device not in host.swap_devices)
        ):
            continue  # made anew at every boot
        name = appearing(_device_path(device))
        if name is None and place not in planned and "nofail" in options.split(","):
            yield f"{place}: {device} is not there, and the host starts without it"
            continue
        ensure(name is not None, f"{device} of the host's fstab ({place})", "no such device")
        if place not in planned:
            yield f"{place}: {device} is {name}"
            continue
        if place in later:
            yield f"{place}: {device} is {name}, which the host alone mounts"
            continue
        target = str(root) + (place if place != "/" else "")
        mount = mounted_at(mounts, target)
        ensure(
            mount is not None and _same(runner, kind, kernel_name(mount.source), str(name)),
            f"{device} ({name}) mounted at {target}, where the host's fstab has it",
            mount.source if mount else "nothing mounted there",
        )
        yield f"{place}: {device} is {name}, mounted here"
    crypts = {each.name: each.device for each in host.luks} | {
        each.name: each.device for each in host.key_luks
    }
    for title, path in crypts.items():
        ensure(appearing(path) is not None, f"{path} of {title}", "no such device")
        yield f"{title}: {path} is {kernel_name(path)}"


def _same(runner: Runner, kind: str, mounted: str | None, named: str) -> bool:
    """Whether two devices are one, or carry one btrfs, which the mount table knows by any of its devices."""
    if mounted is None or mounted == named or kind != "btrfs":
        return mounted == named
    signatures = [probe_signature(runner, f"/dev/{name}") for name in (mounted, named)]
    uuids = {signature.uuid for signature in signatures if signature}
    return len(uuids) == 1 and None not in uuids


def _device_path(device: str) -> str:
    tag, equals, value = device.partition("=")
    if not equals:
        return device
    return f"/dev/disk/by-{tag.lower()}/{value.strip(chr(34))}"


def _check_modules(
    runner: Runner, root: Path, specs: tuple[BootSpec, ...], modules: tuple[str, ...]
) -> Iterator[str]:
    """What reaches the root is in every initrd, or built into the kernel."""
    listed: dict[str, tuple[set[str], int]] = {}
    for spec in specs:
        if spec.initrd not in listed:
            content = list_initrd(runner, within(root, spec.initrd).read_bytes())
            builtin = "\n".join(
                text.decode(errors="replace")
                for name, text in content.items()
                if name.endswith("/modules.builtin")
            )
            names = module_names(iter(content)) | module_names(iter(builtin.splitlines()))
            listed[spec.initrd] = names, len(content)
        present, files = listed[spec.initrd]
        present = present | _built_in(root, spec)
        missing = [name for name in modules if name.replace("-", "_") not in present]
        ensure(
            not missing,
            f"kernel modules {', '.join(modules)} in {spec.initrd}",
            f"without {', '.join(missing)}",
        )
    for path, (names, files) in listed.items():
        yield f"{path}: {files} files, {len(names)} modules, among them or built in: {', '.join(modules)}"


def _built_in(root: Path, spec: BootSpec) -> set[str]:
    folder = within(root, f"{Path(spec.init).parent}/kernel-modules/lib/modules")
    if not folder.is_dir():
        return set()
    lists = [
        within(root, "/" + str(each.relative_to(root)) + "/modules.builtin") for each in folder.iterdir()
    ]
    return module_names(line for path in lists if path.is_file() for line in path.read_text().splitlines())
