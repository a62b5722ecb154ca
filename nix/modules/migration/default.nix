# A host that became one in place: its first boot is a trial, and a trial that fails goes back to the system from before.
#
# `hv health check` runs as long as there is a record of a trial. It is ordered before boot-complete.target, which
# systemd-boot's counting waits for (systemd-bless-boot.service), and a failure starts the machine anew: an entry whose
# tries are used up is passed over, a one-shot default of the boot loader is gone. The check itself counts how often it
# ran and gives up, without a failure, after that many: no machine goes round for ever.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config) hypervisor;
  cfg = hypervisor.migration;
  record = "/var/lib/hyper-nixos/migration/trial.json";
in
{
  options.hypervisor.migration = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Whether the first boot after {command}`hv migrate`, which writes this line, is checked.";
    };
    fallback = lib.mkOption {
      type = lib.types.enum [
        "counted"
        "once"
        "grub"
        "none"
      ];
      default = "none";
      example = "counted";
      description = ''
        What takes the host back when its first boot is not well: `counted` has systemd-boot count the boots of each new
        generation, `once` and `grub` start the new one once and leave the old one the default, `none` leaves it to a
        person at the boot menu, and then a failure does not start the machine anew.
      '';
    };
    patience = lib.mkOption {
      type = lib.types.ints.between 30 3600;
      default = 300;
      example = 600;
      description = "Seconds that network, libvirt and guests have until the first boot counts as failed.";
    };
  };

  config = lib.mkIf (hypervisor.enable && cfg.enable) {
    # A kernel that panics, or a stage 1 that finds no root, starts the machine anew as well.
    boot.kernelParams = lib.mkIf (cfg.fallback != "none") [
      "boot.panic_on_fail"
      "panic=30"
    ];

    systemd.services.hyper-nixos-health = {
      description = "Hyper-NixOS check of a first boot";
      documentation = [ "man:hv-health(1)" ];
      wantedBy = [ "multi-user.target" ];
      requiredBy = [ "boot-complete.target" ];
      before = [ "boot-complete.target" ];
      # After the logins: somebody who waits for this at the console can look.
      after = [
        "libvirtd.service"
        "libvirtd.socket"
        "multi-user.target"
        "network-online.target"
        "sshd.service"
      ];
      wants = [ "network-online.target" ];
      unitConfig = {
        ConditionPathExists = record;
      }
      // lib.optionalAttrs (cfg.fallback != "none") { FailureAction = "reboot"; };
      restartIfChanged = false;
      stopIfChanged = false;
      path = [
        config.nix.package
        config.services.openssh.package
        pkgs.iproute2
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${hypervisor.package}/bin/hv health check --patience ${toString cfg.patience}";
        # Beyond its own patience it hangs, and that is a failure too.
        TimeoutStartSec = cfg.patience + 120;
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    };
  };
}
