"""The guard of the network: what it decides, whom it believes, and what it does with a host's files; sshd and the table of
processes are real. tests/test_network_revert.py has the whole on a machine.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hv.firstrun.world import UNGUARDED, Clock, Journal, World
from hv.guard import processes
from hv.guard.guard import (
    CURRENT,
    PROFILES,
    ROOT,
    Change,
    Guard,
    When,
    decide,
    objection,
)
from hv.guard.processes import Road
from hv.guard.state import FOLDER, Outcome, Pending
from hv.net.description import DESCRIPTION, newer_netdevs
from installer.errors import Exit, HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
WAITING = Pending(
    previous="/nix/store/old",
    incoming="/nix/store/new",
    permanent=False,
    seconds=600,
    boot="b",
    applied=100.0,
    until=NOON,
)


def change(**said: object) -> Change:
    given = {
        "running": "/nix/store/old",
        "incoming": "/nix/store/new",
        "action": "switch",
        "differs": True,
        "remote": True,
    }
    return Change(**(given | said))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "waiting", "when", "wanted"),
    [
        (change(), None, When.remote, ("/nix/store/old", True)),
        (change(action="test"), None, When.remote, ("/nix/store/old", False)),
        (change(action="boot"), None, When.remote, None),
        (change(action="dry-activate"), None, When.always, None),
        (change(differs=False), None, When.always, None),
        (change(remote=False), None, When.remote, None),
        (change(remote=False), None, When.always, ("/nix/store/old", True)),
        (change(), None, When.never, None),
        # One waits already: back to before the first, whoever makes the second; and what was permanent stays so.
        (change(running="/nix/store/new", remote=False), WAITING, When.remote, ("/nix/store/old", True)),
        (change(running="/nix/store/new", action="test"), WAITING, When.remote, ("/nix/store/old", False)),
        (
            change(running="/nix/store/new", action="test", differs=False),
            WAITING.model_copy(update={"permanent": True}),
            When.remote,
            ("/nix/store/old", True),
        ),
    ],
)
def test_what_is_guarded(
    what: Change, waiting: Pending | None, when: When, wanted: tuple[str, bool] | None
) -> None:
    assert decide(what, waiting, when) == wanted


ELSEWHERE = Road(console=False, since=101.0, client="192.0.2.7", server="192.0.2.1")


@pytest.mark.parametrize(
    ("road", "because"),
    [
        (ELSEWHERE, None),
        (Road(console=True), None),
        (Road(console=False), "tmux"),
        (Road(console=False, since=100.0, client="192.0.2.7", server="192.0.2.1"), "older"),
        (Road(console=False, since=101.0, client="192.0.2.1", server="192.0.2.1"), "this host itself"),
        (Road(console=False, since=101.0, client="127.0.0.2", server="127.0.0.1"), "this host itself"),
        (Road(console=False, since=101.0, client="fe80::1%br0", server="fe80::2"), None),
        (Road(console=False, since=101.0), "this host itself"),
    ],
)
def test_who_may_confirm(road: Road, because: str | None) -> None:
    found = objection(WAITING, road)
    assert found == because or (because is not None and found is not None and because in found)


def test_nobody_confirms_what_is_not_in_force() -> None:
    early = WAITING.model_copy(update={"applied": None})
    assert "not in force" in str(objection(early, ELSEWHERE))
    assert "not in force" in str(objection(early, Road(console=True)))


def test_newer_netdevs() -> None:
    old, new = ('{"netdevs": ["br0"]}', '{"netdevs": ["br0", "br1", "bond0"]}')
    assert newer_netdevs(old, new) == {"br1", "bond0"}
    assert newer_netdevs(new, old) == set()
    assert newer_netdevs(None, new) == newer_netdevs(old, None) == set()


# Processes.


def test_processes_of_this_machine() -> None:
    """Against what Python knows of itself."""
    found = processes.read(Path("/"))
    ours = found[os.getpid()]
    assert ours.parent == os.getppid()
    assert sys.argv[0] in ours.title or "python" in ours.title
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < ours.started < uptime
    child = subprocess.Popen(("sleep", "60"))
    try:
        young = processes.read(Path("/"))[child.pid]
        assert young.parent == os.getpid()
        assert uptime - 0.02 <= young.started <= uptime + 30
        assert [each.pid for each in processes.line(processes.read(Path("/")), child.pid)][:2] == [
            child.pid,
            os.getpid(),
        ]
    finally:
        child.kill()
        child.wait()


def process(
    pid: int, parent: int, name: str, title: str, *, terminal: int = 0, started: float = 1.0
) -> processes.Process:
    return processes.Process(pid, parent, name, title, terminal, started)


def table(*found: processes.Process) -> dict[int, processes.Process]:
    return {each.pid: each for each in found}


LISTENER = process(10, 1, "sshd", "sshd: /usr/bin/sshd -D [listener] 0 of 10-100 startups")
OLD = (
    LISTENER,
    process(20, 10, "sshd", "sshd: ada [priv]", started=5.0),
    process(21, 20, "sshd", "sshd: ada@pts/0", started=6.0),
    process(22, 21, "bash", "-bash", terminal=136, started=6.1),
    process(23, 22, "sudo", "sudo hv net confirm", terminal=136, started=9.0),
    process(24, 23, "hv", "hv net confirm", terminal=137, started=9.1),
)
"""OpenSSH 9.2."""
NEW = (
    LISTENER,
    process(20, 10, "sshd-session", "sshd-session: ada [priv]", started=5.0),
    process(21, 20, "sshd-session", "sshd-session: ada@notty", started=6.0),
    process(24, 21, "hv", "hv net confirm", started=9.1),
)
"""OpenSSH 9.8."""


@pytest.mark.parametrize("seen", [OLD, NEW])
def test_a_connection_began_when_its_first_process_did(
    tmp_path: Path, seen: tuple[processes.Process, ...]
) -> None:
    first = 22 if seen is OLD else 24
    folder = tmp_path / f"proc/{first}"
    folder.mkdir(parents=True)
    (folder / "environ").write_bytes(b"A=b\0SSH_CONNECTION=192.0.2.7 50000 192.0.2.1 22\0")
    road = processes.road(tmp_path, table(*seen), 24)
    assert road == Road(console=False, since=5.0, client="192.0.2.7", server="192.0.2.1")
    assert processes.somebody_over_ssh(table(*seen))


def test_strangers_who_knock_are_nobody() -> None:
    knocking = table(
        LISTENER,
        process(20, 10, "sshd-session", "sshd-session: [accepted]"),
        process(21, 20, "sshd-auth", "sshd-auth: ada [preauth]"),
        process(30, 10, "sshd", "sshd: unknown [priv]"),
        process(31, 30, "sshd", "sshd: unknown [net]"),
    )
    assert not processes.somebody_over_ssh(knocking)


@pytest.mark.parametrize(
    ("terminal", "console"), [(4, True), (5, True), (204, True), (136, False), (0, False)]
)
def test_consoles(tmp_path: Path, terminal: int, console: bool) -> None:
    """Whoever is at the machine, also below sudo, which gives its command a terminal of its own; but not tmux."""
    there = table(
        process(50, 1, "login", "login -- ada", terminal=terminal),
        process(51, 50, "bash", "-bash", terminal=terminal),
        process(52, 51, "sudo", "sudo hv net confirm", terminal=terminal),
        process(53, 52, "hv", "hv net confirm", terminal=136),
    )
    assert processes.road(tmp_path, there, 53) == Road(console=console)


# A host of files, with programs that note what they were called with.

PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >>{root}/called
[ ! -e {root}/fail-"$(basename "$0")" ] || {{ echo 'no bus' >&2; exit 1; }}
"""
SWITCH = """#!/bin/sh
system=$(dirname "$(dirname "$0")")
echo "$1 $(basename "$system") $NIXOS_NO_CHECK" >>{root}/called
if [ -e {root}/held ]; then rm {root}/held; echo 'Could not acquire lock' >&2; exit 1; fi
[ ! -e {root}/broken ] || [ "$1" = boot ] || exit 1
[ "$1" = boot ] || ln -sfn "$system" {root}/run/current-system
"""


