"""`hv setup` without a machine: the text it keeps, what it refuses, what it asks, and power cuts between any two writes."""

import fcntl
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hv.commands.setup import PAGES as NAMED
from hv.firstrun.world import Journal, World, write_atomically
from hv.guard.guard import Guard
from hv.setup.change import WORK, Setup
from hv.setup.edit import rewritten, set_field
from hv.setup.pages import FIELDS, PAGES, hashes_apart, summary
from hv.setup.proposal import propose
from hv.setup.record import NEVER, Record, outcomes, records, undone
from installer.answers.schema import node_at
from installer.errors import Exit, HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.migrate.evaluation import Evaluator
from installer.render.host import APPLIED, DECLARATION
from installer.render.templates import load_templates
from installer.render.users import PASSWORDS
from tests.declaration.host import environment, lay_down, setup
from tests.declaration.screens import command, committed, walk
from tests.nixeval.cases import rendered
from tests.terminal import Terminal

CASE = "home-lab"
TEXT = rendered("uefi-luks-btrfs-everything").files[DECLARATION]


def files() -> dict[str, str]:
    return dict(rendered(CASE).files)


def said(text: str, *assignments: str) -> str:
    raw = tomllib.loads(text)
    for each in assignments:
        raw = set_field(raw, each)
    return rewritten(text, raw)


# The text ----------------------------------------------------------------------------------------------------------


def test_a_value_changes_and_nothing_else() -> None:
    mine = TEXT.replace("port = 2222", "# since 2024\nport =   2222 # why: the scanner")
    made = said(mine, "ssh.port=22", "users.bob.shell=fish", "domain=")
    before, after = mine.splitlines(), made.splitlines()
    gone = [line for line in before if line not in after]
    new = [line for line in after if line not in before]
    assert gone == ['domain = "example.org"', 'shell = "zsh"', "port =   2222 # why: the scanner"]
    assert new == ['shell = "fish"', "port =   22 # why: the scanner"]


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(0, 99), st.sampled_from(["a", "b", "ä # x"])),
    lambda inner: st.one_of(
        st.lists(st.sampled_from(["a", "b"]), max_size=2),
        st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, max_size=3),
    ),
    max_leaves=6,
)
TABLES = st.lists(
    st.builds(
        lambda name, more: {"name": name, **more},
        st.sampled_from("pqrs"),
        st.dictionaries(st.sampled_from(["x", "y"]), VALUES, max_size=2),
    ),
    unique_by=lambda each: each["name"],
    max_size=3,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["k", "l", "m", "n"]), st.one_of(VALUES, TABLES), max_size=4)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_any_document_becomes_any_other_or_is_refused(old: dict[str, Any], new: dict[str, Any]) -> None:
    import tomli_w

    text = f"# first\n{tomli_w.dumps(old)}"
    try:
        made = rewritten(text, new)
    except HyperError as error:
        assert "apply" in error.remedy
        return
    assert tomllib.loads(made) == new


@pytest.mark.parametrize(
    ("assignment", "why"),
    [
        ("ssh.port", "no `=`"),
        ("=3", "no `=`"),
        ("users.zoe.admin=true", "alice, bob, carol"),
        ("hostname.x=1", "nothing below"),
    ],
)
def test_an_assignment_that_means_nothing_is_told(assignment: str, why: str) -> None:
    with pytest.raises(HyperError) as caught:
        set_field(tomllib.loads(TEXT), assignment)
    assert (why in caught.value.why, caught.value.code) == (True, Exit.usage)


# The files ---------------------------------------------------------------------------------------------------------


def test_only_what_follows_is_written() -> None:
    there = files()
    proposal = propose(there, said(there[DECLARATION], "timezone=Europe/Zurich"), load_templates())
    assert [each.path for each in proposal.staged] == [DECLARATION, "configuration.nix", APPLIED]
    assert [each.line() for each in proposal.changes] == ['  timezone: "Europe/London" -> "Europe/Zurich"']
    again = {**there, **{each.path: each.text for each in proposal.staged}}
    assert propose(again, again[DECLARATION], load_templates()).staged == ()


