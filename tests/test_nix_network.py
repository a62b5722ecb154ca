"""The network's modules, evaluated: what they refuse, what they make, and that nothing is written twice differently."""

import json
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Addressing, NetworkAnswers
from tests.nixeval import network
from tests.nixeval.cases import CASES, inputs, rendered
from tests.nixeval.host import MODULES, Evaluated, evaluate, evaluate_flake_host
from tests.nixeval.hosts import write
from tests.nixeval.network import ZONED
from tests.nixeval.units import EXAMPLE


def example(select: str, *modules: str, system: str = "x86_64-linux") -> Evaluated:
    """The example host with more modules."""
    return evaluate(select, [MODULES, EXAMPLE, *modules], system)


@pytest.mark.nixpkgs
def test_rulesets_and_systems_are_as_committed() -> None:
    assert network.rulesets() == network.committed(), "if wanted: python -m tests.nixeval.network"
    assert network.systems() == network.committed_systems(), "if wanted: python -m tests.nixeval.network"


def test_rulesets_name_only_their_own_tables() -> None:
    """Nothing is flushed, and nothing of libvirt's, netavark's or of single guests' is named."""
    found = network.committed()
    assert found
    for text in found.values():
        tables = [line.split()[2] for line in text.splitlines() if line.startswith("table ")]
        assert tables == ["hyper-nixos", "nixos-fw"]
        assert "flush" not in text


REFUSED = {
    "same MAC": (
        'hypervisor.network.links = { a.mac = "52:54:00:00:00:01"; b.mac = "52:54:00:00:00:01"; };',
        "name from the same MAC address: 52:54:00:00:00:01",
    ),
    "same name": (
        'hypervisor.network = { links.a = { }; isolatedBridges = [ "a" ]; };',
        "more than one interface named a",
    ),
    "two owners": (
        'hypervisor.network = { links.a = { }; bridges = { x.members = [ "a" ]; y.members = [ "a" ]; }; };',
        "a cannot be a member twice",
    ),
    "unknown member": ('hypervisor.network.bonds.x.members = [ "a" ];', "a is named as a member"),
    "unknown VLAN link": ('hypervisor.network.vlans.x = { id = 2; link = "a"; };', "a is named as a member"),
    "addressed member": (
        'hypervisor.network = { links.a.addressing = { }; bridges.x.members = [ "a" ]; };',
        "a has addresses and is a member too",
    ),
    "same VLAN": (
        'hypervisor.network = { links.a = { }; vlans = { x = { id = 2; link = "a"; }; y = { id = 2; link = "a"; }; }; };',
        "VLAN 2 on a more than once",
    ),
    "no such netdev": (
        'systemd.network.networks."40-a" = { matchConfig.Name = "a"; networkConfig.Bridge = "x"; };',
        "names x as Bond=, Bridge= or VLAN=",
    ),
    "unknown interface": (
        'hypervisor.network.zones.storage.interfaces = [ "sotrage" ];',
        "There is no such interface: sotrage in hypervisor.network.zones.storage",
    ),
    "two zones": (
        'hypervisor.network = { otherInterfaces = [ "a1" ]; zones = { x.interfaces = [ "a*" ]; y.interfaces = [ "a1" ]; }; };',
        "An interface is in two zones: a* (x), a1 (y)",
    ),
    "member in a zone": (
        """hypervisor.network = {
          links.a.mac = "52:54:00:00:00:01"; bridges.x = { members = [ "a" ]; addressing = { }; };
          zones.management.interfaces = [ "a" "x" ];
        };""",
        "A member of a bridge or bond is in a zone: a (management)",
    ),
    "no such zone": ('hypervisor.network.zones.guests.forwardTo = [ "x" ];', "There is no such zone: x"),
    "outside has interfaces": (
        'hypervisor.network = { links.a = { }; zones.outside.interfaces = [ "a" ]; };',
        "outside is what is in no other zone",
    ),
    "management without an address": (
        'hypervisor.network = { links = { a = { }; b.addressing = { }; }; zones.management.interfaces = [ "a" ]; };',
        "no interface of hypervisor.network.zones.management has an address",
    ),
    "every interface elsewhere": (
        'hypervisor.network = { links.a.addressing = { }; zones.storage.interfaces = [ "a" ]; };',
        "every interface is in a zone without SSH",
    ),
    "nothing lets SSH in": ("services.openssh.openFirewall = false;", "no firewall rule lets it in"),
    "flush": ("networking.nftables.flushRuleset = true;", "would wipe the tables that libvirt makes"),
    "no nftables": ("networking.nftables.enable = false;", "needs nftables"),
    "filterForward": ("networking.firewall.filterForward = true;", "would refuse the guests' traffic"),
    "clean room": (
        'networking.nftables.tables.hyper-nixos-guests = { family = "bridge"; content = ""; };',
        "these names belong to programs",
    ),
}


@pytest.mark.nixpkgs
@pytest.mark.parametrize("part", range(4))
def test_each_assertion_fires(part: int) -> None:
    """Variants of one host, some in one evaluation: each takes a quarter of a gigabyte."""
    names = list(REFUSED)[part::4]
    variants = " ".join(f'"{name}" = {{ {REFUSED[name][0]} }};' for name in names)
    select = f"""host: let
      messages = module: map (entry: entry.message) (builtins.filter (entry: !entry.assertion)
        (host.extendModules {{ modules = [ module ]; }}).config.assertions);
    in builtins.mapAttrs (_: messages) {{ {variants} }}"""
    found: dict[str, list[str]] = example(select).value
    told = {name: [" ".join(text.split()) for text in found[name]] for name in names}
    for name in names:
        # Of interfaces that are wrong none may be left with an address, which is told too.
        others = [text for text in told[name] if not text.startswith("Nobody could reach")]
        assert len(others) <= 1, f"{name}: {told[name]}"
        assert any(REFUSED[name][1] in text for text in told[name]), f"{name}: {told[name]}"


