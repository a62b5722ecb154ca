"""Starting, stopping and the plain properties of guests."""

import time
from typing import Any

import sqlalchemy as sql
from lxml import etree

from hv.daemon.guests import definition, domain_of, is_starting, state_of
from hv.daemon.operations import Action, Work
from hv.daemon.owned import ours
from hv.daemon.placing import Wanted, held_by, near_of, placed
from hv.daemon.problems import RefusedError, Status
from hv.daemon.roles import Permission
from hv.daemon.store import VMS
from hv.libvirt_python import libvirt_module
from hv.vm.amounts import amounts_in
from hv.vm.domain import NS, Placed, set_place, text_of
from hv.vm.spec import Edit, Flag, Rename, Stop, Tags, Typed

ASK_AGAIN = 10.0
"""Seconds after which a guest that did not follow is asked again: one that was booting did not hear it."""


def _now(work: Work) -> tuple[Any, str]:
    domain = domain_of(work.connection, work.uuid)
    return domain, state_of(domain)


def _result(domain: Any) -> dict[str, Any]:
    return {"name": domain.name(), "uuid": domain.UUIDString(), "state": state_of(domain)}


def plan_start(work: Work) -> list[str]:
    """What starting means."""
    domain, state = _now(work)
    if state in ("running", "blocked"):
        return [f"{work.target} runs already"]
    if state == "paused":
        return [f"{work.target} is paused: it would be resumed"]
    saved = " from its saved memory" if domain.hasManagedSaveImage(0) else ""
    return [f"{work.target} is started{saved}"]


def run_start(work: Work) -> dict[str, Any]:
    """Start it, resume it if it is paused; it must run afterwards."""
    domain, _ = _now(work)
    while is_starting(domain):
        work.pause(0.1)
    state = state_of(domain)
    if state == "paused":
        domain.resume()
    elif not domain.isActive():
        work.say("starting", 20)
        domain.create()
    found = state_of(domain)
    if found not in ("running", "blocked"):
        raise RefusedError(
            "did-not-stay",
            Status.failed,
            f"{work.target} does not run.",
            why=f"right after it was started it is {found}",
            remedy=f"See `hv vm logs '{work.target}'`.",
        )
    return _result(domain)


def plan_stop(work: Work) -> list[str]:
    """How it would be stopped."""
    domain, state = _now(work)
    if not domain.isActive():
        return [f"{work.target} is {state} already"]
    if work.given.force:
        return [f"{work.target} is ended at once, as if its power were cut: what it has not written is lost"]
    return [f"{work.target} is asked to shut down, and has {work.given.wait} s to follow"]


def run_stop(work: Work) -> dict[str, Any]:
    """Ask, and wait; or end it."""
    domain, _ = _now(work)
    if not domain.isActive():
        return _result(domain)
    if work.given.force:
        work.say("ending it", 20)
        _destroy(domain)
        return _result(domain)
    _ask(work, domain, "shut down", domain.shutdown)
    return _result(domain)


def _destroy(domain: Any) -> None:
    """End it; that it ended by itself meanwhile is as good."""
    libvirt = libvirt_module()
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


def _ask(work: Work, domain: Any, what: str, ask: Any) -> None:
    """Ask the guest to shut down until it does; RefusedError when its time is over. It goes on running then."""
    libvirt = libvirt_module()
    if state_of(domain) == "paused":
        raise RefusedError(
            "paused",
            Status.conflict,
            f"{work.target} is paused and cannot {what} by itself.",
            why="a guest that is paused hears nothing",
            remedy=f"`hv vm resume '{work.target}'` first, or `hv vm stop '{work.target}' --force`.",
        )
    end = time.monotonic() + work.given.wait
    begin = time.monotonic()
    asked = 0.0
    while domain.isActive():
        now = time.monotonic()
        if not asked or now - asked >= ASK_AGAIN:
            try:
                ask()
            except libvirt.libvirtError as error:
                # It ended between two looks; or something else is wrong.
                if domain.isActive():
                    raise error
                return
            asked = now
        if now >= end:
            raise RefusedError(
                "does-not-follow",
                Status.timeout,
                f"{work.target} does not {what}.",
                why=f"it was asked for {work.given.wait} s (ACPI power button) and goes on running; perhaps its system "
                "does not listen, or is still starting or stopping",
                remedy=f"Look at `hv vm console '{work.target}'`; wait longer (--wait 300), or end it at once, losing what "
                f"it has not written: `hv vm stop '{work.target}' --force`.",
            )
        work.say(f"asked it to {what}", min(95, 100 * (now - begin) / max(1, work.given.wait)))
        work.pause(0.1 if now - begin < 2 else 0.5)


def plan_restart(work: Work) -> list[str]:
    """How it would be restarted."""
    domain, state = _now(work)
    if not domain.isActive():
        return [f"{work.target} is {state}: it would be started"]
    how = (
        "ended at once" if work.given.force else f"asked to shut down, and has {work.given.wait} s to follow"
    )
    return [f"{work.target} is {how}, then started: changes that wait for a restart come into force"]


def run_restart(work: Work) -> dict[str, Any]:
    """Stop and start, so that what was changed meanwhile comes into force; a reboot inside would not do that."""
    domain, _ = _now(work)
    if domain.isActive():
        if work.given.force:
            _destroy(domain)
        else:
            _ask(work, domain, "shut down", domain.shutdown)
    work.say("starting", 96)
    domain.create()
    return _result(domain)


def plan_pause(work: Work) -> list[str]:
    """What pausing means."""
    _, state = _now(work)
    return [f"{work.target} is {state}: it stands still, and keeps its memory"]


