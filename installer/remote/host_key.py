"""Which key the target must have: pinned before anything is sent, never taken on trust.

Known already to this user, or named on the command line, or compared by a person with what the machine's own screen
shows.
"""

import sys
from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.runner import CommandError, Runner
from installer.remote.target import Target

SECONDS = 45.0


def pin(runner: Runner, target: Target, wanted: str | None, folder: Path) -> Path:
    """A known_hosts file with the one key that is accepted.

    Args:
        runner: Runs OpenSSH's tools.
        target: The machine.
        wanted: Its fingerprint as a person knows it, `SHA256:…`; none: known already, or asked.
        folder: Where the file goes.

    Raises:
        HyperError: it has another key (Exit.consent), or nobody can say which is right.
    """
    file = folder / "known_hosts"
    if wanted is None and (known := _known(runner, target)):
        file.write_text(known)
        return file
    offered = _offered(runner, target)
    if wanted is not None:
        chosen = [line for line, fingerprint in offered.items() if fingerprint == wanted]
        if not chosen:
            raise HyperError(
                f"{target.host} is not the machine whose key was named; nothing was sent to it",
                why=f"named was {wanted}, it has {', '.join(sorted(offered.values()))}",
                remedy="read the fingerprint again from the machine's own screen; a different one is another machine, "
                "or somebody between you and it",
                code=Exit.consent,
            )
        file.write_text(f"{chosen[0]}\n")
        return file
    line, fingerprint = next(iter(offered.items()))
    if not sys.stdin.isatty():
        raise HyperError(
            f"the key of {target.host} is not known, and nobody can be asked",
            why=f"it offers {fingerprint}; anybody between here and there could have sent that",
            remedy=f"compare it with the machine's own screen, then add `--host-key {fingerprint}`",
            code=Exit.consent,
        )
    print(f"{target.host} offers this key:\n  {fingerprint}\nThe live system's screen shows its own.")
    if input("Is it the same? Type yes: ").strip().lower() != "yes":
        raise HyperError(
            "not connected",
            why="the fingerprint was not confirmed",
            remedy="look at the machine's screen, and begin again",
            code=Exit.consent,
        )
    file.write_text(f"{line}\n")
    return file


def _known(runner: Runner, target: Target) -> str | None:
    """What this user's own known_hosts has for it."""
    file = Path("~/.ssh/known_hosts").expanduser()
    if not file.is_file():
        return None
    done = runner.run(("ssh-keygen", "-F", target.name, "-f", str(file)), timeout=SECONDS, check=False)
    lines = [line for line in done.text.splitlines() if line and not line.startswith("#")]
    return "".join(f"{line}\n" for line in lines) or None


def _offered(runner: Runner, target: Target) -> dict[str, str]:
    """The keys that it offers, as lines of known_hosts, with their fingerprints; Ed25519 first."""
    argv = ("ssh-keyscan", "-T", "30", "-p", str(target.port), "-t", "ed25519,ecdsa,rsa", "--", target.host)
    try:
        said = runner.run(argv, timeout=SECONDS).text
    except CommandError as error:
        raise _silent(target, error.why) from error
    lines = sorted(
        (line for line in said.splitlines() if line and not line.startswith("#")),
        key=lambda line: "ed25519" not in line,
    )
    if not lines:
        raise _silent(target, "no SSH server answers")
    return {line: fingerprint(runner, line) for line in lines}


def fingerprint(runner: Runner, line: str) -> str:
    """SHA256:… of a line of known_hosts."""
    said = runner.run(("ssh-keygen", "-l", "-f", "-"), stdin=f"{line}\n".encode(), timeout=SECONDS).text
    return said.split()[1]


def _silent(target: Target, why: str) -> HyperError:
    return HyperError(
        f"{target.host} does not answer on port {target.port}",
        why=why,
        remedy="is it on, and its address right? The live system's screen shows its addresses",
        code=Exit.failed,
    )
