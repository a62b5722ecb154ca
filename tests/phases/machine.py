"""A machine whose system has a specialisation: phase setup and phase hardened, as they evaluate, on a real systemd.

What is NixOS's about it is the stand-in of tests.network.machine; sshd's settings, the systems' word on themselves, the
guard's unit and the declaration are the evaluated and rendered ones.
"""

import json
from typing import Any

from hv.firstrun.phase import DECLARATION
from installer.answers.model import Phase
from installer.render.host import phase_file
from installer.render.templates import load_templates
from tests.network.machine import PROFILES, SSHD, SYSTEMS, Machine
from tests.nixeval.network import committed_systems
from tests.nixeval.phases import FILES
from tests.nixeval.sshd import sshd_lines

STATES = {"setup": "setup", "hardened": "strict"}
"""Name of a system: what it was evaluated as."""


class PhaseMachine(Machine):
    """The machine."""

    def systems(self) -> dict[str, str]:
        """Both have the same network."""
        lan = committed_systems()["lan"]
        return dict.fromkeys(STATES, lan)

    def system(self, name: str, said: dict[str, Any]) -> None:
        """With what the phase changes."""
        self.system_of(name, name, said)

    def system_of(self, state: str, name: str, said: dict[str, Any]) -> None:
        """A system of this phase, by any name."""
        super().system(name, said)
        place = f"{SYSTEMS}/{name}"
        # The network's check compares sshd's settings too, of a host that has another way of saying so.
        network = said["network"] | {"ssh": {"phase": name}}
        self.write(f"{place}/etc/hyper-nixos/network.json", json.dumps(network))
        for file in ("security.json", "sysctl.conf"):
            to = "etc/hyper-nixos/security.json" if file == "security.json" else "etc/sysctl.d/60-nixos.conf"
            self.write(f"{place}/{to}", (FILES / STATES[state] / file).read_text())
        # UsePAM: this machine's PAM has no line of NixOS's.
        lines = [line for line in sshd_lines(STATES[state]) if not line.startswith(("UsePAM", "Include"))]
        # The first value counts.
        self.write(f"{place}/etc/ssh/sshd_config", SSHD + "".join(f"{line}\n" for line in lines))
        self.write(f"{place}/etc/sudoers", "ada ALL=(ALL) NOPASSWD: ALL\n")

    def build(self) -> None:
        """Both systems in one profile, the declaration, and an administrator."""
        super().build()
        (self.root / "etc/ssh/sshd_config").unlink()
        self.link("/etc/ssh/sshd_config", "/run/current-system/etc/ssh/sshd_config")
        self.link(f"{SYSTEMS}/setup/specialisation/hardened", f"{SYSTEMS}/hardened")
        # A specialisation is no generation of its own.
        (self.root / PROFILES.lstrip("/") / "system-2-link").unlink()
        self.write("/etc/group", self.read("/etc/group") + "wheel:x:990:ada\n")
        self.empty("/boot", "/etc/nixos")
        self.declare(Phase.setup)

    def declare(self, phase: Phase) -> None:
        """phase.nix, as the installer leaves it."""
        self.write(DECLARATION, phase_file(phase, load_templates()))