FINE = {
    "zoned": ZONED.strip().removeprefix("{").removesuffix("}"),
    "management on a VLAN": """hypervisor.network = {
      links.a = { }; vlans.m = { id = 7; link = "a"; addressing = { }; }; zones.management.interfaces = [ "m" ];
    };""",
    "SSH through a tunnel alone": """services.openssh.openFirewall = false;
      networking.firewall.interfaces.wg0.allowedTCPPorts = [ 22 ];""",
    "another port": "services.openssh.ports = [ 2222 ];",
    "rules beside": 'networking.nftables.ruleset = "table inet x { }";',
    "no SSH": "services.openssh.enable = host.pkgs.lib.mkForce false;",
    "rules of one's own": """hypervisor.network.firewall.enable = false; networking.nftables.enable = false;
      networking.firewall.enable = true;""",
    "without its network": "hypervisor.network.enable = false;",
    "no guests": "hypervisor.network.guestBridges = [ ];",
}


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_what_is_right_evaluates(system: str) -> None:
    variants = " ".join(f'"{name}" = {{ {module} }};' for name, module in FINE.items())
    select = f"""host: let
      see = module: let inherit (host.extendModules {{ modules = [ module ]; }}) config; in {{
        told = config.warnings ++ map (entry: entry.message) (builtins.filter (entry: !entry.assertion) config.assertions);
        system = config.system.build.toplevel.drvPath;
        open = config.networking.firewall.allowedTCPPorts;
        own = config.networking.nftables.tables ? hyper-nixos;
        guarded = config.system.preSwitchChecks ? hyper-nixos-network;
      }};
    in builtins.mapAttrs (_: see) {{ {variants} }}"""
    found: dict[str, Any] = example(select, system=system).value
    assert {name: each["told"] for name, each in found.items()} == {name: [] for name in FINE}
    assert all(each["system"].endswith(".drv") for each in found.values())
    # Once management has interfaces of its own, SSH is open there alone.
    assert found["zoned"]["open"] == [8080]
    assert found["another port"]["open"] == [2222]
    assert found["management on a VLAN"]["open"] == []
    assert [name for name in FINE if not found[name]["own"]] == ["rules of one's own", "without its network"]
    assert [name for name in FINE if not found[name]["guarded"]] == ["without its network"]


@pytest.mark.nixpkgs
def test_each_option_can_be_acted_upon() -> None:
    """Type, default where there can be one, example, description; read from the tree that the modules declare."""
    select = """host: let
      inherit (host.pkgs) lib;
      ours = lib.filter (option: lib.take 2 option.loc == [ "hypervisor" "network" ] && !option.internal)
        (lib.optionAttrSetToDocList host.options.hypervisor.network);
    in map (option: {
      name = lib.concatStringsSep "." option.loc;
      inherit (option) description type;
      default = option ? default;
      example = option ? example;
    }) ours"""
    found = example(select).value
    names = {option["name"] for option in found}
    assert {"hypervisor.network.zones.<name>.forwardTo", "hypervisor.network.revert.seconds"} <= names
    needed = {
        "hypervisor.network.bonds.<name>.members",
        "hypervisor.network.vlans.<name>.id",
        "hypervisor.network.vlans.<name>.link",
    }
    for option in found:
        assert option["description"], option
        assert option["example"], option["name"]
        assert option["default"] or option["name"] in needed, option["name"]


def options_of(asked: NetworkAnswers) -> dict[str, Any]:
    """`hypervisor.network` that says what the answers' network says."""

    def addressing(given: Addressing | None) -> dict[str, Any]:
        if given is None:
            return {}
        said = given.model_dump(mode="json")
        said["acceptRA"] = said.pop("accept_ra")
        said["routes"] = {route["to"]: route["via"] for route in said["routes"]}
        return {"addressing": said}

    return {
        "links": {
            each.name: {"mac": each.match.mac, **addressing(each.addressing)} for each in asked.ethernets
        },
        "bonds": {
            each.name: {"members": each.members, "mode": each.mode, **addressing(each.addressing)}
            for each in asked.bonds
        },
        "vlans": {
            each.name: {"id": each.id, "link": each.link, **addressing(each.addressing)}
            for each in asked.vlans
        },
        "bridges": {
            each.name: {"members": each.members, "stp": each.stp, **addressing(each.addressing)}
            for each in asked.bridges
        },
    }


WIRED = [
    name
    for name in CASES
    if (found := inputs(name)[1].network.ethernets) and all(each.match.mac for each in found)
]
"""Cases whose answers describe interfaces, each by its address; the options know no patterns of names."""


@pytest.mark.nixpkgs
@pytest.mark.parametrize("name", WIRED)
def test_options_and_rendering_make_the_same_network(name: str, tmp_path: Path) -> None:
    """The installer writes systemd-networkd's own keys; the options mean the same to it, unit by unit."""
    select = "host: builtins.mapAttrs (_: unit: unit.text) host.config.systemd.network.units"
    answers = inputs(name)[1]
    installed = evaluate_flake_host(write(rendered(name).files, tmp_path), answers.hostname, select).value
    options = json.dumps(json.dumps(options_of(answers.network)))
    by_options = example(select, f"{{ hypervisor.network = builtins.fromJSON {options}; }}").value
    assert {file.partition("-")[0] for file in installed} >= {"40"}
    assert by_options == installed


def test_cases_use_every_kind_of_interface() -> None:
    networks = [inputs(name)[1].network for name in WIRED]
    assert all(
        any(getattr(each, kind) for each in networks) for kind in ("ethernets", "bonds", "vlans", "bridges")
    )
