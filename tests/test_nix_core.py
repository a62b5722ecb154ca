"""Tiers, features and risk as the modules evaluate them, on both architectures; and each module alone."""

import itertools
import json
import random
from functools import cache
from typing import Any

import pytest

from installer.answers import catalogue
from installer.answers.catalogue import FEATURES, TIERS, TOLERANCES, enabled, fitting_tolerance
from installer.answers.feature_check import check_features
from installer.answers.model import HypervisorAnswers, Tier
from installer.render.nix import to_nix
from tests.nixeval import units
from tests.nixeval.cases import CASES, inputs
from tests.nixeval.host import MODULES, TOPLEVEL, evaluate, nixpkgs
from tests.nixeval.hosts import GOLDEN
from tests.nixeval.nix import require

pytestmark = pytest.mark.nixpkgs
SYSTEMS = ("x86_64-linux", "aarch64-linux")
SHORT_PASSTHROUGH = '{ "0000:01:00.0" = { vendor = "10de"; device = "2204"; }; }'


def variants(read: str, modules: dict[str, str], system: str = "x86_64-linux") -> dict[str, Any]:
    """What `read`, a Nix function of a configuration, gives for the example host with each of these modules."""
    listed = " ".join(f'"{name}" = ({module});' for name, module in modules.items())
    select = f"""host: host.pkgs.lib.mapAttrs
      (_: module: ({read}) (host.extendModules {{ modules = [ module ]; }}).config) {{ {listed} }}"""
    found: dict[str, Any] = evaluate(select, [MODULES, units.EXAMPLE], system).value
    return found


FAILED = "config: map (entry: entry.message) (builtins.filter (entry: !entry.assertion) config.assertions)"


def failures(modules: dict[str, str], system: str = "x86_64-linux") -> dict[str, str]:
    """The messages of all assertions that fail, on one line."""
    return {
        name: " ".join(" ".join(messages).split())
        for name, messages in variants(FAILED, modules, system).items()
    }


# Tiers ------------------------------------------------------------------------------------------------------------

EFFECTS = """config: {
  features = builtins.attrNames config.hypervisor.risk.features;
  podman = config.virtualisation.podman.enable;
  swtpm = config.virtualisation.libvirtd.qemu.swtpm.enable;
  virtiofs = config.virtualisation.libvirtd.qemu.vhostUserPackages != [ ];
  zram = if config.zramSwap.enable then config.zramSwap.memoryPercent else null;
  swapper = config.services.zram-generator.settings.zram0.zram-size or null;
  sysctl = { inherit (config.boot.kernel.sysctl) "vm.swappiness" "vm.dirty_bytes" "vm.dirty_background_bytes"
    "net.ipv4.neigh.default.gc_thresh3" "net.ipv6.neigh.default.gc_thresh3" "fs.aio-max-nr"; };
  onDemand = config.boot.kernel.sysctl."vm.nr_overcommit_hugepages" or 0;
  params = config.boot.kernelParams;
  journal = config.environment.etc."systemd/journald.conf".text;
  irqbalance = config.systemd.services ? irqbalance;
  jobs = config.nix.settings.max-jobs;
  builder = { inherit (config.systemd.services.nix-daemon.serviceConfig) CPUSchedulingPolicy IOSchedulingClass; };
  shutdown = { inherit (config.systemd.services.libvirt-guests.environment) PARALLEL_SHUTDOWN SHUTDOWN_TIMEOUT
    ON_BOOT ON_SHUTDOWN; };
}"""


@cache
def tiers(system: str) -> dict[str, Any]:
    """The effects of each tier, and of one with everything said otherwise by the host."""
    own = """{ lib, ... }: {
      hypervisor.tier = "enterprise";
      hypervisor.features.containers.enable = false;
      zramSwap.enable = false;
      boot.kernel.sysctl."vm.swappiness" = 42;
      services.journald.extraConfig = "SystemMaxUse=7M";
      nix.settings.max-jobs = 9;
      services.irqbalance.enable = false;
      virtualisation.libvirtd.shutdownTimeout = 11;
    }"""
    modules = {tier.value: f'{{ hypervisor.tier = "{tier.value}"; }}' for tier in Tier}
    return variants(EFFECTS, modules | {"own": own}, system)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("tier", Tier)
