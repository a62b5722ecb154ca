"""A running NixOS becomes a host in place: what is found, the one line that is added, what must not change."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from installer.errors import HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.migrate.conflicts import conflicts_of
from installer.migrate.difference import compare, describe
from installer.migrate.evaluation import Evaluator
from installer.migrate.execute import Executor
from installer.migrate.fallback import Fallback
from installer.migrate.findings import IMPORT, MARK, Findings, Kind, Space
from installer.migrate.loader import counted, entry_of, grub_entry, uncounted
from installer.migrate.module import Source
from installer.migrate.nixfile import Edit, Uncertain, add_import, add_module, parse, remove_import
from installer.migrate.plan import make_plan, two_lines
from installer.migrate.probe import Asked
from installer.migrate.report import report
from tests.migrate.world import (
    ANY,
    GIB,
    RECORDED,
    SEARCH,
    STYLES,
    LocalNix,
    RecordedNix,
    machine,
    runner,
    seen,
    source,
)
from tests.nixeval.nix import CONFIGURATION, require

SOURCE = Source(
    path="/nix/store/00000000000000000000000000000000-source",
    locked={
        "type": "path",
        "path": "/nix/store/00000000000000000000000000000000-source",
        "narHash": "sha256-",
    },
)
PLACES: dict[str, tuple[str, str | None]] = {
    "channel": ("configuration.nix", "      ./hyper-nixos.nix"),
    "channel-computed": ("modules/host.nix", "  imports = [ ./hyper-nixos.nix ];"),
    "channel-grub": ("configuration.nix", "  imports = [ ./hardware.nix ./users.nix ./hyper-nixos.nix ];"),
    "channel-let": ("configuration.nix", "    ./hyper-nixos.nix"),
    "flake-folders": ("hosts/box/configuration.nix", "  imports = [ ./hyper-nixos.nix ];"),
    "flake-helper": ("machines/box.nix", "  imports = [ ./hyper-nixos.nix ];"),
    "flake-home-manager": (
        "nixos/configuration.nix",
        "  imports = [ ./hardware-configuration.nix ./hyper-nixos.nix ];",
    ),
    "flake-hosts": ("hosts/box/default.nix", "    ./hyper-nixos.nix"),
    "flake-inline": ("flake.nix", "        ./hyper-nixos.nix"),
    "flake-modules-let": ("hardware.nix", "  imports = [ ./hyper-nixos.nix ];"),
    "flake-one": ("configuration.nix", "    ./hyper-nixos.nix"),
    "flake-parts": ("machines/box.nix", "  imports = [ ./hyper-nixos.nix ];"),
}
"""For each style of configuration the file and the line in which the import lands."""
UNCERTAIN = ("flake-shared",)
"""Styles where no file is one host's alone."""


def found(tmp_path: Path, style: str | None, asked: Asked = ANY, **more: Any) -> Findings:
    base = machine(tmp_path, style, **more)
    return seen(base, RecordedNix(style or "channel", base), asked)


def stopping(findings: Findings, **more: bool) -> list[str]:
    return [each.name for each in conflicts_of(findings, **more) if each.stops]


def changed(findings: Findings, **more: Any) -> Findings:
    """Findings with other values, also in the summary: `summary__network__networkd=True`."""
    data = findings.model_dump(mode="json")
    for path, value in more.items():
        at = data
        *outer, last = path.replace("summary__", "configuration__summary__").split("__")
        for name in outer:
            at = at[name]
        at[last] = value
    return Findings.model_validate(data)


# The place ---------------------------------------------------------------------------------------------------------


def test_every_style_has_an_expectation() -> None:
    assert {each.name for each in STYLES.iterdir()} == {*PLACES, *UNCERTAIN}
    assert set(json.loads(RECORDED.read_text())["styles"]) == {*PLACES, *UNCERTAIN}


@pytest.mark.parametrize("style", PLACES)
def test_the_import_lands_where_it_belongs(tmp_path: Path, style: str) -> None:
    findings = found(tmp_path, style)
    assert findings.configuration.kind is (Kind.channel if style.startswith("channel") else Kind.flake)
    assert stopping(findings) == []
    plan = make_plan(findings, SOURCE)
    file, line = PLACES[style]
    edit = plan.place.edit
    assert edit is not None
    assert edit.path == file, plan.place.doubts
    before = findings.configuration.files[file].splitlines()
    after = edit.text.splitlines()
    assert edit.line is not None
    assert after[edit.line - 1] == line
    # One line is new, or longer; every other one is theirs.
    rest = [each for at, each in enumerate(after, 1) if at != edit.line]
    assert rest in (before, [each for at, each in enumerate(before, 1) if at != edit.line])
    assert plan.module.path == str(Path(file).parent / "hyper-nixos.nix")
    assert remove_import(edit.text, IMPORT) == findings.configuration.files[file]


