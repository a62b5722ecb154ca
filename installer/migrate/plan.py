"""What a migration will do, step by step. Pure: findings and sources in, steps out."""

from enum import StrEnum
from pathlib import PurePosixPath

from installer.frozen import Frozen
from installer.migrate.conflicts import conflicts_of
from installer.migrate.fallback import Fallback, fallback_of
from installer.migrate.findings import FILE, IMPORT, MARK, Configuration, Findings, Kind
from installer.migrate.module import Source, module_text
from installer.migrate.nixfile import Edit, add_import, add_module
from installer.migrate.trial import Expected


class Action(StrEnum):
    """The kinds of step, in the order in which they are carried out."""

    build = "build"
    """Build the new system from a copy of the configuration; nothing of theirs is touched before that worked."""
    backup = "backup"
    """Copy what will change."""
    write = "write"
    """The new file, the import, and a commit where there is a repository."""
    profile = "profile"
    """Make the system a generation."""
    remember = "remember"
    """Write down what to go back to, and what the first boot is measured by."""
    loader = "loader"
    """Have the boot loader try it."""


class Step(Frozen):
    """One step."""

    action: Action
    """Which."""
    summary: str
    """For people."""


class Written(Frozen):
    """A file as it will be."""

    path: str
    """Below the configuration's root."""
    text: str
    """All of it."""
    line: int | None = None
    """The line that is new; none: the whole file is."""


class Place(Frozen):
    """Where the import goes; or, when no place is certain, why each is not."""

    file: str | None
    """Below the configuration's root."""
    edit: Written | None
    """The edited file; none when the import stands there already, or no place is certain."""
    doubts: tuple[str, ...] = ()
    """One line for each place that was considered."""


class Plan(Frozen):
    """Everything that will be done."""

    module: Written
    """The new file."""
    place: Place
    """The import."""
    fallback: Fallback
    """What takes the machine back."""
    steps: tuple[Step, ...]
    """In order; empty when the import has to be made by a person first."""
    expected: Expected
    """What the first boot is measured by."""

    @property
    def certain(self) -> bool:
        """Whether the import can be made."""
        return self.place.file is not None

    def files(self) -> tuple[Written, ...]:
        """What is written."""
        return (self.module, *([self.place.edit] if self.place.edit else []))


def place_of(configuration: Configuration) -> Place:
    """Where the one import goes: a file that belongs to this host alone, and whose syntax makes the place certain.

    First the entry of a channel configuration; then the files that name the host, the most telling first; then the
    host's own list of modules in flake.nix.
    """
    doubts = []
    for name, text in configuration.files.items():
        if configuration.kind is Kind.flake and name == configuration.entry:
            continue
        if name in configuration.shared:
            doubts.append(f"{name}: other hosts use it too")
            continue
        if IMPORT in text and _ours_there(configuration):
            return Place(file=name, edit=None)
        edit = add_import(text, IMPORT)
        if isinstance(edit, Edit):
            return Place(file=name, edit=Written(path=name, text=edit.text, line=edit.line))
        doubts.append(f"{name}: {edit.why}")
    if configuration.kind is Kind.flake and configuration.host:
        text = configuration.files[configuration.entry]
        if IMPORT in text and _ours_there(configuration):
            return Place(file=configuration.entry, edit=None)
        edit = add_module(text, configuration.host, IMPORT)
        if isinstance(edit, Edit):
            return Place(
                file=configuration.entry,
                edit=Written(path=configuration.entry, text=edit.text, line=edit.line),
            )
        doubts.append(f"{configuration.entry}: {edit.why}")
    return Place(file=None, edit=None, doubts=tuple(doubts))


def _ours_there(configuration: Configuration) -> bool:
    return configuration.existing is not None and configuration.existing.startswith(MARK)


def make_plan(findings: Findings, source: Source, *, no_fallback: bool = False) -> Plan:
    """The plan of a migration that nothing stops.

    Raises ValueError when something does: conflicts are shown before anything is planned.
    """
    if stops := [each.name for each in conflicts_of(findings, no_fallback=no_fallback) if each.stops]:
        raise ValueError(", ".join(stops))
    configuration, summary = findings.configuration, findings.configuration.summary
    assert summary is not None
    means, _ = fallback_of(findings, summary)
    fallback = Fallback.none if no_fallback else means
    place = place_of(configuration)
    folder = PurePosixPath(place.file or configuration.entry).parent
    module = Written(path=str(folder / FILE), text=module_text(findings, source, fallback))
    usable = [login for login in findings.logins if login.keys or login.password]
    return Plan(
        module=module,
        place=place,
        fallback=fallback,
        steps=tuple(_steps(configuration, module, place, fallback)) if place.file else (),
        expected=Expected(
            administrators=tuple(login.name for login in usable),
            ssh=summary.sshd.enable
            and bool(findings.addresses)
            and any(
                login.keys or summary.sshd.settings.get("PasswordAuthentication") == "true"
                for login in usable
            ),
            ports=summary.sshd.ports if summary.sshd.enable else (),
            addresses=findings.addresses,
            routed=bool(findings.gateways),
            guests=tuple(guest.name for guest in findings.guests if guest.running and guest.autostart),
        ),
    )


TRIES = {
    Fallback.counted: "systemd-boot counts its boots: two that fail, and the old system starts again",
    Fallback.once: "systemd-boot starts it once; the old system stays the default until it has proved itself",
    Fallback.grub: "GRUB starts it once; the old system stays the default until it has proved itself",
    Fallback.none: "it becomes the default; if it fails, a person chooses the old generation in the boot menu",
}


def _steps(configuration: Configuration, module: Written, place: Place, fallback: Fallback) -> list[Step]:
    edit = place.edit
    root = configuration.root
    line = (
        f"line {edit.line} of {root}/{edit.path} imports it"
        if edit
        else f"{root}/{place.file} imports it already"
    )
    commit = "; committed to the repository" if configuration.repository else ""
    return [
        Step(action=Action.build, summary="build the new system from a copy of the configuration"),
        Step(action=Action.backup, summary="copy what changes to /var/lib/hyper-nixos/migration"),
        Step(action=Action.write, summary=f"write {root}/{module.path}; {line}{commit}"),
        Step(
            action=Action.remember, summary="remember the old system, and what the first boot is measured by"
        ),
        Step(action=Action.profile, summary="make it a generation; the running system is not touched"),
        Step(action=Action.loader, summary=f"prepare the next boot: {TRIES[fallback]}"),
    ]


def two_lines(plan: Plan, configuration: Configuration) -> str:
    """What a person adds when no place is certain."""
    host = f" of {configuration.host} alone" if configuration.host else ""
    lines = [
        f"    imports = [ {configuration.root}/{plan.module.path} ];   # in a module{host}",
    ]
    if configuration.kind is Kind.flake:
        lines = [f"    imports = [ {IMPORT} ];   # in a module{host}; the path as seen from its file"]
    lines.append(
        f"    git add {plan.module.path}"
        if configuration.repository
        else "    hypervisor.enable = true;   # stands in that file"
    )
    return "\n".join(lines) + "\n"
