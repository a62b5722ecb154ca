"""Secrets wrapped so that who finds the medium cannot read them: by the program age (age-encryption.org), for recipients or
with a passphrase.
"""

import os
import pty
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from installer.errors import Exit, HyperError

VERSION = b"age-encryption.org/v1"
LIMIT = 120.0
"""Seconds; scrypt takes about one, an emulated or small processor many."""


LONGEST = 1000
"""Bytes of a passphrase; a terminal's line has 4096."""
END = b"\x04"
"""Written to age's terminal when age is gone."""


def _refusal(what: str, why: str, remedy: str, code: Exit) -> HyperError:
    return HyperError(what, why=why, remedy=remedy, code=code)


def needs_passphrase(wrapped: bytes) -> bool:
    """Whether it was wrapped with a passphrase."""
    return wrapped.startswith(VERSION + b"\n-> scrypt ")


def wrap(content: bytes, *, recipients: Sequence[str] = (), passphrase: bytes | None = None) -> bytes:
    """The content for these recipients, or for a passphrase; age allows no mixture.

    Raises:
        HyperError: age takes a recipient or the passphrase not (Exit.usage), or is not there (Exit.unsuitable).
    """
    if passphrase is not None:
        if not 0 < len(passphrase) <= LONGEST or any(byte < 32 or byte == 127 for byte in passphrase):
            raise _refusal(
                "the passphrase is not taken",
                f"it is empty, longer than {LONGEST} bytes, or has characters that a terminal keeps for itself",
                "take one of letters, digits, blanks and signs",
                Exit.usage,
            )
        status, output, told = _with_passphrase(["--encrypt", "--passphrase"], content, passphrase)
    else:
        words = [word for each in recipients for word in ("--recipient", each.strip())]
        status, output, told = _age(["--encrypt", *words], content)
    if status:
        raise _refusal(
            "the secrets cannot be wrapped",
            told,
            "name public keys as `age-keygen` prints them (age1…), or SSH keys",
            Exit.usage,
        )
    return output


def unwrap(wrapped: bytes, *, identity: Path | None = None, passphrase: bytes | None = None) -> bytes:
    """The content, with an identity file or a passphrase. Raises HyperError (Exit.medium): it does not open."""
    if passphrase is not None:
        status, output, told = _with_passphrase(["--decrypt"], wrapped, passphrase)
    else:
        status, output, told = _age(["--decrypt", "--identity", str(identity)], wrapped)
    if status:
        raise _refusal(
            "the wrapped secrets cannot be opened",
            told,
            "try again with the passphrase or identity that they were wrapped for; or embed the secrets again",
            Exit.medium,
        )
    return output


def _missing() -> HyperError:
    return _refusal(
        "secrets cannot be wrapped or opened here", "age is not installed", "install age", Exit.unsuitable
    )


def _told(text: bytes) -> str:
    lines = [
        line.removeprefix("age: ").removeprefix("error: ")
        for line in text.decode(errors="replace").replace("\r", "").splitlines()
        if line.startswith("age: ") and "report unexpected" not in line
    ]
    return "; ".join(lines) or "age did not say why"


def _age(words: Sequence[str], content: bytes) -> tuple[int, bytes, str]:
    try:
        done = subprocess.run(
            ["age", *words], input=content, capture_output=True, check=False, timeout=LIMIT
        )
    except FileNotFoundError as error:
        raise _missing() from error
    return done.returncode, done.stdout, _told(done.stderr)


def _with_passphrase(words: Sequence[str], content: bytes, passphrase: bytes) -> tuple[int, bytes, str]:
    """Run age with a terminal of its own: it takes a passphrase from nowhere else. The content goes through pipes."""
    own, its = pty.openpty()
    name = os.ttyname(its)
    with os.fdopen(own, "r+b", buffering=0) as terminal, os.fdopen(its, "r+b", buffering=0) as child_end:
        try:
            process = subprocess.Popen(
                ["age", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                # The first terminal that a session's leader opens becomes its controlling one, /dev/tty.
                preexec_fn=lambda: os.close(os.open(name, os.O_RDWR)),  # noqa: PLW1509 -- calls nothing but these
            )
        except FileNotFoundError as error:
            raise _missing() from error
        typist = threading.Thread(target=_type, args=(terminal, passphrase), daemon=True)
        typist.start()
        try:
            output, told = process.communicate(content, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return 1, b"", f"age did not end within {LIMIT:.0f} s"
        finally:
            child_end.write(END)  # what the typist stops at
            typist.join()
    return process.returncode, output, _told(told)


def _type(terminal: IO[bytes], passphrase: bytes) -> None:
    """Answer each prompt, which ends in a colon, with the passphrase."""
    said = b""
    while not said.endswith(END):
        said += terminal.read(4096)
        if said.rstrip().endswith(b":"):
            said = b""
            terminal.write(passphrase + b"\n")
