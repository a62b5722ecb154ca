"""What an ordinary user cannot do, tried as one: with virsh, with libvirt itself, with raw requests to hvd, with files.

ada and eve make guests (hv-owners), oscar runs those of others, vic and audra look, bob has no role. None has sudo.
After every attempt the host's own file is as it was, and the life of guests still works without sudo.
"""

import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hv.daemon.uploads import MOST
from hv.vm.qcow2 import HEAD
from tests.broker import BrokerHost, Ran, broker_host, wait_for

pytestmark = pytest.mark.libvirt
SECRET = b"root:the host's own\n"
RAW = """
import json, sys
from hv.client import Client
method, where, body, headers = json.load(sys.stdin)
answer = Client().open(method, where, None if body is None else body.encode("latin-1"), headers)
print(json.dumps({"status": answer.status, "body": answer.body().decode("latin-1")}))
"""
"""Sends any request to hvd, as whoever runs it."""
EVIL = """<domain type='qemu'><name>evil</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type machine='q35'>hvm</type></os><devices>%s</devices></domain>"""


@pytest.fixture(scope="module")
def host() -> Iterator[BrokerHost]:
    with broker_host() as made:
        secret = made.path("/var/lib/libvirt/secret")
        secret.write_bytes(SECRET)
        secret.chmod(0o600)
        for who, name in (("ada", "adas"), ("eve", "eves")):
            made.hv(
                who,
                "vm",
                "create",
                name,
                "--size",
                "8M",
                "--memory",
                "64M",
                "--firmware",
                "bios",
                "--network",
                "none",
            )
        yield made
        # Whatever was tried in this file: nothing came of it.
        assert (
            secret.read_bytes() == SECRET
            and secret.stat().st_uid == 0
            and secret.stat().st_mode & 0o777 == 0o600
        )
        with made.libvirt() as connection:
            assert sorted(domain.name() for domain in connection.listAllDomains(0)) == ["adas", "eves"]


