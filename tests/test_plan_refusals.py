"""What cannot be done is refused before anything is written: what, why, what to do, and the exit code of its kind."""

from typing import Any

import pytest

from installer.answers.model import Answers
from installer.answers.sizes import GIB, MIB
from installer.errors import Exit, HyperError
from installer.facts import Facts
from installer.facts.common import Judgement, Unknown, Verdict
from installer.facts.cpu import VirtualizationState
from installer.facts.disks import Filesystem, Health, Holder, HolderKind, Partition
from installer.facts.firmware import FirmwareKind
from installer.facts.pci import IommuState, Passthrough, PassthroughVerdict
from installer.medium import Medium
from installer.plan.planner import make_plan
from tests import plan_cases as cases

BLANK = cases.blank_disk()
ENCRYPTED = cases.answers(storage=cases.storage(encryption=cases.ENCRYPTED))
NO_DISK = cases.answers(storage={"disk": {"serial": "GONE"}})
ANY_NVME = cases.answers(storage={"disk": {"transport": "nvme"}})
SECOND = cases.blank_disk(name="nvme1n1", wwn="eui.2", serial="SECOND", by_id=("nvme-Second_SECOND",))


def memory(total: int, available: int | Unknown) -> Facts:
    facts = cases.machine()
    changes = {"total": total, "available": available}
    return facts.model_copy(update={"memory": facts.memory.model_copy(update=changes)})


def member(number: int, kind: str, uuid: str) -> Partition:
    return Partition(
        number=number,
        name=f"x{number}",
        start=number * GIB,
        size=GIB,
        filesystem=Filesystem(kind=kind, uuid=uuid),
    )


def mirrored(kind: str) -> Facts:
    return cases.machine(
        BLANK.model_copy(update={"partitions": (member(1, kind, "same"),)}),
        SECOND.model_copy(update={"partitions": (member(3, kind, "same"),)}),
    )


def passing(**device: Any) -> Answers:
    return cases.answers(hypervisor={"passthrough": [device]})


def with_verdict(address: str, verdict: PassthroughVerdict) -> Facts:
    facts = cases.machine()
    devices = tuple(
        each.model_copy(update={"passthrough": verdict}) if each.address == address else each
        for each in facts.pci
    )
    return facts.model_copy(update={"pci": devices})


def closure(name: str | None, **system: Any) -> Answers:
    return cases.answers(system={"source": "closure", "closure": name} | system)


HELD = Holder(kind=HolderKind.luks, name="cryptroot")
NEEDED = PassthroughVerdict(verdict=Passthrough.no, reasons=("it is the only way to the screen",))
IOMMU_OFF = cases.machine().iommu.model_copy(
    update={"state": IommuState.off_in_firmware, "evidence": ("no DMAR table",), "groups": ()}
)
STORE_PATH = f"/nix/store/{'2' * 32}-nixos-system-other"
EMPTY_INPUT = cases.flake("nixpkgs").model_copy(update={"store_path": ""})

