"""From facts, answers and medium to a plan: pure, so that the same three always give the same plan, byte for byte."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from re import fullmatch
from typing import Literal

from installer.answers.catalogue import TIERS
from installer.answers.model import Answers, ExistingKind, Redundancy, TokenKind
from installer.answers.presets import proposed
from installer.answers.select import select_disks, title
from installer.answers.sizes import GIB, format_size, parse_size
from installer.answers.storage_shape import luks_devices, pool_redundancy, system_redundancy
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Verdict
from installer.facts.cpu import VirtualizationState
from installer.facts.disks import Disk, Health, Transport
from installer.handoff import Expectations, GrowRoot, Handoff
from installer.medium import Medium
from installer.plan.canonical import canonical_json
from installer.plan.checks import BootProof
from installer.plan.enrolment import enrolment, token_warnings
from installer.plan.identity import identify, shared_names
from installer.plan.initrd import controller_modules, root_modules
from installer.plan.installation import (
    Installation,
    certificate_steps,
    handoff_vms,
    handoff_webhooks,
    hook_steps,
    images_to_copy,
)
from installer.plan.layouts.asleep import require_awake
from installer.plan.layouts.data_mounts import found_elements, lines, require_not_own, with_found
from installer.plan.layouts.fates import Fates, fates
from installer.plan.layouts.found import adopted, kept_paths, taken_over
from installer.plan.layouts.ground import Ground, usable
from installer.plan.layouts.kept import (
    Kept,
    beside_again,
    is_blank,
    keep,
    kept_losses,
    require_no_twin,
    require_one_root,
)
from installer.plan.layouts.system import system
from installer.plan.losses import (
    holding,
    losses,
    picture,
    require_name_free,
    volume_group_doubt,
    with_gaps,
)
from installer.plan.model import (
    TARGET,
    Destruction,
    DiskIdentity,
    DiskPicture,
    HostBootMirror,
    HostStorage,
    HostZfs,
    Plan,
    Region,
)
from installer.plan.naming import Names
from installer.plan.order import in_order
from installer.plan.passthrough import kept_for_guests
from installer.plan.prebuilt import ROOT_TYPES, require_fitting
from installer.plan.reach import at_rest, require_contained
from installer.plan.requirements import (
    firmware_to_use,
    loader_to_use,
    pbkdf_memory,
    require_administrator,
    require_architecture,
    require_features,
    require_hibernation,
    require_kexec,
    require_memory,
    require_sectors,
    require_token,
)
from installer.plan.source import system_source
from installer.plan.storage import luks
from installer.plan.storage.btrfs import Btrfs
from installer.plan.storage.disk import WholeDisk, disk_title
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.filesystem import Mounted
from installer.plan.storage.found import FoundDevice
from installer.plan.storage.gpt import Partition, PartitionType
from installer.plan.storage.in_place import InPlace
from installer.plan.storage.kept import KeptFilesystem, KeptPartition, SharedEsp
from installer.plan.storage.luks import Luks
from installer.plan.unlock import unlock

MAIN = "main"
"""Key of the disk that the host boots from; several are numbered."""
POOL = "pool"
"""Key of a disk that the pool has for itself."""
ARC_SHARE, ARC_FLOOR, ARC_CEILING = 8, GIB, 16 * GIB
"""ZFS's cache takes an eighth of the memory, within these bounds: the rest is the guests'."""


@dataclass(frozen=True)
class Chosen:
    """A disk of the plan, and what the machine says about it."""

    disk: Disk
    """As probed."""
    identity: DiskIdentity
    """As planned."""

    @property
    def title(self) -> str:
        """For a person."""
        return disk_title(self.identity)

    @property
    def whole(self) -> WholeDisk:
        """As an element of the layout."""
        return WholeDisk(
            key=self.identity.key,
            disk=self.identity,
            old_partitions=holding(self.disk),
        )


def make_plan(facts: Facts, answers: Answers, medium: Medium) -> Plan:
    """Everything that will be done to make this machine the host that the answers describe.

    Raises:
        HyperError: it cannot be done; nothing was written. `code` tells the kind, `remedy` what to change.
    """
    return _made(facts, answers, medium)[0]


def make_layout(facts: Facts, answers: Answers, medium: Medium) -> Layout:
    """The disks' layout alone, as the plan has it. Raises HyperError."""
    return _made(facts, answers, medium)[1]


