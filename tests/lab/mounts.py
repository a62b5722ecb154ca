"""The mount tree of a booted host, compared with the plan it was installed by."""

import json
from collections.abc import Iterator
from typing import Any

from installer.plan.model import HostFilesystem, HostStorage

LOOK = (
    "findmnt --json --list --real --output TARGET,SOURCE,FSTYPE,OPTIONS,UUID; echo; "
    "cat /proc/swaps; echo; for path in {devices}; do readlink --canonicalize-existing $path || echo missing $path; done"
)
"""For the host's shell; what it prints are three parts with an empty line between."""
POOLS = "; echo; zpool list -H -o name,health; zfs list -H -o name"
"""And a fourth, of a host that uses ZFS."""
_NOT_OURS = frozenset(("fuse.portal", "nsfs", "rpc_pipefs"))


def command(host: HostStorage) -> str:
    """What is to be run on the host."""
    return LOOK.format(devices=" ".join(devices(host))) + (POOLS if host.zfs else "")


def devices(host: HostStorage) -> tuple[str, ...]:
    """Every device path that the host's configuration names."""
    found = (
        *(each.device for each in host.filesystems),
        *(each.device for each in host.luks),
        *(each.device for each in host.key_luks),
        *host.swap_devices,
        *(f"/dev/disk/by-id/md-uuid-{each.uuid}" for each in host.arrays),
    )
    return tuple(dict.fromkeys(path for path in found if path.startswith("/dev/")))


def differences(host: HostStorage, seen: str) -> Iterator[str]:
    """What is not as it was planned, a sentence each; none: the mount tree is the plan's."""
    tree, swaps, paths, *pools = seen.replace("\r", "").split("\n\n", 3)
    mounts = {each["target"]: each for each in json.loads(tree)["filesystems"]}
    planned = {each.mountpoint: each for each in host.filesystems}
    for place in sorted(planned.keys() - mounts.keys()):
        yield f"{place} is not mounted"
    for place, mount in mounts.items():
        if place in planned:
            yield from _wrong(planned[place], mount)
        elif (
            (mount["source"].startswith("/dev/") or mount["fstype"] == "zfs")
            and mount["fstype"] not in _NOT_OURS
            and not _bound(mount, mounts)
        ):
            yield f"{mount['source']} is mounted at {place}, which nobody planned"
    active = len(swaps.strip().splitlines()) - 1
    wanted = (
        len(host.swap_devices)
        + len(host.random_swap_devices)
        + len(host.swap_files)
        + bool(host.zram_percent)
    )
    if active != wanted:
        yield f"{wanted} swap devices were planned, {active} are active"
    yield from (line for line in paths.splitlines() if line.startswith("missing "))
    if host.zfs:
        yield from _pools(host, pools[0] if pools else "")


def _pools(host: HostStorage, seen: str) -> Iterator[str]:
    """Each pool is up and whole, and no other; each dataset is one that is mounted."""
    lines = [line.split("\t") for line in seen.splitlines() if line]
    found = {line[0]: line[1] for line in lines if len(line) > 1}
    wanted = {*(host.zfs.pools if host.zfs else ())}
    for name in sorted(found.keys() ^ wanted):
        yield f"the pool {name} is not up" if name in wanted else f"{name} is up, which nobody planned"
    for name in sorted(found.keys() & wanted):
        if found[name] != "ONLINE":
            yield f"the pool {name} is {found[name]}"
    datasets = {line[0] for line in lines if len(line) == 1 and "/" in line[0]}
    planned = {each.device for each in host.filesystems if each.kind == "zfs"}
    for name in sorted(datasets ^ planned):
        yield f"the dataset {name} is {'not there' if name in planned else 'not planned'}"


def _bound(mount: dict[str, Any], mounts: dict[str, dict[str, Any]]) -> bool:
    """Whether it shows a folder of what is mounted anyway, as NixOS does with /nix/store."""
    device = mount["source"].partition("[")[0]
    return "[" in mount["source"] and any(
        other is not mount and other["source"].partition("[")[0] == device for other in mounts.values()
    )


def _wrong(wanted: HostFilesystem, mount: dict[str, Any]) -> Iterator[str]:
    if mount["fstype"] != wanted.kind:
        yield f"{wanted.mountpoint} is {mount['fstype']}, {wanted.kind} was planned"
    if wanted.kind == "zfs" and mount["source"] != wanted.device:
        yield f"{wanted.mountpoint} is {mount['source']}, {wanted.device} was planned"
    options = mount["options"].split(",")
    for option in wanted.options:
        if option.startswith("subvol=") and option not in options:
            yield f"{wanted.mountpoint} is not mounted with {option}: {mount['options']}"
    uuid = wanted.device.removeprefix("/dev/disk/by-uuid/")
    if uuid != wanted.device and (mount["uuid"] or "").lower() != uuid.lower():
        yield f"{wanted.mountpoint} has the UUID {mount['uuid']}, {uuid} was planned"
