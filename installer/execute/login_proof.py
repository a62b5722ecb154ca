"""Before rebooting: can an administrator log in, and become root? Looked at in the installed system, in every phase."""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.execute.evidence import Evidence, ensure
from installer.execute.files import within
from installer.execute.nix_store import profile_toplevel
from installer.execute.runner import Finished, Runner
from installer.execute.target import run_inside
from installer.execute.ways_in import System, ways_in
from installer.plan.checks import LoginProof


@dataclass(frozen=True)
class Phase:
    """The system, or one of its specialisations."""

    name: str
    """`setup`, `hardened`."""
    toplevel: str
    """Store path."""


def prove_login(runner: Runner, check: LoginProof) -> Evidence:
    """At least one administrator gets in and can become root, in every phase, and whoever has SSH keys by them.

    Raises:
        Wrong: nobody does; says for each administrator and way what stands against it.
    """
    root = Path(check.root)
    evidence: list[str] = []
    for phase in _phases(root):
        with _host_key(runner, root) as key:
            found = [ways_in(_system(runner, root, phase, key), name) for name in check.administrators]
        for each in found:
            keys_refused = each.keys and not each.ssh
            ensure(
                not keys_refused,
                f"{each.name}'s SSH keys admitted in phase {phase.name}",
                "; ".join(each.against),
            )
        against = [f"{each.name}: {problem}" for each in found for problem in each.against]
        ensure(
            any(each.any for each in found),
            f"an administrator who can log in, in phase {phase.name}",
            "; ".join(against) or "none",
        )
        evidence += [f"{phase.name}: {way}" for each in found for way in each.said()]
    return tuple(evidence)


def _phases(root: Path) -> Iterator[Phase]:
    toplevel = profile_toplevel(root)
    yield Phase("setup", toplevel)
    folder = within(root, f"{toplevel}/specialisation")
    for each in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield Phase(each.name, "/" + str(within(root, "/" + str(each.relative_to(root))).relative_to(root)))


def _system(runner: Runner, root: Path, phase: Phase, key: str | None) -> System:
    def run(argv: Sequence[str]) -> Finished:
        return run_inside(runner, root, argv)

    sshd = _program(root, phase, "sshd") if key else ""
    return System(root, phase.toplevel, sshd, run, time.time(), key)


def _program(root: Path, phase: Phase, name: str) -> str:
    """sshd insists on its absolute path, and finds its helpers beside the real one."""
    path = within(root, f"{phase.toplevel}/sw/bin/{name}")
    ensure(path.is_file(), f"{name} in {phase.toplevel}/sw/bin", "no such program")
    return "/" + str(path.relative_to(root))


@contextlib.contextmanager
def _host_key(runner: Runner, root: Path) -> Iterator[str | None]:
    """A host key for the test alone: sshd -T wants one, and the host makes its own at first boot."""
    toplevel = profile_toplevel(root)
    if not within(root, f"{toplevel}/etc/ssh/sshd_config").is_file():
        yield None
        return
    folder = within(root, "/run") / "hv-login-proof"
    privileges = within(root, "/run") / "sshd"  # sshd's empty folder on systems that make it at boot
    made = not privileges.exists()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    privileges.mkdir(exist_ok=True, mode=0o755)
    try:
        key = "/" + str((folder / "key").relative_to(root))
        keygen = _program(root, Phase("setup", toplevel), "ssh-keygen")
        run_inside(runner, root, [keygen, "-q", "-t", "ed25519", "-N", "", "-f", key])
        yield key
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made:
            privileges.rmdir()
