"""The probe on recorded machines, on this one, and on damaged records."""

import json
from collections.abc import Callable

import jsonschema
import pytest

from installer.commands.probe import TOPICS, dumps, main, schema
from installer.facts import FACTS_VERSION, Facts
from installer.facts.common import Unknown, Verdict
from installer.facts.cpu import VirtualizationState
from installer.facts.disks import HolderKind
from installer.facts.pci import IommuState, Passthrough, PassthroughVerdict
from installer.probe import VERSION, draft, probe, show
from installer.probe.record import Record, RecordingRoot, ReplayRoot
from installer.probe.root import LiveRoot
from tests import machines

MACHINES = machines.names()


def changed(name: str, change: Callable[[Record], None]) -> Facts:
    """A recorded machine with something else in it."""
    record = machines.record(name)
    change(record)
    return probe(ReplayRoot(record))


@pytest.mark.parametrize("name", MACHINES)
def test_facts_of_every_recorded_machine(name: str) -> None:
    golden = (machines.MACHINES / name / "facts.json").read_text(encoding="utf-8")
    assert dumps(draft(ReplayRoot(machines.record(name)))) + "\n" == golden


@pytest.mark.parametrize("name", MACHINES)
def test_json_without_pydantic_is_what_pydantic_would_print(name: str) -> None:
    printed = dumps(draft(ReplayRoot(machines.record(name))))
    facts = Facts.model_validate_json(printed)
    assert facts == machines.load(name)
    assert json.dumps(facts.model_dump(mode="json"), indent=2, ensure_ascii=False) == printed


def test_json_is_escaped_as_the_json_module_does() -> None:
    record = machines.record("lab-uefi")
    record.files["/sys/class/dmi/id/sys_vendor"] = 'a"b\\c\td\x01\x1fé磁\x7f\u2028'
    facts = draft(ReplayRoot(record))
    assert dumps(facts) == json.dumps(facts, indent=2, ensure_ascii=False)


def test_this_machine_gives_valid_facts_and_json() -> None:
    printed = dumps(draft(LiveRoot()))
    facts = Facts.model_validate_json(printed)
    assert json.dumps(facts.model_dump(mode="json"), indent=2, ensure_ascii=False) == printed
    assert facts.cpu.threads >= 1
    assert facts.memory.total > 1 << 28


def test_versions_are_one() -> None:
    assert VERSION == FACTS_VERSION


def test_top_level_keys_are_the_documented_ones() -> None:
    keys = ["version", "cpu", "memory", "firmware", "iommu", "pci", "gpus", "disks", "nics", "systems"]
    assert list(json.loads(dumps(draft(LiveRoot())))) == keys


@pytest.mark.parametrize("name", MACHINES)
def test_schema_describes_the_json(name: str) -> None:
    described = json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.validate(json.loads(dumps(draft(ReplayRoot(machines.record(name))))), described)


def test_schema_refuses_what_is_no_fact() -> None:
    wrong = json.loads(dumps(draft(ReplayRoot(machines.record("lab-uefi")))))
    wrong["cpu"]["virtualization"]["state"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json.loads(schema()))


# Virtualization ------------------------------------------------------------------------------------------------------


def bare(record: Record, *, flags: str, vendor: str = "GenuineIntel") -> None:
    """Makes the record one of bare metal with these flags, without KVM."""
    record.files["/proc/cpuinfo"] = f"processor: 0\nvendor_id: {vendor}\nmodel name: X\nflags: {flags}"
    record.answers.pop("kvm", None)
    for path in [path for path in record.files if path.startswith("/sys/class/dmi/id")]:
        del record.files[path]
    for path in [path for path in record.links if path.startswith("/sys/module/kvm")]:
        del record.links[path]


VMX_IN_CPUID = "00000000000000002000000000000000"
LOCKED_OFF = "0100000000000000"
LOCKED_ON = "0500000000000000"
SVM_DISABLED = "1800000000000000"


