"""Data of one host for a system of many: the same logins, mounts, keys and network as the rendered flake has."""

import json
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.medium import Medium, ReadyClosure
from installer.plan.actions import WritePartitionTable
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.plan.prebuilt import HOST_DATA, MEMBERS, ROLES, ROOT_TYPES, obstacles, require_fitting
from installer.plan.storage.gpt import PartitionType
from installer.render.runtime import KEYS, NETWORK, RuntimeData, runtime_data
from tests.nixeval import hosts
from tests.nixeval.cases import CASES, MEDIUM, SERVER, inputs
from tests.nixeval.host import evaluate_flake_host
from tests.nixeval.nix import REPOSITORY

SELECT = """host: let
  inherit (host.pkgs) lib;
  inherit (host.config.environment) etc;
in {
  network = lib.mapAttrs (_: unit: unit.text) host.config.systemd.network.units;
  fstab = etc.fstab.text;
  hostname = etc.hostname.text;
  host_id = host.config.networking.hostId;
  timezone = toString etc.localtime.source;
  locale = etc."locale.conf".source.text;
  keymap = etc."vconsole.conf".source.text;
  archive = host.config.i18n.glibcLocales == host.pkgs.glibcLocales;
  accounts = lib.mapAttrs (name: user: {
    inherit (user) description group hashedPasswordFile home homeMode;
    groups = lib.attrNames (lib.filterAttrs (_: group: lib.elem name group.members) host.config.users.groups);
    shell = host.pkgs.lib.optionalString (builtins.isString user.shell) user.shell;
    keys = user.openssh.authorizedKeys.keys;
    keyFiles = user.openssh.authorizedKeys.keyFiles;
  }) (lib.filterAttrs (_: user: user.isNormalUser) host.config.users.users);
  folders = host.config.services.openssh.authorizedKeysFiles;
}"""


def data(name: str) -> RuntimeData:
    facts, answers = inputs(name)
    return runtime_data(answers, make_plan(facts, answers, MEDIUM))


def text(given: RuntimeData, name: str) -> str:
    """One of the files."""
    return given.files[f"{HOST_DATA}/{name}"].decode()


def entries(fstab: str) -> list[list[str]]:
    """Lines of an fstab(5) without comments, sorted."""
    return sorted(line.split() for line in fstab.splitlines() if line and not line.startswith("#"))


@pytest.mark.nixpkgs
@pytest.mark.parametrize("name", CASES)
def test_the_first_rebuild_changes_no_login_mount_key_or_network(name: str) -> None:
    given = data(name)
    facts, answers = inputs(name)
    found: Any = evaluate_flake_host(hosts.GOLDEN / name, answers.hostname, SELECT).value
    network = {
        path.removeprefix(f"{NETWORK}/"): content.decode()
        for path, content in given.files.items()
        if path.startswith(f"{NETWORK}/")
    }
    assert network
    assert network == {each: text for each, text in found["network"].items() if each in network}
    # What else the system has there is the same for every host: it is no interface of this one's answers.
    assert not {
        each for each in found["network"].keys() - network.keys() if each.startswith(("10-", "20-", "40-"))
    }
    assert text(given, "hostname") == found["hostname"]
    assert given.files[f"{HOST_DATA}/hostid"][::-1].hex() == found["host_id"]
    assert given.links["/etc/localtime"] == found["timezone"]
    for file in ("locale", "keymap"):
        name_in_etc = {"locale": "locale.conf", "keymap": "vconsole.conf"}[file]
        assert text(given, name_in_etc).split() == found[file].split()
    # Whatever the language, the archive of locales is the one that caches have.
    assert found["archive"]
    plan = make_plan(facts, answers, MEDIUM)
    if not plan.host.random_swap_devices:  # crypttab's, and an obstacle
        assert entries(text(given, "fstab")) == entries(found["fstab"])
    accounts = found["accounts"]
    assert {account.name for account in given.accounts} == accounts.keys()
    for account in given.accounts:
        there = accounts[account.name]
        assert account.full_name == there["description"]
        assert there["group"] == "users"
        # NixOS lists those in the group of their own as members of it too.
        assert {*account.groups} == {*there["groups"]} - {"users"}
        assert (account.home, "700") == (there["home"], there["homeMode"])
        assert f"d {account.home} 0700 {account.name} users" in text(given, "homes.conf").splitlines()
        assert account.password_file == there["hashedPasswordFile"]
        keys = given.files.get(f"{KEYS}/{account.name}", b"").decode().splitlines()
        assert (keys, []) == (there["keys"], there["keyFiles"])
    assert not answers.ssh.enable or "/etc/ssh/authorized_keys.d/%u" in found["folders"]


