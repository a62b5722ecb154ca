# Tests in virtual machines, one file each. They need KVM and a binary cache, so the workflow runs them.
{
  lib,
  nixpkgs,
  pkgs,
  self,
}:
lib.genAttrs
  (
    [
      "live"
      "phases"
      "privileges"
    ]
    # A BIOS, and a chipset with Intel's IOMMU.
    ++ lib.optionals pkgs.stdenv.hostPlatform.isx86_64 [
      "install-ext4"
      "install-prebuilt"
      "rescue"
    ]
  )
  (
    name:
    pkgs.testers.runNixOSTest {
      inherit name;
      imports = [ (./. + "/${name}.nix") ];
      # nixpkgs' own installation profile has an overlay.
      node.pkgsReadOnly = false;
      node.specialArgs = { inherit nixpkgs self; };
      _module.args = { inherit nixpkgs self; };
    }
  )