@pytest.mark.parametrize(
    ("flags", "vendor", "answers", "modules", "state"),
    [
        ("lm vmx", "GenuineIntel", {"kvm": "ok 12"}, ("kvm_intel",), VirtualizationState.ready),
        ("lm svm", "AuthenticAMD", {"kvm": "ok 12"}, ("kvm_amd",), VirtualizationState.ready),
        (
            "lm vmx hypervisor",
            "GenuineIntel",
            {"kvm": "ok 12"},
            ("kvm_intel",),
            VirtualizationState.nested_guest,
        ),
        ("lm vmx", "GenuineIntel", {}, (), VirtualizationState.module_missing),
        ("lm vmx hypervisor", "GenuineIntel", {}, (), VirtualizationState.module_missing),
        ("lm vmx", "GenuineIntel", {"msr 0x3a": LOCKED_ON}, (), VirtualizationState.module_missing),
        ("lm vmx", "GenuineIntel", {"msr 0x3a": LOCKED_OFF}, (), VirtualizationState.off_in_firmware),
        (
            "lm svm",
            "AuthenticAMD",
            {"msr 0xc0010114": SVM_DISABLED},
            (),
            VirtualizationState.off_in_firmware,
        ),
        ("lm", "GenuineIntel", {"cpuid 0x1": VMX_IN_CPUID}, (), VirtualizationState.off_in_firmware),
        ("lm avx2", "GenuineIntel", {"cpuid 0x1": "0" * 32}, (), VirtualizationState.lacking),
        ("lm avx2", "GenuineIntel", {}, (), VirtualizationState.off_in_firmware),
        ("lm", "GenuineIntel", {}, (), VirtualizationState.lacking),
        ("lm avx2 hypervisor", "AuthenticAMD", {}, (), VirtualizationState.lacking),
        # A hypervisor of the PVM kind: /dev/kvm answers, but the processor does not virtualise.
        ("lm hypervisor", "AuthenticAMD", {"kvm": "ok 12"}, (), VirtualizationState.lacking),
        (
            "lm vmx",
            "GenuineIntel",
            {"kvm": "cannot be opened: Permission denied"},
            ("kvm_intel",),
            VirtualizationState.ready,
        ),
        (
            "lm vmx",
            "GenuineIntel",
            {"kvm": "creates no virtual machine: Device or resource busy"},
            ("kvm_intel",),
            VirtualizationState.unknown,
        ),
    ],
)
def test_virtualization_states(
    flags: str, vendor: str, answers: dict[str, str], modules: tuple[str, ...], state: VirtualizationState
) -> None:
    def change(record: Record) -> None:
        bare(record, flags=flags, vendor=vendor)
        record.answers |= answers
        record.links |= {f"/sys/module/{module}": f"/sys/module/{module}" for module in modules}

    found = changed("lab-uefi", change).cpu.virtualization
    assert found.state is state
    assert found.evidence


def test_no_cpuinfo_is_unknown() -> None:
    def change(record: Record) -> None:
        del record.files["/proc/cpuinfo"]

    found = changed("lab-uefi", change).cpu
    assert found.virtualization.state is VirtualizationState.unknown
    assert "/proc/cpuinfo" in found.virtualization.evidence[-1]


@pytest.mark.parametrize(
    ("name", "fact", "verdict"),
    [
        ("multipath-btrfs-pair", "sev", Verdict.yes),
        ("multipath-btrfs-pair", "sev_snp", Verdict.no),
        ("workstation", "sev_es", Verdict.no),
        ("workstation", "second_level_paging", Verdict.yes),
        ("server-md-lvm", "apic_virtualization", Verdict.yes),
        ("server-md-lvm", "tdx", Verdict.no),
        ("lab-uefi", "nested", Verdict.unknown),
        ("mini-pc-all-off", "nested", Verdict.no),
    ],
)
def test_processor_features(name: str, fact: str, verdict: Verdict) -> None:
    assert getattr(machines.load(name).cpu, fact).verdict is verdict


# IOMMU ---------------------------------------------------------------------------------------------------------------


def without_groups(record: Record) -> None:
    for path in [path for path in record.folders if path.startswith("/sys/kernel/iommu_groups")]:
        del record.folders[path]


def without_tables(record: Record) -> None:
    without_groups(record)
    record.folders["/sys/firmware/acpi/tables"] = ["FACP"]


@pytest.mark.parametrize(
    ("name", "change", "state", "evidence"),
    [
        ("workstation", lambda record: None, IommuState.on, "groups"),
        ("workstation", without_groups, IommuState.off_in_kernel, "table IVRS"),
        ("lab-uefi", without_groups, IommuState.off_in_kernel, "none about the IOMMU"),
        ("workstation", without_tables, IommuState.off_in_firmware, "since Zen"),
        ("lab-uefi", without_tables, IommuState.absent, "hypervisor"),
    ],
)
def test_iommu_states(name: str, change: Callable[[Record], None], state: IommuState, evidence: str) -> None:
    iommu = changed(name, change).iommu
    assert iommu.state is state
    assert any(evidence in line for line in iommu.evidence)


# Passthrough ---------------------------------------------------------------------------------------------------------


def verdict(facts: Facts, address: str) -> PassthroughVerdict:
    return next(device.passthrough for device in facts.pci if device.address == address)


