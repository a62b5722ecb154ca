"""What goes into a medium: read from files, and checked before anything is written."""

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer import embed
from installer.answers.load import load
from installer.errors import Exit, HyperError
from iso.authorized import public_keys

_ARGUMENT = re.compile(r"(?!#)[A-Za-z0-9_.,:=/@+%~#\[\]-]+")
"""What GRUB, syslinux and systemd-boot hand on without quotes; `#` begins a comment where it begins a word alone."""
ROOM = embed.ARGUMENT_LENGTH - len(embed.ARGUMENT) - 1
"""Characters for arguments, with the blanks between them."""


@dataclass(frozen=True)
class Content:
    """Everything that is put into a medium."""

    files: Mapping[str, bytes]
    """As installer/embed.py names them."""
    arguments: tuple[str, ...] = ()
    """For the kernel."""


def wrong(what: str, why: str, remedy: str, code: Exit = Exit.usage) -> HyperError:
    """The error for something that does not go in."""
    return HyperError(what, why=why, remedy=remedy, code=code)


def read(path: Path) -> bytes:
    """A file. Raises HyperError."""
    try:
        if path.stat().st_size > embed.ROOM:
            raise wrong(
                f"{path} does not fit into the medium",
                f"it has {path.stat().st_size} bytes, and there is room for {embed.ROOM}",
                "let the machine fetch it instead (docs: Unattended)",
                Exit.medium,
            )
        return path.read_bytes()
    except OSError as error:
        raise wrong(
            f"{path} cannot be read", error.strerror or str(error), "name an existing file"
        ) from error


def folder(path: Path) -> dict[str, bytes]:
    """The files in a folder that is laid out as the archive is. Raises HyperError for a file without a place."""
    if not path.is_dir():
        raise wrong(f"{path} is no folder", "it should hold answers.toml and the like", "name a folder")
    found = {
        str(file.relative_to(path)): read(file) for file in sorted(path.rglob("*")) if not file.is_dir()
    }
    embed.archive(found)
    return found


def check(files: Mapping[str, bytes], arguments: Sequence[str]) -> Content:
    """Refuse what would only be noticed on the machine. Raises HyperError."""
    if embed.ANSWERS in files:
        load(files[embed.ANSWERS], embed.ANSWERS)
    if embed.KEYS in files and not public_keys(files[embed.KEYS]):
        raise wrong(
            "the keys are not taken",
            "there is no key in them",
            "give public keys, as in ~/.ssh/id_ed25519.pub",
        )
    if embed.CA in files:
        check_certificates(files[embed.CA])
    check_arguments(arguments)
    embed.pack(files)
    return Content(dict(files), tuple(arguments))


def check_certificates(text: bytes) -> None:
    """HyperError unless these are certificates in PEM."""
    try:
        ssl.create_default_context(cadata=text.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise wrong(
            "the certificates are not taken",
            f"they are no PEM certificates: {error}",
            "convert them: `openssl x509 -inform DER -in FILE -out ca.pem`",
        ) from error


def check_arguments(arguments: Sequence[str]) -> None:
    """HyperError for arguments that boot loaders would not hand on as they are, or that have no room."""
    for argument in arguments:
        if not _ARGUMENT.fullmatch(argument):
            raise wrong(
                f"the kernel argument {argument[:80]!r} is not taken",
                "GRUB and syslinux give quotes, blanks, `$`, `;`, a `#` in front and the like a meaning of their own",
                "use letters, digits and . , : = / @ + % ~ # [ ] _ - alone, and name each argument by itself",
            )
    length = len(" ".join(arguments))
    if length > ROOM:
        raise wrong(
            "the kernel arguments have no room",
            f"they have {length} characters with the blanks between them, and there is room for {ROOM}",
            "leave some away, or put what they say into the answers",
            Exit.medium,
        )


def filled(arguments: Sequence[str]) -> bytes:
    """The argument of the medium with these behind it, as long as before."""
    words = " ".join(arguments)
    if not words:
        return embed.kernel_argument().encode()
    padding = embed.ARGUMENT_LENGTH - len(embed.ARGUMENT) - len(words) - 1
    return f"{embed.ARGUMENT}{'#' * padding} {words}".encode()
