"""SSH signatures: on manifests by who built a medium, on what is embedded by who customised it."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from installer import embed
from installer.errors import Exit, HyperError
from iso.contents import Content

NAMESPACE = "hyper-nixos-payload"
"""What signatures on embedded content are for (`ssh-keygen -n`)."""


def signed(content: Content) -> bytes:
    """The bytes that are signed: the archive of all files but the signature, then the kernel's arguments."""
    files = {name: data for name, data in content.files.items() if name != embed.SIGNATURE}
    return embed.archive(files) + " ".join(content.arguments).encode()


def sign(content: Content, key: Path) -> Content:
    """The same with a signature. Raises HyperError: the key does not sign."""
    done = ssh_keygen(["-Y", "sign", "-n", NAMESPACE, "-f", str(key)], signed(content))
    if done.returncode:
        raise HyperError(
            "what is embedded was not signed",
            why=done.stderr.decode(errors="replace").strip(),
            remedy="name a private SSH key, or one that an agent has, with its .pub file",
        )
    return Content({**content.files, embed.SIGNATURE: done.stdout}, content.arguments)


def signer(content: bytes, signature: bytes, signers: Path, namespace: str) -> str | None:
    """The principal whose signature this is (ssh-keygen(1), ALLOWED SIGNERS); none: nobody's, or it does not fit."""
    with tempfile.NamedTemporaryFile(suffix=".sig") as file:
        file.write(signature)
        file.flush()
        given = ("-s", file.name, "-f", str(signers))
        found = ssh_keygen(["-Y", "find-principals", *given])
        for principal in found.stdout.decode(errors="replace").replace(",", "\n").split("\n"):
            if not principal.strip():
                continue
            words = ["-Y", "verify", "-n", namespace, "-I", principal.strip(), *given]
            if ssh_keygen(words, content).returncode == 0:
                return principal.strip()
    return None


def payload_signer(content: Content, signers: Path) -> str:
    """Who signed what is embedded. Raises HyperError (Exit.medium)."""
    signature = content.files.get(embed.SIGNATURE)
    if signature is None:
        why = "there is no signature in it"
    else:
        found = signer(signed(content), signature, signers, NAMESPACE)
        if found is not None:
            return found
        why = f"its signature is by none of {signers}, or files or kernel arguments were changed after it"
    raise HyperError(
        "what is embedded is not signed as it should be",
        why=why,
        remedy="look at it (`hv media show`), and embed it anew: `hv media embed … --sign KEY`",
        code=Exit.medium,
    )


def ssh_keygen(words: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it to its end. Raises HyperError: it is not there."""
    try:
        return subprocess.run(["ssh-keygen", *words], input=stdin, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise HyperError(
            "signatures cannot be made or checked here",
            why="ssh-keygen is not installed",
            remedy="install OpenSSH's client",
            code=Exit.unsuitable,
        ) from error
