"""The form and the table: fields of the model in, answers out; and every row that is wrong is named."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv.cli import dispatch
from installer.answers.load import load
from installer.errors import Exit, HyperError
from installer.serve.fleet import read_fleet
from iso import form
from tests.nixeval.nix import REPOSITORY

BASE = tomllib.loads((REPOSITORY / "examples/home-lab.toml").read_text())
NAMES = [field.name for _, found in form.form() for field in found]


def test_the_form_has_the_fields_of_the_model() -> None:
    assert {"hostname", "storage.disk.serial", "users[0].ssh_keys", "hypervisor.tier", "at_end"} <= set(
        NAMES
    )
    assert len(NAMES) == len(set(NAMES)) > 80
    kinds = {field.name: field for _, found in form.form() for field in found}
    assert kinds["users[0].password_hash"].kind == "secret"
    assert kinds["storage.filesystem"].choices == ("ext4", "xfs", "btrfs", "zfs")
    assert kinds["boot.serial_console"].kind == "text"
    assert kinds["hostname"].required


def test_what_is_filled_in_becomes_answers() -> None:
    values = {
        "hostname": "kvm1",
        "storage.disk.serial": "S1",
        "storage.disk.count": "1",
        "users[0].name": "anna",
        "users[0].admin": "yes",
        "users[0].ssh_keys": "\r\n".join(BASE["users"][0]["ssh_keys"]) + "\r\n\r\n",
        "users[3].name": "otto",
        "domain": "  ",
    }
    answers = form.filled(values)
    assert [user["name"] for user in answers["users"]] == ["anna", "otto"]
    assert "domain" not in answers
    loaded = load(form.text(answers), "answers.toml")
    assert (loaded.hostname, loaded.users[0].admin) == ("kvm1", True)
    assert form.text(form.filled(dict(reversed(values.items())))) != b""


@pytest.mark.parametrize(
    "name", ["hostnme", "users[0].x", "a b", "users[", "__class__", "storage.disk[0].serial.x"]
)
def test_unknown_fields_are_refused(name: str) -> None:
    with pytest.raises(HyperError, match="there is no field"):
        form.filled({name: "x"})


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20), max_size=8))
def test_anything_filled_in_is_taken_or_refused(values: dict[str, str]) -> None:
    try:
        load(form.text(form.filled(values)), "answers.toml")
    except HyperError as error:
        assert error.why or str(error)


TABLE = """name,serial,hostname,storage.disk.serial,users[0].ssh_keys
web1,S-1,,D-1,
web2,S-2,other,D-2,
"""


def test_a_table_becomes_a_fleet(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text(TABLE)
    words = ["--answers", str(REPOSITORY / "examples/home-lab.toml"), "--output", str(tmp_path / "fleet")]
    assert dispatch(["media", "fleet", str(tmp_path / "fleet.csv"), *words]) == Exit.ok
    fleet = read_fleet(tmp_path / "fleet")
    assert [(each.name, each.match.serial) for each in fleet.machines] == [("web1", "S-1"), ("web2", "S-2")]
    hosts = [load((tmp_path / "fleet" / each.answers).read_bytes(), "x").hostname for each in fleet.machines]
    assert hosts == ["web1", "other"]
    assert (tmp_path / "fleet/web1.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("", "has 0 machines"),
        ("name,hostname\na,b\n", "must name each column once"),
        ("name,serial,serial\na,b,c\n", "must name each column once"),
        ("name,serial\na\n", "line 2 (a): the fleet's table is not taken: it has 1 cells"),
        ("name,serial\n../a,1\n", "letters, digits"),
        ("name,serial\na,1\na,2\n", "the name a stands in line 2 too"),
        ("name,serial\na,1\nb,1\n", "the serial 1 stands in line 2 too"),
        ("name,serial,nonsense\na,1,x\n", "there is no field 'nonsense'"),
        ("name,serial,hostname\na,1,not a host\n", "line 2 (a)"),
        ('name,serial\n"a,1\n', "no CSV"),
    ],
)
def test_tables_that_are_wrong(table: str, why: str) -> None:
    with pytest.raises(HyperError, match="table is not taken") as error:
        form.fleet(table, BASE)
    assert why in error.value.why