@dataclass
class Host:
    guard: Guard
    root: Path
    said: list[str]

    def called(self) -> list[str]:
        file = self.root / "called"
        return file.read_text().splitlines() if file.exists() else []

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def system(self, name: str, network: str | None, *children: str) -> str:
        """A toplevel."""
        place = self.path(f"/nix/store/{name}")
        (place / "bin").mkdir(parents=True)
        (place / "specialisation").mkdir()
        for child in children:
            (place / "specialisation" / child).symlink_to(self.path(f"/nix/store/{child}"))
        if network is not None:
            (place / DESCRIPTION).parent.mkdir(parents=True)
            (place / DESCRIPTION).write_text(json.dumps({"netdevs": network.split()}))
        script = place / "bin/switch-to-configuration"
        script.write_text(SWITCH.format(root=self.root))
        script.chmod(0o755)
        return f"/nix/store/{name}"

    def run(self, system: str) -> None:
        """It runs, as the file system has it."""
        link = self.path(CURRENT)
        link.unlink(missing_ok=True)
        link.symlink_to(self.path(system))

    def reboot(self, number: int) -> None:
        self.path("/proc/sys/kernel/random/boot_id").write_text(f"boot-{number}\n")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    root = tmp_path / "root"
    for folder in ("run", "nix/store", "nix/var/nix/profiles", "proc/sys/kernel/random", "bin"):
        (root / folder).mkdir(parents=True)
    for name in ("systemctl", "systemd-run", "ip", "networkctl"):
        (root / "bin" / name).write_text(PROGRAM.format(root=root))
        (root / "bin" / name).chmod(0o755)
    (root / "proc/uptime").write_text("50.00 90.00\n")
    said: list[str] = []
    runner = Runner(Log(tmp_path / "log", Redactor()), f"{root}/bin:{os.environ['PATH']}")
    clock = Clock(now=lambda: NOON, sleep=lambda _: None)
    world = World(programs=runner, root=root, clock=clock, journal=Journal(emit=said.append))
    made = Host(Guard(world, "/bin/hv"), root, said)
    made.reboot(1)
    for name, network in {"old": "", "new": "br0", "newer": "br1", "silent": None}.items():
        made.system(name, network)
    made.run("/nix/store/old")
    for number, name in enumerate(("old", "new"), 1):
        made.path(f"{PROFILES}/system-{number}-link").symlink_to(made.path(f"/nix/store/{name}"))
    made.path(f"{PROFILES}/system").symlink_to("system-2-link")
    return made


