"""The parts of the broker that need no libvirt: names, requests, images' heads, roles, limits, the trail, definitions."""

import json
import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydantic import ValidationError

from hv.daemon.limits import Use, require_room, require_snapshot
from hv.daemon.problems import RefusedError, problem
from hv.daemon.roles import ROLES, Caller, Permission, decide
from hv.daemon.settings import Limits, Settings, read_settings
from hv.daemon.store import AUDIT, VMS, Store
from hv.hostd.verbs import Host, answer
from hv.vm.domain import DiskFile, Guest, Placed, domain_xml, mac_of
from hv.vm.domain import Host as Decided
from hv.vm.names import guest_name
from hv.vm.picture import drawn, pixels, png
from hv.vm.qcow2 import head
from hv.vm.seed import seed_iso, user_data
from hv.vm.spec import Attach, CloudInit, Disk, Nic, VmSpec, told
from installer.errors import HyperError
from tests.nixeval import pages

UUID = "5ab0ea5b-07df-4f9e-89f6-1a014be178ff"


# Names.


@pytest.mark.parametrize("name", ["web", "Ünï cödé", "データベース 1", "a" * 64, "web-1_2.3+x@y (old)", "9"])
def test_names_of_any_script_are_taken(name: str) -> None:
    assert guest_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 65,
        "データ" * 21,
        "a/b",
        "../x",
        "-rf",
        ".hidden",
        " a",
        "a ",
        "a\nb",
        "a\0b",
        "a\u202eb",
        "a\u200bb",
        "a<b",
        "a;b",
        "a'b",
        "a\x1b[2J",
    ],
)
def test_names_that_are_paths_flags_or_tricks_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        guest_name(name)


def test_two_ways_to_write_a_name_are_one() -> None:
    assert guest_name("u\u0308") == guest_name("\u00fc")


# Requests.


@pytest.mark.parametrize(
    "field",
    [
        {"xml": "<domain/>"}, {"emulator": "/tmp/x"}, {"kernel": "/etc/shadow"}, {"qemu_args": ["-s"]}, {"nvram": "/etc/x"},
        {"disks": [{"path": "/etc/shadow"}]}, {"disks": [{"volume": "../../etc/shadow"}]}, {"disks": [{"volume": "/etc/shadow"}]},
        {"disks": [{"size": 1 << 30, "pool": "../x"}]}, {"disks": [{"size": 1 << 30, "format": "raw"}]},
        {"disks": [{"image": "x", "volume": "y"}]}, {"disks": [{}]}, {"nics": [{"network": "a b"}]},
        {"nics": [{"bridge": "br0"}]}, {"nics": [{"mac": "01:00:00:00:00:00"}]}, {"iso": "/etc/passwd"}, {"vcpus": 0},
        {"vcpus": "4"}, {"memory": 1}, {"memory": True}, {"firmware": "/x"}, {"os": "<x>"}, {"description": "a\nb"},
        {"cloud_init": {"user": "root; rm"}}, {"cloud_init": {"user_data": "x"}}, {"secure_boot": True, "firmware": "bios"},
        {"tags": ["a b"]}, {"placement": {"cpus": [1]}, "vcpus": 2}, {"host_devices": ["0000:00:00.0"]},
    ],
)  # fmt: skip
def test_requests_with_anything_else_are_refused(field: dict[str, Any]) -> None:
    whole = json.dumps({"name": "x", **field})
    with pytest.raises(ValidationError) as caught:
        VmSpec.model_validate_json(whole)
    assert any(next(iter(field)) in line or "request" in line for line in told(caught.value).splitlines())


@pytest.mark.parametrize(
    "pci", ["01:00.0", "0000:01:00.8", "0000:01:20.0", "../../x", "0000:01:00.0\n", "pci_0000"]
)
def test_addresses_are_whole_addresses(pci: str) -> None:
    with pytest.raises(ValidationError):
        Attach.model_validate_json(json.dumps({"pci": pci}))


