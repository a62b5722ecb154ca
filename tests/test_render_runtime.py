"""Data of one host for a system of many: the same logins, mounts, keys and network as the rendered flake has."""

from typing import Any

import pytest

from installer.answers.model import Answers
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.render.runtime import KEYS, NETWORK, RuntimeData, obstacles, runtime_data
from tests.nixeval import hosts
from tests.nixeval.cases import CASES, MEDIUM, SERVER, inputs
from tests.nixeval.host import evaluate_flake_host

SELECT = """host: let
  inherit (host.pkgs) lib;
  inherit (host.config.environment) etc;
in {
  network = lib.mapAttrs (_: unit: unit.text) host.config.systemd.network.units;
  fstab = etc.fstab.text;
  hostname = etc.hostname.text;
  timezone = toString etc.localtime.source;
  accounts = lib.mapAttrs (_: user: {
    inherit (user) description group hashedPasswordFile;
    groups = user.extraGroups;
    keys = user.openssh.authorizedKeys.keys;
    keyFiles = user.openssh.authorizedKeys.keyFiles;
  }) (lib.filterAttrs (_: user: user.isNormalUser) host.config.users.users);
  folders = host.config.services.openssh.authorizedKeysFiles;
}"""


def data(name: str) -> RuntimeData:
    facts, answers = inputs(name)
    return runtime_data(answers, make_plan(facts, answers, MEDIUM))


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
        path.removeprefix(f"{NETWORK}/"): text
        for path, text in given.files.items()
        if path.startswith(f"{NETWORK}/")
    }
    assert network
    assert network == {each: text for each, text in found["network"].items() if each in network}
    # What else the system has there is the same for every host: it is no interface of this one's answers.
    assert not {
        each for each in found["network"].keys() - network.keys() if each.startswith(("10-", "20-", "40-"))
    }
    assert given.files["/etc/hostname"] == found["hostname"]
    assert f"/etc/zoneinfo/{given.timezone}" == found["timezone"]
    plan = make_plan(facts, answers, MEDIUM)
    if not plan.host.random_swap_devices:  # crypttab's, and an obstacle
        assert entries(given.files["/etc/fstab"]) == entries(found["fstab"])
    accounts = found["accounts"]
    assert {account.name for account in given.accounts} == accounts.keys()
    for account in given.accounts:
        there = accounts[account.name]
        assert account.full_name == there["description"]
        assert there["group"] == "users"
        assert list(account.groups) == there["groups"]
        assert account.password_file == there["hashedPasswordFile"]
        keys = given.files.get(f"{KEYS}/{account.name}", "").splitlines()
        assert (keys, []) == (there["keys"], there["keyFiles"])
    assert not answers.ssh.enable or f"{KEYS}/%u" in found["folders"]


def planned(**more: Any) -> tuple[Answers, Plan]:
    """A host that a system for many fits, but for `more`."""
    base: dict[str, Any] = {
        "version": 1,
        "hostname": "many",
        "storage": {"disk": {"serial": "S4EWNX0R123456"}},
        "users": [{"name": "alice", "admin": True, "password_hash": "$6$saltsaltsalt$" + "x" * 86}],
    }
    answers = Answers.model_validate(base | more)
    return answers, make_plan(SERVER, answers, MEDIUM)


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
        ({"storage": DISK | {"filesystem": "btrfs"}}, "storage.filesystem"),
        ({"boot": {"loader": "grub"}}, "boot.loader"),
        ({"boot": {"serial_console": "ttyS0"}}, "boot.serial_console"),
        ({"boot": {"kernel_params": ["quiet"]}}, "boot.serial_console"),
        ({"storage": DISK | {"swap": {"kind": "zram", "zram_percent": 80}}}, "storage.swap"),
        ({"keymap": "sg"}, "locale, keymap"),
        ({"domain": "example.org"}, "domain"),
        ({"network": {"proxy": "http://proxy.example.org"}}, "network.proxy"),
        ({"ssh": {"port": 2222}}, "ssh"),
        ({"hypervisor": {"nested": True}}, "hypervisor"),
        ({"security": {"profile": "strict"}}, "security.profile"),
    ],
)
def test_what_needs_a_system_of_its_own(more: dict[str, Any], reason: str | None) -> None:
    found = obstacles(*planned(**more))
    assert [each.split(":")[0].startswith(reason) for each in found] == [True] if reason else found == ()


def test_encrypted_hosts_need_a_system_of_their_own() -> None:
    facts, answers = inputs("encrypted-server-unattended")
    assert any("encryption" in each for each in obstacles(answers, make_plan(facts, answers, MEDIUM)))


def test_people_without_passwords_and_other_shells_need_one_too() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT"
    users = [{"name": "bob", "admin": True, "ssh_keys": [key], "shell": "zsh"}]
    found = obstacles(*planned(users=users))
    assert len(found) == 2
    assert all(each.startswith("users:") for each in found)


def test_no_secret_is_in_it() -> None:
    given = data("uefi-luks-btrfs-everything")
    text = "".join(given.files.values()) + repr(given.accounts)
    assert "$6$" not in text
    assert "/run/secrets" not in text
