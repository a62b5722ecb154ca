"""A machine that `hv setup` changes: real systemd, sshd, sudo and the rendered /etc/nixos. Nix is tests.declaration.nix, and
what it builds are systems that lie ready."""

import json
import sys
from typing import Any

from tests.declaration.host import NIX
from tests.network.machine import SYSTEMS
from tests.nixeval.cases import rendered
from tests.nixeval.network import committed_systems
from tests.phases.machine import PhaseMachine

CASE = "home-lab"
TABLE = "/etc/hv-test-systems.json"
BUILT = {"ports = [ 2222 ]": "cut-off", "Europe/Zurich": "changed"}
"""What stands in a module, and the system that it makes; the first that fits."""
LINES = {"changed": "MaxAuthTries 3\n", "cut-off": "Port 2222\n"}
"""What its SSH server has otherwise."""


class SetupMachine(PhaseMachine):
    """The machine."""

    def systems(self) -> dict[str, str]:
        """All have the same network."""
        return dict.fromkeys(("setup", "hardened", "changed", "cut-off"), committed_systems()["lan"])

    def system(self, name: str, said: dict[str, Any]) -> None:
        """What the declaration changes, on top of phase setup."""
        if name not in LINES:
            super().system(name, said)
            return
        super().system_of("setup", name, said)
        place = f"{SYSTEMS}/{name}/etc/ssh/sshd_config"
        self.write(place, LINES[name] + self.read(place))

    def build(self) -> None:
        """With the declaration, and a Nix."""
        super().build()
        for path, text in rendered(CASE).files.items():
            self.write(f"/etc/nixos/{path}", text)
        table = {word: f"{SYSTEMS}/{name}" for word, name in BUILT.items()}
        # Whatever else the modules say.
        self.write(TABLE, json.dumps({**table, "imports": f"{SYSTEMS}/setup"}))
        self.write("/usr/local/bin/nix", f'#!/bin/sh\nexec {sys.executable} {NIX} "$@"\n', 0o755)
        # Only a generation of its own is none: the profile has one system, and its other phase.
        for number in (3, 4):
            (self.root / f"nix/var/nix/profiles/system-{number}-link").unlink()
