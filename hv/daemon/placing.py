"""Where guests run: processors of the host, a NUMA node, huge pages; chosen by the host's topology as libvirt tells it.

The processors and huge pages of a host are few, and one guest's are another's no more: so this takes the permission for
the host's devices.
"""

from dataclasses import dataclass
from typing import Any

from hv.daemon.guests import definition, domain_of
from hv.daemon.limits import size
from hv.daemon.operations import Work
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission, decide
from hv.libvirt_python import libvirt_module
from hv.passthrough.placement import place
from hv.passthrough.topology import Node
from hv.vm.domain import Element, Placed, parsed
from hv.vm.spec import Placement

SMALLEST = 1 << 21
"""Bytes of the smallest page that counts as huge."""


@dataclass(frozen=True)
class Machine:
    """What guests can be placed on."""

    nodes: tuple[Node, ...]
    memory: dict[int, int]
    """Bytes of each node."""
    pinned: dict[int, str]
    """Processors that another guest is pinned to, and which."""

    @property
    def processors(self) -> dict[int, int]:
        """Node of each."""
        return {cpu: node.number for node in self.nodes for core in node.cores for cpu in core}


@dataclass(frozen=True)
class Wanted:
    """A guest that is to be placed."""

    vcpus: int
    """At most."""
    memory: int
    """Bytes, at most."""
    near: int | None = None
    """Node of its devices."""
    held: int = 0
    """Bytes of huge pages that it has now, and would have again."""


def placed(work: Work, placement: Placement, wanted: Wanted) -> tuple[Placed, list[str]]:
    """Where exactly, and that in words. Raises RefusedError."""
    decision = decide(work.caller, Permission.devices, None, "the host's processors and huge pages")
    if not decision.allowed:
        raise RefusedError(
            "denied",
            Status.denied,
            "You may not say where on the host a VM runs.",
            why=decision.why,
            remedy=f"{decision.remedy} Or leave --pin, --node and --hugepages out.",
            permission="devices",
            object="the host's processors and huge pages",
        )
    return chosen(placement, machine(work.connection, work.uuid), wanted)


def machine(connection: Any, uuid: str) -> Machine:
    """The host; `uuid`: the guest whose own pins do not count."""
    cells = parsed(connection.getCapabilities()).findall("host/topology/cells/cell")
    nodes, memory = [], {}
    for cell in cells:
        number = int(cell.get("id", "0"))
        memory[number] = int(cell.findtext("memory") or 0) * 1024
        cores = dict.fromkeys(
            _numbers(cpu.get("siblings") or cpu.get("id") or "") for cpu in cell.iterfind("cpus/cpu")
        )
        sizes = [int(each.get("size", "0")) for each in cell.iterfind("pages")]
        huge = [each for each in sizes if each * 1024 >= SMALLEST]
        free = connection.getFreePages(huge, number, 1, 0).get(number, {}) if huge else {}
        pages = tuple(sorted((int(each) * 1024, int(count)) for each, count in free.items()))
        if cores:
            nodes.append(Node(number, tuple(sorted(cores)), pages))
    pinned: dict[int, str] = {}
    for domain in connection.listAllDomains(0):
        if domain.UUIDString() != uuid:
            root = definition(domain)
            for pin in root.iterfind("cputune/vcpupin"):
                pinned |= dict.fromkeys(_numbers(pin.get("cpuset", "")), domain.name())
    return Machine(tuple(nodes), memory, pinned)


