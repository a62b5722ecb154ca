# How much the firewall tells and takes. What is let in at all is the network's to say (nix/modules/network), in every
# profile alike: guests' traffic is forwarded, the way in for administrators is open, all else is refused.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.security;
  has = profile: lib.elem profile cfg.inForce;
in
{
  config = lib.mkIf cfg.enable {
    networking.firewall = {
      enable = lib.mkDefault true;
      allowPing = lib.mkIf (has "paranoid") (lib.mkDefault false);
    };
    hypervisor.network.firewall = {
      logRefused = lib.mkIf (has "balanced") (lib.mkDefault true);
      # Counted for each address alone, so that nobody is kept out by what others do.
      rateLimitSSH = lib.mkIf (has "strict") (
        lib.mkDefault (if has "paranoid" then "6/minute" else "20/minute")
      );
    };
    assertions = [
      {
        assertion = config.hypervisor.phase == "hardened" -> config.networking.firewall.enable;
        message = ''
          Phase hardened has no firewall: networking.firewall.enable is false. Take that line out, or open what is
          needed with networking.firewall.allowedTCPPorts and networking.firewall.interfaces.
        '';
      }
    ];
  };
}
