"""The status page above the login prompt, on every screen and serial line: agetty(8) shows /run/issue.d/*.issue there.

NixOS starts agetty with `--issue-file /etc/issue:/etc/issue.d:/run/issue:/run/issue.d` (nixos/modules/services/
ttys/getty.nix). /etc/issue is generated there, so the page goes to /run; without that option agetty looks at /run
only where there is no /etc/issue. Anyone at the console can read it: names, addresses, fingerprints and counts only.

Addresses stand in it as text. agetty's own escapes for them would make it watch the network, and draw the prompt anew,
with the name that somebody has begun to type gone, at every change.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hv.firstrun.certificate import AUTHORITY
from hv.firstrun.certificate import fingerprint as fingerprint_of
from hv.firstrun.state import SETTLED, JobState, Status
from hv.firstrun.world import World, write_atomically
from installer.answers.ssh_key import fingerprint, parse_ssh_key
from installer.errors import HyperError

ISSUE_FILE = "/run/issue.d/hyper-nixos.issue"
"""Gone after a reboot; written again by the unit of the first run."""
WIDTH = 79
"""Columns: a terminal of 80 that gets 80 characters and a line break may show an empty line."""
ADDRESSES = 4
"""Addresses shown; `ip address` has them all."""
TYPING = 20.0
"""Seconds since the last key press in which somebody counts as typing. The kernel notes it with a grain of eight."""


def notice(states: Sequence[JobState]) -> str:
    """What is done and what failed: the same from job to job, so that the prompt is drawn anew only for news."""
    names = {status: [state.job for state in states if state.status is status] for status in Status}
    going = any(state.status in (Status.running, Status.pending) for state in states)
    settled = sum(state.status in SETTLED for state in states)
    if going:
        head = f"First run: under way, {len(states)} jobs"
    elif settled == len(states):
        head = f"First run: complete, {len(states)} jobs"
    else:
        head = f"First run: {settled} of {len(states)} jobs done"
    lines = [head]
    if names[Status.failed]:
        lines.append(f"  failed: {', '.join(names[Status.failed])}")
        lines.append("  go on: log in, then sudo hv firstrun retry JOB")
    if names[Status.waiting]:
        lines.append(f"  waiting: {', '.join(names[Status.waiting])}")
    if warned := [state.job for state in states if state.warnings]:
        lines.append(f"  with warnings: {', '.join(warned)}")
    lines.append("  details: hv firstrun status   log: journalctl -u hyper-nixos-firstrun")
    return _literally(lines)


def page(world: World, states: Sequence[JobState]) -> str:
    """Name, addresses, keys of the SSH server, the authority's fingerprint, and the notice; no states: no notice."""
    head = [_hostname(world)]
    addresses = list(_addresses(world))
    if addresses:
        more = f" and {len(addresses) - ADDRESSES} more" if len(addresses) > ADDRESSES else ""
        head.append(f"  addresses: {'  '.join(addresses[:ADDRESSES])}{more}")
    else:
        head.append("  addresses: none yet")
    head += [f"  {kind} {key}" for kind, key in host_keys(world)]
    if digest := fingerprint_of(world.path(AUTHORITY)):
        head.append(f"  authority {digest}")
    if not states:
        head.append("  after login: hv security phase, hv firstrun status")
    return _literally(line for line in head).rstrip("\n") + "\n\n" + (notice(states) if states else "")


def _literally(lines: Iterator[str] | Sequence[str]) -> str:
    """One text, lines cut to fit; a backslash starts an escape sequence in issue files."""
    return "\n".join(line[:WIDTH].replace("\\", "\\\\") for line in lines) + "\n\n"


def _hostname(world: World) -> str:
    file = world.path("/proc/sys/kernel/hostname")
    name = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return name or "Hyper-NixOS"


def _addresses(world: World) -> Iterator[str]:
    """Where others reach this host (ip(8), ip-address(8)); guests' own bridges are of no use to them."""
    try:
        links = json.loads(
            world.attempt(("ip", "-json", "address", "show", "up", "scope", "global"), timeout=5).text
        )
    except (HyperError, ValueError):
        return
    for link in links:
        if not str(link.get("ifname", "")).startswith(("virbr", "vnet", "podman", "docker")):
            for each in link.get("addr_info", ()):
                # What `scope global` leaves out stands there as an empty object.
                if "local" in each and not each.get("temporary"):
                    yield str(each["local"])


def host_keys(world: World) -> Iterator[tuple[str, str]]:
    """Kind and fingerprint of each key by which the SSH server proves itself."""
    for file in sorted(world.path("/etc/ssh").glob("ssh_host_*_key.pub")):
        try:
            key = parse_ssh_key(file.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue  # being written just now
        yield key.kind, fingerprint(key.blob)


def announce(world: World) -> Callable[[Sequence[JobState]], None]:
    """A listener that keeps the page up to date. A console that cannot be written to is no reason to fail.

    A prompt is drawn anew only while nobody types at one: agetty forgets what was typed. It shows the new page anyway as
    soon as somebody has logged in or given up.
    """
    shown = ""
    stale = False

    def listener(states: Sequence[JobState]) -> None:
        nonlocal shown, stale
        text = notice(states)
        if text == shown and not stale:
            return
        try:
            if text != shown:
                write_atomically(world.path(ISSUE_FILE), page(world, states))
                shown, stale = text, True
            if not somebody_types(world):
                world.attempt(("agetty", "--reload"), timeout=5)
                stale = False
        except (OSError, HyperError):
            return

    return listener


def settle(world: World) -> None:
    """Nothing to tell of the first run any more: name, addresses and keys stay."""
    try:
        write_atomically(world.path(ISSUE_FILE), page(world, ()))
        if not somebody_types(world):
            world.attempt(("agetty", "--reload"), timeout=5)
    except (OSError, HyperError):
        return


def somebody_types(world: World) -> bool:
    """Whether a key was pressed a moment ago at a terminal with a login prompt."""
    now = world.clock.now().timestamp()
    return any(now - last < TYPING for last in _pressed(world.path("/proc")))


def _pressed(proc: Path) -> Iterator[float]:
    """When each agetty last read something: the access time of its terminal (tty_io.c, tty_update_time)."""
    for folder in proc.glob("[0-9]*"):
        try:
            if (folder / "comm").read_text(encoding="ascii", errors="replace").strip() == "agetty":
                yield (folder / "fd/0").stat().st_atime
        except OSError:
            continue  # it ended meanwhile
