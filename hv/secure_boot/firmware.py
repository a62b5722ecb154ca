"""What the firmware says of Secure Boot, and how it gets the host's keys.

Variables: UEFI specification 2.10, 3.3 and 32.3 (SecureBoot, SetupMode, PK, KEK, db, dbx and the vendor's ...Default); as
files: Linux, Documentation/filesystems/efivarfs.rst, where four bytes of attributes come first.
"""

import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hv.firstrun.world import Programs
from hv.secure_boot.keys import Keys
from hv.secure_boot.settings import SecureBootSettings
from installer.errors import Exit, HyperError

VARIABLES = "/sys/firmware/efi/efivars"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
DATABASE = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
"""EFI_IMAGE_SECURITY_DATABASE_GUID."""
VENDORS = {"PK": GLOBAL, "KEK": GLOBAL, "db": DATABASE, "dbx": DATABASE}
SIGNER = {"PK": "PK", "KEK": "PK", "db": "KEK", "dbx": "KEK"}
"""Which key signs a change of it."""
ATTRIBUTES = 0x27
"""Non-volatile, for boot and run time, written with a time and a signature (7.2.1)."""
WORDS = "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,TIME_BASED_AUTHENTICATED_WRITE_ACCESS"
"""The same, as sbvarsign names them."""
_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10
"""FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL (linux/fs.h)."""


@dataclass(frozen=True)
class State:
    """What the firmware does now."""

    uefi: bool
    """Whether it started this system, and lets variables be read."""
    enforced: bool
    """SecureBoot: only what is signed is started."""
    setup_mode: bool
    """SetupMode: no platform key, so that keys can be given without one."""
    ours: bool
    """Whether the host's own db certificate is among those that it starts from."""


def state(folder: Path, keys: Keys) -> State:
    """Read it; a variable that is not there says no."""
    own = keys.der("db") if keys.there else None
    known = _value(folder, "db", DATABASE) or b""
    return State(
        uefi=any(folder.glob("*")) if folder.is_dir() else False,
        enforced=_value(folder, "SecureBoot", GLOBAL) == b"\1",
        setup_mode=_value(folder, "SetupMode", GLOBAL) == b"\1",
        ours=own is not None and own in known,
    )


@dataclass(frozen=True)
class Change:
    """One variable, as it is to be."""

    name: str
    lists: bytes
    """EFI signature lists (32.4.1): how it reads back."""
    written: bytes
    """The same behind who may change it, and when: an EFI_VARIABLE_AUTHENTICATION_2 (8.2.2)."""


@dataclass(frozen=True)
class Enroller:
    """Gives a firmware the host's keys."""

    folder: Path
    """The firmware's variables."""
    keys: Keys
    settings: SecureBootSettings
    programs: Programs

    def enrol(self, *, only_own: bool = False) -> Iterator[str]:
        """The host's keys beside the vendor's own: those that may be started first, the owner last, which ends setup mode.
        Says each, once it reads back.

        Raises:
            HyperError: The firmware is not in setup mode, keeps no vendor's keys to go beside ours (and `only_own` was not
                said), or does not take or keep one.
        """
        if not state(self.folder, self.keys).setup_mode:
            raise HyperError(
                "The firmware does not take the host's keys.",
                why="it is not in setup mode: it has an owner already (a platform key)",
                remedy="In the firmware's set-up, delete the platform key, or choose `Reset to setup mode` or `Clear Secure "
                "Boot keys`; leave Secure Boot off, start the host and run this again.",
                code=Exit.unsuitable,
            )
        if not only_own and not _value(self.folder, "dbDefault", GLOBAL):
            raise HyperError(
                "The firmware does not tell which keys its vendor put into it.",
                why="there is no variable dbDefault. Graphics and network cards may carry programs that Microsoft signed; "
                "without that key such a machine may show nothing, or not start at all",
                remedy="Where no card needs one (a virtual machine, a host without add-in cards), say --only-own-keys.",
                code=Exit.unsuitable,
            )
        for each in self.changes(only_own=only_own):
            _put(self.folder, each.name, each.written)
            if _value(self.folder, each.name, VENDORS[each.name]) != each.lists:
                raise _refused(each.name, "it does not read back as it was written")
            yield f"{each.name}: {'the owner is this host' if each.name == 'PK' else 'written'}, read back"

    def changes(self, *, only_own: bool) -> tuple[Change, ...]:
        """What is written, in its order. Raises HyperError."""
        with tempfile.TemporaryDirectory(prefix="hv-secure-boot-") as work:
            made = []
            for name in ("db", "dbx", "KEK", "PK"):
                vendors = b"" if only_own or name == "PK" else _value(self.folder, f"{name}Default", GLOBAL)
                # dbx is what is revoked; none of ours.
                own = b"" if name == "dbx" else self._list(name, Path(work))
                if lists := own + (vendors or b""):
                    made.append(Change(name, lists, self._signed(name, lists, Path(work))))
        return tuple(made)

    def _list(self, name: str, work: Path) -> bytes:
        """A signature list with the host's certificate."""
        certificate, out = work / f"{name}.der", work / f"{name}.esl"
        certificate.write_bytes(self.keys.der(name))
        words = ("--owner", self.keys.owner, "--type", "x509", "--output", str(out), str(certificate))
        self.programs.run((self.settings.tool("sbsiglist"), *words), timeout=60)
        return out.read_bytes()

    def _signed(self, name: str, lists: bytes, work: Path) -> bytes:
        """Lists as they are written."""
        content, out, signer = work / f"{name}.content", work / f"{name}.auth", SIGNER[name]
        content.write_bytes(lists)
        words = (
            *("--key", str(self.keys.key(signer)), "--cert", str(self.keys.certificate(signer))),
            *("--attr", WORDS, "--guid", VENDORS[name], "--output", str(out), name, str(content)),
        )
        self.programs.run((self.settings.tool("sbvarsign"), *words), timeout=60)
        return out.read_bytes()


def _value(folder: Path, name: str, vendor: str) -> bytes | None:
    try:
        return (folder / f"{name}-{vendor}").read_bytes()[4:]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HyperError(
            f"The firmware's variable {name} cannot be read.",
            why=f"{error.filename}: {error.strerror}",
            remedy="Run it as root; see `journalctl -k` where root may not either.",
            code=Exit.privilege if isinstance(error, PermissionError) else Exit.failed,
        ) from error


def _put(folder: Path, name: str, data: bytes) -> None:
    path = folder / f"{name}-{VENDORS[name]}"
    try:
        if path.exists():
            _mutable(path)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # One write(2) is one SetVariable().
            os.write(handle, struct.pack("<I", ATTRIBUTES) + data)
        finally:
            os.close(handle)
    except OSError as error:
        raise _refused(name, f"{error.strerror}") from error


def _mutable(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("<i", fcntl.ioctl(handle, _GET_FLAGS, b"\0" * 4))[0]
        if flags & _IMMUTABLE:
            fcntl.ioctl(handle, _SET_FLAGS, struct.pack("<i", flags & ~_IMMUTABLE))
    except OSError:
        return  # another file system than efivarfs; the write says what is wrong
    finally:
        os.close(handle)


def _refused(name: str, why: str) -> HyperError:
    return HyperError(
        f"The firmware does not take {name}.",
        why=why,
        remedy="Secure Boot is as it was until PK is there: the host starts as before. Clear the keys in the firmware's "
        "set-up once more, look for an update of the firmware, and run this again.",
    )
