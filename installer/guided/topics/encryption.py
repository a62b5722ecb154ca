"""Encryption of the disks."""

from collections.abc import Generator
from typing import Any

from installer.answers.sizes import format_size
from installer.errors import HyperError
from installer.guided.preview import preview
from installer.guided.questions import Answers, Dialogue, Item, One, Option, Secret, Work
from installer.guided.situation import Situation
from installer.guided.told import refusal
from installer.guided.topics import disk_choice, reinstallation
from installer.guided.words import _
from installer.plan.storage.luks import fitted_memory

SHORTEST = 8
"""Characters; the installer takes no shorter one (installer.execute.secrets)."""
SHORTEST_PIN = 6
"""The same of a PIN."""


def title() -> str:
    """For the head of the page."""
    return _("Encryption")


def dialogue(situation: Situation) -> Dialogue:
    """Whether, the passphrase, the recovery key, and what else there is to open the disks."""
    again = situation.said("storage", "existing") == "reinstall"
    if again:
        # The disks stay as they are, locked or not.
        open_: Answers = {("storage", "encryption"): None}
        locked = reinstallation.is_locked(disk_choice.chosen(situation))
        if not locked or not isinstance(preview(situation, open_), HyperError):
            return open_
        return (yield from _opened(situation, again=True))
    memory = situation.facts.memory
    available = memory.available if isinstance(memory.available, int) else None
    argon = fitted_memory(memory.total, available)
    too_little = (
        None
        if argon
        else _("The key derivation (argon2id) needs 128 MiB of free memory, and there is less.")
    )
    wanted = yield One(
        title=_("Encryption"),
        prompt=_("Encrypt the disks?"),
        lines=(
            _(
                "Encryption protects what is on the disks when the machine or a disk is stolen, sold or sent in for "
                "repair. It costs: a passphrase is typed at every boot, on the screen or the serial line, and who loses it "
                "loses the data."
            ),
            _("Guessing a passphrase will cost {memory} of memory for each try.").format(
                memory=format_size(argon)
            )
            if argon
            else "",
            _(
                "Recommended: yes where somebody could carry a disk away; no where the host must come back by itself "
                "after a power cut."
            ),
        ),
        options=(
            Option(False, _("No: the host starts by itself, and so it does for a thief")),
            Option(
                True,
                _("Yes: LUKS2 under everything but the boot partition"),
                too_little or _against_sleep(situation),
            ),
        ),
        default=False,
        field=("storage", "encryption", "enable"),
    )
    if not wanted:
        return {("storage", "encryption"): None}
    return (yield from _opened(situation, again=False))


def _opened(situation: Situation, *, again: bool) -> Generator[Item, Any, Answers]:
    """How the disks are opened. `again`: they have passphrase and recovery key already."""
    passphrase = yield Secret(
        title=_("Passphrase"),
        prompt=_("Passphrase:"),
        lines=(_("The one that opens the disks now. With a wrong one it ends before anything is changed."),)
        if again
        else (
            _("At least {count} characters. It is typed with the keymap {keymap} at boot.").format(
                count=SHORTEST, keymap=situation.said("keymap", default="us")
            ),
            _("Four or five words drawn by chance are good, and easy to type without seeing them."),
        ),
        check=_check,
        twice=not again,
        field=("storage", "encryption", "passphrase"),
    )
    path = yield Work(
        title=_("keeping the passphrase in memory"), task="keep_secret", arguments=("passphrase", passphrase)
    )
    recovery = "auto"
    if not again:
        recovery = yield _recovery_key()
    remote = yield One(
        title=_("From afar"),
        prompt=_("Type the passphrase over SSH too?"),
        lines=(
            _(
                "Before the disks are open the host then has the network of this installation, and an SSH server on port "
                "2222 that takes the passphrase and nothing else. Administrators' SSH keys open it."
            ),
            _("Recommended: no, unless nobody can stand beside the machine after a power cut."),
        ),
        options=(
            Option(False, _("No: on the screen or the serial line")),
            Option(True, _("Yes: for a machine that nobody stands beside"), _no_cable(situation)),
        ),
        default=False,
        field=("storage", "encryption", "ssh", "enable"),
    )
    token = yield One(
        title=_("Beside the passphrase"),
        prompt=_("What else opens the disks at boot?"),
        lines=(
            _("It is set up by the host itself at its first boot; the passphrase opens the disks always."),
            _(
                "The TPM gives the key to this machine alone, and only while its Secure Boot stays as it is. Without a PIN "
                "it gives it to whoever switches the machine on."
            ),
            _("Recommended: nothing, or the TPM with a PIN where the passphrase is long."),
        ),
        options=(
            Option("none", _("Nothing: the passphrase is typed at every boot")),
            Option(
                "tpm2-pin",
                _("The TPM, once a PIN is typed: short, and guessing it locks the TPM"),
                _no_tpm(situation),
            ),
            Option("tpm2", _("The TPM by itself: the host starts without anybody"), _no_tpm(situation)),
            Option("fido2", _("A FIDO2 token that is plugged in and touched")),
        ),
        default="none",
        field=("storage", "encryption", "token"),
    )
    answers: dict[str, object] = {"enable": True, "passphrase": {"file": path}}
    if recovery == "off":
        answers["recovery_key"] = "off"
    if token != "none":  # noqa: S105
        answers["token"] = token
    if token == "tpm2-pin":  # noqa: S105
        pin = yield Secret(
            title=_("PIN"),
            prompt=_("PIN:"),
            lines=(_("At least {count} characters, letters too if you like.").format(count=SHORTEST_PIN),),
            check=_check_pin,
            field=("storage", "encryption", "pin"),
        )
        kept = yield Work(title=_("keeping the PIN in memory"), task="keep_secret", arguments=("pin", pin))
        answers["pin"] = {"file": kept}
    if remote:
        answers["ssh"] = {"enable": True}
    return {("storage", "encryption"): answers}


def _recovery_key() -> One:
    """Whether a second key is made."""
    return One(
        title=_("Recovery key"),
        prompt=_("Make a recovery key?"),
        lines=(
            _(
                "A second key of 64 letters, made by chance, opens the disks when the passphrase is lost. It is shown once, "
                "on the last screen, and kept nowhere: it goes on paper."
            ),
            _("Recommended: yes."),
        ),
        options=(
            Option("auto", _("Yes: I write it down at the end")),
            Option("off", _("No: without the passphrase everything is lost")),
        ),
        default="auto",
        field=("storage", "encryption", "recovery_key"),
    )


def _against_sleep(situation: Situation) -> str | None:
    """What the planner says against encryption of a host that is to hibernate."""
    if not situation.said("storage", "swap", "hibernate"):
        return None
    plan = preview(
        situation, {("storage", "encryption"): {"enable": True, "passphrase": {"file": "/run/passphrase"}}}
    )
    return refusal(plan) if isinstance(plan, HyperError) else None


def _no_tpm(situation: Situation) -> str | None:
    tpm = situation.facts.firmware.tpm
    return None if tpm and tpm.version == 2 else _("This machine has no TPM 2.0, or it is switched off.")


def _check_pin(text: str) -> str | None:
    if len(text) < SHORTEST_PIN:
        return _("It is shorter than {count} characters.").format(count=SHORTEST_PIN)
    return None


def _no_cable(situation: Situation) -> str | None:
    if any(not nic.wireless for nic in situation.facts.nics):
        return None
    return _("This machine has no wired network card.")


def _check(text: str) -> str | None:
    if len(text) < SHORTEST:
        return _("It is shorter than {count} characters.").format(count=SHORTEST)
    return None
