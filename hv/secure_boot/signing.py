"""Has the boot partitions hold signed files: the loader, and one image for every system that the menu has room for.

It runs as the last part of NixOS's own boot loader hook, at every generation. NixOS's entries stay as they are, for the time
that Secure Boot is off: firmware that enforces it starts none of them, since their kernels are not signed. Before anything
else the default goes back to the last signed one, which NixOS's program has just replaced, and it moves on only once the
new image is whole on the disk: whenever the power goes, what the default names can be started.

The loader is signed under a name of its own as well, which `bootctl update` never writes: it is what the firmware's menu
names first, and there is no moment without it.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hv.esp.inventory import FALLBACK, LOADER_CONF, MANAGER, OWN, PARTIAL, PROGRAMS
from hv.esp.writing import Disk, Writes, drop, make_folders, put
from hv.firstrun.world import Programs
from hv.secure_boot.generations import System
from hv.secure_boot.keys import Keys
from hv.secure_boot.settings import SecureBootSettings
from hv.unified_image import CHUNK, unify
from hv.unified_image import FOLDER as IMAGES
from installer.errors import Exit, HyperError

STATE = "/var/lib/hyper-nixos/secure-boot"
RECORD = "signed.json"
"""What each signed file was made from."""
MARK = b"#### LoaderInfo: systemd-boot "
"""systemd-boot's programs carry it (bootctl looks for the same)."""
SLACK = 8 << 20
"""Bytes that are left free on the partition: NixOS's program writes its entries there, and FAT its tables."""
_LINE = re.compile(r"^\s*(default|preferred)\s+(?P<value>.*?)\s*$")
_OURS = re.compile(r"nixos-.+\.efi")


@dataclass(frozen=True)
class Signed:
    """What came of it."""

    default: str
    """The image that is started when nobody chooses."""
    images: tuple[str, ...]
    """All that are there, default first."""
    left_out: tuple[str, ...] = ()
    """Systems without a signed image: there was no room, or something of them is missing."""
    said: tuple[str, ...] = field(default=())
    """What changed, a line each."""


