"""Where unattended answers come from: the order, each source as it really is, and what is refused."""

import io
import json
import shutil
import subprocess
import tarfile
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from installer import web
from installer.errors import Exit, HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.facts import Facts
from installer.fetch import Fetched, Source, World, fetch
from installer.fetch.chain import SIGNERS, TOKEN, put_secrets
from installer.fetch.look import dmi_strings, nm_leases
from installer.fetch.package import NAMESPACE, pack, split, unpack
from installer.fetch.source import Arguments, Passed, dns_names, place_in
from installer.probe.identity import MEANINGLESS, identity
from installer.probe.root import LiveRoot
from tests.plan_cases import machine
from tests.web_servers import Answer, Authority, make_authority, serving

ANSWERS = b'version = 1\nhostname = "kvm1"\n'
SECRET = b"correct horse battery staple"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.02)


class Place:
    """A live system in a folder: kernel's and firmware's files, what was embedded, the programs that are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        (folder / "bin").mkdir()
        # No disk of the machine at hand is looked at, unless a test says which.
        self.program("lsblk", "echo '{\"blockdevices\": []}'")
        self.program("nmcli", "exit 8")
        self.arguments("quiet")

    def program(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def put(self, path: str, content: bytes | str) -> None:
        target = self.folder / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def arguments(self, line: str) -> None:
        self.put("proc/cmdline", line + "\n")

    def embed(self, name: str, content: bytes) -> None:
        target = self.folder / "live" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def world(self, **more: object) -> World:
        runner = Runner(Log(self.log, Redactor()), f"{self.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin")
        values: dict[str, object] = {
            "runner": runner,
            "root": LiveRoot(str(self.folder / "root")),
            "live": self.folder / "live",
            "mounts": self.folder / "mounts",
            "patience": 3.0,
            "network_patience": 0.0,
            "proxies": {},
        }
        return World(**(values | more))  # type: ignore[arg-type]

    def fetch(self, **more: object) -> Fetched | tuple[Passed, ...]:
        return fetch(self.world(**more), machine, lambda _: None)

    def fetched(self, **more: object) -> Fetched:
        found = self.fetch(**more)
        assert isinstance(found, Fetched), [str(each) for each in found]
        return found

    def refused(self, **more: object) -> HyperError:
        with pytest.raises(HyperError) as caught:
            self.fetch(**more)
        assert caught.value.code is Exit.fetch
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---- order and words ----


def test_nothing_anywhere_says_why_for_each(place: Place) -> None:
    found = place.fetch()
    assert not isinstance(found, Fetched)
    assert [each.source for each in found] == list(Source)
    assert all(each.why for each in found)
    assert [each.why.startswith("not asked") for each in found] == [False] * 4 + [True] * 2


def test_first_source_wins_and_the_earlier_ones_are_named(place: Place, authority: Authority) -> None:
    place.put("sys/firmware/qemu_fw_cfg/by_name/opt/hyper-nixos/answers/raw", b"by fw_cfg")
    found = place.fetched()
    assert (found.source, found.package.answers) == (Source.machine, b"by fw_cfg")
    assert [each.source for each in found.passed] == [Source.argument, Source.medium, Source.embedded]
    place.embed("answers.toml", b"embedded")
    assert place.fetched().source is Source.embedded
    with serving(lambda _: Answer(200, ANSWERS), authority) as server:
        place.arguments(f"quiet hv.answers={server.url}/a#cert:{authority.fingerprint}")
        found = place.fetched()
    assert (found.source, found.package.answers, found.passed) == (Source.argument, ANSWERS, ())
    assert found.lines() == (
        f"kernel argument: answers from {server.url}/a, named by the kernel's command line",
    )


def test_a_source_that_fails_ends_the_search(place: Place) -> None:
    place.embed("answers.toml", ANSWERS)
    with serving(lambda _: Answer(500)) as server:
        place.arguments(f"hv.answers={server.url}/a#sha256:{'0' * 64}")
        assert "500" in place.refused(patience=3).why


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("quiet", Arguments()),
        ("hv.answers=https://h/x", Arguments(answers="https://h/x")),
        ('hv.answers="https://h/x#sha256:1" a="b c"', Arguments(answers="https://h/x#sha256:1")),
        ("hv.answers=https://a hv.answers=https://b", Arguments(answers="https://b")),
        ("hv.unattended", Arguments(wanted=True)),
        ("hv.unattended=no", Arguments(wanted=False)),
        ("hv.unattended=again hv.proxy=http://p:1", Arguments(wanted=True, again=True, proxy="http://p:1")),
        ('broken="', Arguments()),
        ("hyper-nixos.pad=#### hv.answers=", Arguments()),
    ],
)
def test_arguments(line: str, meant: Arguments) -> None:
    assert Arguments.parse(line) == meant


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(HyperError, match="nope"):
        Arguments.parse("hv.unattended=nope")


def test_what_is_a_url() -> None:
    assert place_in(b"https://h/x\n") is not None
    assert place_in(ANSWERS) is None
    assert place_in(b"https://h/x\nversion = 1\n") is None
    with pytest.raises(HyperError):
        place_in(b"https://user:pw@h/x")


# ---- URLs ----


def test_server_is_told_which_machine_asks(place: Place, authority: Authority) -> None:
    place.put("sys/class/dmi/id/product_serial", "ABC123\n")
    place.put("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8047-B4C04F4A3332\n")
    place.put("proc/sys/kernel/random/boot_id", "b00t\n")
    place.embed("ca.pem", authority.ca)
    place.embed(TOKEN, b"tokentokentoken\n")
    with serving(lambda _: Answer(200, ANSWERS), authority) as server:
        place.embed("answers.toml", f"{server.url}/v1/answers".encode())
        place.fetched()
    (asked,) = server.requests
    question = json.loads(asked.body)
    assert (asked.method, question["version"]) == ("POST", 1)
    assert question["identity"]["serial"] == "ABC123"
    assert question["identity"]["uuid"] == "4c4c4544-0042-3510-8047-b4c04f4a3332"
    assert question["identity"]["boot"] == "b00t"
    assert Facts.model_validate(question["facts"]) == machine()
    assert asked.headers["Authorization"] == "Bearer tokentokentoken"
    assert "tokentokentoken" not in place.log.read_text()


@pytest.mark.parametrize("status", [405, 501, 404])
def test_server_that_only_hands_out_files(place: Place, authority: Authority, status: int) -> None:
    place.embed("ca.pem", authority.ca)
    with serving(
        lambda request: Answer(200, ANSWERS) if request.method == "GET" else Answer(status), authority
    ) as server:
        place.arguments(f"hv.answers={server.url}/a.toml")
        assert place.fetched().package.answers == ANSWERS


def test_digest_is_checked_and_nobody_is_told_anything(place: Place) -> None:
    import hashlib

    with serving(lambda _: Answer(200, ANSWERS)) as server:
        place.arguments(f"hv.answers={server.url}/a#sha256:{hashlib.sha256(ANSWERS).hexdigest()}")
        assert place.fetched().package.answers == ANSWERS
        assert [(asked.method, asked.body) for asked in server.requests] == [("GET", b"")]
        place.arguments(f"hv.answers={server.url}/a#sha256:{'0' * 64}")
        assert "SHA-256" in place.refused().why


def test_http_alone_is_not_trusted(place: Place) -> None:
    with serving(lambda _: Answer(200, ANSWERS)) as server:
        place.arguments(f"hv.answers={server.url}/a")
        assert "http protects nothing" in place.refused().why
        assert server.requests == []


def test_refusal_of_the_server_is_told(place: Place, authority: Authority) -> None:
    with serving(lambda _: Answer(409, b"two entries match"), authority) as server:
        place.arguments(f"hv.answers={server.url}/a#cert:{authority.fingerprint}")
        assert "409: two entries match" in place.refused().why


def test_argument_that_is_no_url(place: Place) -> None:
    place.arguments("hv.answers=/dev/sda1")
    assert "does not begin with" in place.refused().why


def test_bad_embedded_certificates(place: Place) -> None:
    place.embed("ca.pem", b"no certificate")
    place.arguments("hv.answers=https://127.0.0.1:1/a")
    assert "ca.pem" in place.refused().what


# ---- a labelled medium ----


def fat(path: Path, label: str, files: dict[str, bytes]) -> None:
    with path.open("wb") as made:
        made.truncate(4 << 20)
    subprocess.run(["mkfs.vfat", "-n", label, path], check=True, capture_output=True)
    for name, content in files.items():
        folder, _, _ = name.rpartition("/")
        if folder:
            subprocess.run(["mmd", "-D", "s", "-i", path, f"::{folder}"], check=False, capture_output=True)
        subprocess.run(["mcopy", "-i", path, "-", f"::{name}"], input=content, check=True)


def iso(path: Path, label: str, files: dict[str, bytes]) -> None:
    tree = path.with_suffix(".tree")
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    subprocess.run(
        ["xorriso", "-as", "mkisofs", "-V", label, "-o", str(path), str(tree)],
        check=True,
        capture_output=True,
    )


STAND_IN = """\
# mount -t KIND -o OPTIONS DEVICE POINT, on a kernel without that file system: its content is copied out of the device.
case $2 in
    vfat) mcopy -s -n -i "$5" :: "$6" ;;
    iso9660) xorriso -osirrox on -indev "stdio:$5" -extract / "$6" && chmod -R u+w "$6" ;;
