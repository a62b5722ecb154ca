"""Looks at each source: what it holds, or why it holds nothing."""

import re
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO

import dns.exception
import dns.resolver

from installer.errors import Exit, HyperError
from installer.execute.runner import CommandError
from installer.fetch.package import LARGEST_SECRET, SECRET
from installer.fetch.source import (
    CREDENTIAL,
    DHCP_OPTION,
    FW_CFG,
    LABEL,
    NAMES,
    Arguments,
    Found,
    Source,
    dns_names,
)
from installer.fetch.world import World
from installer.web import LARGEST

Seen = tuple[Found, ...] | str
"""What a source holds; a text: nothing, and why."""

FILESYSTEMS = ("vfat", "iso9660")
OPTIONS = "ro,nosuid,nodev,noexec"
LIMIT = 60.0
"""Seconds for one program."""
_NOTHING_FOUND = 2
"""blkid(8)."""
DNS_LIFETIME = 10.0
CREDENTIALS = "/run/credentials/@system"
FW_CFG_FOLDER = "/sys/firmware/qemu_fw_cfg/by_name"
DMI = "/sys/firmware/dmi/entries"
OEM_STRINGS = 11
"""Type of the SMBIOS structure (DMTF DSP0134, 7.12)."""
_LEASES = "/run/systemd/netif/leases"


def look(source: Source, world: World, arguments: Arguments) -> Seen:
    """Ask one source. Raises HyperError for one that holds something but cannot be read."""
    match source:
        case Source.argument:
            return _argument(arguments)
        case Source.medium:
            return _medium(world)
        case Source.embedded:
            return _embedded(world)
        case Source.machine:
            return _machine(world)
        case Source.dhcp:
            return _dhcp(world)
        case Source.dns:
            return _dns(world)


def _argument(arguments: Arguments) -> Seen:
    if arguments.answers is None:
        return "the kernel's command line has no hv.answers="
    return (Found(Source.argument, "the kernel's command line", arguments.answers.encode()),)


# ---- a labelled medium ----


@dataclass(frozen=True)
class _Medium:
    device: str
    kind: str


def _medium(world: World) -> Seen:
    media = _labelled(world)
    if not media:
        return f"no disk, stick or CD is labelled {LABEL}"
    if len(media) > 1:
        raise _bad(
            f"{len(media)} media are labelled {LABEL}",
            f"{', '.join(each.device for each in media)}: which one is meant cannot be told",
            "take out all but one",
        )
    medium = media[0]
    with _mounted(world, medium):
        return (_on_medium(world, medium),)


def _labelled(world: World) -> list[_Medium]:
    """Media with the label; a disk and the partition of it that holds the same file system are one."""
    told = world.runner.run(
        ["blkid", "--cache-file", "/dev/null", "--output", "export"], timeout=LIMIT, check=False, quiet=True
    )
    if told.status not in (0, _NOTHING_FOUND):
        raise _bad(
            "disks cannot be looked at", f"blkid ends with {told.status}: {told.stderr}", "look at `blkid`"
        )
    media = list(labelled(told.text))
    disks = {_disk_of(world, each.device) for each in media}
    return [each for each in media if each.device not in disks]


def labelled(text: str) -> Iterator[_Medium]:
    """Media with the label in what `blkid -o export` prints: a block of `KEY=value` a device."""
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values.get("LABEL", "").upper() == LABEL and values.get("TYPE") in FILESYSTEMS:
            yield _Medium(values["DEVNAME"], values["TYPE"])


def _disk_of(world: World, device: str) -> str | None:
    """The disk that a partition is on; none: it is no partition."""
    entry = f"/sys/class/block/{device.rpartition('/')[2]}"
    if world.root.data(f"{entry}/partition") is None:
        return None
    return "/dev/" + (world.root.real(entry) or "").split("/")[-2]


@contextmanager
def _mounted(world: World, medium: _Medium) -> Iterator[None]:
    world.mounts.mkdir(mode=0o700, parents=True, exist_ok=True)
    point = str(world.mounts)
    try:
        world.runner.run(["mount", "-t", medium.kind, "-o", OPTIONS, medium.device, point], timeout=LIMIT)
    except CommandError as error:
        raise _bad(
            f"the medium labelled {LABEL} cannot be read", error.why, "write it anew, as FAT or ISO 9660"
        ) from error
    try:
        yield
    finally:
        world.runner.run(["umount", point], timeout=LIMIT)


def _on_medium(world: World, medium: _Medium) -> Found:
    entries = {path.name.lower(): path for path in sorted(world.mounts.iterdir())}
    there = [name for name in NAMES if name in entries]
    if len(there) != 1:
        have = ", ".join(there) or ", ".join(sorted(entries)[:10]) or "nothing"
        raise _bad(
            f"the medium labelled {LABEL} ({medium.device}) holds no single file with answers",
            f"one of {', '.join(NAMES)} is looked for; it has {have}",
            "put one of them there",
        )
    secrets = []
    folder = entries.get("secrets")
    for path in sorted(folder.iterdir()) if folder and folder.is_dir() else ():
        if path.is_file() and SECRET.fullmatch(path.name):
            secrets.append((path.name, _limited(path.read_bytes(), LARGEST_SECRET, str(path.name))))
    content = _limited(entries[there[0]].read_bytes(), LARGEST, there[0])
    return Found(Source.medium, f"{medium.device} ({there[0]})", content, tuple(secrets))


# ---- the live medium ----


def _embedded(world: World) -> Seen:
    content = world.embedded("answers.toml")
    if content is None:
        return "no answers are embedded in the medium"
    return (Found(Source.embedded, "this medium", content),)


# ---- a virtual machine ----


