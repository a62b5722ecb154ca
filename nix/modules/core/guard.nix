# A change that waits to be confirmed, of the network or the phase, takes itself back (hv/guard): who
# begins it arms a timer; this unit starts the time when the new system is in force, and again after a power cut.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
in
{
  config = lib.mkIf cfg.enable {
    # Every switch starts what multi-user.target wants and is not active: after nftables and networkd have the new
    # configuration, and at boot, where the timer is gone.
    systemd.services.hyper-nixos-guard = {
      description = "A change of the host waits to be confirmed";
      documentation = [ "man:hv-net(1)" ];
      unitConfig.ConditionPathExists = "/var/lib/hyper-nixos/guard/pending.json";
      wantedBy = [ "multi-user.target" ];
      after = [
        "network.target"
        "nftables.service"
        "sshd.service"
        "systemd-networkd.service"
      ];
      serviceConfig = import ./sandbox.nix // {
        Type = "oneshot";
        ExecStart = "${cfg.package}/bin/hv net applied --program ${cfg.package}/bin/hv";
        # The second for the history of the host.
        StateDirectory = "hyper-nixos/guard hyper-nixos";
        LogsDirectory = "hyper-nixos";
        LogsDirectoryMode = "0750";
        # It reads what runs, keeps its record, and asks systemd for a timer; it does not go back itself. What a new start of
        # the machine ended is written to the kernel's audit log, for which auditctl wants both.
        CapabilityBoundingSet = [
          "CAP_AUDIT_CONTROL"
          "CAP_AUDIT_WRITE"
        ];
        PrivateDevices = true;
        PrivateNetwork = true;
        ProtectHome = true;
        ProtectKernelTunables = true;
        ProtectSystem = "strict";
        ReadWritePaths = [ "-/nix/var/nix/gcroots" ];
        RestrictAddressFamilies = [
          "AF_NETLINK"
          "AF_UNIX"
        ];
        UMask = "0022";
      };
    };
  };
}
