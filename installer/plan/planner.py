"""From facts, answers and medium to a plan: pure, so that the same three always give the same plan, byte for byte."""

from collections.abc import Sequence
from hashlib import sha256

from installer.answers.model import Answers, ExistingKind
from installer.answers.presets import proposed
from installer.answers.storage_shape import luks_devices
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.handoff import Expectations, Handoff
from installer.medium import Medium
from installer.plan.canonical import canonical_json
from installer.plan.checks import BootProof
from installer.plan.chosen import Chosen, choose, keeps
from installer.plan.enrolment import enrolment
from installer.plan.host_storage import grow_root, host_storage, modules_to_root, reaching_modules
from installer.plan.identity import shared_names
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
from installer.plan.layouts.ground import Ground
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
    losses,
    picture,
    require_name_free,
    with_gaps,
)
from installer.plan.model import (
    TARGET,
    Destruction,
    DiskPicture,
    Plan,
    Region,
    Step,
)
from installer.plan.naming import Names
from installer.plan.order import in_order
from installer.plan.passthrough import kept_for_guests
from installer.plan.prebuilt import ROOT_TYPES, require_fitting
from installer.plan.requirements import (
    firmware_to_use,
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
from installer.plan.risks import risks
from installer.plan.source import system_source
from installer.plan.storage.element import Layout
from installer.plan.storage.gpt import PartitionType
from installer.plan.storage.idle import stop_idle
from installer.plan.storage.luks import Luks


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
    choice = choose(facts, answers)
    chosen, for_pool, every = choice.system, choice.pool, choice.every
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
    # What came up by itself, and is not what a reinstallation brings up itself.
    stops = (
        (stop_idle(choice.idle, [each.identity.key for each in every], _last(hooks)),) if choice.idle else ()
    )
    again = answers.storage.existing is ExistingKind.reinstall
    meant = fates(facts, answers, [each.disk for each in chosen], [each.disk for each in for_pool])
    kept = _kept(facts, answers, chosen, meant, firmware) if keeps(answers) else ()
    if kept or meant.mounted:
        staying = {each.disk.name for each in kept if each}
        require_awake(facts, kept, {each.disk.name for each in every} - staying)
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
            gate=_last(stops or hooks),
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
    host = host_storage(facts, answers, disks, layout, firmware)
    reached = (*host.unlock.drivers, *host.unlock.kinds) if host.unlock else ()
    modules = modules_to_root(reaching_modules(facts, tuple(each.disk for each in chosen)), layout)
    if source.prebuilt:
        require_fitting(answers, host, source.prebuilt, modules)
    handoff = Handoff(
        hostname=answers.hostname,
        grow=grow_root(layout),
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
        warnings=tuple(risks(facts, answers, choice, layout, kept)),
        because=because,
        host=host,
        handoff=handoff,
        steps=in_order((*certificates, *hooks, *stops, *storage_steps, *installation.steps())),
    )
    return plan, layout


def _last(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(step.id for step in steps[-1:])


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