@pytest.mark.nix
@pytest.mark.parametrize("style", PLACES)
def test_what_is_written_parses(tmp_path: Path, style: str) -> None:
    plan = make_plan(found(tmp_path, style), SOURCE)
    for written in plan.files():
        require().parse(written.text)


@pytest.mark.nix
def test_our_modules_are_found_without_fetching_their_inputs(tmp_path: Path) -> None:
    """A host without a network migrates too, when everything that is built is there."""
    folder = tmp_path / "hyper-nixos"
    folder.mkdir()
    (folder / "flake.nix").write_text('{ inputs.gone.url = "path:/nowhere"; outputs = _: { }; }')
    program = tmp_path / "bin/nix"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(require().command("nix"))} "$@"\n')
    program.chmod(0o755)
    nix = Evaluator(
        Runner(NoLog(), f"{program.parent}:{SEARCH}"),
        {"NIX_CONFIG": CONFIGURATION, "NIX_REMOTE": str(tmp_path / "store")},
    )
    found = nix.source(f"path:{folder}")
    assert re.fullmatch(r"/nix/store/[a-z0-9]{32}-source", found.path)
    assert found.locked["type"] == "path"
    assert found.locked["path"] == found.path
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", found.locked["narHash"])
    with pytest.raises(HyperError, match="does not evaluate our own modules") as raised:
        nix.source(f"path:{tmp_path}/elsewhere")
    assert "--source" in raised.value.remedy


@pytest.mark.parametrize("style", UNCERTAIN)
def test_where_no_place_is_certain_two_lines_are_printed(tmp_path: Path, style: str) -> None:
    findings = found(tmp_path, style)
    plan = make_plan(findings, SOURCE)
    assert (plan.certain, plan.steps) == (False, ())
    assert "host.nix: other hosts use it too" in plan.place.doubts
    lines = two_lines(plan, findings.configuration).splitlines()
    assert len(lines) == 2
    assert "imports = [ ./hyper-nixos.nix ];   # in a module of box alone" in lines[0]


def test_a_person_added_the_import(tmp_path: Path) -> None:
    """Then the plan goes on, and changes none of their files."""
    findings = found(tmp_path, "flake-shared")
    configuration = findings.configuration.model_copy(
        update={
            "existing": MARK,
            "shared": (),
            "files": findings.configuration.files | {"host.nix": "{ imports = [ ./hyper-nixos.nix ]; }"},
        }
    )
    plan = make_plan(findings.model_copy(update={"configuration": configuration}), SOURCE)
    assert plan.certain
    assert [written.path for written in plan.files()] == ["hyper-nixos.nix"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{ imports = map import [ ]; }", "is computed"),
        ("{ imports = let x = [ ./a.nix ]; in f x; }", "is computed"),
        ("let imports = [ ]; in { inherit imports; }", "inherited"),
        ("{ inherit (import ./all.nix) imports; }", "inherited"),
        ("args: import ./real.nix args", "no set written out"),
        ("{ a = 1; } // import ./b.nix", "no set written out"),
        ('{ "${name}" = [ ]; }', "computed"),
        ("{ imports = [ ./hyper-nixos.nix ]; }", "already"),
        ("{ imports = [ ./a.nix }", "not read as Nix"),
        ("", "not read as Nix"),
    ],
)
def test_doubt_leaves_a_file_alone(text: str, why: str) -> None:
    told = add_import(text, IMPORT)
    assert isinstance(told, Uncertain)
    assert why in told.why


def bare(text: str) -> str:
    """Without white space, and without an empty list of imports."""
    return re.sub(r"\s", "", text).replace("imports=[];", "")


