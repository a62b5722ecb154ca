"""The guard: before a system with another network takes over, what runs is remembered and a timer armed; when nobody
comes through the new network and says so in time, the timer goes back.

It rests on the whole previous system, not on copies of single files: modules, kernel settings, nftables, networkd and
sshd go back together, by its own switch-to-configuration. The systems say themselves what their network is
(nix/modules/network/revert.nix).
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from hv.firstrun.world import UNGUARDED, World, sync_folder
from hv.net.processes import Road
from hv.net.state import FOLDER, Last, Outcome, Pending, StateFolder
from installer.errors import Exit, HyperError
from installer.execute.runner import CommandError

CURRENT = "/run/current-system"
PROFILES = "/nix/var/nix/profiles"
ROOT = "/nix/var/nix/gcroots/hyper-nixos-network"
"""Keeps the previous system from being collected while it may be needed."""
DESCRIPTION = "etc/hyper-nixos/network.json"
"""In a system's toplevel: its network, for comparing."""
UNIT = "hyper-nixos-network-revert"
SWITCH_TIMEOUT = 600.0
"""Seconds for one switch-to-configuration."""
TRIES = 30
"""How often going back is tried, PAUSE apart: another switch may hold NixOS's lock."""
PAUSE = 10.0
"""Seconds."""


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
        return "the new network is not in force yet: the switch is still going on, or it failed"
    if road.console:
        return None
    if road.since is None:
        return (
            "it comes neither from an SSH connection nor from a console; tmux and screen outlive connections"
        )
    if not road.from_elsewhere:
        return f"the SSH connection comes from this host itself ({road.client or 'unknown'})"
    if road.since <= pending.applied:
        return (
            "the SSH connection is older than the new network, so it does not show that anybody can get in"
        )
    return None


