"""Who gets in over SSH: rendered into the host, and weighed before anyone is locked out."""

from installer.answers.model import Answers, Phase


def sshd_settings(answers: Answers, phase: Phase) -> dict[str, bool | str]:
    """The options of sshd_config(5) that decide who gets in, as `services.openssh.settings` has them in a phase.

    They are rendered into the files of both phases; whatever else a phase hardens is in our NixOS modules.
    """
    return {
        "PubkeyAuthentication": True,
        "PasswordAuthentication": phase is Phase.setup and answers.ssh.password_login,
        "KbdInteractiveAuthentication": False,
        "PermitRootLogin": "no",
    }
