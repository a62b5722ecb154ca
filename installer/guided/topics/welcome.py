"""The beginning: language, how much is explained, and what this machine should be told about beforehand."""

from collections.abc import Iterator
from datetime import UTC, datetime

from installer.answers.sizes import GIB, format_size
from installer.facts.common import Unknown, Verdict
from installer.facts.cpu import VirtualizationState
from installer.facts.pci import IommuState
from installer.guided.questions import Dialogue, Notice, One, Option, Work
from installer.guided.situation import Level, Situation
from installer.guided.told import told
from installer.guided.words import LANGUAGES, _, n_
from installer.guided.words import language as language_in_use

LOCALES = {"en": "en_US.UTF-8", "de": "de_DE.UTF-8"}
LEAST_MEMORY = 2 * GIB


def title() -> str:
    """For the head of the page."""
    return _("Welcome")


def dialogue(situation: Situation) -> Dialogue:
    """Language, level, and a page for each thing that is better known before."""
    language = yield One(
        title="Hyper-NixOS",
        prompt="Language / Sprache",
        options=tuple(Option(code, name) for code, name in LANGUAGES.items()),
        default=language_in_use(),
        field=("locale",),
    )
    yield Work(title=_("changing the language"), task="speak", arguments=(language,))
    level = yield One(
        title=_("Welcome"),
        prompt=_("How much shall be explained?"),
        lines=(
            _machine(situation),
            _("Nothing is written to any disk before you confirm it at the end."),
            _("Recommended: some. Every page can be asked for all it knows, at any level."),
        ),
        options=(
            Option(Level.beginner, _("Much: I do this for the first time")),
            Option(Level.intermediate, _("Some: I know Linux")),
            Option(Level.expert, _("Little: show the facts and the names of the fields")),
        ),
        default=Level.intermediate,
    )
    yield Work(title=_("setting how much is explained"), task="explain_at", arguments=(level,))
    now = yield Work(title=_("reading the clock"), task="now")
    yield from _troubles(situation, now)
    # A file that says de_CH has said more than "German" does.
    said = str(situation.said("locale", default=""))
    locale = said if said.startswith(f"{language}_") else LOCALES[language]
    return {("version",): 1, ("locale",): locale}


def _machine(situation: Situation) -> str:
    facts = situation.facts
    names = [
        name for name in (facts.firmware.vendor, facts.firmware.product) if not isinstance(name, Unknown)
    ]
    disks = sum(not disk.install_medium for disk in facts.disks)
    return n_(
        "This machine: {name}. {cpu}, {threads} threads, {memory} of memory, {disks} disk.",
        "This machine: {name}. {cpu}, {threads} threads, {memory} of memory, {disks} disks.",
        disks,
    ).format(
        name=" ".join(names) or _("unknown model"),
        cpu=facts.cpu.model,
        threads=facts.cpu.threads,
        memory=format_size(facts.memory.total),
        disks=disks,
    )


def _troubles(situation: Situation, now: datetime) -> Iterator[Notice]:
    """What stands in the way, or will after the installation; each with its way on."""
    facts = situation.facts
    virtualization, iommu = facts.cpu.virtualization, facts.iommu
    if facts.firmware.secure_boot.verdict is Verdict.yes:
        yield _trouble(
            _("Secure Boot is on"),
            _("The installed system's boot loader is not signed, so the firmware would refuse to start it."),
            _(
                "Way on: install now, then switch Secure Boot off in the firmware's set-up before the first "
                "boot. The host can set it up again with keys of its own: boot.secure_boot."
            ),
        )
    if virtualization.state not in (VirtualizationState.ready, VirtualizationState.nested_guest):
        yield _trouble(
            _("Hardware virtualization cannot be used as it is"),
            _("State: {state}. {evidence}").format(
                state=told(virtualization.state), evidence="; ".join(map(told, virtualization.evidence))
            ),
            _(
                "Guests would be emulated, many times slower. Way on: switch VT-x, AMD-V or SVM on in the "
                "firmware's set-up; that can be done after installing too."
            ),
        )
    if iommu.state in (IommuState.off_in_firmware, IommuState.off_in_kernel):
        yield _trouble(
            _("The IOMMU is off"),
            "; ".join(map(told, iommu.evidence)),
            _(
                "Without it no device can be handed to a guest. Way on: switch VT-d or AMD-Vi on in the "
                "firmware's set-up and start again, or go on without passthrough."
            ),
        )
    if facts.memory.total < LEAST_MEMORY:
        yield _trouble(
            _("There is little memory"),
            _("{found} are there, {needed} are the least for a host with guests.").format(
                found=format_size(facts.memory.total), needed=format_size(LEAST_MEMORY)
            ),
            _("Way on: the plan at the end says whether it is enough for what you choose."),
        )
    made = situation.medium.nixpkgs.locked.get("lastModified")
    if isinstance(made, int) and now < (built := datetime.fromtimestamp(made, tz=UTC)):
        yield _trouble(
            _("The clock is wrong"),
            _("It says {now}, but this medium is from {built}.").format(
                now=f"{now:%Y-%m-%d}", built=f"{built:%Y-%m-%d}"
            ),
            _(
                "Certificates would look as if they were not valid yet. Way on: connect a network with a time "
                'server, or set it on another console: date --set="2027-01-31 12:00".'
            ),
        )


def _trouble(title: str, why: str, way_on: str) -> Notice:
    return Notice(title=title, prompt=_("Noted?"), lines=(why, way_on))
