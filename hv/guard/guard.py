"""The guard: before another system takes over, what runs is remembered and a timer armed; when nobody comes in through the
new system and says so in time, the timer goes back.

It rests on the whole previous system, not on copies of single files: modules, kernel settings, nftables, networkd, sshd and
accounts go back together, by its own switch-to-configuration. One change waits at a time, whatever it is of: two timers
could go back to two different systems.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from hv.firstrun.phase import HARDENED, note
from hv.firstrun.world import UNGUARDED, World, sync_folder, write_atomically
from hv.guard.processes import Road
from hv.guard.state import FOLDER, Kind, Last, Outcome, Pending, Staged, StateFolder
from hv.history import Entry, record, who
from hv.net.description import description, differ, newer_netdevs
from installer.errors import Exit, HyperError
from installer.execute.runner import CommandError

CURRENT = "/run/current-system"
PROFILES = "/nix/var/nix/profiles"
ROOT = "/nix/var/nix/gcroots/hyper-nixos-guard"
"""Keeps the previous system from being collected while it may be needed."""
INCOMING_ROOT = "/nix/var/nix/gcroots/hyper-nixos-guard-incoming"
"""Keeps the one that takes over, which no generation may hold yet."""
DECLARATION = "/etc/nixos"
UNIT = "hyper-nixos-guard-revert"
LOADED = "already loaded"
"""What systemd says of a name that is in use."""
LEAVING = 20.0
"""Seconds for which a unit that did its work may still be there."""
SWITCH_TIMEOUT = 600.0
"""Seconds for one switch-to-configuration."""
TRIES = 30
"""How often going back is tried, PAUSE apart: another switch may hold NixOS's lock."""
PAUSE = 10.0
"""Seconds."""
LOCK_PATIENCE = 900.0
"""Seconds that the timer waits for somebody who is just confirming."""
CONFIRM = {
    Kind.network: "hv net confirm",
    Kind.phase: "hv security confirm",
    Kind.declaration: "hv setup confirm",
}
"""What confirms a change; each of them confirms any."""
SWITCH_UNIT = (
    *("systemd-run", "--collect", "--no-ask-password", "--pipe", "--quiet", "--service-type=exec", "--wait"),
    *("--unit=hyper-nixos-switch", "--"),
)
"""A unit of its own, as nixos-rebuild uses: the switch may stop the one that it was called from."""
NAMES = {Kind.network: "network", Kind.phase: "phase", Kind.declaration: "declaration"}


class When(StrEnum):
    """Which changes have to be confirmed."""

    remote = "remote"
    """Those made while somebody is logged in over SSH."""
    always = "always"
    """All."""
    never = "never"
    """None."""


@dataclass(frozen=True)
class Change:
    """A switch that is about to begin."""

    running: str
    """Toplevel that runs."""
    incoming: str
    """Toplevel that takes over."""
    action: str
    """What switch-to-configuration was called with."""
    differs: bool
    """Whether its network is another."""
    remote: bool
    """Whether somebody is logged in over SSH."""


def decide(change: Change, waiting: Pending | None, when: When) -> tuple[str, bool] | None:
    """The system to go back to, and whether the boot loader has to go back too; None when there is nothing to guard.

    A second change while one waits goes back to where the first began: nobody has come through what lies between.
    """
    if change.action not in ("switch", "test") or when is When.never:
        return None
    permanent = change.action == "switch"
    if waiting:
        return waiting.previous, waiting.permanent or permanent
    if change.differs and (change.remote or when is When.always):
        return change.running, permanent
    return None


def objection(pending: Pending, road: Road) -> str | None:
    """Why a confirmation does not count; None when it does."""
    if pending.applied is None:
        return "the new system is not in force yet: the switch is still going on, or it failed"
    if road.console:
        return None
    if road.since is None:
        return (
            "it comes neither from an SSH connection nor from a console; tmux and screen outlive connections"
        )
    if not road.from_elsewhere:
        return f"the SSH connection comes from this host itself ({road.client or 'unknown'})"
    if road.since <= pending.applied:
        return "the SSH connection is older than the change, so it does not show that anybody can get in"
    return None


