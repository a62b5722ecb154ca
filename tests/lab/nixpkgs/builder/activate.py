"""Brings /etc, accounts and wrappers into the state that a toplevel describes: at boot, on a switch, while installing.

Runs on the installed system by its own Python; safe to run any number of times.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ETC = Path("/etc")
WRITABLE = frozenset({"lvm", "default"})
"""Folders of Debian's /etc that programs write to: copied once, not linked."""
LIBVIRT = Path("/var/lib/libvirt")
"""Where nixpkgs' libvirt has its settings and definitions (`sysconfdir`), and Debian's finds them by a link."""
LINKED_WHOLE = frozenset({"systemd"})
"""Generated folders of which nothing on the host may differ."""
COPIED = frozenset({ETC / "sudoers"})
"""Generated files whose mode matters to who reads them."""
KEYS = ETC / "ssh/authorized_keys.d"
"""Copies, as nixpkgs' sshd module has them: sshd takes no file below a folder that others may write to, and Nix's builders
may write to the store."""
WRAPPERS = ("sudo", "su", "mount", "umount")
"""Programs that need the set-uid bit, which the Nix store cannot hold (nixpkgs: security.wrappers)."""


def main(toplevel: Path) -> None:
    """Activate."""
    given = json.loads((toplevel / "lab.json").read_text())
    userland = Path(given["userland"])
    os.umask(0o022)
    Path("/run").joinpath("current-system").unlink(missing_ok=True)
    Path("/run/current-system").symlink_to(toplevel)
    _folders()
    _etc(toplevel, userland)
    _accounts(given["users"], userland)
    _sudo(toplevel)
    if os.path.ismount("/run"):
        _wrappers(userland)


def _folders() -> None:
    for path, mode in {
        "/root": 0o700,
        "/tmp": 0o1777,
        "/var/tmp": 0o1777,
        "/var/empty": 0o555,
        "/var/lib": 0o755,
        "/var/log": 0o755,
        "/var/cache": 0o755,
        "/var/spool": 0o755,
        "/home": 0o755,
    }.items():
        folder = Path(path)
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(mode)
    if not Path("/var/run").is_symlink():
        Path("/var/run").symlink_to("/run")


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and str(path.readlink()) == target:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(path)


def _etc(toplevel: Path, userland: Path) -> None:
    generated = toplevel / "etc"
    _link(ETC / "static", str(generated))
    wanted: set[Path] = set()
    for folder, names, files in os.walk(generated):
        here = Path(folder).relative_to(generated)
        for name in list(names):
            if (here == Path() and name in LINKED_WHOLE) or Path(folder, name).is_symlink():
                names.remove(name)
                files.append(name)
        for name in files:
            path = ETC / here / name
            if path in COPIED:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent == KEYS:
                _copy(Path(folder, name), path)
                wanted.add(path)
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            _link(path, f"/etc/static/{here / name}")
            wanted.add(path)
    for folder, names, files in os.walk(ETC):
        for name in [*names, *files]:
            path = Path(folder, name)
            if path.is_symlink() and str(path.readlink()).startswith("/etc/static/") and path not in wanted:
                path.unlink()
    for path in KEYS.glob("*"):
        if path not in wanted:
            path.unlink()
    for entry in (userland / "etc").iterdir():
        path = ETC / entry.name
        if path.exists() or path.is_symlink():
            if path.is_symlink() and str(path.readlink()).startswith("/nix/store/"):
                _link(path, str(entry))
        elif entry.name == "libvirt":
            _fill(entry, LIBVIRT)
            path.symlink_to(LIBVIRT)
        elif entry.name in WRITABLE:
            _fill(entry, path)
        elif entry.name not in ("passwd", "shadow", "group", "gshadow", "sudoers", "machine-id", "hostname"):
            path.symlink_to(entry)
    (ETC / "NIXOS").touch()
    if not (ETC / "machine-id").exists():
        (ETC / "machine-id").write_text(secrets.token_hex(16) + "\n")


def _fill(source: Path, target: Path) -> None:
    """Copy a tree, less what is there already."""
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    for each in source.iterdir():
        path = target / each.name
        if each.is_dir() and not each.is_symlink():
            _fill(each, path)
        elif not path.exists() and not path.is_symlink():
            shutil.copyfile(each, path, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o644)


def _copy(source: Path, path: Path) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    shutil.copyfile(source, fresh)
    fresh.chmod(0o444)
    fresh.rename(path)


