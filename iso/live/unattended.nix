# The unattended installation: looks for answers once, and carries them out if they consent. SSH, page and shells do not
# wait for it, and stay when it fails.
{ config, pkgs, ... }:
{
  # Answers that QEMU hands in.
  boot.kernelModules = [ "qemu_fw_cfg" ];

  systemd.services.hyper-nixos-unattended = {
    description = "Unattended installation";
    documentation = [ "man:hv-install(1)" ];
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-online.target" ];
    after = [
      "hyper-nixos-live.service"
      "hyper-nixos-page.service"
      "network-online.target"
      "systemd-modules-load.service"
    ];
    restartIfChanged = false;
    serviceConfig = {
      # Nothing waits for it, and no time limit ends an installation that is under way.
      Type = "exec";
      ExecStart = "${config.hypervisor.package}/bin/hv install --unattended";
      # Answers that leave consent to a person, and no answers at all (installer/errors.py): nothing is wrong.
      SuccessExitStatus = [
        7
        12
      ];
      # Never again by itself: what failed once is for a person to look at.
      Restart = "no";
      UMask = "0077";
    };
  };

  # Leases and name servers are asked of it.
  environment.systemPackages = [ pkgs.networkmanager ];
}