def raw(
    host: BrokerHost, who: str, method: str, where: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """Status and answer of any request."""
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    ran = host.run_as(who, sys.executable, "-c", RAW, stdin=json.dumps([method, where, text, headers]))
    assert ran.status == 0, ran.err
    got = json.loads(ran.out)
    try:
        return got["status"], json.loads(got["body"])
    except ValueError:
        return got["status"], got["body"]


def refused(
    host: BrokerHost, who: str, method: str, where: str, body: Any = None, *, kind: str, **headers: str
) -> Any:
    """The problem that a request ends in, which must be of that kind."""
    status, answer = raw(host, who, method, where, body, **headers)
    assert 400 <= status < 500, (status, answer)
    assert answer["type"].endswith(f":{kind}"), answer
    assert answer["title"] and answer["detail"] and answer["remedy"], answer
    return answer


# libvirt's own ways in.


def virsh(host: BrokerHost, who: str, *words: str) -> Ran:
    return host.run_as(who, "virsh", "--connect", "qemu:///system", *words)


@pytest.mark.parametrize("who", ["ada", "oscar", "audra", "bob", "alma"])
@pytest.mark.parametrize(
    "words",
    [
        ("list", "--all"),
        ("--readonly", "list", "--all"),
        ("save", "adas", "/etc/cron.d/pwn"),
        ("dumpxml", "eves"),
        ("qemu-monitor-command", "adas", "{}"),
    ],
)
def test_virsh_reaches_nothing(host: BrokerHost, who: str, words: tuple[str, ...]) -> None:
    ran = virsh(host, who, *words)
    assert ran.status != 0 and "Permission denied" in ran.err, ran
    assert virsh(host, "root", "list", "--all").status == 0, "and it would, for root"


@pytest.mark.parametrize(
    "devices",
    [
        "<emulator>/tmp/evil.sh</emulator>",
        "<disk type='file'><source file='/var/lib/libvirt/secret'/><target dev='vda'/></disk>",
        "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/><product id='0x1'/></source></hostdev>",
    ],
)
def test_libvirt_itself_defines_nothing(host: BrokerHost, devices: str) -> None:
    code = "import libvirt, sys; libvirt.open('qemu:///system').defineXML(sys.stdin.read())"
    ran = host.run_as("ada", sys.executable, "-c", code, stdin=EVIL % devices)
    assert ran.status != 0 and "Permission denied" in ran.err


@pytest.mark.parametrize(
    "path",
    [
        "/run/libvirt/libvirt-sock",
        "/run/libvirt/libvirt-sock-ro",
        "/run/libvirt/libvirt-admin-sock",
        "/run/libvirt/virtlogd-sock",
        "/run/hv-hostd/hv-hostd.sock",
    ],
)
def test_sockets_are_closed_to_people(host: BrokerHost, path: str) -> None:
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    ran = host.run_as("alma", sys.executable, "-c", code)
    assert ran.status != 0 and ("Permission" in ran.err or "No such file" in ran.err), ran.err
    if "No such file" in ran.err:
        assert not host.path(path).exists()


def test_without_a_role_nobody_even_connects(host: BrokerHost) -> None:
    ran = host.hv("bob", "vm", "list", status=10)
    assert "You may not speak to hvd" in ran.err and "group hv-users" in ran.err


# Requests with what only root may say.


@pytest.mark.parametrize(
    "more",
    [
        {"emulator": "/tmp/evil.sh"},
        {"xml": EVIL % ""},
        {"qemu:commandline": ["-chardev", "file,path=/etc/x"]},
        {"kernel": "/var/lib/libvirt/secret", "initrd": "/etc/shadow"},
        {"loader": "/tmp/x", "nvram": "/etc/cron.d/pwn"},
        {"filesystems": [{"source": "/", "target": "root"}]},
        {"hostdevs": ["0000:00:00.0"]},
        {"disks": [{"path": "/var/lib/libvirt/secret"}]},
        {"disks": [{"volume": "../secret"}]},
        {"disks": [{"volume": "/var/lib/libvirt/secret"}]},
        {"disks": [{"size": 1 << 20, "backing": "/etc/shadow"}]},
        {"disks": [{"size": 1 << 20, "pool": "/etc"}]},
        {"disks": [{"size": 1 << 20, "format": "raw"}]},
        {"nics": [{"bridge": "br0"}]},
        {"nics": [{"network": "default", "script": "/tmp/x"}]},
        {"serial": {"file": "/etc/cron.d/pwn"}},
        {"graphics": {"listen": "0.0.0.0"}},
        {"description": "</description><devices><emulator>/tmp/x</emulator></devices>\n"},
    ],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
def test_fields_that_do_not_exist_are_refused(host: BrokerHost, more: dict[str, Any]) -> None:
    answer = refused(host, "ada", "POST", "/1/vms", {"name": "escape", **more}, kind="invalid")
    assert next(iter(more)) in answer["detail"]


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "a/b", "-h", ".x", "x\n", "x\u202e", "<emulator/>", "x'\"", "x" * 4000]
)
def test_names_are_no_way_out(host: BrokerHost, name: str) -> None:
    refused(host, "ada", "POST", "/1/vms", {"name": name, "disks": [{"size": 1 << 20}]}, kind="invalid")


def test_a_definition_that_is_huge_is_not_even_read(host: BrokerHost) -> None:
    refused(
        host,
        "ada",
        "POST",
        "/1/vms",
        json.dumps({"name": "x", "description": "a" * (2 << 20)}),
        kind="too-large",
    )
    deep = "[" * 100_000
    refused(host, "ada", "POST", "/1/vms", deep, kind="invalid")
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/shadow">]><a>&b;</a>'
    refused(host, "ada", "POST", "/1/vms", bomb, kind="invalid")
    assert host.hv("ada", "vm", "list").out


def test_volumes_that_hvd_did_not_make_are_nobodys(host: BrokerHost) -> None:
    """A link, a raw file with a qcow2 header that names the secret, a file of root's: all in the pool, none given out."""
    pool = host.path("/var/lib/libvirt/images")
    (pool / "link.qcow2").symlink_to("/var/lib/libvirt/secret")
    (pool / "hard.qcow2").hardlink_to(host.path("/var/lib/libvirt/secret"))
    (pool / "plain.qcow2").write_bytes(b"x" * 512)
    try:
        for name in ("link.qcow2", "hard.qcow2", "plain.qcow2"):
            refused(
                host,
                "ada",
                "POST",
                "/1/vms",
                {"name": "escape", "disks": [{"volume": name}]},
                kind="no-such-volume",
            )
            refused(
                host, "ada", "POST", "/1/vms/adas/attach", {"disk": {"volume": name}}, kind="no-such-volume"
            )
            refused(host, "ada", "GET", f"/1/volumes/default/{name}/content", kind="no-such-volume")
            refused(host, "ada", "DELETE", f"/1/volumes/default/{name}", kind="no-such-volume")
    finally:
        for name in ("link.qcow2", "hard.qcow2", "plain.qcow2"):
            (pool / name).unlink()


