"""What the lab plays through, as data."""

from dataclasses import dataclass, replace
from typing import Literal

from tests.lab.machine import Disk, Hardware
from tests.lab.paths import LAB

PASSPHRASE = "correct horse battery"
PASSWORD = "lab-password"
PASSWORD_HASH = (
    "$6$labsalt0$"  # made by `openssl passwd -6 -salt labsalt0 lab-password`
    "praDOUx7h53MY.2QDGD/CCLIPvRTkbRuRuFqKiMjZU/ZKudDj/j1QWXND16b5TWrXeKpb.tmH7DSPyUsEWLU70"
)
ADMINISTRATOR = "alice"


@dataclass(frozen=True)
class Scenario:
    """One machine and what is asked for on it."""

    name: str
    """Also the name of its answer file in tests/lab/answers."""
    summary: str
    """One sentence for a person."""
    hostname: str
    """As in the answers."""
    hardware: Hardware
    """The machine."""
    encrypted: bool
    """Whether a passphrase is typed at boot."""
    hardened: bool
    """Whether it ends in phase hardened."""
    source: Literal["flake", "closure"]
    """`flake`: evaluated in the machine; `closure`: built beforehand, in a `file://` cache."""
    guest: str | None = None
    """A VM that must print its marker."""
    interrupted: bool = False
    """Kill the installer while it copies, then run it again."""
    base: str | None = None
    """The answer file that it starts from; none: the one of its own name."""
    mirrored: bool = False
    """Whether it must also start with any of its system's disks pulled: of more than two, with the first and the last."""
    changes: tuple[tuple[str, str], ...] = ()
    """What is replaced in that file."""
    people: bool = False
    """Whether people without sudo make guests of their own at the end."""
    beside: bool = False
    """Whether another system is on the disk, which must stay."""
    rescued: bool = False
    """Whether the host is rescued from the medium at the end, under BIOS with its boot loader ruined."""
    zfs: bool = False
    """Whether it uses ZFS, which the live system is given then."""
    kexec: bool = False
    """Whether the installed host is started from the live system, and not by the firmware."""
    passphrase: str = PASSPHRASE
    """Of its encrypted disks."""
    pin: str | None = None
    """Of its TPM."""
    unlock: int = 0
    """Port of stage 1's SSH server; 0: it has none."""
    given: str | None = None
    """Its answer file itself, in place of one in tests/lab/answers."""

    def answers(self) -> str:
        """Its answer file, with `@ssh-key@` where a key goes."""
        if self.given is not None:
            return self.given
        text = (LAB / "answers" / f"{self.base or self.name}.toml").read_text()
        for old, new in self.changes:
            assert old in text, f"{self.name}: {old!r} is not in its answers"
            text = text.replace(old, new)
        return text


_MAIN = Hardware(
    firmware="uefi",
    disks=(Disk("HVMAIN01", bus="nvme"), Disk("HVDATA02", size="2G", bus="virtio")),
    tpm=True,
    second_gpu=True,
)
_PLAIN = Hardware(
    firmware="bios",
    disks=(Disk("HVMAIN01", bus="virtio"), Disk("HVDATA02", size="2G", bus="virtio")),
    mac="52:54:00:48:56:02",
    medium="stick",
)

_PAIR = Hardware(
    firmware="uefi",
    disks=(
        Disk("HVMAIN01", bus="nvme"),
        Disk("HVMAIN02", bus="nvme"),
        Disk("HVDATA02", size="2G", bus="virtio"),
    ),
    mac="52:54:00:48:56:03",
)

_FOUR = (
    Disk("HVMAIN01", bus="nvme"),
    Disk("HVMAIN02", bus="nvme"),
    Disk("HVMAIN03", size="7G", bus="virtio"),
    Disk("HVMAIN04", size="8G", bus="virtio"),
)
"""Of different sizes and buses."""
_FIRMWARE: tuple[Literal["uefi", "bios"], ...] = ("uefi", "bios")
ENCRYPTION = """[storage.encryption]
enable = true
passphrase = { file = "/run/secrets/passphrase" }
pbkdf_memory = "32MiB"
pbkdf_iterations = 4
recovery_key = "seal"

[boot]"""
"""In place of a table `boot`: encryption before it."""

