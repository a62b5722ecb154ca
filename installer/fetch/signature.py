"""Signatures on answers, checked with OpenSSH's own program."""

import tempfile
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.runner import CommandError, Runner
from installer.fetch.package import NAMESPACE

LIMIT = 30.0
"""Seconds."""


def signer(runner: Runner, payload: bytes, signature: bytes | None, allowed: bytes, where: str) -> str:
    """Who signed the payload: a principal of the allowed signers file (ssh-keygen(1), ALLOWED SIGNERS).

    Raises:
        HyperError: nobody who may (Exit.fetch).
    """
    if signature is None:
        raise _refusal(where, "there is no SSH signature at its end")
    with tempfile.TemporaryDirectory(prefix="hv-signature-") as folder:
        signed, signers = Path(folder, "signature"), Path(folder, "allowed_signers")
        signed.write_bytes(signature)
        signers.write_bytes(allowed)
        try:
            found = runner.run(
                ["ssh-keygen", "-Y", "find-principals", "-s", str(signed), "-f", str(signers)], timeout=LIMIT
            )
        except CommandError as error:
            raise _refusal(where, "none of the allowed signers has the key that signed it", error) from error
        for principal in (each for line in found.text.splitlines() for each in line.split(",")):
            try:
                runner.run(
                    [
                        *("ssh-keygen", "-Y", "verify"),
                        *("-n", NAMESPACE),
                        *("-I", principal),
                        *("-s", str(signed)),
                        *("-f", str(signers)),
                    ],
                    stdin=payload,
                    timeout=LIMIT,
                )
            except CommandError:
                continue
            return principal
    raise _refusal(
        where, "the signature does not fit the file: one of them was altered, or it was made for another use"
    )


def _refusal(where: str, why: str, error: CommandError | None = None) -> HyperError:
    if (
        error is not None and error.status is None
    ):  # not found, or too slow: says nothing about the signature
        why = f"it cannot be checked: {error.why}"
    return HyperError(
        f"the answers from {where} are not taken",
        why=f"signers are embedded in this medium, so answers must be signed by one of them; {why}",
        remedy=f"sign them: `ssh-keygen -Y sign -n {NAMESPACE} -f KEY answers.toml`, and append answers.toml.sig",
        code=Exit.fetch,
    )
