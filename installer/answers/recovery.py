"""What becomes of the recovery key of encrypted disks: shown to a person, sealed for some, or not made."""

from installer.answers.model import Answers, ExistingKind, RecoveryKind
from installer.answers.ssh_key import parse_ssh_key

SEALABLE = ("ssh-ed25519", "ssh-rsa")
"""Types of SSH keys that age(1) encrypts to."""


def recovery_kind(answers: Answers) -> RecoveryKind:
    """`show`, `seal` or `off`."""
    encryption = answers.storage.encryption
    if not encryption.enable or answers.storage.existing is ExistingKind.reinstall:
        return RecoveryKind.off  # the one that was made when the host was installed opens its disks still
    if encryption.recovery_key is not RecoveryKind.auto:
        return encryption.recovery_key
    alone = answers.storage.destroy is not None or bool(encryption.recovery_recipients)
    return RecoveryKind.seal if alone else RecoveryKind.show


def recipients(answers: Answers) -> tuple[str, ...]:
    """Whom a sealed key is for: those that are named, else the administrators' SSH keys that age can encrypt to."""
    named = answers.storage.encryption.recovery_recipients
    if named:
        return tuple(" ".join(each.split()[:2]) for each in named)
    keys = [line for user in answers.users if user.admin for line in user.ssh_keys]
    return tuple(dict.fromkeys(filter(None, map(_sealable, keys))))


def _sealable(line: str) -> str | None:
    """The key alone, without options and comment."""
    try:
        key = parse_ssh_key(line)
    except ValueError:
        return None
    if key.kind not in SEALABLE:
        return None
    words = line.split()
    return " ".join(words[words.index(key.kind) :][:2])
