# What was embedded into the medium after it was built: read once, checked, and put where it is looked for.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor.medium;
in
{
  options.hypervisor.medium.payloadSigners = lib.mkOption {
    type = lib.types.listOf lib.types.singleLineStr;
    default = [ ];
    example = [ "ops@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…" ];
    description = ''
      Whose signature what is embedded into this medium must have (`hv media embed --sign`), as ssh-keygen(1) writes allowed
      signers. The live system takes nothing else then: no answers, keys or secrets, and installs nothing by itself. With
      none it takes whatever is embedded.
    '';
  };

  config = {
    environment.etc."hyper-nixos/payload_signers" = lib.mkIf (cfg.payloadSigners != [ ]) {
      text = lib.concatLines cfg.payloadSigners;
    };

    systemd.services.hyper-nixos-live = {
      description = "What the medium holds, and the way in over SSH";
      documentation = [ "man:hv-live(1)" ];
      wantedBy = [ "multi-user.target" ];
      before = [
        "sshd-keygen.service"
        "sshd.service"
        "sshd.socket"
        # The medium may have connections for it.
        "NetworkManager.service"
      ];
      unitConfig.RequiresMountsFor = "/iso";
      restartIfChanged = false;
      path = [
        pkgs.openssh
        pkgs.shadow
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe config.hypervisor.package} live prepare";
        RuntimeDirectory = "hyper-nixos";
        RuntimeDirectoryPreserve = true;
        UMask = "0077";
      };
    };
  };
}
