"""From facts, answers and medium to a plan: pure, so that the same three always give the same plan, byte for byte."""

from hashlib import sha256
from typing import Literal

from installer.answers.catalogue import TIERS
from installer.answers.model import Answers
from installer.answers.select import select_disks
from installer.answers.sizes import format_size, parse_size
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Verdict
from installer.facts.cpu import VirtualizationState
from installer.facts.disks import Disk, Health, Transport
from installer.handoff import Expectations, GrowRoot, Handoff
from installer.medium import Medium
from installer.plan.canonical import canonical_json
from installer.plan.checks import BootProof
from installer.plan.identity import identify, shared_names
from installer.plan.initrd import controller_modules, root_modules
from installer.plan.installation import (
    Installation,
    certificate_steps,
    handoff_vms,
    hook_steps,
    images_to_copy,
)
from installer.plan.layouts.one_disk import Ground, one_disk
from installer.plan.losses import holding, losses, picture, require_name_free, volume_group_doubt
from installer.plan.model import TARGET, DiskIdentity, DiskPicture, HostStorage, Plan
from installer.plan.naming import Names
from installer.plan.order import in_order
from installer.plan.passthrough import kept_for_guests
from installer.plan.reach import require_contained
from installer.plan.requirements import (
    firmware_to_use,
    loader_to_use,
    pbkdf_memory,
    require_administrator,
    require_architecture,
    require_features,
    require_memory,
    require_sectors,
)
from installer.plan.source import system_source
from installer.plan.storage import luks
from installer.plan.storage.disk import WholeDisk, disk_title
from installer.plan.storage.element import Layout
from installer.plan.storage.filesystem import Filesystem
from installer.plan.storage.gpt import Partition
from installer.plan.storage.luks import Luks

MAIN = "main"
"""Key of the disk that the host boots from."""


def make_plan(facts: Facts, answers: Answers, medium: Medium) -> Plan:
    """Everything that will be done to make this machine the host that the answers describe.

    Raises:
        HyperError: it cannot be done; nothing was written. `code` tells the kind, `remedy` what to change.
    """
    require_administrator(answers)
    require_architecture(facts, medium)
    firmware = firmware_to_use(facts, answers)
    disk = _chosen_disk(facts, answers)
    require_contained((disk,), facts.disks)
    identity = identify(disk, MAIN, shared_names(facts.disks), answers.storage.disk.by_id)
    title = disk_title(identity)
    require_sectors(disk, title)
    passthrough = kept_for_guests(facts, answers, disk)
    source = system_source(answers, medium)
    images = images_to_copy(answers, medium)
    argon_memory = pbkdf_memory(facts, answers)
    require_memory(facts, answers)
    require_features(facts, answers, medium)

    certificates = tuple(certificate_steps(answers))
    trusted = tuple(step.id for step in certificates)
    hooks = tuple(hook_steps(answers, "before-write", trusted))
    layout = one_disk(
        answers,
        Ground(
            disk=WholeDisk(
                key=MAIN,
                disk=identity,
                old_partitions=holding(disk),
            ),
            firmware=firmware,
            memory=facts.memory.total,
            pbkdf_memory=argon_memory,
            system=source.size,
            gate=tuple(step.id for step in hooks[-1:]),
        ),
    )
    for element in layout.elements:
        if isinstance(element, Luks):
            require_name_free(element.key, facts.disks)
    host = _host(facts, answers, disk, layout, firmware)
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
    )
    installation = Installation(
        answers=answers,
        layout=layout,
        source=source,
        images=images,
        proof=BootProof(
            root=TARGET,
            firmware=firmware,
            disk=MAIN,
            initrd_modules=_modules(root_modules(facts, disk), layout),
        ),
        administrators=handoff.administrators,
        ready=trusted,
    )
    inputs = {"answers": answers.model_dump(mode="json"), "medium": medium.model_dump(mode="json")}
    return Plan(
        hostname=answers.hostname,
        host_id=Names(answers.hostname, identity).host_id(),
        inputs_digest=sha256(canonical_json(inputs).encode()).hexdigest(),
        disks=(identity,),
        destroyed=(losses(disk, MAIN, facts.systems),),
        pictures=(DiskPicture(disk=MAIN, before=picture(disk), after=layout.regions(MAIN)),),
        warnings=_warnings(facts, answers, disk, identity, layout),
        host=host,
        handoff=handoff,
        steps=in_order((*certificates, *hooks, *layout.steps(), *installation.steps())),
    )


def _chosen_disk(facts: Facts, answers: Answers) -> Disk:
    if answers.storage.disk.count != 1:
        raise HyperError(
            f"storage.disk.count = {answers.storage.disk.count} does not fit storage.layout = 'one-disk'",
            why="this layout takes exactly one disk",
            remedy="leave count out",
            code=Exit.answers,
        )
    (disk,) = select_disks(answers.storage.disk, facts)
    return disk


