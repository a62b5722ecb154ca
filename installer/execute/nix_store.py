"""The target's store: systems realised or copied into it, verified, and made the system profile."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from installer.answers.sizes import format_size
from installer.errors import Exit, HyperError
from installer.execute.evidence import Evidence, ensure
from installer.execute.files import within
from installer.execute.nix_log import NixLog, used_since_now
from installer.execute.progress import Progress
from installer.execute.runner import Runner
from installer.plan.actions import CopyClosure, RealiseFlake, SetProfile
from installer.plan.commands import FEATURES, build_command, copy_command, profile_command

_STORE_PATH = re.compile(r"^/nix/store/[0-9a-z]{32}-[^/\s]+$")
PROFILE = "nix/var/nix/profiles/system"
"""Below the root of the target."""


@contextmanager
def _room_on_target(store: str) -> Iterator[dict[str, str]]:
    """A folder for Nix's temporary files on the target: the live system's own are in memory."""
    place = Path(store, ".hv-install")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    try:
        yield {"TMPDIR": str(place)}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def realise_flake(runner: Runner, progress: Progress, action: RealiseFlake, least: int) -> str:
    """Evaluate and realise a flake's toplevel in the target's store, taking from the live system's what is there.

    Args:
        runner: Runs Nix.
        progress: Hears how far it is.
        action: What to realise, and where.
        least: Bytes that a system has at least, for the percentage.

    Returns:
        The toplevel's store path.
    """
    with _room_on_target(action.store) as temporary:
        log = NixLog(progress.inside, used_since_now(action.store), least)
        finished = runner.run(
            build_command(action),
            environment={**temporary, **action.environment},
            on_line=log.line,
            on_tick=log.tick,
        )
    return _toplevel(finished.text, action.flake)


def _toplevel(text: str, source: str) -> str:
    path = text.strip()
    if not _STORE_PATH.match(path):
        raise HyperError(
            f"{source} did not become a system",
            why=f"Nix printed {path[:200]!r} where the path of the toplevel was expected",
            remedy="look at the log for what Nix said",
            code=Exit.step,
        )
    return path


def copy_closure(runner: Runner, progress: Progress, action: CopyClosure) -> str:
    """Copy a ready system into the target's store.

    Returns:
        The toplevel.
    """
    known = _path_info(runner, action.toplevel, action.source, action.environment)
    sizes = {path: int(str(info["narSize"])) for path, info in known.items()}
    with _room_on_target(action.store) as temporary:
        log = NixLog(progress.inside, used_since_now(action.store), sizes=sizes)
        runner.run(
            copy_command(action),
            environment={**temporary, **action.environment},
            on_line=log.line,
            on_tick=log.tick,
        )
    return action.toplevel


def closure_size(runner: Runner, action: CopyClosure) -> int:
    """Bytes of a ready system where it lies now. Raises CommandError: it is not there whole."""
    known = _path_info(runner, action.toplevel, action.source, action.environment)
    return sum(int(str(info["narSize"])) for info in known.values())


def _path_info(
    runner: Runner, path: str, store: str, environment: Mapping[str, str] | None = None
) -> dict[str, dict[str, object]]:
    """Every valid path of a closure (`nix path-info --json`; a list before Nix 2.19)."""
    where = () if store == "auto" else ("--store", store)  # as `nix copy` without `--from`
    argv = ["nix", "path-info", *where, "--recursive", "--json", *FEATURES, path]
    found = json.loads(runner.run(argv, quiet=True, environment=environment).stdout)
    if isinstance(found, list):
        return {str(each["path"]): each for each in found}
    return dict(found)


def check_realised(runner: Runner, store: str, toplevel: str | None, *, contents: bool = False) -> Evidence:
    """The whole closure is valid in the target's store, and each of its paths is there.

    Args:
        runner: Runs Nix.
        store: Root of the target.
        toplevel: What was realised.
        contents: Read all of it, and compare with the hashes in Nix's database. Nix has the database on the disk before
            what it tells of: of a disk that was away for a while it may say more than is there.
    """
    ensure(toplevel is not None, "a realised system", "no earlier step realised one")
    closure = _path_info(runner, str(toplevel), store)
    absent = [path for path in closure if not os.path.lexists(f"{store.rstrip('/')}{path}")]
    ensure(
        not absent,
        f"the closure of {toplevel} below {store}",
        f"valid but not there: {', '.join(absent[:5])}",
    )
    if contents:
        argv = ["nix", "store", "verify", "--store", store, "--recursive", "--no-trust", *FEATURES]
        done = runner.run([*argv, str(toplevel)], check=False)
        said = done.stderr.splitlines()
        ensure(done.status == 0, f"the closure of {toplevel} as it was copied", "; ".join(said[-3:]))
    size = sum(int(str(info["narSize"])) for info in closure.values())
    known = "valid, there, and read whole" if contents else "valid and there"
    return (f"{toplevel}: {len(closure)} store paths, {format_size(size)}, {known}",)


def set_profile(runner: Runner, action: SetProfile, toplevel: str) -> None:
    """Make it the system profile, as nixos-install does."""
    runner.run(profile_command(action, toplevel))


def check_profile(store: str, toplevel: str | None) -> Evidence:
    """The profile leads to the toplevel."""
    found = profile_toplevel(Path(store))
    ensure(toplevel is not None and found == toplevel, f"system profile {toplevel}", found)
    return (f"/{PROFILE} leads to {found}",)


def profile_toplevel(root: Path) -> str:
    """Store path that the system profile of a target leads to."""
    return "/" + str(within(root, f"/{PROFILE}").relative_to(root))