def test_lines_of_a_person_are_merged_in() -> None:
    there = files()
    there["users.nix"] = (
        there["users.nix"]
        .replace("  services.openssh = {", "  users.motd = ''mine'';\n  services.openssh = {")
        .replace("\n}\n", "\n}\n# the end\n")
    )
    proposal = propose(
        there, said(there[DECLARATION], "users.anna.full_name=Anna Beispiel"), load_templates()
    )
    made = {each.path: each.text for each in proposal.staged}["users.nix"]
    assert proposal.kept == ("users.nix",)
    assert "users.motd = ''mine'';" in made and "Anna Beispiel" in made and made.endswith("# the end\n")


def test_the_same_lines_changed_by_a_person_are_refused() -> None:
    there = files()
    there["users.nix"] = there["users.nix"].replace("ports = [ 22 ]", "ports = [ 2200 ]")
    with pytest.raises(HyperError, match="lines of yours") as caught:
        propose(there, said(there[DECLARATION], "ssh.port=2222"), load_templates())
    line = there["users.nix"][: there["users.nix"].index("2200")].count("\n") + 1
    assert f"line {line}" in caught.value.why


def test_a_host_without_a_declaration_is_told() -> None:
    there = {path: text for path, text in files().items() if not path.endswith(".toml")}
    with pytest.raises(HyperError, match="no declaration"):
        propose(there, TEXT, load_templates())
    with pytest.raises(HyperError, match="was migrated") as caught:
        propose({**there, "machines/kvm1/hyper-nixos.nix": "{ }"}, TEXT, load_templates())
    assert "hypervisor.features" in caught.value.remedy


def test_another_profile_is_had_as_harden_says() -> None:
    """`hv security harden --profile strict` names this change where the profile is not built."""
    there = files()
    proposal = propose(there, said(there[DECLARATION], "security.profile=strict"), load_templates())
    made = {each.path: each.text for each in proposal.staged}
    assert 'profile = "strict"' in made["hypervisor.nix"] and "phase.nix" not in made


def test_stage_1_is_not_left_with_the_old_network() -> None:
    there = dict(rendered("encrypted-remote").files)
    text = said(there[DECLARATION], 'network.dns=["192.0.2.1"]')
    with pytest.raises(HyperError, match="typed over SSH") as caught:
        propose(there, text, load_templates())
    assert caught.value.code is Exit.lockout


def test_risks_are_told() -> None:
    there = files()
    text = said(
        there[DECLARATION],
        "ssh.port=2222",
        "ssh.password_login=true",
        "hypervisor.risk_tolerance=accepting",
        "hypervisor.features.page-sharing=true",
        'network.dns=["192.0.2.1"]',
        'system.substituters=[{url="https://cache.example.org"}]',
    )
    told = "\n".join(propose(there, text, load_templates()).risks)
    for word in ("network changes", "port 2222", "guessed from afar", "tolerance accepting", "page-sharing (risk high)",
                 "cache.example.org offers may run as root"):  # fmt: skip
        assert word in told


# What is asked -----------------------------------------------------------------------------------------------------


def test_pages_are_what_the_command_says_and_name_fields_of_the_model() -> None:
    assert NAMED == PAGES
    assert all(node_at(path) for paths in FIELDS.values() for path in paths)
    raw = tomllib.loads(TEXT)
    assert all(summary(name, raw) for name in PAGES)


def test_a_typed_password_is_in_no_text() -> None:
    raw, hashes = hashes_apart({"users": [{"name": "bert", "password_hash": "$y$x"}, {"name": "ada"}]})
    assert hashes == {"bert": "$y$x"}
    assert raw["users"][0]["password_hash_file"] == {"file": "/var/lib/hyper-nixos/secrets/passwords/bert"}
    assert "$y$x" not in str(raw)