def begin(
    host: Host, system: str = "/nix/store/new", action: str = "switch", *, remote: bool = True
) -> None:
    host.guard.before(system, action, When.remote, 600, remote=remote)


def profile(host: Host) -> str:
    return host.path(f"{PROFILES}/system").resolve().name


def test_everything_is_on_disk_before_the_change_begins(host: Host) -> None:
    begin(host)
    waiting = host.guard.states.pending()
    assert waiting is not None
    assert (waiting.previous, waiting.incoming, waiting.permanent, waiting.made, waiting.applied) == (
        "/nix/store/old",
        "/nix/store/new",
        True,
        ("br0",),
        None,
    )
    assert host.path(ROOT).readlink() == Path("/nix/store/old")
    assert any(
        "--on-active=600" in line and line.endswith("-- /bin/hv net revert") for line in host.called()
    )
    assert "sudo hv net confirm" in host.said[-1]
    assert sorted(path.name for path in host.path(FOLDER).iterdir()) == [".lock", "pending.json"]


def test_a_switch_that_cannot_be_taken_back_does_not_begin(host: Host) -> None:
    (host.root / "fail-systemd-run").touch()
    with pytest.raises(HyperError, match="Could not arm the timer"):
        begin(host)


def test_a_way_back_that_is_just_ending_is_waited_for(host: Host) -> None:
    """What took the last change back holds the unit's name until its process is gone."""
    real = (host.root / "bin/systemd-run").read_text()
    (host.root / "bin/systemd-run").write_text(
        f"#!/bin/sh\necho x >>{host.root}/tries\n"
        f'[ $(wc -l <{host.root}/tries) -gt 2 ] && exec sh {host.root}/bin/armed "$@"\n'
        "echo 'Failed to start transient timer unit: Unit x.service was already loaded' >&2\nexit 1\n"
    )
    (host.root / "bin/armed").write_text(real)
    begin(host)
    assert host.guard.states.pending() is not None
    assert (host.root / "tries").read_text() == "x\n" * 3


def test_a_system_that_does_not_say_is_another_network(host: Host) -> None:
    host.run("/nix/store/silent")
    begin(host)
    assert host.guard.states.pending() is not None


def test_nothing_is_guarded_without_need(host: Host) -> None:
    begin(host, remote=False)
    begin(host, "/nix/store/old")
    begin(host, action="boot")
    assert host.guard.states.pending() is None
    assert host.called() == []


def test_confirming(host: Host) -> None:
    begin(host)
    host.run("/nix/store/new")
    host.guard.applied()
    with pytest.raises(HyperError, match="does not confirm"):
        host.guard.confirm(Road(console=False, since=50.0, client="192.0.2.7", server="192.0.2.1"))
    host.guard.confirm(Road(console=False, since=50.01, client="192.0.2.7", server="192.0.2.1"))
    last = host.guard.states.last()
    assert last is not None
    assert last.outcome is Outcome.confirmed
    assert not host.path(ROOT).is_symlink()
    # The timer may still fire: nothing happens.
    before = host.called()
    host.guard.revert()
    assert host.called() == before


