# What every host has: the switch, the tier, the features, the hv program, the accounts that must exist.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor;
  administrators = lib.filterAttrs (
    _: user: user.isNormalUser && lib.elem "wheel" user.extraGroups
  ) config.users.users;
  # "!" and "*" lock an account; an empty hash lets nobody in through SSH or sudo.
  unlocked = hash: hash != null && hash != "" && builtins.match "[!*].*" hash == null;
  canLogIn =
    user:
    user.openssh.authorizedKeys.keys != [ ]
    || user.openssh.authorizedKeys.keyFiles != [ ]
    || user.hashedPasswordFile != null
    || unlocked user.hashedPassword
    || unlocked user.initialHashedPassword;
in
{
  imports = [
    ./features.nix
    ./first-run.nix
    ./guard.nix
    ./tiers.nix
  ];

  options.hypervisor = {
    enable = lib.mkEnableOption "the Hyper-NixOS virtualization host";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ../../packages/hyper-nixos.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage nix/packages/hyper-nixos.nix { }";
      example = lib.literalExpression "inputs.hyper-nixos.packages.\${pkgs.stdenv.hostPlatform.system}.hv";
      description = "The package with the program `hv`.";
    };

    source = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = lib.literalExpression "inputs.hyper-nixos";
      description = ''
        The flake that these modules come from. The host keeps it at `/etc/hyper-nixos/flake`, where the live medium
        has it too, so that the host can be rebuilt without a network and without the medium.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    # The one archive of locales that caches and media have: any other is compiled on the host.
    i18n.extraLocales = lib.mkDefault "all";
    environment.etc."hyper-nixos/flake" = lib.mkIf (cfg.source != null) { inherit (cfg) source; };

    systemd.tmpfiles.settings."10-hyper-nixos" = {
      "/var/lib/hyper-nixos".d.mode = "0755";
      # Password hashes and keys: outside /etc/nixos, which every rebuild copies into the readable store.
      "/var/lib/hyper-nixos/secrets".d.mode = "0700";
      "/var/log/hyper-nixos".d.mode = "0750";
    };

    assertions = [
      {
        # Of a system for many hosts the installer proves it, with each host's own people.
        assertion = cfg.prebuilt.enable || lib.any canLogIn (lib.attrValues administrators);
        message = ''
          Nobody could log in as an administrator: no normal user in the group wheel has an SSH key or a password.
          Give one `users.users.NAME.openssh.authorizedKeys.keys` or `users.users.NAME.hashedPasswordFile`.
        '';
      }
    ];
  };
}
