# Who can log in, as far as the declaration tells. Accounts and keys made by hand on the host are looked at there, by
# the job that raises the phase.
{ lib, config }:
let
  inherit (config.users) users groups;
  # "!" and "*" lock an account; an empty hash lets nobody in through SSH or sudo.
  unlocked = hash: hash != null && hash != "" && builtins.match "[!*].*" hash == null;
  glob =
    pattern:
    lib.replaceStrings [ "\\*" "\\?" ] [ ".*" "." ] (
      lib.escapeRegex (builtins.head (lib.splitString "@" pattern))
    );
  # sshd_config(5), PATTERNS: `!` in front leaves a name out, whatever else fits.
  named =
    patterns: name:
    let
      fits = pattern: builtins.match (glob pattern) name != null;
      negated = lib.filter (lib.hasPrefix "!") patterns;
    in
    lib.any fits (lib.subtractLists negated patterns)
    && !lib.any (pattern: fits (lib.removePrefix "!" pattern)) negated;
in
rec {
  humans = lib.filterAttrs (_: user: user.isNormalUser) users;
  groupsOf =
    name: user:
    lib.unique (
      [ user.group ]
      ++ user.extraGroups
      ++ lib.attrNames (lib.filterAttrs (_: group: lib.elem name group.members) groups)
    );
  # NixOS adds those who name the group in extraGroups to its members.
  inGroup =
    group:
    lib.filterAttrs (
      name: user: user.group == group || lib.elem name groups.${group}.members or [ ]
    ) humans;
  administrators = inGroup "wheel";

  keysOf =
    user:
    user.openssh.authorizedKeys.keys
    ++ lib.concatMap (file: lib.splitString "\n" (builtins.readFile file)) user.openssh.authorizedKeys.keyFiles;
  hasPassword =
    user: user.hashedPasswordFile != null || unlocked user.hashedPassword || unlocked user.initialHashedPassword;
  # What mutableUsers = false keeps; an initial password is for the first activation alone.
  keepsPassword = user: user.hashedPasswordFile != null || unlocked user.hashedPassword;

  # A key that sshd would take, by its type; options may stand before the type.
  acceptedKeys =
    types: user: lib.filter (key: lib.any (type: lib.hasInfix "${type} AAAA" key) types) (keysOf user);
  # Whether the lists of sshd_config(5) let an account in: deny before allow, and users and groups must both agree.
  admitted =
    settings: name: user:
    let
      any = patterns: lib.any (named patterns) (groupsOf name user);
      list = key: settings.${key} or null;
    in
    !(list "DenyUsers" != null && named (list "DenyUsers") name)
    && !(list "DenyGroups" != null && any (list "DenyGroups"))
    && (list "AllowUsers" == null || named (list "AllowUsers") name)
    && (list "AllowGroups" == null || any (list "AllowGroups"));
}
