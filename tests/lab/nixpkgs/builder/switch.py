"""The system's own `bin/switch-to-configuration`: boot loader entries, and switching the running system.

`boot` writes the boot loader's entries for every generation of the system profile and its specialisations, `test`
activates and restarts what changed, `switch` does both. Names and places are NixOS's: for systemd-boot those of
systemd-boot-builder.py (EFI/nixos/HASH-NAME-FILE.efi, loader/entries/nixos-generation-N[-specialisation-NAME].conf),
for GRUB on BIOS /boot/kernels and /boot/grub/grub.cfg. Boot counting is as that builder has it: an entry that is not there
yet gets its tries into its name, one that is there keeps the name that it came to.
"""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROFILES = Path("/nix/var/nix/profiles")
ONCE = """if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${{next_entry}}" ]; then
  set default="${{next_entry}}"
  set next_entry=
  save_env next_entry
  set timeout=1
else
  set default=0
  set timeout={timeout}
fi
"""
"""What NixOS's menu begins with: an entry for one boot alone is forgotten as it is chosen (GRUB manual, "load_env")."""
ACTIONS = ("switch", "boot", "test", "dry-activate", "check")


@dataclass(frozen=True)
class Entry:
    """One choice in the boot menu."""

    generation: int
    specialisation: str | None
    boot: dict[str, Any]

    @property
    def name(self) -> str:
        """File name of the entry, without suffix."""
        extra = f"-specialisation-{self.specialisation}" if self.specialisation else ""
        return f"nixos-generation-{self.generation}{extra}"

    @property
    def title(self) -> str:
        """For the menu."""
        return "NixOS" + (f" ({self.specialisation})" if self.specialisation else "")

    @property
    def options(self) -> str:
        """Kernel command line."""
        return " ".join([f"init={self.boot['init']}", *self.boot["kernelParams"]])


def main(toplevel: Path, arguments: list[str]) -> int:
    """Do what the one argument says."""
    if len(arguments) != 1 or arguments[0] not in ACTIONS:
        print(f"usage: switch-to-configuration [{'|'.join(ACTIONS)}]", file=sys.stderr)
        return 1
    if not Path("/etc/NIXOS").exists():
        print("this is not a NixOS installation (/etc/NIXOS is missing)", file=sys.stderr)
        return 1
    action = arguments[0]
    if action in ("switch", "boot"):
        install_boot_loader(toplevel, json.loads((toplevel / "lab.json").read_text())["loader"])
    if action in ("switch", "test"):
        return activate(toplevel)
    return 0


def entries(limit: int) -> Iterator[Entry]:
    """Generations of the system profile, newest first, each with its specialisations."""
    found = sorted(
        (int(match[1]), link)
        for link in PROFILES.iterdir()
        if (match := re.fullmatch(r"system-([0-9]+)-link", link.name))
    )
    for number, link in reversed(found[-limit:]):
        document = json.loads((link / "boot.json").read_text())
        yield Entry(number, None, document["org.nixos.bootspec.v1"])
        for name, child in sorted(document["org.nixos.specialisation.v1"].items()):
            yield Entry(number, name, child["org.nixos.bootspec.v1"])


def place(source: Path, destination: Path, secrets: str | None = None) -> None:
    """Copy under a fresh name and rename: a power cut leaves the old file or the new one. `secrets` is the program that
    adds what is secret to the copy.
    """
    if not secrets and destination.exists() and filecmp.cmp(source, destination, shallow=False):
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    fresh = destination.with_name(destination.name + ".tmp")
    shutil.copyfile(source, fresh)
    if secrets:
        output(secrets, str(fresh))
    with fresh.open("rb") as copied:
        os.fsync(copied.fileno())
    fresh.rename(destination)


