# Systems that were added to the medium after it was built (`hv media pack`): mounted, and known to the installer.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  boot.kernelModules = [ "loop" ];
  boot.supportedFilesystems.squashfs = true;

  systemd.services.hyper-nixos-packs = {
    description = "Systems that were added to the medium";
    documentation = [ "man:hv-live(1)" ];
    wantedBy = [ "multi-user.target" ];
    after = [ "hyper-nixos-live.service" ];
    before = [
      "hyper-nixos-page.service"
      "hyper-nixos-unattended.service"
    ];
    unitConfig = {
      RequiresMountsFor = "/iso";
      # Only started from an ISO image; the other media have no place for packs.
      ConditionPathIsMountPoint = "/iso";
    };
    restartIfChanged = false;
    path = [ pkgs.util-linux ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${lib.getExe config.hypervisor.package} live packs";
      RuntimeDirectory = "hyper-nixos";
      RuntimeDirectoryPreserve = true;
    };
  };
}
