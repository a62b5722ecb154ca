"""Whether a file is what its vendor published: OpenPGP signatures by gpg(1), and files of checksums.

A key is known by its primary fingerprint alone; where it came from does not matter. Each question is asked in a keyring of
its own that holds nothing else, so that no other key of whoever asks can answer it.
"""

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hv.firstrun.world import Programs
from installer.errors import Exit, HyperError

ALGORITHMS = {64: "sha256", 96: "sha384", 128: "sha512"}
"""Hexadecimal digits to the algorithm; shorter ones can be forged."""
GNU = re.compile(r"^([0-9a-fA-F]+) [ *](.+)$")
"""sha256sum(1)."""
BSD = re.compile(r"^(?:SHA(?:256|384|512)) \((.+)\) = ([0-9a-fA-F]+)$")
"""cksum(1) with --tag."""
BARE = re.compile(r"^([0-9a-fA-F]+)$")
"""Nothing but the sum: the file's name tells what it is of."""
BAD = {
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key that made it has expired since",
    "REVKEYSIG": "the key that made it was revoked",
    "BADSIG": "it does not fit the content",
    "ERRSIG": "it was made by another key, or in a way that is not supported",
    "NODATA": "there is no signature in it",
}
"""Status words of gpg (doc/DETAILS) that mean no."""
PIECE = 1 << 20


@dataclass(frozen=True)
class Sum:
    """A checksum."""

    algorithm: str
    """As hashlib names it."""
    digest: str
    """Hexadecimal, in lower case."""


def sum_of(listed: str, name: str, pattern: str | None = None) -> tuple[str, Sum]:
    """The file's name and its sum in a file of checksums.

    Args:
        listed: The content.
        name: The file; ignored when there is a pattern.
        pattern: Regular expression of the whole name; exactly one name must fit.

    Raises:
        HyperError: it is not in there, or twice with different sums, or only with a sum that can be forged.
    """
    found: dict[str, Sum] = {}
    weak = False
    for line in listed.splitlines():
        if match := BSD.match(line.strip()):
            file, digest = match.groups()
        elif match := GNU.match(line.rstrip()):
            digest, file = match.groups()
        elif match := BARE.match(line.strip()):
            digest, file = match[1], name
        else:
            continue
        file = file.removeprefix("./")
        if not (re.fullmatch(pattern, file) if pattern else file == name):
            continue
        if len(digest) not in ALGORITHMS:
            weak = True
            continue
        told = Sum(ALGORITHMS[len(digest)], digest.lower())
        if found.get(file, told) != told and found[file].algorithm == told.algorithm:
            raise _unknown(file, "it is listed twice, with different sums")
        if file not in found or len(told.digest) > len(found[file].digest):
            found[file] = told
    if len(found) > 1:
        raise _unknown(pattern or name, f"several fit: {', '.join(sorted(found))}")
    if not found:
        raise _unknown(
            pattern or name,
            "it is listed only with a sum that can be forged (MD5, SHA-1)" if weak else "it is not listed",
        )
    return next(iter(found.items()))


def require_sum(path: Path, told: Sum, name: str) -> None:
    """The file has this sum. Raises HyperError; the file stays, for whoever wants to look at it."""
    if digest(path, told.algorithm) != told.digest:
        raise HyperError(
            f"{name} is not what its vendor published.",
            why=f"its {told.algorithm} is not the one that the vendor lists",
            remedy=f"Run it again: {path} is fetched anew. If that does not help, use another network or mirror, "
            "and tell the vendor.",
            code=Exit.fetch,
        )


def digest(path: Path, algorithm: str) -> str:
    """The file's sum, hexadecimal in lower case."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def require_signature(
    signed: Path, signature: Path, key: bytes, fingerprints: tuple[str, ...], programs: Programs
) -> None:
    """A signature in a file of its own, by one of these keys. Raises HyperError."""
    _ask(("--verify", str(signature), str(signed)), signed, key, fingerprints, programs)


def signed_text(signed: Path, key: bytes, fingerprints: tuple[str, ...], programs: Programs) -> str:
    """The text that a signature in the same file covers, and nothing around it. Raises HyperError."""
    with tempfile.TemporaryDirectory(prefix="hv-signed-") as folder:
        text = Path(folder, "text")
        _ask(("--output", str(text), "--decrypt", str(signed)), signed, key, fingerprints, programs)
        return text.read_text(errors="replace")


def _ask(
    words: tuple[str, ...],
    about: Path,
    key: bytes,
    fingerprints: tuple[str, ...],
    programs: Programs,
) -> None:
    with tempfile.TemporaryDirectory(prefix="hv-keys-") as home:
        common = ("gpg", "--homedir", home, "--batch", "--no-autostart", "--no-auto-key-retrieve", "--quiet")
        imported = programs.run((*common, "--import"), stdin=key, timeout=60, check=False)
        listed = programs.run((*common, "--with-colons", "--list-keys"), timeout=60, check=False)
        present = _fingerprints(listed.text)
        missing = [each for each in fingerprints if each not in present]
        if len(missing) == len(fingerprints):
            raise _unsigned(
                about,
                f"the key that was fetched is none of {', '.join(fingerprints)}"
                + (f" but {', '.join(present)}" if present else f": {imported.stderr.strip()}"),
            )
        # Whatever else was in that file must not vouch for anything.
        others = [each for each in present if each not in fingerprints]
        if others:
            programs.run((*common, "--yes", "--delete-keys", *others), timeout=60)
        done = programs.run(
            (*common, "--trust-model", "always", "--status-fd", "1", *words), timeout=600, check=False
        )
        told = [line.split()[1:] for line in done.text.splitlines() if line.startswith("[GNUPG:] ")]
        for word, *_ in told:
            if word in BAD:
                raise _unsigned(about, BAD[word])
        makers = {line[-1] for line in told if line[0] == "VALIDSIG"}
        if done.status or not makers or not makers <= set(fingerprints):
            raise _unsigned(about, done.stderr.strip() or "gpg vouches for no signature of that key")


def _fingerprints(listed: str) -> tuple[str, ...]:
    """Of the primary keys in gpg's list (doc/DETAILS: the fpr record behind a pub record)."""
    found, primary = [], False
    for line in listed.splitlines():
        fields = line.split(":")
        if fields[0] == "fpr" and primary:
            found.append(fields[9])
        primary = fields[0] == "pub"
    return tuple(found)


def _unsigned(path: Path, why: str) -> HyperError:
    return HyperError(
        f"{path.name} is not signed by its vendor.",
        why=why,
        remedy="Try again later or over another network. If the vendor has a new key, look its fingerprint up on a "
        "page of theirs, and put a template with it into /etc/hyper-nixos/templates.",
        code=Exit.fetch,
    )


def _unknown(name: str, why: str) -> HyperError:
    return HyperError(
        f"The vendor's checksums do not tell what {name} must be.",
        why=why,
        remedy="The vendor may have published a newer one: see its page, and put a template with the new address into "
        "/etc/hyper-nixos/templates.",
        code=Exit.fetch,
    )
