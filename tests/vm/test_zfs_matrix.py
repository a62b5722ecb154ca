"""ZFS: the real installer on real pools in the live system, whose kernel gets the module for it; `make test-matrix`.

Debian has that module as source alone: building it takes a quarter of an hour, once (tests/lab/zfs.py).
"""

import re
from collections.abc import Callable
from typing import Any

import pytest

from installer.errors import Exit
from tests.trial.faults import must_fail
from tests.trial.kills import kill_at_every_step, new_kinds
from tests.trial.layouts import FIRST, LUKS_BTRFS, MD_LVM, SECOND, Layout
from tests.trial.payload import draft_of
from tests.trial.site import Run, Session, Site
from tests.trial.zfs import (
    BESIDE,
    CLEAR,
    LAYOUTS,
    LET_GO,
    LUKS,
    MIRROR,
    OLD,
    OLD_IS_WELL,
    OVER_BOTH,
    RAIDZ1,
    look,
)

pytestmark = [pytest.mark.matrix, pytest.mark.nix, pytest.mark.root]
PROPERTIES = {
    "ashift": "12",
    "autotrim": "on",
    "acltype": "posix",
    "xattr": "on",  # what `sa` is called since 2.3
    "atime": "off",
    "compression": "lz4",
    "canmount": "off",
    "mountpoint": "none",
}
JOINS = {
    "zfs-mirror": ["mirror-0"],
    "zfs-raidz2": ["raidz2-0"],
    "zfs-raidz1": ["raidz1-0"],
    "zfs-pairs": ["mirror-0", "mirror-1"],
    "zfs-luks": ["mirror-0"],
    "zfs-guests": ["mirror-0"],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A machine for every layout."""
    return Site(tmp_path_factory.mktemp("zfs"), LAYOUTS, zfs=True)


def pool_of(site: Site, layout: Layout) -> tuple[str, str]:
    """Name of the layout's pool, and where the host looks for its devices."""
    assert site.facts
    zfs = draft_of(site.facts, layout).host.zfs
    assert zfs
    (name,) = zfs.pools
    return name, zfs.nodes


def done(run: Run) -> None:
    """It came to its end, and left no pool up."""
    assert run.status == Exit.ok, run.text
    assert run.finished


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_zfs_installed_and_installed_over(
    session: Session, site: Site, layout: Layout, record_property: Callable[[str, object], None]
) -> None:
    """From blank disks; read back; over itself, at rest; refused while the pool is up, mounted or idle."""
    name, nodes = pool_of(site, layout)
    session.shell(CLEAR, measured=30)
    done(session.install(layout, "--fresh"))
    looked = session.shell(opened(layout, look(name, nodes, _files(layout, name))), measured=30)
    told = dict(line.split("\t") for line in looked.splitlines() if line.count("\t") == 1)
    assert {key: told[key] for key in PROPERTIES} == PROPERTIES, looked
    assert re.findall(r"\b(?:mirror|raidz\d)-\d\b", looked) == JOINS[layout.name], looked
    _datasets(layout, name, looked)
    again = session.install(layout, "--fresh")
    done(again)
    place = f"mount -t zfs {name}/{'vms' if layout is BESIDE else 'root'} /run/trial/root"
    session.shell(opened(layout, f"zpool import -N -d {nodes} {name}; {place}", close=False), measured=20)
    refused = session.install(layout, "--fresh")
    must_fail(refused, Exit.busy, ("must not be touched", "is mounted at /run/trial/root"))
    session.shell(f"findmnt /run/trial/root && umount /run/trial/root && zpool status {name}", measured=10)
    # As after a restart: nothing tells whose the pool is, and it is idle.
    session.shell("rm -rf /run/hyper-nixos/install")
    refused = session.install(layout)
    assert not refused.events, "a refusal writes nothing"
    must_fail(refused, Exit.busy, ("must not be touched", f"part of zfs member {name}", "export"))
    session.shell(f"zpool status {name}", measured=10)
    record_property(
        "proved", f"over itself in {again.seconds:.0f} s, refused while it was mounted and while it was up"
    )


def opened(layout: Layout, script: str, *, close: bool = True) -> str:
    """Shell: the script with the layout's encrypted partitions open."""
    if layout is not LUKS:
        return script
    lines = ["set -eu"]
    for number, serial in enumerate(layout.disks, 1):
        device = f"$(blkid -t TYPE=crypto_LUKS -o device $(ls /dev/disk/by-id/*{serial}-part? | head -n 9) | head -n 1)"
        lines.append(f"cryptsetup open --key-file /run/trial/key {device} cryptroot-{number}")
    ends = [f"cryptsetup close cryptroot-{number}" for number, _ in enumerate(layout.disks, 1)]
    key = "head -c -1 /run/secrets/passphrase >/run/trial/key"
    return "\n".join([key, *lines, script, *(ends if close else ())])


def _files(layout: Layout, name: str) -> str:
    """Shell: what the installed host has where."""
    if layout is BESIDE:
        return ""
    return f"""mount -t zfs {name}/root /run/trial/root
ls /run/trial/root/var/log/hyper-nixos/plan.json
mount -t zfs {name}/nix /run/trial/root/nix
ls -d /run/trial/root/nix/store/*-nixos-system-tiny
umount -R /run/trial/root"""


def _datasets(layout: Layout, name: str, looked: str) -> None:
    lines = [line.split("\t") for line in looked.splitlines() if line.startswith(f"{name}/")]
    found = {each[0].removeprefix(f"{name}/"): each[1:] for each in lines if len(each) == 4}
    wanted = {} if layout is BESIDE else {key: ["legacy", "noauto", "128K"] for key in ("root", "nix")}
    if "[storage.pool]" in layout.storage:
        size = "128K" if "128KiB" in layout.storage else "64K"
        wanted["vms"] = ["legacy", "noauto", size]
    assert found == wanted, looked


@pytest.mark.parametrize("layout", [MIRROR, LUKS, BESIDE], ids=lambda layout: layout.name)
def test_zfs_killed_at_every_moment_of_its_own_steps(
    session: Session, site: Site, layout: Layout, record_property: Callable[[str, object], None]
) -> None:
    """The pool's making, its coming up, its datasets' mounts, its export."""
    assert site.facts
    before = (LUKS_BTRFS, MD_LVM, *{MIRROR: (), LUKS: (MIRROR,), BESIDE: (MIRROR,)}[layout])
    only = new_kinds(site.facts, layout, before)
    session.shell(CLEAR, measured=30)
    kills = kill_at_every_step(session, layout, every_moment=True, only=only)
    assert len(kills.reached) == kills.wanted
    assert session.shell("zpool list -H -o name", measured=10) == ""
    record_property("proved", f"{kills}; killed in {', '.join(sorted(only)) or 'none'}")


def test_zfs_given_up_it_comes_back_to_the_byte(session: Session, site: Site) -> None:
    """Two disks with a pool on them, killed at three stages before the new pool is made."""
    session.shell(CLEAR, measured=30)
    session.shell(OLD, measured=60)
    before = {serial: session.running.copy(serial, "before") for serial in MIRROR.disks}
    moments: tuple[dict[str, Any], ...] = (
        {"event": ("wipe-partitions-main-1", "done")},
        {"event": ("wipe-main-2", "done")},
        # The first new partition that is wiped, of whichever disk: no lane has made a file system yet.
        {"line": r"wipefs .*-part3"},
    )
    for number, die in enumerate(moments):
        killed = session.install(MIRROR, "--fresh", die=die)
        assert killed.status == -9, killed.text
        spoilt = {serial: session.running.copy(serial, f"spoilt-{number}") for serial in MIRROR.disks}
        assert not all(site.same(before[serial], spoilt[serial]) for serial in MIRROR.disks)
        given_up = session.hv("install", "--abort")
        assert given_up.status == Exit.ok, given_up.text
        assert "as they were before, to the byte" in " ".join(given_up.text.split())
        session.shell("udevadm settle; sync", measured=10)
        for serial in MIRROR.disks:
            assert site.same(before[serial], session.running.copy(serial, f"after-{number}")), (die, serial)
    session.shell(OLD_IS_WELL, measured=60)
    done(session.install(MIRROR, "--fresh"))
    assert session.shell("zpool import", measured=20).count("pool: ") == 1, (
        "what was there before is still found"
    )


@pytest.mark.parametrize("state", ["imported", "exported"])
def test_zfs_that_reaches_another_disk_is_refused(session: Session, site: Site, state: str) -> None:
    """A pool over two disks, one of which was chosen. Not one byte of either changes."""
    session.shell(CLEAR, measured=30)
    session.shell(OVER_BOTH, measured=30)
    try:
        if state == "exported":
            session.shell(LET_GO, measured=10)
        else:
            # ZFS notes by itself now and then which transactions it has written.
            session.shell("zpool sync both", measured=10)
        before = None
        if state == "exported":
            before = {each: session.running.copy(each, f"zfs-{state}-before") for each in (FIRST, SECOND)}
        chosen = Layout("plain", (FIRST,), 'filesystem = "ext4"\nswap = { kind = "none" }\n')
        session.agent.write("/run/trial/plain.toml", chosen.answers().replace('"plain"', f'"{RAIDZ1.name}"'))
        refused = session.hv("install", "--answers", "/run/trial/plain.toml", "--fresh", measured=90)
        said = must_fail(refused, Exit.busy, ("reaches beyond what was chosen", f"serial {SECOND}", "both"))
        assert not refused.events, "a refusal writes nothing"
        assert ("active" in said or "part of" in said) == (state == "imported"), said
        for serial in before or ():
            assert site.same(before[serial], session.running.copy(serial, "zfs-after")), serial  # type: ignore[index]
        if state == "imported":
            session.shell("zpool scrub -w both; zpool status -x both | grep healthy", measured=20)
    finally:
        session.shell(CLEAR, measured=30)


AGAIN = MIRROR.answers().replace(
    'destroy = "matched"', 'destroy = "matched"\nexisting = "reinstall"\nkeep = ["/home"]'
)
IMAGES = "var/lib/libvirt/images"
KEPT = (f"{IMAGES}/guest.raw", "home/notes")
LIVED = """set -eu
zgenhostid -f {host_id}
zpool import -N -d /dev/disk/by-id {pool}
mkdir -p /run/trial/root
mount -t zfs {pool}/root /run/trial/root
mount -t zfs {pool}/nix /run/trial/root/nix
mount -t zfs {pool}/vms /run/trial/root/{images}
cd /run/trial/root
mkdir -p home srv
for each in {kept} srv/old; do head -c 3000000 /dev/urandom >$each; done
sha256sum {kept}
sync"""
"""Shell: a host that is up, as far as ZFS can tell, and writes."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A machine of its own: its plug is pulled, and its disks are."""
    made = Site(tmp_path_factory.mktemp("zfs-cuts"), (MIRROR,), zfs=True)
    with made.live("first"):
        pass
    return made


def lived_in(ground: Site) -> str:
    """The host installed and used, then the plug pulled: its pool is not exported. Hashes of what must stay."""
    assert ground.facts
    plan = draft_of(ground.facts, MIRROR)
    pool, _ = pool_of(ground, MIRROR)
    ground.blank()
    with ground.restored("installed") as session:
        done(session.install(MIRROR, "--fresh"))
        script = LIVED.format(host_id=plan.host_id, pool=pool, images=IMAGES, kept=" ".join(KEPT))
        return session.shell(script, measured=30).strip()


def _sums(session: Session, root: str) -> str:
    return session.shell(f"cd {root}; sha256sum {' '.join(KEPT)}", measured=20).strip()


def test_zfs_rescued_and_installed_anew(
    ground: Site, record_property: Callable[[str, object], None]
) -> None:
    """A host whose plug was pulled: found, mounted by its plan whole and without either disk, then installed anew with its
    guests' dataset kept. ZFS takes such a pool for another system's until it is told better.
    """
    before = lived_in(ground)
    pool, _ = pool_of(ground, MIRROR)
    with ground.restored("rescue") as session:
        foreign = session.agent.shell(f"zpool import -N -d /dev/disk/by-id {pool}", measured=20)
        assert foreign.code != 0, "it was exported"
        assert "another system" in foreign.text, foreign.text
        listed = session.hv("rescue", "list")
        assert "zfs-mirror: zfs_member" in listed.text, listed.text
        mounted = session.hv("rescue", "mount", measured=60)
        assert mounted.status == Exit.ok, mounted.text
        assert "is mounted at /mnt" in mounted.text, mounted.text
        assert _sums(session, "/mnt") == before
        again = session.hv("rescue", "mount", measured=60)
        assert again.status == Exit.ok, again.text
        let_go = session.hv("rescue", "unmount", measured=60)
        assert let_go.status == Exit.ok, let_go.text
        assert session.shell("zpool list -H -o name; findmnt -rn -o TARGET | grep ^/mnt || true") == ""
    before = lived_in(ground)
    for gone in MIRROR.disks:
        with ground.restored(f"rescue-without-{gone}") as session:
            session.running.unplug_disk(gone)
            session.shell(
                f"until ! ls /dev/disk/by-id/*{gone} 2>/dev/null; do udevadm settle; done", measured=20
            )
            refused = session.hv("rescue", "mount", measured=60)
            said = must_fail(refused, Exit.selection, ("is missing", "--degraded"))
            assert session.shell("zpool list -H -o name") == "", said
            mounted = session.hv("rescue", "mount", "--degraded", measured=60)
            assert mounted.status == Exit.ok, mounted.text
            assert _sums(session, "/mnt") == before
            assert session.shell("zpool list -H -o health").strip() == "DEGRADED"
            let_go = session.hv("rescue", "unmount", measured=60)
            assert let_go.status == Exit.ok, let_go.text
            assert session.shell("zpool list -H -o name") == ""
        before = lived_in(ground)
    with ground.restored("again") as session:
        session.agent.write("/run/trial/again.toml", AGAIN)
        words = ("install", "--answers", "/run/trial/again.toml", "--progress", "plain")
        run = session.hv(*words, measured=120)
        done(run)
        looked = session.shell(
            look(
                pool,
                more=f"mount -t zfs {pool}/root /run/trial/root; mount -t zfs {pool}/vms /run/trial/root/{IMAGES}\n"
                f"cd /run/trial/root; sha256sum {' '.join(KEPT)}; ls -d srv/old || true; cd /; umount -R /run/trial/root",
            ),
            measured=30,
        )
        assert before in looked, looked
        assert "srv/old\n" not in looked, looked
        record_property("proved", f"installed anew in {run.seconds:.0f} s; what was kept is what it was")