def test_a_tier_has_the_effects_that_its_data_says(tier: Tier, system: str) -> None:
    data = catalogue.tier_values()[tier.value]
    found = tiers(system)[tier.value]
    assert tuple(found["features"]) == TIERS[tier].features
    assert found["podman"] is ("containers" in data["features"])
    assert found["swtpm"] is ("tpm" in data["features"])
    assert found["virtiofs"] is ("virtiofs" in data["features"])
    assert found["zram"] == data["zramPercent"]
    assert found["swapper"] == f"{data['zramPercent']} / 100 * ram"
    assert found["sysctl"] == {
        "vm.swappiness": data["swappiness"],
        "vm.dirty_bytes": data["dirtyMiB"] * 2**20,
        "vm.dirty_background_bytes": data["dirtyMiB"] * 2**18,
        "net.ipv4.neigh.default.gc_thresh3": data["neighbours"],
        "net.ipv6.neigh.default.gc_thresh3": data["neighbours"],
        "fs.aio-max-nr": data["asynchronousRequests"],
    }
    assert found["onDemand"] == data["onDemandHugepages"]
    assert f"transparent_hugepage={data['transparentHugepages']}" in found["params"]
    assert f"SystemMaxUse={data['journalMiB']}M" in found["journal"]
    assert found["irqbalance"] is data["balanceInterrupts"]
    assert found["jobs"] == data["buildJobs"]
    assert found["builder"] == {"CPUSchedulingPolicy": "idle", "IOSchedulingClass": "idle"}
    assert found["shutdown"] == {
        "PARALLEL_SHUTDOWN": str(data["parallelShutdown"]),
        "SHUTDOWN_TIMEOUT": str(data["shutdownTimeout"]),
        "ON_BOOT": "ignore",
        "ON_SHUTDOWN": "shutdown",
    }


def test_no_two_tiers_have_the_same_effects() -> None:
    found = tiers("x86_64-linux")
    for one, other in itertools.combinations(Tier, 2):
        assert found[one.value] != found[other.value]


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_the_host_says_itself_wins_over_its_tier(system: str) -> None:
    found = tiers(system)["own"]
    assert found["podman"] is False
    assert found["zram"] is None
    assert found["sysctl"]["vm.swappiness"] == 42
    # journald takes the last line.
    lines = [line for line in found["journal"].splitlines() if line.startswith("SystemMaxUse=")]
    assert lines[-1] == "SystemMaxUse=7M"
    assert found["jobs"] == 9
    assert found["irqbalance"] is False
    assert found["shutdown"]["SHUTDOWN_TIMEOUT"] == "11"
    assert found["shutdown"]["PARALLEL_SHUTDOWN"] == "32"


# Features and risk ------------------------------------------------------------------------------------------------

REFUSED = {
    "needs": ("{ hypervisor.features.docker-command.enable = true; }", "needs the feature containers"),
    "conflict": (
        """{ hypervisor.features = { page-sharing.enable = true; memory-encryption.enable = true; }; }""",
        "hypervisor.features.memory-encryption.enable and hypervisor.features.page-sharing.enable are both true",
    ),
    "level": (
        '{ hypervisor.riskTolerance = "paranoid"; }',
        'are on: virtiofs (moderate). Set hypervisor.features.NAME.enable = false for each, or hypervisor.riskTolerance = "cautious"',
    ),
    "total": (
        f"""{{ hypervisor = {{
          tier = "enterprise";
          features = {{ nested-virtualization.enable = true; foreign-architectures.enable = true; }};
          passthrough.devices = {SHORT_PASSTHROUGH};
        }}; }}""",
        "features of 20 points together, and those that are on have 21: containers 2, foreign-architectures 5",
    ),
    "hugepages": (
        """{ hypervisor = { features.hugepages.enable = false; virtualization.hugepages."2M" = 1; }; }""",
        "reserves pages, and hypervisor.features.hugepages.enable is false",
    ),
    "passthrough": (
        f"""{{ hypervisor = {{
          features.passthrough.enable = false; passthrough.devices = {SHORT_PASSTHROUGH};
        }}; }}""",
        "hypervisor.features.passthrough.enable is false, and hypervisor.passthrough keeps devices",
    ),
}
TAKEN = {
    "plain": "{ }",
    "needs, given": "{ hypervisor.features = { docker-command.enable = true; containers.enable = true; }; }",
    "level, lowered": '{ hypervisor = { riskTolerance = "paranoid"; features.virtiofs.enable = false; }; }',
    "level, raised": '{ hypervisor.riskTolerance = "cautious"; }',
    "pages": '{ hypervisor.virtualization.hugepages."1G" = 1; }',
}


@cache
def x86_failures() -> dict[str, str]:
    return failures({name: module for name, (module, _) in REFUSED.items()} | TAKEN)


@pytest.mark.parametrize("name", REFUSED)
def test_each_assertion_about_features_fires(name: str) -> None:
    assert REFUSED[name][1] in x86_failures()[name]


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_assertions_tell_to_do_is_taken(name: str) -> None:
    assert x86_failures()[name] == ""