def _made(facts: Facts, answers: Answers, medium: Medium) -> tuple[Plan, Layout]:
    require_administrator(answers)
    require_architecture(facts, medium)
    firmware = firmware_to_use(facts, answers)
    require_hibernation(facts, answers, firmware)
    require_token(facts, answers)
    inputs = {
        # Without defaults: a field that a later release adds changes no plan that does not use it.
        "answers": answers.model_dump(mode="json", exclude_defaults=True),
        "medium": medium.model_dump(mode="json"),
    }
    answers, because = proposed(facts, answers)
    chosen, for_pool = _chosen(facts, answers)
    every = (*chosen, *for_pool)
    disks = tuple(each.disk for each in every)
    for each in every:
        require_sectors(each.disk, each.title)
    passthrough = kept_for_guests(facts, answers, disks)
    source = system_source(answers, medium)
    images = images_to_copy(answers, medium)
    argon_memory = pbkdf_memory(facts, answers, luks_devices(answers.storage))
    require_memory(facts, answers)
    require_kexec(facts, answers)
    require_features(facts, answers, medium)

    certificates = tuple(certificate_steps(answers))
    trusted = tuple(step.id for step in certificates)
    hooks = tuple(hook_steps(answers, "before-write", trusted))
    again = answers.storage.existing is ExistingKind.reinstall
    meant = fates(facts, answers, [each.disk for each in chosen], [each.disk for each in for_pool])
    kept = _kept(facts, answers, chosen, meant, firmware) if _keeps(answers) else ()
    if kept or meant.mounted:
        staying = {each.disk.name for each in kept if each}
        require_awake(facts.disks, kept, {each.disk.name for each in every} - staying)
    # Another system's EFI system partition, from which this host starts already.
    shared = beside_again(answers, chosen[0].disk, firmware) if again and len(chosen) == 1 else None
    layout = system(
        answers,
        Ground(
            disks=tuple(each.whole for each in chosen),
            pool=tuple(each.whole for each in for_pool),
            firmware=firmware,
            memory=facts.memory.total,
            pbkdf_memory=argon_memory,
            system=source.size,
            root_type=ROOT_TYPES[medium.system] if source.prebuilt else PartitionType.linux,
            gate=tuple(step.id for step in hooks[-1:]),
            kept=kept or ((shared,) if shared else ()),
        ),
    )
    found = found_elements(facts, answers, meant.mounted, shared_names(facts.disks))
    layout = with_found(layout, found)
    on_disks = {each.identity.key: each.disk for each in every}
    if again:
        layout = adopted(layout, on_disks, answers.hostname)
        require_not_own(layout, answers.hostname)
    for element in layout.elements:
        if isinstance(element, Luks):
            require_name_free(element.key, facts.disks)
    host = _host(facts, answers, disks, layout, firmware)
    reached = (*host.unlock.drivers, *host.unlock.kinds) if host.unlock else ()
    modules = _modules(_reaching(facts, tuple(each.disk for each in chosen)), layout)
    if source.prebuilt:
        require_fitting(answers, host, source.prebuilt, modules)
    handoff = Handoff(
        hostname=answers.hostname,
        grow=_grow(layout),
        expectations=Expectations(
            virtualization=facts.cpu.virtualization.state.value,
            iommu=facts.iommu.state.value,
            passthrough=passthrough,
        ),
        pool=answers.first_run.pool,
        vms=handoff_vms(answers, images),
        phase=answers.security.phase.value,
        administrators=tuple(user.name for user in answers.users if user.admin),
        enrolment=enrolment(answers, layout),
        webhooks=handoff_webhooks(answers),
        secure_boot=answers.boot.secure_boot,
    )
    storage_steps = (
        taken_over(layout, on_disks, answers, 2 * source.size) if again else tuple(layout.steps())
    )
    beside = tuple(filter(None, kept))
    if kept:
        require_no_twin(beside, layout, facts.disks, answers.hostname)
        if source.prebuilt:
            require_one_root(beside, source.prebuilt.name)
    installation = Installation(
        answers=answers,
        layout=layout,
        source=source,
        images=images,
        proof=BootProof(
            root=TARGET,
            firmware=firmware,
            disk=chosen[0].identity.key,
            mirrors=tuple(each.identity.key for each in chosen[1 : 1 + len(host.mirrors)]),
            initrd_modules=tuple(dict.fromkeys((*modules, *reached))),
        ),
        enrolment=handoff.enrolment,
        unlock=host.unlock,
        loader=host.loader,
        administrators=handoff.administrators,
        ready=trusted,
        cleared=("clear-target",) if again else (),
    )
    plan = Plan(
        hostname=answers.hostname,
        host_id=Names(answers.hostname, (chosen[0].identity,)).host_id(),
        inputs_digest=sha256(canonical_json(inputs).encode()).hexdigest(),
        disks=tuple(each.identity for each in every),
        destroyed=tuple(
            _guests_stay(answers, each)
            if again and each in for_pool
            else _losses(facts, answers, each, (*beside, *((shared,) if shared else ())))
            for each in every
        ),
        mounted=tuple(lines(found)),
        pictures=tuple(
            DiskPicture(
                disk=each.identity.key,
                before=picture(each.disk),
                after=_after(layout, each, again=again, beside=any(one.disk is each.disk for one in beside)),
            )
            for each in every
        ),
        warnings=tuple(_warnings(facts, answers, chosen, for_pool, layout, kept)),
        because=because,
        host=host,
        handoff=handoff,
        steps=in_order((*certificates, *hooks, *storage_steps, *installation.steps())),
    )
    return plan, layout