esac >/dev/null 2>&1
"""


def without_mount(place: Place) -> None:
    """Give the live system a stand-in for mount where the kernel here cannot do it."""
    known = Path("/proc/filesystems").read_text().split()
    if not {"vfat", "iso9660"} <= set(known):
        place.program("mount", STAND_IN)
        place.program("umount", 'rm -rf "$1"/*')


@pytest.fixture
def attach(place: Place) -> Iterator[Callable[[Path], str]]:
    """Attaches an image to a loop device; blkid of the live system then sees it, and no disk of this machine."""
    devices: list[str] = []
    without_mount(place)

    def attached(image: Path) -> str:
        done = subprocess.run(
            ["losetup", "--find", "--show", "--read-only", image], check=True, capture_output=True, text=True
        )
        devices.append(done.stdout.strip())
        place.program("blkid", f'exec {shutil.which("blkid")} "$@" {" ".join(devices)}')
        return devices[-1]

    yield attached
    for device in devices:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.root
@pytest.mark.parametrize("make", [fat, iso])
@pytest.mark.parametrize(
    ("label", "name"), [("HYPERNIXCFG", "ANSWERS.TOML"), ("hypernixcfg", "answers.toml")]
)
def test_labelled_medium(
    place: Place,
    attach: Callable[[Path], str],
    make: Callable[[Path, str, dict[str, bytes]], None],
    label: str,
    name: str,
) -> None:
    image = place.folder / "medium.img"
    make(image, label, {name: ANSWERS, "secrets/disk.passphrase": SECRET + b"\n"})
    device = attach(image)
    found = place.fetched()
    assert (found.source, found.package.answers) == (Source.medium, ANSWERS)
    assert device in found.where
    world = place.world()
    assert put_secrets(world, found.package) == (str(world.live / "secrets/disk.passphrase"),)
    kept = world.live / "secrets/disk.passphrase"
    assert kept.read_bytes() == SECRET + b"\n"
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert SECRET.decode() not in place.log.read_text()
    assert not list((place.folder / "mounts").iterdir()), "the medium is still mounted"


@pytest.mark.root
def test_labelled_medium_names_a_url(
    place: Place, attach: Callable[[Path], str], authority: Authority
) -> None:
    with serving(lambda _: Answer(200, ANSWERS), authority) as server:
        url = f"{server.url}/a#cert:{authority.fingerprint}\r\n"
        fat(place.folder / "medium.img", "HYPERNIXCFG", {"answers.url": url.encode()})
        attach(place.folder / "medium.img")
        assert place.fetched().package.answers == ANSWERS


@pytest.mark.root
def test_labelled_media_that_are_refused(place: Place, attach: Callable[[Path], str]) -> None:
    fat(place.folder / "empty.img", "HYPERNIXCFG", {"other.txt": b"x"})
    attach(place.folder / "empty.img")
    assert "it has other.txt" in place.refused().why
    fat(place.folder / "full.img", "HYPERNIXCFG", {"answers.toml": ANSWERS})
    attach(place.folder / "full.img")
    assert "2 media are labelled" in place.refused().what


@pytest.mark.root
def test_other_labels_are_left_alone(place: Place, attach: Callable[[Path], str]) -> None:
    fat(place.folder / "other.img", "HYPERNIX", {"answers.toml": ANSWERS})
    attach(place.folder / "other.img")
    assert not isinstance(place.fetch(), Fetched)


def test_disk_and_partition_with_the_same_file_system_are_one(place: Place) -> None:
    """As blkid tells of a stick with a hybrid ISO on it."""
    blocks = "".join(
        f"DEVNAME={name}\nLABEL=HYPERNIXCFG\nTYPE=iso9660\n\n" for name in ("/dev/sdb", "/dev/sdb1")
    )
    place.put("listing", blocks)
    place.program("blkid", f"cat {place.folder / 'root/listing'}")
    real = place.folder / "root/sys/devices/usb/block/sdb/sdb1"
    real.mkdir(parents=True)
    (real / "partition").write_text("1\n")
    links = place.folder / "root/sys/class/block"
    links.mkdir(parents=True)
    (links / "sdb").symlink_to(real.parent)
    (links / "sdb1").symlink_to(real)
    place.program("mount", 'echo "$@" >&2; exit 32')
    assert "/dev/sdb1" in place.refused().why


# ---- embedded, virtual machine ----


def test_damaged_embedding_is_told(place: Place) -> None:
    place.embed("problem", b"its checksum does not fit")
    assert place.refused().why == "its checksum does not fit"


def test_beside_an_embedding_that_is_not_taken_no_other_answers_are(place: Place) -> None:
    """Signers may have stood in it."""
    place.put("run/credentials/@system/hyper-nixos.answers", ANSWERS)
    place.put("proc/cmdline", "quiet hv.answers=https://192.0.2.1/answers.toml")
    place.embed("problem", b"there is no signature in it")
    assert place.refused().why == "there is no signature in it"


def test_credential(place: Place) -> None:
    place.put("run/credentials/@system/hyper-nixos.answers", ANSWERS)
    assert place.fetched().where == "a systemd credential"


def oem_strings(*texts: bytes) -> bytes:
    """An SMBIOS structure of type 11 as the kernel hands it out (DSP0134, 7.12)."""
    return bytes([11, 5, 0, 1, len(texts)]) + b"".join(text + b"\0" for text in texts) + b"\0"


@pytest.mark.parametrize(
    "text",
    [
        b"io.systemd.credential:hyper-nixos.answers=" + ANSWERS,
        b"io.systemd.credential.binary:hyper-nixos.answers=" + b64encode(ANSWERS),
    ],
)
def test_smbios_string(place: Place, text: bytes) -> None:
    place.put("sys/firmware/dmi/entries/11-0/raw", oem_strings(b"vendor string", text))
    assert place.fetched().package.answers == ANSWERS


def test_damaged_smbios() -> None:
    assert dmi_strings(b"") == []
    assert dmi_strings(bytes([11, 200, 0, 1])) == []


def test_two_answers_for_one_virtual_machine(place: Place) -> None:
    place.put("run/credentials/@system/hyper-nixos.answers", ANSWERS)
    place.put("sys/firmware/qemu_fw_cfg/by_name/opt/hyper-nixos/answers/raw", ANSWERS)
    assert "twice" in place.refused().what


# ---- DHCP and DNS ----


def test_networks_are_asked_when_somebody_said_so(place: Place) -> None:
    place.put("run/systemd/netif/leases/2", f"ADDRESS=192.0.2.5\nOPTION_224={ANSWERS.hex()}\n")
    assert not isinstance(place.fetch(), Fetched)
    place.arguments("hv.unattended")
    assert place.fetched().package.answers == ANSWERS


@pytest.mark.root
def test_lease_as_dnsmasq_gives_it_and_networkd_keeps_it(place: Place, authority: Authority) -> None:
    place.arguments("hv.unattended")
    with serving(lambda _: Answer(200, ANSWERS), authority) as server:
        url = f"{server.url}/a#cert:{authority.fingerprint}"
        script = Path(__file__).parent / "network/dhcp_lease.sh"
        subprocess.run(["sh", script, place.folder, url], check=True, timeout=120)
        place.put("run/systemd/netif/leases/2", (place.folder / "lease").read_bytes())
        found = place.fetched()
    assert (found.source, found.package.answers) == (Source.dhcp, ANSWERS)


def test_lease_without_the_option(place: Place) -> None:
    place.arguments("hv.unattended")
    place.put("run/systemd/netif/leases/2", "ADDRESS=192.0.2.5\n")
    found = place.fetch()
    assert not isinstance(found, Fetched)
    assert "no option 224 in the lease of interface 2" in found[4].why


def test_leases_that_contradict_each_other(place: Place) -> None:
    place.arguments("hv.unattended")
    place.put("run/systemd/netif/leases/2", "OPTION_224=6161\n")
    place.put("run/systemd/netif/leases/3", "OPTION_224=6262\n")
    assert "contradict" in place.refused().what


def test_network_manager(place: Place, authority: Authority) -> None:
    place.arguments("hv.unattended")
    with serving(lambda _: Answer(200, ANSWERS), authority) as server:
        url = f"{server.url}/a#cert:{authority.fingerprint}".encode()
        lines = [
            "GENERAL.DEVICE:eth0",
            "DHCP4.OPTION[1]:ip_address = 192.0.2.5",
            f"DHCP4.OPTION[2]:private_224 = {url.hex(':')}",
        ]
        place.program("nmcli", "\n".join(f"echo '{line}'" for line in lines))
        assert place.fetched().where.endswith("named by the lease of eth0")
    assert nm_leases("GENERAL.DEVICE:a\nDHCP4.OPTION[1]:x = y\nGENERAL.DEVICE:b\n") == {"a": None}


NAME_SERVER = "127.9.9.9"


@pytest.fixture
def name_server() -> Iterator[tuple[int, dict[str, list[str]]]]:
    """A real name server on loopback with these TXT records; its port."""
    import socket

    records: dict[str, list[str]] = {}
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind((NAME_SERVER, 0))

    def serve() -> None:
        while True:
            data, peer = listening.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            reply = dns.message.make_response(query)
            name = query.question[0].name
            texts = records.get(name.to_text())
            if texts:
                quoted = [
                    " ".join(f'"{text[start : start + 200]}"' for start in range(0, len(text), 200))
                    for text in texts
                ]
                reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *quoted))
            else:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            listening.sendto(reply.to_wire(), peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], records
    listening.sendto(b"", listening.getsockname())
    thread.join(5)
    listening.close()


def test_dns_record(
    place: Place, name_server: tuple[int, dict[str, list[str]]], authority: Authority
) -> None:
    port, records = name_server
    place.arguments("hv.unattended")
    place.put("etc/resolv.conf", f"nameserver {NAME_SERVER}\nsearch lab.example.org example.org\n")
    assert not isinstance(place.fetch(dns_port=port), Fetched)
    with serving(lambda _: Answer(200, ANSWERS), authority) as server:
        long = f"{server.url}/{'a' * 300}#cert:{authority.fingerprint}"
        records["_hyper-nixos.example.org."] = [long]
        found = place.fetched(dns_port=port)
    assert (found.source, found.package.answers) == (Source.dns, ANSWERS)
    records["_hyper-nixos.example.org."] = [long, "second"]
    assert "2 DNS records" in place.refused(dns_port=port).what


def test_name_server_that_does_not_answer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("installer.fetch.look.DNS_LIFETIME", 0.5)
    place.arguments("hv.unattended")
    place.put("etc/resolv.conf", "nameserver 127.9.9.8\nsearch example.org\n")
    assert "cannot be asked" in place.refused(dns_port=9).what


def test_names_for_dns() -> None:
    assert dns_names(("Example.org.", "lan", "example.org", ".")) == ("_hyper-nixos.example.org.",)


# ---- packages and signatures ----


def test_archive_with_secrets(place: Place) -> None:
    place.embed("answers.toml", pack(ANSWERS, "answers.toml", {"disk.passphrase": SECRET}))
    package = place.fetched().package
    assert (package.answers, dict(package.secrets)) == (ANSWERS, {"disk.passphrase": SECRET})
    assert SECRET.decode() not in repr(package)


@pytest.mark.parametrize(
    ("content", "given", "name"),
    [
        (ANSWERS, "answers.toml", "answers.toml"),
        (b' {"version": 1}', "answers.toml", "answers.json"),
        (b'{"version": 1}', "kvm1.json", "kvm1.json"),
        (ANSWERS, "v1", "answers.toml"),
        (ANSWERS, "kvm1.json", "answers.toml"),
    ],
)
def test_how_answers_are_written_is_seen(content: bytes, given: str, name: str) -> None:
    assert unpack(content, given).name == name


@pytest.mark.parametrize(
    "name", ["../escape", "secrets/../../etc/passwd", "secrets/a/b", "/etc/shadow", "other"]
)
def test_archive_with_strange_names(name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in ("answers.toml", name):
            member = tarfile.TarInfo(path)
            member.size = len(ANSWERS)
            archive.addfile(member, io.BytesIO(ANSWERS))
    with pytest.raises(HyperError, match="is not taken"):
        unpack(buffer.getvalue(), "a.tar")


def test_archive_with_a_link() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("secrets/p")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(member)
    with pytest.raises(HyperError, match="is not taken"):
        unpack(buffer.getvalue(), "a.tar")


def test_tar_as_people_make_it(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "answers.toml").write_bytes(ANSWERS)
    (tmp_path / "secrets/p").write_bytes(SECRET)
    subprocess.run(
        ["tar", "--format=ustar", "-cf", "a.tar", "answers.toml", "secrets"], cwd=tmp_path, check=True
    )
    package = unpack((tmp_path / "a.tar").read_bytes(), "a.tar")
    assert (package.answers, dict(package.secrets)) == (ANSWERS, {"p": SECRET})
    with pytest.raises(HyperError):
        unpack((tmp_path / "a.tar").read_bytes()[:600], "a.tar")


class Signer:
    """A key of OpenSSH's."""

    def __init__(self, folder: Path, name: str) -> None:
        self.key = folder / name
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.key], check=True
        )
        self.line = f"{name}@example.org {self.key.with_suffix('.pub').read_text()}".encode()

    def signed(self, content: bytes, namespace: str = NAMESPACE) -> bytes:
        done = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", self.key],
            input=content,
            capture_output=True,
            check=True,
        )
        return content + done.stdout


