"""Systems for any host of a tier, evaluated: everything as a host of its own has it, but for what comes as files."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from installer.answers.catalogue import TIERS
from installer.answers.model import Answers, Tier
from installer.medium import Medium
from installer.plan.planner import make_plan
from installer.plan.prebuilt import HOST_DATA
from installer.render import load_templates, render
from installer.render.runtime import NETWORK, RuntimeData, runtime_data
from tests.nixeval.cases import KEY, MEDIUM, SERVER
from tests.nixeval.host import MODULES, Evaluated, evaluate, evaluate_flake_host, flakes
from tests.nixeval.hosts import write
from tests.nixeval.nix import require
from tests.nixeval.sshd import lines_of
from tests.nixeval.units import name_store_paths

SYSTEMS = ("x86_64-linux", "aarch64-linux")
PHASES = ("setup", "hardened")
HASH = "$6$saltsaltsalt$" + "x" * 86
SELECT = """host: let
  inherit (host.pkgs) lib;
  names = list: lib.sort (a: b: a < b) (lib.unique list);
  of = config: {
    firewall = lib.mapAttrs (_: table: table.content) config.networking.nftables.tables;
    groups = names (lib.attrNames config.users.groups);
    kernel = names config.boot.kernelParams;
    keys = config.services.openssh.authorizedKeysFiles;
    loaded = names config.boot.kernelModules;
    loader = { inherit (config.boot.loader.systemd-boot) configurationLimit editor enable; };
    blacklisted = names config.boot.blacklistedKernelModules;
    mutable = config.users.mutableUsers;
    network = lib.mapAttrs (_: unit: unit.text) config.systemd.network.units;
    nix = { inherit (config.nix.settings) experimental-features max-jobs substituters; };
    packages = names (map (package: lib.getName package) config.environment.systemPackages);
    polkit = config.environment.etc."polkit-1/rules.d/10-nixos.rules".text;
    ssh = lib.filterAttrs (_: value: value != null) config.services.openssh.settings;
    sudoers = config.security.sudo-rs.configFile;
    sysctl = lib.filterAttrs (_: value: value != null) config.boot.kernel.sysctl;
    tmpfiles = config.systemd.tmpfiles.settings."10-hyper-nixos";
    units = lib.mapAttrs (_: unit: unit.text or "") (
      lib.filterAttrs (_: unit: unit.enable) config.systemd.units
    );
    wrappers = lib.mapAttrs (_: wrapper: removeAttrs wrapper [ "source" ]) config.security.wrappers;
    zram = config.zramSwap.memoryPercent;
    timezone = config.time.timeZone;
    archive = config.i18n.glibcLocales == host.pkgs.glibcLocales;
    language = config.environment.variables.LANG or null;
    init = config.environment.extraInit;
    keymaps = config.environment.etc ? kbd;
    locale = toString config.environment.etc."locale.conf".source;
    keymap = toString config.environment.etc."vconsole.conf".source;
    fstab = toString config.environment.etc.fstab.source;
    hostname = toString (config.environment.etc.hostname.source or "");
    filesystems = lib.mapAttrs (_: entry: { inherit (entry) device fsType; }) config.fileSystems;
    initrd = names (config.boot.initrd.availableKernelModules ++ config.boot.initrd.kernelModules);
    etc = names (lib.attrNames (lib.filterAttrs (_: entry: entry.enable) config.environment.etc));
    people = lib.attrNames (lib.filterAttrs (_: user: user.isNormalUser) config.users.users);
  };
