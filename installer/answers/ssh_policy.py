"""What the SSH server admits in each phase: rendered into the host, and weighed before anyone is locked out."""

from installer.answers.model import Answers, Phase


def sshd_settings(answers: Answers, phase: Phase) -> dict[str, bool | int | str]:
    """Options of sshd_config(5) that decide who gets in, for `services.openssh.settings`.

    Public keys are always accepted. Passwords are accepted only in phase setup and only where asked for; root
    never logs in: administrators have accounts and become root with sudo.
    """
    passwords = phase is Phase.setup and answers.ssh.password_login
    settings: dict[str, bool | int | str] = {
        "PubkeyAuthentication": True,
        "PasswordAuthentication": passwords,
        "KbdInteractiveAuthentication": False,
        "PermitRootLogin": "no",
        "PermitEmptyPasswords": False,
    }
    if phase is Phase.hardened:
        settings |= {
            "AuthenticationMethods": "publickey",
            "X11Forwarding": False,
            "AllowAgentForwarding": False,
            "MaxAuthTries": 3,
            "LoginGraceTime": 30,
        }
    return settings


def wheel_needs_password(answers: Answers) -> bool:
    """Whether sudo may ask administrators for a password: only if each of them has one.

    An administrator with nothing but an SSH key would log in and then be unable to become root.
    """
    return all(user.password_hash or user.password_hash_file for user in answers.users if user.admin)
