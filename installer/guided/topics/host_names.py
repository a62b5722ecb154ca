"""Hosts of ours that are on disks, by the names of their partitions."""

from collections.abc import Iterator, Sequence

from installer.facts.disks import Disk

SUFFIXES = ("-esp", "-bios", "-root")
"""What the names of a host's partitions end in, behind its own."""


def host_on(disks: Sequence[Disk]) -> str | None:
    """Name of the host whose partitions are on every one of the disks; none: there is not one."""
    names = [set(names_on(disk)) for disk in disks]
    common = set.intersection(*names) if names else set()
    return min(common, default=None)


def names_on(disk: Disk) -> Iterator[str]:
    """Names of the hosts that have a partition on it, each as often as it has one."""
    for partition in disk.partitions:
        for suffix in SUFFIXES:
            label = partition.label or ""
            # Of several disks each partition has a number behind that: name-root-2.
            head, found, rest = label.rpartition(suffix)
            if found and head and not rest.strip("-0123456789"):
                yield head