def _chosen(facts: Facts, answers: Answers) -> tuple[tuple[Chosen, ...], tuple[Chosen, ...]]:
    """The system's disks and the pool's own, each once, and nothing on them that reaches any other."""
    storage = answers.storage
    selected = {
        key: [
            (disk, selector.by_id)
            for selector in selectors
            # One selector's disks in an order that no reordering of kernel names changes.
            for disk in sorted(select_disks(selector, facts), key=lambda disk: min(disk.by_id, default=""))
        ]
        for selectors, key in ((storage.selectors, MAIN), (storage.pool_selectors, POOL))
    }
    everything = [disk for disks in selected.values() for disk, _ in disks]
    _require_once(everything)
    touched = everything
    if _keeps(answers):
        system_disks = [disk for disk, _ in selected[MAIN]]
        meant = fates(facts, answers, system_disks, [disk for disk, _ in selected[POOL]])
        touched = [*(_touched(disk, meant) for disk in system_disks), *everything[len(system_disks) :]]
    if (
        storage.existing is ExistingKind.reinstall
    ):  # which stays as it is, and is what the plan brings up, by UUID
        touched = [*map(at_rest, touched)]
    require_contained(touched, facts.disks)
    shared = shared_names(facts.disks)
    system, pool = (
        tuple(
            Chosen(disk, identify(disk, f"{key}-{number}" if several else key, shared, named))
            for number, (disk, named) in enumerate(disks, start=1)
        )
        for key, disks in selected.items()
        for several in (len(disks) > 1 or key == POOL,)
    )
    return system, pool


def _keeps(answers: Answers) -> bool:
    return answers.storage.existing is ExistingKind.keep


def _touched(disk: Disk, meant: Fates) -> Disk:
    """The disk without what sleeps in partitions that stay: only what is in use keeps their table from being changed."""
    named = {number for number, each in meant.of(disk).items() if each.action != "keep"}
    partitions = tuple(
        each
        if each.number in named
        else each.model_copy(
            update={"filesystem": None, "holders": tuple(one for one in each.holders if one.active)}
        )
        for each in disk.partitions
    )
    return disk.model_copy(update={"partitions": partitions})