def _root(layout: Layout) -> Filesystem:
    return next(
        element
        for element in layout.elements
        if isinstance(element, Filesystem) and any(mount.mountpoint == "/" for mount in element.mounts)
    )


def _modules(reaching: tuple[str, ...], layout: Layout) -> tuple[str, ...]:
    """What reaches the root, from the controller up to its file system."""
    return tuple(dict.fromkeys((*reaching, *layout.host().initrd_modules, _root(layout).kind)))


def _host(
    facts: Facts, answers: Answers, disk: Disk, layout: Layout, firmware: Literal["uefi", "bios"]
) -> HostStorage:
    part = layout.host()
    reaching = (*root_modules(facts, disk), *controller_modules(facts))
    return HostStorage(
        filesystems=tuple(sorted(part.filesystems, key=lambda each: each.mountpoint.rstrip("/").split("/"))),
        luks=part.luks,
        swap_devices=part.swap_devices,
        random_swap_devices=part.random_swap_devices,
        zram_percent=next(iter(part.zram_percent), None),
        firmware=firmware,
        loader=loader_to_use(firmware, answers),
        esp_mountpoint=next(iter(part.esp_mountpoints), None),
        grub_device=next(iter(part.grub_devices), None),
        generations=answers.boot.generations,
        initrd_modules=_modules(tuple(sorted({*reaching})), layout),
        supported_filesystems=tuple(sorted({*part.supported_filesystems})),
    )


def _grow(layout: Layout) -> GrowRoot:
    root = _root(layout)
    below = layout[root.on]
    luks_name = below.key if isinstance(below, Luks) else None
    partition = layout[below.on] if isinstance(below, Luks) else below
    assert isinstance(partition, Partition)
    (disk,) = layout.disks(root.key)
    kind = root.kind
    assert kind in ("ext4", "xfs", "btrfs")
    return GrowRoot.model_validate(
        {
            "disk_by_id": disk.by_id,
            "disk_by_path": disk.by_path,
            "partition": partition.number,
            "luks": luks_name,
            "filesystem": kind,
        }
    )


def _warnings(
    facts: Facts, answers: Answers, disk: Disk, identity: DiskIdentity, layout: Layout
) -> tuple[str, ...]:
    """What does not forbid the plan, and should be known before it is confirmed."""
    found = []
    title = disk_title(identity)
    if isinstance(disk.health, Health) and disk.health.failing:
        found.append(f"{title} reports that it is failing: {disk.health.summary}.")
    if doubt := volume_group_doubt(disk, facts.disks):
        found.append(
            f"{title} holds an LVM physical volume, and so does {doubt}: if they form one volume group, all of it is lost."
        )
    if disk.removable or disk.transport is Transport.usb:
        found.append(f"{title} is removable or hangs on USB: the host stops when it is pulled.")
    if facts.firmware.secure_boot.verdict is Verdict.yes:
        found.append(
            "Secure Boot is on, and the boot loader is not signed: switch Secure Boot off before the first boot."
        )
    if not facts.memory.total:
        found.append(
            f"How much memory this machine has cannot be read; the tier {answers.hypervisor.tier.value} is for "
            f"{format_size(TIERS[answers.hypervisor.tier].memory)} and more."
        )
    virtualization = facts.cpu.virtualization
    if virtualization.state not in (VirtualizationState.ready, VirtualizationState.nested_guest):
        evidence = "; ".join(virtualization.evidence)
        found.append(f"KVM cannot be used as it is: virtualization is {virtualization.state} ({evidence}).")
    if layout.host().grub_devices and disk.logical_sector != 512:
        found.append(
            f"{title} has sectors of {disk.logical_sector} bytes, from which most BIOSes cannot boot."
        )
    encryption = answers.storage.encryption
    usual = min(luks.MOST_MEMORY, facts.memory.total // 2)
    for element in layout.elements:
        if isinstance(element, Luks) and element.memory < usual:
            found.append(
                f"argon2id gets {format_size(element.memory)} of memory instead of {format_size(usual)}: "
                "guessing the passphrase is cheaper."
            )
    if encryption.enable and encryption.pbkdf_iterations:
        found.append(
            f"argon2id is held to {encryption.pbkdf_iterations} iterations instead of what takes two seconds: "
            "for tests only."
        )
    root = next(region for region in reversed(layout.regions(MAIN)))
    guests = sum(parse_size(vm.disk_size) for vm in answers.first_run.vms if vm.disk_size)
    if guests > root.size:
        found.append(
            f"the VMs' disks may grow to {format_size(guests)}, the root has {format_size(root.size)}."
        )
    return tuple(found)
