# What the host does once, after its first boot: the jobs that the installer left in the hand-off record.
#
# The service never stands in the way of a login. It is wanted by multi-user.target and ordered after it, so gettys and
# sshd are up before it starts, nothing waits for it, and a job may run switch-to-configuration, which starts targets
# and waits for them, without waiting for itself.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor;
in
{
  options.hypervisor.firstRun.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.hypervisor.enable";
    example = false;
    description = ''
      Whether the hand-off record `/var/lib/hyper-nixos/handoff.json` is taken up at boot, if there is one. See
      {command}`hv firstrun status` for the jobs, and `journalctl -u hyper-nixos-firstrun` for what they said.
    '';
  };

  config = lib.mkIf cfg.firstRun.enable {
    # For `hv firstrun status`.
    environment.systemPackages = [ cfg.package ];
    systemd.services.hyper-nixos-firstrun = {
      description = "Hyper-NixOS first run";
      documentation = [ "man:hv-firstrun(1)" ];
      unitConfig.ConditionPathExists = "/var/lib/hyper-nixos/handoff.json";
      wantedBy = [ "multi-user.target" ];
      after = [
        "multi-user.target"
        "network.target"
        "libvirtd.service"
        "libvirtd.socket"
      ];
      # A rebuild, and the job that raises the phase, must not stop the run that they are part of.
      restartIfChanged = false;
      stopIfChanged = false;
      path = [
        config.nix.package
        config.virtualisation.libvirtd.qemu.package
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${cfg.package}/bin/hv firstrun run";
        StateDirectory = "hyper-nixos hyper-nixos/firstrun";
        LogsDirectory = "hyper-nixos";
        LogsDirectoryMode = "0750";
        StandardOutput = "journal+console";
        StandardError = "journal+console";
        SyslogIdentifier = "hyper-nixos-firstrun";
      };
    };

    systemd.services.hyper-nixos-certificate = {
      description = "Renewal of the host's certificate in its last year";
      documentation = [ "man:hv-firstrun(1)" ];
      unitConfig.ConditionPathExists = "/var/lib/hyper-nixos/tls/host.crt";
      startAt = "weekly";
      # Its addresses go into the certificate.
      path = [ pkgs.iproute2 ];
      # It writes below its own folder, and asks the kernel for addresses.
      serviceConfig = import ./sandbox.nix // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/hv firstrun renew";
        CapabilityBoundingSet = "";
        PrivateDevices = true;
        ProtectKernelTunables = true;
        ProtectSystem = "strict";
        ReadWritePaths = "/var/lib/hyper-nixos";
        RestrictAddressFamilies = "AF_NETLINK";
      };
    };
    systemd.timers.hyper-nixos-certificate.timerConfig = {
      Persistent = true;
      RandomizedDelaySec = "1h";
    };
  };
}