def test_signed_answers(place: Place, tmp_path: Path) -> None:
    anna, mallory = Signer(tmp_path, "anna"), Signer(tmp_path, "mallory")
    place.embed(SIGNERS, anna.line)

    def given(content: bytes) -> None:
        place.put("run/credentials/@system/hyper-nixos.answers", content)

    given(anna.signed(ANSWERS))
    found = place.fetched()
    assert (found.package.answers, found.signed_by) == (ANSWERS, "anna@example.org")
    archive = pack(ANSWERS, "answers.toml", {"p": SECRET})
    given(anna.signed(archive))
    assert dict(place.fetched().package.secrets) == {"p": SECRET}
    for wrong in (
        ANSWERS,
        mallory.signed(ANSWERS),
        anna.signed(ANSWERS).replace(b"kvm1", b"kvm2"),
        anna.signed(ANSWERS, "git"),
        anna.signed(ANSWERS) + b"\n[storage]\n",
        anna.signed(archive).replace(SECRET, SECRET[::-1]),
    ):
        given(wrong)
        refusal = place.refused()
        assert "must be signed" in refusal.why
    assert SECRET.decode() not in place.log.read_text()


def test_signed_answers_come_by_http_and_from_the_network(place: Place, tmp_path: Path) -> None:
    anna = Signer(tmp_path, "anna")
    place.embed(SIGNERS, anna.line)
    answer = [anna.signed(ANSWERS)]
    with serving(lambda _: Answer(200, answer[0])) as server:
        place.put("run/systemd/netif/leases/2", f"OPTION_224={f'{server.url}/a'.encode().hex()}\n")
        assert place.fetched().signed_by == "anna@example.org"
        assert [asked.method for asked in server.requests] == ["GET"]
        answer[0] = ANSWERS
        assert "no SSH signature" in place.refused().why


