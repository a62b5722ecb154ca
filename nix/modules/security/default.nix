# Two phases. `setup` is reachable and forgiving, for the first hour; `hardened` is what stays.
#
# Both are built together: the host's toplevel is the phase that is declared, and a specialisation is the other, so that
# changing needs no network and no build. Specialisations have no specialisations of their own, so the other phase is
# always reached through the system profile:
#
#   /nix/var/nix/profiles/system/specialisation/hardened/bin/switch-to-configuration boot    next boots are hardened
#   /nix/var/nix/profiles/system/specialisation/hardened/bin/switch-to-configuration test    now, until the next boot
#   /nix/var/nix/profiles/system/bin/switch-to-configuration boot                            back to what is declared
#
# `boot` runs the boot loader's installer with the specialisation's toplevel as the default: systemd-boot's builder looks
# for the entry whose init lies in it (also among the specialisations of each generation of the profile) and writes it as
# `default` into loader.conf; GRUB's makes it the first entry, and `default` is 0. Nothing else decides, so the next
# rebuild makes the declared phase the default again: who raises the phase for good also changes `hypervisor.phase`.
#
# Everything that a profile adds is a definition below mkDefault's reach of the host's own files: what the host declares
# plainly wins, but for passwords over SSH, which no file brings back.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  profiles = import ./profiles.nix { inherit lib; };
  hardened = cfg.phase == "hardened";
in
{
  imports = [
    ./accounts.nix
    ./apparmor.nix
    ./audit.nix
    ./description.nix
    ./firewall.nix
    ./kernel.nix
    ./modules.nix
    ./secure-boot.nix
    ./ssh.nix
    ./usb.nix
  ];

  options.hypervisor = {
    phase = lib.mkOption {
      type = lib.types.enum [
        "setup"
        "hardened"
      ];
      default = "setup";
      example = "hardened";
      description = "The phase that the host boots into; the other one is built along as a specialisation.";
    };
    security = {
      enable = lib.mkOption {
        type = lib.types.bool;
        default = cfg.enable;
        defaultText = lib.literalExpression "config.hypervisor.enable";
        example = false;
        description = "Whether phases and profiles protect the host.";
      };
      profile = lib.mkOption {
        type = lib.types.enum profiles.names;
        default = "balanced";
        example = "strict";
        description = ''
          How far the phase `hardened` goes. Each profile holds everything of the one before it: `development` leaves
          debugging and forwarding alone, `balanced` is for a host in daily use, `strict` gives up convenience (modules
          are locked after boot, accounts are what is declared), `paranoid` gives up speed (no hyper-threading) and the
          ease of changing things (the audit rules are locked until the next boot).

          To undo a profile, declare a lower one and rebuild. Kernel parameters, locked modules, locked audit rules and
          kernel settings that are no longer declared keep their value until the next boot.
        '';
      };
      inForce = lib.mkOption {
        type = lib.types.listOf (lib.types.enum profiles.names);
        readOnly = true;
        default = lib.optionals hardened (profiles.upTo cfg.security.profile);
        defaultText = lib.literalMD "none in phase `setup`; in phase `hardened` the profile and those before it";
        description = ''
          The profiles in force, for modules that add to one: `lib.elem "strict" config.hypervisor.security.inForce`.
        '';
      };
      setupServices = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = [ ];
        example = [ "welcome" ];
        description = "Services that finish an installation and have no place afterwards: phase `hardened` has none of them.";
      };
    };
  };

  config = lib.mkIf cfg.security.enable {
    specialisation =
      if hardened then
        { setup.configuration.hypervisor.phase = lib.mkForce "setup"; }
      else
        { hardened.configuration.hypervisor.phase = lib.mkForce "hardened"; };

    # A boot menu that can be edited is a root shell for whoever stands at the machine.
    boot.loader.systemd-boot.editor = lib.mkDefault false;
    # The same program with the same rules in both phases: raising the phase takes root from nobody.
    security.sudo-rs.enable = lib.mkDefault true;

    systemd.services = lib.mkIf hardened (
      lib.genAttrs cfg.security.setupServices (_: { enable = lib.mkForce false; })
    );
  };
}
