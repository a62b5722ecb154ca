"""A host's own data beside a system for many hosts: written to the target, made into accounts, and read back."""

from collections.abc import Iterator
from pathlib import Path

from installer.execute.evidence import Evidence, ensure
from installer.execute.files import check_file, make_directory, within, write_file
from installer.execute.runner import Runner
from installer.execute.target import SYSTEM, run_inside
from installer.logins import Row, parse_account, passwd_row
from installer.plan.prebuilt import HOST_DATA
from installer.render.runtime import CREDENTIALS, SHELL, Account, RuntimeData

_FILE, _FOLDER, _SECRET_FOLDER = 0o644, 0o755, 0o700


def write_host_data(root: Path, data: RuntimeData) -> None:
    """Write every file and link.

    Raises:
        OSError: one cannot be written.
    """
    make_directory(_inside(root, HOST_DATA), _FOLDER)
    make_directory(_inside(root, CREDENTIALS).parent, _SECRET_FOLDER)
    make_directory(_inside(root, CREDENTIALS), _SECRET_FOLDER)
    for path, content in data.files.items():
        place = _inside(root, path)
        make_directory(place.parent, _FOLDER)
        write_file(place, content, _FILE)
    for path, goal in data.links.items():
        place = _inside(root, path)
        place.parent.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        fresh = place.with_name(f".{place.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(goal)
        fresh.rename(place)


def check_host_data(root: Path, data: RuntimeData) -> Evidence:
    """Each file has its content and is root's alone to change; each link leads where it should."""
    for path, content in data.files.items():
        place = _inside(root, path)
        if content:
            check_file(place, _FILE, None)
        ensure(
            place.is_file() and place.read_bytes() == content,
            f"{place} as it was written",
            "another content",
        )
    for path, goal in data.links.items():
        place = _inside(root, path)
        found = str(place.readlink()) if place.is_symlink() else "no link"
        ensure(found == goal, f"a link {place} to {goal}", found)
    return (f"{root}{HOST_DATA}: {len(data.files)} files, {len(data.links)} links read back equal",)


def make_accounts(runner: Runner, root: Path) -> None:
    """Have the installed system's own systemd-sysusers(8) make the accounts; the hashes are read from files."""
    program = f"{SYSTEM}/sw/bin/systemd-sysusers"
    run_inside(
        runner,
        root,
        [program, f"{HOST_DATA}/sysusers.conf"],
        environment={"CREDENTIALS_DIRECTORY": CREDENTIALS},
    )


def check_accounts(root: Path, data: RuntimeData) -> Evidence:
    """Each account is what the files say."""
    texts = [_read(root, f"/etc/{name}") for name in ("passwd", "group", "shadow")]
    return tuple(line for each in data.accounts for line in _check_account(root, each, *texts))


def _check_account(root: Path, wanted: Account, passwd: str, group: str, shadow: str) -> Iterator[str]:
    name = wanted.name
    row = passwd_row(name, passwd)
    ensure(row is not None, f"{name} in the target's /etc/passwd", "no such line")
    assert row is not None
    planned = Row(name, wanted.uid, wanted.full_name, wanted.home, SHELL)
    ensure(row == planned, f"the account {planned}", str(row))
    found = parse_account(name, passwd, group, shadow)
    assert found is not None
    missing = {*wanted.groups, "users"} - {*found.groups}
    ensure(
        not missing, f"{name} in {', '.join(sorted(missing))}", f"in {', '.join(found.groups) or 'no group'}"
    )
    if wanted.password_file:
        same = found.hash == _read(root, wanted.password_file).strip()
        # Neither hash is said: both would be in the log.
        ensure(same, f"the password of {name} from {wanted.password_file}", "another, or none")
    yield f"{name}: uid {row.uid}, in {', '.join(found.groups)}, {'a' if wanted.password_file else 'no'} password"


def _read(root: Path, path: str) -> str:
    place = within(root, path)
    ensure(place.is_file(), f"the target's {path}", "no such file")
    return place.read_text()


def _inside(root: Path, path: str) -> Path:
    """Where a file of the target lies, with its own folder's links followed as they are in there."""
    folder, _, name = path.rpartition("/")
    return within(root, folder) / name