@pytest.mark.root
def test_loose_secrets_are_refused_where_signatures_count(
    place: Place, attach: Callable[[Path], str], tmp_path: Path
) -> None:
    anna = Signer(tmp_path, "anna")
    place.embed(SIGNERS, anna.line)
    files = {"answers.toml": anna.signed(ANSWERS), "secrets/p": SECRET}
    fat(place.folder / "medium.img", "HYPERNIXCFG", files)
    attach(place.folder / "medium.img")
    assert "not covered" in place.refused().why


def test_split() -> None:
    assert split(ANSWERS) == (ANSWERS, None)
    assert split(b"") == (b"", None)
    inside = b'motd = "-----BEGIN SSH SIGNATURE-----"\n-----END SSH SIGNATURE-----\n'
    assert split(inside) == (inside, None)


# ---- who asks ----


def test_serials_that_mean_nothing(place: Place) -> None:
    for text in ("", "0", "None", "To Be Filled By O.E.M.", "Default string", "Not Specified"):
        assert MEANINGLESS.fullmatch(text), text
    assert not MEANINGLESS.fullmatch("ABC0")
    place.put("sys/class/dmi/id/product_serial", "Default string\n")
    place.put("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n")
    known = identity(LiveRoot(str(place.folder / "root")), machine())
    assert (known.serial, known.uuid) == (None, None)
    assert known.macs == tuple(sorted(nic.mac for nic in machine().nics))