def test_a_link_put_in_a_disks_place_is_seen(host: BrokerHost) -> None:
    """Only root could; but if it happened, the broker would not hand the target out."""
    name = host.hv("ada", "vm", "show", "adas", "--json").json["disks"][0]["volume"]["name"]
    disk = host.path(f"/var/lib/libvirt/images/{name}")
    kept = disk.with_suffix(".kept")
    disk.rename(kept)
    disk.symlink_to("/var/lib/libvirt/secret")
    try:
        ran = host.hv("ada", "vm", "clone", "adas", "copy", status=None)
        assert ran.status != 0
        assert (
            host.run_as(
                "ada",
                sys.executable,
                "-c",
                RAW,
                stdin=json.dumps(["GET", f"/1/volumes/default/{name}/content", None, {}]),
            ).out.find("the host's own")
            < 0
        )
    finally:
        disk.unlink()
        kept.rename(disk)


def test_the_pool_is_closed_to_people(host: BrokerHost) -> None:
    for command in (
        "ls /var/lib/libvirt/images",
        "touch /var/lib/libvirt/images/x.qcow2",
        "ln -s /etc/shadow /var/lib/libvirt/images/y",
        "cat /var/lib/hvd/hvd.sqlite",
        "ls /var/log/libvirt/qemu",
    ):
        assert host.run_as("ada", "sh", "-c", command).status != 0, command


# Images.


def announced(host: BrokerHost, data: bytes, who: str = "ada", **about: Any) -> tuple[int, Any]:
    """An image is announced; what is to come is this unless something else is said."""
    asked = {"name": "bad", "length": len(data), "sha256": hashlib.sha256(data).hexdigest(), **about}
    return raw(host, who, "POST", "/1/images", asked)


def sent(host: BrokerHost, upload: str, data: bytes, at: int | str = 0, who: str = "ada") -> tuple[int, Any]:
    """Bytes for what was announced."""
    return raw(
        host, who, "PATCH", f"/1/uploads/{upload}", data.decode("latin-1"), **{"Upload-Offset": str(at)}
    )


def image_put(host: BrokerHost, data: bytes, **about: Any) -> tuple[int, Any]:
    """An image is announced and sent; the first answer that is a refusal, else the operation at its end."""
    status, answer = announced(host, data, **about)
    if status != 202:
        return status, answer
    operation = answer["operation"]["id"]
    status, answer = sent(host, operation, data)
    _, ended = raw(host, "ada", "GET", f"/1/operations/{operation}?wait=60")
    if status != 200:
        assert ended["operation"]["error"]["type"] == answer["type"], "the operation ends with what is told"
        return status, answer
    return ended["operation"]["error"]["status"] if ended["operation"]["error"] else 200, ended["operation"]


def whole(tmp_path: Path, size: str = "1M") -> bytes:
    """An image that is as it should be."""
    file = tmp_path / "whole.qcow2"
    subprocess.run(("qemu-img", "create", "-q", "-f", "qcow2", file, size), check=True)
    return file.read_bytes()


