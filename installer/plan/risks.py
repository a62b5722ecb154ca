"""What does not forbid a plan, and should be known before it is confirmed."""

from collections.abc import Iterator

from installer.answers.catalogue import TIERS
from installer.answers.model import Answers, Redundancy, TokenKind
from installer.answers.sizes import GIB, format_size, parse_size
from installer.answers.storage_shape import pool_redundancy, system_redundancy
from installer.facts import Facts
from installer.facts.common import Verdict
from installer.facts.cpu import VirtualizationState
from installer.facts.disks import Disk, Health, Transport
from installer.plan.chosen import Choice, Chosen, keeps
from installer.plan.enrolment import token_warnings
from installer.plan.layouts.ground import usable
from installer.plan.layouts.kept import Kept
from installer.plan.losses import volume_group_doubt
from installer.plan.storage import luks
from installer.plan.storage.array import PARITY, Array
from installer.plan.storage.btrfs import Btrfs
from installer.plan.storage.disk import disk_title
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.filesystem import Mounted
from installer.plan.storage.found import FoundDevice
from installer.plan.storage.gpt import Partition
from installer.plan.storage.in_place import InPlace
from installer.plan.storage.kept import KeptFilesystem, KeptPartition, SharedEsp
from installer.plan.storage.luks import Luks


def risks(
    facts: Facts,
    answers: Answers,
    choice: Choice,
    layout: Layout,
    kept: tuple[Kept | None, ...],
) -> Iterator[str]:
    """A sentence for each."""
    chosen, for_pool = choice.system, choice.pool
    others = [each for each in facts.disks if each not in [one.disk for one in choice.every]]
    for each in choice.every:
        yield from _disk_warnings(each, others)
    for element in layout.elements:
        if isinstance(element, FoundDevice):
            yield from _data_warnings(facts, element)
    if facts.firmware.secure_boot.verdict is Verdict.yes:
        yield "Secure Boot is on, and the boot loader is not signed: switch Secure Boot off before the first boot."
    if answers.boot.secure_boot and not answers.storage.encryption.enable:
        yield (
            "The keys for Secure Boot lie on a disk that is not encrypted: whoever takes it out can sign what this machine "
            "then starts."
        )
    if answers.boot.secure_boot and answers.storage.encryption.token in (TokenKind.tpm2, TokenKind.tpm2_pin):
        yield (
            "The TPM is bound to Secure Boot as it is at the first boot. Once it is switched on, the passphrase is asked for "
            "until the TPM is enrolled again; `hv secure-boot enrol` says how."
        )
    if not facts.memory.total:
        yield (
            f"How much memory this machine has cannot be read; the tier {answers.hypervisor.tier.value} is for "
            f"{format_size(TIERS[answers.hypervisor.tier].memory)} and more."
        )
    virtualization = facts.cpu.virtualization
    if virtualization.state not in (VirtualizationState.ready, VirtualizationState.nested_guest):
        evidence = "; ".join(virtualization.evidence)
        yield f"KVM cannot be used as it is: virtualization is {virtualization.state} ({evidence})."
    for each in chosen if layout.host().grub_devices else ():
        if each.disk.logical_sector != 512:
            yield f"{each.title} has sectors of {each.disk.logical_sector} bytes, from which most BIOSes cannot boot."
    yield from _beside_warnings(facts, answers, chosen, layout)
    yield from _encryption_warnings(facts, answers, layout)
    if answers.storage.swap.hibernate and answers.security.profile != "development":
        yield (
            f"The host hibernates in phase setup alone: hardened, with profile {answers.security.profile}, forbids it."
        )
    yield from token_warnings(facts, answers)
    yield from _joined_warnings(answers, chosen, for_pool, layout, kept)
    yield from _room_warnings(answers, layout)


def _data_warnings(facts: Facts, found: FoundDevice) -> Iterator[str]:
    """What is said of a disk that something is mounted from, and nothing written to."""
    known = (found.disk.serial, found.disk.wwn, found.disk.size)
    title = disk_title(found.disk)
    for disk in facts.disks:
        there = (disk.serial, disk.wwn, disk.size) == known
        if there and isinstance(disk.health, Health) and disk.health.failing:
            yield f"{title} reports that it is failing: {disk.health.summary}."


def _disk_warnings(chosen: Chosen, others: list[Disk]) -> Iterator[str]:
    disk, title = chosen.disk, chosen.title
    if isinstance(disk.health, Health) and disk.health.failing:
        yield f"{title} reports that it is failing: {disk.health.summary}."
    if doubt := volume_group_doubt(disk, others):
        yield f"{title} holds an LVM physical volume, and so does {doubt}: if they form one volume group, all of it is lost."
    if disk.removable or disk.transport is Transport.usb:
        yield f"{title} is removable or hangs on USB: the host stops when it is pulled."


