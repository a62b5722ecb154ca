"""A system for many hosts, installed on a loop device: the host's own data are written, and people made of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.answers.model import Answers
from installer.errors import Exit
from installer.execute.evidence import Wrong
from installer.execute.host_data import check_accounts, check_host_data, write_host_data
from installer.plan import planner
from installer.plan.prebuilt import HOST_DATA
from installer.render.runtime import CREDENTIALS, RuntimeData, runtime_data
from tests.execute.ready import answers_for
from tests.execute.rig import (
    LoopDisk,
    Namespace,
    Rig,
    add_nix,
    namespace,
    prepare,
    rig,
    tiny_system,
    with_closure,
)
from tests.plan_cases import HASH, blank_disk, machine, medium

pytestmark = pytest.mark.root

ODD = "Alice \"$\\{x}\" O''Hara 100% ü"
PEOPLE = [
    {"name": "zoe", "password_hash": HASH, "groups": ["hv-viewers"]},
    {"name": "alice", "full_name": ODD, "admin": True, "password_hash": HASH},
]


class Made:
    """A rig with a system for many hosts."""

    def __init__(self, made: Rig, space: Namespace, disk: LoopDisk) -> None:
        self.rig, self.space, self.disk = made, space, disk
        facts = made.facts(disk)
        given = answers_for(disk, users=PEOPLE, timezone="Europe/Zurich")
        carried = with_closure(tiny_system(made, disk, "", prebuilt=True), "standard")
        prepare(made, facts, given, carried)
        self.answers = Answers.model_validate(given)
        self.plan = planner.make_plan(facts, self.answers, carried)

    def install(self) -> Any:
        return self.space.install(self.rig, "--any-host")

    def inside(self, *argv: str) -> str:
        """A program with the installed disk mounted below /mnt."""
        self.space.run("mount", "-o", "ro", f"{self.disk.link}-part2", "/mnt")
        try:
            return self.space.run(*argv)
        finally:
            self.space.run("umount", "/mnt")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.setattr(planner, "require_fitting", lambda *_: None)
    with rig(tmp_path) as each, namespace() as space:
        add_nix(each)
        yield Made(each, space, each.add_disk())


@pytest.mark.nix
def test_its_people_are_made_by_the_systems_own_sysusers_and_can_log_in(made: Made) -> None:
    done = made.install()
    assert done.returncode == Exit.ok, done.stdout + done.stderr
    passwd = made.inside("cat", "/mnt/etc/passwd").splitlines()
    assert f"alice:x:1000:100:{ODD}:/home/alice:/run/current-system/sw/bin/bash" in passwd
    assert "zoe:x:1001:100::/home/zoe:/run/current-system/sw/bin/bash" in passwd
    groups = {
        row.split(":")[0]: row.split(":")[3] for row in made.inside("cat", "/mnt/etc/group").splitlines()
    }
    assert groups["wheel"] == groups["hv-admins"] == groups["systemd-journal"] == "alice"
    assert groups["hv-viewers"] == "zoe"
    assert sorted(groups["hv-users"].split(",")) == ["alice", "zoe"]
    shadow = made.inside("cat", "/mnt/etc/shadow").splitlines()
    assert [row.split(":")[:2] for row in shadow][1:] == [["alice", HASH], ["zoe", HASH]]
    assert made.inside("stat", "-c", "%a", "/mnt/etc/shadow") == "640"
    assert made.inside("cat", f"/mnt{HOST_DATA}/hostname") == "loop"
    assert made.inside("readlink", "/mnt/etc/localtime") == "/etc/zoneinfo/Europe/Zurich"
    # What the host mounts is what the proof went through, by the link that the system's fstab is.
    assert "by-uuid" in made.inside("cat", f"/mnt{HOST_DATA}/fstab")
    # Its root is found by the partition's type; no hash is where everybody reads.
    table = made.space.run("sfdisk", "--json", made.disk.device)
    assert "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709" in table
    for place in (made.rig.live.log, made.rig.live.journal):
        assert HASH not in place.read_text()
    assert HASH not in done.stdout
    searched = " ".join(f"/mnt{folder}" for folder in ("/nix", "/etc/nixos", HOST_DATA))
    assert made.inside("sh", "-c", f"grep -rlF '{HASH}' {searched} /mnt/etc/shadow") == "/mnt/etc/shadow"


@pytest.mark.nix
def test_killed_between_its_steps_it_goes_on(made: Made) -> None:
    for line in ("switch-to-configuration", "systemd-sysusers"):
        assert made.space.install(made.rig, "--any-host", "--die-at", line).returncode == -9
    done = made.install()
    assert done.returncode == Exit.ok, done.stdout + done.stderr


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, RuntimeData]:
    facts = machine(blank_disk(serial="ONE"))
    answers = Answers.model_validate(
        {
            "version": 1,
            "hostname": "many",
            "storage": {"disk": {"serial": "ONE"}},
            "users": PEOPLE,
            "timezone": "Europe/Zurich",
        }
    )
    data = runtime_data(answers, planner.make_plan(facts, answers, medium()))
    target = tmp_path / "target"
    target.mkdir()
    write_host_data(target, data)
    return target, data


def test_what_is_not_as_it_was_written_is_said(written: tuple[Path, RuntimeData]) -> None:
    target, data = written
    assert check_host_data(target, data)
    assert (target / CREDENTIALS.lstrip("/")).stat().st_mode & 0o777 == 0o700
    place = target / HOST_DATA.lstrip("/") / "hostname"
    place.write_text("other\n")
    with pytest.raises(Wrong, match="hostname"):
        check_host_data(target, data)
    write_host_data(target, data)
    place.chmod(0o666)
    with pytest.raises(Wrong, match="0644"):
        check_host_data(target, data)
    write_host_data(target, data)
    clock = target / "etc/localtime"
    clock.unlink()
    with pytest.raises(Wrong, match="localtime"):
        check_host_data(target, data)
    write_host_data(target, data)
    assert check_host_data(target, data)
    assert str(clock.readlink()) == "/etc/zoneinfo/Europe/Zurich"


GOOD = {
    "passwd": f"alice:x:1000:100:{ODD}:/home/alice:/run/current-system/sw/bin/bash\n"
    "zoe:x:1001:100::/home/zoe:/run/current-system/sw/bin/bash\n",
    "group": "wheel:x:1:alice\nsystemd-journal:x:62:alice\nusers:x:100:\nhv-admins:x:991:alice\n"
    "hv-users:x:992:alice,zoe\nhv-viewers:x:993:zoe\n",
    "shadow": f"alice:{HASH}:1::::::\nzoe:{HASH}:1::::::\n",
}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("passwd", "", "", None),
        ("passwd", "alice:x:1000", "alicia:x:1000", "alice in the target"),
        ("passwd", "1001", "1005", "uid=1001"),
        ("passwd", "/bin/bash\nzoe", "/bin/nologin\nzoe", "nologin"),
        ("group", "wheel:x:1:alice", "wheel:x:1:", "alice in wheel"),
        ("group", "992:alice,zoe", "992:alice", "zoe in hv-users"),
        ("shadow", f"zoe:{HASH}", "zoe:!", "the password of zoe"),
    ],
)
def test_an_account_that_is_not_as_planned_is_said(
    written: tuple[Path, RuntimeData], file: str, old: str, new: str, said: str | None
) -> None:
    target, data = written
    passwords = target / "var/lib/hyper-nixos/secrets/passwords"
    passwords.mkdir()
    for name in ("alice", "zoe"):
        (passwords / name).write_text(HASH)
    for name, text in GOOD.items():
        (target / "etc" / name).write_text(text.replace(old, new) if name == file else text)
    if said is None:
        assert len(check_accounts(target, data)) == 2
        return
    with pytest.raises(Wrong) as failure:
        check_accounts(target, data)
    assert said in str(failure.value)
    assert HASH not in str(failure.value)