@pytest.fixture
def begun(host: BrokerHost, tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    """ada's upload, whose head is there and whose end is not."""
    data = whole(tmp_path)
    status, answer = announced(host, data, name="half")
    assert status == 202, answer
    upload = answer["operation"]["id"]
    status, answer = sent(host, upload, data[:HEAD])
    assert (status, answer["received"]) == (200, HEAD)
    yield upload, data
    raw(host, "ada", "DELETE", f"/1/operations/{upload}")
    wait_for("what is left of it to go", lambda: not list(pool(host).glob(f"{upload}*")))


def pool(host: BrokerHost) -> Path:
    return host.path("/var/lib/libvirt/images")


def layered(target: str, tmp_path: Path) -> bytes:
    file = tmp_path / "layered.qcow2"
    subprocess.run(
        ("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", target, file, "1M"), check=True
    )
    return file.read_bytes()


def test_an_image_with_a_backing_file_is_refused(host: BrokerHost, tmp_path: Path) -> None:
    status, answer = image_put(host, layered("/var/lib/libvirt/secret", tmp_path))
    assert status == 422 and "backing file" in answer["detail"]


def test_an_image_with_a_data_file_is_refused(host: BrokerHost, tmp_path: Path) -> None:
    file, data = tmp_path / "a.qcow2", tmp_path / "secret"
    subprocess.run(
        ("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={data}", file, "1M"), check=True
    )
    status, answer = image_put(host, file.read_bytes())
    assert status == 422 and "data file" in answer["detail"]


@pytest.mark.parametrize(
    "data",
    [SECRET, b"KDMV" + bytes(600), b"# Disk DescriptorFile\n" + bytes(600), b"QFI\xfb" + bytes(600)],
)
def test_other_formats_are_not_images(host: BrokerHost, data: bytes) -> None:
    status, answer = image_put(host, data)
    assert status == 422 and answer["type"].endswith("unfit-image")


def test_an_iso_that_is_a_disk_is_refused(host: BrokerHost, tmp_path: Path) -> None:
    status, _ = image_put(host, layered("/etc/shadow", tmp_path).ljust(0x9000, b"\0"), kind="iso")
    assert status == 422


@pytest.mark.parametrize(
    "about",
    [
        {"name": "../../etc/x"},
        {"name": ".."},
        {"name": "a\nb"},
        {"name": "x\0"},
        {"name": "a/b"},
        {"pool": "../x"},
        {"pool": "/etc"},
        {"os": "a/b"},
        {"kind": "staged"},
        {"length": 0},
        {"length": -1},
        {"length": 1 << 62},
        {"length": "1"},
        {"sha256": "x"},
        {"sha256": "../../../../etc/shadow"},
        {"source": "a\x1b[2Jb"},
        {"volume": "x.qcow2"},
        {"path": "/etc/shadow"},
    ],
    ids=str,
)
def test_an_image_is_announced_with_typed_fields_alone(
    host: BrokerHost, tmp_path: Path, about: dict[str, Any]
) -> None:
    status, answer = announced(host, whole(tmp_path), **about)
    assert status == 422 and next(iter(about)) in answer["detail"], answer


def test_a_pool_that_is_not_there_is_refused_before_anything_is_sent(
    host: BrokerHost, tmp_path: Path
) -> None:
    status, answer = announced(host, whole(tmp_path), pool="nowhere")
    assert status == 404 and answer["type"].endswith("no-such-pool")


def test_an_image_is_what_its_sum_says_or_none(host: BrokerHost, tmp_path: Path) -> None:
    before = sorted(pool(host).iterdir())
    data = whole(tmp_path)
    status, operation = image_put(host, data, sha256=hashlib.sha256(data + b"x").hexdigest())
    assert status == 422 and operation["error"]["type"].endswith("altered-image")
    assert sorted(pool(host).iterdir()) == before
    assert host.hv("ada", "vm", "create", "x", "--image", "bad", "--dry-run", status=4).err


def test_an_upload_is_for_whoever_brings_it_alone(host: BrokerHost, begun: tuple[str, bytes]) -> None:
    upload, data = begun
    for who in ("eve", "vic", "oscar", "audra", "alma"):
        status, answer = sent(host, upload, data[HEAD:], HEAD, who)
        assert status == 403 and answer["permission"] == "create" and answer["remedy"], (who, answer)
        refused(host, who, "GET", f"/1/uploads/{upload}", kind="denied")
    for who in ("eve", "oscar", "vic", "audra"):
        refused(host, who, "DELETE", f"/1/operations/{upload}", kind="denied")
    last = host.hv("audra", "auth", "log", "--json").json["rows"][-1]
    assert (last["outcome"], last["actor_name"]) == ("denied", "audra")
    # Nobody takes its name, or its place, meanwhile.
    status, answer = announced(host, data, "eve", name="half")
    assert status == 409 and answer["type"].endswith("busy")
    status, answer = announced(host, data, name="half", sha256="0" * 64)
    assert status == 409 and answer["type"].endswith("busy")
    assert raw(host, "ada", "GET", f"/1/uploads/{upload}")[1]["received"] == HEAD


def test_what_is_there_is_never_written_over(
    host: BrokerHost, begun: tuple[str, bytes], tmp_path: Path
) -> None:
    """The head that was looked at stays the head."""
    upload, data = begun
    evil = layered("/var/lib/libvirt/secret", tmp_path)
    for at in (0, 1, HEAD - 1, HEAD + 1, len(data), -1, "", "+65536", "0x10000", 1 << 70):
        status, answer = sent(host, upload, evil, at)
        assert status == 409 and answer["received"] == HEAD, (at, answer)
    status, answer = sent(host, upload, data[HEAD:] + b"x", HEAD)
    assert status == 413 and answer["type"].endswith("too-long")
    stored = pool(host) / f"{upload}-image.qcow2"
    assert stored.read_bytes()[:HEAD] == data[:HEAD] and stored.stat().st_size == len(data)
    assert stored.stat().st_mode & 0o777 == 0o600


def test_a_head_that_comes_in_pieces_is_waited_for(host: BrokerHost, tmp_path: Path) -> None:
    """Nothing is made, and nothing counts, before all of it was looked at."""
    data = layered("/var/lib/libvirt/secret", tmp_path)
    before = sorted(pool(host).iterdir())
    upload = announced(host, data, name="pieces")[1]["operation"]["id"]
    for piece in (data[:4], data[:1000], b""):
        status, answer = sent(host, upload, piece)
        assert status == 400 and answer["type"].endswith("too-short")
    assert raw(host, "ada", "GET", f"/1/uploads/{upload}")[1]["received"] == 0
    assert sorted(pool(host).iterdir()) == before
    status, answer = sent(host, upload, data)
    assert status == 422 and "backing file" in answer["detail"]
    assert sorted(pool(host).iterdir()) == before


def test_what_is_not_whole_is_no_disk_and_no_image(host: BrokerHost, begun: tuple[str, bytes]) -> None:
    upload, _ = begun
    name = f"{upload}-image.qcow2"
    bodies = ({"image": "half"}, {"volume": name})
    for body, kind in zip(bodies, ("no-such-image", "no-such-volume"), strict=True):
        refused(host, "ada", "POST", "/1/vms", {"name": "x", "disks": [body]}, kind=kind)
        refused(host, "ada", "POST", "/1/vms/adas/attach", {"disk": body}, kind=kind)
    refused(host, "ada", "GET", f"/1/volumes/default/{name}/content", kind="no-such-volume")
    refused(host, "ada", "DELETE", f"/1/volumes/default/{name}", kind="no-such-volume")
    refused(host, "alma", "POST", "/1/images/half/publish", kind="no-such-image")
    refused(host, "ada", "DELETE", "/1/images/half", kind="no-such-image")
    assert name not in host.hv("ada", "vm", "disks").out


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_link_in_the_place_of_an_upload_is_not_written_through(
    host: BrokerHost, begun: tuple[str, bytes], link: str
) -> None:
    """Only root could put it there; but if it happened, the target would stay as it is."""
    upload, data = begun
    stored, target = pool(host) / f"{upload}-image.qcow2", host.path("/var/lib/libvirt/victim")
    stored.unlink()
    target.write_bytes(data)
    if link == "symbolic":
        stored.symlink_to("/var/lib/libvirt/victim")
    else:
        stored.hardlink_to(target)
    try:
        status, answer = sent(host, upload, b"\xff" * (len(data) - HEAD), HEAD)
        assert status == 403 and answer["type"].endswith("strange-volume"), answer
        assert target.read_bytes() == data
    finally:
        stored.unlink(missing_ok=True)
        target.unlink()


def test_an_upload_ends_with_its_operation(host: BrokerHost, begun: tuple[str, bytes]) -> None:
    upload, data = begun
    assert raw(host, "ada", "DELETE", f"/1/operations/{upload}")[1]["operation"]["status"] == "cancelled"
    status, answer = sent(host, upload, data[HEAD:], HEAD)
    assert status == 404 and answer["type"].endswith("no-such-upload")
    for nonsense in ("x", "..", "00000000-0000-4000-8000-000000000000"):
        refused(host, "ada", "GET", f"/1/uploads/{nonsense}", kind="no-such-upload")
    # An operation of another kind is no upload.
    other = raw(host, "ada", "POST", "/1/vms/adas/tag", {"add": ["x"]})[1]["operation"]["id"]
    assert sent(host, other, data)[0] == 404


def test_nobody_brings_without_end(host: BrokerHost, tmp_path: Path) -> None:
    data, begun = whole(tmp_path), []
    for number in range(MOST):
        status, answer = announced(host, data, name=f"many{number}")
        assert status == 202
        begun.append(answer["operation"]["id"])
    status, answer = announced(host, data, name="onemore")
    assert status == 429 and "too many" in answer["title"] and "hv vm cancel" in answer["remedy"]
    for each in begun:
        raw(host, "ada", "DELETE", f"/1/operations/{each}")
    wait_for("them to end", lambda: announced(host, data, name="onemore")[0] == 202)
    with_id = next(
        row["id"]
        for row in host.hv("ada", "vm", "operations", "--json").json["operations"]
        if row["ended"] is None
    )
    host.hv("ada", "vm", "cancel", with_id)


# Guests of others.


@pytest.mark.parametrize(
    "asked",
    [
        ("eve", "GET", "/1/vms/adas", None, "show"),
        ("eve", "POST", "/1/vms/adas/start", {}, "start"),
        ("eve", "POST", "/1/vms/adas/delete", {}, "delete"),
        ("eve", "POST", "/1/vms/adas/clone", {"name": "stolen"}, "backup"),
        ("eve", "POST", "/1/vms/adas/rename", {"name": "mine"}, "change"),
        ("eve", "GET", "/1/vms/adas/console", None, "console"),
        ("eve", "GET", "/1/vms/adas/screen", None, "console"),
        ("eve", "GET", "/1/vms/adas/screen/vnc", None, "console"),
        ("eve", "POST", "/1/vms/adas/screen/vnc", "x", "console"),
        ("vic", "POST", "/1/vms/adas/screen/vnc", None, "console"),
        ("eve", "GET", "/1/vms/adas/logs", None, "console"),
        ("eve", "GET", "/1/vms/adas/stats", None, "statistics"),
        ("eve", "GET", "/1/vms/adas/snapshots", None, "show"),
        ("eve", "POST", "/1/vms/adas/attach", {"disk": {"size": 1 << 20}}, "change"),
        ("oscar", "POST", "/1/vms/adas/delete", {}, "delete"),
        ("oscar", "POST", "/1/vms/adas/resize", {"vcpus": 2}, "change"),
        ("oscar", "POST", "/1/vms", {"name": "mine", "disks": [{"size": 1 << 20}]}, "create"),
        ("vic", "POST", "/1/vms/adas/start", {}, "start"),
        ("vic", "GET", "/1/vms/adas/console", None, "console"),
        ("vic", "GET", "/1/audit", None, "history"),
        ("audra", "POST", "/1/vms/adas/stop", {}, "stop"),
        ("ada", "GET", "/1/audit", None, "history"),
        ("ada", "GET", "/1/can-i?verb=start&object=adas&as=eve", None, "roles"),
        ("ada", "POST", "/1/vms/adas/attach", {"pci": "0000:00:1f.2"}, "devices"),
        ("ada", "POST", "/1/vms/adas/attach", {"usb": "1d6b:0002"}, "devices"),
        ("ada", "POST", "/1/images", {"name": "pub", "length": 9, "sha256": "0" * 64, "public": True}, "pools"),
        ("vic", "POST", "/1/images", {"name": "new", "length": 9, "sha256": "0" * 64}, "create"),
    ],
)  # fmt: skip
def test_what_a_role_does_not_allow_is_denied_with_its_name(
    host: BrokerHost, asked: tuple[str, str, str, Any, str]
) -> None:
    who, method, where, body, permission = asked
    answer = refused(host, who, method, where, body, kind="denied")
    assert answer["permission"] == permission and answer["object"] and "administrator" in answer["remedy"], (
        answer
    )


def test_a_denial_is_written_down(host: BrokerHost) -> None:
    refused(host, "eve", "POST", "/1/vms/adas/stop", {}, kind="denied")
    last = host.hv("audra", "auth", "log", "--json").json
    assert last["whole"]
    assert {"actor_name": "eve", "action": "stop", "target": "adas", "outcome": "denied"}.items() <= last[
        "rows"
    ][-1].items()


def test_disks_of_others_are_not_for_the_taking(host: BrokerHost) -> None:
    name = host.hv("ada", "vm", "show", "adas", "--json").json["disks"][0]["volume"]["name"]
    for body in ({"name": "thief", "disks": [{"volume": name}]},):
        refused(host, "eve", "POST", "/1/vms", body, kind="denied")
    refused(host, "eve", "POST", "/1/vms/eves/attach", {"disk": {"volume": name}}, kind="denied")
    refused(host, "eve", "GET", f"/1/volumes/default/{name}/content", kind="denied")
    refused(host, "eve", "DELETE", f"/1/volumes/default/{name}", kind="denied")
    refused(host, "ada", "DELETE", f"/1/volumes/default/{name}", kind="in-use")
    assert name not in host.hv("eve", "vm", "disks").out


def test_lists_show_owners_their_own(host: BrokerHost) -> None:
    assert host.hv("eve", "vm", "list", "--names").out == "eves\n"
    assert host.hv("vic", "vm", "list", "--names").out == "adas\neves\n"


# The connection.


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Remote-User", "Authorization", "Host"]
)
def test_no_header_makes_somebody_else_of_you(host: BrokerHost, header: str) -> None:
    status, answer = raw(host, "ada", "GET", "/1", None, **{header: "root:0"})
    assert status in (200, 400)
    if status == 200:
        assert answer["you"]["name"] == "ada"


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\x00" * 4096, b"GET / HTTP/9.9\r\n\r\n", b"GET /1/vms/../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /1/vms HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", b"POST /1/vms HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nfff\r\n",
        b"GET /1 HTTP/1.1\r\n" + b"A: " + b"b" * 200_000 + b"\r\n\r\n", b"CONNECT /run/libvirt/libvirt-sock HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)  # fmt: skip
