"""`hv answers`, and the files that are made from the model."""

import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.answers.load import load
from installer.answers.problems import AnswersError
from installer.answers.schema import answers_schema, fields
from installer.answers.skeleton import skeleton
from installer.commands.answers import main
from installer.errors import Exit, HyperError
from installer.facts import Facts
from tests import machines
from tests.answers import BAD, EXAMPLES, GOOD, ROOT

MACHINE_OF = {
    "beside-windows": "laptop-bitlocker",
    "home-lab": "lab-bios",
    "workstation-passthrough": "workstation",
    "encrypted-server-unattended": "lab-uefi",
    "encrypted-remote": "lab-uefi",
    "fast-system-big-data": "many-disks",
    "many-disks-zfs": "many-disks",
    "mirror-btrfs-luks": "many-disks",
    "mirror-md-lvm": "many-disks",
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIdwULbT1sBmicY+BuQAax9uWakoQGrJI/raZywv7hUf anna@desk"

Captured = pytest.CaptureFixture[str]


def _record(name: str) -> str:
    return str(machines.MACHINES / name)


# Examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_fits_a_machine(path: Path, capsys: Captured) -> None:
    assert main(["check", str(path), "--machine", _record(MACHINE_OF[path.stem])]) == Exit.ok
    out = capsys.readouterr().out
    assert f"{path}: no problems" in out
    words = " ".join(out.split())
    if path.stem == "beside-windows":
        assert "stays: partition 3, 499 GiB: BitLocker volume" in words
    else:
        assert "everything on it would be destroyed" in words
    assert "in phase hardened: " in out
    assert "SSH by key" in out
    assert max(map(len, out.replace(str(path), path.name).splitlines())) <= 80


def test_examples_do_not_fit_other_machines(capsys: Captured) -> None:
    path = str(ROOT / "examples/workstation-passthrough.toml")
    assert main(["check", path, "--machine", _record("lab-uefi")]) == Exit.selection
    captured = capsys.readouterr()
    assert "does not fit this machine" in captured.out
    assert "storage.disk matches no disk" in captured.err
    assert "(address 03:00.0) matches no device" in captured.err  # both errors, not the first alone


@pytest.mark.parametrize(
    ("machine", "said", "reason"),
    [("lab-uefi", 'boot.firmware = "bios"', "UEFI"), ("lab-bios", 'boot.firmware = "uefi"', "BIOS")],
)
def test_the_firmware_must_fit(
    machine: str, said: str, reason: str, capsys: Captured, tmp_path: Path
) -> None:
    text = (ROOT / "examples/home-lab.toml").read_text()
    (tmp_path / "a.toml").write_text(text.replace("[boot]", f"[boot]\n{said.removeprefix('boot.')}"))
    assert main(["check", str(tmp_path / "a.toml"), "--machine", _record(machine)]) == Exit.unsuitable
    assert reason in capsys.readouterr().err


# Schema and reference ---------------------------------------------------------------------------------------------


def _raw(path: Path) -> Any:
    return json.loads(path.read_text()) if path.suffix == ".json" else tomllib.loads(path.read_text())


def _valid(path: Path) -> bool:
    validator = jsonschema.Draft202012Validator(answers_schema())
    return validator.is_valid(_raw(path))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(answers_schema())
    tables = [answers_schema(), *answers_schema()["$defs"].values()]
    assert all(table["additionalProperties"] is False for table in tables if "properties" in table)


@pytest.mark.parametrize("path", GOOD + EXAMPLES, ids=lambda path: path.stem)
def test_the_schema_admits_good_files(path: Path) -> None:
    assert _valid(path)


@pytest.mark.parametrize(
    "name", ["wrong-types.toml", "unknown-keys.toml", "missing.toml", "odd-values.json"]
)
def test_the_schema_refuses_what_it_can(name: str) -> None:
    path = next(path for path in BAD if path.name == name)
    assert not _valid(path)


@pytest.mark.parametrize(
    ("command", "file"),
    [("schema", "answers.schema.json"), ("reference", "answers.md")],
    ids=["schema", "reference"],
)
def test_generated_files_are_current(command: str, file: str, capsys: Captured) -> None:
    assert main([command]) == Exit.ok
    kept = ROOT / "docs/reference" / file
    assert kept.read_text() == capsys.readouterr().out, f"run: hv answers {command} > docs/reference/{file}"


def test_every_field_has_words_in_the_reference(capsys: Captured) -> None:
    main(["reference"])
    page = capsys.readouterr().out
    for path, node in fields():
        assert f"| `{path[-1]}` |" in page or path[-1] in {"file", "prompt"}, path
        assert node.get("description"), path


# Skeleton ---------------------------------------------------------------------------------------------------------


def _problems(text: str) -> list[str]:
    try:
        load(text.encode(), "new.toml")
    except AnswersError as error:
        return [problem.wrong for problem in error.problems]
    return []


def test_a_new_file_lacks_only_a_disk_and_a_key(capsys: Captured) -> None:
    assert main(["new"]) == Exit.ok
    text = capsys.readouterr().out
    disk, login = _problems(text)
    assert "no condition" in disk
    assert "nobody could log in" in login
    filled = text.replace("ssh_keys = []", f'ssh_keys = ["{KEY}"]').replace("#serial = ", "serial = ", 1)
    assert _problems(filled) == []


def test_a_new_file_names_the_only_free_disk(capsys: Captured, tmp_path: Path) -> None:
    facts = machines.load("lab-uefi")
    only = facts.model_copy(update={"disks": tuple(disk for disk in facts.disks if disk.serial == "DISK0")})
    record = tmp_path / "facts.json"
    record.write_text(only.model_dump_json())
    assert main(["new", "--machine", str(record)]) == Exit.ok
    text = capsys.readouterr().out
    assert tomllib.loads(text)["storage"]["disk"]["serial"] == "DISK0"
    assert len(_problems(text)) == 1


def test_a_new_file_leaves_the_choice_among_disks() -> None:
    facts = machines.load("workstation")
    text = skeleton(facts)
    assert "serial" not in tomllib.loads(text)["storage"]["disk"]
    for disk in facts.disks:
        assert (f'serial = "{disk.serial}"' in text) is not disk.install_medium


def test_serials_that_two_disks_share_are_not_offered() -> None:
    facts = machines.load("workstation")
    twins = tuple(
        disk.model_copy(update={"serial": "SAME"}) for disk in facts.disks if not disk.install_medium
    )
    text = skeleton(facts.model_copy(update={"disks": twins}))
    assert 'serial = "SAME"' not in text
    assert f'wwn = "{twins[0].wwn}"' in text


def test_every_field_of_a_new_file_can_be_uncommented() -> None:
    text = re.sub(r"^#(?! )", "", skeleton(), flags=re.MULTILINE)
    raw = tomllib.loads(text)
    jsonschema.Draft202012Validator(answers_schema()).validate(_without_ellipsis(raw))
    written = set(re.findall(r'^"?([\w@/-]+)"? = ', text, re.MULTILINE)) | set(
        re.findall(r"(\w+)\]+$", text, re.MULTILINE)
    )
    assert {str(path[-1]) for path, _ in fields()} - {"file", "prompt"} <= written


def _without_ellipsis(value: Any) -> Any:
    """Examples that are cut off for reading are no values yet; a SHA-256 is the only one that has a form."""
    match value:
        case dict():
            return {key: _without_ellipsis(inner) for key, inner in value.items() if key != "image_sha256"}
        case list():
            return [_without_ellipsis(inner) for inner in value]
        case _:
            return value


# The command ------------------------------------------------------------------------------------------------------


def test_problems_for_programs(capsys: Captured) -> None:
    path = next(path for path in BAD if path.name == "unknown-keys.toml")
    assert main(["check", str(path), "--json"]) == Exit.answers
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert {problem["field"] for problem in problems} >= {"boot.serial-console", "users[0].sshkeys"}
    assert all(problem["line"] and problem["remedy"] for problem in problems)


def test_a_good_file_for_programs(capsys: Captured) -> None:
    path = ROOT / "examples/home-lab.toml"
    assert main(["check", str(path), "--json", "--machine", _record("lab-bios")]) == Exit.ok
    result = json.loads(capsys.readouterr().out)
    assert result["problems"] == []
    assert result["logins"][0]["ways"]["hardened"] == ["console by password", "SSH by key"]


@pytest.mark.parametrize("name", ["gone.toml", "", "nul\0name"])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(HyperError, match="cannot be read") as caught:
        main(["check", f"{tmp_path}/{name}"])
    assert caught.value.code is Exit.answers


def test_the_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    for path in (ROOT / "examples/home-lab.toml", None):
        data = path.read_bytes() if path else json.dumps(_raw(ROOT / "examples/home-lab.toml")).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main(["check", "-"]) == Exit.ok
    assert "-: no problems" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", "[1]", "\x00", '{"version": 2}'])
def test_a_record_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text(content)
    for record in (tmp_path / "facts.json", tmp_path, tmp_path / "gone"):
        with pytest.raises(HyperError) as caught:
            main(["check", str(ROOT / "examples/home-lab.toml"), "--machine", str(record)])
        assert caught.value.code is Exit.record


def test_facts_in_json_are_a_machine(tmp_path: Path, capsys: Captured) -> None:
    facts: Facts = machines.load("lab-bios")
    (tmp_path / "facts.json").write_text(facts.model_dump_json())
    assert (
        main(["check", str(ROOT / "examples/home-lab.toml"), "--machine", str(tmp_path / "facts.json")])
        == Exit.ok
    )
    assert "vda" in capsys.readouterr().out


def test_the_whole_command_ends_with_its_code() -> None:
    path = next(path for path in BAD if path.name == "lockout.toml")
    command = [
        sys.executable,
        "-c",
        "import sys; from hv.cli import main; sys.exit(main())",
        "answers",
        "check",
        str(path),
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == Exit.lockout
    assert ended.stdout == ""
    assert "nobody could log in as an administrator" in ended.stderr
