"""What the fields of an answer file say together, looked at before any machine is."""

import base64
import binascii
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel

from installer.answers.feature_check import check_features
from installer.answers.guests import VmAnswers
from installer.answers.hibernation_check import check_hibernation
from installer.answers.model import (
    Answers,
    BootLoader,
    ExistingKind,
    FilesystemKind,
    KernelsPlace,
    LayoutKind,
    RecoveryKind,
    TokenKind,
    User,
)
from installer.answers.network_check import check_network
from installer.answers.password_hash import hash_fault
from installer.answers.problems import Path, Problem, shown
from installer.answers.recovery import recipients, recovery_kind
from installer.answers.sizes import GIB, KIB, MIB, parse_size
from installer.answers.ssh_key import parse_ssh_key
from installer.answers.storage_check import check_storage, selectors
from installer.answers.unlocking import unlock_keys

_PBKDF_MEMORY = (32 * KIB, 4 * GIB)
"""Bytes that LUKS2 takes for argon2id (cryptsetup(8), --pbkdf-memory)."""
_ESP_LEAST = GIB
_ROOT_FORBIDDEN = {"ro", "noexec", "noauto", "nofail", "user", "users"}
_MANAGED = ("/boot", "/proc", "/sys", "/dev", "/run", "/tmp")  # noqa: S108
"""Mount points that the loader and systemd have for themselves."""
_SYSTEM_USERS = {"root", "nobody", "sshd", "messagebus", "polkituser", "libvirtdbus", "hv", "swtpm"}
_SYSTEM_PREFIXES = ("nixbld", "systemd-", "qemu-")
_CACHE_SCHEMES = ("https", "http", "file", "s3", "ssh-ng")


def check(answers: Answers) -> list[Problem]:
    """Every contradiction and every value that cannot be right, with the path of the field to change."""
    checks = (
        _texts(answers, ()),
        _sizes(answers),
        _names(answers),
        check_storage(answers.storage),
        _filesystem(answers),
        _swap(answers),
        check_hibernation(answers),
        _encryption(answers),
        _boot(answers),
        _users(answers),
        check_network(answers.network),
        _proxy(answers),
        _system(answers),
        _hypervisor(answers),
        _first_run(answers),
        _hooks(answers),
        _webhooks(answers),
    )
    return [problem for problems in checks for problem in problems]


def _texts(value: object, path: Path) -> Iterator[Problem]:
    """Control characters would break lines of configuration files and terminals; only certificates have lines."""
    match value:
        case str():
            allowed = "\r\n" if "ca_certificates" in path else ""
            bad = next((char for char in value if not char.isprintable() and char not in allowed), None)
            if bad:
                yield Problem(
                    path,
                    f"holds the character U+{ord(bad):04X}, which does not print",
                    "remove the character",
                )
        case dict():
            for key, inner in value.items():
                yield from _texts(key, (*path, str(key)))
                yield from _texts(inner, (*path, str(key)))
        case tuple():
            for number, inner in enumerate(value):
                yield from _texts(inner, (*path, number))
        case BaseModel():
            for name in type(value).model_fields:
                yield from _texts(getattr(value, name), (*path, name))


def _sizes(answers: Answers) -> Iterator[Problem]:
    storage = answers.storage
    sizes: dict[Path, str | None] = {
        ("storage", "root_size"): storage.root_size,
        ("storage", "swap", "size"): storage.swap.size,
        ("storage", "encryption", "pbkdf_memory"): storage.encryption.pbkdf_memory,
        ("boot", "esp_size"): answers.boot.esp_size,
    }
    for path, disk in selectors(storage):
        sizes |= {(*path, "size_min"): disk.size_min, (*path, "size_max"): disk.size_max}
    for number, vm in enumerate(answers.first_run.vms):
        sizes["first_run", "vms", number, "memory"] = vm.memory
        sizes["first_run", "vms", number, "disk_size"] = vm.disk_size
    for where, size in sizes.items():
        if size is not None and parse_size(size) < MIB and where[-1] != "pbkdf_memory":
            yield Problem(where, "is less than 1 MiB", "write a size with its unit, e.g. `2GiB`")


