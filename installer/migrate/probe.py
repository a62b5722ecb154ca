"""Looks at a running system before anything is decided. Reads only, below a root and by programs that are passed in."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from installer.execute.runner import CommandError, Runner
from installer.logins import WHEEL, parse_account, usable_keys
from installer.migrate.evaluation import EvaluationError, Evaluator
from installer.migrate.findings import (
    FILE,
    Configuration,
    Findings,
    Guest,
    Kind,
    Listener,
    Login,
    Space,
)
from installer.migrate.trial import TRIAL
from installer.probe.root import LiveRoot

SPACES = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "vfat", "f2fs", "bcachefs", "msdos")
STATES = {"tcp": "0A", "udp": "07"}
"""Listening, in proc_net_tcp(5); a UDP socket that is bound has the state that TCP calls closed."""


def free_space(path: str) -> tuple[int, int]:
    """Bytes in all and bytes free of a mounted file system."""
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


@dataclass(frozen=True)
class Asked:
    """Which configuration a person named."""

    flake: str | None = None
    """Folder with a flake.nix, or such a folder and `#host`."""
    file: str | None = None
    """A configuration.nix."""


@dataclass(frozen=True)
class Looking:
    """What the probe looks with."""

    prefix: str
    """The machine's root: `/`, or a folder that stands for it."""
    runner: Runner
    """Runs `ip`, `nft`, `git`."""
    evaluator: Evaluator
    """Asks Nix."""
    space: Callable[[str], tuple[int, int]] = free_space
    """Bytes in all and free, by mount point."""

    @property
    def root(self) -> LiveRoot:
        """Files."""
        return LiveRoot(self.prefix)

    def path(self, absolute: str) -> Path:
        """A path of the machine."""
        return Path(self.prefix, absolute.lstrip("/"))


def look(looking: Looking, asked: Asked) -> Findings:
    """Everything that a migration must know."""
    root = looking.root
    release = dict(_assignments(root.text("/etc/os-release") or ""))
    system = release.get("ID", "an unknown system")
    configuration = Configuration(kind=Kind.none, named="/etc/nixos", root="/etc/nixos", entry="")
    if system == "nixos":
        configuration = find_configuration(looking, asked)
    spaces = tuple(_spaces(looking))
    return Findings(
        os=system,
        release=release.get("VERSION_ID"),
        current=root.real("/run/current-system"),
        booted=root.real("/run/booted-system"),
        profile=root.real("/nix/var/nix/profiles/system"),
        copied_configuration=root.data("/run/current-system/configuration.nix") is not None,
        upgrades_from=_upgrades(root),
        configuration=configuration,
        efi="efi" in root.names("/sys/firmware"),
        variables_writable=_variables(root),
        boot_files=tuple(_boot_files(root)),
        spaces=spaces,
        entry_bytes=sum(_size(looking, f"/run/current-system/{name}") for name in ("kernel", "initrd")),
        logins=tuple(_logins(root)),
        guests=tuple(_guests(root)),
        pools=_defined(root, "/var/lib/libvirt/storage"),
        networks=_defined(root, "/var/lib/libvirt/qemu/networks"),
        listeners=tuple(_listeners(root)),
        tables=tuple(_tables(looking)),
        addresses=tuple(_addresses(looking)),
        gateways=tuple(_gateways(looking)),
        trial=root.data(TRIAL) is not None,
    )


def find_configuration(looking: Looking, asked: Asked) -> Configuration:
    """What the system is built from, in nixos-rebuild's order: what was named, /etc/nixos/flake.nix, nixos-config in
    NIX_PATH, /etc/nixos/configuration.nix.
    """
    named, host = "/etc/nixos", None
    if asked.flake is not None:
        named, _, name = asked.flake.partition("#")
        host = name or None
    if asked.file is None:
        real = looking.path(named).resolve()
        # The flake.nix itself may be the symbolic link.
        if (real / "flake.nix").is_file():
            return _flake(looking, named, (real / "flake.nix").resolve(), host)
        if asked.flake is not None:
            return Configuration(kind=Kind.none, named=f"{named}/flake.nix", root=named, entry="flake.nix")
    file = asked.file or _from_nix_path(looking.root) or "/etc/nixos/configuration.nix"
    path = looking.path(file).resolve()
    path = path / "default.nix" if path.is_dir() else path
    if not path.is_file():
        return Configuration(kind=Kind.none, named=file, root=str(Path(file).parent), entry=Path(file).name)
    return _channel(looking, file, path)


def _flake(looking: Looking, named: str, file: Path, host: str | None) -> Configuration:
    root, repository = _repository(looking, file.parent)
    base = Configuration(
        kind=Kind.flake,
        named=named,
        root=str(root),
        entry=str(file.relative_to(root)),
        writable=_writable(file.parent),
        repository=repository,
        changed=tuple(_uncommitted(looking, root)) if repository else (),
        files={str(file.relative_to(root)): file.read_text(encoding="utf-8")},
    )
    try:
        hosts = looking.evaluator.host_names(base)
    except EvaluationError as error:
        return base.model_copy(update={"fault": error.why, "host": host})
    own = looking.root.text("/proc/sys/kernel/hostname") or ""
    host = host or (own if own in hosts else None)
    if host not in hosts:
        return base.model_copy(update={"hosts": hosts, "host": None})
    base = base.model_copy(update={"hosts": hosts, "host": host})
    return _evaluated(looking, base, looking.evaluator.host_files(base) if len(hosts) > 1 else {})


