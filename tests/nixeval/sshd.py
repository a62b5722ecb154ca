"""The SSH server's settings of each phase and profile, as lines that the sshd of this machine takes."""

import json
import subprocess
from collections.abc import Mapping

from tests.nixeval.phases import FILES

NEW = {"mlkem768x25519-sha256", "sntrup761x25519-sha512"}
"""Key exchanges of OpenSSH 9.9, which an older one refuses by name."""
SEPARATORS = {"AllowGroups": " ", "AllowUsers": " ", "Ciphers": ",", "KexAlgorithms": ",", "Macs": ","}
"""How NixOS joins lists (nixos/modules/services/networking/ssh/sshd.nix)."""


def sshd_lines(state: str) -> list[str]:
    """Lines of sshd_config(5), without host keys; key exchanges that this machine's OpenSSH lacks are left out."""
    return lines_of(json.loads((FILES / state / "sshd_config.json").read_text()))


def lines_of(settings: Mapping[str, object]) -> list[str]:
    """`services.openssh.settings` as such lines, in the order in which NixOS writes them."""
    return [f"{name} {_text(name, value)}" for name, value in sorted(settings.items())]


def _text(name: str, value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            kept = [each for each in value if name != "KexAlgorithms" or each not in NEW - _known()]
            return SEPARATORS[name].join(kept)
        case _:
            return str(value)


def _known() -> set[str]:
    listed = subprocess.run(("ssh", "-Q", "kex"), capture_output=True, text=True, check=True)
    return set(listed.stdout.split())
