"""Collects the bundle: a tar archive, compressed with zstd, written for root alone."""

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from installer import VERSION
from installer.errors import Exit, HyperError
from installer.execute.disclosure import waiting_key
from installer.execute.files import write_file
from installer.execute.live import LiveSystem
from installer.execute.runner import CommandError, Runner
from installer.probe.root import LiveRoot, Root
from installer.support.scrub import Scrub

HOST_LOGS = "/var/log/hyper-nixos"
"""Where an installed host keeps the same files."""
NAMES = ("install.log", "journal.jsonl", "plan.json", "plan.txt", "facts.json")
FILES = (
    "/etc/os-release",
    "/etc/hyper-nixos/medium.json",
    "/var/lib/hyper-nixos/handoff.json",
    "/proc/cmdline",
    "/proc/meminfo",
    "/proc/mounts",
    "/proc/partitions",
)
COMMANDS = {
    "kernel.txt": ("uname", "-a"),
    "kernel-log.txt": ("dmesg", "--ctime"),
    "system-log.txt": ("journalctl", "--boot", "--no-pager", "--lines", "5000", "--output", "short-iso"),
    "failed-units.txt": ("systemctl", "--failed", "--no-pager", "--plain"),
    "disks.txt": (
        *("lsblk", "--output"),
        "NAME,SIZE,TYPE,FSTYPE,LABEL,PARTLABEL,MOUNTPOINTS,MODEL,SERIAL,WWN,TRAN",
    ),
    "addresses.txt": ("ip", "address"),
    "routes.txt": ("ip", "route"),
    "efi.txt": ("efibootmgr", "--verbose"),
    "firstrun.txt": ("hv", "firstrun", "status"),
}
"""What programs tell; one that is missing or fails says so in its file. None of them changes anything."""
LARGEST = 16 << 20
"""Bytes of one file; of longer ones the end is taken."""
LIMIT = 30.0
"""Seconds for one program."""


@dataclass(frozen=True)
class Collector:
    """Where things are collected from."""

    runner: Runner
    """For programs, zstd among them."""
    live: LiveSystem = field(default_factory=LiveSystem)
    """The live system of the installation."""
    root: Root = field(default_factory=LiveRoot)
    """Files of this system."""
    secrets: tuple[Path, ...] = (
        Path("/run/hyper-nixos/live/secrets"),
        Path("/run/hyper-nixos/live/password"),
        Path("/run/secrets"),
        Path("/run/hooks"),
    )
    """Files, and folders with files, whose content must not be in the bundle, in whatever form."""


@dataclass(frozen=True)
class Bundle:
    """One that was written."""

    path: Path
    """Where."""
    members: tuple[str, ...]
    """What is in it."""


def make_bundle(
    collector: Collector,
    path: Path,
    *,
    secret_files: Iterable[Path] = (),
    more: Mapping[str, Path] | None = None,
    note: str = "",
) -> Bundle:
    """Write the bundle.

    Args:
        collector: Where from.
        path: Where to, `….tar.zst`.
        secret_files: Further files with secrets, those that the answers name.
        more: Further files to take, by the name that they get.
        note: What a person should read first, e.g. the error.

    Raises:
        HyperError: it cannot be written.
    """
    scrub = Scrub(_values((*collector.secrets, waiting_key(collector.live), *secret_files)))
    members: dict[str, bytes] = {}
    for name, content in _collect(collector, note):
        members[name] = scrub.document(content)
    for name, file in (more or {}).items():
        if file.is_file():
            members[f"install/{name}"] = scrub.document(file.read_bytes()[-LARGEST:])
    try:
        packed = collector.runner.run(
            ["zstd", "--quiet", "--stdout", "-9"], stdin=_tar(members), quiet=True, timeout=120
        )
        write_file(path, packed.stdout, 0o600)
    except (OSError, CommandError) as error:
        raise HyperError(
            f"the support bundle {path} cannot be written",
            why=error.why if isinstance(error, CommandError) else error.strerror or str(error),
            remedy="name a file elsewhere with --output",
            code=Exit.failed,
        ) from error
    return Bundle(path, tuple(members))


def _values(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
            try:
                if file.is_file() and file.stat().st_size <= 1 << 20:
                    yield file.read_bytes()
            except OSError:
                continue


def _collect(collector: Collector, note: str) -> Iterator[tuple[str, bytes]]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    yield (
        "README.txt",
        (
            f"Support bundle of Hyper-NixOS {VERSION}, {now}\n"
            "Secrets are taken out. Serial numbers, addresses and names of this machine are in it.\n"
            + (f"\n{note}\n" if note else "")
        ).encode(),
    )
    # What the installer keeps counts more than a program's output: it is read before any is run.
    for name in NAMES:
        for folder, place in ((str(collector.live.runtime), "install"), (HOST_LOGS, "host")):
            content = _end_of(collector, f"{folder}/{name}")
            if content is not None:
                yield f"{place}/{name}", content
    earlier = sorted(collector.live.runtime.glob("earlier-*/*"))
    for path in (each for each in earlier if each.name in NAMES):
        yield f"install/{path.parent.name}/{path.name}", path.read_bytes()[-LARGEST:]
    for file in FILES:
        content = _end_of(collector, file)
        if content is not None:
            yield f"system{file}", content
    for name, argv in COMMANDS.items():
        yield f"system/{name}", _told(collector.runner, argv)


def _end_of(collector: Collector, path: str) -> bytes | None:
    """The end of a file: of the installer's own as it is, of the system's below its root."""
    if path.startswith(str(collector.live.runtime)):
        try:
            return Path(path).read_bytes()[-LARGEST:]
        except OSError:
            return None
    return collector.root.data(path)


def _told(runner: Runner, argv: tuple[str, ...]) -> bytes:
    try:
        found = runner.run(list(argv), check=False, quiet=True, timeout=LIMIT)
    except CommandError as error:
        return f"{error.what}: {error.why}\n".encode()
    ending = f"\n[exit status {found.status}] {found.stderr}\n".encode() if found.status else b""
    return found.stdout[-LARGEST:] + ending


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"support-bundle/{name}")
            member.size, member.mode = len(content), 0o600
            member.mtime = int(datetime.now(UTC).timestamp())
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