@pytest.mark.parametrize(
    "text",
    [
        "{ imports = [ ]; }",
        "{ imports = [ ./a.nix ]; }",
        "{ imports = [ ./a.nix # the first\n]; }",
        "{\n  imports = [\n    # nothing yet\n  ];\n}\n",
        "{\n\timports = [\n\t\t./a.nix\n\t];\n}\n",
        '{ lib, ... }:\nwith lib;\n{\n  # says who we are\n  networking.hostName = "ä";\n}\n',
        "{ imports = (import ./more.nix) ++ [ ./a.nix ] ++ [ ]; }",
        "rec { a = 1; }",
        "{ ... }: { config = { }; options = { }; }",
        "{ config = { imports = 5; }; }",
    ],
)
def test_an_import_is_added_and_taken_out_again(text: str) -> None:
    edit = add_import(text, IMPORT)
    assert isinstance(edit, Edit)
    assert parse(edit.text) is not None
    assert edit.text.count(IMPORT) == 1
    without = remove_import(edit.text, IMPORT)
    assert without is not None
    assert IMPORT not in without
    # What is left over is at most the empty list that was written.
    assert bare(without) == bare(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{ outputs = i: { nixosConfigurations = f i; }; }", "does not write out"),
        ("{ outputs = i: { nixosConfigurations.box = f { inherit modules; }; }; }", "no list of modules"),
        (
            "{ outputs = i: { nixosConfigurations.box = if x then f { modules = [ ]; } else f { modules = [ ]; }; }; }",
            "2 lists",
        ),
    ],
)
def test_doubt_leaves_a_flake_alone(text: str, why: str) -> None:
    told = add_module(text, "box", IMPORT)
    assert isinstance(told, Uncertain)
    assert why in told.why


# What stands against it --------------------------------------------------------------------------------------------