in {
  setup = of host.config;
  hardened = of host.config.specialisation.hardened.configuration;
  toplevel = host.config.system.build.toplevel.drvPath;
}"""


def module(tier: str, more: str = "") -> str:
    return f'{{ hypervisor = {{ enable = true; prebuilt.enable = true; tier = "{tier}"; }}; {more} }}'


@cache
def prebuilt(tier: str, system: str = "x86_64-linux") -> Evaluated:
    return evaluate(SELECT, [str(MODULES), module(tier)], system)


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("tier", [tier.value for tier in Tier])
def test_each_tier_evaluates_in_both_phases(tier: str, system: str) -> None:
    found = prebuilt(tier, system)
    assert (found.failed_assertions, found.warnings) == ((), ())
    assert found.value["toplevel"].endswith(".drv")
    for phase in PHASES:
        here = found.value[phase]
        assert here["people"] == []
        assert here["mutable"]
        assert here["zram"] == TIERS[Tier(tier)].zram_percent
        assert (here["fstab"], here["hostname"]) == (f"{HOST_DATA}/fstab", f"{HOST_DATA}/hostname")
        assert (here["locale"], here["keymap"]) == (f"{HOST_DATA}/locale.conf", f"{HOST_DATA}/vconsole.conf")
        assert here["keymaps"]
        assert here["archive"]
        assert here["filesystems"] == {"/": {"device": "/dev/gpt-auto-root", "fsType": "auto"}}
        assert {"ext4", "xfs", "nvme", "ahci", "virtio_blk", "megaraid_sas", "usb_storage"} <= {
            *here["initrd"]
        }
        assert ("vmd" in here["initrd"]) == (system == "x86_64-linux")
        assert "root=fstab" in here["kernel"]


LAN = [
    {"name": "lan0", "match": {"mac": "52:54:00:aa:bb:01"}},
    {"name": "lan1", "match": {"mac": "52:54:00:aa:bb:02"}},
]
FITTING: dict[str, dict[str, Any]] = {
    "plain": {"hostname": "plain"},
    "everything-that-fits": {
        "hostname": "all-of-it",
        "locale": "de_CH.UTF-8",
        "keymap": "sg",
        "timezone": "Europe/Zurich",
        "storage": {
            "disk": {"serial": "S4EWNX0R123456"},
            "filesystem": "xfs",
            "swap": {"kind": "partition", "size": "4GiB"},
        },
        "users": [
            {
                "name": "zoe",
                "full_name": "Zoë, %u",
                "groups": ["hv-viewers", "hv-auditors"],
                "password_hash": HASH,
            },
            {"name": "alice", "admin": True, "password_hash": HASH, "ssh_keys": [f"{KEY} alice"]},
            {"name": "eve", "password_hash": HASH},
        ],
        "network": {
            "ethernets": LAN,
            "bonds": [{"name": "bond0", "members": ["lan0", "lan1"], "mode": "802.3ad"}],
            "vlans": [{"name": "manage", "id": 20, "link": "bond0", "addressing": {"dhcp": "yes"}}],
            "bridges": [
                {
                    "name": "br0",
                    "members": ["bond0"],
                    "addressing": {
                        "dhcp": "no",
                        "addresses": ["192.0.2.10/24"],
                        "gateways": ["192.0.2.1"],
                        "routes": [{"to": "10.0.0.0/8", "via": "192.0.2.2"}],
                    },
                }
            ],
        },
        "hypervisor": {"tier": "enhanced"},
        "security": {"phase": "hardened"},
    },
}


def carried(name: str) -> tuple[Answers, Medium]:
    """Answers for a ready system, and a medium that has it."""
    base: dict[str, Any] = {
        "version": 1,
        "storage": {"disk": {"serial": "S4EWNX0R123456"}},
        "users": [{"name": "alice", "admin": True, "password_hash": HASH}],
    }
    answers = Answers.model_validate(base | FITTING[name])
    tier = answers.hypervisor.tier.value
    system = {"source": "closure", "closure": tier, "offline": True}
    toplevel = f"/nix/store/{'1' * 32}-nixos-system-prebuilt"
    modules = prebuilt(tier).value["setup"]["initrd"]
    ready = {"name": tier, "tier": tier, "toplevel": toplevel, "nar_size": 1, "modules": modules}
    medium = Medium.model_validate(MEDIUM.model_dump() | {"closures": [ready]})
    return Answers.model_validate(base | FITTING[name] | {"system": system}), medium


@cache
def both(name: str, place: Path) -> tuple[Evaluated, Evaluated, RuntimeData, Answers]:
    """The ready system, the host's own flake evaluated, and the data beside the first."""
    answers, medium = carried(name)
    plan = make_plan(SERVER, answers, medium)
    rendered = render(SERVER, answers, plan, medium, load_templates())
    own = evaluate_flake_host(write(rendered.files, place), answers.hostname, SELECT)
    return prebuilt(answers.hypervisor.tier.value), own, runtime_data(answers, plan), answers


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in FITTING}


