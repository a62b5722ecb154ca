"""Which processors and how much memory are near which device (Documentation/admin-guide/cputopology.rst)."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One NUMA node; a machine without NUMA is one node, 0."""

    number: int
    """As the kernel counts."""
    cores: tuple[tuple[int, ...], ...]
    """The threads of each core, by their numbers; cores in the order of their first thread."""
    pages: tuple[tuple[int, int], ...]
    """Size in bytes and how many are free, of each size of huge pages; ascending."""


def read_topology(sysfs: Path) -> tuple[Node, ...]:
    """The nodes that have processors, ascending; from sysfs below the given folder."""
    nodes = sorted(sysfs.glob("devices/system/node/node[0-9]*"), key=lambda path: int(path.name[4:]))
    found = [_node(int(path.name[4:]), path, _numbers(path / "cpulist"), sysfs) for path in nodes]
    if not found:
        online = _numbers(sysfs / "devices/system/cpu/online")
        found = [_node(0, sysfs / "kernel/mm", online, sysfs)]
    return tuple(node for node in found if node.cores)


def _node(number: int, folder: Path, processors: tuple[int, ...], sysfs: Path) -> Node:
    cores: dict[tuple[int, ...], None] = {}
    for processor in processors:
        siblings = _numbers(sysfs / f"devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
        cores[tuple(each for each in siblings if each in processors) or (processor,)] = None
    pages = []
    for size in folder.glob("hugepages/hugepages-*kB"):
        free = (size / "free_hugepages").read_text().strip()
        pages.append((int(size.name.removeprefix("hugepages-").removesuffix("kB")) * 1024, int(free)))
    return Node(number, tuple(cores), tuple(sorted(pages)))


def _numbers(path: Path) -> tuple[int, ...]:
    """A list as the kernel prints it: `0-3,8,10-11` (Documentation/admin-guide/cputopology.rst); empty when unreadable."""
    try:
        text = path.read_text().strip()
    except OSError:
        return ()
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)
