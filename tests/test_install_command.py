"""`hv install` without writing: plans, renderings, tokens and refusals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from installer.commands.install import main
from installer.errors import Exit, HyperError
from installer.execute.consent import differences
from installer.plan.planner import make_plan
from installer.plan.token import confirm_token
from tests.plan_cases import answers, blank_disk, machine, medium, storage, used_disk

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Answers, machine and medium as files."""
    made = {
        "answers.json": answers().model_dump_json(exclude_defaults=True),
        "facts.json": machine().model_dump_json(),
        "medium.json": medium().model_dump_json(),
    }
    document = json.loads(made["answers.json"]) | {"version": 1}
    made["answers.json"] = json.dumps(document)
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    return {name.split(".")[0]: str(tmp_path / name) for name in made}


def arguments(files: dict[str, str], *more: str) -> list[str]:
    return ["--answers", files["answers"], "--facts", files["facts"], "--medium", files["medium"], *more]


def test_plan_for_people(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(files, "--plan")) == Exit.ok
    shown = capsys.readouterr().out
    assert confirm_token(make_plan(machine(), answers(), medium())) in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_plan_for_programs_is_the_plan(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(files, "--plan", "--json"))
    first = capsys.readouterr().out
    main(arguments(files, "--plan", "--json"))
    assert capsys.readouterr().out == first
    plan = make_plan(machine(), answers(), medium())
    assert json.loads(first) == {
        "version": 1,
        "token": confirm_token(plan),
        "plan": plan.model_dump(mode="json"),
    }


def test_render_writes_the_configuration(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(files, "--render", str(tmp_path / "out"))) == Exit.ok
    assert "flake.nix" in capsys.readouterr().out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"flake.nix", "configuration.nix", "disks.nix", "users.nix"} <= written


def test_render_into_what_cannot_be_written(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HyperError, match="cannot be written"):
        main(arguments(files, "--render", str(tmp_path / "file/below")))


def test_recorded_machine_is_never_installed(files: dict[str, str]) -> None:
    with pytest.raises(HyperError) as caught:
        main(arguments(files))
    assert caught.value.code == Exit.usage
    assert "--plan" in str(caught.value)


def test_json_needs_plan(files: dict[str, str]) -> None:
    with pytest.raises(HyperError) as caught:
        main(arguments(files, "--json"))
    assert caught.value.code == Exit.usage
    assert "--progress json" in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"version": 1}', "\x00"])
def test_bad_medium_is_refused(files: dict[str, str], tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(HyperError, match="medium's description") as caught:
        main([*arguments(files, "--plan"), "--medium", str(path)])
    assert caught.value.code is Exit.record


@pytest.mark.root
def test_anyone_may_plan_and_only_root_installs(files: dict[str, str]) -> None:
    """As a user without any right: in a user namespace that maps nobody."""

    def as_nobody(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--user", "--", sys.executable, "-m", "hv", "install", *argv],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )

    planned = as_nobody(*arguments(files, "--plan"))
    assert planned.returncode == Exit.ok, planned.stderr
    refused = as_nobody("--answers", files["answers"], "--medium", files["medium"])
    assert refused.returncode == Exit.privilege
    assert "needs root" in refused.stderr


def test_differences_name_what_changed() -> None:
    before = make_plan(machine(), answers(), medium())
    other_answers = make_plan(machine(), answers(timezone="Europe/Vienna"), medium())
    assert differences(before, other_answers) == ["the answers or the medium changed"]
    renamed = make_plan(machine(), answers(hostname="hv2"), medium())
    assert any("hv1" in line and "hv2" in line for line in differences(before, renamed))
    larger = make_plan(machine(blank_disk(size=2_000_398_934_016)), answers(), medium())
    assert any("2000398934016" in line for line in differences(before, larger))
    selector = storage(disk={"serial": "ZA1234AB"})
    used = make_plan(machine(used_disk()), answers(storage=selector), medium())
    assert any("would be lost" in line for line in differences(before, used))