def newer_netdevs(previous: str | None, incoming: str | None) -> set[str]:
    """Interfaces that a system makes and the previous one does not, from what both say of their networks.

    Of a previous system that says nothing, all count as its own: better one interface too many than one too few.
    """
    if previous is None or incoming is None:
        return set()
    return {*json.loads(incoming)["netdevs"]} - {*json.loads(previous)["netdevs"]}


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
        return self._host_path(self.world.path(CURRENT).resolve())

    def description(self, system: str) -> str | None:
        """A system's network; None for one that does not say."""
        file = self.world.path(f"{system}/{DESCRIPTION}")
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def differ(self, left: str, right: str) -> bool:
        """Whether two systems have different networks, as far as they say."""
        if left == right:
            return False
        found = self.description(left)
        return found is None or found != self.description(right)

    def before(self, incoming: str, action: str, when: When, seconds: int, *, remote: bool) -> None:
        """Called before a switch begins. Raises, and so stops the switch, when it could not be taken back."""
        with self.states.lock():
            waiting = self.states.pending()
            if waiting and waiting.returning:
                raise HyperError(
                    "The network is going back to what it was.",
                    why="a change was not confirmed in time",
                    remedy="Wait until `hv net status` says that it is done, then switch.",
                    code=Exit.busy,
                )
            running = self.running()
            incoming = self._host_path(self.world.path(incoming).resolve())
            change = Change(running, incoming, action, self.differ(running, incoming), remote)
            decided = decide(change, waiting, when)
            if decided is None:
                return
            previous, permanent = decided
            made = newer_netdevs(self.description(previous), self.description(incoming))
            self._keep(previous)
            pending = Pending(
                previous=previous,
                incoming=incoming,
                made=tuple(sorted(made | {*(waiting.made if waiting else ())})),
                permanent=permanent,
                seconds=seconds,
                boot=self._boot(),
                until=self.world.clock.now() + timedelta(seconds=seconds),
            )
            self.states.wait(pending)
            self._arm(seconds)
        self.world.say(
            f"This changes the network. It goes back to what it was in {_span(seconds)} unless somebody opens a NEW SSH\n"
            "connection to this host, or logs in at its console, and runs there: sudo hv net confirm"
        )

    def applied(self) -> None:
        """Called when a switch has put the network in force, and at boot."""
        going = self.states.pending()
        if going and going.returning and going.boot == self._boot():
            # Called by the switch that goes back.
            return
        with self.states.lock():
            pending = self.states.pending()
            if pending is None:
                return
            rebooted = pending.boot != self._boot()
            if rebooted and not self.differ(pending.previous, self.running()):
                self._settle(pending, Outcome.rebooted)
                self.world.say("The machine was started with the network from before the change.")
                return
            # Begun before the power went: it is finished at once.
            seconds = 1 if pending.returning else pending.seconds
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
            self.world.say(f"The network goes back in {_span(seconds)} unless confirmed: hv net confirm")

    def confirm(self, road: Road) -> None:
        """Keep the new network."""
        with self.states.lock():
            pending = self.states.pending()
            if pending is None:
                self._nothing_to_confirm()
                return
            if pending.returning:
                raise HyperError(
                    "Too late: the network is going back.",
                    why=f"nobody confirmed it until {pending.until:%H:%M:%S} UTC",
                    remedy="Make the change again, and confirm it in time.",
                )
            if why := objection(pending, road):
                raise HyperError(
                    "This does not confirm the network.",
                    why=why,
                    remedy="Open a new SSH connection from another machine (`ssh -S none` where connections are shared), or "
                    f"log in at the console, and run `sudo hv net confirm` there. It goes back at {pending.until:%H:%M:%S} UTC.",
                )
            self._settle(pending, Outcome.confirmed)
        self._disarm()
        self.world.say("Confirmed: the new network stays.")

    def revert(self) -> None:
        """Go back. Called by the timer."""
        with self.states.lock():
            pending = self.states.pending()
            if pending is None:
                return
            if not pending.returning and not self.differ(pending.previous, self.running()):
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
        self.world.say(f"Nobody confirmed the new network: {pending.previous} runs again.")

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
        said = ""
        for attempt in range(TRIES):
            if attempt:
                self.world.clock.sleep(PAUSE)
            try:
                # Without checks: one that holds a switch up is no reason to leave everybody outside.
                ended = self.world.attempt(
                    ("env", "NIXOS_NO_CHECK=1", script, action), timeout=SWITCH_TIMEOUT
                )
            except CommandError as error:
                said = error.why
            else:
                # 4: active, but units failed to start (switch-to-configuration-ng).
                if ended.status in (0, 4) and done():
                    return None
                said = f"it ended with {ended.status}: {ended.stderr.strip() or ended.text.strip()}"
            self.world.say(f"`{script} {action}`: {said}")
        return f"`{script} {action}` did not work: {said}"

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
                "Too late: the network went back."
                if last.outcome is Outcome.reverted
                else "Nothing waits: going back has failed.",
                why=last.why or f"nobody had confirmed the change until {last.at:%H:%M:%S} UTC",
                remedy="Make the change again, and confirm it in time.",
            )
        self.world.say("Nothing waits to be confirmed.")

    def _settle(self, pending: Pending, outcome: Outcome, why: str | None = None) -> None:
        self.states.settle(
            Last(
                outcome=outcome,
                at=self.world.clock.now(),
                previous=pending.previous,
                incoming=pending.incoming,
                why=why,
            )
        )
        self.world.path(ROOT).unlink(missing_ok=True)

    def _keep(self, system: str) -> None:
        _link(self.world.path(ROOT), system)

    def _arm(self, seconds: int) -> None:
        self._disarm()
        self.world.run(
            (
                "systemd-run",
                "--quiet",
                "--collect",
                f"--unit={UNIT}",
                "--description=Goes back to the network from before an unconfirmed change",
                f"--on-active={seconds}",
                "--timer-property=AccuracySec=1s",
                "--",
                self.program,
                "net",
                "revert",
            ),
            purpose="arm the timer that takes the network back",
            remedy="Mend what systemd says. To switch without a way back: `NIXOS_NO_CHECK=1 nixos-rebuild …`.",
        )

    def _disarm(self) -> None:
        # A timer that is not there is no failure.
        self.world.attempt(("systemctl", "stop", f"{UNIT}.timer"))

    def _boot(self) -> str:
        return self.world.path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def _uptime(self) -> float:
        return float(self.world.path("/proc/uptime").read_text(encoding="ascii").split()[0])

    def _host_path(self, path: Path) -> str:
        return f"/{path.relative_to(self.world.root.resolve())}"


def _span(seconds: int) -> str:
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


def unguarded() -> bool:
    """Whether the switch answers for itself."""
    return os.environ.get(UNGUARDED) == "off"