def test_a_complaint_names_field_and_value() -> None:
    with pytest.raises(ValidationError) as caught:
        VmSpec.model_validate_json('{"name": "a/b", "vcpus": "x"}')
    assert "name: '/' cannot be in a name" in told(caught.value)
    assert "vcpus: Input should be a valid integer (it is 'x')" in told(caught.value)


# Heads of images.


def qcow2(**changes: Any) -> bytes:
    """The head of an empty qcow2 of 1 MiB."""
    field: dict[str, Any] = {
        "magic": b"QFI\xfb",
        "version": 3,
        "backing": 0,
        "backing_size": 0,
        "bits": 16,
        "size": 1 << 20,
        "crypt": 0,
        "snapshots": 0,
        "incompatible": 0,
        "extensions": b"\0" * 8,
    } | changes
    first = struct.pack(
        ">4sIQIIQIIQQIIQ",
        field["magic"],
        field["version"],
        field["backing"],
        field["backing_size"],
        field["bits"],
        field["size"],
        field["crypt"],
        1,
        0x30000,
        0x10000,
        1,
        field["snapshots"],
        0,
    )
    tail: bytes = field["extensions"]
    return (first + struct.pack(">QQQII", field["incompatible"], 0, 0, 4, 104) + tail).ljust(65536, b"\0")


def test_a_whole_image_is_taken() -> None:
    assert head(qcow2()).size == 1 << 20


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"magic": b"KDMV"}, "not in qcow2"),
        ({"version": 4}, "version 4"),
        ({"backing": 200, "backing_size": 11}, "backing file"),
        ({"backing_size": 11}, "backing file"),
        ({"incompatible": 4}, "external data file"),
        ({"incompatible": 1 << 40}, "not known"),
        ({"incompatible": 2}, "damaged"),
        ({"crypt": 1}, "encrypted"),
        ({"snapshots": 1}, "snapshots"),
        ({"bits": 60}, "clusters"),
        ({"extensions": struct.pack(">II", 0xE2792ACA, 5) + b"qcow2\0\0\0" + b"\0" * 8}, "extension 0xe2792aca"),
        ({"extensions": struct.pack(">II", 0x44415441, 11) + b"/etc/shadow\0" * 2}, "extension 0x44415441"),
        ({"extensions": struct.pack(">II", 0x6803F857, 1 << 31)}, "do not end"),
        ({"size": 0}, "no size"),
    ],
)  # fmt: skip
def test_an_image_that_reaches_for_others_is_not(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        head(qcow2(**changes))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_reason(data: bytes) -> None:
    for each in (data, b"QFI\xfb" + data):
        try:
            assert head(each).size > 0
        except ValueError as error:
            assert str(error)


def test_qemu_agrees(tmp_path: Path) -> None:
    made, layered = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    subprocess.run(("qemu-img", "create", "-q", "-f", "qcow2", made, "7M"), check=True)
    subprocess.run(
        ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", made, layered), check=True
    )
    assert head(made.read_bytes()[:65536]).size == 7 << 20
    with pytest.raises(ValueError, match="backing"):
        head(layered.read_bytes()[:65536])


# Roles.


def caller(*groups: str, uid: int = 1000) -> Caller:
    return Caller(uid, f"user{uid}", frozenset(groups))


def test_roles_are_those_of_the_host() -> None:
    told_to_nix = json.loads(pages.ROLES.read_text())
    ours = {role.name: role for role in ROLES}
    assert ours.keys() == told_to_nix.keys()
    for name, role in told_to_nix.items():
        assert ours[name].group == role["group"]
        assert {str(permission) for permission in ours[name].permissions} == set(role["guests"]), name
        assert ours[name].everybodys is (role["of"] == "all")


def test_who_may_do_what_follows_from_role_and_owner() -> None:
    """Every role, permission and owner, against the table itself."""
    for role in ROLES:
        for permission in Permission:
            for owner in (None, 1000, 1001):
                expected = permission in role.permissions and (
                    role.everybodys or owner == 1000 or permission == "create"
                )
                assert decide(caller(role.group), permission, owner, "x").allowed is expected, (
                    role.name,
                    permission,
                    owner,
                )


def test_no_role_is_no_right_and_root_has_all() -> None:
    for permission in Permission:
        assert not decide(caller("wheel", "libvirtd", "hv-users"), permission, 1000, "x").allowed
        assert decide(caller(uid=0), permission, None, "x").allowed


def test_a_denial_names_permission_object_and_who_grants_it() -> None:
    decision = decide(caller("hv-owners"), Permission.delete, 1001, "web")
    assert "`delete`" in decision.why and "web" in decision.why and "somebody else's" in decision.why
    assert "administrator" in decision.remedy and "hv-admins" in decision.remedy


# Limits.


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "hvd.sqlite")