SAME = (
    *("blacklisted", "groups", "loader", "mutable", "nix", "polkit"),
    *("sudoers", "sysctl", "tmpfiles", "wrappers"),
)
"""What a host of a tier has, whoever it is."""


@pytest.mark.nixpkgs
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FITTING)
def test_the_ready_system_has_what_the_host_s_own_has(
    name: str, phase: str, places: dict[str, Path]
) -> None:
    ready, own, _, _ = both(name, places[name])
    assert (own.failed_assertions, own.warnings) == ((), ())
    here, there = (json.loads(name_store_paths(json.dumps(each.value[phase]))) for each in (ready, own))
    for topic in SAME:
        assert here[topic] == there[topic], topic
    # Tools of both file systems are there for any host.
    assert {*here["packages"]} - {*there["packages"]} <= {"e2fsprogs", "xfsprogs"}
    assert {*there["packages"]} <= {*here["packages"]}
    only_here = here["units"].keys() - there["units"].keys()
    assert {unit for unit in only_here if unit.startswith(("hv", "hyper-nixos"))} == {
        "hyper-nixos-host-accounts.service",
        "hyper-nixos-host-network.service",
    }
    assert {unit for unit in there["units"].keys() - here["units"].keys() if "hyper-nixos" in unit} == set()
    ours = {
        unit for unit in there["units"] if unit.startswith(("hv", "hyper-nixos", "libvirt", "sshd", "virt"))
    }
    assert len(ours) > 5
    for unit in ours:
        assert here["units"][unit] == there["units"][unit], unit
    # What only a processor of this host's kind needs is loaded for it alone; udev loads it anywhere by its alias.
    assert {*there["loaded"]} - {*here["loaded"]} <= {"kvm-intel", "kvm-amd"}
    assert {*there["kernel"]} <= {*here["kernel"]}
    assert {*there["initrd"]} <= {*here["initrd"]}


@pytest.mark.nixpkgs
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FITTING)
def test_the_first_rebuild_keeps_the_network_and_the_clock(
    name: str, phase: str, places: dict[str, Path]
) -> None:
    ready, own, data, _ = both(name, places[name])
    network = {
        Path(path).name: content.decode()
        for path, content in sorted(data.files.items())
        if Path(path).parent == Path(NETWORK)
    }
    assert network
    assert ready.value[phase]["network"] | network == own.value[phase]["network"]
    listed = data.files[f"{HOST_DATA}/network.conf"].decode().splitlines()
    assert sorted(listed) == [f"L+ /run/systemd/network/{each} - - - - {NETWORK}/{each}" for each in network]
    assert ready.value[phase]["timezone"] is None
    assert data.links["/etc/localtime"] == f"/etc/zoneinfo/{own.value[phase]['timezone']}"


@pytest.mark.nixpkgs
@pytest.mark.parametrize("name", FITTING)
def test_the_first_rebuild_keeps_the_language(name: str, places: dict[str, Path], tmp_path: Path) -> None:
    ready, own, data, answers = both(name, places[name])
    (tmp_path / "locale.conf").write_bytes(data.files[f"{HOST_DATA}/locale.conf"])
    for phase in PHASES:
        assert ready.value[phase]["language"] is None
        init = ready.value[phase]["init"].replace(HOST_DATA, str(tmp_path))
        told = ["bash", "-ec", f"{init}\nenv"]
        said = subprocess.run(
            told, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
        )
        assert f"LANG={own.value[phase]['language']}" in said.stdout.splitlines()
    assert own.value["setup"]["language"] == answers.locale
    assert data.files[f"{HOST_DATA}/vconsole.conf"].decode() == f"KEYMAP={answers.keymap}\n"


