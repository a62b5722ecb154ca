"""Where a host stands, from what its systems say of themselves: the evaluated ones, below a folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hv.firstrun.phase import DECLARATION
from hv.firstrun.world import Journal, World
from hv.security import phases, table
from installer.answers.model import SECURITY_PROFILES, Phase
from installer.errors import HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.render.host import phase_file
from installer.render.templates import load_templates
from tests.nixeval.phases import FILES, GOLDEN, STATES


def build(root: Path, running: str, profiles: tuple[str, ...] = ("balanced",)) -> World:
    """A host whose profile is phase setup, with a specialisation for each profile."""
    store = root / "nix/store"
    for name in ("setup", *profiles):
        for file, inside in (("security.json", table.FILE), ("sysctl.conf", "etc/sysctl.d/60-nixos.conf")):
            path = store / name / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((FILES / name / file).read_text())
    (store / "setup/specialisation").mkdir()
    for number, name in enumerate(profiles):
        special = store / "setup/specialisation" / ("hardened" if number == 0 else f"hardened-{name}")
        special.symlink_to(store / name)
    for link, name in (("nix/var/nix/profiles/system", "setup"), ("run/current-system", running)):
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(store / name)
    for file, text in (
        ("boot/loader/loader.conf", "default x.conf\n"),
        ("boot/loader/entries/x.conf", f"options init={store}/setup/init\n"),
        (
            "proc/cmdline",
            " ".join(json.loads((FILES / running / "security.json").read_text())["table"]["kernel"]),
        ),
        ("etc/group", "wheel:x:1:root,ada,grace\nusers:x:100:\n"),
        (DECLARATION.lstrip("/"), phase_file(Phase.setup, load_templates())),
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    return World(programs=Runner(NoLog(), "/usr/bin:/bin"), root=root, journal=Journal())


def security(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "hv", "security", "--root", str(root), *words)
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("state", STATES)
def test_every_evaluated_system_says_what_it_is(state: str) -> None:
    said = table.Description.model_validate_json((FILES / state / "security.json").read_text())
    assert said.phase == ("setup" if state == "setup" else "hardened")
    assert state in ("setup", said.profile)
    assert said.ports.ssh == (22,)
    assert set(said.table) == set(table.KINDS)


def test_differences_are_those_of_the_committed_table() -> None:
    """What two systems say of themselves differs by what the documentation lists."""
    setup, first = (
        table.Description.model_validate_json((FILES / name / "security.json").read_text()).table
        for name in ("setup", "development")
    )
    assert table.changed(setup, first) == json.loads(GOLDEN.read_text())["development"]
    assert table.changed(first, first) == {}


def test_differences_as_lines() -> None:
    before: table.Values = {"sysctl": {"a": 1, "b": True}, "kernel": {"x=1": True}}
    after: table.Values = {"sysctl": {"a": 2, "c": [1, 2]}, "kernel": {"y": True}}
    assert list(table.lines(before, after)) == [
        "Kernel parameters",
        "  - x=1",
        "  + y",
        "Kernel settings",
        "    a: 1 -> 2",
        "  - b",
        "    c: not set -> 1, 2",
    ]


def test_where_a_host_stands(tmp_path: Path) -> None:
    world = build(tmp_path, "balanced", ("balanced", "strict"))
    standing = phases.stand(world)
    assert standing.running and standing.boots and standing.other
    assert (standing.running.title, standing.boots.phase) == ("hardened, profile balanced", "setup")
    assert (standing.declared, standing.other.phase) == ("setup", "setup")
    assert [each.title for each in standing.systems] == [
        "setup",
        "hardened, profile balanced",
        "hardened, profile strict",
    ]
    assert phases.find(world, "hardened", "strict").toplevel.name == "strict"
    with pytest.raises(HyperError, match="profile paranoid is not built") as refused:
        phases.find(world, "hardened", "paranoid")
    assert "profile balanced; hardened, profile strict" in refused.value.why
    assert phases.administrators(world) == ("ada", "grace")


def test_kernel_parameters_of_the_next_boot_are_named(tmp_path: Path) -> None:
    world = build(tmp_path, "balanced")
    (tmp_path / "proc/cmdline").write_text("quiet audit=1")
    missing = " ".join(phases.stand(world).missing)
    assert "page_alloc.shuffle=1" in missing and "audit=1" not in missing.split()


def test_told_in_eighty_columns_and_as_json(tmp_path: Path) -> None:
    build(tmp_path, "setup", ("paranoid",))
    told = security(tmp_path, "phase")
    assert (told.returncode, told.stderr) == (0, "")
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "What hardened, profile paranoid has otherwise:" in told.stdout
    assert "Raise it: sudo hv security harden" in told.stdout
    every = security(tmp_path, "phase", "--all").stdout
    assert "    PermitTunnel: not set -> no" in every and "  + init_on_free=1" in every
    document = json.loads(security(tmp_path, "phase", "--json").stdout)
    assert document["running"]["phase"] == "setup" and document["other_changes"]["locked"] == {
        "modules": True
    }


def test_a_system_from_before_there_were_descriptions(tmp_path: Path) -> None:
    build(tmp_path, "setup")
    for file in tmp_path.glob(f"nix/store/*/{table.FILE}"):
        file.unlink()
    document = json.loads(security(tmp_path, "phase", "--json").stdout)
    assert [each["phase"] for each in document["built"]] == ["setup", "hardened"]


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    build(tmp_path, "setup")
    (tmp_path / f"nix/store/setup/{table.FILE}").write_text("{")
    told = security(tmp_path, "phase")
    assert told.returncode == 1 and "cannot be read" in told.stderr


def test_every_phase_file_of_ours_is_known_again(tmp_path: Path) -> None:
    """A profile that stands there is kept through a change of the phase."""
    from hv.firstrun.phase import declaration_for

    world = build(tmp_path, "setup")
    templates = load_templates()
    for each in Phase:
        for profile in (None, *SECURITY_PROFILES):
            (tmp_path / DECLARATION.lstrip("/")).write_text(phase_file(each, templates, profile))
            wanted, found = declaration_for(world, "hardened")
            assert wanted == phase_file(Phase.hardened, templates, profile) and found
    (tmp_path / DECLARATION.lstrip("/")).write_text("{ }\n")
    assert declaration_for(world, "hardened") == (None, "{ }\n")