Case = tuple[Facts, Answers, Medium, Exit, tuple[str, ...]]
CASES: dict[str, Case] = {
    "no disk": (
        cases.machine(BLANK, SECOND),
        NO_DISK,
        cases.medium(),
        Exit.selection,
        ("storage.disk matches no disk", cases.SERIAL, "SECOND"),
    ),
    "two disks": (
        cases.machine(BLANK, SECOND),
        ANY_NVME,
        cases.medium(),
        Exit.selection,
        ("storage.disk matches 2 disks", cases.SERIAL, "SECOND"),
    ),
    "two disks wanted": (
        cases.machine(BLANK, SECOND),
        cases.answers(storage={"disk": {"transport": "nvme", "count": 2}}),
        cases.medium(),
        Exit.answers,
        ("storage.disk.count must be 1", "one-disk"),
    ),
    "no lasting name": (
        cases.machine(cases.blank_disk(by_id=("lvm-pv-uuid-x",))),
        cases.answers(),
        cases.medium(),
        Exit.selection,
        ("cannot be told from others", "lvm-pv-uuid-x", "serial"),
    ),
    "two paths to one disk": (
        cases.machine(BLANK, cases.blank_disk(name="nvme1n1", serial="X")),
        cases.answers(),
        cases.medium(),
        Exit.selection,
        ("cannot be told from others", "second path"),
    ),
    "too small": (
        cases.machine(cases.blank_disk(size=8 * GIB)),
        cases.answers(storage=cases.storage(swap={"kind": "partition", "size": "4GiB"})),
        cases.medium(),
        Exit.unsuitable,
        (
            "8 GiB",
            "is too small",
            "20.0 GiB are needed",
            "2 GiB EFI system partition",
            "4 GiB swap",
            "6 GiB the system",
            "6 GiB its next generation",
            "2 GiB logs",
            "zram",
        ),
    ),
    "too small for a closure": (
        cases.machine(cases.blank_disk(size=12 * GIB), firmware=FirmwareKind.bios),
        closure("standard"),
        cases.medium(),
        Exit.unsuitable,
        ("12 GiB", "12.0 GiB are needed", "5 GiB the system"),
    ),
    "in use": (
        cases.machine(cases.blank_disk(in_use=("nvme0n1p2 is mounted at /",))),
        cases.answers(),
        cases.medium(),
        Exit.busy,
        ("must not be touched", "nvme0n1p2 is mounted at /"),
    ),
    "held": (
        cases.machine(cases.blank_disk(holders=(HELD.model_copy(update={"name": "old"}),))),
        cases.answers(),
        cases.medium(),
        Exit.busy,
        ("must not be touched", "luks old is active"),
    ),
    "name taken": (
        cases.machine(BLANK, cases.used_disk(holders=(HELD,))),
        ENCRYPTED,
        cases.medium(),
        Exit.busy,
        ("the name cryptroot is taken", "cryptsetup close cryptroot"),
    ),
    "install medium": (
        cases.machine(cases.blank_disk(install_medium=True)),
        cases.answers(),
        cases.medium(),
        Exit.busy,
        ("must not be touched", "carries the install medium"),
    ),
    "read-only": (
        cases.machine(cases.blank_disk(read_only=True)),
        cases.answers(),
        cases.medium(),
        Exit.busy,
        ("must not be touched", "is read-only"),
    ),
    "odd sectors": (
        cases.machine(cases.blank_disk(logical_sector=520)),
        cases.answers(),
        cases.medium(),
        Exit.unsuitable,
        ("sectors of 520 bytes",),
    ),
    "mirrored": (
        mirrored("linux_raid_member"),
        cases.answers(),
        cases.medium(),
        Exit.busy,
        ("must not be touched", "member of an md array same on x1 reaches", "SECOND"),
    ),
    "btrfs on two disks": (
        mirrored("btrfs"),
        cases.answers(),
        cases.medium(),
        Exit.busy,
        ("must not be touched", "btrfs same on x1 reaches", "SECOND"),
    ),
    "UEFI asked, BIOS booted": (
        cases.machine(firmware=FirmwareKind.bios),
        cases.answers(boot={"firmware": "uefi"}),
        cases.medium(),
        Exit.unsuitable,
        ("boot.firmware = 'uefi'", "booted by BIOS"),
    ),
    "BIOS asked, UEFI booted": (
        cases.machine(),
        cases.answers(boot={"firmware": "bios"}),
        cases.medium(),
        Exit.unsuitable,
        ("boot.firmware = 'bios'", "booted by UEFI"),
    ),
    "systemd-boot under BIOS": (
        cases.machine(firmware=FirmwareKind.bios),
        cases.answers(boot={"loader": "systemd-boot"}),
        cases.medium(),
        Exit.unsuitable,
        ("boot.loader = 'systemd-boot'", "grub"),
    ),
    "32-bit UEFI": (
        cases.machine(firmware=FirmwareKind.uefi32),
        cases.answers(),
        cases.medium(),
        Exit.unsuitable,
        ("32-bit UEFI",),
    ),
    "another architecture": (
        cases.machine(),
        cases.answers(),
        cases.medium(system="aarch64-linux"),
        Exit.unsuitable,
        ("aarch64", "x86_64"),
    ),
    "ESP below its floor": (
        cases.machine(),
        cases.answers(boot={"esp_size": "512MiB"}),
        cases.medium(),
        Exit.answers,
        ("boot.esp_size = '512MiB'", "1 GiB"),
    ),
    "too little memory for LUKS": (
        memory(512 * MIB, 100 * MIB),
        ENCRYPTED,
        cases.medium(),
        Exit.unsuitable,
        ("too little memory for encryption", "128 MiB", "512 MiB", "100 MiB"),
    ),
    "unknown memory, too little for LUKS": (
        memory(300 * MIB, Unknown(unknown_because="no MemAvailable")),
        ENCRYPTED,
        cases.medium(),
        Exit.unsuitable,
        ("too little memory for encryption", "unknown"),
    ),
    "more memory asked than there is": (
        memory(2 * GIB, 800 * MIB),
        cases.answers(storage=cases.storage(encryption={**cases.ENCRYPTED, "pbkdf_memory": "1GiB"})),
        cases.medium(),
        Exit.unsuitable,
        ("pbkdf_memory = '1GiB'", "800 MiB"),
    ),
    "more memory asked than cryptsetup takes": (
        cases.machine(),
        cases.answers(storage=cases.storage(encryption={**cases.ENCRYPTED, "pbkdf_memory": "5GiB"})),
        cases.medium(),
        Exit.answers,
        ("pbkdf_memory = '5GiB'", "4 GiB"),
    ),
    "nobody to log in": (
        cases.machine(),
        cases.answers(users=[{"name": "bob", "ssh_keys": [cases.KEY]}]),
        cases.medium(),
        Exit.lockout,
        ("nobody could log in", "bob", "admin"),
    ),
    "no users": (
        cases.machine(),
        cases.answers(users=[]),
        cases.medium(),
        Exit.lockout,
        ("nobody could log in",),
    ),
    "unknown closure": (
        cases.machine(),
        closure("enterprise"),
        cases.medium(),
        Exit.answers,
        ("'enterprise' is not on the medium", "standard"),
    ),
    "no closure named": (
        cases.machine(),
        closure(None),
        cases.medium(),
        Exit.answers,
        ("system.closure is missing", "standard"),
    ),
    "closure without a source": (
        cases.machine(),
        closure(STORE_PATH),
        cases.medium(),
        Exit.unsuitable,
        ("no source for the system", STORE_PATH, "system.substituters is empty"),
    ),
    "closure offline in the network": (
        cases.machine(),
        closure(STORE_PATH, offline=True, substituters=[{"url": "https://cache.example"}]),
        cases.medium(),
        Exit.unsuitable,
        ("no source for the system", "offline only file:// caches count"),
    ),
    "flake offline, and a medium that cannot build": (
        cases.machine(),
        cases.answers(system={"offline": True}),
        cases.medium(sources_only=True),
        Exit.unsuitable,
        ("cannot be built offline", "its ready systems: standard"),
    ),
    "flake offline without its input": (
        cases.machine(),
        cases.answers(system={"offline": True}),
        cases.medium(nixpkgs=EMPTY_INPUT),
        Exit.unsuitable,
        ("cannot be evaluated offline", "no copy of nixpkgs"),
    ),
    "unknown image": (
        cases.machine(),
        cases.answers(first_run={"vms": [{"name": "web", "image": "medium:debian"}]}),
        cases.medium(),
        Exit.answers,
        ("'medium:debian'", "web", "medium:marker"),
    ),
    "relative image": (
        cases.machine(),
        cases.answers(first_run={"vms": [{"name": "web", "image": "debian.qcow2"}]}),
        cases.medium(),
        Exit.answers,
        ("'debian.qcow2'", "absolute path"),
    ),
    "no such PCI device": (
        cases.machine(),
        passing(address="07:00.0"),
        cases.medium(),
        Exit.selection,
        ("07:00.0", "0000:03:00.0"),
    ),
    "PCI ids that several have": (
        cases.machine(),
        passing(ids="1234:5678"),
        cases.medium(),
        Exit.selection,
        ("1234:5678", "0000:01:00.0"),
    ),
    "a device that the host needs": (
        with_verdict("0000:03:00.0", NEEDED),
        passing(address="03:00.0"),
        cases.medium(),
        Exit.unsuitable,
        ("0000:03:00.0", "the only way to the screen"),
    ),
    "a group with a device that the host needs": (
        with_verdict("0000:03:00.1", NEEDED),
        passing(address="03:00.0"),
        cases.medium(),
        Exit.unsuitable,
        ("0000:03:00.1", "the only way to the screen"),
    ),
    "a device without its group": (
        cases.machine(),
        passing(address="03:00.0", whole_group=False),
        cases.medium(),
        Exit.unsuitable,
        ("0000:03:00.1", "whole_group"),
    ),
    "the disk's own controller": (
        cases.machine(),
        passing(address="01:00.0"),
        cases.medium(),
        Exit.unsuitable,
        ("0000:01:00.0", cases.SERIAL),
    ),
    "the host's own network interface": (
        cases.machine(),
        cases.answers(
            hypervisor={"passthrough": [{"address": "02:00.0"}]},
            network={"ethernets": [{"name": "lan", "match": {"mac": "3C:EC:EF:00:00:01"}}]},
        ),
        cases.medium(),
        Exit.unsuitable,
        ("0000:02:00.0", "network interface lan"),
    ),
    "no IOMMU": (
        cases.machine(iommu=IOMMU_OFF),
        passing(address="03:00.0"),
        cases.medium(),
        Exit.unsuitable,
        ("IOMMU is off in firmware", "no DMAR table"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    facts, answers, medium, code, words = CASES[name]
    with pytest.raises(HyperError) as caught:
        make_plan(facts, answers, medium)
    error = caught.value
    said = " ".join(str(error).split())
    assert error.code is code
    for word in words:
        assert word in said
    assert error.what and error.why and error.remedy
    assert cases.HASH not in str(error)


def test_all_kinds_that_planning_can_tell_are_here() -> None:
    kinds = {code for _, _, _, code, _ in CASES.values()}
    assert kinds == {Exit.answers, Exit.selection, Exit.unsuitable, Exit.busy, Exit.lockout}


FAILING = Health(summary="failed, 0 spare blocks", failing=True)
YES = Judgement(verdict=Verdict.yes, because="SecureBoot is 1")
FIRMWARE = cases.machine().firmware.model_copy(update={"secure_boot": YES})
CPU = cases.machine().cpu.model_copy(
    update={
        "virtualization": cases.machine().cpu.virtualization.model_copy(
            update={"state": VirtualizationState.off_in_firmware, "evidence": ("bit 2 of 0x3a is 0",)}
        )
    }
)
BIG_GUEST = cases.answers(
    first_run={"vms": [{"name": "big", "image": "medium:marker", "disk_size": "2TiB"}]}
)
CHEAP = cases.answers(
    storage=cases.storage(encryption={**cases.ENCRYPTED, "pbkdf_memory": "32MiB", "pbkdf_iterations": 4})
)
FOUR_K = cases.machine(cases.blank_disk(logical_sector=4096), firmware=FirmwareKind.bios)


@pytest.mark.parametrize(
    ("facts", "answers", "words"),
    [
        (cases.machine(cases.blank_disk(health=FAILING)), cases.answers(), ("is failing", "0 spare blocks")),
        (mirrored("LVM2_member"), cases.answers(), ("one volume group", "SECOND")),
        (cases.machine(cases.blank_disk(removable=True)), cases.answers(), ("removable",)),
        (cases.machine(firmware=FirmwareKind.uefi64), BIG_GUEST, ("2 TiB", "929.5 GiB")),
        (cases.machine().model_copy(update={"firmware": FIRMWARE}), cases.answers(), ("Secure Boot is on",)),
        (cases.machine(cpu=CPU), cases.answers(), ("off in firmware", "bit 2 of 0x3a is 0")),
        (FOUR_K, cases.answers(), ("4096", "BIOSes cannot boot")),
        (cases.machine(), CHEAP, ("32 MiB of memory instead of 1 GiB", "4 iterations")),
    ],
)
def test_warned(facts: Facts, answers: Answers, words: tuple[str, ...]) -> None:
    warnings = " ".join(make_plan(facts, answers, cases.medium()).warnings)
    for word in words:
        assert word in warnings


def test_a_good_machine_gives_no_warning() -> None:
    assert make_plan(cases.machine(), ENCRYPTED, cases.medium()).warnings == ()
