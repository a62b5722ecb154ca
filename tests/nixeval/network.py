"""What the network's modules evaluate to, for tests that load it, on any machine.

`NIXPKGS=… python -m tests.nixeval.network` writes the nftables rulesets of a plain host and of one with every zone, in
each phase and profile, to tests/golden/nftables; and to tests/golden/network what three hosts say of their networks,
between which a machine switches.
"""

import json
import shutil
import sys
from functools import cache

from tests.nixeval.host import MODULES, evaluate
from tests.nixeval.nix import REPOSITORY, EvaluationError
from tests.nixeval.phases import PROFILES, STATES
from tests.nixeval.units import EXAMPLE, name_store_paths

GOLDEN = REPOSITORY / "tests/golden/nftables"
PLAIN = """{
  networking.firewall.allowedTCPPorts = [ 8080 ];
  systemd.network.networks."40-wired" = {
    matchConfig = { Type = "ether"; Kind = "!*"; };
    networkConfig.DHCP = "yes";
  };
}"""
"""What is rendered when the answers say nothing of the network; 8080 stands for a port that some service opens."""
ZONED = """{
  networking.firewall.allowedTCPPorts = [ 8080 ];
  hypervisor.network = {
    links = {
      manage.mac = "52:54:00:00:00:01";
      uplink = { mac = "52:54:00:00:00:02"; addressing = { }; };
      storage = { mac = "52:54:00:00:00:03"; addressing = { dhcp = "no"; addresses = [ "10.3.0.1/24" ]; }; };
    };
    bridges.br0 = {
      members = [ "manage" ];
      addressing = { dhcp = "no"; addresses = [ "10.1.0.1/24" "fd00:1::1/64" ]; };
    };
    isolatedBridges = [ "lab0" ];
    otherInterfaces = [ "routed0" ];
    zones = {
      management = { interfaces = [ "br0" ]; forwardTo = [ "routed" ]; };
      guests.forwardTo = [ "outside" ];
      storage = { interfaces = [ "storage" ]; allow.tcp = [ 3260 ]; };
      routed = { interfaces = [ "routed0" ]; forwardTo = [ "outside" ]; };
    };
  };
  hypervisor.features.containers.enable = true;
}"""
"""A host with every kind of zone."""
HOSTS = {"plain": PLAIN, "zoned": ZONED}
SWITCHED = REPOSITORY / "tests/golden/network"
ADDRESS = '{ dhcp = "no"; acceptRA = false; addresses = [ "10.1.0.1/24" ]; }'
SYSTEMS = {
    "lan": """{
      hypervisor.network.links = { lan0.addressing = ADDRESS; lan1 = { }; };
    }""",
    # The same address, one storey higher.
    "bridge": """{
      hypervisor.network = {
        links = { lan0 = { }; lan1 = { }; };
        bridges.br0 = { members = [ "lan0" ]; addressing = ADDRESS; };
        zones.management.interfaces = [ "br0" ];
      };
    }""",
    # A mistake that nothing can see before it is made: the cable is in the other port.
    "lost": """{
      hypervisor.network = {
        links = { lan0 = { }; lan1 = { }; };
        bridges.br1 = { members = [ "lan1" ]; addressing = ADDRESS; };
        zones.management.interfaces = [ "br1" ];
      };
    }""",
}
SYSTEM = """
host: {
  network = builtins.fromJSON host.config.environment.etc."hyper-nixos/network.json".text;
  check = host.config.system.preSwitchChecks.hyper-nixos-network;
  unit = host.config.systemd.units."hyper-nixos-guard.service".text;
}
"""
SELECT = """
host:
let
  inherit (host.pkgs) lib;
  ruleset = config: lib.concatStringsSep "\\n" (
    lib.mapAttrsToList (_: table: "table ${table.family} ${table.name} {\\n${table.content}\\n}\\n") (
      lib.filterAttrs (_: table: table.enable) config.networking.nftables.tables
    )
  );
  variant = modules: (host.extendModules { inherit modules; }).config;
in
{ setup = ruleset host.config; }
// lib.genAttrs PROFILES (
  name: ruleset (variant [ { hypervisor.phase = "hardened"; hypervisor.security.profile = name; } ])
)
""".replace("PROFILES", "[ " + " ".join(f'"{name}"' for name in PROFILES) + " ]")


def _tidy(text: str) -> str:
    """Without the blank lines and the blanks at line ends that nixpkgs' optional parts leave behind."""
    lines = (line.rstrip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


@cache
def rulesets() -> dict[str, str]:
    """`HOST/STATE` to what `nft -f` reads."""
    found: dict[str, str] = {}
    for name, module in HOSTS.items():
        host = evaluate(SELECT, [MODULES, EXAMPLE, module])
        if host.failed_assertions or host.warnings:
            raise EvaluationError("\n".join((*host.failed_assertions, *host.warnings)))
        found |= {f"{name}/{state}": _tidy(host.value[state]) for state in STATES}
    return found


@cache
def systems() -> dict[str, str]:
    """Name to what a system says of its network, its check before a switch, and its unit, as JSON."""
    found = {}
    for name, module in SYSTEMS.items():
        host = evaluate(SYSTEM, [MODULES, EXAMPLE, module.replace("ADDRESS", ADDRESS)])
        if host.failed_assertions or host.warnings:
            raise EvaluationError("\n".join((*host.failed_assertions, *host.warnings)))
        found[name] = name_store_paths(json.dumps(host.value, indent=1)) + "\n"
    return found


def committed_systems() -> dict[str, str]:
    """The same from the repository."""
    return {path.stem: path.read_text() for path in SWITCHED.glob("*.json")}


def committed() -> dict[str, str]:
    """The same from the repository."""
    return {
        str(path.relative_to(GOLDEN).with_suffix("")): path.read_text() for path in GOLDEN.rglob("*.nft")
    }


def main() -> int:
    """Write the golden files."""
    fresh = rulesets()
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for name, text in fresh.items():
        path = (GOLDEN / name).with_suffix(".nft")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(REPOSITORY))
    shutil.rmtree(SWITCHED, ignore_errors=True)
    SWITCHED.mkdir()
    for name, text in systems().items():
        (SWITCHED / f"{name}.json").write_text(text)
        print((SWITCHED / f"{name}.json").relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