def _table(path: Path, fallback: Path) -> dict[str, list[str]]:
    source = path if path.exists() else fallback
    rows = (line.split(":") for line in source.read_text().splitlines() if ":" in line)
    return {row[0]: row for row in rows}


def _write(path: Path, rows: dict[str, list[str]], mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("".join(":".join(row) + "\n" for row in rows.values()))
    fresh.chmod(mode)
    fresh.rename(path)


def _accounts(users: dict[str, Any], userland: Path) -> None:
    """`users.users` and `users.groups`, as nixpkgs' update-users-groups does: declared ids, else the next free one."""
    passwd = _table(ETC / "passwd", userland / "etc/passwd")
    groups = _table(ETC / "group", userland / "etc/group")
    shadow = _table(ETC / "shadow", Path("/nonexistent")) if (ETC / "shadow").exists() else {}
    for name in ("wheel", "users", "libvirtd", *users.get("groups", {})):
        if name not in groups:
            wanted = users.get("groups", {}).get(name, {}).get("gid")
            groups[name] = [name, "x", str(wanted or _free(groups, 100 if name == "users" else 400)), ""]
    for name, user in sorted(users.get("users", {}).items()):
        _account(name, user, passwd, groups)
        shadow[name] = _password(user, shadow.get(name, [name, "!", "1", "", "", "", "", "", ""]))
    for name, group in users.get("groups", {}).items():
        for member in group.get("members", []):
            _join(groups, name, member)
    for name in passwd:
        shadow.setdefault(name, [name, "!*"[name != "root"], "1", "", "", "", "", "", ""])
    _write(ETC / "passwd", passwd, 0o644)
    _write(ETC / "group", groups, 0o644)
    _write(ETC / "shadow", shadow, 0o600)


def _free(table: dict[str, list[str]], first: int) -> int:
    taken = {int(row[2]) for row in table.values()}
    return next(number for number in range(first, 60000) if number not in taken)


def _account(
    name: str, user: dict[str, Any], passwd: dict[str, list[str]], groups: dict[str, list[str]]
) -> None:
    normal = bool(user.get("isNormalUser"))
    if name in passwd and name != "root":
        number = int(passwd[name][2])
    else:
        number = 0 if name == "root" else user.get("uid") or _free(passwd, 1000 if normal else 400)
    group = user.get("group") or ("users" if normal else "root" if name == "root" else "nogroup")
    home = user.get("home") or ("/root" if name == "root" else f"/home/{name}" if normal else "/var/empty")
    shell = "/run/current-system/sw/bin/bash" if normal or name == "root" else "/usr/sbin/nologin"
    passwd[name] = [name, "x", str(number), groups[group][2], user.get("description", ""), home, shell]
    for extra in user.get("extraGroups", []):
        if extra in groups:
            _join(groups, extra, name)
    if normal and not Path(home).exists():
        Path(home).mkdir(parents=True, mode=0o700)
        os.chown(home, number, int(groups[group][2]))


def _join(groups: dict[str, list[str]], group: str, name: str) -> None:
    members = [each for each in groups[group][3].split(",") if each]
    groups[group][3] = ",".join(dict.fromkeys([*members, name]))


def _password(user: dict[str, Any], row: list[str]) -> list[str]:
    hashed = user.get("hashedPassword") or user.get("initialHashedPassword")
    file = user.get("hashedPasswordFile")
    if file and Path(file).exists():
        hashed = Path(file).read_text().strip()
    return [row[0], hashed or row[1], *row[2:]]


def _sudo(toplevel: Path) -> None:
    fresh = ETC / ".sudoers.new"
    fresh.unlink(missing_ok=True)
    shutil.copyfile(toplevel / "etc/sudoers", fresh)
    fresh.chmod(0o440)
    fresh.rename(ETC / "sudoers")


def _wrappers(userland: Path) -> None:
    folder = Path("/run/wrappers/bin")
    folder.parent.mkdir(exist_ok=True)
    if not os.path.ismount(folder.parent):
        # systemd in stage 1 mounts /run `nosuid` (nixpkgs, nixos/modules/security/wrappers: run-wrappers.mount).
        mount = (str(userland / "usr/bin/mount"), "-t", "tmpfs", "-o", "nodev,mode=0755", "tmpfs")
        subprocess.run((*mount, str(folder.parent)), check=True)
    folder.mkdir(exist_ok=True)
    for name in WRAPPERS:
        program = folder / name
        if not program.exists():
            shutil.copy(userland / "usr/bin" / name, program)
            program.chmod(0o4755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