def test_bytes_that_are_no_request_hurt_nobody(host: BrokerHost, bytes_: bytes) -> None:
    code = "import socket, sys\ns = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect('/run/hvd/hvd.sock')\ntry:\n s.sendall(sys.stdin.buffer.read()); print(s.recv(100))\nexcept OSError as e: print(e)"
    done = subprocess.run(
        host.enter("setpriv", "--reuid=ada", "--regid=ada", "--init-groups", sys.executable, "-c", code),
        input=bytes_,
        env=host.environment,
        check=True,
        capture_output=True,
    )
    assert b"root" not in done.stdout
    assert host.hv("ada", "auth", "whoami").out.startswith("ada")


def test_many_connections_that_say_nothing_keep_nobody_out(host: BrokerHost) -> None:
    code = "import socket, sys\nall = []\nfor _ in range(200):\n s = socket.socket(socket.AF_UNIX); s.connect('/run/hvd/hvd.sock'); all.append(s)\nprint('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        host.enter("setpriv", "--reuid=eve", "--regid=eve", "--init-groups", sys.executable, "-c", code),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=host.environment,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
        assert "adas" in host.hv("ada", "vm", "list").out
    finally:
        holder.kill()
        holder.wait()


def test_two_that_take_one_name_at_once_are_one(host: BrokerHost) -> None:
    """Races for a name and for the last room are decided in one place."""
    ran: list[Ran] = []
    words = (
        "vm",
        "create",
        "race",
        "--size",
        "1M",
        "--memory",
        "16M",
        "--firmware",
        "bios",
        "--network",
        "none",
    )
    threads = [
        threading.Thread(target=lambda who=who: ran.append(host.hv(who, *words, status=None)))
        for who in ("ada", "eve", "ada", "eve")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.status != 0 for each in ran) == [False, True, True, True], ran
    with host.libvirt() as connection:
        assert [domain.name() for domain in connection.listAllDomains(0)].count("race") == 1
    host.hv("alma", "vm", "delete", "race", "--disks")
    assert len(list(host.path("/var/lib/libvirt/images").iterdir())) == 2, "losers left nothing"


def test_a_broker_socket_of_ones_own_fools_only_oneself(host: BrokerHost) -> None:
    """hv-hostd answers nobody but the broker's account, whoever passes it a connection."""
    code = "import socket\ns = socket.socket(socket.AF_UNIX); s.connect('/run/hv-hostd/hv-hostd.sock')"
    for who in ("ada", "alma", "audra"):
        assert host.run_as(who, sys.executable, "-c", code).status != 0
    assert struct.calcsize("3i") == 12 and socket.SO_PEERCRED == 17


def test_life_goes_on_without_sudo(host: BrokerHost) -> None:
    """And all of the above left the way open that is meant to be."""
    before = hashlib.sha256(host.path("/var/lib/libvirt/secret").read_bytes()).digest()
    host.hv("ada", "vm", "start", "adas")
    assert "running" in host.hv("oscar", "vm", "show", "adas").out
    host.hv("oscar", "vm", "stop", "adas", "--force")
    assert before == hashlib.sha256(SECRET).digest()
