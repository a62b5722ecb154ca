"""What a source gives: answers alone, or a tar archive of answers and secrets; with or without a signature behind it.

A signed file is the file, followed by its armoured SSH signature (`ssh-keygen -Y sign`, PROTOCOL.sshsig). So every source
can carry one, and answers and secrets are covered together.
"""

import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from installer.errors import Exit, HyperError

BEGIN = b"-----BEGIN SSH SIGNATURE-----"
END = b"-----END SSH SIGNATURE-----"
NAMESPACE = "hyper-nixos-answers"
"""What the signature is for (`ssh-keygen -n`): one made for anything else does not fit."""
SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""Name of a file with a secret."""
LARGEST_SECRET = 1 << 20
_TAR_MAGIC, _TAR_AT = b"ustar", 257


@dataclass(frozen=True)
class Package:
    """Answers with what belongs to them."""

    answers: bytes
    """The answer file."""
    name: str
    """What it is called: its ending says how it is written."""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Secrets, by name of the file."""


def split(content: bytes) -> tuple[bytes, bytes | None]:
    """What is signed, and the armoured signature behind it, if there is one."""
    start = content.rfind(BEGIN)
    if start < 0 or (
        start > 0 and content[start - 1 : start] != b"\n" and not content[:start].endswith(b"\0")
    ):
        return content, None
    end = content.find(END, start)
    if end < 0 or content[end + len(END) :].strip(b"\r\n\0 "):
        return content, None
    return content[:start], content[start : end + len(END)] + b"\n"


def unpack(payload: bytes, name: str) -> Package:
    """Answers and secrets. Raises HyperError (Exit.fetch) for an archive that is none of ours."""
    if payload[_TAR_AT : _TAR_AT + len(_TAR_MAGIC)] != _TAR_MAGIC:
        # No TOML begins so, and a source without file names tells it in no other way.
        ending = ".json" if payload.lstrip()[:1] == b"{" else ".toml"
        return Package(payload, name if name.endswith(ending) else f"answers{ending}")
    answers: tuple[str, bytes] | None = None
    secrets: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(payload), mode="r:") as archive:
            for member in archive:
                path = member.name.removeprefix("./")
                if member.isdir() and path.rstrip("/") in ("", ".", "secrets"):
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise _refusal(name, f"{path[:80]} in it is no regular file")
                content = file.read()
                folder, _, secret = path.rpartition("/")
                if path in ("answers.toml", "answers.json") and answers is None:
                    answers = (path, content)
                elif folder == "secrets" and SECRET.fullmatch(secret) and secret not in secrets:
                    secrets[secret] = content
                else:
                    raise _refusal(
                        name,
                        f"it has {path[:80]!r}; there is a place for answers.toml and secrets/NAME, once each",
                    )
    except tarfile.TarError as error:
        raise _refusal(name, f"it is no whole tar archive: {error}") from error
    if answers is None:
        raise _refusal(name, "there is no answers.toml in it")
    return Package(answers[1], answers[0], secrets)


def pack(answers: bytes, name: str, secrets: Mapping[str, bytes]) -> bytes:
    """An archive of them: same files, same bytes."""
    buffer = io.BytesIO()
    files = {name: answers, **{f"secrets/{key}": value for key, value in secrets.items()}}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _refusal(name: str, why: str) -> HyperError:
    return HyperError(
        f"the archive of answers ({name}) is not taken",
        why=why,
        remedy="make it with `tar --format=ustar -cf answers.tar answers.toml secrets`",
        code=Exit.fetch,
    )
