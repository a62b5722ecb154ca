"""Takes out of a record whose machine it was: serials, WWNs, MACs, UUIDs, host names, addresses.

Each identifier becomes a made-up one of the same shape, the same wherever it stands, so that names in by-id still
fit serials and two disks stay two. The made-up value depends on the identifier's place in the record alone, not on
the identifier, so that nothing can be computed back; the same machine gives the same record each time.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256

from installer.probe.mounts import LIVE_ROOTS, MEDIUM_POINTS
from installer.probe.record import Record

UUID = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
MAC = re.compile(r"(?<![0-9A-Za-z:])[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}(?![0-9A-Za-z:])")
MAC_NAME = re.compile(r"(?<=enx|wlx|wwx)[0-9a-f]{12}(?![0-9A-Za-z])|(?<=enx)[0-9a-f]{12}")
MAPPED_UUID = re.compile(r"^[A-Z]+-(?:LUKS\d-|PLAIN-)?([0-9A-Za-z]{32,64})")
IDENTIFYING = ("ID_SERIAL_SHORT", "ID_SCSI_SERIAL", "ID_FS_UUID", "ID_PART_ENTRY_UUID")
NAMED = ("ID_WWN", "ID_WWN_WITH_EXTENSION")
PUBLIC = frozenset({"ID_PART_ENTRY_TYPE"})
"""GPT types are the same on every machine."""
PREFIXES = ("0x", "naa.", "eui.", "uuid.")
SHORTEST = 4
"""Shorter identifiers tell nothing, and replacing them would garble the rest."""
LONG = 12
"""Hexadecimal identifiers from here on are known in any grouping: aa:bb:…, aabb…, 8-4-4-4-12."""
COMMON_HOSTS = frozenset(
    {"", "localhost", "nixos", "hyper-nixos", "debian", "ubuntu", "archlinux", "root", "live"}
)
PARAMETERS = ("console=", "intel_iommu=", "amd_iommu=", "iommu=")
RELEASE = ("NAME=", "PRETTY_NAME=")
PLAIN_POINTS = MEDIUM_POINTS | frozenset(
    f"/{place}"
    for place in (
        *(
            "",
            "boot",
            "boot/efi",
            "efi",
            "home",
            "mnt",
            "mnt/boot",
            "nix",
            "nix/store",
            "nix/.ro-store",
            "opt",
        ),
        *("root", "srv", "tmp", "usr", "var", "var/lib", "var/log", "var/tmp"),
    )
)
"""Mount points that everybody has."""
MAC_DIGITS = 12
LOCAL = "02"
"""First byte of a MAC address that no vendor gave and that is not a group (IEEE 802, bits 1 and 0)."""
HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


class Redaction:
    """Which identifier becomes what."""

    def __init__(self, identifiers: Iterable[str], names: Iterable[str] = ()) -> None:
        self._made_up: dict[str, str] = {}
        patterns: dict[str, str] = {}
        hosts = [name for name in names if name.lower() not in COMMON_HOSTS]
        for identifier in dict.fromkeys([*identifiers, *hosts]):
            core = _core(identifier)
            if (
                (len(core) < SHORTEST and identifier not in hosts)
                or not core.strip("0")
                or core.lower() in self._made_up
            ):
                continue
            self._put(core, _shaped(core, len(self._made_up), self._made_up.values()))
            patterns[core.lower()] = _pattern(identifier, core)
            if not HEXADECIMAL.issuperset(core) or len(core) < LONG:
                # NVMe namespaces without a number of their own are called after the serial in hexadecimal.
                spelt = identifier.encode().hex()
                self._put(spelt, self.plain(identifier).encode().hex())
                patterns[spelt] = f"(?i:{re.escape(spelt)})"
        alternatives = sorted(patterns.values(), key=len, reverse=True)
        # 3 before a number is SCSI's way of saying that it is of the NAA kind (scsi_id(8)).
        before = r"(?:(?<=0x)|(?<=\b3)|(?<=enx)|(?<=wlx)|(?<=wwx)|(?<![0-9A-Za-z]))"
        self._pattern = re.compile(
            f"{before}(?:{'|'.join(alternatives) or '(?!)'})(?![0-9A-Za-z])", re.IGNORECASE
        )

    def _put(self, core: str, made_up: str) -> None:
        self._made_up[core.lower()] = made_up

    def plain(self, identifier: str) -> str:
        """The made-up value of one identifier, its separators kept."""
        made_up = iter(self._made_up[_core(identifier).lower()])
        prefix = _prefix(identifier)
        return prefix + "".join(
            _cased(next(made_up), character) if character.isalnum() else character
            for character in identifier[len(prefix) :]
        )

    def text(self, text: str) -> str:
        """Any text, with every identifier in it replaced."""
        return self._pattern.sub(lambda match: self.plain(match.group()), text)


def _prefix(identifier: str) -> str:
    return next((prefix for prefix in PREFIXES if identifier.startswith(prefix)), "")


def _core(identifier: str) -> str:
    return "".join(character for character in identifier[len(_prefix(identifier)) :] if character.isalnum())


def _cased(made_up: str, original: str) -> str:
    return made_up.upper() if original.isupper() else made_up.lower()


def _pattern(identifier: str, core: str) -> str:
    """Long hexadecimal ones are found in any grouping; others as they stand, with udev's `_` for a space."""
    if HEXADECIMAL.issuperset(core) and len(core) >= LONG:
        return f"(?i:{'[-:]?'.join(core)})"
    return "[ _]".join(re.escape(part) for part in identifier[len(_prefix(identifier)) :].split())