@pytest.mark.parametrize("action", ["switch", "test"])
def test_going_back(host: Host, action: str) -> None:
    begin(host, action=action)
    host.run("/nix/store/new")
    host.guard.revert()
    done = [line for line in host.called() if not line.startswith("system")]
    boot = ["boot old 1"] if action == "switch" else []
    assert done == ["ip link delete dev br0", "test old 1", *boot]
    assert profile(host) == ("old" if action == "switch" else "new")
    with pytest.raises(HyperError, match="Too late: the network went back"):
        host.guard.confirm(Road(console=True))


def test_going_back_to_a_phase_and_to_a_system_without_generation(host: Host) -> None:
    host.system("hardened", "")
    host.system("whole", "br9", "hardened")
    host.path(f"{PROFILES}/system-3-link").symlink_to(host.path("/nix/store/whole"))
    host.run("/nix/store/hardened")
    begin(host)
    host.run("/nix/store/new")
    host.guard.revert()
    assert (profile(host), host.called()[-1]) == ("whole", "boot hardened 1")
    host.run("/nix/store/newer")
    begin(host)
    host.run("/nix/store/new")
    host.guard.revert()
    assert host.path(f"{PROFILES}/system-4-link").readlink() == Path("/nix/store/newer")
    assert host.path(f"{PROFILES}/system").readlink() == Path("system-4-link")


def test_going_back_is_tried_again_while_another_switch_holds_the_lock(host: Host) -> None:
    begin(host, action="test")
    host.run("/nix/store/new")
    (host.root / "held").touch()
    host.guard.revert()
    assert [line for line in host.called() if line.startswith("test")] == ["test old 1"] * 2
    assert host.guard.running() == "/nix/store/old"


def test_a_failure_is_told_and_the_next_boot_is_right_all_the_same(host: Host) -> None:
    begin(host)
    host.run("/nix/store/new")
    (host.root / "broken").touch()
    with pytest.raises(HyperError, match="Going back did not work"):
        host.guard.revert()
    assert (profile(host), host.called()[-1]) == ("old", "boot old 1")
    last = host.guard.states.last()
    assert last is not None
    assert last.outcome is Outcome.failed
    assert "test` did not work" in str(last.why)


def test_two_changes_remember_what_both_made(host: Host) -> None:
    begin(host, action="test")
    host.run("/nix/store/new")
    host.guard.applied()
    begin(host, "/nix/store/newer", remote=False)
    waiting = host.guard.states.pending()
    assert waiting is not None
    assert (waiting.previous, waiting.made, waiting.permanent) == ("/nix/store/old", ("br0", "br1"), True)
    # What was confirmed by no one is not confirmed by an old session either.
    assert waiting.applied is None


def test_gone_back_by_hand(host: Host) -> None:
    begin(host)
    host.guard.revert()
    last = host.guard.states.last()
    assert last is not None
    assert last.outcome is Outcome.same
    assert not any(line.startswith("test") for line in host.called())


def test_boots(host: Host) -> None:
    """Into the new network: the clock is set anew. In the middle of going back: at once. Into the old one: done."""
    begin(host)
    host.run("/nix/store/new")
    host.reboot(2)
    host.guard.applied()
    waiting = host.guard.states.pending()
    assert waiting is not None
    assert (waiting.boot, waiting.applied) == ("boot-2", 50.0)
    assert [line for line in host.called() if "--on-active" in line][-1].count("--on-active=600")
    host.guard.states.wait(waiting.model_copy(update={"returning": True}))
    with pytest.raises(HyperError, match="Too late"):
        host.guard.confirm(Road(console=True))
    with pytest.raises(HyperError, match="is going back"):
        begin(host, "/nix/store/newer")
    host.reboot(3)
    host.guard.applied()
    assert [line for line in host.called() if "--on-active" in line][-1].count("--on-active=1 ")
    host.run("/nix/store/old")
    host.reboot(4)
    host.guard.applied()
    last = host.guard.states.last()
    assert last is not None
    assert last.outcome is Outcome.rebooted


def test_a_damaged_record_is_no_way_back(host: Host) -> None:
    host.path(FOLDER).mkdir(parents=True)
    (host.path(FOLDER) / "pending.json").write_text("{")
    with pytest.raises(HyperError, match="damaged"):
        begin(host)


