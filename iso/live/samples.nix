# Systems that between them use everything that answers can ask for, one a loader, in either phase: what they are built of
# is what any host is built of. The flake has them, so that one evaluation makes them once, however many media it has.
{
  lib,
  packages,
  self,
}:
let
  inherit (packages.stdenv.hostPlatform) isx86_64;
  sample =
    module:
    (lib.nixosSystem {
      modules = [
        self.nixosModules.default
        ./sampler.nix
        module
        {
          nixpkgs.pkgs = packages;
          # Made of the same.
          specialisation = lib.mkForce { };
        }
      ];
    }).config;
  # Two loaders cannot be in one system; and programs that know ZFS, or other processors, are others than those that do not.
  grub =
    boots:
    sample {
      hypervisor.features.foreign-architectures.enable = lib.mkForce false;
      hypervisor.storage.esp.mirrors = lib.mkForce [ ];
      boot.supportedFilesystems.zfs = lib.mkForce false;
      fileSystems."/srv/zfs".enable = false;
      boot.loader = {
        systemd-boot.enable = lib.mkForce false;
        efi.canTouchEfiVariables = lib.mkForce boots.efiSupport;
        grub = {
          enable = true;
        }
        // boots;
      };
    };
in
[
  (sample { hypervisor.phase = "hardened"; })
  (grub {
    device = "nodev";
    efiSupport = true;
  })
]
++ lib.optional isx86_64 (grub {
  device = "/dev/disk/by-id/sample";
  efiSupport = false;
})
