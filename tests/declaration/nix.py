#!/usr/bin/env python3
"""Stands for Nix where no tree of nixpkgs is: it takes the same arguments, and answers from the text of the modules.

A system follows from the modules' text. Programs that a test lays down say which: the file of HV_TEST_SYSTEMS maps a word
that stands in a module to the system that is built; without one, the system's name is a hash.
"""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def read(reference: str) -> str:
    """The modules below the folder of `path:FOLDER#…`."""
    folder = Path(reference.partition("#")[0].removeprefix("path:"))
    return "\n".join(file.read_text() for file in sorted(folder.rglob("*.nix")))


def system(text: str) -> str:
    """What it builds."""
    table = os.environ.get("HV_TEST_SYSTEMS", "/etc/hv-test-systems.json")
    if Path(table).is_file():
        for word, toplevel in json.loads(Path(table).read_text()).items():
            if word in text:
                return str(toplevel)
    return f"/nix/store/{hashlib.sha256(text.encode()).hexdigest()[:32]}-nixos-system"


def main() -> int:
    """One call."""
    words = sys.argv[1:]
    reference = next(word for word in words if word.startswith("path:"))
    text = read(reference)
    if "broken = true" in text:
        print("error: attribute 'broken' is not known", file=sys.stderr)
        return 1
    if "build" in words:
        print(system(text))
        return 0
    said = json.loads((REPOSITORY / "tests/golden/migrate.json").read_text())["summary"]
    ports = re.findall(r"ports = \[ (\d+) \]", text)
    users = re.findall(r"^    users\.(\w+) = |^      (\w+) = \{$", text, re.MULTILINE)
    one = next(iter(said["users"].values()))
    said |= {
        "toplevel": system(text),
        "ports": [f"tcp {port}" for port in ports],
        "users": {a or b: one for a, b in users},
    }
    said["packages"] = ["nano-8.7", *(["swtpm-0.10"] if "tpm.enable = true" in text else [])]
    print(json.dumps(said))
    return 0


sys.exit(main())
