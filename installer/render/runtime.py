"""What one system for many hosts leaves open: this host's name, language, network, mounts, accounts and keys, as files.

A system that is built once for each tier and architecture cannot know them. These files say the same as the rendered
flake, so that the first `nixos-rebuild` of it changes no login, mount, key or network; tests hold each against what the
flake evaluates to. `installer.plan.prebuilt` says which hosts need a system of their own instead.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from installer.answers.model import Answers, Phase, User
from installer.plan.model import HostFilesystem, Plan
from installer.plan.prebuilt import HOST_DATA, MEMBERS, ROLES
from installer.render.network import network
from installer.render.nix import Nix
from installer.render.users import PASSWORDS, groups_of, openssh_settings, password_file

NETWORK = f"{HOST_DATA}/network"
KEYS = f"{HOST_DATA}/authorized_keys"
CREDENTIALS = "/var/lib/hyper-nixos/secrets/credentials"
"""systemd-sysusers(8) takes the hash of a new account from the credential `passwd.hashed-password.NAME`."""
SHELL = "/run/current-system/sw/bin/bash"
FIRST_UID = 1000
"""As NixOS numbers normal users, by name (nixos/modules/config/update-users-groups.pl)."""
SECTIONS = {
    "matchConfig": "Match",
    "linkConfig": "Link",
    "netdevConfig": "NetDev",
    "bridgeConfig": "Bridge",
    "vlanConfig": "VLAN",
    "bondConfig": "Bond",
    "networkConfig": "Network",
}
"""Option to section, in the order in which NixOS writes them (nixos/lib/systemd-network-units.nix)."""
KINDS = {"links": "link", "netdevs": "netdev", "networks": "network"}


@dataclass(frozen=True)
class Account:
    """A person's account, to be made on the host."""

    name: str
    """Login name."""
    uid: int
    """User id; the group is `users`."""
    full_name: str
    """GECOS."""
    groups: tuple[str, ...]
    """Beside `users`, with those that roles bring along."""
    password_file: str | None
    """Where the hash of the password is; none: no password."""

    @property
    def home(self) -> str:
        """Home folder."""
        return f"/home/{self.name}"


@dataclass(frozen=True)
class RuntimeData:
    """What the installer puts on the host beside a system that knows nothing of it."""

    files: Mapping[str, bytes]
    """Absolute path on the host to content; everybody may read them."""
    links: Mapping[str, str]
    """Absolute path on the host to where the link leads."""
    accounts: tuple[Account, ...]
    """What the files make."""


def runtime_data(answers: Answers, plan: Plan) -> RuntimeData:
    """The data of a host; the same input, the same bytes."""
    units = dict(_network(answers))
    accounts = _accounts(answers)
    texts = {
        f"{HOST_DATA}/hostname": f"{answers.hostname}\n",
        f"{HOST_DATA}/locale.conf": f"LANG={answers.locale}\n",
        f"{HOST_DATA}/vconsole.conf": f"KEYMAP={answers.keymap}\n",
        f"{HOST_DATA}/fstab": _lines(_fstab(plan)),
        f"{HOST_DATA}/sshd_config": _lines(_admitted(answers)),
        f"{HOST_DATA}/sysusers.conf": _lines(_sysusers(accounts)),
        f"{HOST_DATA}/homes.conf": _lines(f"d {each.home} 0700 {each.name} users" for each in accounts),
        f"{HOST_DATA}/forward.nft": _lines(_same_bridge(answers)),
        f"{HOST_DATA}/network.conf": _lines(
            f"L+ /run/systemd/network/{name} - - - - {NETWORK}/{name}" for name in units
        ),
        **{f"{NETWORK}/{name}": text for name, text in units.items()},
        **{f"{KEYS}/{user.name}": _lines(user.ssh_keys) for user in answers.users if user.ssh_keys},
    }
    files = {path: text.encode() for path, text in texts.items()}
    # gethostid(3) reads the number as the processor has it in memory; both architectures begin with the lowest byte.
    files[f"{HOST_DATA}/hostid"] = bytes.fromhex(plan.host_id)[::-1]
    links = {"/etc/localtime": f"/etc/zoneinfo/{answers.timezone}"}
    for each in accounts:
        if each.password_file:
            links[f"{CREDENTIALS}/passwd.hashed-password.{each.name}"] = f"{PASSWORDS}/{each.name}"
    return RuntimeData(dict(sorted(files.items())), dict(sorted(links.items())), accounts)


