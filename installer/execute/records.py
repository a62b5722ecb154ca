"""What stays on the target of how it was installed: plan, journal, log and saved headers."""

import contextlib
import shutil
from pathlib import Path

from installer.errors import HyperError
from installer.execute.context import Context
from installer.execute.evidence import Evidence, ensure
from installer.execute.files import write_file
from installer.plan.describe import describe
from installer.plan.model import Plan

JOURNAL = "journal.jsonl"
HOST_KEY = "host-key"
"""What the journal calls the fingerprint of a host key that the target has already."""
UNLOCK_KEY = "unlock-key"
"""What it calls the fingerprint of the key that stage 1's SSH has."""
_MODE = 0o600


def save_log(folder: Path, context: Context) -> None:
    """Copy everything; saved headers may hold key slots of what was there before, so only root reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    write_file(folder / "plan.json", context.plan.model_dump_json(indent=2).encode() + b"\n", _MODE)
    write_file(folder / "plan.txt", describe(context.plan).encode(), _MODE)
    for source, name in ((context.live.log, "install.log"), (context.live.facts, "facts.json")):
        if source.is_file():
            write_file(folder / name, source.read_bytes(), _MODE)
    if context.live.headers.is_dir():
        shutil.copytree(context.live.headers, folder / "headers", dirs_exist_ok=True)
        (folder / "headers").chmod(0o700)
    context.journal.mirror_to(folder / JOURNAL)
    # /mnt/var/log/hyper-nixos: three up is the target's root, wherever the plan put it.
    for key in sorted(folder.parents[2].glob("etc/ssh/ssh_host_*_key.pub")):
        with contextlib.suppress(HyperError):  # for people only; the key itself is sshd's business
            fingerprint = context.runner.run(["ssh-keygen", "-l", "-f", str(key)]).text
            context.journal.record("learned", HOST_KEY, details=(fingerprint,))


def check_log(folder: Path, context: Context) -> Evidence:
    """The plan reads back equal, journal and log are there."""
    plan = folder / "plan.json"
    ensure(
        plan.is_file() and Plan.model_validate_json(plan.read_bytes()) == context.plan,
        str(plan),
        "another plan",
    )
    for name in ("install.log", JOURNAL):
        path = folder / name
        ensure(path.is_file() and path.stat().st_size > 0, f"{path} with content", "nothing")
    return (f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}",)
