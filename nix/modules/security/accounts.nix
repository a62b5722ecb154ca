# From the profile `strict` on, accounts are what is declared: what somebody added by hand is gone after the next boot.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.security;
  people = import ./people.nix { inherit lib config; };
  # A password that was only set by hand would be gone with the next activation.
  undeclared = lib.attrNames (
    lib.filterAttrs (
      _: user: !(people.keepsPassword user || people.keysOf user != [ ])
    ) people.administrators
  );
in
{
  config = lib.mkIf (cfg.enable && lib.elem "strict" cfg.inForce) {
    users.mutableUsers = lib.mkOverride 900 false;
    # Programs that run as root for everybody, to change what is declared now or what nobody uses.
    security.wrappers = lib.genAttrs [ "chsh" "newgrp" "sg" ] (_: {
      enable = lib.mkOverride 900 false;
    });
    assertions = [
      {
        assertion = !config.users.mutableUsers -> undeclared == [ ];
        message = ''
          The profile ${cfg.profile} keeps accounts as they are declared, and these administrators have no declared
          credential, so they would be locked out: ${lib.concatStringsSep ", " undeclared}. Give each
          users.users.NAME.hashedPasswordFile or users.users.NAME.openssh.authorizedKeys.keys, or keep accounts
          changeable with users.mutableUsers = true.
        '';
      }
    ];
  };
}
