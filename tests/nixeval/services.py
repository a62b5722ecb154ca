"""Every service of ours as the modules evaluate to it: of hosts, of stage 1, and of the live medium.

`NIXPKGS=… python -m tests.nixeval.services` writes them to tests/golden/services; systemd is asked about them.
"""

import re
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from tests.nixeval import modules, netboot
from tests.nixeval.host import MODULES, evaluate, flakes
from tests.nixeval.nix import REPOSITORY, require
from tests.nixeval.options import leaves
from tests.nixeval.phases import BROKER, HELPERS
from tests.nixeval.units import EXAMPLE, PASSTHROUGH, name_store_paths

GOLDEN = REPOSITORY / "tests/golden/services"
EVERYTHING = (
    BROKER,
    HELPERS,
    PASSTHROUGH,
    "{ hypervisor.storage.degraded.enable = true; }",
    '{ hypervisor.migration = { enable = true; fallback = "counted"; }; }',
)
"""What switches on the services that the example host has not: one more module for each."""
PREBUILT = "{ hypervisor = { enable = true; prebuilt.enable = true; }; }"
OURS = "(hv|hyper-nixos)[a-z0-9@-]*[.]service"
"""Names of services of ours."""
SELECT = f"""host: let
  inherit (host.pkgs) lib;
  ours = lib.filterAttrs (name: unit: unit.enable && builtins.match "{OURS}" name != null);
  texts = where: units: lib.mapAttrs' (name: unit: lib.nameValuePair "${{where}}/${{name}}" unit.text) (ours units);
in WHERE host.config"""
HOST = '(config: texts "host" config.systemd.units // texts "initrd" config.boot.initrd.systemd.units)'
MEDIUM = (
    '(config: texts "medium" config.systemd.units // texts "medium-initrd" config.boot.initrd.systemd.units)'
)


def services() -> dict[str, str]:
    """Path below GOLDEN to text. Of the medium those that hosts have not."""
    texts: dict[str, str] = evaluate(SELECT.replace("WHERE", HOST), [MODULES, EXAMPLE, *EVERYTHING]).value
    # A system for any host has services of its own, and no people, whom the others need.
    prebuilt: dict[str, str] = evaluate(SELECT.replace("WHERE", HOST), [MODULES, PREBUILT]).value
    texts = prebuilt | texts
    select = SELECT.replace("WHERE", MEDIUM)
    media = f"""let
      systems = {flakes()}.own.nixosConfigurations;
      live = builtins.filter (name: builtins.match "(medium|installer)-x86_64.*" name != null) (builtins.attrNames systems);
    in map (name: ({select}) systems.${{name}}) live"""
    for found in require().evaluate(media):
        texts |= {path: text for path, text in found.items() if f"host/{path.split('/')[1]}" not in texts}
    fetched = "hyper-nixos-store.service"  # of the medium that is started over the network
    texts[f"medium-initrd/{fetched}"] = netboot.stage_1("x86_64-linux")["wanted"]["units"][fetched]
    return {path: name_store_paths(text) for path, text in texts.items()}


def committed() -> dict[str, str]:
    """The same from the repository."""
    return {str(path.relative_to(GOLDEN)): path.read_text() for path in GOLDEN.rglob("*") if path.is_file()}


def declared() -> set[str]:
    """Names of services of ours that the text of the modules defines, whether something switches them on or not."""
    names: set[str] = set()
    for module in modules.found().modules:
        for leaf in leaves(module.config):
            names |= set(_service(leaf))
    return {name for name in names if re.fullmatch(OURS, name)}


def _service(leaf: tuple[str, ...]) -> list[str]:
    place: Mapping[tuple[str, ...], int] = {
        ("systemd", "services"): 2,
        ("systemd", "user", "services"): 3,
        ("boot", "initrd", "systemd", "services"): 4,
    }
    return [f"{leaf[at]}.service" for front, at in place.items() if leaf[:at] == front and len(leaf) > at]


def main(*_: Any) -> int:
    """Write the golden files."""
    fresh = services()
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for path, text in fresh.items():
        target = GOLDEN / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        print(target.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