@pytest.mark.parametrize(
    ("name", "address", "expected", "words"),
    [
        ("workstation", "0000:00:01.1", Passthrough.no, "is a bridge"),
        ("workstation", "0000:01:00.0", Passthrough.with_group, "0000:01:00.1 (Audio device) goes along"),
        ("workstation", "0000:02:00.0", Passthrough.yes, "alone in group 15"),
        ("workstation", "0000:04:00.0", Passthrough.no, "only network card"),
        ("workstation", "0000:7a:00.3", Passthrough.no, "carries the install medium (sdz)"),
        ("workstation", "0000:00:14.3", Passthrough.no, "ISA bridge"),
        ("server-md-lvm", "0000:00:17.0", Passthrough.no, "carries the root disk (sda)"),
        ("server-md-lvm", "0000:03:00.0", Passthrough.no, "management display"),
        ("server-md-lvm", "0000:18:00.0", Passthrough.no, "carries the default route (eno1)"),
        ("server-md-lvm", "0000:18:00.1", Passthrough.yes, "alone"),
        ("laptop-bitlocker", "0000:00:02.0", Passthrough.no, "only display"),
        ("mini-pc-all-off", "0000:00:17.0", Passthrough.no, "switch on VT-d"),
        ("multipath-btrfs-pair", "0000:81:00.0", Passthrough.no, "carries a disk in use (sda)"),
        ("lab-uefi", "0000:00:1f.2", Passthrough.no, "shares group 5 with 0000:00:1f.0"),
        (
            "identical-gpus",
            "0000:41:00.0",
            Passthrough.with_group,
            "0000:42:00.0 (USB controller) goes along",
        ),
    ],
)
def test_passthrough_verdicts(name: str, address: str, expected: Passthrough, words: str) -> None:
    found = verdict(machines.load(name), address)
    assert found.verdict is expected
    assert any(words in reason for reason in found.reasons), found.reasons


def test_identical_ids_are_a_caution() -> None:
    cautions = verdict(machines.load("identical-gpus"), "0000:41:00.0").cautions
    assert "same ids 10de:2204 as 0000:21:00.0: bind by address, not by ids" in cautions
    kept = verdict(machines.load("server-md-lvm"), "0000:18:00.1").cautions
    assert any("0000:18:00.0 carries the default route" in caution for caution in kept)


def test_gpu_verdict_covers_all_its_functions() -> None:
    gpu = next(gpu for gpu in machines.load("workstation").gpus if gpu.kind == "discrete")
    assert gpu.functions == ("0000:01:00.0", "0000:01:00.1")
    assert gpu.passthrough.verdict is Passthrough.yes
    shared = machines.load("identical-gpus").gpus[1]
    assert shared.passthrough.verdict is Passthrough.with_group


def test_kinds_of_gpus() -> None:
    kinds = {name: [gpu.kind.value for gpu in machines.load(name).gpus] for name in MACHINES}
    assert kinds["workstation"] == ["discrete", "integrated"]
    assert kinds["server-md-lvm"] == ["management"]
    assert kinds["laptop-bitlocker"] == ["integrated"]
    assert kinds["lab-uefi"] == ["virtual"]


def test_resizable_bars_are_bytes() -> None:
    device = next(one for one in machines.load("workstation").pci if one.address == "0000:01:00.0")
    assert device.resizable_bars[1][0] == 64 << 20
    assert device.resizable_bars[1][-1] == 16 << 30


# Disks ---------------------------------------------------------------------------------------------------------------


def test_lab_disks_by_identity() -> None:
    nvme, virtio = machines.load("lab-uefi").disks
    assert (nvme.serial, virtio.serial) == ("NVME0", "DISK0")
    assert virtio.by_id == ("virtio-DISK0",)
    assert not nvme.in_use and not virtio.in_use
    assert virtio.table is None and virtio.filesystem is None
    assert machines.load("lab-bios").firmware.kind == "BIOS"
    assert machines.load("lab-bios").firmware.tpm is None


def test_stack_of_md_and_lvm_spans_both_disks() -> None:
    first, second = machines.load("server-md-lvm").disks
    array = first.partitions[1].holders[0]
    assert (array.kind, array.spans) == (HolderKind.md, ("sdb",))
    assert second.partitions[1].holders[0].spans == ("sda",)
    volumes = array.layers[0].layers
    assert [volume.name for volume in volumes] == ["vg-host/root", "vg-host/swap"]
    assert volumes[0].layers[0].mountpoints == ("/",)
    assert "vg-host/root is mounted at /" in second.in_use