def text(destination: Path, content: str) -> None:
    """Write a small file the same way."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    fresh = destination.with_name(destination.name + ".tmp")
    fresh.write_text(content)
    fresh.rename(destination)


def install_boot_loader(toplevel: Path, loader: dict[str, Any]) -> None:
    """Write what the firmware will find."""
    if loader.get("systemd-boot", {}).get("enable"):
        esp = Path(loader.get("efi", {}).get("efiSysMountPoint") or "/boot")
        systemd_boot(toplevel, loader, esp)
        # The hook of the host's own modules has the other disks' boot partitions hold the same.
        for mirror in loader.get("espMirrors", []):
            if os.path.ismount(mirror):
                systemd_boot(toplevel, loader, Path(mirror), first=False)
    elif loader.get("grub", {}).get("enable", True):
        settings = loader["grub"]
        devices = settings.get("devices") or [settings.get("device") or "nodev"]
        for place in settings.get("mirroredBoots") or [{"path": "/boot", "devices": devices}]:
            grub(toplevel, loader, Path(place["path"]), place["devices"])
    os.sync()


def systemd_boot(toplevel: Path, loader: dict[str, Any], esp: Path, *, first: bool = True) -> None:
    """Entries by the Boot Loader Specification, the loader itself, its fallback and the first one's NVRAM entry."""
    settings = loader["systemd-boot"]
    efi = loader.get("efi", {})
    if not os.path.ismount(esp):
        raise SystemExit(f"{esp} is not mounted: there is nowhere to put the boot loader")
    if os.environ.get("NIXOS_INSTALL_BOOTLOADER") == "1":
        program = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
        place(program, esp / "EFI/systemd/systemd-bootx64.efi")
        place(program, esp / "EFI/BOOT/BOOTX64.EFI")
        # As bootctl(1) does: where UEFI did not start this computer there is no menu of its to be written to.
        if first and efi.get("canTouchEfiVariables") and Path("/sys/firmware/efi/efivars").is_dir():
            register(esp)
    # Kernels and entries may have a partition of their own on the loader's disk.
    boot = Path(settings.get("xbootldrMountPoint") or esp) if first else esp
    if not os.path.ismount(boot):
        raise SystemExit(f"{boot} is not mounted: there is nowhere to put the kernels")
    kept: set[Path] = set()
    default = None
    counting = settings.get("bootCounting", {})
    for entry in entries(settings.get("configurationLimit") or 1000):
        files = {}
        for kind in ("kernel", "initrd"):
            source = Path(entry.boot[kind])
            name = "-".join(source.parts[3:])
            files[kind] = boot / "EFI/nixos" / f"{name}.efi"
            place(source, files[kind], entry.boot.get("initrdSecrets") if kind == "initrd" else None)
        content = (
            f"title {entry.title}\nversion Generation {entry.generation} {entry.boot['label']}\n"
            f"linux /{files['kernel'].relative_to(boot)}\ninitrd /{files['initrd'].relative_to(boot)}\n"
            f"options {entry.options}\nsort-key nixos\n"
        )
        path = place_of(boot / "loader/entries", entry.name, content, counting)
        text(path, content)
        kept |= {path, *files.values()}
        if entry.boot["toplevel"] == str(toplevel):
            default = default or f"{entry.name}.conf"
    for old in [*(boot / "EFI/nixos").iterdir(), *(boot / "loader/entries").glob("nixos-*.conf")]:
        if old not in kept:
            old.unlink()
    timeout = loader.get("timeout", 5)
    lines = [f"timeout {timeout}"] if timeout is not None else []
    if default:
        # `preferred` is known to systemd-boot 260 and newer; the others take the newest entry that has tries left.
        names = (
            [f"preferred {default}", "default nixos-*"] if counting.get("enable") else [f"default {default}"]
        )
        lines += names
    lines += [f"editor {1 if settings.get('editor', True) else 0}", "console-mode keep"]
    text(esp / "loader/loader.conf", "\n".join(lines) + "\n")
    print(f"{len(kept)} files of boot entries are on {boot}; the default is {default}")


def place_of(folder: Path, name: str, content: str, counting: dict[str, Any]) -> Path:
    """The entry's file: as it is there, with whatever its counters came to, or a fresh one."""
    for there in folder.glob(f"{name}*.conf"):
        if re.fullmatch(rf"{re.escape(name)}(\+[0-9]+(-[0-9]+)?)?\.conf", there.name) and (
            there.read_text() == content
        ):
            return there
    return folder / (f"{name}+{counting['tries']}.conf" if counting.get("enable") else f"{name}.conf")


