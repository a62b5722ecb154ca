"""First guests, from the images that the medium carries."""

from typing import Any

from installer.answers.sizes import GIB, format_size, parse_size
from installer.guided.questions import Dialogue, Many, One, Option
from installer.guided.situation import Situation
from installer.guided.words import _

MEMORIES = ("512MiB", "1GiB", "2GiB", "4GiB", "8GiB", "16GiB")


def title() -> str:
    """For the head of the page."""
    return _("First guests")


def dialogue(situation: Situation) -> Dialogue:
    """Which images become guests, and how large."""
    images = sorted(situation.medium.images)
    if not images:
        return {("first_run", "vms"): None}
    chosen = yield Many(
        title=_("First guests"),
        prompt=_("Which guests are made at the first boot?"),
        lines=(_("The medium carries these images. Recommended: none; guests can be made at any time."),),
        options=tuple(Option(name, name) for name in images),
        field=("first_run", "vms"),
    )
    vms: list[dict[str, Any]] = []
    for name in chosen:
        memory = yield One(
            title=_("Guest {name}").format(name=name),
            prompt=_("Memory of {name}:").format(name=name),
            lines=(
                _("This machine has {memory}.").format(memory=format_size(situation.facts.memory.total)),
                _("Recommended: what is pointed at; more or less can be given at any time."),
            ),
            options=tuple(
                Option(size, size, None if _fits(size, situation) else _("The machine has not that much."))
                for size in MEMORIES
            ),
            default="1GiB" if _fits("1GiB", situation) else "512MiB",
            field=("first_run", "vms", len(vms), "memory"),
        )
        vms.append({"name": name, "image": f"medium:{name}", "memory": memory})
    return {("first_run", "vms"): vms or None}


def _fits(size: str, situation: Situation) -> bool:
    return parse_size(size) + GIB // 2 <= situation.facts.memory.total or size == MEMORIES[0]
