# Other processor architectures: guests (QEMU's system emulation) and single programs (its user emulation).
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor;
  inherit (cfg) features;
  other =
    {
      aarch64-linux = "x86_64-linux";
      x86_64-linux = "aarch64-linux";
    }
    .${pkgs.stdenv.hostPlatform.system};
in
{
  config = lib.mkIf cfg.virtualization.enable {
    virtualisation.libvirtd.qemu.package = lib.mkDefault (
      if features.foreign-architectures.enable then pkgs.qemu else pkgs.qemu_kvm
    );
    boot.binfmt = lib.mkIf features.foreign-programs.enable {
      emulatedSystems = [ other ];
      # The kernel keeps a static emulator open: it is there in containers and chroots, where its path is not.
      preferStaticEmulators = lib.mkDefault true;
      # For programs, not for building packages of the other architecture.
      addEmulatedSystemsToNixSandbox = lib.mkDefault false;
    };
  };
}