def test_features_of_another_architecture_are_refused() -> None:
    names = [name for name, feature in FEATURES.items() if feature.systems]
    assert names == ["memory-encryption", "nested-virtualization"]
    said = failures(
        {name: f"{{ hypervisor.features.{name}.enable = true; }}" for name in names}, "aarch64-linux"
    )
    for name in names:
        assert (
            f"hypervisor.features.{name}.enable is true, and the feature is for x86_64-linux alone"
            in said[name]
        )
        assert "this host is aarch64-linux" in said[name]


def test_the_report_is_what_is_on() -> None:
    read = 'config: builtins.fromJSON config.environment.etc."hyper-nixos/features.json".text'
    nested = "{ hypervisor.features.nested-virtualization.enable = true; }"
    found = variants(read, {"plain": "{ }", "nested": nested})
    assert found["plain"]["total"] == 3
    assert found["plain"]["limit"] == 20
    assert found["nested"]["total"] == 8
    assert {**found["nested"]["features"]["nested-virtualization"]} == {
        "points": 5,
        "risk": "high",
        "summary": FEATURES["nested-virtualization"].summary,
    }


def _random_hosts(count: int) -> dict[str, HypervisorAnswers]:
    """Tiers, tolerances and features by the dice; always the same dice."""
    dice = random.Random(3)
    hosts = {}
    for number in range(count):
        features = dice.sample(sorted(FEATURES), dice.randrange(5))
        hosts[f"host{number}"] = HypervisorAnswers.model_validate(
            {
                "tier": dice.choice(list(Tier)).value,
                "risk_tolerance": dice.choice(list(TOLERANCES)),
                "features": {name: dice.random() < 0.7 for name in features},
                "hugepages_1g": dice.choice((0, 0, 1)),
            }
        )
    return hosts


def _module(asked: HypervisorAnswers) -> str:
    return to_nix(
        {
            "hypervisor": {
                "tier": asked.tier.value,
                "riskTolerance": asked.risk_tolerance,
                "features": {name: {"enable": on} for name, on in asked.features.items()},
                "virtualization": {"hugepages": {"1G": asked.hugepages_1g}},
            }
        }
    )


SMALL = """
modules:
let
  lib = import (NIXPKGS + "/lib");
  plain = lib.mkOption { type = lib.types.raw; };
  stand_ins = {
    options = {
      assertions = lib.mkOption { type = lib.types.listOf lib.types.raw; };
      environment.etc = plain;
      hypervisor = {
        tier = lib.mkOption { type = lib.types.str; };
        passthrough.enable = lib.mkOption { default = false; };
        virtualization = {
          enable = lib.mkOption { default = true; };
          hugepages = { "1G" = lib.mkOption { default = 0; }; "2M" = lib.mkOption { default = 0; }; };
        };
      };
    };
    config._module.args.pkgs.stdenv.hostPlatform.system = "x86_64-linux";
  };
  of = module: (lib.evalModules { modules = [ stand_ins FEATURES module ]; }).config;
in
lib.mapAttrs (_: module: {
  failed = (FAILED) (of module);
  names = lib.attrNames (of module).hypervisor.risk.features;
}) modules
"""
"""The module of the features with stand-ins for what it reads: a whole host takes a thousand times as long."""


def test_the_installer_refuses_what_the_modules_refuse_and_nothing_else() -> None:
    hosts = _random_hosts(200)
    expression = SMALL.replace("NIXPKGS", str(nixpkgs())).replace("(FAILED)", f"({FAILED})")
    expression = expression.replace("FEATURES", str(MODULES / "core/features.nix"))
    listed = " ".join(f"{name} = {_module(asked)};" for name, asked in hosts.items())
    found = require().evaluate(f"({expression}) {{ {listed} }}")
    refused = 0
    for name, asked in hosts.items():
        problems = list(check_features(asked))
        failed = [" ".join(text.split()) for text in found[name]["failed"]]
        assert bool(problems) is bool(failed), (asked, problems, failed)
        assert tuple(found[name]["names"]) == enabled(asked)
        refused += bool(problems)
        for text in failed:
            if "riskTolerance is" in text:
                assert f'hypervisor.riskTolerance = "{fitting_tolerance(enabled(asked))}"' in text
    assert 20 < refused < 180, "the dice should throw both kinds"


