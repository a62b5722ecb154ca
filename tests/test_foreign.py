"""Other installers' files as answers, and our layouts as theirs: what maps is right, and what does not is all told."""

import copy
import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.answers.foreign.disko import read_disko
from installer.answers.foreign.kickstart import parse, read_kickstart
from installer.answers.foreign.proxmox import read_proxmox
from installer.answers.foreign.tree import Imported, Tree
from installer.answers.load import load
from installer.commands.answers import main
from installer.commands.foreign import NIX, read, text
from installer.errors import Exit, HyperError
from installer.facts.disks import Transport
from installer.plan.planner import make_layout
from installer.plan.storage.disk import WholeDisk
from installer.render.disko import disko
from tests import machines
from tests import plan_cases as cases
from tests.nixeval import nix as nixeval
from tests.test_plan_examples import EXAMPLES, MACHINES, MEDIUM

HERE = Path(__file__).parent / "foreign"
SECRET = "do not repeat this"
NVME = cases.machine(
    cases.blank_disk(),
    cases.blank_disk(name="nvme1n1", serial="SECOND", wwn="eui.2", by_id=("nvme-Second_SECOND",)),
)
SATA = cases.machine(
    *(
        cases.blank_disk(
            name=name, serial=name.upper(), wwn=None, by_id=(f"ata-{name}",), transport=Transport.sata
        )
        for name in ("sda", "sdb")
    )
)


def left(found: Imported) -> dict[str, str]:
    return {each.path: each.why for each in found.left}


def whole(found: Imported) -> dict[str, Any]:
    """The answers with what no other file has, as a check takes them."""
    given = copy.deepcopy(found.answers)
    users = [{"name": "anna", "admin": True, "ssh_keys": [cases.KEY]}]
    return {"version": 1, "hostname": "kvm1", "users": users} | given


def test_disko_with_volumes() -> None:
    found = read_disko(json.loads((HERE / "lvm.json").read_text()), SATA)
    assert found.answers["storage"] == {
        "swap": {"kind": "partition", "size": "8GiB"},
        "volumes": "lvm",
        "filesystem": "ext4",
        "mount_options": ["defaults", "noatime"],
        "root_size": "40GiB",
        "disk": {"serial": "SDA"},
    }
    told = left(found)
    assert "less than 1 GiB" in told["disko.devices.disk.system.content.partitions.esp.size"]
    assert any(path.startswith("disko.devices.lvm_vg.pool.lvs.home") for path in told)
    assert "disko.devices.nodev./tmp.fsType" in told
    assert "disko.devices.disk.system.imageSize" in told
    assert (
        "kernel name"
        in left(read_disko(json.loads((HERE / "lvm.json").read_text())))["disko.devices.disk.system.device"]
    )
    load(json.dumps(whole(found)).encode(), "a.json")


@pytest.mark.nix
def test_disko_in_nix_with_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nix(tmp_path, monkeypatch)
    found = read(HERE / "mirror.nix", "auto", None)
    storage = found.answers["storage"]
    assert storage["layout"] == "mirror"
    assert storage["disks"] == [{"by_id": "nvme-Example_1"}, {"by_id": "nvme-Example_2"}] or storage[
        "disks"
    ] == [
        {"by_id": "nvme-Example_2"},
        {"by_id": "nvme-Example_1"},
    ]
    assert storage["encryption"] == {
        "enable": True,
        "passphrase": {"file": "/run/secrets/passphrase"},
        "allow_discards": False,
    }
    assert storage["subvolumes"] == {"@": "/", "@nix": "/nix"}
    assert found.answers["boot"] == {"esp_size": "2GiB"}
    assert any("swap file" in why for why in left(found).values())
    load(json.dumps(whole(found)).encode(), "a.json")


