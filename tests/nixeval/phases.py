"""What each phase and profile changes, evaluated: `NIXPKGS=… python -m tests.nixeval.phases` writes it as a golden."""

import json
import sys
from typing import Any

from tests.nixeval.host import MODULES, evaluate
from tests.nixeval.nix import REPOSITORY
from tests.nixeval.units import EXAMPLE

GOLDEN = REPOSITORY / "tests/golden/phases.json"
SELECT = """
host:
let
  inherit (host.pkgs) lib;
  # Plain values, by the names that a person would look for.
  of = config: {
    sshd = lib.filterAttrs (_: value: value != null) config.services.openssh.settings;
    sysctl = lib.filterAttrs (_: value: value != null) config.boot.kernel.sysctl;
    kernel = lib.genAttrs config.boot.kernelParams (_: true);
    blacklisted = lib.genAttrs config.boot.blacklistedKernelModules (_: true);
  };
  profile = name: of (host.extendModules {
    modules = [ { hypervisor.phase = "hardened"; hypervisor.security.profile = name; } ];
  }).config;
in
{
  setup = of host.config;
  baseline = profile "baseline";
  strict = profile "strict";
}
"""

Values = dict[str, dict[str, Any]]


def changed(before: Values, after: Values) -> Values:
    """What `after` has otherwise than `before`, kind by kind; null for what is gone."""
    kinds = {
        kind: {
            name: after[kind].get(name)
            for name in sorted(before[kind].keys() | after[kind].keys())
            if before[kind].get(name) != after[kind].get(name)
        }
        for kind in after
    }
    return {kind: names for kind, names in kinds.items() if names}


def phases() -> dict[str, Values]:
    """`baseline`: against phase setup; `strict`: against baseline."""
    found = evaluate(SELECT, [MODULES, EXAMPLE]).value
    return {
        "baseline": changed(found["setup"], found["baseline"]),
        "strict": changed(found["baseline"], found["strict"]),
    }


def main() -> int:
    """Write the golden file."""
    GOLDEN.write_text(json.dumps(phases(), indent=1, sort_keys=True) + "\n")
    print(GOLDEN.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
