"""Raising the phase, with a way back, and lowering it again."""

import os

from hv.firstrun.logins import obstacles, ways
from hv.firstrun.phase import DECLARATION, HARDENED, declaration_for, note
from hv.firstrun.world import World, write_atomically
from hv.guard.guard import CURRENT, Guard, digest
from hv.guard.state import Kind, Staged
from hv.history import Entry, record, who
from hv.security import phases
from hv.security.phases import System
from installer.errors import Exit, HyperError
from installer.execute.ways_in import Ways

SETUP = "setup"


def harden(world: World, guard: Guard, profile: str | None, seconds: int) -> bool:
    """Try phase hardened; whether there was anything to do. It goes back unless it is confirmed.

    Raises:
        HyperError: somebody would be locked out (`Exit.lockout`), or it could not be taken back.
    """
    target = phases.find(world, HARDENED, profile)
    if world.path(CURRENT).resolve() == target.toplevel:
        world.say(f"Phase {target.title} runs already.")
        return False
    require_no_lockout(world, target)
    require_way_back(world, guard)
    wanted, found = declaration_for(world, HARDENED)
    staged: tuple[Staged, ...] = ()
    if wanted is None:
        world.warn(
            f"{DECLARATION} is not as we write it, so it will be left alone: the next nixos-rebuild makes the phase that it "
            'says; set hypervisor.phase = "hardened" there to stay'
        )
    else:
        staged = (Staged(path="phase.nix", text=wanted, base=digest(found)),)
    pending = guard.begin(
        Kind.phase, guard.host_path(target.toplevel), f"phase {target.title}", seconds, staged
    )
    _record(world, "harden", f"tries phase {target.title}", pending.previous, pending.incoming)
    world.say(f"Switching to phase {target.title} …")
    guard.switch(pending)
    try:
        require_no_lockout(world, target)
    except HyperError:
        world.warn("nobody could log in after the switch: going back")
        guard.revert()
        raise
    return True


def relax(world: World, guard: Guard) -> bool:
    """Back to phase setup, at once and for good; whether there was anything to do. Raises HyperError."""
    if waiting := guard.states.pending():
        raise HyperError(
            "A change waits to be confirmed.",
            why=f"{waiting.what or waiting.kind}, until {waiting.until:%H:%M:%S} UTC",
            remedy="`sudo hv security revert` goes back to what ran before it; or confirm it first.",
            code=Exit.busy,
        )
    target = phases.find(world, SETUP)
    if world.path(CURRENT).resolve() == target.toplevel:
        world.say("Phase setup runs already.")
        return False
    require_no_lockout(world, target)
    before = guard.running()
    toplevel = guard.host_path(target.toplevel)
    # On record before anything is opened: who is in phase setup may change the record.
    _record(world, "relax", "goes back to phase setup", before, toplevel)
    world.say("Switching to phase setup …")
    guard.switch_now(toplevel, before)
    try:
        require_no_lockout(world, target)
    except HyperError:
        world.warn("nobody could log in after the switch: going back")
        guard.switch_now(before, before)
        raise
    wanted, found = declaration_for(world, SETUP)
    if wanted is None:
        world.warn(
            f"{DECLARATION} is not as we write it, so it was left alone: the next nixos-rebuild does as it says"
        )
    elif wanted != found:
        write_atomically(world.path(DECLARATION), wanted)
        world.say(f"{DECLARATION} declares phase setup: the next nixos-rebuild keeps it")
    note(world, SETUP, toplevel)
    return True


def require_no_lockout(world: World, target: System) -> None:
    """Somebody gets into the system that takes over, and whoever has SSH now has not lost it for everybody.

    sshd is asked in both systems: the one that runs, and the one that takes over.
    """
    people = phases.administrators(world)
    there = ways(world, people, target.toplevel)
    if not any(each.any for each in there):
        raise _lockout("Nobody could log in as an administrator.", there)
    here = ways(world, people, world.path(CURRENT).resolve())
    if any(each.ssh for each in here) and not any(each.ssh for each in there):
        raise _lockout("No administrator could log in over SSH any more.", there)
    for each in there:
        for way in each.said():
            world.say(f"way in: {way}")
    for name in sorted({each.name for each in here if each.any} - {each.name for each in there if each.any}):
        against = next(each.against for each in there if each.name == name)
        world.warn(f"{name} could not log in any more: {'; '.join(against)}")


def _lockout(what: str, found: tuple[Ways, ...]) -> HyperError:
    return HyperError(
        what,
        why=obstacles(found) or "the group wheel has no member",
        remedy="Give an administrator an SSH key that the phase takes (`ssh-keygen -t ed25519`) or a password in /etc/nixos, "
        "rebuild, and try again. Nothing was changed.",
        code=Exit.lockout,
    )


def require_way_back(world: World, guard: Guard) -> None:
    """What runs now can be switched to again."""
    script = world.path(f"{guard.running()}/bin/switch-to-configuration")
    if not os.access(script, os.X_OK):
        raise HyperError(
            "There would be no way back.",
            why=f"{script} cannot be run",
            remedy="Rebuild the host, then try again. Nothing was changed.",
        )


def _record(world: World, action: str, what: str, previous: str, incoming: str) -> None:
    entry = Entry(
        at=world.clock.now(),
        who=who(world.root),
        action=action,
        what=what,
        previous=previous,
        incoming=incoming,
    )
    record(world, entry)
