"""Whether a system that was built for any host of a tier fits this one, or what it lacks."""

from collections.abc import Iterable

from installer.answers.catalogue import TIERS
from installer.answers.model import Answers, User
from installer.errors import Exit, HyperError
from installer.medium import ReadyClosure
from installer.plan.model import HostStorage
from installer.plan.storage.filesystem import STAGE_ONE
from installer.plan.storage.gpt import PartitionType

HOST_DATA = "/var/lib/hyper-nixos/host"
"""On the host: what such a system finds there (nix/modules/prebuilt)."""
ROOT_TYPES = {
    "aarch64-linux": PartitionType.root_arm64,
    "x86_64-linux": PartitionType.root_x86_64,
}
"""Of the partition that such a system takes for its root, by Nix system double."""
FILE_SYSTEMS = frozenset(("ext4", "vfat", "xfs"))
"""What such a system can mount."""
ROLES = {
    "hv-viewers": (),
    "hv-operators": (),
    "hv-owners": (),
    "hv-auditors": ("systemd-journal",),
    "hv-admins": ("systemd-journal",),
}
"""Groups of roles with those that they bring along (nix/modules/privileges/roles.json; a test compares)."""
MEMBERS = "hv-users"
"""Everybody with a role."""


def obstacles(answers: Answers, host: HostStorage, modules: Iterable[str] = ()) -> tuple[str, ...]:
    """Why this host needs a system of its own, one reason each: what is in the kernel's arguments, in stage 1, in the
    boot loader or in generated configuration cannot come as a file. None: a system for many hosts fits.

    Args:
        answers: What is wanted.
        host: How its disks will be.
        modules: Kernel modules that reach the root and that the system's stage 1 lacks.
    """
    usual = Answers.model_validate(
        {"version": 1, "hostname": "usual", "storage": {"disk": {"serial": "any"}}}
    )
    asked, plain = answers.hypervisor, usual.hypervisor
    strange = sorted({*host.supported_filesystems} - FILE_SYSTEMS)
    early = [
        each.mountpoint for each in host.filesystems if _is_early(each.mountpoint, each.needed_for_boot)
    ]
    lacking = sorted(modules)
    found = {
        "storage.encryption: stage 1 has the list of what it opens": bool(host.luks or host.key_luks),
        "boot.loader: GRUB's configuration names the disk": host.loader != "systemd-boot",
        "storage.disks: what joins several disks is put together by generated configuration": bool(
            host.arrays or host.zfs or host.lvm or host.mirrors or host.degraded
        ),
        f"storage.filesystem: the system knows {', '.join(sorted(FILE_SYSTEMS))}, not {', '.join(strange)}": bool(
            strange
        ),
        f"storage: {', '.join(early)} would be mounted in stage 1": bool(early),
        f"storage: the boot partition is mounted at {host.esp_mountpoint}, not at /boot": (
            host.loader == "systemd-boot" and host.esp_mountpoint != "/boot"
        ),
        "storage.existing: the root is the partition of its type on the disk, which the installer makes": (
            answers.storage.existing != usual.storage.existing
        ),
        "storage.swap: encrypted with a new key at every boot": bool(host.random_swap_devices),
        "storage.swap: a service of the system makes the file": bool(host.swap_files),
        "storage.swap.hibernate: the kernel's arguments": answers.storage.swap.hibernate,
        "storage.swap: zram of the tier's size is part of the system": host.zram_percent
        not in (None, TIERS[asked.tier].zram_percent),
        f"storage: the system's stage 1 lacks the modules {', '.join(lacking)}": bool(lacking),
        "boot.serial_console, boot.kernel_params: the kernel's arguments": bool(
            answers.boot.serial_console or answers.boot.kernel_params
        ),
        "boot.secure_boot: the boot loader's hook signs": answers.boot.secure_boot,
        "domain, network.dns, network.ntp: generated configuration": bool(
            answers.domain or answers.network.dns or answers.network.ntp
        ),
        "network.management: the firewall's rules": bool(answers.network.management),
        "network.proxy: in the environment of every service": answers.network.proxy is not None,
        "system.substituters, system.ca_certificates: generated configuration": bool(
            answers.system.substituters or answers.system.ca_certificates
        ),
        "ssh: the server's and the firewall's configuration": answers.ssh != usual.ssh,
        "users: shells other than bash are programs": any(user.shell != "bash" for user in answers.users),
        "users: sudo without a password, for administrators who have none": any(
            user.admin and not has_password(user) for user in answers.users
        ),
        "users: sudo for somebody who is no administrator": any(
            "hv-admins" in user.groups and not user.admin for user in answers.users
        ),
        "users: groups other than those of roles": any({*user.groups} - {*ROLES} for user in answers.users),
        "hypervisor: features, nested guests, huge pages, passthrough": asked.model_copy(
            update={"tier": plain.tier}
        )
        != plain,
        "first_run.pool: programs that may reach guests' disks are told where": answers.first_run.pool
        != usual.first_run.pool,
        "security.profile: both phases are built with it": answers.security.profile
        != usual.security.profile,
    }
    return tuple(reason for reason, holds in found.items() if holds)


def has_password(user: User) -> bool:
    """Whether the answers give a password."""
    return bool(user.password_hash or user.password_hash_file)


def _is_early(mountpoint: str, needed: bool) -> bool:
    """Whether stage 1 mounts it, or the host's own data would lie on it: the root is all that such a system knows."""
    return mountpoint != "/" and (
        needed or mountpoint in STAGE_ONE or mountpoint.startswith("/var/lib/hyper-nixos")
    )


def require_fitting(
    answers: Answers, host: HostStorage, closure: ReadyClosure, modules: Iterable[str]
) -> None:
    """HyperError (Exit.answers) naming everything that this host needs and the ready system cannot give.

    Args:
        answers: What is wanted.
        host: How its disks will be.
        closure: The system.
        modules: Kernel modules without which the root is not reached.
    """
    tier = answers.hypervisor.tier
    there = {_plain(module) for module in closure.modules}
    found = [*obstacles(answers, host, {_plain(each) for each in modules} - there)]
    if closure.tier != tier:
        found.insert(0, f"hypervisor.tier: {tier.value}, and the system is for {closure.tier or 'no tier'}")
    if found:
        raise HyperError(
            f"the ready system {closure.name} does not fit this host",
            why="\n".join(found),
            remedy='change these answers, or have a system built for this host: system.source = "flake"',
            code=Exit.answers,
        )


def _plain(module: str) -> str:
    """The kernel takes - and _ for the same."""
    return module.replace("-", "_")
