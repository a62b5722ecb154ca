"""ZFS on the lab's hosts: names, ids and units are what nixpkgs evaluates to; its tree shows Debian's programs and ZFS's."""

from pathlib import Path
from typing import Any

import pytest

from tests.lab import layers
from tests.lab.nixpkgs.builder import openzfs
from tests.lab.small import given
from tests.nixeval import stage1

DATASET = {"fsType": "zfs", "device": "tank/root"}


def host(case: str) -> dict[str, Any]:
    """What the builder is told of a case's host."""
    made = given(case)
    return made | {"nodes": "/dev/mapper" if made["luks"] else "/dev/disk/by-id"}


@pytest.mark.parametrize("case", stage1.ON_ZFS)
def test_the_nearest_host_is_the_one_itself(case: str) -> None:
    assert openzfs.golden(layers.STAGE1, host(case)) == stage1.committed(case)


def test_another_hosts_pool_is_its_own() -> None:
    made = host("uefi-zfs-luks-mirror")
    for entry in made["filesystems"].values():
        entry["device"] = entry["device"].replace("system_6270", "other_1")
    found = openzfs.golden(layers.STAGE1, made)
    assert "zfs-import-other_1.service" in found["units"] and "system_6270" not in str(found)
    assert "/dev/mapper" in found["scripts"]["zfs-import-other_1-start"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"nodes": "/dev"}, "looks for its pool"), ({"filesystems": {"/srv": DATASET, "/": DATASET | {"device": "a/b"}}}, "one pool")],
)  # fmt: skip
def test_what_nixpkgs_was_not_evaluated_for_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        openzfs.golden(layers.STAGE1, host("many-disks-zfs") | change)


def test_which_pools_stage_1_imports() -> None:
    filesystems = {
        "/": DATASET,
        "/srv": DATASET | {"device": "tank/srv"},
        "/var/lib/libvirt/images": DATASET | {"device": "guests/vms"},
        "/early": DATASET | {"device": "more/early", "neededForBoot": True},
        "/boot": {"fsType": "vfat", "device": "/dev/vda1"},
    }
    assert openzfs.pools(filesystems, early=True) == ["more", "tank"]
    assert openzfs.pools(filesystems, early=False) == ["guests"]


def test_the_id_is_in_the_processors_order() -> None:
    assert openzfs.host_id("8425e349") == bytes.fromhex("49e32584")


def test_stage_1_waits_for_a_passphrase_and_then_for_the_pool() -> None:
    """NixOS looks for a pool a minute long, from the start on."""
    for case in stage1.ON_ZFS[:2]:
        golden = stage1.committed(case)
        (name,) = (each for each in golden["units"] if each.startswith("zfs-import-"))
        waits = golden["scripts"].get(f"{name.removesuffix('.service')}-pre-start", "")
        encrypted = "/etc/crypttab" in golden["contents"]
        assert all((f"/dev/mapper/cryptroot-{number}" in waits) is encrypted for number in (1, 2))
        assert ("ExecStartPre=" in golden["units"][name]["text"]) is encrypted
        assert " -f " not in golden["scripts"][f"{name.removesuffix('.service')}-start"]
        assert "ZFS_FORCE=-f" not in golden["units"][name]["text"]


def test_one_tree_shows_both(tmp_path: Path) -> None:
    debian, zfs, shown = (tmp_path / name for name in ("debian", "zfs", "shown"))
    for path, text in (
        ("debian/sbin/fsck", "fsck"),
        ("debian/lib/python/os.py", "os"),
        ("debian/lib/libc.so.6.1", "libc"),
        ("debian/lib/systemd/system/a.service", "a"),
        ("zfs/sbin/zpool", "zpool"),
        ("zfs/lib/libzfs.so.6.0", "libzfs"),
        ("zfs/lib/systemd/system/zfs.target", "not taken"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (debian / "lib/libc.so.6").symlink_to("libc.so.6.1")
    (debian / "sbin/awk").symlink_to("/etc/alternatives/awk")
    (zfs / "lib/libzfs.so.6").symlink_to("libzfs.so.6.0")
    openzfs.show(shown, debian, zfs)
    assert (shown / "sbin/zpool").read_text() == "zpool" and (shown / "sbin/fsck").read_text() == "fsck"
    assert (shown / "lib/libc.so.6").readlink() == Path("libc.so.6.1")
    assert (shown / "lib/libzfs.so.6").read_text() == "libzfs"
    assert (shown / "sbin/awk").readlink() == Path("/etc/alternatives/awk")
    assert (shown / "lib/python").readlink() == debian / "lib/python"
    assert [path.name for path in (shown / "lib/systemd/system").iterdir()] == ["a.service"]
