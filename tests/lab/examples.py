"""The layouts of `examples/`, each installed on a machine of the lab under its own name.

Taken from an example is its table `storage`, whole, but for what is said here: which disks, sizes that fit them, and a
passphrase from a file in place of one that is typed. Everything else of the answers is the lab's.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from installer.answers.toml import toml, toml_key
from tests.lab.machine import Disk, Hardware
from tests.lab.paths import REPOSITORY
from tests.lab.scenarios import ADMINISTRATOR, PASSPHRASE, Scenario

FOLDER = REPOSITORY / "examples"
_PASSPHRASE = {
    "encryption.passphrase": {"file": "/run/secrets/passphrase"},
    "encryption.pbkdf_memory": "32MiB",
    "encryption.pbkdf_iterations": 4,
    "encryption.recovery_key": "seal",
}
GERMAN = "yacht zu preußen"
"""A passphrase with letters that lie elsewhere on a German keyboard, or are on no other."""
PIN = "4y7z12"
BYSTANDER = Disk("HVOTHER9", size="64M", bus="virtio")
"""A disk that no example chooses."""
_PAIR = (Disk("HVMAIN01", bus="nvme"), Disk("HVMAIN02", bus="nvme"))


@dataclass(frozen=True)
class Example:
    """How an example is installed in the lab."""

    summary: str
    """One sentence for a person."""
    disks: tuple[Disk, ...]
    """The machine's."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What is said otherwise below `storage`, by dotted path; none: left out."""
    mirrored: bool = False
    """Whether the host must also start without either of its system's disks."""
    beside: bool = False
    """Whether another system is on the disk."""
    zfs: bool = False
    """Whether it uses ZFS."""
    remote: bool = False
    """Whether its passphrase is typed over SSH: then the answers' keymap and network are its own too."""


EXAMPLES = {
    "home-lab": Example("btrfs on the machine's one virtio disk.", (Disk("HVMAIN01", bus="virtio"),)),
    "mirror-btrfs-luks": Example(
        "btrfs raid1 on two encrypted disks.",
        _PAIR,
        {**_PASSPHRASE, "disk.model": "QEMU NVMe*", "swap.kind": "none"},
        mirrored=True,
    ),
    "mirror-md-lvm": Example(
        "md raid1 with LVM, ext4, swap and a thin pool for VMs.",
        tuple(replace(disk, size="8G") for disk in _PAIR),
        {
            "disks": [{"serial": "HVMAIN01"}, {"serial": "HVMAIN02"}],
            "root_size": "4GiB",
            "swap.size": "256MiB",
        },
        mirrored=True,
    ),
    "fast-system-big-data": Example(
        "An encrypted btrfs mirror for the system, four disks with md raid10, LUKS and xfs for VMs.",
        (*_PAIR, *(Disk(f"HVDATA0{number}", size="1G", bus="virtio") for number in range(1, 5))),
        {**_PASSPHRASE, "swap.kind": "none"},
    ),
    "encrypted-server-unattended": Example(
        "LUKS and ext4 on an NVMe disk.",
        (Disk("HVMAIN01", bus="nvme"),),
        {**_PASSPHRASE, "disk.serial": "HVMAIN01", "encryption.recovery_recipients": None},
    ),
    "workstation-passthrough": Example(
        "LUKS, xfs and swap.",
        (Disk("HVMAIN01", bus="nvme"),),
        {**_PASSPHRASE, "disk.serial": "HVMAIN01", "swap.size": "256MiB"},
    ),
    "encrypted-remote": Example(
        "LUKS and xfs; the passphrase typed over SSH on a VLAN, and on a German keyboard; TPM with PIN.",
        (Disk("HVMAIN01", bus="nvme"),),
        {
            **_PASSPHRASE,
            "disk.serial": "HVMAIN01",
            "encryption.pin": {"file": "/run/secrets/pin"},
        },
        remote=True,
    ),
    "beside-windows": Example(
        "LUKS and ext4 in the free space beside another system, with an EFI system partition of its own.",
        (Disk("HVMAIN01", size="10G", bus="nvme"),),
        {**_PASSPHRASE, "disk.serial": "HVMAIN01"},
        beside=True,
    ),
    "many-disks-zfs": Example(
        "ZFS raidz2 over four disks, with a dataset for VMs.",
        tuple(Disk(f"HVDATA0{number}", bus="virtio") for number in range(1, 5)),
        # The disk that the host's system comes on hangs on the same.
        {"disk.transport": "virtio", "disk.size_min": "4GiB"},
        mirrored=True,
        zfs=True,
    ),
}
"""By name of the example."""