def test_the_screens_are_as_committed_and_fit(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_down(root)
    with Terminal(command(root), environment(tmp_path)) as terminal:
        seen = dict(walk(terminal))
        assert terminal.end() == 0
    for name, text in seen.items():
        assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 80, name
    assert seen == committed(), "if wanted: python -m tests.declaration.screens"
    assert {path: (root / "etc/nixos" / path).read_text() for path in files()} == files()


def test_line_by_line_a_page_asks_the_same(tmp_path: Path) -> None:
    lay_down(tmp_path / "root")
    lines = ("1", "2222", "2", "8", "10")  # enable, port, no passwords; show, leave
    done = setup(
        tmp_path / "root", "--dry-run", "--plain", "--machine", "tests/machines/workstation", "ssh",
        place=tmp_path, stdin="\n".join(lines) + "\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ssh.port: 22 -> 2222" in done.stdout and "\x1b" not in done.stdout
    assert done.stdout.endswith("Nothing of the host was changed.\n")


# The command -------------------------------------------------------------------------------------------------------


def test_json_says_all_and_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    lay_down(tmp_path / "root")
    done = setup(tmp_path / "root", "--dry-run", "--json", "--set", "ssh.port=2222", place=tmp_path)
    told = json.loads(done.stdout)
    assert (told["version"], told["state"]) == (1, "dry-run")
    assert told["changes"] == [{"field": "ssh.port", "before": 22, "after": 2222}]
    assert told["system"]["ports"] == {"added": ["tcp 2222"], "removed": ["tcp 22"]}
    folder = tmp_path / "root/etc/nixos"
    assert {path: (folder / path).read_text() for path in files()} == files()
    assert not (tmp_path / "root/var").exists()


@pytest.mark.root
def test_what_nix_refuses_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "root")
    with (folder / "users.nix").open("a") as stream:
        stream.write("# broken = true\n")
    done = setup(tmp_path / "root", "--set", "ssh.port=2222", place=tmp_path)
    assert (done.returncode, "attribute 'broken'" in done.stderr) == (Exit.failed, True)
    assert (folder / DECLARATION).read_text() == files()[DECLARATION]


@pytest.mark.root
def test_a_link_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "root")
    (folder / "users.nix").rename(tmp_path / "users.nix")
    (folder / "users.nix").symlink_to(tmp_path / "users.nix")
    done = setup(tmp_path / "root", "--set", "ssh.port=2222", place=tmp_path)
    assert (done.returncode, "users.nix is a link" in done.stderr) == (Exit.failed, True)
    assert (folder / "users.nix").is_symlink()


