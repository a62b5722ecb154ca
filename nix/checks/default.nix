# Tests in virtual machines, one file each, and one a layout of disks. They need KVM and a binary cache, so the workflow
# runs them.
{
  lib,
  nixpkgs,
  pkgs,
  self,
}:
let
  inherit (pkgs.stdenv.hostPlatform) isx86_64;
  test =
    name: module: more:
    pkgs.testers.runNixOSTest {
      inherit name;
      imports = [ module ];
      # nixpkgs' own installation profile has an overlay.
      node.pkgsReadOnly = false;
      node.specialArgs = { inherit nixpkgs self; };
      _module.args = {
        inherit nixpkgs self;
      }
      // more;
    };
  files = [
    "live"
    "migrate"
    "phases"
    "privileges"
  ]
  # A BIOS, and a chipset with Intel's IOMMU.
  ++ lib.optionals isx86_64 [
    "install-ext4"
    "install-prebuilt"
    "rescue"
  ];
  described = lib.importJSON ./layouts.json;
  layouts = lib.filterAttrs (name: _: isx86_64 || lib.hasPrefix "uefi" name) described.layouts;
in
lib.genAttrs files (name: test name (./. + "/${name}.nix") { })
// lib.mapAttrs' (
  name: layout:
  lib.nameValuePair "layout-${name}" (
    test "layout-${name}" ./layout.nix {
      layout = layout // {
        inherit name;
        base = described.answers;
      };
    }
  )
) layouts