_NOT_ENCRYPTED = (
    ("enable = true", "enable = false"),
    ('passphrase = { file = "/run/secrets/passphrase" }\n', ""),
    ('pbkdf_memory = "32MiB"\npbkdf_iterations = 4\nrecovery_key = "seal"\n', ""),
)
"""Changes that leave encryption out."""

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="uefi-luks-btrfs",
            summary="UEFI with TPM, IOMMU and a second GPU; encrypted btrfs on NVMe, ending hardened.",
            hostname="kvm1",
            hardware=_MAIN,
            encrypted=True,
            hardened=True,
            source="flake",
            guest="marker",
        ),
        Scenario(
            name="bios-ext4",
            summary="BIOS from a stick; ext4 on a virtio disk, from a system built beforehand; the installer is killed once.",
            hostname="kvm2",
            hardware=_PLAIN,
            encrypted=False,
            hardened=False,
            source="closure",
            guest="marker",
            interrupted=True,
        ),
    )
}
"""By name."""
DEMO = "uefi-luks-btrfs"
"""The one that `make demo` and `make test` play."""


def layouts() -> tuple[Scenario, ...]:
    """Several disks: what `make test-matrix` installs, boots whole, and boots with each disk pulled."""
    return (
        Scenario(
            name="uefi-mirror-btrfs-luks",
            summary="UEFI; btrfs raid1 on two encrypted NVMe disks, an ESP on each.",
            hostname="kvm3",
            hardware=_PAIR,
            encrypted=True,
            hardened=False,
            source="closure",
            mirrored=True,
        ),
        Scenario(
            name="uefi-md-lvm",
            summary="UEFI; md raid1 on two NVMe disks with LVM, ext4 and swap on it, an ESP on each.",
            hostname="kvm4",
            hardware=_PAIR,
            encrypted=False,
            hardened=False,
            source="closure",
            mirrored=True,
        ),
        Scenario(
            name="uefi-zfs-luks",
            summary="UEFI; a ZFS mirror on two encrypted NVMe disks with a dataset for guests, an ESP on each.",
            hostname="kvm3",
            hardware=_PAIR,
            encrypted=True,
            hardened=False,
            source="closure",
            mirrored=True,
            zfs=True,
            base="uefi-mirror-btrfs-luks",
            changes=(
                ('filesystem = "btrfs"', 'filesystem = "zfs"'),
                ("[storage.encryption]", '[storage.pool]\nkind = "zfs"\n\n[storage.encryption]'),
            ),
        ),
        Scenario(
            name="uefi-beside-luks",
            summary="UEFI; beside another system, whose ESP is shared; LUKS and ext4 in the free space; then rescued.",
            hostname="kvm6",
            hardware=replace(
                _MAIN,
                disks=(Disk("HVMAIN01", size="9G", bus="nvme"), _MAIN.disks[1]),
                tpm=False,
                second_gpu=False,
            ),
            encrypted=True,
            hardened=False,
            source="closure",
            beside=True,
            rescued=True,
        ),
        Scenario(
            name="uefi-beside-mirror",
            summary="UEFI; btrfs raid1 in the free space of two disks, beside partitions of another system on both.",
            hostname="kvm3",
            hardware=replace(
                _PAIR, disks=(*(replace(disk, size="10G") for disk in _PAIR.disks[:2]), _PAIR.disks[2])
            ),
            encrypted=False,
            hardened=False,
            source="closure",
            mirrored=True,
            beside=True,
            base="uefi-mirror-btrfs-luks",
            changes=(
                ('layout = "mirror"', 'layout = "mirror"\nexisting = "keep"'),
                (
                    "[storage.encryption]",
                    "".join(
                        f'[[storage.partitions]]\nlabel = "{label}"\nmount = "/srv/{label}"\n\n'
                        for label in ("data", "films")
                    )
                    + "[storage.encryption]",
                ),
                *_NOT_ENCRYPTED,
            ),
        ),
        Scenario(
            name="bios-luks-xfs",
            summary="BIOS; LUKS and xfs on a virtio disk, GRUB and a /boot beside it; then its loader is ruined, and rescued.",
            hostname="kvm2",
            hardware=_PLAIN,
            encrypted=True,
            hardened=False,
            source="closure",
            base="bios-ext4",
            changes=(('filesystem = "ext4"', 'filesystem = "xfs"'), ("[boot]", ENCRYPTION)),
            rescued=True,
        ),
        Scenario(
            name="uefi-xbootldr",
            summary="UEFI; ext4, kernels and entries on a partition of their own beside a small ESP (XBOOTLDR).",
            hostname="kvm2",
            hardware=replace(
                _PLAIN, firmware="uefi", disks=(replace(_PLAIN.disks[0], size="8G"), _PLAIN.disks[1])
            ),
            encrypted=False,
            hardened=False,
            source="closure",
            base="bios-ext4",
            changes=(('firmware = "bios"\nserial', 'firmware = "uefi"\nkernels = "xbootldr"\nserial'),),
        ),
        Scenario(
            name="bios-mirror-btrfs",
            summary="BIOS; btrfs raid1 on two virtio disks, swap on md, GRUB and a /boot on each.",
            hostname="kvm3",
            hardware=replace(
                _PAIR, firmware="bios", disks=tuple(replace(disk, bus="virtio") for disk in _PAIR.disks)
            ),
            encrypted=False,
            hardened=False,
            source="closure",
            mirrored=True,
            base="uefi-mirror-btrfs-luks",
            changes=(
                ('firmware = "uefi"', 'firmware = "bios"'),
                ('transport = "nvme"', 'transport = "virtio"\nsize_min = "4GiB"'),
                ('swap = { kind = "none" }', 'swap = { kind = "partition", size = "256MiB" }'),
                *_NOT_ENCRYPTED,
            ),
        ),
    )


