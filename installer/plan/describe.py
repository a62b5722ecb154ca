"""A plan for people: every disk by identity, every command as it will be run, in the 80 columns of a serial console."""

from collections.abc import Iterable, Iterator, Sequence

from installer.answers.sizes import format_size
from installer.handoff import Handoff
from installer.plan.action_words import described
from installer.plan.actions import ChangePartitionTable
from installer.plan.check_words import check_words
from installer.plan.lines import WIDTH, Command, Line, Paragraph, Say, command_lines, folded
from installer.plan.model import Plan, Region, Step
from installer.plan.token import confirm_token


def describe(plan: Plan, answers_file: str = "ANSWERS", say: Say = str) -> str:
    """The plan as text.

    Args:
        plan: The plan.
        answers_file: What the answer file is called, for the command at the end.
        say: How each sentence is told.
    """
    title = say(f"Plan for host {plan.hostname}")
    token = confirm_token(plan)
    sections: tuple[tuple[str, Iterable[Line]], ...] = (
        ("What is destroyed", _destroyed(plan)),
        ("Layout", (*_because(plan), *_pictures(plan))),
        ("Warnings", (Paragraph(text, "  * ", "    ") for text in plan.warnings)),
        ("Afterwards", _afterwards(plan)),
        (f"Steps ({len(plan.steps)})", _steps(plan, say)),
        ("To do exactly this", _confirmation(plan, token, answers_file)),
    )
    told = (line for heading, body in sections for line in _section(say(heading), folded(body, say)))
    return "\n".join((title, "=" * len(title), *told)) + "\n"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    body = list(lines)
    while body and not body[-1]:
        body.pop()
    if body:
        yield from ("", title, "-" * len(title), *body)


def _destroyed(plan: Plan) -> Iterator[Line]:
    losses = {each.disk: each.losses for each in plan.destroyed}
    kept = {each.disk: each.kept for each in plan.destroyed}
    for disk in plan.disks:
        yield f"  Disk {disk.key}: {disk.model or 'unknown model'}, {format_size(disk.size)}"
        yield f"    serial  {disk.serial or 'none'}"
        yield f"    WWN     {disk.wwn or 'none'}"
        if disk.by_id:
            yield f"    by id   {disk.by_id}"
        else:
            yield f"    by path {disk.by_path}"
            yield f"    content {disk.ends} (SHA-256 of the first and last MiB)"
        yield f"    sectors of {disk.logical_sector} bytes"
        yield "    what is lost"
        for loss in losses.get(disk.key, ()):
            yield Paragraph(loss, "      - ", "        ")
        if stays := kept.get(disk.key):
            yield "    what stays"
            for each in stays:
                yield Paragraph(each, "      - ", "        ")
    if plan.mounted:
        yield "  On other disks, and mounted by the host as it is"
        for each in plan.mounted:
            yield Paragraph(each, "      - ", "        ")


def _because(plan: Plan) -> Iterator[Line]:
    if plan.because:
        yield Paragraph(f"Chosen for these disks: {plan.because}.", "  ", "  ")
        yield ""


def _pictures(plan: Plan) -> Iterator[Line]:
    for picture in plan.pictures:
        for when, regions in (("before", picture.before), ("after", picture.after)):
            yield f"  Disk {picture.disk} {when}"
            yield Command("  " + draw(regions, WIDTH - 4))
            for region in regions:
                number = "" if region.number is None else str(region.number)
                yield Paragraph(region.content, f"  {number:>4}  {format_size(region.size):>10}  ", " " * 20)
            yield ""
    for file in plan.host.swap_files:
        yield f"  Swap: {format_size(file.size)} in {file.path}, made at the first boot"
    swap = f"zram, {plan.host.zram_percent} % of the memory" if plan.host.zram_percent else None
    if swap:
        yield f"  Swap: {swap}"


