"""What each phase and profile makes of a host, evaluated.

`NIXPKGS=… python -m tests.nixeval.phases` writes tests/golden/phases.json (what each changes against the one before)
and tests/golden/security (the files and units that real tools are asked about). `python -m tests.nixeval.pages`
makes docs/reference/phases.md from the first.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from hv.security.table import changed
from tests.nixeval.host import MODULES, evaluate
from tests.nixeval.nix import REPOSITORY
from tests.nixeval.units import EXAMPLE, name_store_paths

GOLDEN = REPOSITORY / "tests/golden/phases.json"
FILES = REPOSITORY / "tests/golden/security"
PROFILES = ("development", "balanced", "strict", "paranoid")
STATES = ("setup", *PROFILES)
"""Phase setup, then phase hardened with each profile."""
BROKER = '{ hypervisor.privileges.broker.program = "/run/current-system/sw/bin/hvd"; }'
HELPERS = """{
  boot.swraid = { enable = true; mdadmConf = "MAILADDR root"; };
  fileSystems."/boot2" = { device = "/dev/disk/by-partuuid/b"; fsType = "vfat"; };
  hypervisor.storage = { esp.mirrors = [ "/boot2" ]; pools.default.path = "/var/lib/libvirt/images"; };
  hypervisor.passthrough.virtualFunctions."0000:05:00.0".count = 4;
}"""
"""What makes every helper of storage and passthrough a unit."""
SELECT = (
    """
host:
let
  inherit (host.pkgs) lib;
  of = config: config.hypervisor.security.description.table;
  files = config: {
    "audit.rules" = lib.concatLines config.security.audit.rules;
    "auditd.conf" = config.environment.etc."audit/auditd.conf".text;
    "polkit.rules" = config.environment.etc."polkit-1/rules.d/10-nixos.rules".text;
    "qemu.apparmor" = config.security.apparmor.policies.hyper-nixos-qemu.profile or "";
    "security.json" = config.environment.etc."hyper-nixos/security.json".text;
    "sshd_config.json" = builtins.toJSON (
      lib.filterAttrs (_: value: value != null) config.services.openssh.settings
    );
    "sudoers" = config.security.sudo-rs.configFile;
    "sysctl.conf" = config.environment.etc."sysctl.d/60-nixos.conf".text;
  };
  # A unit that upstream's package brings is a drop-in here, and is judged where it comes from.
  ours = config: lib.mapAttrs (_: unit: unit.text) (
    lib.filterAttrs (
      name: unit: unit.enable && builtins.match "(hv|hyper-nixos).*\\\\.(service|socket)" name != null
    ) config.systemd.units
  );
  variant = modules: (host.extendModules { inherit modules; }).config;
  states = {
    setup = host.config;
  } // lib.genAttrs PROFILES (
    name: variant [ { hypervisor.phase = "hardened"; hypervisor.security.profile = name; } ]
  );
in
{
  plain = of (variant [ { hypervisor.security.enable = lib.mkForce false; } ]);
  states = lib.mapAttrs (_: of) states;
  files = lib.mapAttrs (_: files) states;
  units = ours (variant [ BROKER HELPERS { hypervisor.phase = "hardened"; hypervisor.security.profile = "strict"; } ]);
}
""".replace("PROFILES", "[ " + " ".join(f'"{name}"' for name in PROFILES) + " ]")
    .replace("BROKER", BROKER)
    .replace("HELPERS", HELPERS)
)

Values = dict[str, dict[str, Any]]


@cache
def evaluated() -> Any:
    """`plain` (without our security), `states`, `files` and `units`."""
    return evaluate(SELECT, [MODULES, EXAMPLE]).value


def phases() -> dict[str, Values]:
    """`setup`: against a host without our security; then each profile against the state before it."""
    states = {"plain": evaluated()["plain"], **{name: evaluated()["states"][name] for name in STATES}}
    return {after: changed(states[before], states[after]) for before, after in pairwise(states)}


def files() -> dict[str, str]:
    """Path below FILES to text."""
    states = {
        f"{state}/{name}": text for state in STATES for name, text in evaluated()["files"][state].items()
    }
    units = {f"units/{name}": text for name, text in evaluated()["units"].items()}
    return {path: name_store_paths(text) for path, text in (states | units).items() if text}


def committed() -> dict[str, str]:
    """The same from the repository."""
    return {str(path.relative_to(FILES)): path.read_text() for path in FILES.rglob("*") if path.is_file()}


def write(texts: Mapping[str, str]) -> None:
    """Put files below FILES, and nothing else."""
    shutil.rmtree(FILES, ignore_errors=True)
    for path, text in texts.items():
        target = FILES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def main() -> int:
    """Write the golden files."""
    GOLDEN.write_text(json.dumps(phases(), indent=1) + "\n")
    write(files())
    print(GOLDEN.relative_to(REPOSITORY), FILES.relative_to(REPOSITORY), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
