"""nix/modules/passthrough and `hv devices`: what is claimed, split and shared, and what never is."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hv.commands import devices
from hv.devices.declared import Declared, MediatedDevice, PhysicalFunction, read_declared
from hv.devices.functions import split
from hv.devices.mediated import create
from installer.errors import Exit, HyperError
from installer.render.hardware import kernel_params
from tests.kernel_devices import Kernel
from tests.nixeval import cases, units
from tests.nixeval.host import MODULES, TOPLEVEL, Evaluated, evaluate
from tests.nixeval.nix import REPOSITORY

CLAIM = REPOSITORY / "nix/modules/passthrough/claim.sh"
SHELL = [CLAIM, REPOSITORY / "nix/modules/storage/md-check.sh"]
REPORT = REPOSITORY / "tests/machines/facter/two-gpus.json"
PARTS = """({
  hypervisor.passthrough = {
    virtualFunctions."0000:05:00.0" = {
      count = 4;
      functions."0" = { mac = "52:54:00:00:00:01"; vlan = 20; trust = false; spoofCheck = true; };
      functions."3".mac = "52:54:00:00:00:02";
    };
    virtualFunctions."0000:05:00.1" = { count = 2; vfio = false; };
    mediatedDevices."83b8f4f2-509f-382f-3c1e-e6bfe0fa1001" = { parent = "0000:00:02.0"; type = "i915-GVTg_V5_4"; };
  };
})"""


def example(select: str, *modules: str, system: str = "x86_64-linux") -> Evaluated:
    """The example host with more modules."""
    return evaluate(select, [MODULES, units.EXAMPLE, *modules], system)


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shell_is_clean(script: Path) -> None:
    done = subprocess.run(
        ("shellcheck", "--shell=bash", "--enable=quote-safe-variables", script),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


# Evaluated.


@pytest.mark.nixpkgs
@pytest.mark.parametrize("phase", ["setup", "hardened"])
def test_rescue_claims_splits_and_shares_nothing_in_either_phase(phase: str) -> None:
    select = """host: let
      see = config: {
        claims = config.boot.initrd.systemd.services ? hyper-nixos-vfio;
        parts = config.systemd.services ? hyper-nixos-devices;
        declared = config.environment.etc ? "hyper-nixos/devices.json";
        early = builtins.elem "vfio_pci" config.boot.initrd.kernelModules;
        modprobe = builtins.match ".*(softdep [a-z]+ pre: vfio-pci|options vfio-pci).*"
          (builtins.replaceStrings [ "\\n" ] [ " " ] config.boot.extraModprobeConfig) != null;
        inherit (config.hypervisor) phase;
        drv = config.system.build.toplevel.drvPath;
      };
    in {
      host = see host.config;
      rescue = see host.config.specialisation.rescue.configuration;
      entries = builtins.attrNames host.config.specialisation;
    }"""
    module = f'{{ hypervisor.phase = "{phase}"; hypervisor.security.profile = "paranoid"; }}'
    more = '{ hypervisor.passthrough = { ids = [ "8086:1533" ]; drivers = [ "igb" ]; }; }'
    host = example(select, units.PASSTHROUGH, PARTS, more, module)
    assert (host.failed_assertions, host.warnings) == ((), ())
    everything = ("claims", "parts", "declared", "early", "modprobe")
    assert [host.value["host"][name] for name in everything] == [True] * 5
    assert [host.value["rescue"][name] for name in everything] == [False] * 5
    assert host.value["rescue"]["phase"] == phase
    assert host.value["rescue"]["drv"] != host.value["host"]["drv"]
    # Both are entries of the same menu, whichever phase runs.
    assert host.value["entries"] == sorted(["rescue", "hardened" if phase == "setup" else "setup"])


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_drivers_order_ids_and_parts(system: str) -> None:
    processor, params = (
        ("intel", ["intel_iommu=on", "iommu=pt"]) if "x86" in system else ("arm", ["iommu.passthrough=1"])
    )
    select = """host: {
      toplevel = (TOPLEVEL) host;
      inherit (host.config.boot) extraModprobeConfig kernelParams;
      modules = host.config.boot.initrd.kernelModules;
      stage1 = host.config.boot.initrd.systemd.contents."/etc/modprobe.d/nixos.conf".text or "";
      declared = host.config.environment.etc."hyper-nixos/devices.json".text;
      unit = { inherit (host.config.systemd.services.hyper-nixos-devices) before wants wantedBy; };
    }""".replace("TOPLEVEL", TOPLEVEL)
    more = f"""{{ hypervisor.passthrough = {{
      processor = "{processor}"; ids = [ "8086:1533" "8086:1534" ]; drivers = [ "igb" ];
    }}; }}"""
    host = example(select, units.PASSTHROUGH, PARTS, more, system=system)
    assert (host.failed_assertions, host.warnings) == ((), ())
    found = host.value
    assert [param for param in found["kernelParams"] if "iommu" in param] == params
    lines = found["extraModprobeConfig"].splitlines()
    assert {
        "options vfio-pci ids=8086:1533,8086:1534",
        "softdep nouveau pre: vfio-pci",
        "softdep igb pre: vfio-pci",
    } <= {*lines}
    assert {"vfio", "vfio_iommu_type1", "vfio_pci"} <= {*found["modules"]}
    assert "vfio_virqfd" not in found["modules"], "part of vfio since Linux 6.2"
    declared = Declared.model_validate(json.loads(found["declared"]))
    assert [(card.address, card.count, card.vfio) for card in declared.physical] == [
        ("0000:05:00.0", 4, True),
        ("0000:05:00.1", 2, False),
    ]
    assert declared.physical[0].functions[0].model_dump() == {
        "number": 0,
        "mac": "52:54:00:00:00:01",
        "vlan": 20,
        "trust": False,
        "spoof_check": True,
    }
    assert declared.mediated[0].type == "i915-GVTg_V5_4"
    assert "network-pre.target" in found["unit"]["before"] and "network-pre.target" in found["unit"]["wants"]


@pytest.mark.nixpkgs
def test_a_report_of_facter_loads_no_graphics_driver_before_vfio() -> None:
    select = """host: let
      graphics = host: host.config.hardware.facter.detected.boot.graphics.kernelModules;
      with' = modules: host.extendModules { inherit modules; };
      stage1 = host: host.config.boot.initrd.kernelModules;
      kept = with' [ PASSTHROUGH ];
    in {
      without = graphics host;
      early = builtins.filter (name: builtins.elem name (graphics host)) (stage1 host);
      kept = graphics kept;
      lost = builtins.filter (name: builtins.elem name (graphics host)) (stage1 kept);
      rescue = kept.config.specialisation.rescue.configuration.hardware.facter.detected.boot.graphics.kernelModules;
    }""".replace("PASSTHROUGH", units.PASSTHROUGH)
    # With a screen, on whose sight the module acts, and a driver that the report names.
    module = f"""({{ lib, ... }}: let read = builtins.fromJSON (builtins.readFile {REPORT}); in {{
      hardware.facter.report = read // {{ hardware = read.hardware // {{
        monitor = [ {{ }} ];
        graphics_card = map (card: card // {{ driver_modules = [ "amdgpu" ]; }}) read.hardware.graphics_card;
      }}; }};
    }})"""
    found = example(select, module).value
    assert found["without"] == found["early"] == found["rescue"] == ["amdgpu"]
    assert found["kept"] == found["lost"] == []


CASES: dict[str, tuple[str, str]] = {
    "all of it": (f"{{ imports = [ {PARTS} {units.PASSTHROUGH} ]; }}", ""),
    "no PCI address": (
        '{ hypervisor.passthrough.devices."01:00.0" = { vendor = "10de"; device = "2204"; }; }',
        "is no PCI address",
    ),
    "by address and by ids": (
        f'{{ imports = [ ({units.PASSTHROUGH}) ]; hypervisor.passthrough.ids = [ "10de:2204" ]; }}',
        "is declared twice",
    ),
    "ids of two devices": (
        f"""{{ hardware.facter.reportPath = {REPOSITORY}/tests/machines/facter/TWICE.json;
              hypervisor.passthrough.ids = [ "ID" ]; }}""",
        "is more than one device of this machine",
    ),
    "ARM's IOMMU on x86": (
        '{ hypervisor.passthrough = { enable = true; processor = "arm"; }; }',
        'is "arm"',
    ),
    "splitting at no address": (
        '{ hypervisor.passthrough.virtualFunctions."05:00.0".count = 1; }',
        "is no PCI address",
    ),
    "splitting what is kept whole": (
        f"""{{ imports = [ ({units.PASSTHROUGH}) ];
              hypervisor.passthrough.virtualFunctions."0000:01:00.0".count = 1; }}""",
        "is to be split and is kept for guests whole",
    ),
    "a function too many": (
        """{ hypervisor.passthrough.virtualFunctions."0000:05:00.0" = { count = 2; functions."2".vlan = 3; }; }""",
        "it has functions 0 to 1",
    ),
    "one address for two functions": (
        """{ hypervisor.passthrough.virtualFunctions."0000:05:00.0" = { count = 2;
               functions."0".mac = "52:54:00:00:00:01"; functions."1".mac = "52:54:00:00:00:01"; }; }""",
        "two functions have the same address",
    ),
    "no UUID": (
        '{ hypervisor.passthrough.mediatedDevices.gpu = { parent = "0000:01:00.0"; type = "a"; }; }',
        "is no UUID",
    ),
    "sharing what is kept whole": (
        f"""{{ imports = [ ({units.PASSTHROUGH}) ];
              hypervisor.passthrough.mediatedDevices."83b8f4f2-509f-382f-3c1e-e6bfe0fa1001" =
                {{ parent = "0000:01:00.0"; type = "a"; }}; }}""",
        "is to be shared and is kept for guests whole",
    ),
}
"""Each: a module, and what is said; nothing where the host is fine."""


def twice() -> tuple[str, str]:
    """A report, and ids that two of its PCI devices have."""
    for path in sorted(REPORT.parent.glob("*.json")):
        seen: dict[str, set[str]] = {}
        report = json.loads(path.read_text())
        if report["system"] != "x86_64-linux":
            continue
        for kind in report["hardware"].values():
            for device in kind if isinstance(kind, list) else ():
                if ":" in device.get("sysfs_bus_id", "") and "hex" in (device.get("vendor") or {}):
                    name = f"{device['vendor']['hex']}:{(device.get('device') or {}).get('hex')}"
                    seen.setdefault(name, set()).add(device["sysfs_bus_id"])
        if found := [name for name, places in sorted(seen.items()) if len(places) > 1]:
            return path.stem, found[0]
    raise AssertionError("no report has such devices")


@pytest.mark.nixpkgs
def test_each_assertion_fires_and_only_then() -> None:
    report, name = twice()
    listed = "".join(
        f'"{case}" = {module.replace("TWICE", report).replace("ID", name)};\n'
        for case, (module, _) in CASES.items()
    )
    select = f"""host: let
      failed = module: builtins.concatMap (entry: if entry.assertion then [ ] else [ entry.message ])
        (host.extendModules {{ modules = [ module ]; }}).config.assertions;
    in builtins.mapAttrs (_: failed) {{ {listed} }}"""
    found: dict[str, list[str]] = example(select).value
    for case, (_, said) in CASES.items():
        assert len(found[case]) == bool(said), (case, found[case])
        assert all(said in message for message in found[case]), (case, found[case])


def test_the_installer_gives_each_processor_its_own_parameters() -> None:
    answers = cases.inputs("bios-ext4-small")[1]

    def params(vendor: str, architecture: str, *units: str) -> list[str]:
        cpu = cases.SERVER.cpu.model_copy(update={"vendor": vendor, "architecture": architecture})
        iommu = cases.SERVER.iommu.model_copy(update={"units": units})
        facts = cases.SERVER.model_copy(update={"cpu": cpu, "iommu": iommu})
        return [word for word in kernel_params(facts, answers) if "iommu" in word]

    assert params("GenuineIntel", "x86_64", "dmar0") == ["intel_iommu=on", "iommu=pt"]
    assert params("AuthenticAMD", "x86_64", "ivhd0") == ["iommu=pt"]
    assert params("AuthenticAMD", "x86_64") == ["iommu=pt"]
    assert params("ARM", "aarch64") == ["iommu.passthrough=1"]


# Stage 1.

VENDOR_AND_DEVICE = ("10de", "2204")
"""What the golden script expects at 0000:01:00.0."""


def claim(sysfs: Path, *calls: str) -> subprocess.CompletedProcess[str]:
    script = (
        CLAIM.read_text() + "\n".join(calls) if calls else units.committed()["initrd/hyper-nixos-vfio.sh"]
    )
    # As NixOS runs a script, with no program within reach.
    command = ["/bin/bash", "-e", "-c", script]
    environment = {"SYSFS": str(sysfs), "PATH": "/nowhere"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def device(sysfs: Path, address: str, found: tuple[str, str] | None, *, driver: bool = False) -> Path:
    folder = sysfs / "bus/pci/devices" / address
    if found:
        folder.mkdir(parents=True)
        for name, content in zip(("vendor", "device"), found, strict=True):
            (folder / name).write_text(f"0x{content}\n")
        (folder / "driver_override").write_text("")
    if driver:
        (folder / "driver").mkdir()
        (folder / "driver/unbind").write_text("")
    return folder


@pytest.mark.parametrize(
    ("found", "driver", "override", "unbound"),
    [
        (VENDOR_AND_DEVICE, False, "vfio-pci\n", ""),
        (VENDOR_AND_DEVICE, True, "vfio-pci\n", "0000:01:00.0\n"),
        (("144d", "a808"), True, "", ""),
        (None, False, "", ""),
    ],
    ids=["free", "bound to a built-in driver", "another device sits there", "nothing sits there"],
)
def test_stage_1_claims_only_what_was_declared(
    tmp_path: Path, found: tuple[str, str] | None, driver: bool, override: str, unbound: str
) -> None:
    folder = device(tmp_path, "0000:01:00.0", found, driver=driver)
    done = claim(tmp_path)
    assert done.returncode == 0, done.stderr
    if found == VENDOR_AND_DEVICE:
        assert (done.stdout, done.stderr) == ("0000:01:00.0: kept for guests\n", "")
    else:
        assert done.stderr.startswith("0000:01:00.0: ")
        assert done.stderr.endswith("; nothing claimed\n")
    if found:
        assert (folder / "driver_override").read_text() == override
    if driver:
        assert (folder / "driver/unbind").read_text() == unbound
        assert (tmp_path / "bus/pci/drivers_probe").exists() is bool(unbound)


def test_one_that_cannot_be_claimed_keeps_no_other_from_being_claimed(tmp_path: Path) -> None:
    stubborn = device(tmp_path, "0000:01:00.0", VENDOR_AND_DEVICE)
    (stubborn / "driver_override").unlink()
    (stubborn / "driver_override").mkdir()
    unreadable = device(tmp_path, "0000:02:00.0", VENDOR_AND_DEVICE)
    (unreadable / "vendor").unlink()
    good = device(tmp_path, "0000:03:00.0", VENDOR_AND_DEVICE)
    calls = [f"claim '0000:0{number}:00.0' '10de' '2204'" for number in (1, 2, 3)]
    done = claim(tmp_path, *calls)
    assert done.returncode == 0
    assert "0000:01:00.0: the kernel takes no driver for it; nothing claimed" in done.stderr
    assert "0000:02:00.0: expected 10de:2204, found :2204; nothing claimed" in done.stderr
    assert (good / "driver_override").read_text() == "vfio-pci\n"


# Virtual functions and mediated devices, with a stand-in for the kernel's side of sysfs.


def card(**changes: Any) -> PhysicalFunction:
    return PhysicalFunction.model_validate({"address": "0000:05:00.0", "count": 3, "vfio": True, **changes})


def share(**changes: Any) -> MediatedDevice:
    given = {"uuid": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", "parent": "0000:00:02.0", "type": "type-1"}
    return MediatedDevice.model_validate(given | changes)


@pytest.mark.parametrize("vfio", [True, False])
def test_a_card_is_split_once(tmp_path: Path, vfio: bool) -> None:
    kernel = Kernel(tmp_path)
    kernel.card()
    functions = [
        {"number": 1, "mac": "52:54:00:00:00:01", "vlan": 20, "trust": True, "spoof_check": False},
        {"number": 2},
    ]
    wanted = card(vfio=vfio, functions=functions)
    said: list[str] = []
    split(wanted, kernel.sysfs(), kernel, said.append)
    assert (
        said[-1] == f"0000:05:00.0: 3 virtual functions, {'kept for guests' if vfio else 'left to the host'}"
    )
    drivers = {kernel.sysfs().driver(f"0000:05:10.{number}") for number in range(3)}
    assert drivers == {"vfio-pci" if vfio else "ixgbevf"}
    assert kernel.ran == [
        f"ip link set dev lan0 vf 1 {words}"
        for words in ("mac 52:54:00:00:00:01", "vlan 20", "trust on", "spoofchk off")
    ]
    assert kernel.wrote[:2] == [
        "bus/pci/devices/0000:05:00.0/sriov_drivers_autoprobe=0",
        "bus/pci/devices/0000:05:00.0/sriov_numvfs=3",
    ], "no driver of the host takes them first"
    kernel.wrote.clear()
    split(wanted, kernel.sysfs(), kernel, said.append)
    assert kernel.wrote == []


def test_functions_that_the_host_has_are_given_to_guests(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.card()
    split(card(vfio=False), kernel.sysfs(), kernel, print)
    split(card(vfio=True), kernel.sysfs(), kernel, print)
    assert kernel.sysfs().driver("0000:05:10.2") == "vfio-pci"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("gone", "There is no device at 0000:05:00.0"),
        ("no driver", "No driver has 0000:05:00.0"),
        ("too few", "cannot have 3 virtual functions"),
        ("other number", "has 2 virtual functions, declared are 3"),
        ("refused", "The kernel refused '3' for"),
        ("no network", "has no network interface"),
    ],
)
def test_what_cannot_be_split_is_said(tmp_path: Path, how: str, said: str) -> None:
    kernel = Kernel(tmp_path, frozenset({"sriov_numvfs"} if how == "refused" else ()))
    folder = kernel.card(total=2 if how == "too few" else 8, driver=how != "no driver")
    if how == "gone":
        shutil.rmtree(folder)
    if how == "other number":
        split(card(count=2), kernel.sysfs(), kernel, print)
    if how == "no network":
        shutil.rmtree(folder / "net")
    before = list(kernel.wrote)
    with pytest.raises(HyperError) as caught:
        split(card(functions=[{"number": 0, "vlan": 3}]), kernel.sysfs(), kernel, print)
    assert said in caught.value.what
    if how in ("too few", "other number", "no driver"):
        assert kernel.wrote == before, "nothing was changed"


def test_a_share_is_made_once(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.mediator("0000:00:02.0")
    create(share(), kernel.sysfs(), print)
    create(share(), kernel.sysfs(), print)
    assert len(kernel.wrote) == 1
    (tmp_path / "class/mdev_bus/0000:00:02.0/mdev_supported_types/type-2").mkdir()
    with pytest.raises(HyperError, match="is not as declared") as caught:
        create(share(type="type-2"), kernel.sysfs(), print)
    assert "there is type-1 of 0000:00:02.0" in caught.value.why


def test_what_cannot_be_shared_says_what_can(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.mediator("0000:00:02.0")
    kernel.mediator("0000:00:03.0", left=0)
    with pytest.raises(HyperError, match="has no type large") as caught:
        create(share(type="large"), kernel.sysfs(), print)
    assert caught.value.why == "it has type-1 (small, 2 left)"
    with pytest.raises(HyperError, match="has no type-1 left"):
        create(share(parent="0000:00:03.0"), kernel.sysfs(), print)
    with pytest.raises(HyperError, match="shares nothing"):
        create(share(parent="0000:00:04.0"), kernel.sysfs(), print)
    assert kernel.wrote == []


def test_one_that_fails_keeps_no_other_from_being_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel(tmp_path)
    kernel.mediator("0000:00:02.0")
    declared = Declared(physical=(card(),), mediated=(share(),))
    assert devices.walk(declared, kernel.sysfs(), kernel, print, change=False) == Exit.failed
    assert kernel.wrote == []
    assert devices.walk(declared, kernel.sysfs(), kernel, print, change=True) == Exit.failed
    said = capsys.readouterr()
    assert "There is no device at 0000:05:00.0" in said.err
    assert "type-1 of 0000:00:02.0, as declared" in said.out
    kernel.card()
    assert devices.walk(declared, kernel.sysfs(), kernel, print, change=True) == Exit.ok
    standing: list[dict[str, Any]] = []
    assert devices.walk(declared, kernel.sysfs(), kernel, print, change=False, standing=standing) == Exit.ok
    assert [(each["kind"], each["as_declared"]) for each in standing] == [
        ("virtual functions", True),
        ("mediated device", True),
    ]


def test_damaged_declarations_are_named(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    path.write_text('{"physical": [{"address": "5:0", "count": 1, "vfio": true}]}')
    with pytest.raises(HyperError, match=r"devices\.json cannot be read"):
        read_declared(path)
    with pytest.raises(HyperError, match="declares no parts"):
        read_declared(tmp_path / "none")