def draw(regions: Sequence[Region], width: int) -> str:
    """A disk as a bar in ASCII: each region as wide as its share, but wide enough for its number."""
    labels = ["" if region.number is None else str(region.number) for region in regions]
    least = [len(label) + 1 for label in labels]
    spare = max(0, width - 1 - sum(least))
    total = sum(region.size for region in regions) or 1
    shares = [region.size * spare // total for region in regions]
    if shares:
        widest = max(range(len(shares)), key=lambda place: (shares[place], place))
        shares[widest] += spare - sum(shares)
    cells = (
        "|" + label + ("." if region.number is None else "=") * share
        for region, label, share in zip(regions, labels, shares, strict=True)
    )
    return "".join(cells) + "|"


def _afterwards(plan: Plan) -> Iterator[Line]:
    host, handoff = plan.host, plan.handoff
    yield Paragraph(
        f"boots by {host.firmware.upper()} with {host.loader}, {host.generations} generations in the menu",
        "  ",
        "  ",
    )
    if host.mirrors:
        places = ", ".join(each.mountpoint for each in host.mirrors)
        yield Paragraph(f"starts from any of its disks: beside /boot there is {places}", "  ", "    ")
    yield Paragraph(f"administrators: {', '.join(handoff.administrators)}", "  ", "    ")
    if handoff.expectations.passthrough:
        kept = ", ".join(handoff.expectations.passthrough)
        yield Paragraph(f"kept for guests: {kept}", "  ", "    ")
    yield from (Paragraph(text, "  ", "    ") for text in _first_run(handoff))


def _first_run(handoff: Handoff) -> Iterator[str]:
    for vm in handoff.vms:
        size = f", disk of {format_size(vm.disk_size)}" if vm.disk_size else ""
        yield (
            f"at first boot: VM {vm.name}, {vm.vcpus} CPU, {format_size(vm.memory)} of memory{size}, "
            f"{'started' if vm.start else 'not started'}"
        )
    yield f"ends in phase {handoff.phase}"


def _summary(step: Step) -> str:
    """The step, and what it does to what was there: adding partitions to a table that stays loses nothing."""
    for action in step.actions:
        if isinstance(action, ChangePartitionTable) and not (action.delete or action.change):
            return f"{step.summary} (writes to the disk)"
    return f"{step.summary} (destroys data)" if step.writes else step.summary


def _steps(plan: Plan, say: Say) -> Iterator[Line]:
    numbers = {step.id: number for number, step in enumerate(plan.steps, start=1)}
    for step in plan.steps:
        number = numbers[step.id]
        yield Paragraph(_summary(step), f"{number:>3}. ", "     ")
        after = ", ".join(str(numbers[each]) for each in step.requires)
        yield f"     [{step.id}]" + (f" after {after}" if after else "")
        for action in step.actions:
            yield from described(action, "     ")
        for check in step.checks:
            yield Paragraph(f"verify: {check_words(check)}", "     ", "       ")
        yield from _undo(step, say)
        yield ""


def _undo(step: Step, say: Say) -> Iterator[Line]:
    for action in step.undo:
        first, *others = folded(described(action, "       "), say)
        head = f"     {say('undo:')}"
        joined = f"{head} {first.strip()}"
        yield from map(Command, (joined,) if len(joined) <= WIDTH else (head, first))
        yield from map(Command, others)


def _confirmation(plan: Plan, token: str, answers_file: str) -> Iterator[Line]:
    yield Paragraph(
        "The token stands for this plan on these disks; it fits no other. "
        f"Until this command nothing is written; its first write is step {_first_write(plan)}.",
        "  ",
        "  ",
    )
    yield ""
    yield f"  token  {token}"
    yield ""
    command = ("hv", "install", "--answers", answers_file, "--confirm", token)
    yield from map(Command, command_lines(command, "  "))


def _first_write(plan: Plan) -> int:
    return next((number for number, step in enumerate(plan.steps, start=1) if step.writes), 0)