def register(esp: Path) -> None:
    """The loader's own entry in the firmware's boot order, replacing one that an earlier installation left."""
    device = output("findmnt", "-nvo", "SOURCE", str(esp)).strip()
    system = Path("/sys/class/block") / Path(device).name
    number = (system / "partition").read_text().strip()
    disk = f"/dev/{system.resolve().parent.name}"
    for line in output("efibootmgr").splitlines():
        if match := re.match(r"Boot([0-9A-F]{4})\*? Linux Boot Manager\b", line):
            output("efibootmgr", "-q", "-B", "-b", match[1])
    loader = "\\EFI\\systemd\\systemd-bootx64.efi"
    output("efibootmgr", "-q", "-c", "-d", disk, "-p", number, "-L", "Linux Boot Manager", "-l", loader)


def grub(toplevel: Path, loader: dict[str, Any], boot: Path, devices: list[str]) -> None:
    """GRUB for BIOS: boot code on each named disk, kernels beside its configuration."""
    settings = loader["grub"]
    if os.environ.get("NIXOS_INSTALL_BOOTLOADER") == "1":
        for device in devices:
            if device != "nodev":
                output("grub-install", "--target=i386-pc", f"--boot-directory={boot}", "--no-floppy", device)
    lines = [
        "serial --unit=0 --speed=115200",
        "terminal_input console serial",
        "terminal_output console serial",
        *_search(boot, settings.get("fsIdentifier")),
        *ONCE.format(timeout=loader.get("timeout", 5)).splitlines(),
    ]
    separate = os.path.ismount(boot)
    subvolume = re.search(r"\bsubvol=([^,\s]+)", output("findmnt", "-no", "OPTIONS", "-T", str(boot)))
    prefix = (subvolume[1].rstrip("/") if subvolume else "") + ("" if separate else "/boot")
    kept: set[Path] = set()
    default: list[str] = []
    menu: list[str] = []
    for entry in entries(settings.get("configurationLimit") or 100):
        names = {}
        for kind in ("kernel", "initrd"):
            source = Path(entry.boot[kind])
            file = boot / "kernels" / "-".join(source.parts[3:])
            place(source, file)
            kept.add(file)
            names[kind] = f"{prefix}/kernels/{file.name}"
        body = [f"  linux {names['kernel']} {entry.options}", f"  initrd {names['initrd']}", "}"]
        if entry.boot["toplevel"] == str(toplevel) and not default:
            default = [f'menuentry "{entry.title}" --id default {{', *body]
        menu += [f'menuentry "{entry.title} - Generation {entry.generation}" --id {entry.name} {{', *body]
    for old in (boot / "kernels").iterdir():
        if old not in kept:
            old.unlink()
    lines += [*default, 'submenu "NixOS - All configurations" {', *menu, "}"]
    text(boot / "grub/grub.cfg", "\n".join(lines) + "\n")
    print(f"GRUB on {', '.join(devices)} offers {len(menu) // 4} entries")


def _search(boot: Path, identifier: str | None) -> list[str]:
    """How GRUB finds the file system with the kernels; as provided by a mount without an identifier, it is where it is."""
    if identifier == "provided":
        return []
    return [
        f"search --no-floppy --fs-uuid --set=root {output('findmnt', '-no', 'UUID', '-T', str(boot)).strip()}"
    ]


def output(*argv: str) -> str:
    """Run a program; what it says on failure ends this one."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def activate(toplevel: Path) -> int:
    """Make the running system this one: /etc and accounts, then the units whose text changed."""
    old = Path("/run/current-system").resolve() / "etc/systemd/system"
    new = toplevel / "etc/systemd/system"
    changed = [
        unit.name
        for unit in new.iterdir()
        if unit.is_file()
        and not unit.is_symlink()
        and (old / unit.name).is_file()
        and unit.read_text() != (old / unit.name).read_text()
    ]
    output(str(toplevel / "activate"))
    output("systemctl", "daemon-reload")
    output("/usr/lib/systemd/systemd-sysctl")
    for unit in changed:
        output("systemctl", "try-restart", unit)
    print(f"activated {toplevel}; restarted: {', '.join(changed) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