def test_paths_of_one_disk_and_members_of_one_pool_span_each_other() -> None:
    disks = {disk.name: disk for disk in machines.load("multipath-btrfs-pair").disks}
    assert disks["sda"].holders[0].kind is HolderKind.multipath
    assert disks["sda"].holders[0].spans == ("sdb",)
    assert disks["sda"].wwn == disks["sdb"].wwn
    member = disks["sdc"].holders[0]
    assert (member.kind, member.spans, member.active) == (HolderKind.btrfs, ("sdd",), False)
    assert disks["sdc"].in_use == ()


def test_install_medium_is_found_through_its_mounts() -> None:
    for name in ("workstation", "laptop-bitlocker"):
        assert [disk.name for disk in machines.load(name).disks if disk.install_medium] == ["sdz"]
    assert not any(disk.install_medium for disk in machines.load("server-md-lvm").disks)


def test_install_medium_behind_ventoy() -> None:
    def change(record: Record) -> None:
        stick = record.links["/sys/class/block/sdz1"]
        mapped = "/sys/devices/virtual/block/dm-0"
        record.folders["/sys/class/block"].append("dm-0")
        record.links["/sys/class/block/dm-0"] = mapped
        record.folders[mapped] = ["dev", "dm", "slaves"]
        record.folders[f"{mapped}/slaves"] = ["sdz1"]
        record.files |= {
            f"{mapped}/dev": "254:0",
            f"{mapped}/dm/name": "ventoy",
            f"{mapped}/dm/uuid": "VENTOY",
        }
        record.folders[stick].append("holders")
        record.folders[f"{stick}/holders"] = ["dm-0"]
        record.files["/proc/self/mountinfo"] = (
            "1 1 0:2 / / rw - tmpfs tmpfs rw\n2 1 254:0 / /iso ro - iso9660 /dev/mapper/ventoy ro"
        )

    disks = {disk.name: disk for disk in changed("workstation", change).disks}
    assert disks["sdz"].install_medium
    assert (
        "ventoy is mounted at /iso" in disks["sdz"].in_use
        or "sdz1 is part of device mapper ventoy" in disks["sdz"].in_use
    )


def test_install_medium_whose_mounts_are_hidden() -> None:
    def change(record: Record) -> None:
        record.files["/proc/self/mountinfo"] = "1 1 0:2 / / rw - overlay overlay rw"

    disks = {disk.name: disk for disk in changed("workstation", change).disks}
    assert disks["sdz"].install_medium


def test_disk_without_serial_has_none() -> None:
    (disk,) = machines.load("mini-pc-all-off").disks
    assert (disk.serial, disk.wwn, disk.by_id) == (None, None, ())


def test_systems_found() -> None:
    found = {name: [(one.name, one.running) for one in machines.load(name).systems] for name in MACHINES}
    assert found["laptop-bitlocker"] == [("Windows", False)]
    assert found["server-md-lvm"] == [("NixOS 26.05 (Yarara)", True)]
    assert found["mini-pc-all-off"] == [("NixOS", False)]
    assert "weak" in machines.load("mini-pc-all-off").systems[0].evidence


def test_nothing_is_guessed_without_an_answer() -> None:
    facts = probe(ReplayRoot(Record()))
    assert facts.cpu.virtualization.state is VirtualizationState.unknown
    assert isinstance(facts.memory.available, Unknown)
    assert facts.disks == ()


# Output --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_people_read_at_most_80_columns(name: str) -> None:
    for _, text in show.lines(machines.load(name)):
        assert len(text) <= 80, text
        assert text == text.rstrip()


def test_topics_are_those_of_the_command() -> None:
    assert tuple(show.TOPICS) == TOPICS


def test_names_from_devices_do_not_steer_the_terminal() -> None:
    assert show.clean("WD\x1b[2J\x07 Blue") == "WD?[2J? Blue"
    assert show.clean("磁" * 50) == "磁" * 39 + "…"


def test_command_replays_and_records(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(machines.MACHINES / "lab-uefi")
    assert main(["--root", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["disks"][1]["serial"] == "DISK0"
    assert main(["--root", folder, "--record", f"{tmp_path}/record"]) == 0
    capsys.readouterr()
    assert main(["--root", f"{tmp_path}/record", "disks"]) == 0
    shown = capsys.readouterr().out
    assert "DISK0" not in shown
    assert "8 GiB" in shown


def test_recording_and_replaying_this_machine_gives_the_same_facts() -> None:
    recording = RecordingRoot(LiveRoot())
    live = dumps(draft(recording))
    text = recording.record.dumps()
    replayed = Record()
    for section, value in json.loads(text).items():
        if section != "version":
            getattr(replayed, section).update(
                {
                    key: "\n".join(entry) if isinstance(entry, list) and section != "folders" else entry
                    for key, entry in value.items()
                }
            )
    assert dumps(draft(ReplayRoot(replayed))) == live