def _machine(world: World) -> Seen:
    found = []
    for where, path in (
        ("QEMU's fw_cfg", f"{FW_CFG_FOLDER}/{FW_CFG}/raw"),
        ("a systemd credential", f"{CREDENTIALS}/{CREDENTIAL}"),
    ):
        content = world.root.data(path)
        if content is not None:
            found.append(Found(Source.machine, where, content))
    # The string that a credential came from is the same answers, not second ones.
    if not found:
        found += [Found(Source.machine, "an SMBIOS string", content) for content in _oem_strings(world)]
    if len(found) > 1:
        raise _bad(
            "the virtual machine is given answers twice",
            f"by {' and '.join(each.where for each in found)}",
            "give them once",
        )
    return tuple(found) or "no fw_cfg item, systemd credential or SMBIOS string"


def _oem_strings(world: World) -> Iterator[bytes]:
    plain, binary = (f"io.systemd.credential{kind}:{CREDENTIAL}=".encode() for kind in ("", ".binary"))
    for entry in world.root.names(DMI):
        if not entry.startswith(f"{OEM_STRINGS}-"):
            continue
        for text in dmi_strings(world.root.data(f"{DMI}/{entry}/raw") or b""):
            if text.startswith(plain):
                yield text.removeprefix(plain)
            elif text.startswith(binary):
                try:
                    yield b64decode(text.removeprefix(binary), validate=True)
                except Base64Error as error:
                    raise _bad(
                        "the SMBIOS string with answers cannot be read",
                        f"it is no base64: {error}",
                        "encode it anew",
                    ) from None


def dmi_strings(structure: bytes) -> list[bytes]:
    """Strings behind the formatted part of an SMBIOS structure (DSP0134, 6.1.3)."""
    if len(structure) < 4 or structure[1] > len(structure):
        return []
    return [text for text in structure[structure[1] :].split(b"\0") if text]


# ---- the network ----


def _dhcp(world: World) -> Seen:
    deadline = time.monotonic() + world.network_patience
    while True:
        leases, values = _networkd(world), _network_manager(world)
        options = {**leases, **values}
        if options or time.monotonic() >= deadline:
            break
        time.sleep(1)
    if not options:
        return f"no lease within {world.network_patience:.0f} seconds"
    found = {interface: value for interface, value in options.items() if value is not None}
    if not found:
        return f"no option {DHCP_OPTION} in the lease of {', '.join(sorted(options))}"
    if len(set(found.values())) > 1:
        raise _bad(
            f"DHCP servers contradict each other in option {DHCP_OPTION}",
            f"the leases of {', '.join(sorted(found))} have different ones",
            "let them agree",
        )
    where = ", ".join(sorted(found))
    return (Found(Source.dhcp, f"the lease of {where}", next(iter(found.values()))),)


def _networkd(world: World) -> dict[str, bytes | None]:
    """Option of each lease of systemd-networkd, which writes private options in hexadecimal (sd-dhcp-lease.c)."""
    found: dict[str, bytes | None] = {}
    for index in world.root.names(_LEASES):
        text = world.root.text(f"{_LEASES}/{index}") or ""
        match = re.search(rf"^OPTION_{DHCP_OPTION}=([0-9a-fA-F]+)$", text, re.MULTILINE)
        found[f"interface {index}"] = bytes.fromhex(match[1]) if match else None
    return found


def _network_manager(world: World) -> dict[str, bytes | None]:
    """The same of NetworkManager's; none where it does not run."""
    try:
        told = world.runner.run(
            ["nmcli", "--terse", "--escape", "no", "--fields", "GENERAL.DEVICE,DHCP4", "device", "show"],
            timeout=LIMIT,
        )
    except CommandError:
        return {}
    return nm_leases(told.text)


def nm_leases(text: str) -> dict[str, bytes | None]:
    """Option of each lease in what nmcli prints; a private option is octets in hexadecimal with colons between."""
    found: dict[str, bytes | None] = {}
    device = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "GENERAL.DEVICE":
            device = value
        elif name.startswith("DHCP4.OPTION"):
            found.setdefault(device, None)
            option, _, content = value.partition(" = ")
            if option.strip() == f"private_{DHCP_OPTION}":
                digits = content.strip().replace(":", "")
                is_hexadecimal = re.fullmatch(r"([0-9a-fA-F]{2})+", digits)
                found[device] = bytes.fromhex(digits) if is_hexadecimal else content.strip().encode()
    return found


def _dns(world: World) -> Seen:
    resolver = dns.resolver.Resolver(configure=False)
    text = world.root.text("/etc/resolv.conf") or ""
    try:
        resolver.read_resolv_conf(StringIO(text))
    except dns.resolver.NoResolverConfiguration:
        return "no name server is known"
    resolver.port, resolver.lifetime = world.dns_port, DNS_LIFETIME
    names = dns_names(tuple(str(domain) for domain in (*resolver.search, resolver.domain)))
    if not names:
        return "no search domain is known"
    for name in names:
        try:
            answer = resolver.resolve(name, "TXT", search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        except dns.exception.DNSException as error:
            # A server that does not answer could be kept from it: another source must not win by that.
            raise _bad(
                f"the DNS record {name} cannot be asked for", str(error), "see that the name server answers"
            ) from None
        if len(answer) != 1:
            raise _bad(f"there are {len(answer)} DNS records {name}", "one is expected", "leave one")
        return (Found(Source.dns, name, b"".join(answer[0].strings)),)
    return f"no record {' or '.join(names)}"


def _limited(content: bytes, most: int, name: str) -> bytes:
    if len(content) > most:
        raise _bad(
            f"{name} is too large",
            f"it has {len(content)} bytes, {most} are taken",
            "put the right file there",
        )
    return content


def _bad(what: str, why: str, remedy: str) -> HyperError:
    return HyperError(what, why=why, remedy=remedy, code=Exit.fetch)