def _kept(
    facts: Facts, answers: Answers, chosen: Sequence[Chosen], meant: Fates, firmware: str
) -> tuple[Kept | None, ...]:
    """What stays of each of the system's disks; none of one that is blank, beside others that are not."""
    alone = len(chosen) == 1
    found = tuple(
        None
        if not alone and is_blank(each.disk)
        else keep(facts, answers, each.disk, firmware, meant.of(each.disk), alone=alone)
        for each in chosen
    )
    if not any(found):
        raise HyperError(
            "there is nothing to keep on these disks",
            why=f"{' and '.join(each.title for each in chosen)} are blank",
            remedy='write storage.existing = "erase", or name the disks that something is on',
            code=Exit.unsuitable,
        )
    return found


def _losses(facts: Facts, answers: Answers, chosen: Chosen, beside: Sequence[Kept]) -> Destruction:
    """What is lost on one disk, and what stays."""
    key = chosen.identity.key
    kept = next((each for each in beside if each.disk is chosen.disk), None)
    if answers.storage.existing is ExistingKind.reinstall:
        paths = ", ".join(kept_paths(answers))
        return Destruction(
            disk=key,
            losses=(f"everything in the file systems of {answers.hostname} that is not listed as kept",),
            kept=(
                f"on these disks together: {paths}",
                "partitions, file systems and encryption as they are",
                *(kept_losses(kept, key).kept if kept else ()),
            ),
        )
    if kept is None:
        return losses(chosen.disk, key, facts.systems)
    return kept_losses(kept, key)


def _guests_stay(answers: Answers, chosen: Chosen) -> Destruction:
    """Of a disk for guests alone, whose host is installed anew: its folder, volumes or dataset are kept whole."""
    return Destruction(
        disk=chosen.identity.key,
        losses=("nothing: it is for guests alone, and what is on it stays",),
        kept=(f"all that is on it, for the guests of {answers.hostname}",),
    )


def _after(layout: Layout, chosen: Chosen, *, again: bool, beside: bool) -> tuple[Region, ...]:
    """The disk as it will be; what a reinstallation finds beside its own stays. Where something stays, there may be gaps."""
    ours = layout.regions(chosen.identity.key)
    stay: tuple[Region, ...] = ()
    if again:
        numbers = {each.number for each in ours}
        others = (each for each in picture(chosen.disk) if each.number and each.number not in numbers)
        stay = tuple(each.model_copy(update={"content": f"kept: {each.content}"}) for each in others)
    elif not beside:
        return ours
    return with_gaps(sorted((*ours, *stay), key=lambda region: region.start), chosen.disk.size)


def _require_once(disks: Sequence[Disk]) -> None:
    names = [disk.name for disk in disks]
    if twice := next((disk for disk in disks if names.count(disk.name) > 1), None):
        raise HyperError(
            f"{title(twice)} is meant twice",
            why="two selectors of the answers match it",
            remedy="let every selector in `storage` match other disks; a serial number fits exactly one",
            code=Exit.selection,
        )


def _root(layout: Layout) -> Mounted:
    return next(
        element
        for element in layout.elements
        if isinstance(element, Mounted) and any(mount.mountpoint == "/" for mount in element.mounts)
    )


def _reaching(facts: Facts, disks: tuple[Disk, ...]) -> tuple[str, ...]:
    """Modules without which some of the disks are not reached, sorted."""
    return tuple(sorted({module for disk in disks for module in root_modules(facts, disk)}))


def _modules(reaching: tuple[str, ...], layout: Layout) -> tuple[str, ...]:
    """What reaches the root, from the controller up to its file system."""
    return tuple(dict.fromkeys((*reaching, *layout.host().initrd_modules, _root(layout).type)))


