"""Can an administrator still get in? Looked at, on the running host, for a configuration that is not in force yet."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hv.firstrun.world import World
from installer.answers.ssh_key import SshKey
from installer.errors import Exit, HyperError
from installer.logins import (
    CLIENT,
    Account,
    Settings,
    key_files,
    parse_account,
    parse_settings,
    ssh_problems,
    usable_keys,
)


def require_way_in(world: World, administrators: tuple[str, ...], system: Path) -> tuple[str, ...]:
    """Every way into a host that runs `system` (a toplevel): sentences.

    A way is a public key or password that sshd of that system would admit, or a password at the console.

    Raises:
        HyperError: there is none; says for each administrator what stands against it.
    """
    ways: list[str] = []
    obstacles: list[str] = []
    for name in administrators:
        account = read_account(world, name)
        if account is None:
            obstacles.append(f"{name}: there is no such account")
            continue
        if closed := tuple(_closed(world, account)):
            obstacles += [f"{name}: {problem}" for problem in closed]
            continue
        if account.has_password:
            ways.append(f"{name}: with a password at the console")
        else:
            obstacles.append(f"{name}: has no password for the console")
        if problems := tuple(_ssh_problems(world, account, system)):
            obstacles += [f"{name}: {problem}" for problem in problems]
        else:
            ways.append(f"{name}: over SSH")
    if not ways:
        raise HyperError(
            "Nobody could log in as an administrator.",
            why="; ".join(obstacles) or "the hand-off names no administrator",
            remedy="Give one an SSH key or a password in /etc/nixos, rebuild, then `hv firstrun retry phase`.",
            code=Exit.lockout,
        )
    return tuple(ways)


def read_account(world: World, name: str) -> Account | None:
    """The user as the host has it now."""
    files = (
        world.path(f"/etc/{file}").read_text(encoding="utf-8", errors="replace")
        for file in ("passwd", "group", "shadow")
    )
    return parse_account(name, *files)


def _closed(world: World, account: Account) -> Iterator[str]:
    """Why the account is of no use at all."""
    yield from account.problems(world.clock.now().timestamp())
    if not os.access(world.path(account.shell), os.X_OK):
        yield f"has no shell that runs ({account.shell})"


def _ssh_problems(world: World, account: Account, system: Path) -> Iterator[str]:
    """Why nothing opens an SSH session in that system."""
    config = system / "etc/ssh/sshd_config"
    if not config.is_file():
        yield "no SSH server is configured"
        return
    argv = ("sshd", "-T", "-f", str(config), "-C", f"user={account.name},{CLIENT}")
    with _privilege_folder(world):
        done = world.attempt(argv, timeout=30)
    if done.status:
        yield f"sshd refuses its configuration ({done.stderr.strip()})"
        return
    settings = parse_settings(done.text)
    yield from ssh_problems(account, settings, _keys(world, account, system, settings))


def _keys(world: World, account: Account, system: Path, settings: Settings) -> Iterator[SshKey]:
    """Public keys where sshd will look: a file of /etc as that system has it, before what is in force now."""
    for path in key_files(account, settings):
        in_system = system / path.lstrip("/")
        file = in_system if path.startswith("/etc/") and in_system.exists() else world.path(path)
        if file.is_file():
            yield from usable_keys(file.read_text(encoding="utf-8", errors="replace"))


@contextmanager
def _privilege_folder(world: World) -> Iterator[None]:
    """sshd's empty folder, without which some builds refuse even to check; services make it when they start."""
    folder = world.path("/run/sshd")
    made = not folder.exists()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        yield
    finally:
        if made:
            folder.rmdir()
