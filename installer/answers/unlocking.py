"""Who may type the passphrase over SSH."""

from installer.answers.model import Answers
from installer.answers.ssh_key import parse_ssh_key


def unlock_keys(answers: Answers) -> tuple[str, ...]:
    """authorized_keys(5) lines: those that are named, else the administrators'; keys that forbid a login left out."""
    named = answers.storage.encryption.ssh.keys
    lines = named or tuple(line for user in answers.users if user.admin for line in user.ssh_keys)
    return tuple(dict.fromkeys(line.strip() for line in lines if _opens(line)))


def _opens(line: str) -> bool:
    try:
        return not parse_ssh_key(line).limits
    except ValueError:
        return False
