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


ED25519 = frozenset(("ssh-ed25519", "sk-ssh-ed25519@openssh.com"))
"""Kinds of key that the profile `paranoid` takes (nix/modules/security/ssh.nix; a test compares)."""


def takes_key(answers: Answers, phase: Phase, kind: str) -> bool:
    """Whether a phase's SSH server takes keys of this kind, as the first word of a public key names it."""
    only = phase is Phase.hardened and answers.security.profile == "paranoid"
    return not only or kind in ED25519
