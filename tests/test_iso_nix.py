"""The media and the flake, evaluated with a real nixpkgs: what each is made of, and what the live system will do."""

import json
import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from installer import embed
from installer.answers.model import Tier
from installer.medium import Medium
from tests.nixeval.host import flakes, nixpkgs
from tests.nixeval.nix import REPOSITORY, require
from tests.nixeval.units import name_store_paths

SYSTEMS = ("x86_64-linux", "aarch64-linux")
MEDIA = ("iso", "iso-minimal", "kexec", "netboot", "qcow2", "raw")
SQUASHFS = {"dev": 1, "default": 6, "release": 19}
"""Levels of zstd, by the purpose of a medium."""
each_system = pytest.mark.parametrize("system", SYSTEMS)
pytestmark = pytest.mark.nixpkgs


def own(select: str) -> Any:
    """A function of our flake's outputs, evaluated."""
    return require().evaluate(f"({select}) {flakes()}.own")


PACKAGES = ("default", "docs", "hv", "hv-server", *MEDIA)


def test_packages_are_these() -> None:
    found = own("own: builtins.mapAttrs (_: builtins.attrNames) own.packages")
    assert found == {system: sorted(PACKAGES) for system in sorted(SYSTEMS)}


@each_system
@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_evaluates_to_a_derivation(name: str, system: str) -> None:
    """One at a time: an image with systems of hosts is made of a dozen systems, in several GB of memory."""
    path = own(f"own: own.packages.{system}.{name}.drvPath")
    assert path.endswith(".drv")
    if name == "default":
        assert path == own(f"own: own.packages.{system}.hv.drvPath")


@each_system
def test_programs_of_the_flake_start_what_they_say(system: str) -> None:
    found = own(f"own: builtins.mapAttrs (_: app: app.program) own.apps.{system}")
    assert {name: Path(program).name for name, program in found.items()} == {
        "default": "hv",
        "try": "hyper-nixos-try",
    }


TRY = """let pkgs = import NIXPKGS { system = "x86_64-linux"; }; in
(pkgs.callPackage REPOSITORY/nix/packages/try.nix { iso = "PLACE/iso"; }).text"""
QEMU = """#!/bin/sh
printf '%s\\n' "$@" > "$QEMU_SAID"
"""


