"""One change of the declaration on a host: proposed, looked at as a system, tried with a way back, kept or taken back."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hv.firstrun.world import World, write_atomically
from hv.guard.guard import NAMES, Guard
from hv.guard.state import Kind, Pending
from hv.history import Entry, record, who
from hv.security import phases
from hv.security.switching import require_no_lockout, require_way_back
from hv.setup.proposal import Proposal, propose
from hv.setup.record import WRITTEN, Record, host_files, keep, next_number
from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.migrate.difference import Difference, compare
from installer.migrate.evaluation import Evaluator
from installer.migrate.findings import Configuration
from installer.migrate.findings import Kind as Built
from installer.render.host import APPLIED, CONFIGURATION
from installer.render.templates import load_templates
from installer.render.users import PASSWORDS

WORK = "/var/lib/hyper-nixos/setup"
"""The candidate, the history, and what somebody left before trying it. Nothing in it is secret."""


@dataclass(frozen=True)
class Looked:
    """What a proposal would make of the system."""

    difference: Difference
    """Packages, units, ports, accounts; and what else is not as it was."""
    toplevel: str
    """The system that it builds."""
    before: str
    """The system that the files of now build."""


@dataclass(frozen=True)
class Setup:
    """Changes of one host."""

    world: World
    guard: Guard
    evaluator: Evaluator
    hashes: dict[str, str] = field(default_factory=dict, repr=False)
    """Login name to the hash of a password that was just typed."""

    @property
    def folder(self) -> Path:
        """Where the declaration lies."""
        return self.world.path(CONFIGURATION)

    def files(self) -> dict[str, str]:
        """What lies there. Raises HyperError for what the caller may not read."""
        try:
            return host_files(self.folder)
        except PermissionError as error:
            raise HyperError(
                f"{CONFIGURATION} cannot be read.",
                why=str(error),
                remedy="Run it with sudo.",
                code=Exit.privilege,
            ) from error

    def propose(self, text: str) -> Proposal:
        """A change of host.toml to this text. Raises HyperError."""
        proposal = propose(self.files(), text, load_templates())
        for each in proposal.staged:
            if (self.folder / each.path).is_symlink():
                raise HyperError(
                    f"{CONFIGURATION}/{each.path} is a link, and would become a file.",
                    why=f"it leads to {(self.folder / each.path).readlink()}, which may belong to somebody else",
                    remedy=f"Put the file itself there; {CONFIGURATION} as a whole may be a link. Nothing was changed.",
                )
        return proposal

    def require_nothing_waits(self) -> None:
        """Raise unless a change may begin."""
        waiting = self.guard.states.pending()
        if waiting:
            raise HyperError(
                f"A change of the {NAMES[waiting.kind]} waits to be confirmed.",
                why=f"{waiting.what or waiting.kind}, until {waiting.until:%H:%M:%S} UTC",
                remedy="Confirm it (`sudo hv setup confirm`), or take it back (`sudo hv setup cancel`), then try again.",
                code=Exit.busy,
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one change is made at a time; the kernel drops the lock when its holder dies."""
        work = self.world.path(WORK)
        work.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (work / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HyperError(
                    "The declaration is being changed by somebody else right now.",
                    why=f"another process holds {work / '.lock'}",
                    remedy="Wait until it is done: two changes at once could not both be taken back.",
                    code=Exit.busy,
                ) from error
            self.require_nothing_waits()
            yield

    def candidate(self, proposal: Proposal, folder: Path) -> Configuration:
        """A copy of the files with the change in it; how Nix is asked about it."""
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        for each in proposal.staged:
            write_atomically(folder / each.path, each.text)
        return _configuration(folder, proposal.answers)

    def look(self, proposal: Proposal, folder: Path) -> Looked:
        """Evaluate what is there and what would be; nothing is built. Raises EvaluationError."""
        changed = self.candidate(proposal, folder)
        now = self.evaluator.summary(_configuration(self.folder, proposal.before), self.folder)
        then = self.evaluator.summary(changed, folder)
        return Looked(compare(now, then), then.toplevel, now.toplevel)

    def build(self, proposal: Proposal, folder: Path) -> str:
        """Build the candidate; its system. Nothing is switched to."""
        return self.evaluator.build(_configuration(folder, proposal.answers), folder)

    def apply(self, proposal: Proposal, system: str, seconds: int, text_before: str) -> Pending | None:
        """Try the built system; None when it runs already, so that only files were to be written.

        Raises:
            HyperError: somebody would be locked out (`Exit.lockout`), or it could not be taken back; nothing was changed.
        """
        world = self.world
        target = world.path(system).resolve()
        number = next_number(world)
        names = list(dict.fromkeys(change.field for change in proposal.changes)) or ["comments"]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        declared = next((each.text for each in proposal.staged if each.path == APPLIED), text_before)
        made = Record(
            number=number,
            at=world.clock.now(),
            who=who(world.root),
            summary=", ".join(names[:3]) + more,
            before=text_before,
            after=declared,
        )
        if world.path(self.guard.running()).resolve() == target:
            self._write(proposal, made)
            return None
        _require_declared_phase(world)
        now = phases.running(world)
        there = phases.System(target, now.phase if now else "setup", now.profile if now else None, None)
        require_no_lockout(world, there)
        require_way_back(world, self.guard)
        self._keep_hashes(proposal.answers)
        keep(world, made)
        pending = self.guard.begin(
            Kind.declaration, self.guard.host_path(target), made.what, seconds, proposal.staged
        )
        record(world, _entry(world, "setup", made.what, pending.previous, pending.incoming))
        world.say("Switching to the new system …")
        self.guard.switch(pending)
        try:
            require_no_lockout(world, there)
        except HyperError:
            world.warn("nobody could log in after the switch: going back")
            self.guard.revert()
            raise
        return pending

    def _write(self, proposal: Proposal, made: Record) -> None:
        """Files alone. The one that says what was applied comes last: until then the same change is made again."""
        keep(self.world, made)
        for each in sorted(proposal.staged, key=lambda staged: staged.path == APPLIED):
            write_atomically(self.folder / each.path, each.text)
            self.world.say(f"written: {CONFIGURATION}/{each.path}")
        running = self.guard.running()
        files = tuple(each.path for each in proposal.staged)
        record(
            self.world,
            _entry(self.world, WRITTEN, made.what, running, running).model_copy(update={"files": files}),
        )

    def _keep_hashes(self, answers: Answers) -> None:
        """Hashes of passwords, where the system looks for them when it makes the accounts. One that is there stays: since
        its account was made, passwd(1) rules."""
        names = {user.name for user in answers.users}
        for name, value in self.hashes.items():
            file = self.world.path(f"{PASSWORDS}/{name}")
            if name not in names or file.exists():
                continue
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(file, f"{value}\n", 0o600)


def _configuration(folder: Path, answers: Answers) -> Configuration:
    return Configuration(
        kind=Built.flake, named=str(folder), root=str(folder), entry="flake.nix", host=answers.hostname
    )


def _require_declared_phase(world: World) -> None:
    running, declared = phases.running(world), phases.declared(world)
    if running and declared and running.phase != declared:
        raise HyperError(
            f"Phase {running.phase} runs, and /etc/nixos declares phase {declared}.",
            why="the change is built in the declared phase, and switching to it would change the phase too",
            remedy="Make them agree first: `hv security phase` says how. Nothing was changed.",
        )


def _entry(world: World, action: str, what: str, previous: str, incoming: str) -> Entry:
    return Entry(
        at=world.clock.now(),
        who=who(world.root),
        action=action,
        what=what,
        previous=previous,
        incoming=incoming,
    )
