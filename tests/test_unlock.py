"""Typing the passphrase over SSH in stage 1: who may, by which network, with which key; and what is refused."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from installer.answers.check import check
from installer.answers.unlocking import unlock_keys
from installer.errors import Exit, HyperError
from installer.execute.evidence import Wrong
from installer.execute.keys import check_host_key, make_host_key
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.facts import Facts
from installer.facts.nics import Nic
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.plan.unlock import HOST_KEY
from tests import plan_cases as cases
from tests.nixeval import hosts
from tests.nixeval.cases import inputs, rendered
from tests.nixeval.host import evaluate_flake_host

CASE = "encrypted-remote"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDWOfxmK02LtqdIJL+wWvvsQA55tVpIzEYwg2MJalaAi"


def encryption(**ssh: Any) -> dict[str, Any]:
    return cases.storage(encryption=cases.ENCRYPTED | {"ssh": {"enable": True} | ssh})


def nic(**changes: Any) -> Nic:
    return Nic(
        **{
            "name": "enp5s0",
            "permanent_name": "enp5s0",
            "mac": "52:54:00:00:00:01",
            "driver": "r8169",
            "pci_address": None,
            "speed": 1000,
            "link": True,
            "wireless": False,
            "sriov_total": 0,
        }
        | changes
    )


def machine(*nics: Nic) -> Facts:
    return cases.machine().model_copy(update={"nics": nics})


def planned(*nics: Nic, **network: Any) -> Plan:
    answers = cases.answers(storage=encryption(), network=network)
    assert not check(answers)
    return make_plan(machine(*nics), answers, cases.medium())


def test_stage_1_gets_drivers_of_the_cards_that_the_network_uses() -> None:
    cards = (nic(), nic(name="enp6s0", permanent_name=None, mac="52:54:00:00:00:02", driver="atlantic"))
    whole = planned(*cards).host.unlock
    assert whole and whole.drivers == ("atlantic", "r8169", "realtek") and whole.kinds == ()
    lan = {"name": "lan0", "match": {"mac": "52:54:00:00:00:02"}}
    one = planned(
        *cards,
        ethernets=[lan],
        bridges=[{"name": "br0", "members": ["manage"], "addressing": {"dhcp": "yes"}}],
        vlans=[{"name": "manage", "id": 7, "link": "lan0"}],
    ).host.unlock
    assert one and one.drivers == ("atlantic",) and one.kinds == ("8021q", "bridge")


def test_the_boot_proof_looks_for_them() -> None:
    plan = planned(nic())
    (proof,) = (each for step in plan.steps if step.id == "boot-loader" for each in step.checks)
    assert {"r8169", "realtek"} <= set(getattr(proof, "initrd_modules"))  # noqa: B009
    steps = {step.id: step for step in plan.steps}
    assert "unlock-key" in steps["boot-loader"].requires, "it goes into the initial RAM disk"


@pytest.mark.parametrize(
    ("nics", "ethernets", "words"),
    [
        ((), [], "no wired network card"),
        ((nic(wireless=True),), [], "no wired network card"),
        ((nic(driver=None),), [], r"no driver for enp5s0 \(52:54:00:00:00:01\)"),
        (
            (nic(),),
            [{"name": "lan0", "match": {"mac": "52:54:00:00:00:99"}}],
            "no network card 52:54:00:00:00:99",
        ),
    ],
)
def test_without_a_card_or_its_driver_it_is_refused(
    nics: tuple[Nic, ...], ethernets: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(HyperError, match="could not be typed over SSH") as caught:
        planned(*nics, ethernets=ethernets)
    assert re.search(words, caught.value.why) and caught.value.code is Exit.unsuitable
    assert "ssh.enable = false" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (
            {"users": [{"name": "alice", "admin": True, "password_hash": cases.HASH}]},
            "keys",
            "nobody could type",
        ),
        ({"storage": encryption(port=22)}, "port", "host's own SSH port"),
        (
            {"storage": encryption(keys=[f'command="true" {OTHER}'])},
            "keys",
            "forbids what it is for: command",
        ),
        ({"storage": encryption(keys=["ssh-ed25519 AAAA"])}, "keys", "something else inside"),
        ({"storage": encryption(enable=False, port=23)}, "port", "means nothing without SSH"),
        ({"storage": cases.storage(encryption={"ssh": {"enable": True}})}, "ssh", "while encryption is off"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], field: str, words: str) -> None:
    problems = check(cases.answers(**({"storage": encryption()} | changes)))
    assert [
        field in problem.path and words in problem.wrong and bool(problem.remedy) for problem in problems
    ] == [True]


def test_who_may() -> None:
    assert unlock_keys(cases.answers(storage=encryption())) == (cases.KEY,)
    assert unlock_keys(cases.answers(storage=encryption(keys=[OTHER, OTHER]))) == (OTHER,)


@pytest.mark.root
def test_a_key_of_its_own_is_made_anew_and_read_back(tmp_path: Path) -> None:
    runner = Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"])
    key = tmp_path / "ssh_host_ed25519_key"
    first = make_host_key(runner, key, "unlock-hv1")
    check_host_key(runner, key)
    again = make_host_key(runner, key, "unlock-hv1")
    assert first != again and "unlock-hv1 (ED25519)" in again
    assert key.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(
        ("ssh-keygen", "-l", "-f", key), capture_output=True, text=True, check=True
    ).stdout
    assert shown.split()[1] in again
    assert "PRIVATE KEY" not in (tmp_path / "log").read_text()
    key.chmod(0o640)
    with pytest.raises(Wrong):
        check_host_key(runner, key)
    key.chmod(0o600)
    key.with_name(f"{key.name}.pub").write_text(OTHER)
    with pytest.raises(Wrong, match="another key's"):
        check_host_key(runner, key)


def test_the_secret_key_is_named_and_nowhere_else() -> None:
    """As text: Nix copies what is written as a path into its store."""
    files = rendered(CASE).files
    assert f'"{HOST_KEY}"' in files["unlock.nix"]
    assert not [
        name for name, text in files.items() if name != "unlock.nix" and "ssh_host_ed25519_key" in text
    ]
    assert "unlock.nix" not in rendered("encrypted-server-unattended").files


SELECT = """host: let initrd = host.config.boot.initrd; in {
  stage1 = builtins.mapAttrs (_: unit: unit.text) initrd.systemd.network.units;
  stage2 = builtins.mapAttrs (_: unit: unit.text) host.config.systemd.network.units;
  keys = initrd.systemd.contents."/etc/ssh/authorized_keys.d/root".text;
  sshd = initrd.systemd.contents."/etc/ssh/sshd_config".text;
  secrets = initrd.secrets;
  shell = initrd.systemd.users.root.shell;
  modules = initrd.kernelModules ++ initrd.availableKernelModules;
  keymap = host.config.console.keyMap;
  keymaps = initrd.systemd.contents ? "/etc/kbd";
  vconsole = initrd.systemd.contents."/etc/vconsole.conf".source == host.config.environment.etc."vconsole.conf".source;
  toplevel = host.config.system.build.toplevel.drvPath;
}"""


@pytest.mark.nixpkgs
def test_stage_1_has_the_hosts_network_and_keymap(tmp_path: Path) -> None:
    found = evaluate_flake_host(
        hosts.write(rendered(CASE).files, tmp_path), inputs(CASE)[1].hostname, SELECT
    )
    assert not found.failed_assertions and not found.warnings
    value = found.value
    assert (
        value["stage1"] == value["stage2"]
        and "Address=192.0.2.20/24" in value["stage1"]["40-manage.network"]
    )
    assert value["keys"].startswith("restrict,pty ssh-ed25519 ")
    assert f"HostKey {HOST_KEY}\n" in value["sshd"] and "Port 2222\n" in value["sshd"]
    assert value["secrets"] == {HOST_KEY: HOST_KEY}
    assert value["shell"] == "/bin/systemd-tty-ask-password-agent"
    assert {"8021q", "virtio_net"} <= set(value["modules"])
    assert (value["keymap"], value["keymaps"], value["vconsole"]) == ("de-latin1", True, True)
    assert value["toplevel"].endswith(".drv")