def run_pause(work: Work) -> dict[str, Any]:
    """Hold it."""
    domain, state = _now(work)
    if state != "paused":
        domain.suspend()
    return _result(domain)


def plan_resume(work: Work) -> list[str]:
    """What resuming means."""
    _, state = _now(work)
    return [f"{work.target} is {state}: it goes on where it was"]


def run_resume(work: Work) -> dict[str, Any]:
    """Let it go on."""
    domain, state = _now(work)
    if state not in ("running", "blocked"):
        domain.resume()
    return _result(domain)


def plan_autostart(work: Work) -> list[str]:
    """Whether it starts with the host."""
    return [f"{work.target} {'starts' if work.given.on else 'does not start'} with the host"]


def run_autostart(work: Work) -> dict[str, Any]:
    """Set, and read back."""
    domain, _ = _now(work)
    domain.setAutostart(int(work.given.on))
    return _result(domain) | {"autostart": bool(domain.autostart())}


def plan_rename(work: Work) -> list[str]:
    """The new name; RefusedError while it runs."""
    domain, _ = _now(work)
    if domain.isActive():
        raise RefusedError(
            "runs",
            Status.conflict,
            f"{work.target} runs.",
            why="libvirt renames only VMs that are stopped",
            remedy=f"`hv vm stop '{work.target}'` first.",
        )
    return [f"{work.target} is called {work.given.name} from now on; UUID, disks and network cards stay"]


def run_rename(work: Work) -> dict[str, Any]:
    """libvirt's name and ours."""
    domain, _ = _now(work)
    if domain.name() != work.given.name:
        plan_rename(work)
        domain.rename(work.given.name, 0)
    work.store.write(sql.update(VMS).where(VMS.c.uuid == work.uuid).values(name=work.given.name))
    return _result(domain)


def plan_tag(work: Work) -> list[str]:
    """Which tags change."""
    words = [f"+{tag}" for tag in work.given.add] + [f"-{tag}" for tag in work.given.remove]
    return [f"{work.target}: {' '.join(words)}"]


def run_tag(work: Work) -> dict[str, Any]:
    """Tags are the broker's own."""
    row = work.store.row(sql.select(VMS).where(VMS.c.uuid == work.uuid))
    if row is None:
        raise RefusedError(
            "not-ours",
            Status.conflict,
            f"{work.target} has no tags.",
            why="hvd did not make it, and keeps nothing about it",
            remedy="Tags are for VMs that were made with `hv vm create` or `hv vm import`.",
        )
    tags = sorted((set(row["tags"]) | set(work.given.add)) - set(work.given.remove))
    work.store.write(sql.update(VMS).where(VMS.c.uuid == work.uuid).values(tags=tags))
    return {"name": work.target, "tags": tags}


def plan_edit(work: Work) -> list[str]:
    """Which properties change."""
    given: Edit = work.given
    plain = given.model_dump(exclude_none=True, include={"description", "os"})
    lines = [f"{name} becomes {value!r}" for name, value in plain.items()]
    if given.placement is not None or given.unplaced:
        ours(work)
        later = ", from the next start on" if _now(work)[0].isActive() else ""
        lines += [f"{line}{later}" for line in _place(work)[1]]
    return lines


def _place(work: Work) -> tuple[Placed, list[str]]:
    given: Edit = work.given
    if given.placement is None:
        return Placed(), ["it runs anywhere on the host"]
    root = definition(_now(work)[0])
    amounts = amounts_in(root)
    near = near_of(work.connection, root)
    wanted = Wanted(amounts.max_vcpus, amounts.max_memory, near, held_by(work))
    return placed(work, given.placement, wanted)


def run_edit(work: Work) -> dict[str, Any]:
    """Change one element, and leave everything else as somebody wrote it."""
    libvirt = libvirt_module()
    given: Edit = work.given
    domain, _ = _now(work)
    root = definition(domain)
    if given.placement is not None or given.unplaced:
        ours(work)
        set_place(root, _place(work)[0])
        domain = work.connection.defineXMLFlags(text_of(root), 0)
    if given.description is not None:
        libvirt_flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, given.description or None, None, None, libvirt_flags
        )
    if given.os is not None:
        kept = root.find(f"metadata/{{{NS}}}vm")
        if kept is not None:
            plain = etree.Element("vm", {str(key): str(value) for key, value in kept.attrib.items()})
            plain.set("os", given.os)
            domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                text_of(plain),
                "hv",
                NS,
                libvirt.VIR_DOMAIN_AFFECT_CONFIG,
            )
        work.store.write(sql.update(VMS).where(VMS.c.uuid == work.uuid).values(os=given.os))
    return _result(domain)


class Nothing(Typed):
    """No words."""


ACTIONS = (
    Action("start", Permission.start, Nothing, plan_start, run_start, 120),
    Action("stop", Permission.stop, Stop, plan_stop, run_stop, 60),
    Action("restart", Permission.stop, Stop, plan_restart, run_restart, 120),
    Action("pause", Permission.stop, Nothing, plan_pause, run_pause, 60),
    Action("resume", Permission.start, Nothing, plan_resume, run_resume, 60),
    Action("autostart", Permission.change, Flag, plan_autostart, run_autostart, 60),
    Action("rename", Permission.change, Rename, plan_rename, run_rename, 60),
    Action("tag", Permission.change, Tags, plan_tag, run_tag, 60),
    Action("edit", Permission.change, Edit, plan_edit, run_edit, 60),
)