def test_only_one_at_a_time(host: Host) -> None:
    begin(host)
    with host.guard.states.lock(), pytest.raises(HyperError, match="right now") as raised:
        host.guard.confirm(Road(console=True))
    assert raised.value.code == Exit.busy


# The command.


def hv(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "hv", "net", *words)
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_status(host: Host) -> None:
    root = ("--root", str(host.root))
    assert hv(*root, "status").stdout == "Nothing waits to be confirmed.\n"
    begin(host)
    shown = hv(*root, "status").stdout
    assert "it goes back at 12:10:00 UTC" in shown
    assert "/nix/store/old" in shown
    assert json.loads(hv(*root, "status", "--json").stdout)["waiting"]["seconds"] == 600
    host.run("/nix/store/new")
    host.guard.revert()
    assert (
        hv(*root, "status").stdout.splitlines()[1] == "The last change: reverted at 2026-07-01 12:00:00 UTC"
    )


def test_what_would_be_done_is_told_and_not_done(host: Host) -> None:
    root = ("--root", str(host.root))

    def told(*words: str) -> list[str]:
        shown = hv(*root, *words, "--dry-run", "--json")
        assert shown.returncode == 0, shown.stderr
        document = json.loads(shown.stdout)
        assert (document["version"], document["dry_run"]) == (1, True)
        said: list[str] = document["said"]
        return said

    for verb in ("confirm", "applied", "revert"):
        assert told(verb) == ["Nothing waits to be confirmed."]
    always = ("--when", "always", "--seconds", "90")
    assert told("guard", "/nix/store/new", "switch", *always) == [
        "Would go back to /nix/store/old in 90 s unless it is confirmed."
    ]
    assert told("guard", "/nix/store/old", "switch", *always) == ["This switch needs no confirmation."]
    assert told("guard", "/nix/store/new", "boot", *always) == ["This switch needs no confirmation."]
    assert not host.path(FOLDER).exists()
    assert not host.path("/var/log").exists()
    begin(host)
    host.run("/nix/store/new")
    before = host.called()
    assert told("applied") == ["Would give the new network 10 min to be confirmed in, from now on."]
    assert told("revert") == ["Would go back to /nix/store/old."]
    refused = hv(*root, "confirm", "--dry-run")
    assert "not in force yet" in refused.stderr and refused.returncode != 0
    host.guard.applied()
    host.guard.confirm(Road(console=True), dry=True)
    assert host.said[-1] == "Would keep the new network, /nix/store/new."
    assert host.guard.states.pending() is not None and host.guard.running() == "/nix/store/new"
    assert [line for line in host.called() if line not in before and not line.startswith("system")] == []


def test_a_switch_that_answers_for_itself_is_left_alone(host: Host) -> None:
    words = ("--root", str(host.root), "guard", "/nix/store/new", "switch")
    assert hv(*words, **{UNGUARDED: "off"}).returncode == 0
    assert not host.path(FOLDER).exists()


SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin") or ""


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """What runs a command through a real sshd, without a network: its two ends are pipes (sshd -i)."""
    for name in ("host", "key"):
        subprocess.run(
            ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)), check=True
        )
    (tmp_path / "authorized").write_text((tmp_path / "key.pub").read_text())
    configuration = tmp_path / "sshd_config"
    configuration.write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nPermitRootLogin yes\nStrictModes no\n"
        "UsePAM no\nPidFile none\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    options = f"-F /dev/null -i {tmp_path}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    yield ("ssh", *options.split(), "-o", f"ProxyCommand={SSHD} -i -f {configuration}", "root@host")


@pytest.mark.root
def test_a_real_connection_is_found(connection: tuple[str, ...]) -> None:
    look = "import os, pathlib; from hv.guard import processes as p; r = pathlib.Path('/'); print(p.road(r, p.read(r), os.getpid()))"
    before = float(Path("/proc/uptime").read_text().split()[0])
    command = f"cd {Path.cwd()} && {sys.executable} -c \"import sys; sys.path.insert(0, '.'); {look}; print(p.somebody_over_ssh(p.read(r)))\""
    shown = subprocess.run(
        (*connection, command), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    road = eval(shown[0], {"Road": Road})
    assert not road.console
    assert before - 0.02 <= road.since <= before + 60
    assert shown[1] == "True"
    deadline = time.monotonic() + 20
    while processes.somebody_over_ssh(processes.read(Path("/"))) and time.monotonic() < deadline:
        time.sleep(0.1)
