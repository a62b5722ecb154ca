# The SSH server: who is let in, and with what.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.security;
  profiles = import ./profiles.nix { inherit lib; };
  people = import ./people.nix { inherit lib config; };
  inherit (config.services.openssh) settings;
  hardened = config.hypervisor.phase == "hardened";
  has = profile: lib.elem profile cfg.inForce;

  # sshd's names for signatures, and for the types of key that can make them. A certificate of a type counts with it.
  ed25519 = [
    "ssh-ed25519"
    "ssh-ed25519-cert-v01@openssh.com"
    "sk-ssh-ed25519@openssh.com"
    "sk-ssh-ed25519-cert-v01@openssh.com"
  ];
  ecdsa = [
    "ecdsa-sha2-nistp256"
    "ecdsa-sha2-nistp384"
    "ecdsa-sha2-nistp521"
    "sk-ecdsa-sha2-nistp256@openssh.com"
  ];
  rsa = [
    "rsa-sha2-512"
    "rsa-sha2-256"
  ];
  keyTypes = if has "paranoid" then ed25519 else ed25519 ++ ecdsa ++ [ "ssh-rsa" ];

  keyed = lib.filterAttrs (_: user: people.keysOf user != [ ]) people.administrators;
  letIn = lib.filterAttrs (
    name: user: people.acceptedKeys keyTypes user != [ ] && people.admitted settings name user
  ) keyed;

  changes = {
    # Keys alone. Forwarding and many keys in an agent still work.
    development = {
      AuthenticationMethods = "publickey";
      LoginGraceTime = 30;
      PermitEmptyPasswords = false;
      PermitTunnel = false;
    };
    balanced = {
      AllowAgentForwarding = false;
      ClientAliveCountMax = 3;
      ClientAliveInterval = 300;
      MaxAuthTries = 3;
      MaxStartups = "10:30:60";
    };
    strict = {
      # A tunnel would reach services that only listen inside.
      AllowGroups = [
        "wheel"
        "hv-*"
      ];
      AllowStreamLocalForwarding = false;
      AllowTcpForwarding = false;
      Ciphers = [
        "chacha20-poly1305@openssh.com"
        "aes256-gcm@openssh.com"
      ];
      KexAlgorithms = [
        "mlkem768x25519-sha256"
        "sntrup761x25519-sha512"
        "sntrup761x25519-sha512@openssh.com"
        "curve25519-sha256"
        "curve25519-sha256@libssh.org"
      ];
      LogLevel = "VERBOSE"; # the fingerprint of each key that logged in
      Macs = [
        "hmac-sha2-512-etm@openssh.com"
        "hmac-sha2-256-etm@openssh.com"
      ];
      MaxSessions = 4;
      PubkeyAcceptedAlgorithms = lib.concatStringsSep "," (ed25519 ++ ecdsa ++ rsa);
    };
    paranoid = {
      HostKeyAlgorithms = lib.concatStringsSep "," ed25519;
      PubkeyAcceptedAlgorithms = lib.concatStringsSep "," ed25519;
    };
  };
in
{
  config = lib.mkIf cfg.enable {
    services.openssh.settings = lib.mkMerge [
      {
        KbdInteractiveAuthentication = lib.mkDefault false;
        # Without a key a password is the only way to finish installing over SSH.
        PasswordAuthentication = lib.mkDefault (config.services.openssh.enable && keyed == { });
        PermitRootLogin = lib.mkDefault "no";
        X11Forwarding = lib.mkDefault false;
      }
      (lib.mkIf hardened {
        PasswordAuthentication = lib.mkOverride 40 false; # before mkForce: no host file brings passwords back
      })
      (lib.mapAttrs (_: lib.mkOverride 900) (lib.mergeAttrsList (profiles.partsOf cfg.inForce changes)))
    ];

    assertions = [
      {
        assertion = hardened && config.services.openssh.enable && keyed != { } -> letIn != { };
        message = ''
          Phase hardened (profile ${cfg.profile}) would lock every administrator out of SSH. Administrators with a key:
          ${lib.concatStringsSep ", " (lib.attrNames keyed)}. One of them must have a key of a type that the profile takes
          (${lib.concatStringsSep ", " keyTypes}) and be admitted by AllowUsers, DenyUsers, AllowGroups and DenyGroups in
          services.openssh.settings. Add a key with `ssh-keygen -t ed25519`, mend the lists, or lower
          hypervisor.security.profile.
        '';
      }
    ];
  };
}
