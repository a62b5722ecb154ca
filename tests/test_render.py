"""Rendered hosts: the same text every time, without a secret, that Nix reads and NixOS takes.

That rendering opens nothing is tests/test_pure.py's to show.
"""

from pathlib import Path

import pytest

from installer.answers.model import Answers, Phase
from installer.errors import Exit, HyperError
from installer.plan.actions import WriteSecret
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.render import RenderedHost, load_templates, phase_file, render
from installer.render.hardware import kernel_params
from tests.nixeval import hosts, options
from tests.nixeval.cases import (
    CASES,
    EVERYTHING,
    EXAMPLES,
    HASH,
    MEDIUM,
    SERVER,
    Data,
    inputs,
    on_architecture,
    rendered,
)
from tests.nixeval.host import evaluate_flake_host
from tests.nixeval.nix import REPOSITORY, require

GOLDEN_FILES = sorted(hosts.GOLDEN.rglob("*.nix"))
every_case = pytest.mark.parametrize("name", CASES)


def plan_and_render(data: Data) -> tuple[Plan, RenderedHost]:
    answers = Answers.model_validate(data)
    plan = make_plan(SERVER, answers, MEDIUM)
    return plan, render(SERVER, answers, plan, MEDIUM, load_templates())


@every_case
def test_rendered_files_are_as_committed(name: str) -> None:
    assert dict(rendered(name).files) == hosts.committed(name), "if wanted: python -m tests.nixeval.hosts"


@pytest.mark.nix
@pytest.mark.parametrize("path", GOLDEN_FILES, ids=lambda path: str(path.relative_to(hosts.GOLDEN)))
def test_each_rendered_file_parses(path: Path) -> None:
    assert require().parse(path.read_text())


@pytest.mark.nix
@every_case
def test_each_option_exists_and_takes_its_value(name: str) -> None:
    assert list(options.problems(options.values(hosts.GOLDEN / name), options.host_options())) == []


@pytest.mark.nix
@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("users.nix", "isNormalUser = true", "isNormalUsr = true"),
        ("users.nix", "mutableUsers = lib.mkDefault true", 'mutableUsers = "yes"'),
        ("disks.nix", "memoryPercent = 50", 'memoryPercent = "50"'),
        ("hypervisor.nix", 'tier = "standard"', 'tier = "splendid"'),
        ("phases/setup.nix", "hypervisor.phase = lib", "hypervisor.fase = lib"),
    ],
)
def test_a_wrong_option_is_found(tmp_path: Path, path: str, old: str, new: str) -> None:
    files = dict(rendered("bios-ext4-small").files)
    assert old in files[path]
    files[path] = files[path].replace(old, new)
    found = options.problems(options.values(hosts.write(files, tmp_path)), options.host_options())
    assert len(list(found)) == 1


@pytest.mark.nixpkgs
@pytest.mark.parametrize("name", ["bios-ext4-small", "uefi-luks-btrfs-everything"])
def test_a_host_whose_phase_was_raised_evaluates_to_a_system(name: str, tmp_path: Path) -> None:
    files = dict(rendered(name).files) | {"phase.nix": phase_file(Phase.hardened, load_templates())}
    select = """host: let
      there = host.config.specialisation.setup.configuration;
      passwords = config: config.services.openssh.settings.PasswordAuthentication;
    in {
      here = [ host.config.hypervisor.phase (passwords host.config) ];
      there = [ there.hypervisor.phase (passwords there) ];
      drv = host.config.system.build.toplevel.drvPath;
    }"""
    answers = inputs(name)[1]
    host = evaluate_flake_host(hosts.write(files, tmp_path), answers.hostname, select)
    assert (host.failed_assertions, host.warnings) == ((), ())
    assert host.value["here"] == ["hardened", False]
    assert host.value["there"] == ["setup", answers.ssh.password_login]


@pytest.mark.nixpkgs
def test_a_host_keeps_the_flake_that_its_own_flake_refers_to() -> None:
    select = 'host: host.config.environment.etc."hyper-nixos/flake".source'
    assert evaluate_flake_host(hosts.GOLDEN / "bios-ext4-small", "guest", select).value == str(REPOSITORY)
    assert MEDIUM.hyper_nixos.url == "path:/etc/hyper-nixos/flake"