def vm_row(uuid: str, owner: int, **changes: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": uuid,
        "owner": owner,
        "vcpus": 2,
        "memory": 1 << 30,
        "tags": [],
        "os": "generic",
        "declared": False,
        "created": 0.0,
    } | changes


@pytest.mark.parametrize("what", ["vms", "vcpus", "memory", "disk"])
def test_limits_bind_people_to_the_last_unit_and_not_admins(store: Store, what: str) -> None:
    store.write(sql.insert(VMS).values(**vm_row("a", 1000)), sql.insert(VMS).values(**vm_row("b", 1001)))
    used = {"vms": 1, "vcpus": 2, "memory": 1 << 30, "disk": 0}[what]
    settings = Settings(user=Limits(**{what: used + 5}))
    with store.writing() as connection:
        require_room(connection, settings, caller("hv-owners"), 1000, Use(**{what: 5}))
        with pytest.raises(RefusedError) as caught:
            require_room(connection, settings, caller("hv-owners"), 1000, Use(**{what: 6}))
        require_room(connection, settings, caller("hv-admins"), 1000, Use(**{what: 6}))
        host = Settings(user=Limits(), host=Limits(**{what: 2 * used + 5}))
        require_room(connection, host, caller("hv-admins"), 1000, Use(**{what: 5}))
        with pytest.raises(RefusedError, match="more"):
            require_room(connection, host, caller("hv-admins"), 1000, Use(**{what: 6}))
    assert f"limits.user.{what}" in caught.value.remedy and caught.value.more["limit"] == what


def test_giving_back_is_always_allowed(store: Store) -> None:
    store.write(sql.insert(VMS).values(**vm_row("a", 1000)))
    with store.writing() as connection:
        require_room(connection, Settings(user=Limits(memory=1)), caller("hv-owners"), 1000, Use(memory=-5))


def test_snapshots_are_counted() -> None:
    settings = Settings(user=Limits(snapshots=2))
    require_snapshot(settings, caller("hv-owners"), 1)
    with pytest.raises(RefusedError, match="more snapshots than allowed"):
        require_snapshot(settings, caller("hv-owners"), 2)


def test_settings_that_are_wrong_are_said(tmp_path: Path) -> None:
    file = tmp_path / "hvd.json"
    assert read_settings(file) == Settings()
    file.write_text('{"user": {"vmz": 3}}')
    with pytest.raises(HyperError, match="cannot be read") as caught:
        read_settings(file)
    assert "vmz" in caught.value.why


# The trail.


def audit_row(number: int) -> dict[str, Any]:
    return {
        "actor": 1000,
        "actor_name": "ada",
        "action": "start",
        "target": f"vm{number}",
        "outcome": "succeeded",
        "detail": "",
    }


def test_the_trail_only_grows(store: Store, tmp_path: Path) -> None:
    for number in range(3):
        store.audit(audit_row(number))
    assert store.broken() is None
    for statement in (sql.update(AUDIT).values(target="x"), sql.delete(AUDIT)):
        with pytest.raises(sql.exc.DatabaseError, match="append-only"):
            store.write(statement)
    # Somebody with the file itself can; it does not go unnoticed.
    with sqlite3.connect(tmp_path / "hvd.sqlite") as there:
        there.execute("DROP TRIGGER audit_no_update")
        there.execute("UPDATE audit SET target = 'other' WHERE number = 2")
    assert store.broken() == 2


