"""Who gets in over SSH, and who may become root: rendered into the host, and weighed before anyone is locked out."""

from installer.answers.model import Answers, Phase


def sshd_settings(answers: Answers, phase: Phase) -> dict[str, bool | str]:
    """The options of sshd_config(5) that decide who gets in, as `services.openssh.settings` has them in a phase.

    A host's own files set `PasswordAuthentication` for phase setup alone; the rest, and the stricter values of
    phase hardened, come from our NixOS modules (nix/modules/security), which a test holds to this table.
    """
    return {
        "PubkeyAuthentication": True,
        "PasswordAuthentication": phase is Phase.setup and answers.ssh.password_login,
        "KbdInteractiveAuthentication": False,
        "PermitRootLogin": "no",
    }


def wheel_needs_password(answers: Answers) -> bool:
    """Whether sudo may ask administrators for a password: only if each of them has one.

    An administrator with nothing but an SSH key would log in and then be unable to become root.
    """
    return all(user.password_hash or user.password_hash_file for user in answers.users if user.admin)