BASE: dict[str, Any] = {
    "version": 1,
    "hostname": "many",
    "storage": {"disk": {"serial": "S4EWNX0R123456"}},
    "users": [{"name": "alice", "admin": True, "password_hash": "$6$saltsaltsalt$" + "x" * 86}],
}


def planned(**more: Any) -> tuple[Answers, Plan]:
    """A host that a system for many fits, but for `more`."""
    answers = Answers.model_validate(BASE | more)
    return answers, make_plan(SERVER, answers, MEDIUM)


ADMIN = {"name": "alice", "admin": True, "password_hash": "$6$saltsaltsalt$" + "x" * 86}
PERSON = {"name": "bob", "password_hash": "$6$saltsaltsalt$" + "x" * 86}
LAN = {"name": "lan0", "match": {"mac": "52:54:00:aa:bb:01"}, "addressing": {"dhcp": "yes"}}
DISK = {"disk": {"serial": "S4EWNX0R123456"}}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, None),
        ({"hostname": "other", "timezone": "Europe/Zurich"}, None),
        ({"network": {"bridges": [{"name": "br0", "addressing": {"dhcp": "yes"}}]}}, None),
        ({"storage": DISK | {"filesystem": "xfs"}}, None),
        ({"storage": DISK | {"swap": {"kind": "partition"}}}, None),
        ({"hypervisor": {"tier": "enterprise"}}, None),
        ({"storage": DISK | {"filesystem": "btrfs"}}, "storage"),
        ({"boot": {"loader": "grub"}}, "boot.loader"),
        ({"boot": {"serial_console": "ttyS0"}}, "boot.serial_console"),
        ({"boot": {"kernel_params": ["quiet"]}}, "boot.serial_console"),
        ({"storage": DISK | {"swap": {"kind": "zram", "zram_percent": 80}}}, "storage.swap"),
        ({"keymap": "sg", "locale": "de_CH.UTF-8"}, None),
        ({"domain": "example.org"}, "domain"),
        ({"network": {"proxy": "http://proxy.example.org"}}, "network.proxy"),
        ({"ssh": {"port": 2222}}, "ssh"),
        ({"hypervisor": {"nested": True}}, "hypervisor"),
        ({"security": {"profile": "strict"}}, "security.profile"),
        ({"storage": DISK | {"swap": {"kind": "file"}}}, "storage.swap: a service"),
        ({"network": {"management": ["lan0"], "ethernets": [LAN]}}, "network.management"),
        ({"first_run": {"pool": "/srv/guests"}}, "first_run.pool"),
        ({"users": [ADMIN, PERSON | {"groups": ["hv-viewers"]}]}, None),
        ({"users": [ADMIN, PERSON | {"groups": ["kvm"]}]}, "users: groups"),
        ({"users": [ADMIN, PERSON | {"groups": ["hv-admins"]}]}, "users: sudo for somebody"),
    ],
)
def test_what_needs_a_system_of_its_own(more: dict[str, Any], reason: str | None) -> None:
    answers, plan = planned(**more)
    found = obstacles(answers, plan.host)
    assert bool(found) == (reason is not None)
    assert all(each.startswith(str(reason)) for each in found)


@pytest.mark.parametrize("existing", ["keep", "reinstall"])
def test_disks_that_keep_something_need_a_system_of_their_own(existing: str) -> None:
    """Of two partitions of the root's type the wrong one could be started."""
    _, plan = planned()
    answers = Answers.model_validate(BASE | {"storage": DISK | {"existing": existing}})
    (found,) = obstacles(answers, plan.host)
    assert found.startswith("storage.existing")


def test_encrypted_hosts_need_a_system_of_their_own() -> None:
    facts, answers = inputs("encrypted-server-unattended")
    assert any("encryption" in each for each in obstacles(answers, make_plan(facts, answers, MEDIUM).host))