@dataclass(frozen=True)
class Guard:
    """The guard of one host."""

    world: World
    program: str
    """The `hv` that the timer runs."""

    @property
    def states(self) -> StateFolder:
        """Its files."""
        return StateFolder(self.world.path(FOLDER))

    def running(self) -> str:
        """Toplevel of the running system."""
        return self.host_path(self.world.path(CURRENT).resolve())

    def before(
        self, incoming: str, action: str, when: When, seconds: int, *, remote: bool, dry: bool = False
    ) -> None:
        """Called before any switch begins. Raises, and so stops the switch, when it could not be taken back. `dry`: say
        what would be done, and change nothing, as in the other calls."""
        with nullcontext() if dry else self.states.lock():
            waiting = self._waiting()
            if waiting and waiting.kind is not Kind.network:
                raise HyperError(
                    f"A change of the {NAMES[waiting.kind]} waits to be confirmed.",
                    why="what would be confirmed then is not what was switched to now",
                    remedy=f"Confirm it first (`sudo {CONFIRM[waiting.kind]}`), or go back (`sudo hv net revert`).",
                    code=Exit.busy,
                )
            running = self.running()
            incoming = self.host_path(self.world.path(incoming).resolve())
            differs = differ(self.world, running, incoming)
            decided = decide(Change(running, incoming, action, differs, remote), waiting, when)
            if decided is None:
                if dry:
                    self.world.say("This switch needs no confirmation.")
                return
            previous, permanent = decided
            if dry:
                self.world.say(f"Would go back to {previous} in {span(seconds)} unless it is confirmed.")
                return
            pending = self._pending(Kind.network, previous, incoming, seconds, permanent=permanent)
            made = {*pending.made, *(waiting.made if waiting else ())}
            self._wait(pending.model_copy(update={"made": tuple(sorted(made)), "who": who(self.world.root)}))
        self.world.say(
            f"This changes the network. It goes back to what it was in {span(seconds)} unless somebody opens a NEW SSH\n"
            "connection to this host, or logs in at its console, and runs there: sudo hv net confirm"
        )

    def begin(
        self, kind: Kind, incoming: str, what: str, seconds: int, staged: tuple[Staged, ...]
    ) -> Pending:
        """A change of ours, tried with `switch-to-configuration test`: it is guarded whoever makes it, and what boots next
        stays the same until it is confirmed, so that a power cut goes back too.

        Raises HyperError when it could not be taken back, or another change waits.
        """
        with self.states.lock():
            if waiting := self._waiting():
                raise HyperError(
                    f"A change of the {NAMES[waiting.kind]} waits to be confirmed.",
                    why="only one change at a time can be taken back",
                    remedy=f"Confirm it first (`sudo {CONFIRM[waiting.kind]}`), or wait until {waiting.until:%H:%M:%S} UTC.",
                    code=Exit.busy,
                )
            incoming = self.host_path(self.world.path(incoming).resolve())
            pending = self._pending(kind, self.running(), incoming, seconds, permanent=False)
            pending = pending.model_copy(
                update={"staged": staged, "who": who(self.world.root), "what": what}
            )
            _link(self.world.path(INCOMING_ROOT), incoming)
            self._wait(pending)
        return pending

    def switch(self, pending: Pending) -> None:
        """Try the system that takes over. Raises HyperError, having gone back, when it does not come up."""
        script = str(self.world.path(f"{pending.incoming}/bin/switch-to-configuration"))
        try:
            said = self._attempt(script, "test", apart=True)
            if said is None and self.running() != pending.incoming:
                said = f"{CURRENT} is still {self.running()}"
        except HyperError as error:
            said = error.why
        if said:
            self.revert()
            raise HyperError(
                f"The new {NAMES[pending.kind]} could not be tried, and the host went back.",
                why=said,
                remedy="See `journalctl -u hyper-nixos-switch`, mend what it names, and try again.",
            )
        now = self.states.pending()
        if now and now.applied is None:
            # The new system has no unit of ours that says so.
            self.applied()

    def switch_now(self, system: str, previous: str) -> None:
        """Switch for good, without anybody who confirms; back at once when it fails. Raises HyperError."""
        script = str(self.world.path(f"{system}/bin/switch-to-configuration"))
        if said := self._attempt(script, "switch", apart=True):
            back = str(self.world.path(f"{previous}/bin/switch-to-configuration"))
            again = None if system == previous else self._attempt(back, "switch", apart=True)
            raise HyperError(
                f"Switching to {system} failed.",
                why=said + (f"; and going back: {again}" if again else ""),
                remedy="See `journalctl -u hyper-nixos-switch`, mend what it names, and try again.",
            )

    def applied(self, *, dry: bool = False) -> None:
        """Called when a switch has put the new system in force, and at boot."""
        going = self.states.pending()
        if dry:
            self.world.say(
                "Nothing waits to be confirmed."
                if going is None
                else f"Would give the new {NAMES[going.kind]} {span(going.seconds)} to be confirmed in, from now on."
            )
            return
        if going and going.boot == self._boot() and (going.returning or going.keeping):
            # Called by the switch that goes back, or makes it permanent.
            return
        with self.states.lock():
            pending = self.states.pending()
            if pending is None:
                return
            rebooted = pending.boot != self._boot()
            if rebooted and not pending.keeping and self._is_previous(pending):
                self._settle(pending, Outcome.rebooted)
                self.world.say(
                    f"The machine was started with the {NAMES[pending.kind]} from before the change."
                )
                return
            # Begun before the power went: it is finished at once.
            seconds = 1 if pending.returning or pending.keeping else pending.seconds
            self.states.wait(
                pending.model_copy(
                    update={
                        "boot": self._boot(),
                        "applied": self._uptime(),
                        "until": self.world.clock.now() + timedelta(seconds=seconds),
                    }
                )
            )
            self._arm(seconds)
            self.world.say(
                f"The {NAMES[pending.kind]} goes back in {span(seconds)} unless confirmed: {CONFIRM[pending.kind]}"
            )

    def confirm(self, road: Road, *, dry: bool = False) -> None:
        """Keep the new system. Raises HyperError where this does not confirm it, also with `dry`."""
        with nullcontext() if dry else self.states.lock():
            pending = self.states.pending()
            if pending is None:
                self._nothing_to_confirm()
                return
            name = NAMES[pending.kind]
            if pending.returning:
                raise HyperError(
                    f"Too late: the {name} is going back.",
                    why=f"nobody confirmed it until {pending.until:%H:%M:%S} UTC",
                    remedy="Make the change again, and confirm it in time.",
                )
            if why := objection(pending, road) or self._other_system(pending):
                raise HyperError(
                    f"This does not confirm the {name}.",
                    why=why,
                    remedy="Open a new SSH connection from another machine (`ssh -S none` where connections are shared), or "
                    f"log in at the console, and run `sudo {CONFIRM[pending.kind]}` there. It goes back at "
                    f"{pending.until:%H:%M:%S} UTC.",
                )
            if dry:
                self.world.say(f"Would keep the new {name}, {pending.incoming}.")
                return
            self._keep(pending, switch="boot")
        self._disarm()
        self.world.say(f"Confirmed: the new {name} stays.")

    def revert(self, *, dry: bool = False) -> None:
        """Go back, or finish what was confirmed when the power went. Called by the timer."""
        if dry:
            pending = self.states.pending()
            if pending is None:
                self.world.say("Nothing waits to be confirmed.")
            elif pending.keeping:
                self.world.say(f"Would finish what was confirmed: {pending.incoming} stays.")
            else:
                self.world.say(f"Would go back to {pending.previous}.")
            return
        with self.states.lock(LOCK_PATIENCE):
            pending = self.states.pending()
            if pending is None:
                return
            if pending.keeping:
                self._keep(pending, switch="switch")
                return
            if not pending.returning and self._is_previous(pending):
                self._settle(pending, Outcome.same)
                return
            pending = pending.model_copy(update={"returning": True})
            self.states.wait(pending)
            try:
                self._return(pending)
            except HyperError as error:
                self._settle(pending, Outcome.failed, why=error.why)
                raise
            self._settle(pending, Outcome.reverted)
        self.world.say(f"Nobody confirmed the new {NAMES[pending.kind]}: {pending.previous} runs again.")

    def _waiting(self) -> Pending | None:
        waiting = self.states.pending()
        if waiting and (waiting.returning or waiting.keeping):
            name = NAMES[waiting.kind]
            raise HyperError(
                f"The {name} is {'going back to what it was' if waiting.returning else 'being made permanent'}.",
                why="a change was not confirmed in time"
                if waiting.returning
                else "a change was just confirmed",
                remedy="Wait until `hv net status` says that it is done, then switch.",
                code=Exit.busy,
            )
        return waiting

    def _pending(
        self, kind: Kind, previous: str, incoming: str, seconds: int, *, permanent: bool
    ) -> Pending:
        made = newer_netdevs(description(self.world, previous), description(self.world, incoming))
        return Pending(
            kind=kind,
            previous=previous,
            incoming=incoming,
            made=tuple(sorted(made)),
            permanent=permanent,
            seconds=seconds,
            boot=self._boot(),
            until=self.world.clock.now() + timedelta(seconds=seconds),
        )

    def _wait(self, pending: Pending) -> None:
        _link(self.world.path(ROOT), pending.previous)
        self.states.wait(pending)
        self._arm(pending.seconds)

    def _is_previous(self, pending: Pending) -> bool:
        """Whether the host is where it would go back to; for a change of the network, as far as that goes."""
        running = self.running()
        if pending.kind is Kind.network:
            return not differ(self.world, pending.previous, running)
        return running == pending.previous

    def _other_system(self, pending: Pending) -> str | None:
        """Why what runs is not what waits; a change of the network counts whichever system has it."""
        if pending.kind is Kind.network or self.running() == pending.incoming:
            return None
        return f"{self.running()} runs, and {pending.incoming} waits to be confirmed"

    def _keep(self, pending: Pending, switch: str) -> None:
        """Make it permanent: generation, declaration, boot loader. Each step may be done again, and is after a power cut."""
        if pending.kind is Kind.network:
            self._settle(pending, Outcome.confirmed)
            return
        pending = pending.model_copy(update={"keeping": True})
        self.states.wait(pending)
        self._point_profile(pending.incoming)
        changed = tuple(self._declare(pending.staged))
        script = str(self.world.path(f"{pending.incoming}/bin/switch-to-configuration"))
        if said := self._switch(script, switch, lambda: True):
            # It runs, and the declaration says so; only the boot menu does not.
            self.world.warn(f"the next boot may start the system from before: {said}")
        if pending.kind is Kind.phase:
            note(self.world, HARDENED, pending.incoming)
        self._settle(pending, Outcome.confirmed, files=changed)

    def _declare(self, staged: tuple[Staged, ...]) -> Iterator[str]:
        """Put files of the declaration in place; those that somebody changed meanwhile are left alone."""
        for each in staged:
            place = self.world.path(f"{DECLARATION}/{each.path}")
            found = place.read_text(encoding="utf-8") if place.is_file() else None
            if found == each.text:
                continue
            if digest(found) != each.base:
                self.world.warn(
                    f"{DECLARATION}/{each.path} was changed meanwhile, so it was left alone: the next nixos-rebuild does as "
                    "it says"
                )
                continue
            write_atomically(place, each.text)
            self.world.say(f"{DECLARATION}/{each.path} declares it: the next nixos-rebuild keeps it")
            yield each.path

    def _return(self, pending: Pending) -> None:
        """First the running network, because somebody waits for it; then what boots next."""
        script = str(self.world.path(f"{pending.previous}/bin/switch-to-configuration"))
        # Beforehand, so that networkd finds free what these interfaces hold, and no address twice.
        for name in pending.made:
            self.world.attempt(("ip", "link", "delete", "dev", name))
        said = self._switch(script, "test", lambda: self.running() == pending.previous)
        if pending.permanent:
            # Whatever came of the first: a machine that is started anew shall have the network back.
            self._point_profile(pending.previous)
            said = self._switch(script, "boot", lambda: True) or said
        if said:
            raise HyperError(
                "Going back did not work.",
                why=said,
                remedy=f"Run `{script} switch` at the console, or choose the system before in the boot menu.",
            )

    def _switch(self, script: str, action: str, done: Callable[[], bool]) -> str | None:
        """Run it until it worked; what it said when it never did."""
        said: str | None = ""
        for attempt in range(TRIES):
            if attempt:
                self.world.clock.sleep(PAUSE)
            try:
                said = self._attempt(script, action)
            except CommandError as error:
                said = error.why
            if said is None and done():
                return None
            self.world.say(f"`{script} {action}`: {said}")
        return f"`{script} {action}` did not work: {said}"

    def _attempt(self, script: str, action: str, *, apart: bool = False) -> str | None:
        """Run it once, in a unit of its own if `apart`, so that it goes on when a connection breaks; what it said when it
        failed."""
        unit = SWITCH_UNIT if apart and self.world.path("/run/systemd/system").is_dir() else ()
        # Without checks: one that holds a switch up is no reason to leave everybody outside; ours has been asked already.
        environment = ("env", f"{UNGUARDED}=off", *(() if apart else ("NIXOS_NO_CHECK=1",)))
        ended = self.world.attempt((*unit, *environment, script, action), timeout=SWITCH_TIMEOUT)
        # 4: active, but units failed to start (switch-to-configuration-ng).
        if ended.status in (0, 4):
            if ended.status and apart:
                self.world.warn(f"units failed to start when switching: {ended.stderr.strip()}")
            return None
        return f"it ended with {ended.status}: {ended.stderr.strip() or ended.text.strip()}"

    def _point_profile(self, system: str) -> None:
        """Make the generation that holds the system the profile's, or a new one, as nix-env(1) does."""
        folder = self.world.path(PROFILES)
        generations = {
            int(found[1]): link
            for link in folder.iterdir()
            if (found := re.fullmatch(r"system-(\d+)-link", link.name))
        }
        for number in sorted(generations, reverse=True):
            target = generations[number].resolve()
            special = target / "specialisation"
            children = [child.resolve() for child in special.iterdir()] if special.is_dir() else []
            if self.world.path(system).resolve() in (target, *children):
                break
        else:
            number = max(generations, default=0) + 1
            _link(folder / f"system-{number}-link", system)
        _link(folder / "system", f"system-{number}-link")

    def _nothing_to_confirm(self) -> None:
        last = self.states.last()
        if last and last.outcome in (Outcome.reverted, Outcome.failed):
            raise HyperError(
                f"Too late: the {NAMES[last.kind]} went back."
                if last.outcome is Outcome.reverted
                else "Nothing waits: going back has failed.",
                why=last.why or f"nobody had confirmed the change until {last.at:%H:%M:%S} UTC",
                remedy="Make the change again, and confirm it in time.",
            )
        self.world.say("Nothing waits to be confirmed.")

    def _settle(
        self, pending: Pending, outcome: Outcome, why: str | None = None, files: tuple[str, ...] = ()
    ) -> None:
        record(
            self.world,
            Entry(
                at=self.world.clock.now(),
                who=who(self.world.root) if outcome is Outcome.confirmed else "the guard",
                action=outcome,
                what=pending.what or f"a change of the {NAMES[pending.kind]}",
                previous=pending.previous,
                incoming=pending.incoming,
                files=files,
            ),
        )
        self.states.settle(
            Last(
                kind=pending.kind,
                outcome=outcome,
                at=self.world.clock.now(),
                previous=pending.previous,
                incoming=pending.incoming,
                why=why,
            )
        )
        for root in (ROOT, INCOMING_ROOT):
            self.world.path(root).unlink(missing_ok=True)

    def _arm(self, seconds: int) -> None:
        self._disarm()
        argv = (
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={UNIT}",
            "--description=Goes back to the system from before an unconfirmed change",
            f"--on-active={seconds}",
            "--timer-property=AccuracySec=1s",
            "--",
            self.program,
            "net",
            "revert",
        )
        ends = self.world.clock.monotonic() + LEAVING
        while True:
            try:
                self.world.run(
                    argv,
                    purpose="arm the timer that takes the change back",
                    remedy="Mend what systemd says. To switch without a way back: `NIXOS_NO_CHECK=1 nixos-rebuild …`.",
                )
            except HyperError as error:
                # What took the last change back has said so, but its process has yet to end.
                if LOADED not in error.why or self.world.clock.monotonic() >= ends:
                    raise
                self.world.clock.sleep(0.2)
            else:
                return

    def _disarm(self) -> None:
        # A timer that is not there is no failure.
        self.world.attempt(("systemctl", "stop", f"{UNIT}.timer"))

    def _boot(self) -> str:
        return self.world.path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def _uptime(self) -> float:
        return float(self.world.path("/proc/uptime").read_text(encoding="ascii").split()[0])

    def host_path(self, path: Path) -> str:
        """A path below the root, as the host has it."""
        return f"/{path.relative_to(self.world.root.resolve())}"


def span(seconds: int) -> str:
    """A time for people: `10 min`, `45 s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min" if minutes and not rest else f"{seconds} s"


def _link(path: Path, target: str) -> None:
    """Replace a symbolic link, in one step and for good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(path)
    sync_folder(path.parent)


def digest(text: str | None) -> str | None:
    """SHA-256 of a file of the declaration; None for one that is not there."""
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def unguarded() -> bool:
    """Whether the switch answers for itself."""
    return os.environ.get(UNGUARDED) == "off"
