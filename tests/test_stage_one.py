"""Stage 1 with systemd: what the lab computes of it is what nixpkgs evaluates to, and it never gives up asking."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from installer.execute.initrd import list_initrd
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.plan.planner import make_plan
from installer.render.disks import disks
from tests.lab import stage_one, trunk, unlocking
from tests.lab.nixpkgs.builder import initrd_systemd
from tests.lab.nixpkgs.builder.initrd import Archive
from tests.lab.small import given
from tests.nixeval import stage1
from tests.nixeval.cases import MEDIUM, inputs
from tests.nixeval.nix import REPOSITORY

REMOTE, PLAIN = stage1.CASES[:2]


def sections(text: str) -> dict[str, set[str]]:
    """A file of networkd: what matters of it, in no order."""
    parts = (part.partition("]\n") for part in text.replace("=yes\n", "=true\n").split("[")[1:])
    return {name: set(lines.replace("=no\n", "=false\n").split()) for name, _, lines in parts}


@pytest.mark.parametrize("case", stage1.CASES)
def test_the_lab_computes_what_nixpkgs_evaluates_to(case: str) -> None:
    golden = stage1.committed(case)
    computed = initrd_systemd.files(given(case), golden)
    assert computed.pop(initrd_systemd.FSTAB).split() == golden["fstab"].split()
    for path in ("/etc/crypttab", "/etc/vconsole.conf", "/etc/hostname", "/etc/modules-load.d/nixos.conf"):
        assert computed.get(path) == golden["contents"].get(path)
    for name, text in golden["network"].items():
        assert sections(computed[f"/etc/systemd/network/{name}"]) == sections(text)
    if case == REMOTE:
        for path in ("/etc/ssh/sshd_config", "/etc/ssh/authorized_keys.d/root"):
            assert computed[path].split() == golden["contents"][path].split()


def test_another_hosts_port_key_and_names_are_its_own() -> None:
    changed = given(REMOTE) | {"hostName": "other", "keymap": "sg", "loaded": []}
    changed["ssh"] = changed["ssh"] | {
        "port": 22022,
        "hostKeys": ["/run/key"],
        "authorizedKeys": ["one", "two"],
    }
    computed = initrd_systemd.files(changed, stage1.committed(REMOTE))
    assert computed["/etc/hostname"] == "other" and computed["/etc/vconsole.conf"] == "KEYMAP=sg\n\n"
    said = computed["/etc/ssh/sshd_config"]
    assert "Port 22022\n" in said and "HostKey /run/key\n" in said and said.count("HostKey") == 1
    assert computed["/etc/ssh/authorized_keys.d/root"] == "one\ntwo"
    assert "8021q" not in computed["/etc/modules-load.d/nixos.conf"]


def test_units_are_laid_out_as_nixos_does() -> None:
    golden = stage1.committed(REMOTE)
    there = {name for name in golden["upstream"] if "resolved" not in name}
    texts, links = initrd_systemd.units(golden, there)
    assert "systemd-networkd.service.d/overrides.conf" in texts and "sshd.service" in texts
    # Debian has it in a package of its own, which the lab leaves out: what adds to it is nothing by itself.
    assert not [name for name in texts if name.startswith("systemd-resolved")]
    assert links["initrd.target.wants/sshd.service"] == "../sshd.service"
    assert links["default.target"] == "initrd.target"
    assert "ExecStart=/usr/sbin/sshd -D -f /etc/ssh/sshd_config" in texts["sshd.service"]
    assert "@" not in "".join(texts.values()).replace("%", "").replace("modprobe@", "").replace(
        "@.service", ""
    )


def test_nobody_is_locked_out_by_three_wrong_passphrases() -> None:
    """Of systemd's three a missing token takes one, and a wrong passphrase two: then a locked root is left."""
    for case in (REMOTE, PLAIN, "mirror-btrfs-luks", "fast-system-big-data"):
        facts, answers = inputs(case)
        options = cast("Any", disks(make_plan(facts, answers, MEDIUM)))
        for device in options["boot"]["initrd"]["luks"]["devices"].values():
            assert "tries=0" in device["crypttabExtraOpts"]
    assert "tries=0" in stage1.committed(REMOTE)["contents"]["/etc/crypttab"]


@pytest.mark.parametrize("case", stage1.CASES)
def test_what_stands_on_encrypted_disks_is_waited_for_without_end(case: str) -> None:
    """systemd's own 90 seconds would end in a locked emergency mode when nobody types the passphrase within them."""
    contents = stage1.committed(case)["contents"]
    waits = "DefaultDeviceTimeoutSec=infinity" in contents["/etc/systemd/system.conf"]
    assert waits == ("/etc/crypttab" in contents)


def test_secrets_are_read_behind_the_initial_ram_disk(tmp_path: Path) -> None:
    image, secret = tmp_path / "initrd", tmp_path / "host_key"
    secret.write_bytes(b"secret")
    first = io.BytesIO()
    archive = Archive(first)
    archive.file("etc/hostname", b"kvm5")
    archive.close()
    packed = subprocess.run(("zstd", "-q"), input=first.getvalue(), capture_output=True, check=True)
    image.write_bytes(packed.stdout)
    lab = REPOSITORY / "tests/lab/nixpkgs"
    argv = (sys.executable, "-m", "builder.secrets_added", image, secret)
    subprocess.run(argv, check=True, env=os.environ | {"PYTHONPATH": str(lab)})
    found = list_initrd(Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"]), image.read_bytes())
    assert found["etc/hostname"] == b"kvm5" and found[f".initrd-secrets{secret}"] == b"secret"


def test_a_trunk_carries_one_vlan() -> None:
    frame = bytes(range(12)) + b"\x08\x00" + b"content"
    assert trunk.untagged(trunk.tagged(frame, 20), 20) == frame
    assert trunk.untagged(trunk.tagged(frame, 20), 21) is None
    assert trunk.untagged(frame, 20) is None
    # With a priority in the upper bits.
    assert trunk.untagged(frame[:12] + b"\x81\x00\xe0\x14" + frame[12:], 20) == frame


def test_keys_of_a_german_keyboard() -> None:
    assert unlocking.german("yzß a") == ("z", "y", "minus", "spc", "a", "ret")
    assert stage_one.TYPED_AS_US == "zacht yu preu-en"


@pytest.mark.nixpkgs
@pytest.mark.parametrize("case", stage1.CASES)
def test_stage_1_is_what_nixpkgs_makes_of_it_today(case: str) -> None:
    assert stage1.stage1(case) == stage1.committed(case)