def test_people_without_passwords_and_other_shells_need_one_too() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT"
    users = [{"name": "bob", "admin": True, "ssh_keys": [key], "shell": "zsh"}]
    answers, plan = planned(users=users)
    found = obstacles(answers, plan.host)
    assert len(found) == 2
    assert all(each.startswith("users:") for each in found)


def test_no_secret_is_in_it() -> None:
    given = data("uefi-luks-btrfs-everything")
    everything = b"".join(given.files.values()).decode(errors="replace") + repr(
        (given.accounts, given.links)
    )
    assert "$6$" not in everything
    assert "/run/secrets" not in everything


def test_roles_bring_the_groups_that_the_modules_give_them() -> None:
    roles = json.loads((REPOSITORY / "nix/modules/privileges/roles.json").read_text()).values()
    assert {role["group"]: tuple(role["groups"]) for role in roles} == ROLES
    assert f"{MEMBERS}.members" in (REPOSITORY / "nix/modules/privileges/default.nix").read_text()
    # Whoever has commands needs sudo, which is for administrators alone unless the system is built otherwise.
    assert [role["group"] for role in roles if role["commands"]] == ["hv-admins"]


def ready(**more: Any) -> ReadyClosure:
    """A system for any host of the tier standard."""
    toplevel = f"/nix/store/{'1' * 32}-nixos-system-prebuilt-standard"
    modules = ("nvme", "ext4", "xfs", "dm-mod")
    given = {"name": "standard", "toplevel": toplevel, "nar_size": 1, "tier": "standard", "modules": modules}
    return ReadyClosure.model_validate(given | more)


def carrying(closure: ReadyClosure) -> Medium:
    return MEDIUM.model_copy(update={"closures": (closure,)})


CLOSURE = {"system": {"source": "closure", "closure": "standard", "offline": True}}


def test_a_host_that_a_ready_system_fits_gets_its_data_and_people_beside_it() -> None:
    answers, flake = planned()
    answers = answers.model_copy(update={"system": Answers.model_validate(BASE | CLOSURE).system})
    plan = make_plan(SERVER, answers, carrying(ready()))
    steps = [step.id for step in plan.steps]
    added = set(steps) - {step.id for step in flake.steps}
    assert added == {"write-host-data", "make-accounts"}
    # The data are there before the system is activated, the people before it is proved that one gets in.
    order = [steps.index(each) for each in ("write-host-data", "boot-loader", "make-accounts", "prove")]
    assert order == sorted(order)
    (table,) = [
        action for step in plan.steps for action in step.actions if isinstance(action, WritePartitionTable)
    ]
    assert table.partitions[-1].type_uuid == PartitionType.root_x86_64
    # All else of the host's storage is as the rendered flake has it.
    assert plan.host == flake.host


@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_the_root_has_the_type_of_its_architecture(system: str) -> None:
    names = {"x86_64-linux": "4f68bce3", "aarch64-linux": "b921b045"}
    assert ROOT_TYPES[system].startswith(names[system])


def test_everything_that_does_not_fit_is_said_at_once_before_anything_is_planned() -> None:
    more = {"boot": {"serial_console": "ttyS0"}, "domain": "example.org", "hypervisor": {"tier": "minimal"}}
    answers = Answers.model_validate(BASE | CLOSURE | more)
    with pytest.raises(HyperError) as refusal:
        make_plan(SERVER, answers, carrying(ready(modules=("ext4", "xfs"))))
    assert refusal.value.code is Exit.answers
    reasons = refusal.value.why.splitlines()
    assert [reason.split(":")[0] for reason in reasons] == [
        "hypervisor.tier",
        "storage",
        "boot.serial_console, boot.kernel_params",
        "domain, network.dns, network.ntp",
    ]
    assert "nvme" in reasons[1]
    assert 'system.source = "flake"' in refusal.value.remedy


def test_a_system_for_one_host_is_installed_as_before() -> None:
    answers = Answers.model_validate(BASE | CLOSURE)
    plan = make_plan(SERVER, answers, carrying(ready(tier=None, modules=())))
    assert not {"write-host-data", "make-accounts"} & {step.id for step in plan.steps}
    assert "tier" not in ready(tier=None, modules=()).model_dump()


def test_modules_are_the_same_with_either_dash() -> None:
    answers, plan = planned()
    require_fitting(answers, plan.host, ready(modules=("dm-mod", "usb-storage")), ("dm_mod", "usb_storage"))
