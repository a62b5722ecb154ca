"""Who is here, and by which road, as the kernel's table of processes tells (proc(5))."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

TICKS = 100
"""USER_HZ: what the kernel counts start times in, on every architecture that NixOS runs on (proc_pid_stat(5))."""
SESSION = re.compile(r"sshd(?:-session)?: \S+@")
"""The title of a connection that somebody is logged in through: `sshd: ada@pts/0` (sshd.c, session.c)."""
LISTENER = re.compile(r"sshd: .*\[listener\]")
PSEUDO_TERMINALS = range(136, 144)
"""Major numbers of pseudo terminals (kernel document admin-guide/devices)."""


@dataclass(frozen=True)
class Process:
    """One process."""

    pid: int
    parent: int
    name: str
    title: str
    """Command line, or what the process wrote over it."""
    terminal: int
    """Major number of its controlling terminal; 0 for none."""
    started: float
    """Seconds since boot."""


@dataclass(frozen=True)
class Road:
    """How the caller of a command came to this host."""

    console: bool
    """At the machine: a console or serial line."""
    since: float | None = None
    """Over SSH: when the connection began, seconds since boot."""
    client: str | None = None
    """Over SSH: the address that it comes from."""
    server: str | None = None
    """Over SSH: the address of ours that it came to."""

    @property
    def from_elsewhere(self) -> bool:
        """Whether it is an SSH connection from another machine: one to ourselves crosses no network."""
        if self.client is None or self.client == self.server:
            return False
        return not ip_address(self.client.partition("%")[0]).is_loopback


def read(root: Path) -> dict[int, Process]:
    """Every process; those that end meanwhile are left out."""
    found = {}
    for folder in (root / "proc").iterdir():
        if folder.name.isdigit():
            try:
                process = parse(
                    (folder / "stat").read_text(encoding="utf-8", errors="replace"),
                    (folder / "cmdline").read_bytes(),
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[process.pid] = process
    return found


def parse(stat: str, cmdline: bytes) -> Process:
    """From a process's stat and cmdline files. Its name stands in parentheses and may hold any character."""
    pid, _, rest = stat.partition(" (")
    name, _, fields = rest.rpartition(") ")
    values = fields.split()
    return Process(
        pid=int(pid),
        parent=int(values[1]),
        name=name,
        title=cmdline.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace"),
        terminal=int(values[4]) >> 8 & 0xFFF,
        started=int(values[19]) / TICKS,
    )


def line(processes: Mapping[int, Process], pid: int) -> Iterator[Process]:
    """A process, its parent, and so on."""
    seen: set[int] = set()
    while (process := processes.get(pid)) and pid not in seen:
        seen.add(pid)
        yield process
        pid = process.parent


def is_sshd(process: Process) -> bool:
    """Whether it serves one SSH connection; sshd-session does since OpenSSH 9.8."""
    return process.name in ("sshd", "sshd-session") and not LISTENER.match(process.title)


def somebody_over_ssh(processes: Mapping[int, Process]) -> bool:
    """Whether anybody is logged in over SSH. Strangers who only knock are not."""
    return any(is_sshd(process) and SESSION.match(process.title) for process in processes.values())


def road(root: Path, processes: Mapping[int, Process], pid: int) -> Road:
    """How the caller of this process came here. sudo and su stay in the line; tmux and the like, which outlive a
    connection, do not, and then nothing is known.
    """
    ours = list(line(processes, pid))
    connection = next((process for process in reversed(ours) if is_sshd(process)), None)
    if connection is None:
        console = any(process.terminal and process.terminal not in PSEUDO_TERMINALS for process in ours)
        return Road(console=console)
    # The first process that sshd started for us has it in its environment; sudo takes it out further down.
    below = ours[next(at for at, process in enumerate(ours) if is_sshd(process)) - 1]
    words = _environment(root, below.pid).get("SSH_CONNECTION", "").split()
    client, server = (words[0], words[2]) if len(words) == 4 else (None, None)
    return Road(console=False, since=connection.started, client=client, server=server)


def _environment(root: Path, pid: int) -> dict[str, str]:
    try:
        raw = (root / f"proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}
