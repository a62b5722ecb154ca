"""The text of every systemd unit of ours, as the modules evaluate to it, with store paths named instead of hashed.

`NIXPKGS=… python -m tests.nixeval.units` writes them to tests/golden/units; a test compares, and the lab installs them.
"""

import re
import sys
from pathlib import Path

from tests.nixeval.host import MODULES, evaluate
from tests.nixeval.nix import REPOSITORY, EvaluationError

GOLDEN = REPOSITORY / "tests/golden/units"
EXAMPLE = REPOSITORY / "tests/nixeval/example.nix"
PASSTHROUGH = """{
  hypervisor.passthrough.devices."0000:01:00.0" = { vendor = "10de"; device = "2204"; drivers = [ "nouveau" ]; };
}"""
DEGRADED = """{
  hypervisor.storage.degraded.enable = true;
  fileSystems."/srv" = { device = "/dev/disk/by-uuid/2"; fsType = "btrfs"; options = [ "degraded" ]; };
}"""
MIGRATED = """{
  hypervisor.migration = { enable = true; fallback = "counted"; };
}"""
SELECT = """
host:
let
  inherit (host.config.systemd) units;
  stage1 = host.config.boot.initrd.systemd;
in
{
  "hyper-nixos-firstrun.service" = units."hyper-nixos-firstrun.service".text;
  "hyper-nixos-health.service" = units."hyper-nixos-health.service".text;
  "hv-hostd.service" = units."hv-hostd.service".text;
  "hv-hostd.socket" = units."hv-hostd.socket".text;
  "hvd.service" = units."hvd.service".text;
  "hvd.socket" = units."hvd.socket".text;
  "libvirtd.socket.d/overrides.conf" = units."libvirtd.socket".text;
  "libvirtd-ro.socket.d/overrides.conf" = units."libvirtd-ro.socket".text;
  "libvirtd-admin.socket.d/overrides.conf" = units."libvirtd-admin.socket".text;
  "initrd/hyper-nixos-vfio.service" = stage1.units."hyper-nixos-vfio.service".text;
  "initrd/hyper-nixos-vfio.sh" = stage1.services.hyper-nixos-vfio.script;
  "initrd/hyper-nixos-btrfs-degraded.rules" = host.config.boot.initrd.services.udev.rules;
  "initrd/hyper-nixos-btrfs-degraded.service" = stage1.units."hyper-nixos-btrfs-degraded.service".text;
  "initrd/hyper-nixos-btrfs-degraded.sh" = stage1.services.hyper-nixos-btrfs-degraded.script;
  "initrd/hyper-nixos-btrfs-degraded.timer" = stage1.units."hyper-nixos-btrfs-degraded.timer".text;
}
"""
"""The option `text` of a unit is what NixOS writes to its file; scripts are listed beside the unit that runs them."""

NAMES = {"hyper-nixos": "hv"}
"""Placeholders that differ from the package's name."""


def name_store_paths(text: str) -> str:
    """Store paths as `@package@`, without hash and version, so that a new nixpkgs changes nothing here."""

    def placeholder(match: re.Match[str]) -> str:
        name = re.sub(r"-\d.*|\.drv$", "", match["name"])
        return f"@{NAMES.get(name, name)}@"

    return re.sub(r"/nix/store/[0-9a-z]{32}-(?P<name>[A-Za-z0-9+._?=-]+)", placeholder, text)


def units() -> dict[str, str]:
    """Path below GOLDEN to text."""
    evaluated = evaluate(SELECT, [MODULES, EXAMPLE, PASSTHROUGH, DEGRADED, MIGRATED])
    if evaluated.failed_assertions or evaluated.warnings:
        raise EvaluationError("\n".join((*evaluated.failed_assertions, *evaluated.warnings)))
    return {path: name_store_paths(text) for path, text in evaluated.value.items()}


def committed() -> dict[str, str]:
    """The same from the repository."""
    return {str(path.relative_to(GOLDEN)): path.read_text() for path in GOLDEN.rglob("*") if path.is_file()}


def main() -> int:
    """Write the golden files."""
    fresh = units()
    for stale in committed().keys() - fresh.keys():
        (GOLDEN / stale).unlink()
    for path, text in fresh.items():
        target = Path(GOLDEN / path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        print(target.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
