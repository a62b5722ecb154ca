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
  # QEMU as it is, with firmware for guests that can be in snapshots (./uefi-variables.sh).
  withSnapshots =
    qemu:
    pkgs.symlinkJoin {
      name = "${qemu.name}-with-snapshots";
      inherit (qemu) pname version meta;
      paths = [ qemu ];
      nativeBuildInputs = [
        pkgs.jq
        qemu
      ];
      # The descriptions name files below the package that they are in: NixOS gives those a path that stays.
      postBuild = ''
        for description in $out/share/qemu/firmware/*.json; do
          substitute "$(readlink -f "$description")" "$description.new" --replace-fail ${qemu}/share/qemu/ $out/share/qemu/
          mv "$description.new" "$description"
        done
        sh ${./uefi-variables.sh} $out/share/qemu $out/share/qemu
      '';
    };
in
{
  config = lib.mkIf cfg.virtualization.enable {
    virtualisation.libvirtd.qemu.package = lib.mkDefault (
      withSnapshots (if features.foreign-architectures.enable then pkgs.qemu else pkgs.qemu_kvm)
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