def _channel(looking: Looking, named: str, file: Path) -> Configuration:
    root, repository = _repository(looking, file.parent)
    base = Configuration(
        kind=Kind.channel,
        named=named,
        root=str(root),
        entry=str(file.relative_to(root)),
        writable=_writable(file.parent),
        repository=repository,
        changed=tuple(_uncommitted(looking, root)) if repository else (),
        files={str(file.relative_to(root)): file.read_text(encoding="utf-8")},
    )
    return _evaluated(looking, base, {})


def _evaluated(looking: Looking, base: Configuration, hosts: dict[str, tuple[str, ...]]) -> Configuration:
    """With its summary, and the texts of the files that the import may go into."""
    root = Path(base.root)
    try:
        summary = looking.evaluator.summary(base)
    except EvaluationError as error:
        return base.model_copy(update={"fault": error.why, "existing": _existing(root, [base.entry])})
    own = [name for each in summary.definers if (name := below(each, root))]
    others = {
        name
        for other, listed in hosts.items()
        if other != base.host
        for each in listed
        if (name := below(each, root))
    }
    several = len(base.hosts) > 1
    files = dict(base.files)
    for name in own:
        path = root / name
        if path.is_file() and path.suffix == ".nix":
            files.setdefault(name, path.read_text(encoding="utf-8"))
    # With several hosts, and no word on what they share, no file is this host's alone.
    shared = others if hosts or not several else set(files)
    return base.model_copy(
        update={
            "summary": summary,
            "files": files,
            "shared": tuple(sorted(shared & set(files))),
            "existing": _existing(root, list(files)),
        }
    )


def below(path: str, root: Path) -> str | None:
    """A file that Nix names, as a path below the configuration's root: it may lie in the store's copy of it."""
    stored = re.fullmatch(r"/nix/store/[a-z0-9]{32}-[^/]+/(.+)", path)
    inside = stored[1] if stored else None
    if path.startswith(f"{root}/"):
        inside = str(Path(path).relative_to(root))
    if inside and (root / inside).is_dir():
        inside = f"{inside}/default.nix"
    return inside if inside and (root / inside).is_file() else None


def _existing(root: Path, names: list[str]) -> str | None:
    for folder in dict.fromkeys((root / name).parent for name in names):
        file = folder / FILE
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return None


def _repository(looking: Looking, folder: Path) -> tuple[Path, bool]:
    """The repository around a folder, or the folder."""
    for each in (folder, *folder.parents):
        if (each / ".git").exists():
            return each, True
        if each == Path(looking.prefix).resolve():
            break
    return folder, False


def _writable(folder: Path) -> bool:
    """Root may write everywhere but to the store and what is mounted read-only."""
    return not str(folder).startswith("/nix/store/") and os.access(folder, os.W_OK)


def _uncommitted(looking: Looking, root: Path) -> Iterator[str]:
    try:
        said = looking.runner.run(git("status", "--porcelain", root=root), timeout=60, quiet=True).text
    except CommandError:
        return
    yield from (line[3:] for line in said.splitlines())


def git(*words: str, root: Path) -> tuple[str, ...]:
    """A git command for a repository that may be another user's: root is asked to trust this one folder."""
    return ("git", "-c", f"safe.directory={root}", "-C", str(root), *words)


def _from_nix_path(root: LiveRoot) -> str | None:
    """nixos-config of the NIX_PATH that every session gets."""
    found = re.search(r'NIX_PATH="([^"]*)"', root.text("/etc/set-environment") or "")
    for entry in (found[1] if found else "").split(":"):
        name, _, path = entry.partition("=")
        if name == "nixos-config" and path.startswith("/"):
            return path
    return None


def nix_path(root: LiveRoot) -> str:
    """NIX_PATH as root's shell has it, with the channel's default last."""
    found = re.search(r'NIX_PATH="([^"]*)"', root.text("/etc/set-environment") or "")
    default = "nixpkgs=/nix/var/nix/profiles/per-user/root/channels/nixos:nixos-config=/etc/nixos/configuration.nix:/nix/var/nix/profiles/per-user/root/channels"
    said = (found[1] if found else "").replace("$HOME", "/root").replace("''${NIX_PATH:+:$NIX_PATH}", "")
    return ":".join(part for part in (said.replace("${NIX_PATH:+:$NIX_PATH}", ""), default) if part)


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign:
            yield name, value.strip('"')


def _upgrades(root: LiveRoot) -> str | None:
    script = root.text("/etc/systemd/system/nixos-upgrade.service") or ""
    found = re.search(r"--flake[= ](\S+)", script)
    return found[1] if found else None


