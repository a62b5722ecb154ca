"""`hv rescue`: into an installed host from outside: its logins, its boot partitions, a shell in it."""

import argparse
import getpass
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from installer.command_line import Parser
from installer.errors import Exit, HyperError

if TYPE_CHECKING:
    from hv.rescue.find import Host
    from hv.rescue.mount import Tools
    from installer.execute.live import LiveSystem
    from installer.facts import Facts
    from installer.plan.model import Plan


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="hv rescue",
        description="Get into an installed host from the live medium, or as root on any system that has its disks.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    found = verbs.add_parser(
        "list", help="say which hosts are installed on this machine's disks; changes nothing"
    )
    found.add_argument("--json", action="store_true", help="for programs")
    for name, words in (
        ("mount", "open a host's disks and mount it at /mnt, by the plan that installed it"),
        ("shell", "run a shell, or the command after --, in the host"),
        (
            "login",
            "give an administrator a new password or a further SSH key, also in the host's configuration",
        ),
        ("repair", "write loader, boot entries and kernels anew, and prove that the host boots"),
        ("unmount", "unmount the host and close what was opened"),
    ):
        verb = verbs.add_parser(name, help=words)
        if name != "unmount":
            verb.add_argument("--host", metavar="NAME", help="which host, where there are several")
            verb.add_argument(
                "--key-file",
                metavar="FILE",
                type=Path,
                help="holds the passphrase, instead of asking for it",
            )
        if name != "unmount":
            verb.add_argument(
                "--degraded", action="store_true", help="go on although a disk of a mirror is missing"
            )
            verb.add_argument(
                "--discard-memory",
                action="store_true",
                help="give up the memory of a host that hibernates: it begins anew",
            )
            verb.add_argument(
                "--moved",
                action="store_true",
                help="take disks that have other names than at the installation, by the partitions on them",
            )
        verb.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        if name == "login":
            verb.add_argument("user", metavar="USER", help="login name of an administrator")
            verb.add_argument("--password", action="store_true", help="ask for a new password")
            verb.add_argument(
                "--password-hash-file",
                metavar="FILE",
                type=Path,
                help="holds its hash (`mkpasswd -m yescrypt`)",
            )
            verb.add_argument("--ssh-key", metavar="FILE", type=Path, help="a public key, one line")
        if name == "repair":
            verb.add_argument(
                "--format",
                action="store_true",
                help="first make boot file systems anew that cannot be mounted, as the host's plan made them",
            )
        if name == "shell":
            verb.add_argument("command", nargs="*", metavar="COMMAND", help="instead of a shell")
    return top


def _live() -> "LiveSystem":
    from installer.execute.live import LiveSystem

    return LiveSystem()


def _probe() -> "Facts":
    from installer.probe import probe
    from installer.probe.root import LiveRoot

    return probe(LiveRoot("/"))


@dataclass(frozen=True)
class World:
    """Where a rescue happens; tests give another."""

    live: Callable[[], "LiveSystem"] = field(default=_live)
    """Folders of the live system."""
    probe: Callable[[], "Facts"] = field(default=_probe)
    """Looks at the machine."""


def main(argv: list[str], world: World | None = None) -> int:
    """Run one verb; the exit code. Raises HyperError."""
    from installer.execute.preflight import require_root

    top = parser()
    options = top.parse_args(argv)
    if options.verb == "login" and not (options.password or options.password_hash_file or options.ssh_key):
        top.error("login takes --password, --password-hash-file or --ssh-key")
    world = world or World()
    require_root("a rescue")
    flags = {name: getattr(options, name, False) for name in ("degraded", "discard_memory")}
    with _tools(world, getattr(options, "key_file", None), **flags) as tools:
        match options.verb:
            case "list":
                return _list(world, options.json)
            case "mount":
                return _mount(world, tools, options)
            case "unmount":
                return _unmount(tools, options.dry_run)
            case _:
                return _in_host(world, tools, options)


