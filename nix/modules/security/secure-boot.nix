# Secure Boot with keys of the host's own: `hv secure-boot` signs loader, kernels, RAM disks and command lines, as one
# image for each system, out of the Nix store. The keys are made by the host itself (hv/firstrun/secure_boot.py); until then
# the hook says so and does nothing.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor.security;
  loader = config.boot.loader;
  arch = pkgs.stdenv.hostPlatform.efiArch;
  efi = "${config.systemd.package}/lib/systemd/boot/efi";
  settings = builtins.toJSON {
    esp = loader.efi.efiSysMountPoint;
    boot =
      if loader.systemd-boot.xbootldrMountPoint != null then
        loader.systemd-boot.xbootldrMountPoint
      else
        loader.efi.efiSysMountPoint;
    loader = "${efi}/systemd-boot${arch}.efi";
    stub = "${efi}/linux${arch}.efi.stub";
    tools = "${pkgs.sbsigntool}/bin";
    limit = if loader.systemd-boot.configurationLimit == null then 0 else loader.systemd-boot.configurationLimit;
  };
  hv = "${config.hypervisor.package}/bin/hv";
in
{
  options.hypervisor.security.secureBoot.enable = lib.mkOption {
    type = lib.types.bool;
    default = false;
    example = true;
    description = ''
      Whether the host signs what it starts from with keys of its own, at every rebuild. Nothing is enforced by it alone:
      `hv secure-boot sign --make-keys` makes the keys where the first run did not, and `hv secure-boot enrol` gives them to
      a firmware in setup mode. The keys are in `/var/lib/hyper-nixos/secure-boot`, for root alone; have that folder
      encrypted.
    '';
  };

  config = lib.mkIf (cfg.enable && cfg.secureBoot.enable) {
    environment.etc."hyper-nixos/secure-boot.json".text = settings;

    # The new generation's own program and settings: /etc is still the old one's when this runs. Before the boot partitions
    # of other disks are made to hold the same. Where it fails, the rebuild fails, and the last signed system stays the
    # default.
    boot.loader.systemd-boot.extraInstallCommands = lib.mkBefore ''
      ${hv} secure-boot --config ${pkgs.writeText "secure-boot.json" settings} sign --default "$1"
    '';

    assertions = [
      {
        assertion = loader.systemd-boot.enable;
        message = ''
          hypervisor.security.secureBoot signs what systemd-boot starts, and this host uses another loader. Set
          boot.loader.systemd-boot.enable = true, or hypervisor.security.secureBoot.enable = false.
        '';
      }
      {
        assertion = !(loader.systemd-boot.bootCounting.enable or false);
        message = ''
          hypervisor.security.secureBoot names the default system itself, and boot.loader.systemd-boot.bootCounting would
          have the boot menu count another entry. Switch one of them off.
        '';
      }
    ];
  };
}