def test_a_problem_shows_nothing_of_what_nobody_foresaw() -> None:
    body = problem(ValueError("secret"))
    assert "secret" not in json.dumps(body) and body["status"] == 500


# Definitions.


def guest(placed: Placed | None = None, **changes: Any) -> Guest:
    spec = VmSpec(
        **{
            "name": "web <1> & co".replace("<", "(").replace(">", ")").replace("&", "+"),
            "disks": (Disk(size=1 << 30),),
            "nics": (Nic(),),
            **changes,
        }
    )
    disks = (
        DiskFile("/p/a.qcow2", backing="/p/i.qcow2"),
        DiskFile("/p/seed.iso", "raw", kind="seed"),
        DiskFile("/p/m.iso", "raw", "sata", "iso"),
    )
    return Guest(
        spec,
        UUID,
        "ada",
        Decided(changes.get("os") == "kvm", "host-model"),
        disks,
        tuple(mac_of(UUID, number) for number in range(len(spec.nics))),
        placed,
    )


VARIANTS: list[dict[str, Any]] = [
    {"vcpus": 2, "max_vcpus": 6, "memory": 1 << 30, "max_memory": 8 << 30, "screen": "spice"},
    {},
    {"firmware": "bios"},
    {"firmware": "uefi", "secure_boot": True, "tpm": True, "os": "win11"},
    {"nics": (), "memory": 1 << 40, "vcpus": 64},
    {"placed": Placed(0, (1, 2), (0, 3), 1 << 21), "vcpus": 2},
    {"description": "<a> & 'b' \"c\"", "os": "kvm"},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_definitions_are_valid_by_libvirts_schema(changes: dict[str, Any], tmp_path: Path) -> None:
    if shutil.which("virt-xml-validate") is None:
        pytest.fail("virt-xml-validate is missing: ./setup.sh tests libvirt")
    file = tmp_path / "domain.xml"
    file.write_text(domain_xml(guest(**changes)))
    done = subprocess.run(("virt-xml-validate", file, "domain"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_definition_tells_the_format_of_every_disk_to_the_end() -> None:
    root: Any = etree.fromstring(domain_xml(guest()))
    disks = root.findall("devices/disk")
    assert [disk.find("driver").get("type") for disk in disks] == ["qcow2", "raw", "raw"]
    assert disks[0].find("backingStore/format").get("type") == "qcow2"
    assert len(disks[0].find("backingStore/backingStore")) == 0, "nothing below is probed"
    assert root.find("devices/emulator") is None
    assert root.find("devices/graphics/listen").get("type") == "socket"


def test_text_stays_text() -> None:
    hostile = '</description><devices><emulator>/tmp/x</emulator></devices><description a="'
    root: Any = etree.fromstring(domain_xml(guest(description=hostile)))
    assert root.findtext("description") == hostile
    assert len(root.findall("devices")) == 1 and root.find("devices/emulator") is None


def test_cloud_init_is_json_so_that_no_text_becomes_a_key() -> None:
    hostile = "ssh-ed25519 AAAA x\\nruncmd: [rm]"
    text = user_data(CloudInit(user="ada", keys=(hostile,)), "web")
    assert text.startswith("#cloud-config\n")
    config = json.loads(text.partition("\n")[2])
    assert config["users"][1]["ssh_authorized_keys"] == [hostile] and "runcmd" not in config
    iso = seed_iso(CloudInit(user="ada"), instance=UUID, hostname="web")
    assert iso[32808:32814] == b"cidata" and UUID.encode() in iso


# hv-hostd.


@pytest.mark.parametrize(
    "request_",
    [
        None, [], "x", {}, {"verb": "run"}, {"verb": "console-log"}, {"verb": "console-log", "uuid": UUID, "lines": 0},
        {"verb": "console-log", "uuid": "../../etc/shadow", "lines": 5}, {"verb": "console-log", "uuid": UUID + "\n", "lines": 5},
        {"verb": "console-log", "uuid": UUID, "lines": 5, "path": "/etc/shadow"}, {"verb": "console-log", "uuid": 5, "lines": 5},
        {"verb": "qemu-log", "uuid": UUID, "name": "../x", "lines": 5}, {"verb": "qemu-log", "uuid": UUID, "name": "..", "lines": 5},
        {"verb": "device-verdict", "pci": "/sys"}, {"verb": ["console-log"]},
    ],
)  # fmt: skip
def test_hostd_takes_nothing_but_its_verbs(request_: object, tmp_path: Path) -> None:
    assert "error" in answer(Host(tmp_path), request_)


def test_hostd_follows_no_link(tmp_path: Path) -> None:
    logs = tmp_path / "var/log/libvirt/qemu"
    logs.mkdir(parents=True)
    asked = {"verb": "console-log", "uuid": UUID, "lines": 2}
    assert answer(Host(tmp_path), asked) == {"exists": False, "text": ""}
    (logs / f"{UUID}-console.log").write_text("a\nb\nc\n")
    assert answer(Host(tmp_path), asked) == {"exists": True, "text": "b\nc"}
    (logs / f"{UUID}-console.log").unlink()
    (logs / f"{UUID}-console.log").symlink_to("/etc/passwd")
    assert "error" in answer(Host(tmp_path), asked)


# Pictures.


def test_a_picture_comes_back_as_it_was() -> None:
    points = bytes(
        (column * 7 + row * 13 + colour) % 256
        for row in range(9)
        for column in range(11)
        for colour in range(3)
    )
    assert pixels(png(11, 9, points)) == (11, 9, points)
    assert pixels(b"P6\n11 9\n255\n" + points) == (11, 9, points)
    text = drawn(11, 9, points, 40, 20)
    assert text.count("▀") == 11 * 4 and text.count("\n") == 3


@pytest.mark.parametrize(
    "data", [b"", b"P6\n9 9\n255\n123", b"\x89PNG\r\n\x1a\n", png(1, 1, b"abc")[:-20], b"GIF89a"]
)
def test_what_is_no_picture_is_said(data: bytes) -> None:
    with pytest.raises(HyperError, match="cannot be read"):
        pixels(data)


def test_every_filter_of_png_is_undone() -> None:
    points = [bytes((row * 31 + index * 17) % 256 for index in range(15)) for row in range(5)]
    raw, before = b"", bytes(15)
    for kind, row in enumerate(points):
        line = bytearray()
        for index, value in enumerate(row):
            left, up, corner = (
                (row[index - 3] if index > 2 else 0),
                before[index],
                (before[index - 3] if index > 2 else 0),
            )
            near = left + up - corner
            paeth = min((left, up, corner), key=lambda each: abs(near - each))
            line.append((value - (0, left, up, (left + up) // 2, paeth)[kind]) % 256)
        raw += bytes([kind]) + line
        before = row
    whole = png(5, 5, b"".join(points))
    at = whole.index(b"IDAT")
    packed = zlib.compress(raw)
    body = b"IDAT" + packed
    file = (
        whole[: at - 4]
        + struct.pack(">I", len(packed))
        + body
        + struct.pack(">I", zlib.crc32(body))
        + png(1, 1, b"abc")[-12:]
    )
    assert pixels(file) == (5, 5, b"".join(points))


# The command line.

SLOW = (
    "jinja2",
    "lxml",
    "pydantic",
    "rich",
    "sqlalchemy",
    "fastapi",
    "typing",
    "http",
    "pathlib",
    "libvirt",
)


@pytest.mark.parametrize("words", [("list",), ("show", "web"), ("start", "web"), ("create", "web")])
def test_quick_commands_import_no_framework(words: tuple[str, ...]) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from hv.commands import vm\n"
        "from installer.errors import HyperError\n"
        f"try: vm.main({list(words)!r})\nexcept HyperError: pass\n"
        f"print([name for name in {SLOW!r} if name in sys.modules and name not in before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"HV_SOCKET": "/nonexistent"},
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