def examples() -> tuple[Scenario, ...]:
    """Each as a scenario of the same name."""
    return tuple(_scenario(name, example) for name, example in EXAMPLES.items())


def _machine(disks: tuple[Disk, ...]) -> Hardware:
    """With a virtio disk in any case: the one that the host's system comes on would be the first, and change the plan."""
    more = () if any(disk.bus == "virtio" for disk in disks) else (BYSTANDER,)
    return Hardware(firmware="uefi", disks=(*disks, *more), mac="52:54:00:48:56:05")


def _scenario(name: str, example: Example) -> Scenario:
    storage = changed_storage(name)
    hostname = str(tomllib.loads(_text(name))["hostname"])
    given = {
        "version": 1,
        "hostname": hostname,
        "storage": storage,
        "boot": {
            "firmware": "uefi",
            "serial_console": "ttyS0,115200",
            # Emulated, and maybe beside others: systemd's own 90 seconds may not do.
            "kernel_params": ["no_timer_check", "systemd.default_device_timeout_sec=900"],
        },
        "users": [
            {
                "name": ADMINISTRATOR,
                "admin": True,
                "password_hash_file": {"file": f"/run/secrets/{ADMINISTRATOR}.hash"},
                "ssh_keys": ["@ssh-key@"],
            }
        ],
        "hypervisor": {"tier": "minimal"},
    }
    hardware = _machine(example.disks)
    passphrase, pin, unlock = PASSPHRASE, None, 0
    if example.remote:
        said = tomllib.loads(_text(name))
        network = said["network"]
        network["ethernets"][0]["match"]["mac"] = hardware.mac
        given |= {"keymap": said["keymap"], "network": network}
        (vlan,) = network["vlans"]
        address = vlan["addressing"]["addresses"][0].removesuffix("/24")
        hardware = replace(hardware, tpm=True, vlan=vlan["id"], address=address)
        passphrase, pin, unlock = GERMAN, PIN, 2222
    if not example.beside:
        given["boot"] |= {"esp_size": "1GiB"}  # type: ignore[operator]
    lines = [f"{toml_key(key)} = {toml(value)}\n" for key, value in given.items()]
    # On lines of their own: the lab takes them out where the system is only rendered.
    text = "".join(lines) + f'\n[system]\nsource = "closure"\nclosure = {toml(hostname)}\n'
    return Scenario(
        name=name,
        summary=example.summary,
        hostname=hostname,
        hardware=hardware,
        encrypted=bool(storage.get("encryption", {}).get("enable")),
        hardened=False,
        source="closure",
        mirrored=example.mirrored,
        beside=example.beside,
        rescued=example.beside,
        zfs=example.zfs,
        passphrase=passphrase,
        pin=pin,
        unlock=unlock,
        given=text,
    )


def changed_storage(name: str) -> dict[str, Any]:
    """The example's table `storage` with what the lab says otherwise."""
    table: dict[str, Any] = tomllib.loads(_text(name))["storage"]
    for path, value in EXAMPLES[name].changes.items():
        *folders, last = path.split(".")
        inside = table
        for each in folders:
            inside = inside.setdefault(each, {})
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    return table


def _text(name: str) -> str:
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
