"""unlock.nix: the passphrase is typed over SSH, in stage 1 with systemd (nixos/modules/system/boot/initrd-ssh.nix)."""

from installer.answers.model import Answers
from installer.answers.ssh_key import TYPES
from installer.plan.model import HostUnlock
from installer.render.network import networkd
from installer.render.nix import Nix

ASK = "/bin/systemd-tty-ask-password-agent"
"""In place of a shell: it asks for the passphrase and does nothing else (systemd-tty-ask-password-agent(1))."""


def unlocking(answers: Answers, unlock: HostUnlock) -> dict[str, Nix]:
    """Options of stage 1: the host's own network, and an SSH server that takes passphrases alone."""
    initrd: dict[str, Nix] = {
        "availableKernelModules": list(unlock.drivers),
        "network": {
            "enable": True,
            "ssh": {
                "enable": True,
                "port": unlock.port,
                # Text, not a path: a path would be copied into the store that everyone can read.
                "hostKeys": [unlock.host_key],
                "authorizedKeys": [_restricted(line) for line in unlock.keys],
            },
        },
        "systemd": {
            "network": {"enable": True, **networkd(answers.network)},
            "users": {"root": {"shell": ASK}},
        },
    }
    if unlock.kinds:
        initrd["kernelModules"] = list(unlock.kinds)
    return {"boot": {"initrd": initrd}}


def _restricted(line: str) -> str:
    """Nothing but a terminal (sshd(8), AUTHORIZED_KEYS FILE FORMAT)."""
    return f"restrict,pty {line}" if line.split(" ", 1)[0] in TYPES else f"restrict,pty,{line}"
