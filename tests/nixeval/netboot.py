"""What stage 1 of the netboot medium does about a store that is fetched by itself, as it evaluates.

`NIXPKGS=… python -m tests.nixeval.netboot` writes it to tests/golden/netboot.json; a test compares, and a machine starts with it.
"""

import json
import sys
from functools import cache
from typing import Any

from tests.nixeval.host import flakes, nixpkgs
from tests.nixeval.nix import REPOSITORY, require
from tests.nixeval.units import name_store_paths

GOLDEN = REPOSITORY / "tests/golden/netboot.json"
SELECT = """let flakes = FLAKES; inherit ((import NIXPKGS/nixos/lib/eval-config.nix {
  system = null;
  specialArgs = { self = flakes.own; nixpkgs = flakes.nixpkgsFlake; };
  modules = [
    flakes.own.nixosModules.default REPOSITORY/iso/media/netboot.nix { nixpkgs.hostPlatform = "PROCESSOR"; }
  ];
})) config; inherit (config.boot) initrd; in {
  failed = map (each: each.message) (builtins.filter (each: !each.assertion) config.assertions);
  inherit (config) warnings;
  wanted = {
    units = builtins.mapAttrs (_: unit: unit.text) (builtins.intersectAttrs {
      "hyper-nixos-store.service" = 1; "rw-sysroot-nix-store.service" = 1; "systemd-networkd.service" = 1;
      "systemd-networkd-wait-online.service" = 1; "systemd-resolved.service" = 1;
    } initrd.systemd.units);
    wantedBy = builtins.mapAttrs (_: unit: unit.wantedBy) (builtins.intersectAttrs {
      "systemd-networkd.service" = 1; "systemd-networkd.socket" = 1;
    } initrd.systemd.units);
    network = initrd.systemd.network.units."99-hyper-nixos-store.network".text;
    fstab = initrd.systemd.managerEnvironment.SYSTEMD_SYSROOT_FSTAB.text;
  };
  programs = builtins.attrNames initrd.systemd.extraBin;
  packages = map (each: each.pname or each.name) initrd.systemd.initrdBin;
  modules = initrd.availableKernelModules;
  initrd = config.system.build.initialRamdisk.drvPath;
  store = config.system.build.squashfsStore.drvPath;
}"""


@cache
def stage_1(system: str) -> dict[str, Any]:
    """What the initial RAM disk without a store is made of; `wanted` is what is committed."""
    text = SELECT
    given = {
        "FLAKES": flakes(),
        "NIXPKGS": str(nixpkgs()),
        "REPOSITORY": str(REPOSITORY),
        "PROCESSOR": system,
    }
    for name, value in given.items():
        text = text.replace(name, value)
    found: dict[str, Any] = require().evaluate(text)
    wanted = found["wanted"]
    # Each service has the places of languages and time zones, which change with nixpkgs.
    wanted["units"] = {
        name: "".join(
            line
            for line in name_store_paths(unit).splitlines(keepends=True)
            if not line.startswith("Environment=")
        )
        for name, unit in wanted["units"].items()
    }
    return found


def committed() -> dict[str, Any]:
    """The same from the repository, of x86_64."""
    read: dict[str, Any] = json.loads(GOLDEN.read_text())
    return read


def main() -> int:
    """Write the golden file."""
    GOLDEN.write_text(json.dumps(stage_1("x86_64-linux")["wanted"], indent=1, sort_keys=True) + "\n")
    print(GOLDEN.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