@contextmanager
def _tools(
    world: World, key_file: Path | None, *, degraded: bool, discard_memory: bool
) -> "Iterator[Tools]":
    from hv.rescue.mount import Tools
    from installer.execute.journal import only_installer
    from installer.execute.log import Log, Redactor
    from installer.execute.runner import Runner

    live = world.live()
    secrets = Redactor()
    asked: list[bytes] = []

    def ask(prompt: str) -> bytes:
        if not asked:
            asked.append(_passphrase(prompt, key_file))
            secrets.add(asked[0])
        return asked[0]

    with only_installer(live.runtime, live.lock_patience):
        log = Log(live.runtime / "rescue.log", secrets)
        try:
            yield Tools(live, Runner(log, live.search_path), ask, degraded, discard_memory)
        finally:
            log.close()


def _passphrase(prompt: str, key_file: Path | None) -> bytes:
    if key_file is None:
        return getpass.getpass(prompt).encode()
    try:
        return key_file.read_bytes().removesuffix(b"\n")
    except OSError as error:
        raise HyperError(
            f"the key file {key_file} cannot be read",
            why=error.strerror or str(error),
            remedy="name another, or leave --key-file out to be asked",
            code=Exit.answers,
        ) from None


def _list(world: World, as_json: bool) -> int:
    from hv.rescue.find import hosts

    found = hosts(world.probe())
    if as_json:
        print(json.dumps({"version": 1, "hosts": [_described(each) for each in found]}, indent=1))
    elif not found:
        print("No host of Hyper-NixOS is on this machine's disks.")
    for each in () if as_json else found:
        print(f"{each.name}: {each.words}{', opened with a passphrase' if each.encrypted else ''}")
        for part in each.parts:
            print(f"  root on partition {part.number} of {part.disk.model or 'disk'} ({part.disk.name})")
    return Exit.ok


def _described(host: "Host") -> dict[str, object]:
    return {
        "host": host.name,
        "encrypted": host.encrypted,
        "root": [
            {"disk": part.disk.name, "serial": part.disk.serial, "partition": part.number, "kind": part.kind}
            for part in host.parts
        ],
    }


def _plan(world: World, tools: "Tools", options: argparse.Namespace) -> "Plan":
    """The plan of the host that is mounted, or of the one that is meant."""
    from hv.rescue.find import hosts, the_host
    from hv.rescue.mount import mounted_plan, plan_of
    from hv.rescue.moved import moved, renamed

    there = mounted_plan(tools)
    if there is not None and options.host in (None, there.hostname):
        return there
    facts = world.probe()
    plan = plan_of(tools, the_host(hosts(facts), options.host))
    names = moved(plan, facts)
    if names and not options.moved:
        told = (f"{disk.name} is here as {names[disk.key].name}" for disk in plan.disks if disk.key in names)
        raise HyperError(
            f"disks of {plan.hostname} have other names than at its installation",
            why=f"{'; '.join(told)}: the same partitions are on them",
            remedy="connect them as they were, or take them as they are with --moved",
            code=Exit.selection,
        )
    for disk in plan.disks:
        if disk.key in names:
            print(f"{names[disk.key].name} is taken for {disk.name}")
    return renamed(plan, names)


def _mount(world: World, tools: "Tools", options: argparse.Namespace) -> int:
    from hv.rescue.mount import mount, up_steps
    from installer.plan.action_words import action_lines

    plan = _plan(world, tools, options)
    if options.dry_run:
        print(f"{plan.hostname} would be mounted by {len(up_steps(plan))} steps:")
        for step in up_steps(plan):
            print(f"  {step.summary}")
            for action in step.actions:
                print("\n".join(action_lines(action, "    ")))
        return Exit.ok
    for line in mount(tools, plan):
        print(line)
    print(
        f"{plan.hostname} is mounted at /mnt. `hv rescue shell` goes into it, `hv rescue unmount` lets go of it."
    )
    return Exit.ok