def _names(answers: Answers) -> Iterator[Problem]:
    if answers.hostname == "localhost":
        yield Problem(("hostname",), "is the name of every machine", "give this host a name of its own")
    if answers.timezone.startswith("/") or ".." in answers.timezone:
        yield Problem(("timezone",), "is a path, must be a name", "write for example `Europe/Zurich`")


def _within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders or below one."""
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _filesystem(answers: Answers) -> Iterator[Problem]:
    storage = answers.storage
    path = ("storage", "subvolumes")
    if storage.filesystem is not FilesystemKind.btrfs:
        if "subvolumes" in _said(storage):
            yield Problem(
                path,
                f"only btrfs has subvolumes, and the file system is {storage.filesystem}",
                'remove them, or write `filesystem = "btrfs"`',
            )
    else:
        yield from _subvolumes(storage.subvolumes, path)
    for number, option in enumerate(storage.mount_options or ()):
        where = ("storage", "mount_options", number)
        name = option.partition("=")[0]
        if not option or "," in option or any(char.isspace() for char in option):
            yield Problem(where, "is not one mount option", "write each option as an element of its own")
        elif name in _ROOT_FORBIDDEN:
            yield Problem(where, "would keep the host from starting", "remove it")
        elif name in {"subvol", "subvolid"}:
            yield Problem(where, "is decided by `subvolumes`", "remove it here")


def _subvolumes(subvolumes: dict[str, str], path: Path) -> Iterator[Problem]:
    if "/" not in subvolumes.values():
        yield Problem(path, "no subvolume is mounted at /", 'add `"@" = "/"`')
    for name, point in subvolumes.items():
        where = (*path, name)
        if (
            not name
            or name.startswith("/")
            or {"", ".", ".."} & set(name.split("/"))
            or set(name) & set(", \t\\")
        ):
            yield Problem(where, "is not a subvolume's name", 'write it like `"@home"`')
        if (
            not point.startswith("/")
            or posixpath.normpath(point) != point
            or any(char.isspace() for char in point)
        ):
            yield Problem(
                where, "is not a mount point", "write an absolute path without `..` or a slash at its end"
            )
        elif _within(point, _MANAGED):
            yield Problem(
                where,
                "is a mount point that the system needs for itself",
                "mount it elsewhere, or remove it",
            )
    for name, point in _repeated(subvolumes.items()):
        yield Problem((*path, name), f"a second subvolume at {point}", "mount it elsewhere, or remove it")


def _swap(answers: Answers) -> Iterator[Problem]:
    swap = answers.storage.swap
    for field, kinds in (("size", ("partition", "file")), ("zram_percent", ("zram",))):
        if field in _said(swap) and swap.kind not in kinds:
            yield Problem(
                ("storage", "swap", field),
                f"means nothing with kind `{swap.kind}`",
                f'remove it, or write `kind = "{kinds[0]}"`',
            )


def _encryption(answers: Answers) -> Iterator[Problem]:
    encryption = answers.storage.encryption
    path = ("storage", "encryption")
    if encryption.enable and encryption.passphrase is None:
        yield Problem(
            (*path, "passphrase"),
            "encryption needs a passphrase",
            'add `passphrase = { file = "/path/on/the/live/system" }`, or `{ prompt = true }` to be asked',
        )
    for field in sorted(_said(encryption) - {"enable"}) if not encryption.enable else ():
        yield Problem(
            (*path, field), "means nothing while encryption is off", "write `enable = true`, or remove it"
        )
    if (
        encryption.passphrase
        and "prompt" in encryption.passphrase.model_fields_set
        and answers.storage.destroy
    ):
        yield Problem(
            (*path, "passphrase"),
            'a prompt waits for a person, but `destroy = "matched"` asks for an unattended installation',
            "write `passphrase = { file = … }`, or remove `destroy` and confirm the plan with its token",
        )
    yield from _recovery(answers, path)
    yield from _ssh_unlock(answers, (*path, "ssh"))
    if encryption.enable:
        yield from _token(answers, path)
    if encryption.pbkdf_memory:
        least, most = _PBKDF_MEMORY
        if not least <= parse_size(encryption.pbkdf_memory) <= most:
            yield Problem(
                (*path, "pbkdf_memory"), "is not between 32 KiB and 4 GiB", "write for example `1GiB`"
            )


def _recovery(answers: Answers, path: Path) -> Iterator[Problem]:
    encryption = answers.storage.encryption
    kind = recovery_kind(answers)
    if not encryption.enable:
        return
    again = answers.storage.existing is ExistingKind.reinstall
    if encryption.recovery_recipients and kind is not RecoveryKind.seal and not again:
        yield Problem(
            (*path, "recovery_recipients"),
            f"means nothing with `recovery_key = {shown(kind.value)}`",
            'remove it, or write `recovery_key = "seal"`',
        )
    for number, each in enumerate(encryption.recovery_recipients):
        if each.startswith("age1"):
            continue
        try:
            parse_ssh_key(each)
        except ValueError as error:
            yield Problem(
                (*path, "recovery_recipients", number), str(error), "paste the one line of a `.pub` file"
            )
    if kind is RecoveryKind.seal and not recipients(answers):
        yield Problem(
            (*path, "recovery_key"),
            "is to be sealed for somebody, and no administrator has an SSH key of type ssh-ed25519 or ssh-rsa; whoever "
            "loses the passphrase would lose the data",
            'name who may read it: `recovery_recipients = ["age1…"]` (`age-keygen` makes one), or do without: '
            '`recovery_key = "off"`',
        )
    if kind is RecoveryKind.show and answers.storage.destroy and answers.at_end != "stay":
        yield Problem(
            (*path, "recovery_key"),
            f"would be on the screen for a moment before the {answers.at_end}, with nobody there to read it",
            'write `recovery_key = "seal"`, or `at_end = "stay"`',
        )


def _token(answers: Answers, path: Path) -> Iterator[Problem]:
    encryption = answers.storage.encryption
    if encryption.token is TokenKind.tpm2_pin and encryption.pin is None:
        yield Problem(
            (*path, "pin"),
            "the token `tpm2-pin` needs one",
            'add `pin = { file = "/path/on/the/live/system" }`, or `{ prompt = true }` to be asked',
        )
    if encryption.pin is not None and encryption.token is not TokenKind.tpm2_pin:
        yield Problem(
            (*path, "pin"),
            f"means nothing with token `{encryption.token}`",
            'write `token = "tpm2-pin"`, or remove it',
        )
    if encryption.pin and "prompt" in encryption.pin.model_fields_set and answers.storage.destroy:
        yield Problem(
            (*path, "pin"),
            'a prompt waits for a person, but `destroy = "matched"` asks for an unattended installation',
            "write `pin = { file = … }`, or remove `destroy` and confirm the plan with its token",
        )


def _ssh_unlock(answers: Answers, path: Path) -> Iterator[Problem]:
    asked = answers.storage.encryption.ssh
    if not answers.storage.encryption.enable:
        return
    for field in sorted(_said(asked) - {"enable"}) if not asked.enable else ():
        yield Problem((*path, field), "means nothing without SSH", "write `enable = true`, or remove it")
    for number, line in enumerate(asked.keys):
        try:
            limits = parse_ssh_key(line).limits
        except ValueError as error:
            yield Problem(
                (*path, "keys", number),
                str(error),
                "paste the one line of a `.pub` file, e.g. ~/.ssh/id_ed25519.pub",
            )
        else:
            if limits:
                yield Problem(
                    (*path, "keys", number),
                    f"forbids what it is for: {', '.join(limits)}",
                    "paste the key without these options",
                )
    if not asked.enable:
        return
    if not asked.keys and not unlock_keys(answers):
        yield Problem(
            (*path, "keys"),
            "nobody could type the passphrase: no key is named, and no administrator has one that lets in from everywhere",
            'add `keys = ["ssh-ed25519 …"]`, or give an administrator `ssh_keys`',
        )
    if asked.port == answers.ssh.port and answers.ssh.enable:
        yield Problem(
            (*path, "port"),
            "is the host's own SSH port, and the host key is another one: every client would warn of an attack",
            "write another port, e.g. 2222",
        )


def _boot(answers: Answers) -> Iterator[Problem]:
    boot = answers.boot
    if boot.loader == "systemd-boot" and boot.firmware == "bios":
        yield Problem(
            ("boot", "loader"),
            "systemd-boot starts under UEFI only, and firmware is `bios`",
            'write `loader = "auto"` or `"grub"`',
        )
    if boot.kernels is KernelsPlace.xbootldr:
        yield from _xbootldr(answers)
    if boot.secure_boot:
        yield from _secure_boot(answers)
    if boot.esp_size is not None and parse_size(boot.esp_size) < _ESP_LEAST:
        yield Problem(
            ("boot", "esp_size"),
            "is less than 1 GiB; kernel and initrd of every generation go there",
            "write `2GiB`",
        )


def _secure_boot(answers: Answers) -> Iterator[Problem]:
    path: Path = ("boot", "secure_boot")
    if answers.boot.firmware == "bios":
        yield Problem(path, "is UEFI's, and firmware is `bios`", "remove it")
    if answers.boot.loader is BootLoader.grub:
        yield Problem(
            path,
            "signs what systemd-boot starts; GRUB reads a menu that nobody signs",
            'remove it, or write `loader = "auto"`',
        )


def _xbootldr(answers: Answers) -> Iterator[Problem]:
    path: Path = ("boot", "kernels")
    if answers.boot.firmware == "bios":
        yield Problem(path, "is UEFI's, and firmware is `bios`", "remove it")
    if answers.boot.loader is BootLoader.grub:
        yield Problem(
            path,
            "is systemd-boot's own; GRUB has its kernels where it is told",
            'remove it, or write `loader = "auto"`',
        )
    if answers.storage.layout is not LayoutKind.one_disk:
        yield Problem(
            path,
            "is for one disk: each disk of a mirror has its kernels on its own EFI system partition, so that it boots alone",
            "remove it",
        )


def _users(answers: Answers) -> Iterator[Problem]:
    for number, user in enumerate(answers.users):
        path = ("users", number)
        if user.name in _SYSTEM_USERS or user.name.startswith(_SYSTEM_PREFIXES):
            yield Problem(
                (*path, "name"),
                "is an account of the system",
                "use a person's name; administrators become root by sudo",
            )
        if ":" in user.full_name:
            yield Problem(
                (*path, "full_name"), "holds a colon, which separates fields of passwd(5)", "remove it"
            )
        yield from _credentials(user, path)
        for position, group in enumerate(user.groups):
            if group == "wheel":
                yield Problem(
                    (*path, "groups", position), "makes an administrator", "write `admin = true` instead"
                )
            if group in user.groups[:position]:
                yield Problem((*path, "groups", position), "stands there twice", "remove one")
    for number, name in _repeated((number, user.name) for number, user in enumerate(answers.users)):
        yield Problem(("users", number, "name"), f"a second user {name}", "give each user a name of its own")
    if answers.ssh.password_login and not answers.ssh.enable:
        yield Problem(
            ("ssh", "password_login"),
            "means nothing while SSH is off",
            "remove it, or write `enable = true`",
        )


def _credentials(user: User, path: Path) -> Iterator[Problem]:
    if user.password_hash is not None:
        if user.password_hash_file is not None:
            yield Problem(
                (*path, "password_hash_file"), "there is a password_hash as well", "remove one of the two"
            )
        if fault := hash_fault(user.password_hash):
            yield Problem(
                (*path, "password_hash"),
                fault,
                "write what `mkpasswd -m yescrypt` prints, whole, in single quotes",
            )
    blobs: list[bytes] = []
    for number, line in enumerate(user.ssh_keys):
        where = (*path, "ssh_keys", number)
        try:
            key = parse_ssh_key(line)
        except ValueError as error:
            yield Problem(
                where, str(error), "paste the one line of a `.pub` file, e.g. ~/.ssh/id_ed25519.pub"
            )
            continue
        if key.blob in blobs:
            yield Problem(where, "is there twice", "remove one")
        blobs.append(key.blob)


def _proxy(answers: Answers) -> Iterator[Problem]:
    network = answers.network
    if network.proxy:
        path = ("network", "proxy")
        host, login = _url_parts(network.proxy)
        if login:
            yield Problem(
                path,
                "holds a login; the proxy's address is readable by every user of the host",
                "remove what stands before the `@`, and let the proxy admit this host by its address",
            )
        elif not host:
            yield Problem(path, "has no host, or no valid port", "write `http://proxy.example.org:3128`")
    elif network.no_proxy:
        yield Problem(("network", "no_proxy"), "means nothing without a proxy", "remove it, or add `proxy`")
    for field, entries in (("no_proxy", network.no_proxy), ("ntp", network.ntp)):
        for number, entry in enumerate(entries):
            if not entry or set(entry) & set(", \t"):
                yield Problem(
                    ("network", field, number), "is not one name", "write each as an element of its own"
                )


def _url_parts(url: str) -> tuple[str | None, bool]:
    """The host if the URL is sound, and whether it carries a login."""
    try:
        parts = urlsplit(url)
        return (parts.hostname if parts.port != 0 else None), "@" in parts.netloc
    except ValueError:
        return None, "@" in url


def _system(answers: Answers) -> Iterator[Problem]:
    system = answers.system
    if system.source == "closure" and not system.closure:
        yield Problem(
            ("system", "closure"),
            "source `closure` needs the name of one",
            'add `closure = "…"`; the medium\'s own are listed in /etc/hyper-nixos/medium.json',
        )
    if system.source == "flake" and system.closure is not None:
        yield Problem(
            ("system", "closure"),
            "means nothing with source `flake`",
            'write `source = "closure"`, or remove it',
        )
    if system.closure and "/" in system.closure and not system.closure.startswith("/nix/store/"):
        yield Problem(
            ("system", "closure"), "is a path outside /nix/store", "write a store path, or the medium's name"
        )
    for number, cache in enumerate(system.substituters):
        path = ("system", "substituters", number)
        scheme = cache.url.partition("://")[0]
        host, login = _url_parts(cache.url)
        if scheme not in _CACHE_SCHEMES or (not host and scheme != "file"):
            yield Problem(
                (*path, "url"),
                "is not the URL of a binary cache",
                "write for example `https://cache.example.org`",
            )
        elif login:
            yield Problem(
                (*path, "url"),
                "holds a login; Nix's settings are readable by everyone",
                "use a netrc file on the host",
            )
        elif system.offline and scheme != "file":
            yield Problem(
                (*path, "url"), "needs the network, and `offline` forbids it", "remove one of the two"
            )
        if cache.public_key is not None and (fault := _public_key_fault(cache.public_key)):
            hidden = "(a secret, not repeated)" if "secret" in fault else None
            yield Problem(
                (*path, "public_key"), fault, "write `name:base64` as the cache publishes it", value=hidden
            )
    for number, url in _repeated((number, cache.url) for number, cache in enumerate(system.substituters)):
        yield Problem(
            ("system", "substituters", number, "url"),
            f"a second cache {urlsplit(url).hostname or ''}".strip(),
            "remove it",
        )
    for number, pem in enumerate(system.ca_certificates):
        if fault := _certificate_fault(pem):
            yield Problem(
                ("system", "ca_certificates", number), fault, "paste the PEM text of a CA certificate, whole"
            )


def _public_key_fault(text: str) -> str | None:
    """Nix's form of an Ed25519 public key (nix.conf, trusted-public-keys)."""
    name, _, encoded = text.partition(":")
    try:
        length = len(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if length == 64:
        return "is a secret key; whoever has it can sign anything for this cache"
    return None if name and length == 32 else "is not a public key of a binary cache"


def _certificate_fault(pem: str) -> str | None:
    """RFC 7468: header, base64 of a DER sequence, footer; one or more of them."""
    if "PRIVATE KEY" in pem:
        return "holds a private key"
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    bodies = [piece.partition(end) for piece in pem.split(begin)[1:]]
    if not bodies or any(not closing for _, closing, _ in bodies):
        return "is not a PEM certificate from BEGIN to END"
    for body, _, _ in bodies:
        try:
            good = base64.b64decode("".join(body.split()), validate=True)[:1] == b"\x30"
        except (binascii.Error, ValueError):
            good = False
        if not good:
            return "does not hold a certificate between BEGIN and END"
    return None


def _hypervisor(answers: Answers) -> Iterator[Problem]:
    asked = []
    for number, device in enumerate(answers.hypervisor.passthrough):
        path = ("hypervisor", "passthrough", number)
        if (device.address is None) == (device.ids is None):
            yield Problem(
                path, "needs either `address` or `ids`, not both", "`hv probe` lists the devices with both"
            )
        asked.append((number, device.ids or (device.address or "").removeprefix("0000:")))
    for number, name in _repeated((number, name) for number, name in asked if name):
        yield Problem(("hypervisor", "passthrough", number), f"names {name} a second time", "remove one")

    yield from check_features(answers.hypervisor)


def _first_run(answers: Answers) -> Iterator[Problem]:
    first_run = answers.first_run
    for number, vm in enumerate(first_run.vms):
        path = ("first_run", "vms", number, "image")
        source, _, name = vm.image.partition(":")
        if not (vm.image.startswith("/") or vm.fetched or (source == "medium" and name)):
            yield Problem(
                path,
                "is neither `medium:NAME`, `template:NAME`, a URL nor an absolute path",
                "write it as one of these",
            )
        elif source == "template" and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
            yield Problem(path, "names no template", "see `hv image templates` for the names")
        elif vm.fetched and source != "template":
            yield from _image_address(number, vm)
    for number, name in _repeated((number, vm.name) for number, vm in enumerate(first_run.vms)):
        yield Problem(
            ("first_run", "vms", number, "name"), f"a second guest {name}", "give each guest its own name"
        )
    pool = first_run.pool
    if posixpath.normpath(pool) != pool or pool == "/" or _within(pool, (*_MANAGED, "/nix", "/etc")):
        yield Problem(
            ("first_run", "pool"),
            "is no place for guests' disks",
            "write for example `/var/lib/libvirt/images`",
        )


def _image_address(number: int, vm: VmAnswers) -> Iterator[Problem]:
    path = ("first_run", "vms", number, "image")
    address = urlsplit(vm.image)
    if not address.hostname or re.search(r"\s", vm.image):
        yield Problem(path, "is no URL that can be fetched", "write it as `https://server/path/image.qcow2`")
    elif address.username is not None:
        yield Problem(
            path,
            "has a name or a password in it, which everybody who reads the answers would know",
            "offer the image without one: `image_sha256` says that it is the right one",
        )
    elif vm.image_sha256 is None:
        yield Problem(
            ("first_run", "vms", number, "image_sha256"),
            f"is missing, and nothing else vouches for {vm.image}",
            "write the SHA-256 of the image, as sha256sum(1) prints it",
        )


def _hooks(answers: Answers) -> Iterator[Problem]:
    for number, hook in enumerate(answers.hooks):
        if not hook.command[0].startswith("/"):
            yield Problem(
                ("hooks", number, "command", 0),
                "is not an absolute path; no shell and no PATH looks for it",
                "write the whole path of the program",
            )


def _said(table: BaseModel) -> set[str]:
    """Fields that say something: those that differ from their defaults. A file may spell out all of them."""
    return {
        name
        for name, field in type(table).model_fields.items()
        if getattr(table, name) != field.get_default()
    }


Key = TypeVar("Key")
Value = TypeVar("Value")


def _repeated(pairs: Iterable[tuple[Key, Value]]) -> Iterator[tuple[Key, Value]]:
    """Pairs whose value came before."""
    seen: set[Value] = set()
    for key, value in pairs:
        if value in seen:
            yield key, value
        seen.add(value)


def _webhooks(answers: Answers) -> Iterator[Problem]:
    for number, webhook in enumerate(answers.webhooks):
        parts = urlsplit(webhook.url)
        place = ("webhooks", number, "url")
        if parts.username or parts.password:
            yield Problem(
                place,
                "has a name or password in it, which would end in logs",
                "remove it; `secret = { file = … }` signs the events",
            )
        elif not parts.hostname or parts.fragment:
            yield Problem(place, "is no URL of a server", "write it as https://server/path")
        elif webhook.certificate and parts.scheme != "https":
            yield Problem(
                ("webhooks", number, "certificate"),
                "belongs to TLS, and the URL begins with http://",
                "write https://, or remove the certificate",
            )
