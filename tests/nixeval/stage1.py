"""What stage 1 of a few hosts evaluates to: units, files, programs and kernel modules of its initial RAM disk.

`NIXPKGS=… python -m tests.nixeval.stage1` writes them to tests/golden/stage1; a test compares, and the lab makes its own
stage 1 of them (tests/lab/nixpkgs/builder/initrd_systemd.py).
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.nixeval import hosts
from tests.nixeval.cases import GUESTS, PAIR, SLEEPING, inputs, rendered
from tests.nixeval.host import evaluate_flake_host
from tests.nixeval.nix import REPOSITORY, EvaluationError
from tests.nixeval.units import name_store_paths

GOLDEN = REPOSITORY / "tests/golden/stage1"
ON_ZFS = ("many-disks-zfs", "uefi-zfs-luks-mirror", GUESTS)
CASES = ("encrypted-remote", "encrypted-server-unattended", *SLEEPING, PAIR, *ON_ZFS)
"""With its passphrase typed over SSH, and without; hosts that hibernate; a mirror; and hosts on ZFS, of which stage 2's part
in bringing up pools is kept too.
"""
SELECT = """
host:
let
  inherit (host) config;
  inherit (host.pkgs) lib;
  inherit (config.boot) initrd;
  stage1 = initrd.systemd;
  textOf = entry: if entry.text != null then entry.text else entry.source.text or null;
  # What a unit runs, by the name of the program that NixOS makes of it.
  scripts = lib.concatMapAttrs (
    name: service:
    lib.filterAttrs (_: text: text != "" && text != null) {
      "${name}-start" = service.script or null;
      "${name}-pre-start" = service.preStart or null;
    }
  );
  units = lib.mapAttrs (_: unit: {
    inherit (unit) text wantedBy requiredBy aliases;
  });
  named = pattern: lib.filterAttrs (name: _: builtins.match pattern name != null);
in
{
  units = units (lib.filterAttrs (_: unit: unit.enable) stage1.units);
  scripts = scripts stage1.services;
  pools = {
    units = units (named "zfs(-import)?[.]target|zfs-(import|sync)-.+[.]service" config.systemd.units);
    scripts = scripts (named "zfs-(import|sync)-.+" config.systemd.services);
  };
  # The option says what is added to systemd's own; what makes the folder has them all.
  upstream = stage1.contents."/etc/systemd/system".source.buildCommand;
  network = lib.mapAttrs (_: unit: unit.text) stage1.network.units;
  contents = lib.filterAttrs (_: text: text != null) (
    lib.mapAttrs (_: textOf) (lib.filterAttrs (_: entry: entry.enable) stage1.contents)
  );
  fstab = stage1.managerEnvironment.SYSTEMD_SYSROOT_FSTAB.text;
  store = map (entry: "${entry.source}") (lib.filter (entry: entry.enable) stage1.storePaths);
  rules = initrd.services.udev.rules;
  available = initrd.availableKernelModules;
  loaded = initrd.kernelModules;
  secrets = lib.attrNames initrd.secrets;
  parameters = config.boot.kernelParams;
}
"""


def stage1(case: str) -> dict[str, Any]:
    """What the host of a case evaluates to, store paths named instead of hashed."""
    with tempfile.TemporaryDirectory() as folder:
        flake = hosts.write(rendered(case).files, Path(folder))
        found = evaluate_flake_host(flake, inputs(case)[1].hostname, SELECT)
    if found.failed_assertions or found.warnings:
        raise EvaluationError("\n".join((*found.failed_assertions, *found.warnings)))
    value = dict(found.value)
    if case not in ON_ZFS:
        del value["pools"]
    value["upstream"] = sorted(set(_upstream(value["upstream"])))
    named = dict(json.loads(name_store_paths(json.dumps(value))))
    return named | {"store": sorted(set(named["store"]))}


def _upstream(command: str) -> list[str]:
    """Names of systemd's own units, in the words of the command that collects them (nixos/lib/systemd-lib.nix)."""
    return command.partition("for i in ")[2].partition(";")[0].split()


def committed(case: str) -> dict[str, Any]:
    """The same from the repository."""
    return dict(json.loads((GOLDEN / f"{case}.json").read_text()))


def main() -> int:
    """Write the golden files."""
    GOLDEN.mkdir(exist_ok=True)
    for case in CASES:
        path = GOLDEN / f"{case}.json"
        path.write_text(json.dumps(stage1(case), indent=1, sort_keys=True) + "\n")
        print(path.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
