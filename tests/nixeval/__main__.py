"""`NIXPKGS=… python -m tests.nixeval` writes anew everything in tests/golden that comes from Nix or from rendering."""

import sys

from tests.nixeval import hosts, options, phases, units

if __name__ == "__main__":
    sys.exit(max(part.main() for part in (hosts, options, phases, units)))