def with_nix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nix-instantiate on the PATH, whichever Nix these tests use."""
    program = folder / "bin/nix-instantiate"
    program.parent.mkdir(exist_ok=True)
    words = " ".join(f"'{word}'" for word in nixeval.require().command("nix-instantiate"))
    program.write_text(f"#!/bin/sh\nNIX_REMOTE='{folder}/store' exec {words} \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin")


def test_proxmox() -> None:
    found = read_proxmox(tomllib.loads((HERE / "answer.toml").read_text()), NVME)
    answers = found.answers
    assert (answers["hostname"], answers["domain"], answers["keymap"]) == ("kvm7", "example.org", "sg")
    assert answers["at_end"] == "poweroff"
    assert answers["storage"]["layout"] == "mirror"
    assert answers["storage"]["filesystem"] == "zfs"
    assert answers["storage"]["disks"] == [{"serial": cases.SERIAL}, {"serial": "SECOND"}]
    (ethernet,) = answers["network"]["ethernets"]
    assert ethernet["match"] == {"mac": "3c:ec:ef:00:00:01"}
    assert ethernet["addressing"]["addresses"] == ["192.0.2.10/24"]
    told = left(found)
    assert set(told) == {"global.country", "global.mailto", "global.root-password", "disk-setup.zfs.arc-max"}
    assert SECRET not in text("answer.toml", found)
    load(json.dumps(answers).encode(), "a.json")


def test_an_older_proxmox_file() -> None:
    found = read_proxmox(tomllib.loads((HERE / "answer-old.toml").read_text()))
    assert found.answers["storage"] == {
        "filesystem": "ext4",
        "volumes": "lvm",
        "pool": {"kind": "lvm-thin"},
        "root_size": "64GiB",
        "swap": {"kind": "partition", "size": "8GiB"},
        "disk": {"serial": "S6Z2NJ0TB12345X"},
    }
    assert set(left(found)) == {"global.root-password", "disk-setup.lvm.minfree"}
    load(json.dumps(whole(found)).encode(), "a.json")


def test_a_kickstart_with_volumes() -> None:
    found = read_kickstart((HERE / "lvm.ks").read_text())
    assert found.answers == {
        "storage": {
            "disk": {"by_id": "ata-Example_3"},
            "volumes": "lvm",
            "encryption": {"enable": True, "passphrase": {"prompt": True}},
            "swap": {"kind": "partition", "size": "8192MiB"},
            "filesystem": "xfs",
            "root_size": "65536MiB",
        },
        "boot": {"kernel_params": ["mitigations=auto", "console=ttyS0"], "esp_size": "2048MiB"},
    }
    told = left(found)
    for command in ("lang", "keyboard", "rootpw", "%packages"):
        assert any(path.partition(".")[0] == command for path in told), command
    assert any("secret is never in an answer file" in why for why in told.values())
    assert any(path.startswith("logvol (3)") for path in told)
    assert SECRET not in text("lvm.ks", found)
    assert "notarealhash" not in text("lvm.ks", found)
    load(json.dumps(whole(found)).encode(), "a.json")


def test_a_kickstart_with_a_mirror() -> None:
    found = read_kickstart((HERE / "mirror.ks").read_text(), SATA)
    assert found.answers["storage"] == {
        "layout": "mirror",
        "filesystem": "ext4",
        "swap": {"kind": "partition"},
        "disks": [{"serial": "SDA"}, {"serial": "SDB"}],
    }
    load(json.dumps(whole(found)).encode(), "a.json")
    unknown = read_kickstart((HERE / "mirror.ks").read_text())
    assert "disk" not in unknown.answers["storage"]
    assert any("kernel name" in why for why in left(unknown).values())


def test_a_kickstart_that_keeps() -> None:
    found = read_kickstart((HERE / "keep.ks").read_text())
    assert found.answers["storage"] == {"filesystem": "btrfs", "swap": {"kind": "none"}, "existing": "keep"}
    assert "kernel name" in left(found)["part.--onpart"]


def tables(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all tables."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from tables(inner, (*path, key))


@pytest.mark.parametrize("name", ["lvm.json", "answer.toml", "answer-old.toml"])
def test_nothing_that_is_added_disappears(name: str) -> None:
    """An unknown value, put into every table in turn, is told, or stands in something that is taken over whole."""
    content = (HERE / name).read_text()
    value = json.loads(content) if name.endswith(".json") else tomllib.loads(content)
    reading = read_disko if name.endswith(".json") else read_proxmox
    missing = []
    for path in tables(value):
        changed = copy.deepcopy(value)
        table = changed
        for part in path:
            table = table[part]
        table["zz-unknown"] = "marked"
        if not any("zz-unknown" in each.path or each.value == "{ … }" for each in reading(changed).left):
            missing.append(path)
    assert missing in ([], [("disko", "devices", "disk", "system", "content", "partitions", "boot")])


def test_nothing_of_a_kickstart_disappears() -> None:
    for name in ("lvm.ks", "mirror.ks", "keep.ks"):
        lines = (HERE / name).read_text().splitlines()
        for place, line in enumerate(lines):
            if not line or line.startswith(("#", "%", "@", "zerombr")):
                continue
            changed = [*lines[:place], f"{line} --zz-unknown=marked", *lines[place + 1 :]]
            found = read_kickstart("\n".join(changed))
            assert any(
                "zz-unknown" in each.path or each.value in ("{ … }", "(not repeated)") for each in found.left
            ), line


def test_values_are_taken_or_left() -> None:
    tree = Tree({"a": {"b": 1, "c": [2, {"d": 3}]}, "e": {}, "password": "x"})
    assert tree.take("a", "c", 1, "d") == 3
    tree.leave(("a",), "because")
    assert [str(each) for each in tree.left()] == [
        "a.b = 1: because",
        "a.c[0] = 2: because",
        "password = (not repeated): answers have nothing like it",
    ]


def test_sections_and_words_of_a_kickstart() -> None:
    found = parse('part / --size 10 --fsoptions="a,b" # root\n%pre\npart /no\n%end\nzerombr\n').commands
    assert found == [
        {"command": "part", "--size": "10", "--fsoptions": "a,b", "arguments": ["/"]},
        {"command": "%pre"},
        {"command": "zerombr"},
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(HERE / "lvm.ks")]) == Exit.ok
    printed = capsys.readouterr()
    assert tomllib.loads(printed.out)["storage"]["volumes"] == "lvm"
    assert "# Not taken over: lang = " in printed.out
    assert "not taken over:" in printed.err
    assert main(["import", str(HERE / "answer.toml"), "--json"]) == Exit.ok
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == 1
    assert {each["path"] for each in document["left"]} >= {"global.mailto"}
    odd = tmp_path / "odd"
    for content in (b"\xff\xfe", b"nothing known"):
        odd.write_bytes(content)
        with pytest.raises(HyperError) as refused:
            main(["import", str(odd)])
        assert refused.value.code is Exit.answers
        assert "--from" in refused.value.remedy


def test_nix_without_nix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HyperError, match="cannot be read"):
        read(HERE / "mirror.nix", "auto", None)
    assert "{ file }" in NIX


EXPORTED = sorted(name for name in MACHINES if name != "beside-windows.toml")


@pytest.mark.parametrize("name", EXPORTED)
def test_examples_are_exported_and_come_back(name: str, tmp_path: Path) -> None:
    """Through Nix, where there is one: what disko would be given reads back as the layout that it was."""
    answers = load((EXAMPLES / name).read_bytes(), name)
    facts = machines.load(MACHINES[name])
    layout = make_layout(facts, answers, MEDIUM)
    exported = disko(layout, answers.hostname)
    path = tmp_path / "export.nix"
    path.write_text(exported.text)
    if nix := nixeval.find():
        command = [*nix.command("nix-instantiate"), "--eval", "--strict", "--json", str(path)]
        environment = {"HOME": str(tmp_path), "NIX_REMOTE": str(tmp_path / "store"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found = read_disko(json.loads(done.stdout), facts)
        storage = found.answers["storage"]
        assert storage["filesystem"] == answers.storage.filesystem.value
        assert (
            storage.get("layout", "one-disk") == answers.storage.layout.value
            or answers.storage.layout == "auto"
        )
        assert bool(storage.get("encryption")) is answers.storage.encryption.enable
        wanted = {
            each.disk.by_id
            for each in layout.elements
            if isinstance(each, WholeDisk) and each.key.startswith("main")
        }
        there = [storage["disk"]] if "disk" in storage else storage["disks"]
        assert {each["by_id"] for each in there} == wanted
    devices = [
        f'"{each.disk.device}"'
        for each in layout.elements
        if isinstance(each, WholeDisk) and each.key.startswith("main")
    ]
    assert devices
    assert all(device in exported.text for device in devices)


def test_what_an_export_leaves_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "export",
        str(EXAMPLES / "home-lab.toml"),
        "--disko",
        "--machine",
        str(machines.MACHINES / "lab-bios"),
    ]
    assert main([*argv, "--medium", str(EXAMPLES / "medium.json")]) == Exit.ok
    printed = capsys.readouterr()
    assert "not in it: zram" in printed.err
    assert "# Not in here: zram" in printed.out
    beside = [
        "export",
        str(EXAMPLES / "beside-windows.toml"),
        "--disko",
        "--medium",
        str(EXAMPLES / "medium.json"),
    ]
    with pytest.raises(HyperError, match="cannot be exported"):
        main([*beside, "--machine", str(machines.MACHINES / "laptop-bitlocker")])