def _variables(root: LiveRoot) -> bool:
    return any(
        len(words := line.split()) > 5
        and words[4] == "/sys/firmware/efi/efivars"
        and "rw" in words[5].split(",")
        for line in (root.text("/proc/self/mountinfo") or "").splitlines()
    )


def _boot_files(root: LiveRoot) -> Iterator[str]:
    for mount in ("/boot", "/boot/efi", "/efi"):
        if root.data(f"{mount}/loader/loader.conf") is not None:
            yield "systemd-boot"
    if root.data("/boot/grub/grub.cfg") is not None:
        yield "grub"


def _size(looking: Looking, path: str) -> int:
    try:
        return looking.path(path).stat().st_size
    except OSError:
        return 0


def _spaces(looking: Looking) -> Iterator[Space]:
    """Mounted file systems of disks (proc_pid_mountinfo(5)); of several at one place the last is seen."""
    found = {}
    for line in (looking.root.text("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        words, tail = before.split(), after.split()
        if len(words) > 4 and len(tail) > 1 and tail[0] in SPACES:
            mount = words[4].encode().decode("unicode_escape")
            try:
                total, free = looking.space(mount)
            except OSError:
                continue
            found[mount] = Space(mount=mount, device=tail[1], kind=tail[0], total=total, free=free)
    yield from found.values()


def _logins(root: LiveRoot) -> Iterator[Login]:
    """Members of wheel who may log in, and with what: the files as they are now, whoever wrote them."""
    files = [root.text(f"/etc/{name}") or "" for name in ("passwd", "group", "shadow")]
    wheel = next((row.split(":") for row in files[1].splitlines() if row.startswith(f"{WHEEL}:")), [])
    for name in filter(None, wheel[3].split(",") if len(wheel) > 3 else ()):
        account = parse_account(name, *files)
        if account is None:
            continue
        texts = (
            root.text(path)
            for path in (f"/etc/ssh/authorized_keys.d/{name}", f"{account.home}/.ssh/authorized_keys")
        )
        keys = sum(len(usable_keys(text)) for text in texts if text)
        yield Login(name=name, keys=keys, password=account.has_password)


def _defined(root: LiveRoot, folder: str) -> tuple[str, ...]:
    return tuple(name.removesuffix(".xml") for name in root.names(folder) if name.endswith(".xml"))


def _guests(root: LiveRoot) -> Iterator[Guest]:
    running = _defined(root, "/run/libvirt/qemu")
    autostart = _defined(root, "/var/lib/libvirt/qemu/autostart")
    for file in _defined(root, "/var/lib/libvirt/qemu"):
        text = root.text(f"/var/lib/libvirt/qemu/{file}.xml") or ""
        try:
            name = ElementTree.fromstring(text).findtext("name") or file  # noqa: S314  (root's own files)
        except ElementTree.ParseError:
            name = file
        yield Guest(name=name, running=name in running, autostart=name in autostart)


def _listeners(root: LiveRoot) -> Iterator[Listener]:
    """Open ports (proc_net_tcp(5)); addresses as they are read there, in the byte order of this machine."""
    seen = set()
    for protocol in ("tcp", "udp"):
        for family in ("", "6"):
            for line in (root.text(f"/proc/net/{protocol}{family}") or "").splitlines()[1:]:
                words = line.split()
                if len(words) < 4 or words[3] != STATES[protocol]:
                    continue
                address, _, port = words[1].partition(":")
                listener = (protocol, _address(address), int(port, 16))
                if listener not in seen:
                    seen.add(listener)
                    yield Listener.model_validate(
                        {"protocol": protocol, "address": listener[1], "port": listener[2]}
                    )


def _address(text: str) -> str:
    from ipaddress import ip_address

    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return str(ip_address(b"".join(words)))


def _tables(looking: Looking) -> Iterator[str]:
    try:
        said = looking.runner.run(("nft", "--json", "list", "tables"), timeout=30, quiet=True).text
        for each in json.loads(said)["nftables"]:
            if table := each.get("table"):
                yield f"{table['family']} {table['name']}"
    except (CommandError, ValueError, KeyError):
        return


def _addresses(looking: Looking) -> Iterator[str]:
    for link in _ip(looking, "address", "show"):
        for each in link.get("addr_info", ()):
            if each.get("scope") == "global" and not link["ifname"].startswith(
                ("virbr", "docker", "podman", "veth")
            ):
                yield f"{each['local']}/{each['prefixlen']}"


def _gateways(looking: Looking) -> Iterator[str]:
    for version in ("-4", "-6"):
        for route in _ip(looking, version, "route", "show", "default"):
            if gateway := route.get("gateway"):
                yield gateway


def _ip(looking: Looking, *words: str) -> list[Any]:
    try:
        said = looking.runner.run(("ip", "-json", *words), timeout=30, quiet=True).text
        return [each for each in json.loads(said) if each]
    except (CommandError, ValueError):
        return []
