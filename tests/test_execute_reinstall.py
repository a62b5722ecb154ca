"""A host installed, used, and installed again on loop devices: VMs' images and definitions stay, everything else is new."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.answers.sizes import MIB
from installer.errors import Exit
from installer.facts.disks import Filesystem, Partition
from installer.plan.planner import make_plan
from tests.execute.ready import Ready, answers_for, ready_rig
from tests.execute.rig import prepare, run, tiny_system, with_closure

pytestmark = [pytest.mark.root, pytest.mark.nix]

IMAGE, DEFINITION = "/var/lib/libvirt/images/web.qcow2", "/var/lib/libvirt/qemu/web.xml"
KEPT = (IMAGE, DEFINITION, "/home/alice/notes", "/var/lib/nixos/uid-map")
GONE = ("/etc/old", "/var/lib/old-service/state", "/srv/old", "/root/history")


def found(ready: Ready) -> tuple[Partition, ...]:
    """Partitions of the disk as the probe would find them now."""
    return on_disk(ready.disk.device)


def on_disk(device: str) -> tuple[Partition, ...]:
    """The same of any disk."""
    table = json.loads(run("sfdisk", "--json", device))["partitiontable"]
    partitions = []
    for each in table["partitions"]:
        number = int(each["node"].removeprefix(device).lstrip("p"))
        told = run("sh", "-c", f"blkid -p -o export {each['node']} || true").splitlines()
        values = dict(line.split("=", 1) for line in told if "=" in line)
        filesystem = Filesystem(kind=values["TYPE"], uuid=values.get("UUID")) if "TYPE" in values else None
        partitions.append(
            Partition(
                number=number,
                name=f"vda{number}",
                start=each["start"] * 512,
                size=each["size"] * 512,
                type_uuid=each["type"].lower(),
                part_uuid=each.get("uuid", values.get("PART_ENTRY_UUID", "")).lower(),
                label=each.get("name") or None,
                filesystem=filesystem,
            )
        )
    return tuple(partitions)


def again(ready: Ready, **storage: Any) -> None:
    """Answers, system and plan to install once more what is there."""
    ready.facts = ready.rig.facts(ready.disk, partitions=found(ready))
    given = answers_for(ready.disk)
    given["storage"] |= {"existing": "reinstall", "keep": ["/home"]} | storage
    draft = make_plan(
        ready.facts, Answers.model_validate(given), with_closure("/nix/store/" + "0" * 32 + "-x")
    )
    (root,) = (each for each in draft.host.filesystems if each.mountpoint == "/")
    ready.toplevel = tiny_system(ready.rig, ready.disk, root.device.rpartition("/")[2])
    ready.medium = with_closure(ready.toplevel)
    prepare(ready.rig, ready.facts, given, ready.medium)
    ready.plan = make_plan(ready.facts, Answers.model_validate(given), ready.medium)


def lived_in(ready: Ready) -> dict[str, str]:
    """Use the host: a VM with its image, a person's notes, and things that nobody asked to keep."""
    ready.space.run("mount", f"{ready.disk.link}-part2", "/mnt")
    try:
        for path in (*KEPT, *GONE):
            ready.space.run("mkdir", "-p", f"/mnt{path.rpartition('/')[0]}")
            ready.space.run("sh", "-c", f"head -c 300000 /dev/urandom > /mnt{path}")
        ready.space.run("chattr", "+i", "/mnt/srv/old")  # as NixOS makes /var/empty
        return digests(ready)
    finally:
        ready.space.run("umount", "/mnt")


def digests(ready: Ready) -> dict[str, str]:
    """SHA-256 of what must stay, on the mounted root."""
    return {path: ready.space.run("sha256sum", f"/mnt{path}").split()[0] for path in KEPT}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Ready]:
    """A host that was installed."""
    with ready_rig(tmp_path) as made:
        done = made.space.install(made.rig)
        assert done.returncode == Exit.ok, done.stdout + done.stderr
        yield made


def looked_at(ready: Ready) -> tuple[dict[str, str], list[str], str]:
    """What stayed, what should be gone and is not, and the system of the profile."""
    ready.space.run("mount", "-o", "ro", f"{ready.disk.link}-part2", "/mnt")
    try:
        left = [path for path in GONE if _there(ready, path)]
        system = ready.space.run("readlink", "/mnt/nix/var/nix/profiles/system-1-link")
        return digests(ready), left, system
    finally:
        ready.space.run("umount", "/mnt")


def _there(ready: Ready, path: str) -> bool:
    return ready.space.run("sh", "-c", f"test -e /mnt{path} && echo yes || true") == "yes"


def test_vms_stay_and_the_system_is_new(host: Ready) -> None:
    before, first = lived_in(host), host.toplevel
    table = run("sfdisk", "--dump", host.disk.device)
    again(host)
    assert host.toplevel != first
    done = host.space.install(host.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    after, left, system = looked_at(host)
    assert after == before
    assert left == []
    assert host.toplevel.rpartition("/")[2] in system
    assert run("sfdisk", "--dump", host.disk.device) == table
    assert "Remove the old system of loop" in done.stdout


@pytest.mark.parametrize(
    "death",
    [
        ("--die-event", "clear-target", "started"),
        ("--die-between", "clear-target", "1"),
        pytest.param(("--die-event", "find-host", "verified"), marks=pytest.mark.matrix),
        pytest.param(("--die-at", r"^\$ nix copy"), marks=pytest.mark.matrix),
    ],
)
def test_killed_while_clearing_and_gone_on_with(host: Ready, death: tuple[str, ...]) -> None:
    before = lived_in(host)
    again(host)
    killed = host.space.install(host.rig, *death)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    done = host.space.install(host.rig)
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    after, left, _ = looked_at(host)
    assert after == before
    assert left == []


def test_a_root_without_this_hosts_plan_is_not_cleared(host: Ready) -> None:
    before = lived_in(host)
    again(host)
    host.space.run("mount", f"{host.disk.link}-part2", "/mnt")
    text = host.space.run("cat", "/mnt/var/log/hyper-nixos/plan.json")
    other = host.rig.folder / "other.json"
    other.write_text(text.replace('"hostname": "loop"', '"hostname": "other"'))
    host.space.run("cp", str(other), "/mnt/var/log/hyper-nixos/plan.json")
    host.space.run("umount", "/mnt")
    refused = host.space.install(host.rig)
    assert refused.returncode == Exit.step
    assert "find-host" in refused.stderr
    host.space.run("umount", "--recursive", "/mnt")
    after, left, _ = looked_at(host)
    assert after == before
    assert left == [*GONE]


def test_nothing_is_removed_when_the_rest_would_not_fit(host: Ready) -> None:
    lived_in(host)
    host.space.run("mount", f"{host.disk.link}-part2", "/mnt")
    host.space.run("fallocate", "-l", str(5300 * MIB), "/mnt/var/lib/libvirt/images/big")
    host.space.run("umount", "/mnt")
    again(host)
    refused = host.space.install(host.rig, "--room", str(2 << 30))
    assert refused.returncode == Exit.unsuitable, refused.stdout + refused.stderr
    assert "does not fit beside what is kept" in refused.stderr
    host.space.run("umount", "--recursive", "/mnt")
    _, left, _ = looked_at(host)
    assert left == [*GONE]
