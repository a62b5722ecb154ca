"""nix/modules/security/secure-boot.nix, evaluated with a real nixpkgs: the hook, its settings, and what is refused."""

import json
from pathlib import Path

import pytest

from hv.secure_boot.settings import SecureBootSettings
from tests.nixeval.host import MODULES, TOPLEVEL, evaluate
from tests.nixeval.units import EXAMPLE

pytestmark = pytest.mark.nixpkgs
ON = "({ hypervisor.security.secureBoot.enable = true; boot.loader.efi.canTouchEfiVariables = true; })"
MIRROR = """({
  fileSystems."/boot2" = { device = "/dev/disk/by-partuuid/b"; fsType = "vfat"; };
  hypervisor.storage.esp.mirrors = [ "/boot2" ];
})"""
SELECT = """host: {
  toplevel = (TOPLEVEL) host;
  hook = host.config.boot.loader.systemd-boot.extraInstallCommands;
  settings = host.config.environment.etc."hyper-nixos/secure-boot.json".text;
}""".replace("TOPLEVEL", TOPLEVEL)


@pytest.mark.parametrize(
    ("system", "loader", "stub"),
    [
        ("x86_64-linux", "systemd-bootx64.efi", "linuxx64.efi.stub"),
        ("aarch64-linux", "systemd-bootaa64.efi", "linuxaa64.efi.stub"),
    ],
)
def test_the_hook_signs_before_the_other_disks_hold_the_same(system: str, loader: str, stub: str) -> None:
    host = evaluate(SELECT, [MODULES, EXAMPLE, ON, MIRROR], system)
    assert (host.failed_assertions, host.warnings) == ((), ())
    assert host.value["toplevel"].endswith(".drv")
    lines = [line for line in host.value["hook"].splitlines() if line.strip()]
    assert "/bin/hv secure-boot --config /nix/store/" in lines[0]
    # The builder's own argument, and no `||`: where it fails, the rebuild fails.
    assert lines[0].endswith(' sign --default "$1"')
    assert "/bin/hv esp " in lines[1]
    settings = SecureBootSettings.model_validate(json.loads(host.value["settings"]))
    assert (settings.esp, settings.boot) == ("/boot", "/boot")
    assert (Path(settings.loader).name, Path(settings.stub).name) == (loader, stub)
    assert Path(settings.tools).name == "bin" and "sbsigntool" in settings.tools
    assert settings.limit >= 0


def test_off_it_leaves_nothing() -> None:
    select = """host: [
      (builtins.hasAttr "hyper-nixos/secure-boot.json" host.config.environment.etc)
      host.config.boot.loader.systemd-boot.extraInstallCommands
    ]"""
    assert evaluate(select, [MODULES, EXAMPLE], "x86_64-linux").value == [False, ""]


def test_kernels_on_a_partition_of_their_own_are_signed_there() -> None:
    apart = '{ boot.loader.systemd-boot.xbootldrMountPoint = "/boot"; boot.loader.efi.efiSysMountPoint = "/efi"; }'
    host = evaluate(
        SELECT.replace("toplevel =", 'toplevel = if true then "" else'),
        [MODULES, EXAMPLE, ON, apart],
        "x86_64-linux",
    )
    settings = SecureBootSettings.model_validate(json.loads(host.value["settings"]))
    assert (settings.esp, settings.boot) == ("/efi", "/boot")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            """({ lib, ... }: { boot.loader.systemd-boot.enable = lib.mkForce false;
                 boot.loader.grub = { enable = true; device = "nodev"; }; })""",
            "uses another loader",
        ),
        ("({ boot.loader.systemd-boot.bootCounting.enable = true; })", "names the default system itself"),
    ],
)
def test_what_does_not_go_together_is_refused(module: str, words: str) -> None:
    host = evaluate("host: true", [MODULES, EXAMPLE, ON, module], "x86_64-linux")
    assert any(words in each for each in host.failed_assertions), host.failed_assertions