def arrays() -> tuple[Scenario, ...]:
    """Three and four disks, and sectors of 4096 bytes."""
    named = "".join(f'[[storage.disks]]\nserial = "{disk.serial}"\n\n' for disk in _FOUR)
    plain = SCENARIOS["bios-ext4"]
    return (
        Scenario(
            name="uefi-raid6-lvm",
            summary="UEFI; md raid6 over four disks of different sizes, with LVM, ext4 and swap on it, an ESP on each.",
            hostname="kvm4",
            hardware=replace(_PAIR, disks=_FOUR),
            encrypted=False,
            hardened=False,
            source="closure",
            mirrored=True,
            base="uefi-md-lvm",
            changes=(
                ('layout = "mirror"', 'layout = "array"\nredundancy = "raid6"'),
                *((f'[[storage.disks]]\nserial = "{disk.serial}"\n\n', "") for disk in _FOUR[:2]),
                ("[boot]", f"{named}[boot]"),
            ),
        ),
        Scenario(
            name="uefi-raid10-btrfs",
            summary="UEFI; btrfs raid10 over four disks of different sizes, an ESP on each.",
            hostname="kvm3",
            hardware=replace(_PAIR, disks=_FOUR),
            encrypted=False,
            hardened=False,
            source="closure",
            mirrored=True,
            base="uefi-mirror-btrfs-luks",
            changes=(
                ('layout = "mirror"', 'layout = "array"\nredundancy = "raid10"'),
                ('[storage.disk]\ntransport = "nvme"\ncount = 2\n\n', named),
                *_NOT_ENCRYPTED,
            ),
        ),
        Scenario(
            name="bios-raid5-luks-xfs",
            summary="BIOS; xfs on LUKS on md raid5 over three disks, GRUB and a /boot on each.",
            hostname="kvm2",
            hardware=replace(
                plain.hardware, disks=tuple(replace(disk, bus="virtio") for disk in _FOUR[:3]), medium="cd"
            ),
            encrypted=True,
            hardened=False,
            source="closure",
            mirrored=True,
            base="bios-ext4",
            changes=(
                ('filesystem = "ext4"', 'layout = "array"\nredundancy = "raid5"\nfilesystem = "xfs"'),
                (
                    'disk = { serial = "HVMAIN01", transport = "virtio" }\n',
                    'disk = { size_min = "4GiB", count = 3 }\n',
                ),
                ("[boot]", ENCRYPTION),
            ),
        ),
        Scenario(
            name="uefi-4kn",
            summary="UEFI; btrfs on LUKS, on a disk with sectors of 4096 bytes, with a guest on it; then rescued.",
            hostname="kvm2",
            hardware=replace(
                plain.hardware,
                firmware="uefi",
                disks=(Disk("HVMAIN01", bus="nvme", sector=4096), plain.hardware.disks[1]),
            ),
            encrypted=True,
            hardened=False,
            source="closure",
            guest="marker",
            rescued=True,
            base="bios-ext4",
            changes=(
                ('firmware = "bios"\nserial', 'firmware = "uefi"\nserial'),
                ('filesystem = "ext4"', 'filesystem = "btrfs"'),
                ('transport = "virtio"', 'transport = "nvme"'),
                ("[boot]", ENCRYPTION),
            ),
        ),
    )


