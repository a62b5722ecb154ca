"""Where a guest with a device should run: processors of the device's NUMA node, whole cores, huge pages that are free there.

The first core of the machine stays with the host, which answers its interrupts there unless told otherwise.
"""

from dataclasses import dataclass

from hv.passthrough.topology import Node


@dataclass(frozen=True)
class Placement:
    """A proposal for one guest."""

    node: int
    """NUMA node for its memory."""
    cpus: tuple[int, ...]
    """The host's processor for each of the guest's, in order; threads of one core stay neighbours."""
    emulator: tuple[int, ...]
    """Processors for QEMU's own threads: those that the guest has not."""
    page_size: int | None
    """Bytes of the huge pages that its memory fits into now; none when no size has enough free ones."""
    threads: int
    """Threads a core that the guest should see."""
    notes: tuple[str, ...]
    """What the proposal could not give, and what would."""


def place(nodes: tuple[Node, ...], *, near: int | None, vcpus: int, memory: int) -> Placement:
    """Propose.

    Args:
        nodes: The machine's.
        near: The device's node; None where the firmware does not say.
        vcpus: How many processors the guest has.
        memory: Bytes the guest has.
    """
    first = nodes[0]
    node = next((each for each in nodes if each.number == near), first)
    notes = []
    if near is not None and node.number != near:
        notes.append(f"node {near}, where the device is, has no processors: node {node.number} is proposed")
    free = node.cores[1:] if node is first and len(node.cores) > 1 else node.cores
    threads = min((len(core) for core in free), default=1)
    cpus: list[int] = []
    for core in free:
        if len(cpus) + len(core) > vcpus and threads > 1 and len(cpus) < vcpus:
            cpus.extend(core[: vcpus - len(cpus)])
        elif len(cpus) < vcpus:
            cpus.extend(core)
    if len(cpus) < vcpus:
        notes.append(
            f"node {node.number} has {len(cpus)} processors to spare, the guest has {vcpus}: the guest's processors "
            "are not pinned; give it fewer"
        )
        cpus = []
    others = tuple(cpu for core in node.cores for cpu in core if cpu not in cpus)
    page = next((size for size, count in reversed(node.pages) if count * size >= memory), None)
    if page is None:
        sizes = ", ".join(f"{size >> 20} MiB" for size, _ in node.pages) or "none"
        notes.append(
            f"no size of huge pages ({sizes}) has enough free ones on node {node.number} for "
            f"{memory >> 20} MiB: reserve them with hypervisor.memory.hugepages, at boot"
        )
    if cpus and vcpus % threads:
        threads = 1
    return Placement(node.number, tuple(cpus), others, page, threads if cpus else 1, tuple(notes))