def test_try_starts_qemu_with_the_medium_and_a_disk_that_stays(tmp_path: Path) -> None:
    """The script itself, with QEMU's place taken by a program that writes down its arguments."""
    places = {"NIXPKGS": str(nixpkgs()), "REPOSITORY": str(REPOSITORY), "PLACE": str(tmp_path)}
    text = require().evaluate(re.sub("|".join(places), lambda found: places[found[0]], TRY))
    (tmp_path / "iso/iso").mkdir(parents=True)
    medium = tmp_path / "iso/iso/hyper-nixos.iso"
    medium.touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("qemu-system-x86_64", "qemu-img"):
        (programs / name).write_text(QEMU)
        (programs / name).chmod(0o755)
    disk = tmp_path / "a disk.qcow2"
    # The firmware's variables are kept too; those that a build would copy are not here.
    Path(f"{disk}.efivars").touch()
    done = subprocess.run(
        ["bash", "-c", text, "try", "-display", "none"],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HYPER_NIXOS_DISK": str(disk),
            "QEMU_SAID": str(tmp_path / "said"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "said").read_text().splitlines()
    assert f"if=none,id=medium,format=raw,media=cdrom,readonly=on,file={medium}" in said
    assert f"if=none,id=disk,format=qcow2,discard=unmap,file={disk}" in said
    assert said[-2:] == ["-display", "none"]


LIVE = """own: let inherit (own.nixosConfigurations.installer-PROCESSOR) config; in {
  argument = config.boot.kernelParams;
  speech = config.specialisation.speech.configuration.boot.kernelParams;
  speechModules = config.specialisation.speech.configuration.boot.kernelModules;
  speechName = config.specialisation.speech.configuration.isoImage.configurationName;
  speechUnit = config.specialisation.speech.configuration.systemd.units."espeakup.service".text;
  release = config.environment.etc."os-release".text;
  page = config.systemd.units."hyper-nixos-page.service".text;
  live = config.systemd.units."hyper-nixos-live.service".text;
  masked = map (name: config.systemd.units.${name}.enable) [
    "getty@tty1.service"
    "autovt@tty1.service"
    "systemd-hibernate-clear.service"
  ];
  wants = config.systemd.targets.getty.wants;
  sshd = builtins.removeAttrs config.services.openssh.settings [ "AuthorizedPrincipalsFile" ];
  shell = config.environment.loginShellInit;
  filesystems = builtins.filter (name: config.boot.supportedFilesystems.${name}) (
    builtins.attrNames config.boot.supportedFilesystems
  );
  programs = map (package: package.pname or package.name) config.environment.systemPackages;
  firmware = config.hardware.enableRedistributableFirmware;
  failed = map (each: each.message) (builtins.filter (each: !each.assertion) config.assertions);
  warnings = config.warnings;
  medium = builtins.fromJSON config.environment.etc."hyper-nixos/medium.json".source.description;
  volume = config.isoImage.volumeID;
  targets = map (file: file.target) config.isoImage.contents;
  embed = (builtins.head (builtins.filter (file: file.target == "/hyper-nixos/embed.bin") config.isoImage.contents)).source.buildCommand;
  sources = map toString config.isoImage.storeContents;
  forced = config.boot.zfs.forceImportRoot;
  firewall = config.networking.firewall.allowedTCPPorts;
}"""


@cache
def live(system: str = "x86_64-linux") -> dict[str, Any]:
    """What the live system of the ISO is set to."""
    found: dict[str, Any] = own(LIVE.replace("PROCESSOR", system.removesuffix("-linux")))
    return found


@each_system
def test_the_live_system_holds_together(system: str) -> None:
    found = live(system)
    assert (found["failed"], found["warnings"]) == ([], [])
    assert "VARIANT_ID=installer\n" in found["release"]
    assert found["firmware"] is True
    assert found["forced"] is False


@each_system
def test_each_boot_entry_ends_with_the_argument_that_is_filled_later(system: str) -> None:
    found = live(system)
    consoles = ["console=tty0", "console=ttyS0,115200"]
    consoles += ["console=ttyAMA0,115200"] if system == "aarch64-linux" else []
    for entry in (found["argument"], found["speech"]):
        assert entry[-1] == embed.kernel_argument()
        assert entry[-1 - len(consoles) : -1] == consoles
        assert {"intel_iommu=on", "iommu=pt"} <= {*entry}
        # Both architectures' kernels keep 2048 bytes (COMMAND_LINE_SIZE); the loaders add init= and their own.
        assert len(" ".join(entry)) < 1024


def test_the_page_alone_has_the_screen() -> None:
    found = live()
    assert found["masked"] == [False, False, False]
    assert "noresume" in found["argument"], (
        "a host of the machine that hibernates is not woken by the medium"
    )
    assert "getty@tty2.service" in found["wants"]
    page = found["page"]
    for line in (
        "StandardInput=tty",
        "StandardOutput=tty",
        "TTYPath=/dev/tty1",
        "Conflicts=getty@tty1.service",
        "Restart=always",
    ):
        assert line in page.splitlines()
    # What is on the page is in no journal.
    assert not re.search("StandardOutput=.*(journal|console)", page)
    assert "hv live show" in found["shell"]


@pytest.mark.parametrize("unit", ["page", "live", "speechUnit"])
def test_systemd_accepts_our_units(unit: str, tmp_path: Path) -> None:
    names = {"page": "hyper-nixos-page", "live": "hyper-nixos-live", "speechUnit": "espeakup"}
    path = tmp_path / f"{names[unit]}.service"
    text = re.sub(r"@[a-z-]+@/s?bin/[a-z]+", "/bin/true", name_store_paths(live()[unit]))
    path.write_text(re.sub(r"@[a-z-]+@", "/usr", text))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if path.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_sshd_lets_root_in_and_nobody_without_a_password(tmp_path: Path) -> None:
    lines = []
    for name, value in live()["sshd"].items():
        match value:
            case None:
                continue
            case bool():
                lines.append(f"{name} {'yes' if value else 'no'}")
            case list() if name == "AllowUsers":
                lines.append(f"{name} {' '.join(value)}")
            case str() | int() if name in {"PermitRootLogin", "PermitEmptyPasswords"}:
                lines.append(f"{name} {value}")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    configuration = tmp_path / "sshd_config"
    configuration.write_text("\n".join([f"HostKey {key}", *lines]) + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    done = subprocess.run(
        ["/usr/sbin/sshd", "-T", "-f", str(configuration)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    assert told["permitrootlogin"] == "yes"
    assert told["passwordauthentication"] == "yes"
    assert told["kbdinteractiveauthentication"] == "no"
    assert told["permitemptypasswords"] == "no"
    assert 22 in live()["firewall"]


@each_system
def test_the_medium_describes_itself_and_holds_what_it_names(system: str) -> None:
    found = live(system)
    described = Medium.model_validate(found["medium"])
    assert described.system == system
    assert described.sources_only is False
    assert "ref" in described.nixpkgs.original
    assert "ref" not in described.nixpkgs.locked
    assert {described.nixpkgs.store_path, described.hyper_nixos.store_path} <= {*found["sources"]}
    assert found["volume"] == "HYPER_NIXOS"
    assert f"/{embed.PATH}" in found["targets"]


def test_the_embed_area_is_made_by_the_module_that_defines_it(tmp_path: Path) -> None:
    script = live()["embed"]
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        env={"PATH": os.environ["PATH"], "sources": str(REPOSITORY), "out": str(tmp_path / "embed.bin")},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "embed.bin").read_bytes() == embed.pack({})


def test_every_storage_tool_is_there() -> None:
    found = live()
    assert {"btrfs", "ext4", "f2fs", "ntfs", "vfat", "xfs", "zfs"} <= {*found["filesystems"]}
    wanted = {
        "btrfs-progs",
        "cryptsetup",
        "hyper-nixos",
        "lvm2",
        "mdadm",
        "nvme-cli",
        "smartmontools",
        "xfsprogs",
    }
    assert wanted <= {*found["programs"]}
    assert any(name.startswith("zfs") for name in found["programs"])


def test_the_entry_with_speech_has_its_driver() -> None:
    found = live()
    assert found["speechName"] == "with speech"
    assert "speakup_soft" in found["speechModules"]
    assert "brltty" in found["programs"]


IMAGE = """own: let iso = own.packages.aarch64-linux.iso; in
builtins.intersectAttrs {
  bootable = null; bootImage = null; efiBootable = null; efiBootImage = null; efiBootFlags = null;
  usbBootable = null; isohybridMbrImage = null; volumeID = null; compressImage = null;
} iso // { script = toString iso.buildCommandPath; }"""


def test_the_image_for_aarch64_has_a_partition_table_that_firmware_finds(tmp_path: Path) -> None:
    """nixpkgs' own script, with what our derivation gives it, around an EFI image made here."""
    given = own(IMAGE)
    script = Path(given.pop("script")).read_text() if Path(given["script"]).exists() else None
    script = script or (nixpkgs() / "nixos/lib/make-iso9660-image.sh").read_text()
    efi = tmp_path / "efi.img"
    efi.write_bytes(b"\0" * (3 << 20))
    subprocess.run(["mkfs.vfat", "--invariant", "-n", "EFIBOOT", efi], check=True, capture_output=True)
    area = tmp_path / "embed.bin"
    area.write_bytes(embed.pack({"answers.toml": b"version = 1\n"}))
    (tmp_path / "store-paths").touch()
    flags, replaced = re.subn(r"/nix/store/\S+-efi-image_eltorito", str(efi), given.pop("efiBootFlags"))
    assert replaced == 1
    files = {"/boot/efi.img": efi, f"/{embed.PATH}": area}
    values = {name: "" if value in (False, None) else str(value) for name, value in given.items()}
    prelude = [
        "uuid() { echo 1b4e28ba-2fa1-11d2-883f-0016d3cca427; }",
        f"sources=({' '.join(map(shlex.quote, map(str, files.values())))})",
        f"targets=({' '.join(map(shlex.quote, files))})",
        "objects=() symlinks=() squashfsCommand= isoName=test.iso system=aarch64-linux SOURCE_DATE_EPOCH=1",
        f"closureInfo={tmp_path} out={tmp_path}/out efiBootFlags={shlex.quote(flags)}",
        *(f"{name}={shlex.quote(value)}" for name, value in values.items()),
    ]
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join([*prelude, script])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    image = tmp_path / "out/iso/test.iso"
    table = json.loads(subprocess.run(["sfdisk", "--json", image], capture_output=True, check=True).stdout)
    assert table["partitiontable"]["label"] == "gpt"
    sector = table["partitiontable"]["sectorsize"]
    (partition,) = [
        each
        for each in table["partitiontable"]["partitions"]
        if each["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
    ]
    start = partition["start"] * sector
    assert image.read_bytes()[start : start + efi.stat().st_size] == efi.read_bytes()
    told = subprocess.run(
        [
            "xorriso",
            "-indev",
            image,
            "-report_el_torito",
            "plain",
            "-osirrox",
            "on",
            "-extract",
            f"/{embed.PATH}",
            tmp_path / "again",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"El Torito boot img :\s+1\s+UEFI\s+y", told.stdout)
    assert (tmp_path / "again").read_bytes() == area.read_bytes()


def test_the_netboot_script_starts_the_live_system() -> None:
    script = own("own: own.packages.x86_64-linux.netboot.ipxe.text")
    kernel = next(line for line in script.splitlines() if line.startswith("kernel "))
    assert "intel_iommu=on iommu=pt" in kernel
    # What a chaining script adds, and what is filled in place.
    assert kernel.endswith("${cmdline}")
    assert embed.kernel_argument() in kernel


def test_compression_is_by_purpose() -> None:
    """Each medium that `hv media build` can name is there; what makes its squashfs says the level."""
    kinds = {*MEDIA, *(f"iso-with-{tier.value}" for tier in Tier)}
    found = own(
        "own: builtins.mapAttrs (_: each: builtins.mapAttrs (_: builtins.attrNames) each.media) own.legacyPackages"
    )
    assert {system: {*purposes} for system, purposes in found.items()} == {
        system: {*SQUASHFS} for system in SYSTEMS
    }
    for purposes in found.values():
        for media in purposes.values():
            assert {*media} == kinds
    for purpose, level in SQUASHFS.items():
        command = own(f"own: own.legacyPackages.x86_64-linux.media.{purpose}.iso-minimal.squashfsCommand")
        assert re.search(rf"-comp zstd -Xcompression-level {level}\b", command), purpose
    ours = own("own: own.legacyPackages.aarch64-linux.media.default.iso-minimal.drvPath")
    assert ours == own("own: own.packages.aarch64-linux.iso-minimal.drvPath")


CLOSURES = """let flakes = FLAKES; found = flakes.own.nixosConfigurations.installer-x86_64.extendModules {
  modules = [ ({ pkgs, ... }: { hypervisor.medium = {
    closures.kvm1 = pkgs.hello; tiers = [ ]; payloadSigners = [ "ops@example.org ssh-ed25519 AAAA" "b c" ];
  }; }) ];
}; in {
  inherit (found.config.environment.etc."hyper-nixos/medium.json".source) buildCommand description ready infos;
  signers = found.config.environment.etc."hyper-nixos/payload_signers".text;
}"""


def test_hosts_systems_on_the_medium_are_in_its_description(tmp_path: Path) -> None:
    """The build's own script, with a size that is made up here."""
    found = require().evaluate(CLOSURES.replace("FLAKES", flakes()))
    assert len(found["infos"]) == 1
    assert found["signers"] == "ops@example.org ssh-ed25519 AAAA\nb c\n"
    (tmp_path / "total-nar-size").write_text("4711\n")
    done = subprocess.run(
        ["bash", "-e", "-u", "-c", found["buildCommand"]],
        env={
            "PATH": os.environ["PATH"],
            "out": str(tmp_path / "medium.json"),
            "infos": str(tmp_path),
            **{name: found[name] for name in ("description", "ready")},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (closure,) = Medium.model_validate_json((tmp_path / "medium.json").read_bytes()).closures
    assert (closure.name, closure.nar_size, closure.cache) == ("kvm1", 4711, None)
    assert re.fullmatch(r"/nix/store/\w{32}-hello-[\d.]+", closure.toplevel)


def test_topics_are_modules_of_their_own() -> None:
    found = own("own: builtins.attrNames own.nixosModules")
    folders = [path.name for path in (REPOSITORY / "nix/modules").iterdir() if path.is_dir()]
    assert found == sorted(["default", *folders])


def test_a_topic_alone_is_switched_on() -> None:
    found = require().evaluate(
        f"""let own = {flakes()}.own; system = (import {nixpkgs()}/nixos/lib/eval-config.nix) {{
          system = null;
          modules = [ own.nixosModules.security {{ nixpkgs.hostPlatform = "x86_64-linux"; }} ];
        }}; in {{
          inherit (system.config.hypervisor) enable;
          security = system.config.hypervisor.security.enable;
          privileges = system.config.hypervisor.privileges.enable;
        }}"""
    )
    assert found == {"enable": False, "security": True, "privileges": False}


def test_each_example_is_a_host_of_the_flake() -> None:
    names = [path.stem for path in (REPOSITORY / "examples").glob("*.toml")]
    processors = ("aarch64", "x86_64")
    ready = [f"prebuilt-{tier.value}-{processor}" for tier in Tier for processor in processors]
    found = own("own: builtins.attrNames own.nixosConfigurations")
    assert found == sorted([*names, *ready, *(f"installer-{processor}" for processor in processors)])


def test_an_example_evaluates_to_a_system() -> None:
    found = own("own: own.nixosConfigurations.home-lab.config.system.build.toplevel.drvPath")
    assert found.endswith(".drv")


def test_the_template_is_a_host() -> None:
    found = require().evaluate(
        f"""let
          flakes = {flakes()};
          flake = import {REPOSITORY}/nix/templates/host/flake.nix;
          outputs = flake.outputs {{ nixpkgs = flakes.nixpkgsFlake; hyper-nixos = flakes.own; }};
          inherit (outputs.nixosConfigurations.host) config;
        in {{
          drv = config.system.build.toplevel.drvPath;
          failed = map (each: each.message) (builtins.filter (each: !each.assertion) config.assertions);
          inherit (config) warnings;
          pinned = flake.inputs.nixpkgs.url == (import {REPOSITORY}/flake.nix).inputs.nixpkgs.url;
        }}"""
    )
    assert found.pop("drv").endswith(".drv")
    assert found == {"failed": [], "warnings": [], "pinned": True}


CHECKS = REPOSITORY / "nix/checks"
LAYOUTS = {f"layout-{name}" for name in json.loads((CHECKS / "layouts.json").read_text())["layouts"]}
MACHINES = LAYOUTS | {path.stem for path in CHECKS.glob("*.nix")} - {"default", "host", "layout"}
"""Tests in virtual machines."""
X86_ONLY = {name for name in LAYOUTS if "uefi" not in name} | {"install-ext4", "install-prebuilt", "rescue"}


def test_every_test_in_virtual_machines_is_a_check() -> None:
    found = own("own: builtins.mapAttrs (_: builtins.attrNames) own.checks")
    assert {*found["x86_64-linux"]} == MACHINES | {"docs", "hv"}
    assert {*found["aarch64-linux"]} == (MACHINES - X86_ONLY) | {"docs", "hv"}


@pytest.mark.parametrize(
    ("name", "system"),
    [
        (name, system)
        for name in sorted(MACHINES)
        for system in SYSTEMS
        if system == "x86_64-linux" or name not in X86_ONLY
    ],
)
def test_the_tests_in_virtual_machines_evaluate(name: str, system: str) -> None:
    """They run in the workflow; here only that each is one."""
    assert own(f'own: own.checks.{system}."{name}".drvPath').endswith(".drv")
