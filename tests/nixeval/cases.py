"""Hosts that are rendered for tests: machines and answers that between them use everything that is rendered."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from installer.answers.load import load
from installer.answers.model import Answers
from installer.facts import Facts
from installer.kinds import FirmwareKind
from installer.medium import Medium
from installer.plan.planner import make_plan
from installer.render import RenderedHost, load_templates, render
from tests import machines
from tests.nixeval.nix import REPOSITORY

Data = dict[str, Any]
GIB = 2**30
UNTOLD: Data = {"verdict": "unknown", "because": "not recorded"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT"
HASH = "$6$saltsaltsalt$" + "x" * 86
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ\nq83vEjRWeJA=\n-----END CERTIFICATE-----\n"

MEDIUM = Medium.model_validate(
    {
        "label": "Hyper-NixOS 0.1.0",
        "release": "26.05",
        "nixpkgs": {
            "url": "github:NixOS/nixpkgs/nixos-26.05",
            "locked": {
                "type": "github",
                "owner": "NixOS",
                "repo": "nixpkgs",
                "rev": "1" * 40,
                "lastModified": 1780000000,
                "narHash": "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            },
            "original": {"type": "github", "owner": "NixOS", "repo": "nixpkgs", "ref": "nixos-26.05"},
            "store_path": "/nix/store/00000000000000000000000000000000-source",
        },
        "hyper_nixos": {
            "url": "path:/etc/hyper-nixos/flake",
            "locked": {
                "type": "path",
                "path": "/etc/hyper-nixos/flake",
                "lastModified": 1780000000,
                "narHash": "sha256-AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            },
            "original": {"type": "path", "path": "/etc/hyper-nixos/flake"},
            "store_path": "/nix/store/11111111111111111111111111111111-source",
        },
        "estimated_closure": GIB,
        "images": {"router": "/images/router.qcow2"},
    }
)


def function(address: str, class_code: str, ids: str, group: int, **more: Any) -> Data:
    """A PCI function of facts."""
    vendor, device = ids.split(":")
    return {
        "address": address,
        "class_code": class_code,
        "class_name": "class",
        "vendor_id": vendor,
        "device_id": device,
        "vendor_name": "vendor",
        "device_name": "device",
        "driver": None,
        "iommu_group": group,
        "reset_methods": ["flr"],
        "resizable_bars": {},
        "sriov_total": 0,
        "sriov_active": 0,
        "numa_node": None,
        "boot_vga": False,
        "is_bridge": False,
        "companions": [],
        "passthrough": {"verdict": "yes", "reasons": ["alone in its group"]},
        **more,
    }


def machine(firmware: str, vendor: str, pci: list[Data], disk: Data, **more: Any) -> Facts:
    """A machine with one disk."""
    judged = (
        "second_level_paging",
        "nested",
        "apic_virtualization",
        "pages_1gib",
        "sev",
        "sev_es",
        "sev_snp",
        "tdx",
    )
    groups: dict[int, list[str]] = {}
    for device in pci:
        groups.setdefault(device["iommu_group"], []).append(device["address"])
    return Facts.model_validate(
        {
            "cpu": {
                "architecture": "x86_64",
                "vendor": vendor,
                "model": "Example",
                "sockets": 1,
                "cores": 8,
                "threads": 16,
                "numa_nodes": 1,
                "virtualization": {"state": "ready", "evidence": ["/dev/kvm opens"]},
                **dict.fromkeys(judged, UNTOLD),
            },
            "memory": {
                "total": 64 * GIB,
                "available": 60 * GIB,
                "ecc": UNTOLD,
                "hugepage_sizes": [2**21, GIB],
            },
            "firmware": {
                "kind": firmware,
                "secure_boot": UNTOLD,
                "setup_mode": UNTOLD,
                "tpm": None,
                "chassis": "server",
                "vendor": "Example",
                "product": "One",
                "hypervisor": more.get("hypervisor"),
                "serial_consoles": [],
            },
            "iommu": {
                "state": "on" if more.get("units") else "absent",
                "evidence": [],
                "units": more.get("units", []),
                "groups": [
                    {"number": number, "kind": "DMA", "members": members}
                    for number, members in groups.items()
                ]
                if more.get("units")
                else [],
            },
            "pci": pci,
            "gpus": [],
            "disks": [
                {
                    "wwn": None,
                    "rotational": False,
                    "logical_sector": 512,
                    "physical_sector": 4096,
                    "removable": False,
                    "read_only": False,
                    "health": {"unknown_because": "not recorded"},
                    "table": None,
                    "install_medium": False,
                    "in_use": [],
                    **disk,
                }
            ],
            "nics": [],
            "systems": [],
        }
    )


SERVER = machine(
    "UEFI 64-bit",
    "GenuineIntel",
    [
        function("0000:00:14.0", "0c0330", "8086:a36d", 1, driver="xhci_hcd", modules=["xhci_pci"]),
        function("0000:01:00.0", "030000", "10de:2204", 2, driver="nouveau", modules=["nouveau"]),
        function(
            "0000:01:00.1", "040300", "10de:1aef", 2, driver="snd_hda_intel", modules=["snd_hda_intel"]
        ),
        function("0000:02:00.0", "030000", "10de:2204", 3, driver="nouveau", modules=["nouveau"]),
        function("0000:03:00.0", "010802", "144d:a808", 4, driver="nvme", modules=["nvme"]),
    ],
    {
        "name": "nvme0n1",
        "serial": "S4EWNX0R123456",
        "by_id": ["nvme-Samsung_SSD_970_S4EWNX0R123456", "nvme-eui.0025385b91b0a1b2"],
        "model": "Samsung SSD 970",
        "transport": "nvme",
        "pci_address": "0000:03:00.0",
        "size": 500 * 10**9,
    },
    units=["dmar0"],
)
GUEST = machine(
    "BIOS",
    "AuthenticAMD",
    [function("0000:00:05.0", "010000", "1af4:1001", 1, driver="virtio-pci", modules=["virtio_pci"])],
    {
        "name": "vda",
        "serial": "ROOT1",
        "by_id": ["virtio-ROOT1"],
        "model": None,
        "transport": "virtio",
        "pci_address": "0000:00:05.0",
        "size": 40 * GIB,
    },
    hypervisor="kvm",
)

EVERYTHING: Data = {
    "version": 1,
    "hostname": "hv-01",
    "domain": "example.org",
    "locale": "de_DE.UTF-8",
    "keymap": "de-latin1-nodeadkeys",
    "timezone": "Europe/Berlin",
    "storage": {
        "disk": {"serial": "S4EWNX0R123456"},
        "filesystem": "btrfs",
        "swap": {"kind": "partition", "size": "8GiB"},
        "encryption": {"enable": True, "passphrase": {"file": "/run/secrets/passphrase"}},
    },
    "boot": {"serial_console": "ttyS0,115200", "kernel_params": ["mitigations=auto"]},
    "users": [
        {
            "name": "alice",
            "full_name": "Alice \"$\\{x}\" O''Hara",
            "admin": True,
            "password_hash": HASH,
            "ssh_keys": [f"{KEY} alice"],
        },
        {"name": "bob", "admin": True, "ssh_keys": [f"{KEY} bob"], "shell": "zsh"},
        {
            "name": "carol",
            "password_hash_file": {"file": "/run/secrets/carol"},
            "groups": ["systemd-journal"],
        },
    ],
    "ssh": {"port": 2222, "password_login": True},
    "network": {
        "ethernets": [
            {"name": "lan0", "match": {"mac": "52:54:00:AA:BB:01"}},
            {"name": "lan1", "match": {"mac": "52:54:00:aa:bb:02"}},
            {
                "name": "mgmt0",
                "match": {"mac": "52:54:00:aa:bb:03"},
                "addressing": {"dhcp": "ipv4", "accept_ra": False},
            },
        ],
        "bonds": [{"name": "bond0", "members": ["lan0", "lan1"], "mode": "802.3ad"}],
        "vlans": [
            {
                "name": "storage",
                "id": 30,
                "link": "bond0",
                "addressing": {"addresses": ["10.30.0.2/24"], "dhcp": "no", "mtu": 9000},
            }
        ],
        "bridges": [
            {
                "name": "br0",
                "members": ["bond0"],
                "addressing": {
                    "dhcp": "no",
                    "addresses": ["192.0.2.10/24", "2001:db8::10/64"],
                    "gateways": ["192.0.2.1", "2001:db8::1"],
                    "dns": ["192.0.2.53"],
                    "domains": ["example.org"],
                    "routes": [{"to": "10.0.0.0/8", "via": "192.0.2.2"}],
                },
            },
            {"name": "isolated", "stp": True},
        ],
        "dns": ["2001:db8::53"],
        "ntp": ["ntp.example.org"],
        "proxy": "http://proxy.example.org:3128",
        "no_proxy": ["localhost", "example.org"],
    },
    "system": {
        "substituters": [
            {
                "url": "https://cache.example.org",
                "public_key": "cache.example.org-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            }
        ],
        "ca_certificates": [CERTIFICATE],
    },
    "hypervisor": {
        "tier": "enhanced",
        "features": {"tpm": False, "foreign-architectures": True},
        "nested": True,
        "hugepages_1g": 8,
        "passthrough": [{"address": "01:00.0"}],
    },
    "security": {"phase": "hardened", "profile": "strict"},
}
SMALL: Data = {
    "version": 1,
    "hostname": "guest",
    "storage": {"disk": {"by_id": "virtio-ROOT1"}, "filesystem": "ext4"},
    "users": [{"name": "alice", "admin": True, "password_hash": HASH}],
    "ssh": {"enable": False},
}
XFS: Data = {
    "version": 1,
    "hostname": "or",
    "storage": {
        "disk": {"serial": "S4EWNX0R123456"},
        "filesystem": "xfs",
        "swap": {"kind": "none"},
    },
    "boot": {"loader": "grub"},
    "users": [{"name": "alice", "admin": True, "ssh_keys": [KEY]}],
    "network": {"ethernets": [{"name": "any", "match": {"name": "en*"}, "addressing": {"dhcp": "yes"}}]},
    "hypervisor": {"tier": "minimal"},
}

EXAMPLES: Mapping[str, str] = {
    "beside-windows": "laptop-bitlocker",
    "encrypted-server-unattended": "lab-uefi",
    "encrypted-remote": "lab-uefi",
    "home-lab": "lab-bios",
    "workstation-passthrough": "workstation",
    "fast-system-big-data": "many-disks",
    "many-disks-zfs": "many-disks",
    "mirror-btrfs-luks": "many-disks",
    "mirror-md-lvm": "many-disks",
}
"""Each file of examples/, and the recorded machine that it is for."""


def _disks(count: int, firmware: str) -> Facts:
    """A machine with that many equal NVMe disks."""
    one = SERVER.disks[0]
    disks = tuple(
        one.model_copy(
            update={
                "name": f"nvme{number}n1",
                "serial": f"NVME{number}",
                "by_id": (f"nvme-Samsung_SSD_970_NVME{number}",),
            }
        )
        for number in range(1, count + 1)
    )
    kind = SERVER.firmware.model_copy(update={"kind": FirmwareKind(firmware)})
    return SERVER.model_copy(update={"disks": disks, "firmware": kind})


def _several(hostname: str, count: int, **storage: Any) -> Data:
    """Answers for that many NVMe disks."""
    layout = {1: "one-disk", 2: "mirror"}.get(count, "array")
    return {
        "version": 1,
        "hostname": hostname,
        "storage": {"layout": layout, "disk": {"transport": "nvme", "count": count}, **storage},
        "users": [{"name": "alice", "admin": True, "ssh_keys": [KEY]}],
    }


_LUKS: Data = {"enable": True, "passphrase": {"file": "/run/secrets/passphrase"}}

MADE: dict[str, tuple[Facts, Data]] = {
    "uefi-luks-btrfs-everything": (SERVER, EVERYTHING),
    "bios-ext4-small": (GUEST, SMALL),
    "uefi-grub-xfs-keys-only": (SERVER, XFS),
    "bios-mirror-btrfs-luks": (
        _disks(2, "BIOS"),
        _several("pair", 2, filesystem="btrfs", encryption=_LUKS, swap={"kind": "partition"}),
    ),
    "uefi-grub-mirror-md-thin": (
        _disks(2, "UEFI 64-bit"),
        _several("thin", 2, volumes="lvm-thin", swap={"kind": "partition"}) | {"boot": {"loader": "grub"}},
    ),
    "uefi-raid6-xfs-file": (
        _disks(5, "UEFI 64-bit"),
        _several("five", 5, filesystem="xfs", swap={"kind": "file", "size": "4GiB"}),
    ),
    "uefi-btrfs-in-place": (
        _disks(1, "UEFI 64-bit"),
        _several("single", 1, filesystem="btrfs", pool={"kind": "dir"}),
    ),
    "uefi-zfs-luks-mirror": (
        _disks(2, "UEFI 64-bit"),
        _several("zed", 2, filesystem="zfs", encryption=_LUKS),
    ),
}
"""Machines and answers by hand."""


def _sleeper(hostname: str, firmware: str, **storage: Any) -> tuple[Facts, Data]:
    """A small machine whose whole memory goes to its disk."""
    data = SMALL | {
        "hostname": hostname,
        "storage": {"disk": {"by_id": "virtio-ROOT1"}, **storage},
        "hypervisor": {"tier": "minimal"},
    }
    (first,) = GUEST.disks
    second = {"name": "vdb", "serial": "ROOT2", "by_id": ("virtio-ROOT2",)}
    update = {
        "disks": (first, first.model_copy(update=second)) if "layout" in storage else (first,),
        "memory": GUEST.memory.model_copy(update={"total": 2 * GIB}),
        "firmware": GUEST.firmware.model_copy(update={"kind": FirmwareKind(firmware)}),
    }
    return GUEST.model_copy(update=update), data


def _hibernating(kind: str) -> Data:
    return {"kind": kind, "hibernate": True}


_CHEAP: Data = {**_LUKS, "pbkdf_memory": "32MiB", "pbkdf_iterations": 4}
SLEEPING: dict[str, tuple[Facts, Data]] = {
    "hibernate-partition": _sleeper(
        "dormouse",
        "UEFI 64-bit",
        filesystem="ext4",
        volumes="lvm",
        swap=_hibernating("partition"),
        encryption=_CHEAP,
    ),
    "hibernate-file": _sleeper(
        "hedgehog", "UEFI 64-bit", filesystem="btrfs", swap=_hibernating("file"), encryption=_CHEAP
    ),
    "hibernate-plain": _sleeper("marmot", "BIOS", filesystem="ext4", swap=_hibernating("partition")),
}
"""Hosts that hibernate; of these only stage 1 is evaluated."""
PAIR = "encrypted-pair"
"""Two encrypted disks with one btrfs; of this too only stage 1 is evaluated."""
GUESTS = "guests-on-zfs"
"""A pool for guests on two disks of their own; of this too only how pools are brought up is evaluated."""


def _guests_on_zfs() -> tuple[Facts, Data]:
    """Three disks, of which the host has the first."""
    facts, data = _sleeper(
        "stable",
        "UEFI 64-bit",
        filesystem="ext4",
        swap={"kind": "none"},
        pool={
            "kind": "zfs",
            "redundancy": "mirror",
            "disks": [{"by_id": f"virtio-ROOT{number}"} for number in (2, 3)],
        },
    )
    (first,) = facts.disks
    more = (
        first.model_copy(
            update={"name": f"vd{letter}", "serial": f"ROOT{number}", "by_id": (f"virtio-ROOT{number}",)}
        )
        for number, letter in ((2, "b"), (3, "c"))
    )
    return facts.model_copy(update={"disks": (first, *more)}), data


_FURTHER = SLEEPING | {
    GUESTS: _guests_on_zfs(),
    PAIR: _sleeper(
        "siblings",
        "UEFI 64-bit",
        layout="mirror",
        disk={"transport": "virtio", "count": 2},
        filesystem="btrfs",
        swap={"kind": "none"},
        encryption=_CHEAP,
    ),
}
CASES = (*MADE, *EXAMPLES)


@cache
def inputs(name: str) -> tuple[Facts, Answers]:
    """Machine and answers of a case."""
    if name in EXAMPLES:
        path = REPOSITORY / f"examples/{name}.toml"
        return machines.load(EXAMPLES[name]), load(path.read_bytes(), path.name)
    facts, data = (MADE | _FURTHER)[name]
    return facts, Answers.model_validate(data)


def on_architecture(facts: Facts, architecture: str) -> Facts:
    """The same machine with an ARM processor: same disks and devices, but UEFI and ARM's IOMMU; there is no other."""
    if facts.cpu.architecture == architecture:
        return facts
    cpu = facts.cpu.model_copy(update={"architecture": architecture, "vendor": "ARM Limited"})
    firmware = facts.firmware.model_copy(update={"kind": FirmwareKind.uefi64})
    units = ("smmu3.0x0000000009050000",) if facts.iommu.units else ()
    iommu = facts.iommu.model_copy(update={"units": units})
    return facts.model_copy(update={"cpu": cpu, "firmware": firmware, "iommu": iommu})


@cache
def rendered_on(name: str, architecture: str) -> RenderedHost:
    """The files of a case on a processor architecture. Guests of guests are for x86 alone, and refused elsewhere."""
    facts, answers = inputs(name)
    facts = on_architecture(facts, architecture)
    if architecture != "x86_64":
        hypervisor = answers.hypervisor.model_copy(update={"nested": False})
        answers = answers.model_copy(update={"hypervisor": hypervisor})
    medium = MEDIUM.model_copy(update={"system": f"{architecture}-linux"})
    return render(facts, answers, make_plan(facts, answers, medium), medium, load_templates())


@cache
def rendered(name: str) -> RenderedHost:
    """The files of a case."""
    facts, answers = inputs(name)
    return render(facts, answers, make_plan(facts, answers, MEDIUM), MEDIUM, load_templates())
