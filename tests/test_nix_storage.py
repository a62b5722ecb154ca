"""nix/modules/storage, evaluated with a real nixpkgs: what each option does, and what is refused."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hv.esp.settings import EspSettings
from hv.pools.declared import Declared
from tests.nixeval.host import MODULES, TOPLEVEL, Evaluated, evaluate
from tests.nixeval.nix import REPOSITORY
from tests.nixeval.units import EXAMPLE

MD_CHECK = REPOSITORY / "nix/modules/storage/md-check.sh"

UEFI = "({ boot.loader.efi.canTouchEfiVariables = true; })"
GRUB = """({ lib, ... }: {
  boot.loader.systemd-boot.enable = lib.mkForce false;
  boot.loader.grub = { enable = true; device = "nodev"; };
})"""
MIRROR = """({
  fileSystems."/boot2" = { device = "/dev/disk/by-partuuid/b"; fsType = "vfat"; };
  hypervisor.storage.esp = { mirrors = [ "/boot2" ]; checkInterval = "hourly"; };
})"""
POOLS = """({
  hypervisor.storage.pools = {
    default.path = "/var/lib/libvirt/images";
    fast = { kind = "lvm"; volumeGroup = "guests"; autostart = false; };
    many = { kind = "btrfs"; path = "/srv/guests"; copyOnWrite = true; };
    tank = { kind = "zfs"; dataset = "tank/guests"; };
  };
})"""
ZFS = """({
  boot.supportedFilesystems = [ "zfs" ];
  hypervisor.storage.zfs = { hostId = "8425e349"; arcMax = "8 GiB"; };
})"""
EVERYTHING = f"""{{ imports = [ {UEFI} {MIRROR} {POOLS} {ZFS} ({{
  boot.swraid = {{ enable = true; mdadmConf = "MAILADDR root"; }};
  fileSystems."/srv" = {{ device = "/dev/disk/by-label/srv"; fsType = "btrfs"; }};
  hypervisor.storage.maintenance = {{ scrubInterval = "weekly"; trimInterval = "daily"; }};
}}) ]; }}"""


def example(select: str, *modules: str, system: str = "x86_64-linux") -> Evaluated:
    """The example host with more modules."""
    return evaluate(select, [MODULES, EXAMPLE, *modules], system)


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_every_kind_of_storage_at_once(system: str) -> None:
    select = """host: let
      inherit (host) config;
      unit = name: config.systemd.services.${name}.serviceConfig;
    in {
      toplevel = (TOPLEVEL) host;
      inherit (config.networking) hostId;
      params = config.boot.kernelParams;
      force = config.boot.zfs.forceImportRoot;
      scrubs = [ config.services.btrfs.autoScrub.enable config.services.zfs.autoScrub.enable ];
      scrubbed = config.services.btrfs.autoScrub.fileSystems;
      intervals = [
        config.services.btrfs.autoScrub.interval
        config.services.zfs.autoScrub.interval
        config.systemd.services.hyper-nixos-md-check.startAt
        config.services.fstrim.interval
        config.services.zfs.trim.interval
        config.systemd.services.hyper-nixos-esp-check.startAt
      ];
      md = config.systemd.services.hyper-nixos-md-check.script;
      boots = map (name: config.fileSystems.${name}.options) [ "/boot" "/boot2" ];
      hook = config.boot.loader.systemd-boot.extraInstallCommands;
      mounts = config.systemd.services.hyper-nixos-pools.unitConfig.RequiresMountsFor;
      exec = [ (unit "hyper-nixos-pools").ExecStart (unit "hyper-nixos-esp-check").ExecStart ];
    }""".replace("TOPLEVEL", TOPLEVEL)
    host = example(select, EVERYTHING, system=system)
    assert (host.failed_assertions, host.warnings) == ((), ())
    found = host.value
    assert found["toplevel"].endswith(".drv")
    assert found["hostId"] == "8425e349"
    assert f"zfs.zfs_arc_max={8 * 2**30}" in found["params"]
    assert found["force"] is False
    assert found["scrubs"] == [True, True]
    assert found["scrubbed"] == ["/srv"]
    assert found["intervals"] == ["weekly", "weekly", ["weekly"], "daily", "daily", ["hourly"]]
    assert found["md"] == MD_CHECK.read_text()
    for options in found["boots"]:
        assert {"nofail", "x-systemd.device-timeout=90s", "umask=0077"} <= {*options}
    assert "/bin/hv esp --config /nix/store/" in found["hook"] and " sync || " in found["hook"]
    assert sorted(found["mounts"]) == ["/srv/guests", "/var/lib/libvirt/images"]
    assert [line.split("/bin/")[1] for line in found["exec"]] == ["hv pools apply", "hv esp status --notice"]


@pytest.mark.nixpkgs
def test_the_files_are_what_the_commands_read() -> None:
    select = """host: let
      text = name: host.config.environment.etc."hyper-nixos/${name}.json".text;
    in { pools = text "pools"; esp = text "esp"; }"""
    found = example(select, EVERYTHING).value
    pools = {pool.name: pool for pool in Declared.model_validate(json.loads(found["pools"])).pools}
    assert {name: pool.kind for name, pool in pools.items()} == {
        "default": "dir",
        "fast": "lvm",
        "many": "btrfs",
        "tank": "zfs",
    }
    assert [name for name, pool in pools.items() if not pool.autostart] == ["fast"]
    assert pools["many"].model_dump()["copy_on_write"] is True
    assert pools["default"].model_dump()["copy_on_write"] is False
    settings = EspSettings.model_validate(json.loads(found["esp"]))
    assert settings == EspSettings(source="/boot", mirrors=("/boot2",), variables=True)


@pytest.mark.nixpkgs
def test_what_is_not_asked_for_is_not_there() -> None:
    select = """host: let
      inherit (host) config;
      ours = builtins.filter (name: builtins.match "hyper-nixos-(pools|esp-check|md-check).*" name != null)
        (builtins.attrNames config.systemd.units);
      none = host.extendModules { modules = [ NONE ]; };
    in {
      inherit ours;
      hook = config.boot.loader.systemd-boot.extraInstallCommands;
      scrubs = [ config.services.btrfs.autoScrub.enable config.services.zfs.autoScrub.enable ];
      trims = [ config.services.fstrim.enable none.config.services.fstrim.enable ];
      off = none.config.services.btrfs.autoScrub.enable;
    }""".replace(
        "NONE",
        """{
      fileSystems."/srv" = { device = "/dev/x"; fsType = "btrfs"; };
      hypervisor.storage.maintenance = { scrub = false; trim = false; };
    }""",
    )
    assert example(select).value == {
        "ours": [],
        "hook": "",
        "scrubs": [False, False],
        "trims": [True, False],
        "off": False,
    }


CASES: dict[str, tuple[list[str], str]] = {
    "everything": ([EVERYTHING], ""),
    "mirrors with GRUB": ([GRUB, MIRROR], "a hook of systemd-boot"),
    "mirrors with XBOOTLDR": (
        [UEFI, MIRROR, '{ boot.loader.systemd-boot.xbootldrMountPoint = "/xboot"; }'],
        "keeps its kernels on another one",
    ),
    "the source as mirror": (
        [UEFI, '{ hypervisor.storage.esp.mirrors = [ "/boot" ]; }'],
        "name a partition twice",
    ),
    "a mirror that is not declared": (
        [
            UEFI,
            """({ hypervisor.storage.esp.mirrors = [ "/boot3" ];
                 fileSystems."/boot3" = { device = "/dev/x"; fsType = "ext4"; }; })""",
        ],
        "nothing with FAT is declared at /boot3",
    ),
    "ZFS without an id": (['{ boot.supportedFilesystems = [ "zfs" ]; }'], "uses ZFS and has no id"),
    "a cache without ZFS": (['{ hypervisor.storage.zfs.arcMax = "1GiB"; }'], "which this host does not use"),
    "a cache that is too small": (
        [ZFS, '({ lib, ... }: { hypervisor.storage.zfs.arcMax = lib.mkForce "63MiB"; })'],
        "passes over less than 64 MiB",
    ),
    "a kernel that ZFS does not know": (
        [
            ZFS,
            """({ lib, pkgs, ... }: { boot.zfs.modulePackage = lib.mkForce
                 (pkgs.zfs // { meta = pkgs.zfs.meta // { broken = true; }; }); })""",
        ],
        "does not support the kernel",
    ),
    "pools without libvirt": (
        ['{ hypervisor.storage.pools.a.path = "/a"; hypervisor.virtualization.enable = false; }'],
        "which is off",
    ),
    "two pools at one place": (
        ['{ hypervisor.storage.pools = { a.path = "/a"; b = { kind = "btrfs"; path = "/a"; }; }; }'],
        "two pools have the same place",
    ),
    "a pool's name": (['{ hypervisor.storage.pools."a b".path = "/a"; }'], "is no name for a pool"),
    "a pool without a place": (['{ hypervisor.storage.pools.a.kind = "lvm"; }'], "is made of `volumeGroup`"),
    "a pool with two places": (
        ['{ hypervisor.storage.pools.a = { path = "/a"; volumeGroup = "b"; }; }'],
        "is made of `path`",
    ),
    "a pool on ZFS without ZFS": (
        ['{ hypervisor.storage.pools.a = { kind = "zfs"; dataset = "tank"; }; }'],
        "is on ZFS",
    ),
    "a pool on LVM without LVM": (
        [
            """({ lib, ... }: { services.lvm.enable = lib.mkForce false;
                 hypervisor.storage.pools.a = { kind = "lvm"; volumeGroup = "b"; }; })"""
        ],
        "is on LVM, which is off",
    ),
}
"""Each: modules, and what is said; nothing where the host is fine."""