def test_rendered_hosts_have_the_features_that_the_installer_counts() -> None:
    modules = {}
    for name in CASES:
        files = [f"{GOLDEN}/{name}/{file}" for file in ("hypervisor.nix", "passthrough.nix")]
        listed = " ".join(file for file in files if (GOLDEN / name / file.rsplit("/", 1)[1]).exists())
        modules[name] = f"{{ imports = [ {listed} ]; }}"
    found = variants("config: builtins.attrNames config.hypervisor.risk.features", modules)
    assert {name: tuple(names) for name, names in found.items()} == {
        name: enabled(inputs(name)[1].hypervisor) for name in CASES
    }


@pytest.mark.parametrize("name", ["nested", "hugepages1G"])
def test_the_old_names_of_options_still_work_and_say_so(name: str) -> None:
    value = "true" if name == "nested" else "3"
    read = """host: {
      nested = host.config.hypervisor.features.nested-virtualization.enable;
      pages = host.config.hypervisor.virtualization.hugepages."1G";
    }"""
    host = evaluate(read, [MODULES, units.EXAMPLE, f"{{ hypervisor.virtualization.{name} = {value}; }}"])
    assert host.value == {"nested": name == "nested", "pages": 0 if name == "nested" else 3}
    assert any(f"hypervisor.virtualization.{name}" in warning for warning in host.warnings)


# Each module alone ------------------------------------------------------------------------------------------------

OFF = "hypervisor.enable = lib.mkForce false;"
ALONE = {
    "nothing": f"{{ lib, ... }}: {{ {OFF} }}",
    "virtualization": f"{{ lib, ... }}: {{ {OFF} hypervisor.virtualization.enable = true; }}",
    "first run": f"{{ lib, ... }}: {{ {OFF} hypervisor.firstRun.enable = true; }}",
    "console": f"{{ lib, ... }}: {{ {OFF} hypervisor.console.enable = true; }}",
    "passthrough": f"""{{ lib, ... }}: {{ {OFF}
      hypervisor.passthrough.enable = true; hypervisor.passthrough.devices = {SHORT_PASSTHROUGH}; }}""",
    "privileges": f"{{ lib, ... }}: {{ {OFF} hypervisor.privileges.enable = true; }}",
    "security": f"{{ lib, ... }}: {{ {OFF} hypervisor.security.enable = true; }}",
}
"""Without hypervisor.enable, one module at a time."""
WITHOUT = {
    "virtualization": "{ hypervisor.virtualization.enable = false; }",
    "first run": "{ hypervisor.firstRun.enable = false; }",
    "console": "{ hypervisor.console.enable = false; }",
}
"""A whole host but for one module."""
THERE = """config: {
  libvirt = config.systemd.units ? "libvirtd.service" && config.virtualisation.libvirtd.enable;
  firstRun = config.systemd.services ? hyper-nixos-firstrun;
  console = builtins.match ".*Hyper-NixOS.*" (toString config.services.getty.helpLine) != null;
  vfio = config.boot.initrd.systemd.services ? hyper-nixos-vfio;
  roles = config.users.groups ? hv-operators;
  phases = config.specialisation ? hardened;
  journal = builtins.match ".*SystemMaxUse.*" config.services.journald.extraConfig != null;
}"""
MARKS = {
    "virtualization": "libvirt",
    "first run": "firstRun",
    "console": "console",
    "passthrough": "vfio",
    "privileges": "roles",
    "security": "phases",
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_module_can_be_switched_on_alone_and_off_alone(system: str) -> None:
    modules = {f"alone {name}": module for name, module in ALONE.items()}
    modules |= {f"without {name}": module for name, module in WITHOUT.items()}
    found = variants(f"config: {{ there = ({THERE}) config; failed = ({FAILED}) config; }}", modules, system)
    everything = {*MARKS.values(), "journal"}
    for name in ALONE:
        there = found[f"alone {name}"]
        assert there["failed"] == [], name
        assert {mark for mark, is_there in there["there"].items() if is_there} == (
            {MARKS[name]} if name in MARKS else set()
        ), name
    for name in WITHOUT:
        there = found[f"without {name}"]
        assert there["failed"] == [], name
        assert {mark for mark, is_there in there["there"].items() if is_there} == (
            everything - {MARKS[name], "vfio"}
        ), name


@pytest.mark.parametrize("name", ["virtualization", "passthrough"])
def test_a_module_alone_evaluates_to_a_system(name: str) -> None:
    host = evaluate(TOPLEVEL, [MODULES, units.EXAMPLE, ALONE[name]])
    assert host.value.endswith(".drv")
    assert (host.failed_assertions, host.warnings) == ((), ())


def test_the_catalogues_are_plain_json() -> None:
    for name in ("features.json", "tiers.json"):
        text = (catalogue.HERE / name).read_text()
        assert json.dumps(json.loads(text), indent=2) + "\n" == text