PAIR = re.compile(r'"([^"]+)" \. "\1"')


@pytest.mark.nixpkgs
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FITTING)
def test_the_first_rebuild_keeps_the_firewall(name: str, phase: str, places: dict[str, Path]) -> None:
    ready, own, data, answers = both(name, places[name])
    here, there = (each.value[phase]["firewall"] for each in (ready, own))
    assert here.keys() == there.keys()
    beside = data.files[f"{HOST_DATA}/forward.nft"].decode()
    assert {*PAIR.findall(beside)} == {bridge.name for bridge in answers.network.bridges}
    for table in here:
        left, right = (
            [line for line in text.splitlines() if "include" not in line and not PAIR.search(line)]
            for text in (here[table], there[table])
        )
        assert left == right
    # The file is read in the place of the rule that the host's own ruleset has.
    lines = [line.strip() for line in here["hyper-nixos"].splitlines()]
    place = lines.index(f'include "{HOST_DATA}/forward*.nft"')
    assert PAIR.search(lines[place - 1])
    mine = {*PAIR.findall(lines[place - 1])} | {*PAIR.findall(beside)}
    (rule,) = [line for line in there["hyper-nixos"].splitlines() if PAIR.search(line)]
    assert mine == {*PAIR.findall(rule)}


@pytest.mark.nixpkgs
@pytest.mark.root
def test_the_ruleset_loads_with_the_host_s_bridges_and_without(
    places: dict[str, Path], tmp_path: Path
) -> None:
    ready, _, data, _ = both("everything-that-fits", places["everything-that-fits"])
    content = ready.value["setup"]["firewall"]["hyper-nixos"].replace(HOST_DATA, str(tmp_path))
    ruleset = tmp_path / "ruleset"
    ruleset.write_text(f"table inet hyper-nixos {{\n{content}\n}}\n")
    argv: list[str | Path] = ["unshare", "--net", "sh", "-c", 'nft -f "$0" && nft list ruleset', ruleset]

    def loaded() -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    assert '"br0" . "br0"' not in loaded()
    (tmp_path / "forward.nft").write_bytes(data.files[f"{HOST_DATA}/forward.nft"])
    assert '"br0" . "br0"' in loaded()


def effective(settings: dict[str, Any], folder: Path, name: str, keys: list[str]) -> dict[str, list[str]]:
    """What this machine's sshd makes of a phase's settings for somebody; the host's data are in the folder."""
    made = [
        line.replace(HOST_DATA, str(folder / HOST_DATA.lstrip("/")))
        for line in (*lines_of(settings), f"AuthorizedKeysFile {' '.join(keys)}")
    ]
    key = folder / "host-key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (folder / "sshd_config").write_text("\n".join((*made, f"HostKey {key}", "")))
    argv: list[str | Path] = ["/usr/sbin/sshd", "-T", "-f", folder / "sshd_config"]
    argv += ["-C", f"user={name},host=client.invalid,addr=192.0.2.1"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    for line in told.splitlines():
        word, _, value = line.partition(" ")
        found.setdefault(word, []).append(value)
    return found


@pytest.mark.nixpkgs
@pytest.mark.root
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FITTING)
def test_the_first_rebuild_admits_the_same_people_with_the_same_keys(
    name: str, phase: str, places: dict[str, Path], tmp_path: Path
) -> None:
    ready, own, data, answers = both(name, places[name])
    for path, content in data.files.items():
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    Path("/run/sshd").mkdir(exist_ok=True)
    for user in answers.users:
        here, there = (
            effective(each.value[phase]["ssh"], tmp_path, user.name, each.value[phase]["keys"])
            for each in (ready, own)
        )
        files = [" ".join(each.pop("authorizedkeysfile")) for each in (here, there)]
        assert here == there
        assert files[1] in files[0]
        with_keys = [each.name for each in answers.users if each.ssh_keys]
        assert here.get("allowusers", []) == with_keys
        assert here["permitrootlogin"] == here["passwordauthentication"] == ["no"]
        own_keys = tmp_path / HOST_DATA.lstrip("/") / "authorized_keys" / user.name
        assert own_keys.exists() == bool(user.ssh_keys)