@pytest.mark.root
def test_two_at_once_are_refused(tmp_path: Path) -> None:
    lay_down(tmp_path / "root")
    work = tmp_path / "root" / WORK.lstrip("/")
    work.mkdir(parents=True)
    with (work / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = setup(tmp_path / "root", "--set", "ssh.port=2222", place=tmp_path)
    assert (done.returncode, "somebody else" in done.stderr) == (Exit.busy, True)


@pytest.mark.parametrize(
    "words",
    [
        ("revert",),
        ("apply", "3"),
        ("apply", "--set", "a=1"),
        ("--json",),
        ("--fast", "apply"),
        ("network", "--json"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = setup(tmp_path, *words, place=tmp_path)
    assert (done.returncode, "does not go together" in done.stderr) == (Exit.usage, True)


def test_hand_edits_that_are_not_in_force_are_shown(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "root")
    (folder / DECLARATION).write_text(files()[DECLARATION].replace("port = 22", "port = 2222"))
    done = setup(tmp_path / "root", "status", place=tmp_path)
    assert "ssh.port: 22 -> 2222" in done.stdout and "hv setup apply" in done.stdout


def test_a_new_persons_hash_lies_where_root_alone_reads_it_and_none_is_replaced(tmp_path: Path) -> None:
    world = World(programs=Runner(NoLog(), "/usr/bin:/bin"), root=tmp_path, journal=Journal())
    hashes = {"bert": "$y$new", "anna": "$y$other", "zoe": "$y$gone"}
    there = Setup(world, Guard(world, "hv"), Evaluator(Runner(NoLog(), "/usr/bin:/bin")), hashes)
    folder = world.path(PASSWORDS)
    folder.mkdir(parents=True)
    (folder / "anna").write_text("$y$hers\n")
    raw = tomllib.loads(files()[DECLARATION])
    raw["users"].append({"name": "bert", "password_hash_file": {"file": f"{PASSWORDS}/bert"}})
    text = rewritten(files()[DECLARATION], raw)
    there._keep_hashes(propose(files(), text, load_templates()).answers)
    assert {each.name: each.read_text() for each in folder.iterdir()} == {
        "anna": "$y$hers\n",
        "bert": "$y$new\n",
    }
    assert (folder / "bert").stat().st_mode & 0o777 == 0o600


# The history -------------------------------------------------------------------------------------------------------


def change(before: str, after: str) -> Record:
    return Record.model_validate(
        {
            "number": 1,
            "at": "2026-01-01T00:00:00Z",
            "who": "ada",
            "summary": "x",
            "before": before,
            "after": after,
        }
    )


def test_a_change_is_undone_and_later_ones_stay() -> None:
    one = said(TEXT, "ssh.port=22", "users.bob.shell=fish")
    two = said(one, "timezone=UTC", "users.carol.full_name=Carol")
    assert undone(two, change(TEXT, one)) == tomllib.loads(
        said(TEXT, "timezone=UTC", "users.carol.full_name=Carol")
    )


def test_what_was_changed_again_since_is_not_undone() -> None:
    one = said(TEXT, "ssh.port=22")
    with pytest.raises(HyperError, match=r"ssh\.port was changed again"):
        undone(said(one, "ssh.port=2200"), change(TEXT, one))


# Power cuts --------------------------------------------------------------------------------------------------------


class PowerCutError(BaseException):
    """Nothing after it happens."""


def test_a_power_cut_between_any_two_writes_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files alone change: the host's system is the same. Cut before each write; run again, it ends as wanted."""
    wanted = said(files()[DECLARATION], "timezone=Europe/Zurich")
    for cut in range(1, 9):
        root = tmp_path / str(cut)
        folder = lay_down(root)
        system = root / "nix/store/system"
        system.mkdir(parents=True)
        (root / "run").mkdir()
        (root / "run/current-system").symlink_to(system)
        world = World(programs=Runner(NoLog(), "/usr/bin:/bin"), root=root, journal=Journal())
        there = Setup(world, Guard(world, "hv"), Evaluator(Runner(NoLog(), "/usr/bin:/bin")))
        left = cut

        def writes(path: Path, text: str, mode: int = 0o644) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise PowerCutError
            write_atomically(path, text, mode)

        monkeypatch.setattr("hv.setup.change.write_atomically", writes)
        monkeypatch.setattr("hv.setup.record.write_atomically", writes)
        before = files()[DECLARATION]
        try:
            with there.alone():
                there.apply(there.propose(wanted), "/nix/store/system", 60, before)
            ended = True
        except PowerCutError:
            ended = False
        # Each file is whole, the old or the new one.
        proposal = propose(files(), wanted, load_templates())
        for each in proposal.staged:
            assert (folder / each.path).read_text() in (each.text, files()[each.path])
        if not ended:
            assert set(outcomes(world, records(world)).values()) <= {NEVER}
            left = 0
            with there.alone():
                again = there.propose(wanted)
                # What says that it was applied comes last: until then the change is still to be made.
                assert again.staged
                there.apply(again, "/nix/store/system", 60, before)
        for each in proposal.staged:
            assert (folder / each.path).read_text() == each.text
        if ended:
            assert cut > 3, "nothing was ever cut"
            return
    raise AssertionError("it never ended")