def _shaped(core: str, place: int, taken: Iterable[str]) -> str:
    """Digits for digits, letters for letters; hexadecimal stays hexadecimal."""
    letters = "abcdef" if HEXADECIMAL.issuperset(core) else "abcdefghjkmnpqrstuvwxyz"
    used = set(taken)
    attempt = 0
    while True:
        noise = b"".join(
            sha256(f"{place} {attempt} {block}".encode()).digest() for block in range(len(core) // 32 + 1)
        )
        made_up = "".join(
            str(value % 10) if character.isdigit() else letters[value % len(letters)]
            for character, value in zip(core, noise, strict=False)
        )
        if len(core) == MAC_DIGITS and HEXADECIMAL.issuperset(core):
            made_up = LOCAL + made_up[len(LOCAL) :]
        if made_up not in used and made_up != core.lower():
            return made_up
        attempt += 1


def identifiers(record: Record) -> list[str]:
    """Everything in a record that tells which machine it is, but for names that people gave."""
    found = []
    for properties in record.udev.values():
        found += [properties[name] for name in IDENTIFYING if name in properties]
        found += [properties[name] for name in NAMED if properties.get(name, "").startswith(PREFIXES)]
        if "ID_SERIAL" in properties and not properties.keys() & {"ID_SERIAL_SHORT", "ID_SCSI_SERIAL"}:
            found.append(properties["ID_SERIAL"])
        found += [properties["MD_UUID"]] if "MD_UUID" in properties else []
    for path, text in record.files.items():
        if not text:
            continue
        if path.endswith("/serial") or (path.endswith("/wwid") and text.startswith(PREFIXES)):
            found.append(text)
        elif path.endswith("/dm/uuid") and (match := MAPPED_UUID.match(text)):
            found.append(match.group(1))
        elif path.endswith(("/address", "/perm_hwaddr")) and MAC.fullmatch(text):
            found.append(text)
    for key, answer in record.answers.items():
        if key.startswith("disk ends "):
            found.append(answer)  # who has the disk could tell by it that the record is of this machine
        if key.startswith("volume group "):
            found.append(answer.partition(" ")[0])
        if key.startswith("signature "):
            pairs = (line.partition("=") for line in answer.splitlines())
            found += [value for name, _, value in pairs if name in IDENTIFYING]
    for text in _texts(record):
        found += UUID.findall(text) + MAC.findall(text) + MAC_NAME.findall(text)
    return found


def array_hosts(record: Record) -> list[str]:
    """Host names that md writes into its arrays (`host:name`)."""
    labels = (properties.get("ID_FS_LABEL", "") for properties in record.udev.values())
    names = (properties.get("MD_NAME", "") for properties in record.udev.values())
    return sorted({text.partition(":")[0] for text in (*labels, *names) if ":" in text})


def _texts(record: Record) -> Iterable[str]:
    yield from record.files.values()
    yield from record.answers.values()
    for properties in record.udev.values():
        yield from (value for name, value in properties.items() if name not in PUBLIC)


def redacted(record: Record, names: Iterable[str] = ()) -> Record:
    """The record without what tells which machine it is; `names` are the host's own name and the like."""
    return redact(record, Redaction(identifiers(record), [*names, *array_hosts(record)]))


def redact(record: Record, redaction: Redaction) -> Record:
    """Applies a redaction; kernel parameters, mounts and the release lose all that the probe does not need."""
    result = Record()
    result.data, result.links = dict(record.data), dict(record.links)
    result.folders, result.problems = dict(record.folders), dict(record.problems)
    points = _points(record.files.get("/proc/self/mountinfo", ""))
    for path, text in record.files.items():
        result.files[path] = redaction.text(_needed(path, text, points))
    addresses: dict[str, str] = {}
    for key, answer in sorted(record.answers.items()):
        shown = answer
        if key.startswith("network addresses"):
            shown = " ".join(_documented(address, addresses) for address in answer.split())
        result.answers[key] = redaction.text(shown)
    for device, properties in record.udev.items():
        result.udev[device] = {
            name: value if name in PUBLIC else redaction.text(value) for name, value in properties.items()
        }
    return result


def _needed(path: str, text: str, points: Mapping[str, str]) -> str:
    if path == "/proc/cmdline":
        return " ".join(word for word in text.split() if word.startswith(PARAMETERS))
    if path == "/etc/os-release":
        return "\n".join(line for line in text.splitlines() if line.startswith(RELEASE))
    if path == "/proc/self/mountinfo":
        return "\n".join(_mount(line, points) for line in text.splitlines() if _is_told(line))
    if path.endswith("/loop/backing_file"):
        above = max(
            (point for point in points if text.startswith(point.rstrip("/") + "/")), key=len, default="/"
        )
        return points.get(above, "/").rstrip("/") + "/image"
    if path == "/proc/swaps":
        return "\n".join(line for line in text.splitlines() if line.startswith(("Filename", "/dev/")))
    return text


def _is_told(line: str) -> bool:
    """Mounts of devices and the root; nothing of network shares, containers and the like."""
    left, _, right = line.partition(" - ")
    fields, kind = left.split(" "), right.split(" ")
    if len(fields) < 5 or len(kind) < 2:
        return False
    return kind[1].startswith("/dev/") or kind[0] == "zfs" or (fields[4] == "/" and kind[0] in LIVE_ROOTS)


def _points(mountinfo: str) -> dict[str, str]:
    """Mount point to what is told of it."""
    told: dict[str, str] = {}
    for line in mountinfo.splitlines():
        if _is_told(line):
            point = line.split(" ")[4]
            told[point] = point if point in PLAIN_POINTS else f"/redacted/{len(told)}"
    return told


def _mount(line: str, points: Mapping[str, str]) -> str:
    """A line of mountinfo without optional fields, options and inner folder."""
    left, _, right = line.partition(" - ")
    number, parent, device, _, point, *_ = left.split(" ")
    kind, source, *_ = right.split(" ")
    return f"{number} {parent} {device} / {points[point]} rw - {kind} {source} rw"


def _documented(address: str, known: dict[str, str]) -> str:
    """Addresses become those set apart for documentation (RFC 5737, RFC 3849), prefix lengths stay."""
    host, _, length = address.partition("/")
    if host not in known:
        place = len(known) % 254 + 1
        known[host] = f"2001:db8::{place:x}" if ":" in host else f"192.0.2.{place}"
    return f"{known[host]}/{length}"