def test_a_machine_that_is_not_nixos_is_told_what_is_destroyed(tmp_path: Path) -> None:
    base = machine(tmp_path, None)
    (base / "etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
    findings = seen(base, RecordedNix("channel", base))
    (conflict,) = conflicts_of(findings)
    assert conflict.stops
    assert "hv install --target ssh://root@this-machine" in conflict.remedy
    assert "DESTROYS EVERYTHING" in conflict.remedy
    assert "debian" in report(findings, (conflict,))


@pytest.mark.parametrize(
    ("release", "stops"),
    [
        ("24.05", True),
        ("25.05", True),
        ("25.11", False),
        ("26.05", False),
        ("26.11pre", False),
        (None, True),
    ],
)
def test_releases_before_25_11_are_refused_with_the_way_to_upgrade(
    tmp_path: Path, release: str | None, stops: bool
) -> None:
    findings = changed(found(tmp_path, "channel"), release=release)
    assert ("release" in stopping(findings)) is stops
    if stops:
        remedy = next(each.remedy for each in conflicts_of(findings) if each.name == "release")
        assert "nix-channel --add" in remedy
        assert "inputs.nixpkgs.url" in remedy


def test_no_configuration_is_left(tmp_path: Path) -> None:
    base = machine(tmp_path, None)
    (base / "run/current-system/configuration.nix").write_text("{ }")
    findings = seen(base, RecordedNix("channel", base))
    assert findings.configuration.kind is Kind.none
    assert stopping(findings) == ["no-configuration"]
    (conflict,) = (each for each in conflicts_of(findings) if each.stops)
    assert "/run/current-system/configuration.nix" in conflict.what
    assert "--flake" in conflict.remedy


def test_a_configuration_in_the_store_is_read_only(tmp_path: Path) -> None:
    base = machine(tmp_path, "channel", folder="nix/store/11111111111111111111111111111111-config")
    (base / "etc/nixos").symlink_to(base / "nix/store/11111111111111111111111111111111-config")
    findings = seen(base, RecordedNix("channel", base))
    # The store's rule looks at the real path, which here lies below the test's root.
    findings = changed(findings, configuration__writable=False)
    assert stopping(findings) == ["read-only"]


def test_a_symbolic_link_leads_to_the_repository(tmp_path: Path) -> None:
    base = machine(tmp_path, "flake-one", folder="home/alice/dotfiles/nixos")
    (base / "etc").mkdir(exist_ok=True)
    (base / "etc/nixos").symlink_to("../home/alice/dotfiles/nixos")
    repository = base / "home/alice/dotfiles"
    commit(repository)
    findings = seen(base, RecordedNix("flake-one", base / "home/alice/dotfiles/nixos"))
    configuration = findings.configuration
    assert configuration.root == str(repository)
    assert configuration.entry == "nixos/flake.nix"
    assert configuration.repository
    nix = LocalNix.__mro__[1](runner())
    assert nix.reference(configuration) == f"git+file://{repository}?dir=nixos"


def commit(folder: Path) -> None:
    for words in (
        ("init", "--quiet"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "mine"),
    ):
        subprocess.run(("git", "-C", folder, *words), check=True)


def test_which_host_of_a_flake(tmp_path: Path) -> None:
    base = machine(tmp_path, "flake-hosts")
    (base / "proc/sys/kernel/hostname").write_text("laptop\n")
    findings = seen(base, RecordedNix("flake-hosts", base))
    assert stopping(findings) == ["which-host"]
    (conflict,) = (each for each in conflicts_of(findings) if each.stops)
    assert "box, web" in conflict.what
    named = seen(base, RecordedNix("flake-hosts", base), Asked(flake="/etc/nixos#web"))
    assert named.configuration.host == "web"


@pytest.mark.parametrize(
    ("change", "name", "stops"),
    [
        ({"summary__virtualisation__virtualbox": True}, "virtualbox", True),
        ({"summary__virtualisation__xen": True}, "xen", True),
        ({"summary__virtualisation__docker": True}, "docker", False),
        ({"summary__loader__lanzaboote": True}, "lanzaboote", True),
        ({"summary__loader__systemd_boot": False}, "no-fallback", True),
        ({"summary__loader__systemd_boot": False, "summary__loader__extlinux": True}, "no-fallback", True),
        ({"summary__loader__counts": False, "variables_writable": False}, "no-fallback", True),
        ({"summary__hyper_nixos": True}, "migrated", True),
        ({"summary__assertions": ["no"]}, "assertions", True),
        ({"summary__toplevel": "/nix/store/other"}, "drift", False),
        ({"summary__release": "24.11"}, "release-declared", True),
        ({"summary__systemd_stage_1": False}, "stage-1", False),
        ({"entry_bytes": 40 * GIB}, "boot-space", True),
        ({"entry_bytes": 20 * GIB}, "boot-space", False),
        ({"logins": []}, "nobody", True),
        ({"logins": [{"name": "alice", "keys": 0, "password": False}]}, "nobody", True),
        ({"tables": ["inet hyper-nixos"]}, "nftables", False),
        ({"configuration__existing": "{ }"}, "file-there", True),
        ({"trial": True}, "trial", True),
    ],
)
def test_each_conflict_has_a_remedy(tmp_path: Path, change: dict[str, Any], name: str, stops: bool) -> None:
    before = found(tmp_path, "channel")
    assert name not in [each.name for each in conflicts_of(before)]
    (conflict,) = (each for each in conflicts_of(changed(before, **change)) if each.name == name)
    assert conflict.stops is stops
    assert len(conflict.remedy) > 10
    if stops:
        with pytest.raises(ValueError, match=name):
            make_plan(changed(before, **change), SOURCE)


def test_whoever_says_no_fallback_may_go_on(tmp_path: Path) -> None:
    findings = changed(found(tmp_path, "channel"), summary__loader__systemd_boot=False)
    assert stopping(findings, no_fallback=True) == []
    plan = make_plan(findings, SOURCE, no_fallback=True)
    assert plan.fallback is Fallback.none
    assert 'fallback = "none"' in plan.module.text


@pytest.mark.parametrize(
    ("spaces", "fallback"),
    [
        ([("/", "/dev/sda1", "ext4")], Fallback.grub),
        ([("/", "/dev/mapper/root", "ext4"), ("/boot", "/dev/sda1", "ext4")], Fallback.grub),
        ([("/", "/dev/mapper/root", "ext4")], Fallback.none),
        ([("/", "/dev/sda1", "btrfs")], Fallback.none),
        ([("/", "/dev/sda1", "ext4"), ("/boot", "/dev/md0", "ext4")], Fallback.none),
        ([("/", "rpool/root", "zfs")], Fallback.none),
    ],
)
def test_grub_falls_back_only_where_it_can_forget(
    tmp_path: Path, spaces: list[tuple[str, str, str]], fallback: Fallback
) -> None:
    findings = changed(
        found(tmp_path, "channel-grub"),
        summary__loader__systemd_boot=False,
        summary__loader__grub=True,
        spaces=[
            Space(mount=mount, device=device, kind=kind, total=GIB, free=GIB).model_dump()
            for mount, device, kind in spaces
        ],
    )
    stops = stopping(findings)
    assert stops == ([] if fallback is Fallback.grub else ["no-fallback"])
    if fallback is Fallback.grub:
        assert make_plan(findings, SOURCE).fallback is Fallback.grub


def test_the_report_fits_a_serial_console(tmp_path: Path) -> None:
    findings = changed(
        found(tmp_path, "channel"),
        summary__virtualisation__docker=True,
        summary__loader__systemd_boot=False,
        release="24.05",
    )
    text = report(findings, conflicts_of(findings))
    assert "Stands against it:" in text
    assert "administrator  alice: 1 key" in text
    assert "router: runs, starts with the host" in text
    assert (
        max(
            len(line) for line in text.splitlines() if "/nix/store" not in line and str(tmp_path) not in line
        )
        <= 80
    )


# What must not change ----------------------------------------------------------------------------------------------


def test_nothing_that_lets_people_in_may_change(tmp_path: Path) -> None:
    summary = found(tmp_path, "channel").configuration.summary
    assert summary is not None
    assert compare(summary, summary).lost == ()
    data = summary.model_dump(mode="json")
    data["users"]["alice"]["keys"] = []
    data["sshd"]["settings"]["PasswordAuthentication"] = "false"
    data["network"]["networkmanager"] = False
    data["packages"] = ["nano-9.1", "virsh"]
    difference = compare(summary, type(summary).model_validate(data))
    assert [line.partition(":")[0] for line in difference.lost] == [
        "users.alice.keys",
        "sshd.settings.PasswordAuthentication",
        "network.networkmanager",
    ]
    text = describe(difference)
    assert "NOT KEPT  users.alice.keys" in text
    assert "packages: 2 more, 1 fewer\n  + nano-9.1\n  + virsh\n  - nano-9.0\n" in text


@pytest.mark.nixpkgs
@pytest.mark.parametrize("style", PLACES)
def test_a_migrated_host_keeps_users_keys_network_and_ssh(tmp_path: Path, style: str) -> None:
    """Evaluated with the real nixpkgs, before and after."""
    base = machine(tmp_path, style)
    nix = LocalNix(runner())
    findings = seen(base, nix)
    before = findings.configuration.summary
    assert before is not None, findings.configuration.fault
    findings = changed(
        findings,
        spaces=[Space(mount="/", device="/dev/sda1", kind="ext4", total=GIB, free=GIB).model_dump()],
    )
    plan = make_plan(findings, source())
    assert plan.place.file == PLACES[style][0]
    executor = Executor(str(base), runner(), nix, print)
    after = executor.preview(findings, plan)
    difference = compare(before, after)
    assert difference.lost == ()
    assert after.hyper_nixos
    assert after.assertions == ()
    assert after.toplevel.startswith("/nix/store/")
    assert after.toplevel != before.toplevel
    assert (difference.users.removed, difference.ports.removed) == ((), ())
    assert "hyper-nixos-health.service" in difference.units.added
    assert after.virtualisation.libvirtd
    if before.virtualisation.libvirtd:
        assert after.virtualisation.on_boot == before.virtualisation.on_boot
    assert all(
        Path(findings.configuration.root, name).read_text() == text
        for name, text in findings.configuration.files.items()
    )


# Boot menus --------------------------------------------------------------------------------------------------------

MENU = """
if [ "${next_entry}" ]; then
  set default="${next_entry}"
fi
menuentry "NixOS" --class nixos --unrestricted {
  search --set=drive1 --fs-uuid x
  linux ($drive1)/nix/store/k init=/nix/store/old/init loglevel=4
}
submenu "NixOS - All configurations" --class submenu {
menuentry "NixOS - Configuration 2 (2026-11-25)" --class nixos {
  linux ($drive1)/nix/store/k init=/nix/store/new/init loglevel=4
}
menuentry "NixOS - Configuration 1 (2026-11-01)" --class nixos {
  linux ($drive1)/nix/store/k init=/nix/store/old/init loglevel=4
}
}
"""


def test_grub_entries_are_found_by_what_they_start() -> None:
    assert grub_entry(MENU, "/nix/store/new") == "1>0"
    assert grub_entry(MENU, "/nix/store/old") == "1>1"
    assert grub_entry(MENU, "/nix/store/ne") is None


def test_entries_of_systemd_boot_are_found_by_what_they_start() -> None:
    entries = {
        "nixos-aa+2.conf": "title NixOS\noptions init=/nix/store/new/init quiet\n",
        "nixos-bb.conf": "title NixOS\noptions init=/nix/store/newer/init\n",
    }
    assert entry_of(entries, "/nix/store/new") == "nixos-aa+2.conf"
    assert entry_of(entries, "/nix/store/newe") is None
    assert counted("nixos-aa+2.conf")
    assert counted("nixos-aa+1-1.conf")
    assert not counted("nixos-bb.conf")
    assert uncounted("nixos-aa+1-1.conf") == "nixos-aa.conf"
