"""Where memory goes when it runs short, and whether the host can sleep."""

from installer.answers.sizes import format_size
from installer.errors import HyperError
from installer.guided.preview import preview
from installer.guided.questions import Answers, One, Option
from installer.guided.situation import Situation
from installer.guided.told import refusal
from installer.guided.words import _


def swap(situation: Situation) -> One:
    """What kind of swap."""
    memory = format_size(situation.facts.memory.total)
    return One(
        title=_("Swap"),
        prompt=_("Where may memory go when it runs short?"),
        lines=(
            _("Recommended: zram, compressed in the memory ({memory}): quick, and takes no disk.").format(
                memory=memory
            ),
        ),
        options=(
            Option("zram", _("zram: into the memory itself, compressed")),
            Option("partition", _("a partition: slower, but adds to the memory")),
            Option("file", _("a file: the same, and its size is easy to change")),
            Option("none", _("nowhere: programs are ended when memory runs out")),
        ),
        default="zram",
        field=("storage", "swap", "kind"),
    )


def hibernation(situation: Situation, changes: Answers) -> One:
    """Whether its memory can go there as a whole; refused with the planner's reason."""
    kind = changes[("storage", "swap")]
    plan = preview(situation, {**changes, ("storage", "swap"): {**kind, "hibernate": True}})
    return One(
        title=_("Hibernation"),
        prompt=_("May the host hibernate?"),
        lines=(
            _(
                "Recommended: no. Guests keep no time while the host sleeps, and it costs as much disk as memory."
            ),
        ),
        options=(
            Option(False, _("no")),
            Option(
                True,
                _("yes: the memory goes to the disk, and the power off"),
                refusal(plan) if isinstance(plan, HyperError) else None,
            ),
        ),
        default=False,
        field=("storage", "swap", "hibernate"),
    )
