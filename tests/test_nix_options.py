"""Every option that our modules, the live medium and the flake set: it exists, and takes its value.

Nothing but Python is needed for it: the modules are read as text (tests/nixeval/reader.py), the options of NixOS are a
fixture. What the text does not tell is listed here; the real module system has its say in tests/test_nix_matrix.py.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nixeval import modules, options
from tests.nixeval.host import MODULES, evaluate
from tests.nixeval.nix import REPOSITORY
from tests.nixeval.options import Problem
from tests.nixeval.reader import OPEN, Option, alternatives
from tests.nixeval.units import EXAMPLE

HIDDEN: dict[tuple[str, str], str] = {("flake.nix", "hypervisor.<name>"): "{ enable }"}
"""Definitions of options whose names only an evaluation tells: module and place, and what computes them."""
NOT_FOLLOWED: dict[str, str] = {
    'flake.nix: module ./tests/golden/hosts + "/${name}/configuration.nix"': "tests/test_render.py",
}
"""Modules whose place only an evaluation tells, and who else holds them."""
READ_OTHERWISE = {"nix/checks", "nix/packages", "nix/templates"}
"""Folders whose files are no modules."""


def findings(root: Path = REPOSITORY) -> list[tuple[str, Problem]]:
    """Module and problem."""
    trees = {False: options.host_options(root), True: options.medium_options(root)}
    return [
        (module.origin, problem)
        for module in modules.found(root).modules
        for problem in options.problems(module.config, trees[module.medium])
    ]


def test_each_option_that_is_set_exists_and_takes_its_value() -> None:
    wrong = [(origin, problem) for origin, problem in findings() if problem.kind != "hidden"]
    assert wrong == [], "an option of NixOS that is new here: python -m tests.nixeval.options"


def test_what_cannot_be_read_is_listed() -> None:
    hidden = {
        (origin, problem.path): problem.text for origin, problem in findings() if problem.kind == "hidden"
    }
    assert hidden == HIDDEN
    assert options.unread_lines() == options.UNREAD.read_text().splitlines(), (
        "if wanted: python -m tests.nixeval.options"
    )
    assert modules.found().not_followed == [*NOT_FOLLOWED]


def test_each_file_is_read() -> None:
    findings()
    found = modules.found()
    files = {path for folder in ("nix", "iso") for path in (REPOSITORY / folder).rglob("*.nix")}
    left = files - found.files - found.reader.imported
    assert {str(path.relative_to(REPOSITORY)) for path in left if not _otherwise(path)} == set()


def _otherwise(path: Path) -> bool:
    return any(path.is_relative_to(REPOSITORY / folder) for folder in READ_OTHERWISE)


def test_much_is_read() -> None:
    """The check is worth what it sees: most definitions are plain values."""
    found = [leaf for module in modules.found().modules for leaf in options.leaves(module.config)]
    assert len(found) > 300
    assert len(options.unread_lines()) < len(found) / 4


# A mistake is found.


def copy(tmp_path: Path) -> Path:
    """The flake and its modules, to be broken."""
    for folder in ("nix", "iso"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.py*"))
    shutil.copy(REPOSITORY / "flake.nix", tmp_path)
    return tmp_path


MISTAKES = (
    # A name, misspelt: plainly, below mkIf, by genAttrs, in a specialisation.
    ("network/default.nix", "useDHCP =", "useDCHP =", "unknown", "networking.useDCHP"),
    (
        "core/first-run.nix",
        "wantedBy =",
        "wantdBy =",
        "unknown",
        "systemd.services.hyper-nixos-firstrun.wantdBy",
    ),
    ("security/usb.nix", "services.usbguard =", "services.usbgard =", "unknown", "services.usbgard"),
    (
        "privileges/default.nix",
        "socketConfig.SocketMode",
        "socketConf.SocketMode",
        "unknown",
        "systemd.sockets.virtlockd.socketConf",
    ),
    (
        "passthrough/default.nix",
        "configuration.hypervisor.passthrough",
        "configuration.hypervisor.passtrough",
        "unknown",
        "hypervisor.passtrough",
    ),
    # A value of another type: plain, by mkDefault, in a list, of an enumeration, computed.
    ("security/audit.nix", "mkDefault 8192", 'mkDefault "8192"', "wrong", "security.audit.backlogLimit"),
    (
        "virtualization/default.nix",
        "runAsRoot = false",
        'runAsRoot = "no"',
        "wrong",
        "virtualisation.libvirtd.qemu.runAsRoot",
    ),
    ("security/usb.nix", "enable = true;", 'enable = "yes";', "wrong", "services.usbguard.enable"),
    (
        "passthrough/default.nix",
        '[ "sysinit.target" ]',
        "[ 7 ]",
        "wrong",
        "boot.initrd.systemd.services.hyper-nixos-vfio.wantedBy",
    ),
    ("security/default.nix", 'mkForce "setup"', 'mkForce "begin"', "wrong", "hypervisor.phase"),
    (
        "security/ssh.nix",
        'PermitRootLogin = lib.mkDefault "no"',
        'PermitRootLogin = lib.mkDefault (cfg.profile == "no")',
        "wrong",
        "services.openssh.settings.PermitRootLogin",
    ),
    # An option of ours that is gone, or has another type.
    (
        "core/default.nix",
        "    source = lib.mkOption",
        "    origin = lib.mkOption",
        "unknown",
        "hypervisor.source",
    ),
    (
        "security/default.nix",
        "    phase = lib.mkOption",
        "    stage = lib.mkOption",
        "unknown",
        "hypervisor.phase",
    ),
)
"""Below nix/modules: file, what is changed to what, and what is then found where."""


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[4])
def test_a_mistake_is_found(tmp_path: Path, mistake: tuple[str, str, str, str, str]) -> None:
    file, old, new, kind, place = mistake
    path = copy(tmp_path) / "nix/modules" / file
    text = path.read_text()
    assert old in text
    before = set(findings())
    path.write_text(text.replace(old, new))
    told = {problem for _, problem in set(findings(tmp_path)) - before}
    assert (kind, place) in {(problem.kind, problem.path) for problem in told}, told


@pytest.mark.nixpkgs
def test_options_of_ours_are_declared_as_they_are_read() -> None:
    """What the text says of our options is what the module system makes of them."""
    select = """host: let
      inherit (host.pkgs) lib;
      under = lib.concatMap (option: [ option ] ++ (
        let below = option.type.getSubOptions option.loc; in
        if below == { } then [ ] else lib.concatMap (inner: under' inner) (lib.collect lib.isOption below)));
      under' = option: under [ option ];
    in lib.listToAttrs (map (option: lib.nameValuePair (lib.concatStringsSep "." option.loc) option.type.name)
      (lib.filter (option: !(lib.elem "_module" option.loc) && option.visible or true)
        (under (lib.collect lib.isOption host.options.hypervisor))))"""
    real: dict[str, str] = evaluate(select, [MODULES, EXAMPLE]).value
    read: dict[str, Any] = modules.declared()
    # A type with a description of its own (`strMatching … // { description = …; }`) is not followed.
    untold = {path for path in real if read[path]["name"] == "unspecified"}
    assert untold == {"hypervisor.network.vlans.<name>.link"}
    assert {path: read[path]["name"] for path in real if path not in untold} == {
        path: name for path, name in real.items() if path not in untold
    }
    # The media's own options are none of a host's.
    ours = {path for path in read if not path.startswith("hypervisor.medium.")}
    assert {path for path in ours if not path.endswith((OPEN, "*"))} == real.keys()


TOLD = ("type", "default", "example", "description")
"""What a person needs to know of an option."""


def explained(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Options below a set of them, and what each is told of."""
    for each in alternatives(found):
        match each:
            case Option(attributes):
                told = {*attributes} | ({"default"} if "defaultText" in attributes else set())
                yield ".".join(path), told
            case dict():
                for name, inner in each.items():
                    yield from explained(inner, (*path, name))


def test_each_option_has_a_type_a_default_an_example_and_a_description() -> None:
    lacking = {
        name: sorted({*TOLD} - told)
        for module in modules.found().modules
        for name, told in explained(module.options)
        # lib.mkEnableOption says both; and what nobody sets.
        if {*TOLD} - told != {"description", "example"}
        and not {"readOnly", "internal"} & told
        and not {*TOLD} <= told
    }
    assert lacking == {}
    assert sum(len([*explained(module.options)]) for module in modules.found().modules) > 80