@pytest.mark.nixpkgs
def test_each_assertion_fires_and_only_then() -> None:
    listed = "".join(f'"{name}" = [ {" ".join(modules)} ];\n' for name, (modules, _) in CASES.items())
    select = f"""host: let
      failed = modules: builtins.concatMap (entry: if entry.assertion then [ ] else [ entry.message ])
        (host.extendModules {{ inherit modules; }}).config.assertions;
    in builtins.mapAttrs (_: failed) {{ {listed} }}"""
    found: dict[str, list[str]] = example(select).value
    for name, (_, said) in CASES.items():
        # Of ZFS without an id, upstream says so too.
        messages = [message for message in found[name] if "requires networking.hostId" not in message]
        assert len(messages) == bool(said), (name, messages)
        assert all(said in message for message in messages), (name, messages)


@pytest.mark.nixpkgs
def test_each_type_refuses() -> None:
    bad = {
        "zfs.hostId": '"8425E349"',
        "zfs.arcMax": '"8GB"',
        "esp.mirrors": '[ "/boot 2" ]',
        "esp.checkInterval": '"daily\\nOnBootSec=1"',
        "pools.a.path": '"/a\\"b"',
        "maintenance.scrubInterval": '"monthly\\nOnBootSec=1"',
    }
    tried = " ".join(
        f"""(builtins.tryEval (builtins.deepSeq
          (host.extendModules {{ modules = [ {{ hypervisor.storage.{option} = {value}; }} ]; }})
            .config.hypervisor.storage.{option} true)).success"""
        for option, value in bad.items()
    )
    assert example(f"host: [ {tried} ]").value == [False] * len(bad)