def _host(
    facts: Facts,
    answers: Answers,
    disks: tuple[Disk, ...],
    layout: Layout,
    firmware: Literal["uefi", "bios"],
) -> HostStorage:
    part = layout.host()
    reaching = (*_reaching(facts, disks), *controller_modules(facts))
    return HostStorage(
        filesystems=tuple(sorted(part.filesystems, key=lambda each: each.mountpoint.rstrip("/").split("/"))),
        luks=part.luks,
        swap_devices=part.swap_devices,
        random_swap_devices=part.random_swap_devices,
        zram_percent=next(iter(part.zram_percent), None),
        firmware=firmware,
        loader=loader_to_use(firmware, answers),
        esp_mountpoint=next(iter(part.esp_mountpoints), None),
        xbootldr_mountpoint=next(iter(part.xbootldr_mountpoints), None),
        grub_device=next(iter(part.grub_devices), None),
        generations=answers.boot.generations,
        initrd_modules=_modules(tuple(sorted({*reaching})), layout),
        supported_filesystems=tuple(sorted({*part.supported_filesystems})),
        mirrors=_mirrors(layout),
        arrays=part.arrays,
        lvm=("thin" if part.thin_pools else "plain") if part.volume_groups else None,
        zfs=_zfs(facts, layout),
        key_luks=part.key_luks,
        swap_files=part.swap_files,
        in_place=part.in_place,
        degraded=part.degraded,
        resume_device=next(iter(part.swap_devices), None) if answers.storage.swap.hibernate else None,
        unlock=unlock(facts, answers),
    )


def _mirrors(layout: Layout) -> tuple[HostBootMirror, ...]:
    """Boot file systems beside the first, with what GRUB needs under BIOS."""
    part = layout.host()
    mountpoints = sorted(
        mount.mountpoint
        for element in layout.elements
        if isinstance(element, Mounted)
        for mount in element.mounts
        if fullmatch("/boot[0-9]+", mount.mountpoint)
    )
    ordered = sorted(mountpoints, key=lambda place: int(place.removeprefix("/boot")))
    grub = part.grub_devices[1:] or (None,) * len(ordered)
    return tuple(
        HostBootMirror(mountpoint=mountpoint, grub_device=device)
        for mountpoint, device in zip(ordered, grub, strict=True)
    )


def _zfs(facts: Facts, layout: Layout) -> HostZfs | None:
    part = layout.host()
    if not part.zfs_pools:
        return None
    nodes = {*part.zfs_nodes}
    return HostZfs(
        pools=part.zfs_pools,
        nodes=nodes.pop() if len(nodes) == 1 else "/dev",
        cache=max(ARC_FLOOR, min(facts.memory.total // ARC_SHARE, ARC_CEILING)),
    )


def _grow(layout: Layout) -> GrowRoot | None:
    """What can grow when the disk does: a root that has one partition, and nothing beside LUKS between."""
    root = _root(layout)
    below = [layout[key] for key in root.below()]
    luks_name = below[0].key if isinstance(below[0], Luks) else None
    if len(below) != 1 or root.type not in ("ext4", "xfs", "btrfs"):
        return None
    partition = layout[below[0].on] if isinstance(below[0], Luks) else below[0]
    if not isinstance(partition, Partition):
        return None
    (disk,) = layout.disks(root.key)
    if partition.start < max(region.start for region in layout.regions(disk.key)):
        return None
    return GrowRoot.model_validate(
        {
            "disk_by_id": disk.by_id,
            "disk_by_path": disk.by_path,
            "partition": partition.number,
            "luks": luks_name,
            "filesystem": root.type,
        }
    )


def _warnings(  # noqa: PLR0917
    facts: Facts,
    answers: Answers,
    chosen: tuple[Chosen, ...],
    for_pool: tuple[Chosen, ...],
    layout: Layout,
    kept: tuple[Kept | None, ...],
) -> Iterator[str]:
    """What does not forbid the plan, and should be known before it is confirmed."""
    others = [each for each in facts.disks if each not in [one.disk for one in (*chosen, *for_pool)]]
    for each in (*chosen, *for_pool):
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
    if not _keeps(answers):
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
