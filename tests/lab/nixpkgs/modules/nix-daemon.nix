# Who builds on a host, as nixpkgs' services/system/nix-daemon.nix has it: root's Nix starts each build as one of these.
{ lib, ... }:
let
  number = 32;
  builders = builtins.genList (index: index + 1) number;
in
{
  users.groups.nixbld.gid = 30000;
  users.users = builtins.listToAttrs (
    map (each: {
      name = "nixbld${toString each}";
      value = {
        isSystemUser = true;
        description = "Nix build user ${toString each}";
        uid = 30000 + each;
        group = "nixbld";
        extraGroups = [ "nixbld" ];
      };
    }) builders
  );
  environment.etc."nix/nix.conf".text = ''
    build-users-group = nixbld
    max-jobs = auto
    sandbox = true
    sandbox-fallback = false
  '';
}