@pytest.mark.nixpkgs
def test_the_options_in_the_documents_evaluate() -> None:
    blocks = [
        block
        for name in ("storage", "passthrough")
        for block in re.findall(
            r"^```nix\n(.*?)^```$", (REPOSITORY / f"docs/{name}.md").read_text(), re.M | re.S
        )
    ]
    assert len(blocks) == 5
    host = example(TOPLEVEL, *(f"{{ {block} }}" for block in blocks))
    assert (host.failed_assertions, host.warnings) == ((), ())
    assert host.value.endswith(".drv")


def check(sysfs: Path) -> str:
    command = ["bash", "-e", str(MD_CHECK)]
    done = subprocess.run(command, env={"SYSFS": str(sysfs)}, capture_output=True, text=True, check=True)
    return done.stdout


def test_idle_arrays_are_checked(tmp_path: Path) -> None:
    assert "no md array" in check(tmp_path)
    states: dict[str, Any] = {"md127": "idle", "md1": "resync", "md0": None}
    for name, state in states.items():
        folder = tmp_path / "block" / name / "md"
        folder.mkdir(parents=True)
        if state:
            (folder / "sync_action").write_text(f"{state}\n")
    said = check(tmp_path)
    assert (tmp_path / "block/md127/md/sync_action").read_text() == "check\n"
    assert (tmp_path / "block/md1/md/sync_action").read_text() == "resync\n"
    assert said == "md1: is busy (resync), not checked this time\nmd127: check begun\n"