SAME_NAME = "hypervisor.medium.closures has a host that is called like a tier in hypervisor.medium.tiers:"
REFUSED = (
    ("users.users.eve.isNormalUser = true;", "hypervisor.prebuilt.enable is true, and people are declared:"),
    (
        'hypervisor.security.profile = "strict";',
        "hypervisor.prebuilt.enable is true, and users.mutableUsers is false, so that nobody could log in:",
    ),
    (
        'boot.loader.systemd-boot.enable = false; boot.loader.grub.device = "nodev";',
        "hypervisor.prebuilt.enable is true, and the root is found by what systemd-boot says of the disk",
    ),
)


@pytest.mark.nixpkgs
@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_each_assertion_fires(more: str, message: str) -> None:
    found = evaluate("_: null", [str(MODULES), module("standard", more)])
    assert found.failed_assertions
    # nixpkgs may have its own word about it.
    assert any(message in each for each in found.failed_assertions)


@pytest.mark.nixpkgs
def test_without_it_nobody_logging_in_is_still_refused() -> None:
    plain = '{ hypervisor.enable = true; fileSystems."/" = { device = "/dev/vda"; fsType = "ext4"; }; }'
    loader = '{ boot.loader.systemd-boot.enable = true; system.stateVersion = "26.05"; }'
    found = evaluate("_: null", [str(MODULES), plain, loader])
    assert any("Nobody could log in" in each for each in found.failed_assertions)


MEDIUM_OF = """let own = FLAKES.own; system = SYSTEM; found = own.nixosConfigurations.${"installer-" + system}.extendModules {
  modules = [ ({ pkgs, ... }: { hypervisor.medium = { tiers = [ "minimal" "enterprise" ]; closures.MORE = pkgs.hello; }; }) ];
}; in {
  inherit (found.config.environment.etc."hyper-nixos/medium.json".source) buildCommand description ready infos;
  failed = builtins.filter (entry: !entry.assertion) found.config.assertions;
  tops = map (tier: own.nixosConfigurations.${"prebuilt-" + tier + "-" + system}.config.system.build.toplevel.outPath)
    [ "minimal" "enterprise" ];
}"""


def carrying(system: str, more: str) -> Any:
    text = MEDIUM_OF.replace("FLAKES", flakes()).replace("SYSTEM", f'"{system}"').replace("MORE", more)
    return require().evaluate(text)


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_medium_carries_tiers_for_its_own_architecture(system: str, tmp_path: Path) -> None:
    found = carrying(system.removesuffix("-linux"), "kvm1")
    assert not found["failed"]
    (tmp_path / "total-nar-size").write_text("4711\n")
    done = subprocess.run(
        ["bash", "-e", "-u", "-c", found["buildCommand"]],
        env={
            "PATH": os.environ["PATH"],
            "out": str(tmp_path / "medium.json"),
            "infos": " ".join([str(tmp_path)] * len(found["infos"])),
            **{name: found[name] for name in ("description", "ready")},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    medium = Medium.model_validate_json((tmp_path / "medium.json").read_bytes())
    assert medium.system == system
    closures = {closure.name: closure for closure in medium.closures}
    assert {name: closure.tier for name, closure in closures.items()} == {
        "enterprise": "enterprise",
        "kvm1": None,
        "minimal": "minimal",
    }
    assert [closures[tier].toplevel for tier in ("minimal", "enterprise")] == found["tops"]
    assert {"ext4", "xfs", "nvme"} <= {*closures["minimal"].modules}
    assert closures["kvm1"].modules == ()


@pytest.mark.nixpkgs
def test_a_host_s_system_has_no_tier_s_name() -> None:
    (failed,) = carrying("x86_64", "minimal")["failed"]
    assert SAME_NAME in failed["message"]
