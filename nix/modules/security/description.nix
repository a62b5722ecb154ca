# What a system says of its own protection, in plain values: `hv security phase` compares two systems by it, and
# `hv security audit` what runs with what is declared.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  names = list: lib.genAttrs list (_: true);
  set = lib.filterAttrs (_: value: value != null);
  ports = rules: {
    tcp = rules.allowedTCPPorts;
    tcpRanges = rules.allowedTCPPortRanges;
    udp = rules.allowedUDPPorts;
    udpRanges = rules.allowedUDPPortRanges;
  };
in
{
  options.hypervisor.security.description = lib.mkOption {
    type = lib.types.attrs;
    readOnly = true;
    default = {
      version = 1;
      inherit (cfg) phase;
      inherit (cfg.security) profile;
      administrators = lib.attrNames (
        lib.filterAttrs (
          _: user: user.isNormalUser && lib.elem "wheel" user.extraGroups
        ) config.users.users
      );
      ports = ports config.networking.firewall // {
        ssh = lib.optionals config.services.openssh.enable config.services.openssh.ports;
        interfaces = lib.mapAttrs (_: ports) config.networking.firewall.interfaces;
      };
      # Kind, name, value: by the names that a person would look for.
      table = {
        accounts = { inherit (config.users) mutableUsers; };
        apparmor = lib.mapAttrs (_: policy: policy.state) config.security.apparmor.policies;
        audit = names config.security.audit.rules;
        auditing = {
          inherit (config.security.audit) backlogLimit enable failureMode;
          daemon = config.security.auditd.enable;
        };
        blacklisted = names config.boot.blacklistedKernelModules;
        firewall = {
          inherit (config.networking.firewall) allowPing enable logRefusedConnections;
        }
        // set (
          builtins.intersectAttrs {
            forwardPolicy = null;
            logRefused = null;
            rateLimitSSH = null;
          } (cfg.network.firewall or { })
        );
        kernel = names config.boot.kernelParams;
        locked.modules = config.security.lockKernelModules;
        preloaded = names config.boot.kernelModules;
        setuid = names (
          lib.attrNames (lib.filterAttrs (_: wrapper: wrapper.enable) config.security.wrappers)
        );
        ssh = set config.services.openssh.settings;
        sudo = {
          sudo = config.security.sudo.enable;
          sudo-rs = config.security.sudo-rs.enable;
        };
        sysctl = set config.boot.kernel.sysctl;
      };
    };
    defaultText = lib.literalMD "what the configuration makes of phase and profile";
    example = {
      phase = "hardened";
    };
    description = ''
      What the system says of its own protection, for {command}`hv security phase` and {command}`hv security audit`. Also
      in `/etc/hyper-nixos/security.json`.
    '';
  };

  config = lib.mkIf cfg.security.enable {
    environment.etc."hyper-nixos/security.json".text = builtins.toJSON cfg.security.description;
  };
}
