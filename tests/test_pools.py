"""`hv pools` against a real libvirtd: made once, used where they fit, never changed where somebody else made them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hv.commands import pools
from hv.pools.declared import Declared, FolderPool, LvmPool, Pool, ZfsPool, read_declared
from hv.pools.definition import Target, found_target, pool_uuid, pool_xml, target_of
from hv.pools.folder import copies_on_write, prepare
from installer.errors import Exit, HyperError
from installer.execute.runner import Finished
from tests.test_firstrun_libvirt import Host, host  # noqa: F401 - the private libvirtd

MIB = 2**20


def declare(path: Path, *wanted: Pool) -> list[str]:
    path.write_text(Declared(pools=wanted).model_dump_json())
    return ["--config", str(path)]


def folder(name: str, path: Path, **more: object) -> FolderPool:
    return FolderPool.model_validate({"name": name, "kind": "dir", "path": str(path), **more})


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """A mounted btrfs."""
    image, place = tmp_path / "btrfs.img", tmp_path / "btrfs"
    with image.open("wb") as stream:
        stream.truncate(128 * MIB)
    subprocess.run(("mkfs.btrfs", "-q", image), check=True)
    place.mkdir()
    subprocess.run(("mount", "-o", "loop", image, place), check=True)
    try:
        yield place
    finally:
        subprocess.run(("umount", place), check=True)


def run(argv: tuple[str, ...]) -> Finished:
    done = subprocess.run(argv, check=True, capture_output=True)
    return Finished(argv, 0, done.stdout, "", 0.0)


@pytest.mark.libvirt
def test_pools_are_made_once_and_their_volumes_stay(
    host: Host,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = host.path("/srv/here"), host.path("/srv/there")
    words = declare(tmp_path / "pools.json", folder("here", here), folder("there", there, autostart=False))
    words += ["--connect", host.uri]
    assert pools.main([*words, "status"]) == Exit.failed
    assert "there is none of that name" in capsys.readouterr().err
    assert pools.main([*words, "apply", "--dry-run"]) == Exit.ok
    assert "here: would be made as declared" in capsys.readouterr().out
    assert pools.main([*words, "apply", "--dry-run", "--json"]) == Exit.ok
    found = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["as_declared"], each["free"]) for each in found["pools"]] == [
        ("here", None, None),
        ("there", None, None),
    ]
    assert not here.exists()

    assert pools.main([*words, "apply"]) == Exit.ok
    capsys.readouterr()
    assert pools.main([*words, "status", "--json"]) == Exit.ok
    shown = json.loads(capsys.readouterr().out)["pools"][0]
    assert (shown["kind"], shown["place"], shown["as_declared"]) == ("dir", str(here), True)
    assert 0 < shown["free"] <= shown["capacity"]
    with host.connection() as connection:
        pool = connection.storagePoolLookupByName("here")
        assert (pool.isActive(), pool.autostart(), pool.isPersistent()) == (1, 1, 1)
        assert pool.UUIDString() == pool_uuid("here")
        pool.createXML("<volume><name>disk</name><capacity>4096</capacity></volume>")
        other = connection.storagePoolLookupByName("there")
        assert (other.isActive(), other.autostart()) == (0, 0)
        pool.destroy()
        pool.setAutostart(0)
    assert f"{here.stat().st_mode & 0o777:o}" == "711"
    before = (here / "disk").read_bytes()

    assert pools.main([*words, "status"]) == Exit.failed
    assert "it is not active; it is not started with the host" in capsys.readouterr().err.replace(
        "\n       ", " "
    )
    assert pools.main([*words, "apply"]) == Exit.ok
    assert pools.main([*words, "status"]) == Exit.ok
    assert (here / "disk").read_bytes() == before

    # Not declared any more: it stays, and is told.
    words = [*declare(tmp_path / "pools.json", folder("here", here)), "--connect", host.uri]
    capsys.readouterr()
    assert pools.main([*words, "apply"]) == Exit.ok
    assert "there: not declared any more, and left as it is" in capsys.readouterr().out
    with host.connection() as connection:
        assert connection.storagePoolLookupByName("there").name() == "there"


@pytest.mark.libvirt
def test_a_pool_that_somebody_made_is_used_where_it_fits_and_never_changed(
    host: Host,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs, ours = host.path("/srv/theirs"), host.path("/srv/ours")
    theirs.mkdir(parents=True)
    (theirs / "disk").write_bytes(b"precious")
    with host.connection() as connection:
        made = connection.storagePoolDefineXML(
            f"<pool type='dir'><name>guests</name><target><path>{theirs}</path></target></pool>"
        )
        made.create(0)
        before = (made.UUIDString(), made.XMLDesc(0))
    words = [*declare(tmp_path / "a", folder("guests", ours), folder("more", ours)), "--connect", host.uri]
    assert pools.main([*words, "apply"]) == Exit.failed
    said = capsys.readouterr()
    assert "There is a pool guests already, at another place." in said.err
    assert str(theirs) in said.err.replace("\n       ", "") and "volumes stay" in said.err
    assert "more: as declared" in said.out, "one that fails keeps no other from being made"
    with host.connection() as connection:
        found = connection.storagePoolLookupByName("guests")
        assert (found.UUIDString(), found.XMLDesc(0), found.isActive()) == (*before, 1)
    words = [*declare(tmp_path / "b", folder("guests", theirs)), "--connect", host.uri]
    assert pools.main([*words, "apply"]) == Exit.ok
    with host.connection() as connection:
        assert connection.storagePoolLookupByName("guests").UUIDString() == before[0]
        assert connection.storagePoolLookupByName("guests").autostart() == 1
    assert (theirs / "disk").read_bytes() == b"precious"


@pytest.mark.libvirt
def test_a_volume_group_that_is_not_there_is_named(
    host: Host,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool = LvmPool(name="fast", kind="lvm", volume_group="hv-none")
    words = [*declare(tmp_path / "a", pool), "--connect", host.uri]
    assert pools.main([*words, "apply"]) == Exit.failed
    said = capsys.readouterr().err
    assert "The pool fast (logical hv-none) could not be had." in said
    with host.connection() as connection:
        xml = connection.storagePoolLookupByName("fast").XMLDesc(0)
    assert found_target(xml) == target_of(pool), "libvirt kept what we meant"


@pytest.mark.root
def test_btrfs_folders_are_subvolumes_without_copy_on_write(btrfs: Path) -> None:
    said: list[str] = []
    one = folder("one", btrfs / "a/one", kind="btrfs")
    prepare(Path(one.path), one, run, said.append)
    assert not copies_on_write(Path(one.path))
    listed = subprocess.run(
        ("btrfs", "subvolume", "list", btrfs), check=True, capture_output=True, text=True
    ).stdout
    assert listed.rstrip().endswith("path a/one")
    (Path(one.path) / "disk").touch()
    flags = subprocess.run(
        ("lsattr", Path(one.path) / "disk"), check=True, capture_output=True, text=True
    ).stdout
    assert "C" in flags.split()[0], "as lsattr shows it"
    assert said == [f"one: files made in {one.path} are not copied on write"]
    prepare(Path(one.path), one, run, said.append)
    assert len(said) == 1

    back = folder("one", btrfs / "a/one", kind="btrfs", copy_on_write=True)
    prepare(Path(back.path), back, run, said.append)
    assert copies_on_write(Path(back.path))
    assert "1 files that are there already keep what they had" in said[-1]

    plain = folder("two", btrfs / "two")
    prepare(Path(plain.path), plain, run, said.append)
    assert not copies_on_write(Path(plain.path)), "a folder that happens to be on btrfs too"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_folders_can_be_passed_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    pool = folder("p", tmp_path / "a/b/p")
    before = os.umask(umask)
    try:
        prepare(Path(pool.path), pool, run, print)
    finally:
        os.umask(before)
    modes = [f"{(tmp_path / name).stat().st_mode & 0o777:o}" for name in ("a", "a/b", "a/b/p")]
    assert modes == ["755", "755", "711"]
    assert list(Path(pool.path).iterdir()) == []


@pytest.mark.root
def test_a_btrfs_pool_elsewhere_and_a_read_only_folder_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "ro"
    place.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "tmpfs", place), check=True)
    try:
        pool = folder("p", place / "p", kind="btrfs")
        with pytest.raises(HyperError, match="is not on btrfs") as caught:
            prepare(Path(pool.path), pool, run, print)
        assert "is on tmpfs" in caught.value.why
        subprocess.run(("mount", "-o", "remount,ro", place), check=True)
        with pytest.raises(HyperError, match="cannot be written to") as caught:
            prepare(place, folder("p", place), run, print)
        assert "Read-only file system" in caught.value.why
    finally:
        subprocess.run(("umount", place), check=True)


KINDS: list[tuple[Pool, Target]] = [
    (folder("a", Path("/srv/a")), Target("dir", "/srv/a")),
    (folder("b", Path("/srv/b"), kind="btrfs"), Target("dir", "/srv/b")),
    (LvmPool(name="c", kind="lvm", volume_group="vg0"), Target("logical", "vg0")),
    (ZfsPool(name="d", kind="zfs", dataset="tank/guests"), Target("zfs", "tank/guests")),
]


@pytest.mark.libvirt
@pytest.mark.parametrize(("pool", "target"), KINDS, ids=lambda value: getattr(value, "kind", None))
def test_each_definition_is_as_libvirt_wants_it(pool: Pool, target: Target, tmp_path: Path) -> None:
    path = tmp_path / "pool.xml"
    path.write_text(pool_xml(pool))
    subprocess.run(("virt-xml-validate", path, "storagepool"), check=True, capture_output=True)
    assert found_target(pool_xml(pool)) == target == target_of(pool)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"pools": [{"name": "a b", "kind": "dir", "path": "/a"}]}',
        '{"pools": [{"name": "a", "kind": "nfs", "path": "/a"}]}',
        '{"pools": [{"name": "a", "kind": "lvm", "path": "/a"}]}',
        '{"pools": [{"name": "a", "kind": "dir", "path": "a"}]}',
    ],
)
def test_damaged_declarations_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pools.json"
    path.write_text(text)
    with pytest.raises(HyperError, match=r"pools\.json cannot be read"):
        read_declared(path)
    with pytest.raises(HyperError, match="declares no storage pools"):
        read_declared(tmp_path / "none")
