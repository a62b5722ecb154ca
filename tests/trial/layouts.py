"""Layouts that are put on trial, as data; all on the disks of one machine."""

from dataclasses import dataclass

from tests.lab.machine import Disk, Hardware
from tests.lab.scenarios import PASSPHRASE, PASSWORD_HASH

FIRST, SECOND, THIRD, FOURTH = "HVMAIN01", "HVMAIN02", "HVMAIN03", "HVMAIN04"
BYSTANDER = "HVOTHER9"
"""A disk with something on it that nobody ever chooses."""
HARDWARE = Hardware(
    firmware="uefi",
    disks=(
        Disk(FIRST, bus="nvme"),
        Disk(SECOND, bus="nvme"),
        Disk(THIRD, size="7G", bus="virtio"),
        Disk(FOURTH, size="7G", bus="virtio"),
        Disk(BYSTANDER, size="64M", bus="virtio"),
    ),
    memory=2048,
    mac="52:54:00:48:56:0a",
)
ENCRYPTED = """
[storage.encryption]
enable = true
passphrase = { file = "/run/secrets/passphrase" }
pbkdf_memory = "32MiB"
recovery_key = "off"
pbkdf_iterations = 4
"""
SECRETS = {"/run/secrets/passphrase": PASSPHRASE + "\n", "/run/secrets/alice.hash": PASSWORD_HASH + "\n"}
"""Files of the live system that the answers name."""


@dataclass(frozen=True)
class Layout:
    """What is installed on some of the machine's disks."""

    name: str
    """Also the host's name."""
    disks: tuple[str, ...]
    """Serial numbers of the chosen disks."""
    storage: str
    """Lines of the answers' table `storage`, and tables below it."""

    def answers(self) -> str:
        """The whole answer file."""
        lines, _, tables = self.storage.partition("\n\n")
        chosen = "".join(f'\n[[storage.disks]]\nserial = "{serial}"\n' for serial in self.disks)
        return f"""version = 1
hostname = "{self.name}"

[storage]
destroy = "matched"
{lines}
{chosen}
{tables}

[boot]
firmware = "uefi"
esp_size = "1GiB"

[[users]]
name = "alice"
admin = true
password_hash_file = {{ file = "/run/secrets/alice.hash" }}

[ssh]
enable = false

[hypervisor]
tier = "minimal"

[system]
source = "closure"
closure = "{self.name}"
offline = true
"""


LUKS_BTRFS = Layout(
    "luks-btrfs",
    (THIRD,),
    'filesystem = "btrfs"\nswap = { kind = "partition", size = "128MiB" }\n' + ENCRYPTED,
)
MD_LVM = Layout(
    "md-lvm",
    (FIRST, SECOND),
    'layout = "mirror"\nfilesystem = "ext4"\nvolumes = "lvm"\nswap = { kind = "partition", size = "128MiB" }\n',
)
OTHERS = (
    Layout("plain-ext4", (FIRST,), 'filesystem = "ext4"\nswap = { kind = "partition", size = "128MiB" }\n'),
    Layout("luks-xfs", (THIRD,), 'filesystem = "xfs"\nswap = { kind = "none" }\n' + ENCRYPTED),
    Layout(
        "lvm-thin",
        (FIRST,),
        'filesystem = "ext4"\nvolumes = "lvm-thin"\nswap = { kind = "partition", size = "128MiB" }\n',
    ),
    Layout(
        "mirror-btrfs-luks",
        (FIRST, SECOND),
        'layout = "mirror"\nfilesystem = "btrfs"\nswap = { kind = "partition", size = "128MiB" }\n'
        + ENCRYPTED,
    ),
    Layout(
        "array-xfs",
        (FIRST, SECOND, THIRD, FOURTH),
        'layout = "array"\nfilesystem = "xfs"\nswap = { kind = "partition", size = "128MiB" }\n',
    ),
)
LAYOUTS = {each.name: each for each in (LUKS_BTRFS, MD_LVM, *OTHERS)}
"""By name."""