def _lines(lines: Iterator[str] | Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _accounts(answers: Answers) -> tuple[Account, ...]:
    return tuple(
        Account(user.name, uid, user.full_name, _all_groups(user), password_file(user))
        for uid, user in enumerate(sorted(answers.users, key=lambda user: user.name), start=FIRST_UID)
    )


def _all_groups(user: User) -> tuple[str, ...]:
    """With those that the modules put everybody with a role into."""
    own = groups_of(user)
    roles = [group for group in own if group in ROLES]
    brought = [group for role in roles for group in ROLES[role]]
    return tuple(dict.fromkeys((*own, *([MEMBERS] if roles else []), *brought)))


def _sysusers(accounts: tuple[Account, ...]) -> Iterator[str]:
    """sysusers.d(5)."""
    for each in accounts:
        yield f"u {each.name} {each.uid}:users {_quoted(each.full_name)} {each.home} {SHELL}"
        yield from (f"m {each.name} {group}" for group in each.groups)


def _quoted(text: str) -> str:
    """One word, in which nothing has a meaning (sysusers.d(5), specifiers; systemd.syntax(7), quoting)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if text else "-"


def _admitted(answers: Answers) -> Iterator[str]:
    """sshd_config(5): in both phases the same, since passwords over SSH need a system of their own."""
    allowed = openssh_settings(answers, Phase.setup).get("AllowUsers")
    if isinstance(allowed, list):
        yield f"AllowUsers {' '.join(str(name) for name in allowed)}"


def _same_bridge(answers: Answers) -> Iterator[str]:
    """nft(8): frames between two ports of one bridge are none of a router's business (nix/modules/network)."""
    if bridges := answers.network.bridges:
        pairs = ", ".join(f'"{each.name}" . "{each.name}"' for each in bridges)
        yield f"iifname . oifname {{ {pairs} }} accept"


def _fstab(plan: Plan) -> Iterator[str]:
    """fstab(5), as NixOS writes it."""
    yield from (_mount(filesystem) for filesystem in plan.host.filesystems)
    yield from (f"{device} none swap defaults" for device in plan.host.swap_devices)
    yield from (f"{file.path} none swap defaults" for file in plan.host.swap_files)


def _mount(filesystem: HostFilesystem) -> str:
    early = ("x-initrd.mount",) if filesystem.needed_for_boot or filesystem.mountpoint == "/" else ()
    # NixOS' default gives way to anything that is set.
    options = ",".join((*early, *filesystem.options)) or "defaults"
    order = _check_order(filesystem)
    return f"{filesystem.device} {filesystem.mountpoint} {filesystem.kind} {options} 0 {order}"


def _check_order(filesystem: HostFilesystem) -> int:
    """fsck(8)'s: 0 for a file system that has no check at boot, as NixOS has it."""
    if filesystem.kind in ("btrfs", "zfs"):
        return 0
    return 1 if filesystem.mountpoint == "/" else 2


def _network(answers: Answers) -> Iterator[tuple[str, str]]:
    """Name and text of each file of systemd-networkd."""
    systemd = network(answers)["systemd"]
    assert isinstance(systemd, Mapping)
    networkd = systemd["network"]
    assert isinstance(networkd, Mapping)
    for kind, ending in KINDS.items():
        units = networkd.get(kind, {})
        assert isinstance(units, Mapping)
        for name, unit in units.items():
            assert isinstance(unit, Mapping)
            yield f"{name}.{ending}", "".join(_sections(unit))


def _sections(unit: Mapping[str, Nix]) -> Iterator[str]:
    for option, section in SECTIONS.items():
        if settings := unit.get(option):
            yield _section(section, settings)
    routes = unit.get("routes", [])
    assert isinstance(routes, Sequence)
    yield from (_section("Route", route) for route in routes)


def _section(name: str, settings: Nix) -> str:
    assert isinstance(settings, Mapping)
    lines = [
        f"{key}={_value(value)}\n"
        for key, setting in sorted(settings.items())
        for value in (setting if isinstance(setting, list | tuple) else [setting])
    ]
    return f"[{name}]\n{''.join(lines)}\n"


def _value(value: Nix) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
