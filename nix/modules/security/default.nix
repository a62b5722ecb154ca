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
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  hardened = cfg.phase == "hardened";
  strict = hardened && cfg.security.profile == "strict";
in
{
  options.hypervisor = {
    phase = lib.mkOption {
      type = lib.types.enum [
        "setup"
        "hardened"
      ];
      default = "setup";
      description = "The phase that the host boots into; the other one is built along as a specialisation.";
    };
    security.profile = lib.mkOption {
      type = lib.types.enum [
        "baseline"
        "strict"
      ];
      default = "baseline";
      description = "How far the phase `hardened` goes; `strict` holds everything of `baseline`.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        specialisation =
          if hardened then
            { setup.configuration.hypervisor.phase = lib.mkForce "setup"; }
          else
            { hardened.configuration.hypervisor.phase = lib.mkForce "hardened"; };

        services.openssh.settings = {
          KbdInteractiveAuthentication = lib.mkDefault false;
          PasswordAuthentication = lib.mkDefault false;
          PermitRootLogin = lib.mkDefault "no";
          X11Forwarding = lib.mkDefault false;
        };
        # A boot menu that can be edited is a root shell for whoever stands at the machine.
        boot.loader.systemd-boot.editor = false;
        security.sudo.execWheelOnly = lib.mkDefault true;
      }
      (lib.mkIf hardened {
        services.openssh.settings = {
          PasswordAuthentication = lib.mkOverride 40 false; # before mkForce: no host file brings passwords back
          AllowAgentForwarding = lib.mkDefault false;
          AuthenticationMethods = lib.mkDefault "publickey";
          LoginGraceTime = lib.mkDefault 30;
          MaxAuthTries = lib.mkDefault 3;
        };
        boot.kernel.sysctl = {
          "kernel.dmesg_restrict" = 1;
          "kernel.kptr_restrict" = lib.mkOverride 90 2;
          "kernel.unprivileged_bpf_disabled" = 1;
          "kernel.yama.ptrace_scope" = lib.mkOverride 90 1;
          "net.core.bpf_jit_harden" = 2;
          "net.ipv4.conf.all.accept_redirects" = 0;
          "net.ipv4.conf.all.send_redirects" = 0;
          "net.ipv6.conf.all.accept_redirects" = 0;
          "fs.protected_fifos" = 2;
          "fs.protected_regular" = 2;
        };
        security.protectKernelImage = true; # no kexec, no hibernation
        boot.blacklistedKernelModules = [
          "dccp"
          "firewire-core"
          "rds"
          "sctp"
          "tipc"
        ];
      })
      (lib.mkIf strict {
        boot.kernelParams = [
          "init_on_alloc=1"
          "slab_nomerge"
        ];
        boot.kernel.sysctl."kernel.yama.ptrace_scope" = lib.mkOverride 80 2;
        services.openssh.settings.MaxSessions = lib.mkDefault 4;
      })
    ]
  );
}