@dataclass(frozen=True)
class Signer:
    """Signs for one host; everything that it touches is named here."""

    settings: SecureBootSettings
    keys: Keys
    programs: Programs
    disk: Writes = field(default_factory=Disk)
    root: Path = Path("/")
    """Where the host's absolute paths are looked up, and what it remembers."""

    def sign(self, systems: Sequence[System], default: str) -> Signed:
        """Sign for these systems, newest first; `default` is the toplevel that is to be started.

        Raises:
            HyperError: The default cannot be signed. The last signed default is then what is started.
        """
        esp, boot = self._path(self.settings.esp), self._path(self.settings.boot)
        said: list[str] = []
        for left in self._state.glob("work-*"):  # by a run whose power was cut; RAM disks may hold secrets
            shutil.rmtree(left)
        record = _read_record(self._state / RECORD)
        before = record.get("default", {}).get("image", "")
        if before and (boot / IMAGES / before).is_file():
            self._write_default(esp, before)
        first = next((each for each in systems if each.toplevel == default), None)
        if first is None:
            raise HyperError(
                "The default system is none that this host has.",
                why=f"no generation of its profiles is {default}",
                remedy="Rebuild the host; `hv secure-boot sign` without --default takes the newest generation.",
            )
        make_folders(self.disk, esp, esp / OWN)
        make_folders(self.disk, boot, boot / IMAGES)
        said += self._sign_loaders(esp, record)
        wanted = (first, *(each for each in systems if each is not first))
        said += self._clear(boot, {each.file for each in wanted} | {before})
        images, left_out = [], []
        for system in wanted:
            try:
                did = self._sign_image(boot, system, record, required=system is first)
            except (HyperError, OSError) as error:
                why = error.why if isinstance(error, HyperError) else f"{error.filename}: {error.strerror}"
                if system is not first:
                    left_out.append(f"{system.file}: {why}")
                    continue
                if isinstance(error, HyperError):
                    raise
                raise HyperError(
                    "The default system cannot be signed.",
                    why=why,
                    remedy="The last signed system is started meanwhile. Look whether the Nix store is whole (`nix-store "
                    "--verify --check-contents`) and the boot partition has no errors (`journalctl -k`), then rebuild.",
                ) from error
            images.append(system.file)
            said += did
            if system is first:
                self._write_default(esp, first.file)
                record["default"] = {"image": first.file}
                self._remember(record)
        said += self._clear(boot, set(images))
        self._remember({name: value for name, value in record.items() if name in {*images, *_KEPT}})
        return Signed(first.file, tuple(images), tuple(left_out), tuple(said))

    def check(self, path: Path) -> str | None:
        """Why firmware with the host's keys would not start the file; none when it would."""
        if not path.is_file():
            return "it is not there"
        done = self.programs.run(
            (self.settings.tool("sbverify"), "--cert", str(self.keys.certificate("db")), str(path)),
            timeout=120,
            check=False,
        )
        return None if done.status == 0 else (done.stderr.strip() or done.text.strip()).splitlines()[-1]

    def loaders(self, esp: Path) -> Iterator[Path]:
        """The signed loader's places: ours first; the usual ones where systemd-boot, and no other system's, lies there."""
        for name, fallback in PROGRAMS.items():
            if name == Path(self.settings.loader).name:
                yield esp / OWN / name
                for path in (esp / MANAGER / name, esp / FALLBACK / fallback):
                    if path.is_file() and MARK in path.read_bytes():
                        yield path

    @property
    def _state(self) -> Path:
        return self._path(STATE)

    def _path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def _sign_loaders(self, esp: Path, record: dict[str, dict[str, str]]) -> Iterator[str]:
        source = self._path(self.settings.loader)
        made_from = _digest(source, self.keys.certificate("db"))
        places = tuple(self.loaders(esp))
        there = record.get("loader", {})
        stale = [
            path
            for path in places
            if there.get("from") != made_from or not path.is_file() or _digest(path) != there.get("is")
        ]
        if not stale:
            return
        with tempfile.TemporaryDirectory(dir=self._state, prefix="work-") as work:
            signed = Path(work) / source.name
            self._sign_file(source, signed)
            for path in places:
                put(self.disk, signed, path)
                yield f"signed {path.relative_to(esp)}"
            record["loader"] = {"from": made_from, "is": _digest(signed)}
        self._remember(record)

    def _sign_image(
        self, boot: Path, system: System, record: dict[str, dict[str, str]], *, required: bool
    ) -> tuple[str, ...]:
        target = boot / IMAGES / system.file
        stub = self._path(self.settings.stub)
        there = record.get(system.file, {})
        with tempfile.TemporaryDirectory(dir=self._state, prefix="work-") as work:
            initrd = self._initrd(system, Path(work), required=required, there=target.is_file())
            if initrd is None:  # its secrets are gone, and those in the image that is there are good
                return ()
            sections: dict[str, Path | bytes] = {
                ".osrel": _description(system),
                ".cmdline": system.command_line.encode(),
                **({".dtb": system.device_tree} if system.device_tree else {}),
                ".initrd": initrd,
                ".linux": system.kernel,  # last: it unpacks itself over what follows (systemd's ukify)
            }
            made_from = _digest(stub, self.keys.certificate("db"), *sections.values())
            if there.get("from") == made_from and target.is_file() and _digest(target) == there.get("is"):
                return ()
            plain, signed = Path(work) / "plain.efi", Path(work) / "signed.efi"
            unify(stub, sections, plain)
            self._sign_file(plain, signed)
            _require_room(boot, signed)
            put(self.disk, signed, target)
            record[system.file] = {"from": made_from, "is": _digest(signed)}
        self._remember(record)
        return (f"signed {target.relative_to(boot)}",)

    def _initrd(self, system: System, work: Path, *, required: bool, there: bool) -> Path | None:
        """The system's RAM disk, with its secrets, as NixOS's own program puts them there at every run."""
        if system.secrets is None:
            return system.initrd
        copy = work / "initrd"
        shutil.copyfile(system.initrd, copy)
        copy.chmod(0o600)
        done = self.programs.run((str(system.secrets), str(copy)), timeout=300, check=False)
        if done.status == 0:
            return copy
        if required:
            raise HyperError(
                "The RAM disk's secrets cannot be added.",
                why=done.stderr.strip() or f"{system.secrets} ended with {done.status}",
                remedy="Put the files back that `boot.initrd.secrets` names, and rebuild.",
            )
        return None if there else system.initrd

    def _sign_file(self, source: Path, target: Path) -> None:
        self.programs.run(
            (
                *(self.settings.tool("sbsign"), "--key", str(self.keys.key("db"))),
                *("--cert", str(self.keys.certificate("db"))),
                *("--output", str(target), str(source)),
            ),
            timeout=300,
        )
        if wrong := self.check(target):
            raise HyperError(
                f"{source.name} was not signed well.",
                why=f"sbverify: {wrong}",
                remedy="The last signed system stays the default. See `hv secure-boot status`.",
            )

    def _clear(self, boot: Path, kept: set[str]) -> Iterator[str]:
        """Images of generations that are gone, and what a power cut left half written."""
        for path in sorted((boot / IMAGES).iterdir()):
            if path.name.endswith(PARTIAL) or (_OURS.fullmatch(path.name) and path.name not in kept):
                drop(self.disk, path)
                yield f"removed {path.relative_to(boot)}"

    def _write_default(self, esp: Path, image: str) -> None:
        """As NixOS's program writes it, with the default alone replaced."""
        path = esp / LOADER_CONF
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines = [line for line in old.splitlines() if not _LINE.match(line)]
        new = "\n".join([*lines, f"default {image}"]) + "\n"
        if new == old:
            return
        with tempfile.TemporaryDirectory(dir=self._state, prefix="work-") as work:
            fresh = Path(work) / path.name
            fresh.write_text(new, encoding="utf-8")
            make_folders(self.disk, esp, path.parent)
            put(self.disk, fresh, path)

    def _remember(self, record: dict[str, dict[str, str]]) -> None:
        fresh = self._state / f"{RECORD}.new"
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._state / RECORD)


