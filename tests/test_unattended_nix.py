"""The unit that starts the unattended installation, evaluated in every live system."""

from functools import cache
from typing import Any

import pytest

from installer.errors import Exit
from installer.unattended.run import PAGE
from tests.nixeval.host import flakes
from tests.nixeval.nix import require

pytestmark = pytest.mark.nixpkgs
SELECT = """own: let inherit (own.nixosConfigurations.installer-PROCESSOR) config; in {
  text = config.systemd.units."hyper-nixos-unattended.service".text;
  units = builtins.attrNames config.systemd.services;
  modules = config.boot.kernelModules;
  wanted = config.systemd.services.hyper-nixos-unattended.wantedBy;
  programs = map (package: package.pname or package.name) config.environment.systemPackages;
  sshd = config.systemd.services.sshd.after;
  networks = config.networking.networkmanager.enable;
}"""


@cache
def live(processor: str) -> dict[str, Any]:
    found: dict[str, Any] = require().evaluate(f"({SELECT.replace('PROCESSOR', processor)}) {flakes()}.own")
    return found


@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_unit(processor: str) -> None:
    found = live(processor)
    lines = found["text"].splitlines()
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert start.endswith("/bin/hv install --unattended")
    (after,) = (line for line in lines if line.startswith("After="))
    assert {"hyper-nixos-live.service", "network-online.target"} <= set(after.removeprefix("After=").split())
    taken = {int(line.partition("=")[2]) for line in lines if line.startswith("SuccessExitStatus=")}
    assert taken == {Exit.consent, Exit.nothing}
    assert "Restart=no" in lines
    assert "qemu_fw_cfg" in found["modules"]
    assert found["wanted"] == ["multi-user.target"]
    # What stops the page stops the one that there is.
    assert PAGE.removesuffix(".service") in found["units"]
    assert not any("unattended" in unit for unit in found["sshd"]), "SSH waits for the installation"
    assert {"networkmanager", "openssh"} <= set(found["programs"]) or found["networks"]


def test_server_is_a_package_of_its_own() -> None:
    project = "own: map (each: each.pname or each.name) own.packages.x86_64-linux.{}.propagatedBuildInputs"
    plain, server = (
        set(require().evaluate(f"({project.format(name)}) {flakes()}.own")) for name in ("hv", "hv-server")
    )
    assert server - plain == {"psycopg"}, "a host has a broker, which serves too"
    assert {"dnspython", "urllib3"} <= plain