def guests_on_zfs() -> Scenario:
    """A host whose guests have a pool of ZFS on disks of its own, which stage 2 imports."""
    plain = SCENARIOS["bios-ext4"]
    of_guests = (Disk("HVPOOL01", size="3G", bus="nvme"), Disk("HVPOOL02", size="3G", bus="virtio"))
    named = "".join(f'[[storage.pool.disks]]\nserial = "{disk.serial}"\n\n' for disk in of_guests)
    return replace(
        plain,
        name="uefi-guests-zfs",
        summary="UEFI; ext4 on a virtio disk, a ZFS mirror for guests on two other disks, with a guest on it.",
        hardware=replace(
            plain.hardware, firmware="uefi", disks=(*plain.hardware.disks, *of_guests), medium="cd"
        ),
        interrupted=False,
        zfs=True,
        base="bios-ext4",
        changes=(
            ('firmware = "bios"\nserial', 'firmware = "uefi"\nserial'),
            ("[boot]", f'[storage.pool]\nkind = "zfs"\nredundancy = "mirror"\n\n{named}[boot]'),
        ),
    )


def endings() -> tuple[Scenario, ...]:
    """Hosts that the live system's own kernel starts."""
    return (
        Scenario(
            name="uefi-kexec",
            summary="UEFI, ext4; the host is started by kexec, without the firmware between.",
            hostname="kvm2",
            hardware=replace(_PLAIN, firmware="uefi"),
            encrypted=False,
            hardened=False,
            source="closure",
            base="bios-ext4",
            changes=(
                ('firmware = "bios"\nserial', 'firmware = "uefi"\nserial'),
                ('hostname = "kvm2"', 'hostname = "kvm2"\nat_end = "kexec"'),
            ),
            kexec=True,
        ),
    )


def people() -> Scenario:
    """A host whose people make guests: two who may, each for themselves, and one who only looks."""
    plain = SCENARIOS["bios-ext4"]
    accounts = "".join(
        f'[[users]]\nname = "{name}"\ngroups = ["{group}"]\nssh_keys = ["@ssh-key@"]\n\n'
        for name, group in (("ada", "hv-owners"), ("bob", "hv-owners"), ("vic", "hv-viewers"))
    )
    return replace(
        plain,
        name="bios-ext4-people",
        summary="BIOS, ext4; people without sudo make guests of their own.",
        guest=None,
        interrupted=False,
        people=True,
        base="bios-ext4",
        changes=(("[[first_run.vms]]", f"{accounts}[[first_run.vms]]"),),
    )


def combinations() -> tuple[Scenario, ...]:
    """Every firmware with every file system, plain and encrypted: what `make test-matrix` installs and boots."""
    return tuple(
        Scenario(
            name=f"{firmware}-{filesystem}-{'luks' if encrypted else 'plain'}",
            summary=f"{firmware.upper()}, {filesystem}, {'encrypted' if encrypted else 'not encrypted'}.",
            hostname="kvm2",
            hardware=replace(_PLAIN, firmware=firmware),
            encrypted=encrypted,
            hardened=False,
            source="closure",
            guest="marker",
            base="bios-ext4",
            changes=(
                # The host's; the guest's stays.
                ('firmware = "bios"\nserial', f'firmware = "{firmware}"\nserial'),
                ('filesystem = "ext4"', f'filesystem = "{filesystem}"'),
                *((("[boot]", ENCRYPTION),) if encrypted else ()),
            ),
        )
        for firmware in _FIRMWARE
        for filesystem in ("ext4", "xfs", "btrfs")
        for encrypted in (False, True)
    )