_KEPT = frozenset({"default", "loader"})


def _description(system: System) -> bytes:
    """os-release(5), from which the boot menu takes titles and order."""
    values = {"ID": "nixos", "PRETTY_NAME": f"{system.title}, signed", "VERSION": system.version}
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items()).encode()


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["$`\\])', r"\\\1", value.replace("\n", " ")) + '"'


def _require_room(boot: Path, image: Path) -> None:
    space = os.statvfs(boot)
    free, size = space.f_bavail * space.f_frsize, image.stat().st_size
    if size + SLACK > free:
        raise HyperError(
            "A signed image does not fit on the boot partition.",
            why=f"there is no room: it takes {size >> 20} MiB, and {free >> 20} MiB are free on {boot}",
            remedy="Keep fewer generations (`boot.loader.systemd-boot.configurationLimit`), delete old ones "
            "(`nix-collect-garbage --delete-older-than 30d`), and rebuild.",
            code=Exit.unsuitable,
        )


def _digest(*contents: Path | bytes) -> str:
    """SHA-256 over files and texts, each with its length, so that no two lists are alike."""
    found = hashlib.sha256()
    for each in contents:
        if isinstance(each, bytes):
            found.update(b"%d:" % len(each) + each)
            continue
        with each.open("rb") as file:
            found.update(b"%d:" % os.fstat(file.fileno()).st_size)
            while data := file.read(CHUNK):
                found.update(data)
    return found.hexdigest()


def _read_record(path: Path) -> dict[str, dict[str, str]]:
    """What was signed before; nothing when that cannot be told: then all is signed anew."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