def _numbers(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in filter(None, text.split(",")):
        if part[0] != "^":
            first, _, last = part.partition("-")
            found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


def chosen(placement: Placement, there: Machine, wanted: Wanted) -> tuple[Placed, list[str]]:
    """Where exactly, and that in words. Raises RefusedError with the reason why it does not go."""
    if placement.node is not None and placement.node not in there.memory:
        raise _refusal(
            f"The host has no NUMA node {placement.node}.",
            f"it has {_nodes(there)}",
            "Name one of these (--node), or none.",
        )
    node = placement.node
    cpus: tuple[int, ...] = ()
    emulator: tuple[int, ...] = ()
    lines: list[str] = []
    if placement.cpus:
        cpus, lines = _named(placement, there, wanted)
    elif placement.pin:
        node, cpus = _free(placement, there, wanted)
    if cpus:
        homes = {there.processors[cpu] for cpu in cpus}
        if node is None and len(homes) == 1 and len(there.nodes) > 1:
            node = homes.pop()
        near = [cpu for cpu, home in there.processors.items() if node is None or home == node]
        emulator = tuple(cpu for cpu in sorted(near) if cpu not in cpus and cpu not in there.pinned)
        own = f", QEMU's own threads to {ranges(emulator)}" if emulator else ""
        lines.insert(0, f"processors pinned to {ranges(cpus)} of the host{own}")
    if node is not None:
        if there.memory[node] < wanted.memory:
            raise _refusal(
                f"Its memory does not fit into NUMA node {node}.",
                f"the node has {size(there.memory[node])}, it wants {size(wanted.memory)}",
                "Give it less, name another node, or none: then it comes from all of them.",
            )
        lines.append(f"memory from NUMA node {node}")
    page = _page(there, wanted, node) if placement.hugepages else None
    if page:
        lines.append(f"memory in huge pages of {size(page)}")
    return Placed(node, cpus, emulator, page), lines


def _named(placement: Placement, there: Machine, wanted: Wanted) -> tuple[tuple[int, ...], list[str]]:
    cpus = placement.cpus
    strange = [cpu for cpu in cpus if cpu not in there.processors]
    if strange:
        raise _refusal(
            f"The host has no processor {ranges(tuple(strange))}.",
            f"it has {_nodes(there)}",
            "Name others (--pin 2-3), or let it be chosen (--pin).",
        )
    if len(cpus) != wanted.vcpus or len(set(cpus)) != len(cpus):
        raise _refusal(
            "Each processor of the VM is pinned to one of the host's.",
            f"it has {wanted.vcpus} at most, and {len(set(cpus))} different ones are named: {ranges(cpus)}",
            f"Name {wanted.vcpus} (--pin), or let them be chosen.",
        )
    away = [cpu for cpu in cpus if placement.node not in (None, there.processors[cpu])]
    if away:
        raise _refusal(
            f"Processor {away[0]} is not of NUMA node {placement.node}.",
            f"the host has {_nodes(there)}",
            "Name processors of that node, or leave --node out.",
        )
    shared = [f"{cpu} ({there.pinned[cpu]})" for cpu in cpus if cpu in there.pinned]
    return cpus, [f"note: other VMs are pinned there too: {', '.join(shared)}"] if shared else []


def _free(placement: Placement, there: Machine, wanted: Wanted) -> tuple[int | None, tuple[int, ...]]:
    """Whole cores of one node that no other guest has: of the devices' node, else of that with the most."""
    free = {
        node.number: Node(
            node.number,
            tuple(core for core in node.cores if not set(core) & set(there.pinned)),
            node.pages,
        )
        for node in there.nodes
    }
    first = there.nodes[0]
    kept = first.cores[0] if len(first.cores) > 1 else None  # the host's own: it answers interrupts there
    if kept is not None and kept not in free[first.number].cores:
        kept = None
    room = {number: sum(len(core) for core in node.cores if core != kept) for number, node in free.items()}
    order = sorted(room, key=lambda number: (number != wanted.near, -room[number], number))
    for number in [placement.node] if placement.node is not None else order:
        if room.get(number, 0) < wanted.vcpus:
            continue
        # The first of the nodes is where the machine's first core is kept out.
        nodes = (free[number],) if kept in free[number].cores else (Node(-1, ((-1,),), ()), free[number])
        found = place(nodes, near=number, vcpus=wanted.vcpus, memory=wanted.memory)
        if found.cpus:
            return (number if len(there.nodes) > 1 else placement.node), found.cpus
    told = ", ".join(f"node {number} has {count}" for number, count in room.items())
    taken = sorted(set(there.pinned.values()))
    raise _refusal(
        f"There are no {wanted.vcpus} processors of one NUMA node to pin it to.",
        f"free: {told}; the machine's first core stays the host's"
        + (f", and these VMs have others: {', '.join(taken)}" if taken else ""),
        "Give it fewer processors, name them yourself (--pin 2-3), or do not pin it.",
    )


def _page(there: Machine, wanted: Wanted, node: int | None) -> int:
    """Size of the huge pages that its memory comes in: the largest that it fits into."""
    counts: dict[int, int] = {}
    for each in there.nodes:
        if node in (None, each.number):
            for page, count in each.pages:
                counts[page] = counts.get(page, 0) + count
    fits = [
        page
        for page, count in counts.items()
        if count * page + wanted.held >= wanted.memory and wanted.memory % page == 0
    ]
    if fits:
        return max(fits)
    free = ", ".join(f"{count} of {size(page)}" for page, count in sorted(counts.items())) or "none"
    where = "" if node is None else f" on NUMA node {node}"
    raise _refusal(
        "There are not enough huge pages for its memory.",
        f"it wants {size(wanted.memory)}; free{where}: {free}",
        "An administrator reserves them at boot (hypervisor.memory.hugepages); its memory is a multiple of their size.",
    )


def _refusal(what: str, why: str, remedy: str) -> RefusedError:
    return RefusedError("cannot-place", Status.invalid, what, why=why, remedy=remedy)


def _nodes(there: Machine) -> str:
    return "; ".join(
        f"node {node.number} with processors {ranges(tuple(cpu for core in node.cores for cpu in core))} and {size(there.memory[node.number])}"
        for node in there.nodes
    )


def ranges(numbers: tuple[int, ...]) -> str:
    """As people write them: 0-3,8."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def near_of(connection: Any, root: Element) -> int | None:
    """The NUMA node of a guest's PCI devices, of the first that has one."""
    libvirt = libvirt_module()
    for place_ in root.iterfind("devices/hostdev[@type='pci']/source/address"):
        parts = [int(place_.get(name, "0"), 16) for name in ("domain", "bus", "slot", "function")]
        try:
            device = connection.nodeDeviceLookupByName("pci_{:04x}_{:02x}_{:02x}_{:x}".format(*parts))
        except libvirt.libvirtError:
            continue
        numa = parsed(device.XMLDesc(0)).find("capability/numa")
        if numa is not None:
            return int(numa.get("node", "0"))
    return None


def held_by(work: Work) -> int:
    """Bytes of huge pages that a running guest has."""
    domain = domain_of(work.connection, work.uuid)
    if not domain.isActive():
        return 0
    root = parsed(domain.XMLDesc(0))
    return int(domain.maxMemory()) * 1024 if root.find("memoryBacking/hugepages") is not None else 0