@pytest.mark.nixpkgs
def test_sudo_lets_an_administrator_without_a_password_in() -> None:
    select = "host: host.config.security.sudo-rs.configFile"
    text = evaluate_flake_host(hosts.GOLDEN / "uefi-luks-btrfs-everything", "hv-01", select).value
    # The last line that fits decides (sudoers(5)).
    assert text.index("bob ") > text.index("%wheel ")
    assert "alice" not in text


def test_each_example_is_rendered() -> None:
    assert sorted(EXAMPLES) == sorted(path.stem for path in (REPOSITORY / "examples").glob("*.toml"))


@every_case
def test_rendering_twice_gives_the_same_bytes(name: str) -> None:
    first = rendered(name)
    rendered.cache_clear()
    assert dict(rendered(name).files) == dict(first.files)


def test_no_secret_is_rendered_and_each_one_referred_to_is_written_by_the_plan() -> None:
    plan, host = plan_and_render(EVERYTHING)
    text = "".join(host.files.values())
    assert HASH not in text
    assert "/run/secrets" not in text
    written = {
        action.path.removeprefix("/mnt")
        for step in plan.steps
        for action in step.actions
        if isinstance(action, WriteSecret)
    }
    assert {secret.path for secret in host.secrets} == written
    assert all(secret.path in text for secret in host.secrets)


def test_files_cannot_be_changed_afterwards() -> None:
    with pytest.raises(TypeError):
        rendered("bios-ext4-small").files["flake.nix"] = ""  # type: ignore[index]


def test_an_unknown_feature_is_refused_by_name() -> None:
    with pytest.raises(HyperError, match="'warp-drive'") as refused:
        plan_and_render(EVERYTHING | {"hypervisor": {"features": {"warp-drive": True}}})
    assert refused.value.code is Exit.answers


def test_text_that_nix_cannot_hold_is_refused() -> None:
    users = [EVERYTHING["users"][0] | {"full_name": "Alice\0"}]
    with pytest.raises(HyperError, match="cannot be written as Nix"):
        plan_and_render(EVERYTHING | {"users": users})


@pytest.mark.nix
def test_the_lock_names_the_inputs_of_the_flake() -> None:
    flake = hosts.GOLDEN / "bios-ext4-small/flake.nix"
    names = require().evaluate(f"builtins.attrNames (import {flake}).inputs")
    lock = require().evaluate(f"builtins.fromJSON (builtins.readFile {flake.with_name('flake.lock')})")
    assert sorted(lock["nodes"]["root"]["inputs"]) == names


@pytest.mark.parametrize(
    ("vendor", "units", "state", "expected"),
    [
        ("GenuineIntel", ("dmar0",), "on", ["intel_iommu=on", "iommu=pt"]),
        # An emulated Intel IOMMU before an AMD processor: what is there decides.
        ("AuthenticAMD", ("dmar0",), "on", ["intel_iommu=on", "iommu=pt"]),
        ("AuthenticAMD", ("ivhd0",), "on", ["iommu=pt"]),
        ("AuthenticAMD", (), "off in kernel", ["iommu=pt"]),
        ("GenuineIntel", (), "off in firmware", ["intel_iommu=on", "iommu=pt"]),
        ("GenuineIntel", (), "absent", []),
    ],
)
def test_iommu_parameters(vendor: str, units: tuple[str, ...], state: str, expected: list[str]) -> None:
    facts = SERVER.model_copy(
        update={
            "cpu": SERVER.cpu.model_copy(update={"vendor": vendor}),
            "iommu": type(SERVER.iommu).model_validate(
                {"state": state, "evidence": [], "units": units, "groups": []}
            ),
        }
    )
    answers = Answers.model_validate(EVERYTHING | {"boot": {}})
    assert kernel_params(facts, answers) == expected


def test_iommu_parameters_of_another_architecture() -> None:
    answers = Answers.model_validate(EVERYTHING | {"boot": {}})
    assert kernel_params(on_architecture(SERVER, "aarch64"), answers) == ["iommu.passthrough=1"]


def test_the_serial_console_stands_last_of_the_consoles() -> None:
    answers = Answers.model_validate(EVERYTHING | {"boot": {"serial_console": "ttyS1,115200"}})
    consoles = [word for word in kernel_params(SERVER, answers) if word.startswith("console=")]
    assert consoles == ["console=tty0", "console=ttyS1,115200"]