def _unmount(tools: "Tools", dry_run: bool) -> int:
    from hv.rescue.mount import mounted_plan, unmount, up_steps
    from installer.plan.model import Plan

    plan = mounted_plan(tools)
    if plan is None and tools.record.is_file():  # opened, and not mounted whole
        plan = Plan.model_validate_json(tools.record.read_bytes())
    if plan is None:
        print("No host is mounted by `hv rescue`.")
        return Exit.ok
    if dry_run:
        for step in reversed(up_steps(plan)):
            print(f"would take back: {step.summary}")
        return Exit.ok
    for line in unmount(tools, plan):
        print(line)
    print(f"{plan.hostname} is let go of.")
    return Exit.ok


def _in_host(world: World, tools: "Tools", options: argparse.Namespace) -> int:
    """A verb in the host; what was not mounted before is let go of afterwards."""
    from hv.rescue.boot import remake
    from hv.rescue.mount import mount, mounted_plan, unmount

    login = _login(options) if options.verb == "login" else None
    plan = _plan(world, tools, options)
    before = mounted_plan(tools) is not None
    if options.dry_run:
        print(f"{plan.hostname} would be mounted at /mnt, then: {_WORDS[options.verb]}")
        return Exit.ok
    try:
        if options.verb == "repair" and options.format:
            for line in remake(tools, plan):
                print(line)
        for line in mount(tools, plan):
            if not line.endswith("so already"):
                print(line)
        return _do(tools, plan, options, login)
    finally:
        if not before:
            for line in unmount(tools, plan):
                print(line)


_WORDS = {
    "shell": "a shell is run in it",
    "login": "password hash, SSH key and configuration of the account are set, and the login is proved",
    "repair": "its own system writes loader, entries and kernels, the firmware's menu is written, and booting is proved",
}


def _do(tools: "Tools", plan: "Plan", options: argparse.Namespace, login: object) -> int:
    from hv.rescue.boot import repair
    from hv.rescue.login import NewLogin, reset_login
    from installer.plan.model import TARGET

    if isinstance(login, NewLogin):
        for line in reset_login(tools.runner, Path(TARGET), login):
            print(line)
    elif options.verb == "repair":
        for line in repair(tools, plan):
            print(line)
    else:
        return _shell(options.command)
    return Exit.ok


def _login(options: argparse.Namespace) -> object:
    from hv.rescue.login import NewLogin

    value = _read(options.password_hash_file) if options.password_hash_file else None
    if options.password:
        value = _hashed(options.user)
    return NewLogin(options.user, value, _read(options.ssh_key) if options.ssh_key else None)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise HyperError(
            f"{path} cannot be read",
            why=error.strerror or str(error),
            remedy="name an existing file",
            code=Exit.answers,
        ) from None


def _hashed(user: str) -> str:
    """A password typed twice, made into a hash by mkpasswd(1), which reads it from a pipe."""
    first = getpass.getpass(f"New password of {user}: ")
    if not first or getpass.getpass("Once more: ") != first:
        raise HyperError(
            "the password is not set",
            why="it is empty, or the two were not the same",
            remedy="run the same command again",
            code=Exit.answers,
        )
    done = subprocess.run(
        ["mkpasswd", "--method=yescrypt", "--stdin"],
        input=first,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise HyperError(
            "the password cannot be hashed",
            why=done.stderr.strip() or "mkpasswd failed",
            remedy="make a hash elsewhere, and give it with --password-hash-file",
        )
    return done.stdout.strip()


def _shell(command: list[str]) -> int:
    """Interactive, on our own terminal; in mount and PID namespaces of its own, as nixos-enter does."""
    from installer.plan.model import TARGET

    argv = command or ["/nix/var/nix/profiles/system/sw/bin/bash", "--login"]
    environment = {**os.environ, "IN_NIXOS_ENTER": "1"}
    flags = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    sys.stdout.flush()
    with as_file(files("installer.execute") / "enter.sh") as script:
        done = subprocess.run(
            ["unshare", *flags, "sh", str(script), TARGET, *argv], env=environment, check=False
        )
    folder = Path(f"{TARGET}{TARGET}")
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return done.returncode
