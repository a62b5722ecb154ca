"""`NIXPKGS=… python -m tests.nixeval` writes anew everything that comes from Nix or from rendering.

That is tests/golden, but for plans, and the pages of docs/reference that are made from it.
"""

import sys

from tests.nixeval import digests, hosts, netboot, network, options, pages, phases, services, stage1, units

PARTS = (hosts, netboot, network, options, phases, units, services, stage1, pages, digests)

if __name__ == "__main__":
    sys.exit(max(part.main() for part in PARTS))