def _beside_warnings(
    facts: Facts, answers: Answers, chosen: tuple[Chosen, ...], layout: Layout
) -> Iterator[str]:
    """What starting beside other systems brings along."""
    if not keeps(answers):
        return
    others = [each for each in facts.systems if any(each.disk == one.disk.name for one in chosen)]
    shared = any(isinstance(each, SharedEsp) for each in layout.elements)
    if others:
        names = ", ".join(dict.fromkeys(each.name for each in others))
        menu = "systemd-boot's menu offers it too" if shared else "the firmware's own menu offers it"
        yield f"{names} stays on the disk. The firmware starts this host first afterwards; {menu}."
    if any(each.name == "Windows" for each in others):
        yield (
            "Windows must be shut down, not asleep (fast start-up), and its BitLocker recovery key be at hand: a changed "
            "start order may make it ask for it."
        )
    if (
        others
        and answers.storage.swap.hibernate
        and any(isinstance(each, KeptFilesystem) for each in layout.elements)
    ):
        yield (
            "While this host hibernates, no other system may write to what it has mounted of the partitions that stay: on "
            "waking up it would go on with what it remembers of them."
        )


def _encryption_warnings(facts: Facts, answers: Answers, layout: Layout) -> Iterator[str]:
    encryption = answers.storage.encryption
    usual = min(luks.MOST_MEMORY, facts.memory.total // 2)
    memories = {
        element.memory for element in layout.elements if isinstance(element, Luks) and element.memory < usual
    }
    for memory in sorted(memories):
        yield (
            f"argon2id gets {format_size(memory)} of memory instead of {format_size(usual)}: "
            "guessing the passphrase is cheaper."
        )
    if encryption.enable and encryption.pbkdf_iterations:
        yield (
            f"argon2id is held to {encryption.pbkdf_iterations} iterations instead of what takes two seconds: "
            "for tests only."
        )


def _joined_warnings(
    answers: Answers,
    chosen: tuple[Chosen, ...],
    for_pool: tuple[Chosen, ...],
    layout: Layout,
    kept: tuple[Kept | None, ...],
) -> Iterator[str]:
    """What disks lose or risk by being joined."""
    storage = answers.storage
    kinds = [(chosen, system_redundancy(storage) if len(chosen) > 1 else Redundancy.none)]
    if for_pool:
        kinds.append((for_pool, pool_redundancy(storage) if len(for_pool) > 1 else Redundancy.none))
    rooms = {each.disk.name: each.room for each in kept if each}
    for disks, redundancy in kinds:
        sizes = {each.disk.name: rooms.get(each.disk.name, each.disk.size) for each in disks}
        smallest = min(sizes.values())
        for each in disks if redundancy is not Redundancy.none else ():
            if rest := (sizes[each.disk.name] - smallest) // GIB:
                if each.disk.name in rooms:
                    yield f"{each.title} has more free space than the others: {rest} GiB of it stay unused."
                else:
                    yield f"{each.title} is larger than the smallest beside it: {rest} GiB of it stay unused."
        if redundancy is Redundancy.none and len(disks) > 1:
            yield f"Nothing is mirrored: when one of {len(disks)} disks fails, all that they hold is lost."
    parity = sorted(
        {each.words() for each in layout.elements if isinstance(each, Array) and each.level in PARITY}
    )
    for words in parity:
        yield (
            f"Until {words} has its parity, which is computed in the background from when it is made (/proc/mdstat shows how "
            "far), no disk of it may fail: it would not come up."
        )
    for element in layout.elements:
        if isinstance(element, InPlace):
            below = layout[element.on]
            if isinstance(below, Btrfs) and below.redundancy is not Redundancy.none:
                yield (
                    f"Files in {element.path} are written in place and so have no checksums: after a disk was missing "
                    "for a while, copies can differ, and nothing tells which is right."
                )


def _room_warnings(answers: Answers, layout: Layout) -> Iterator[str]:
    guests = sum(parse_size(vm.disk_size) for vm in answers.first_run.vms if vm.disk_size)
    holders = [
        element
        for element in layout.elements
        if isinstance(element, Mounted)
        and any(mount.mountpoint in ("/", answers.first_run.pool) for mount in element.mounts)
    ]
    where = holders[-1]
    disks = layout.disks(where.key)
    size = sum(_sizes(layout, where))
    redundancy = Redundancy.none
    if len(disks) > 1:
        pool = where is not holders[0]
        redundancy = pool_redundancy(answers.storage) if pool else system_redundancy(answers.storage)
    room = usable(size // len(disks), len(disks), redundancy)
    if guests > room:
        name = "root" if where is holders[0] else "pool"
        yield f"the VMs' disks may grow to {format_size(guests)}, the {name} has {format_size(room)}."


def _sizes(layout: Layout, element: Element) -> Iterator[int]:
    """Bytes of each partition that an element stands on."""
    match element:
        case Partition():
            yield element.size
        case KeptPartition():
            yield element.found.size
        case FoundDevice():
            yield element.size
        case _:
            for key in element.below():
                yield from _sizes(layout, layout[key])
