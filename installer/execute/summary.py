"""What to say when all is done: what was proved, and how to get in."""

from collections.abc import Iterator, Sequence

from installer.answers.login import accesses
from installer.answers.model import Answers, Phase, RecoveryKind
from installer.answers.recovery import recipients, recovery_kind
from installer.errors import paragraph
from installer.execute.addresses import addresses
from installer.execute.context import Context
from installer.execute.executor import Result
from installer.execute.progress import clock
from installer.execute.records import HOST_KEY, UNLOCK_KEY
from installer.execute.recovery import RECOVERY_KEY
from installer.facts.nics import Nic
from installer.plan.actions import SaveLog
from installer.plan.checks import BootProof, LoginProof, SystemRealised
from installer.plan.installation import RECOVERY_KEY as RECOVERY_PATH


def summary(context: Context, result: Result, nics: Sequence[Nic] = ()) -> list[str]:
    """Lines for a person, at most 80 columns where words allow. `nics`: the network as it is now."""
    host = context.answers.hostname
    lines = ["", f"{host} is installed, in {clock(result.seconds)}.", "", "Proved by reading back:"]
    for each in result.proved:
        if any(isinstance(check, BootProof | LoginProof | SystemRealised) for check in each.step.checks):
            for found in each.evidence:
                lines += paragraph(found, "  * ", "    ")
    lines += list(_recovery(context))
    lines += ["", "Log in:"]
    lines += list(_logins(context.answers))
    for line in addresses(context.answers, nics):
        lines += paragraph(line, "  * ", "    ")
    for event in context.journal.events:
        if event.what == "learned" and event.step == HOST_KEY:
            lines += paragraph(f"host key: {event.details[0]}", "  * ", "    ")
    lines += list(_unlocking(context))
    logs = [a.path for step in context.plan.steps for a in step.actions if isinstance(a, SaveLog)]
    place = f"on the host in {logs[0].removeprefix('/mnt')}, and " if logs else ""
    return [*lines, "", *paragraph(f"Log, plan and journal: {place}here in {context.live.runtime}.", "", "")]


def _unlocking(context: Context) -> Iterator[str]:
    """How the passphrase is typed from afar."""
    unlock = context.plan.host.unlock
    if unlock is None:
        return
    yield from paragraph(
        f"at every start, the passphrase: `ssh -p {unlock.port} root@ADDRESS`", "  * ", "    "
    )
    if fingerprint := context.journal.learned(UNLOCK_KEY):
        yield from paragraph(f"host key there: {fingerprint}", "  * ", "    ")


def _recovery(context: Context) -> Iterator[str]:
    """What became of the recovery key."""
    kind = recovery_kind(context.answers)
    sealed = context.journal.learned(RECOVERY_KEY)
    if kind is RecoveryKind.show and not context.secrets.has_recovery_key:
        yield ""
        yield from paragraph(
            "The recovery key was made by a run that was interrupted, and nobody has seen it. Make a new one on the host: "
            "`systemd-cryptenroll --wipe-slot=recovery --recovery-key DEVICE`, for each device in /etc/crypttab and "
            "`lsblk --fs`.",
            "Warning: ",
            "  ",
        )
    if kind is RecoveryKind.seal and sealed:
        place = RECOVERY_PATH.format(context.answers.hostname)
        yield ""
        yield from paragraph(
            f"Recovery key, encrypted for {len(recipients(context.answers))} (`age --decrypt --identity KEY`); on the host it "
            f"is {place}:",
            "",
            "",
        )
        yield from sealed.splitlines()


def _logins(answers: Answers) -> Iterator[str]:
    first = Phase.setup
    for access in accesses(answers):
        ways = ", ".join(access.ways[first]) or "no way yet"
        yield from paragraph(
            f"{access.user}{' (administrator)' if access.admin else ''}: {ways}", "  * ", "    "
        )
