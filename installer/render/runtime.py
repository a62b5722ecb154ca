"""What one system for many hosts leaves open: this host's name, network, mounts, accounts and keys, as files on it.

A system that is built once for each tier and architecture cannot know them. These files say the same as the rendered
flake, so that the first `nixos-rebuild` of it changes no login, mount, key or network; tests hold each against what the
flake evaluates to. `obstacles` says which hosts need a system of their own instead.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from installer.answers.model import Answers, FilesystemKind
from installer.plan.model import HostFilesystem, Plan
from installer.render.network import network
from installer.render.nix import Nix
from installer.render.users import groups_of, password_file

NETWORK = "/etc/systemd/network"
KEYS = "/etc/ssh/authorized_keys.d"
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
    full_name: str
    """GECOS."""
    groups: tuple[str, ...]
    """Beside `users`."""
    password_file: str | None
    """Where the hash of the password is; none: no password."""


@dataclass(frozen=True)
class RuntimeData:
    """What the installer puts on the host beside a system that knows nothing of it."""

    files: Mapping[str, str]
    """Absolute path on the host to text."""
    timezone: str
    """/etc/localtime is a link to it, below /etc/zoneinfo."""
    accounts: tuple[Account, ...]
    """To be made."""


def runtime_data(answers: Answers, plan: Plan) -> RuntimeData:
    """The data of a host; the same input, the same text."""
    files = {
        "/etc/hostname": f"{answers.hostname}\n",
        "/etc/fstab": "".join(f"{line}\n" for line in _fstab(plan)),
        **{f"{NETWORK}/{name}": text for name, text in _network(answers)},
        **{
            f"{KEYS}/{user.name}": "".join(f"{key}\n" for key in user.ssh_keys)
            for user in answers.users
            if user.ssh_keys
        },
    }
    accounts = tuple(
        Account(user.name, user.full_name, groups_of(user), password_file(user)) for user in answers.users
    )
    return RuntimeData(dict(sorted(files.items())), answers.timezone, accounts)


def obstacles(answers: Answers, plan: Plan) -> tuple[str, ...]:
    """Why this host needs a system of its own, one reason each: what is in the kernel's arguments, in stage 1, in the
    boot loader or in generated configuration cannot come as a file. None: a system for many hosts fits.
    """
    usual = Answers.model_validate(
        {"version": 1, "hostname": "usual", "storage": {"disk": {"serial": "any"}}}
    )
    asked, plain = answers.hypervisor, usual.hypervisor
    found = {
        "storage.encryption: stage 1 has the list of what it opens": bool(plan.host.luks),
        "boot.loader: GRUB's configuration names the disk": plan.host.loader != "systemd-boot",
        "storage.filesystem: subvolumes are mounted in stage 1": answers.storage.filesystem
        is FilesystemKind.btrfs,
        "storage.swap: encrypted with a new key at every boot": bool(plan.host.random_swap_devices),
        "storage.swap: zram of the usual size is part of the system": plan.host.zram_percent
        not in (None, usual.storage.swap.zram_percent),
        "boot.serial_console, boot.kernel_params: the kernel's arguments": bool(
            answers.boot.serial_console or answers.boot.kernel_params
        ),
        "locale, keymap: data that only a build makes": (answers.locale, answers.keymap)
        != (usual.locale, usual.keymap),
        "domain, network.dns, network.ntp: generated configuration": bool(
            answers.domain or answers.network.dns or answers.network.ntp
        ),
        "network.proxy: in the environment of every service": answers.network.proxy is not None,
        "system.substituters, system.ca_certificates: generated configuration": bool(
            answers.system.substituters or answers.system.ca_certificates
        ),
        "ssh: the server's and the firewall's configuration": answers.ssh != usual.ssh,
        "users: shells other than bash are programs": any(user.shell != "bash" for user in answers.users),
        "users: sudo without a password, for administrators who have none": any(
            user.admin and password_file(user) is None for user in answers.users
        ),
        "hypervisor: features, nested guests, huge pages, passthrough": asked.model_copy(
            update={"tier": plain.tier}
        )
        != plain,
        "security.profile: both phases are built with it": answers.security.profile
        != usual.security.profile,
    }
    return tuple(reason for reason, holds in found.items() if holds)


def _fstab(plan: Plan) -> Iterator[str]:
    """fstab(5), as NixOS writes it."""
    yield from (_mount(filesystem) for filesystem in plan.host.filesystems)
    yield from (f"{device} none swap defaults" for device in plan.host.swap_devices)


def _mount(filesystem: HostFilesystem) -> str:
    early = ("x-initrd.mount",) if filesystem.needed_for_boot or filesystem.mountpoint == "/" else ()
    options = ",".join((*early, *(filesystem.options or ("defaults",))))
    order = _check_order(filesystem)
    return f"{filesystem.device} {filesystem.mountpoint} {filesystem.kind} {options} 0 {order}"


def _check_order(filesystem: HostFilesystem) -> int:
    """fsck(8)'s: 0 for a file system that has no check at boot, as NixOS has it."""
    if filesystem.kind == "btrfs":
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
