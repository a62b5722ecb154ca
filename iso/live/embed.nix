# What was embedded into the medium after it was built: read once, checked, and put where it is looked for.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  systemd.services.hyper-nixos-live = {
    description = "What the medium holds, and the way in over SSH";
    documentation = [ "man:hv-live(1)" ];
    wantedBy = [ "multi-user.target" ];
    before = [
      "sshd.service"
      "sshd.socket"
      # The medium may have connections for it.
      "NetworkManager.service"
    ];
    unitConfig.RequiresMountsFor = "/iso";
    restartIfChanged = false;
    path = [ pkgs.shadow ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${lib.getExe config.hypervisor.package} live prepare";
      RuntimeDirectory = "hyper-nixos";
      RuntimeDirectoryPreserve = true;
      UMask = "0077";
    };
  };
}
