# One system for every host of a tier and an architecture, built before the host is known.
#
# What only one host has lies below /var/lib/hyper-nixos/host, where the installer writes it: name, language, file systems,
# network, people, their keys (installer/render/runtime.py). Nothing of it is read by a program of ours: systemd, sshd and the C
# library look at the files themselves, or systemd-sysusers(8) and systemd-tmpfiles(8) do. A host that is rebuilt from
# its own flake declares the same, and never looks there again.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor.prebuilt;
  data = "/var/lib/hyper-nixos/host";
  inherit (pkgs.stdenv.hostPlatform) isx86_64;
  humans = lib.attrNames (lib.filterAttrs (_: user: user.isNormalUser) config.users.users);
  inherit (config.systemd) package;
in
{
  options.hypervisor.prebuilt.enable = lib.mkOption {
    type = lib.types.bool;
    default = false;
    example = true;
    description = ''
      Whether this system is for any host of its tier: name, language, keyboard, time zone, file systems, network and
      people come from `${data}`, which the installer fills, instead of from the configuration. The root is the partition of the type
      "Linux root" on the disk that systemd-boot was started from.

      Put such systems on a medium with {option}`hypervisor.medium.tiers`. A host that has a configuration of its own
      does not want this.
    '';
  };

  config = lib.mkIf cfg.enable {
    system = {
      name = lib.mkDefault "prebuilt-${config.hypervisor.tier}";
      stateVersion = lib.mkDefault config.system.nixos.release;
    };

    # ---- name, and time ----
    networking.hostName = "";
    environment.etc = {
      hostname.source = "${data}/hostname";
      hostid.source = "${data}/hostid";
      # Not a file that nobody manages: switch-to-configuration compares the system's own with the one in force, and
      # would unmount everything if the system had none.
      fstab.source = lib.mkForce "${data}/fstab";
      "locale.conf".source = lib.mkForce "${data}/locale.conf";
      "vconsole.conf".source = lib.mkForce "${data}/vconsole.conf";
    };
    # /etc/localtime is the installer's link, as timedatectl(1) would make it.
    time.timeZone = lib.mkDefault null;

    # ---- language, and keyboard ----
    # systemd and the C library read the files; stage 1, which asks nothing here, keeps the US keyboard. Sessions have
    # the language from the file too, instead of a word in the system's own environment.
    environment.sessionVariables.LANG = lib.mkForce null;
    environment.extraInit = ''
      if [ -r ${data}/locale.conf ]; then
        . ${data}/locale.conf
        export LANG
      fi
    '';

    # ---- disks ----
    # udev's name for the root partition beside the boot partition that the loader was started from (its EFI variable
    # LoaderDevicePartUUID): a second disk with an older installation cannot be taken for it, as by a label it could.
    fileSystems."/" = {
      device = "/dev/gpt-auto-root";
      fsType = "auto";
    };
    boot = {
      supportedFilesystems = [
        "ext4"
        "vfat"
        "xfs"
      ];
      initrd = {
        supportedFilesystems = [
          "ext4"
          "xfs"
        ];
        # Keyboards, and controllers of servers that hardware.enableAllHardware leaves out.
        availableKernelModules = [
          "aacraid"
          "hid_generic"
          "megaraid_sas"
          "mpt3sas"
          "smartpqi"
          "usb_storage"
          "usbhid"
        ]
        ++ lib.optionals isx86_64 [
          "isci"
          "vmd"
        ];
      };
      kernelParams =
        if isx86_64 then
          [
            "intel_iommu=on"
            "iommu=pt"
          ]
        else
          [ "iommu.passthrough=1" ];
      loader = {
        efi.canTouchEfiVariables = lib.mkDefault true;
        systemd-boot = {
          enable = lib.mkDefault true;
          configurationLimit = lib.mkDefault 10;
        };
      };
    };
    # Any machine's disks and keyboards.
    hardware = {
      enableAllHardware = lib.mkDefault true;
      enableRedistributableFirmware = lib.mkDefault true;
      cpu = lib.mkIf isx86_64 {
        amd.updateMicrocode = lib.mkDefault true;
        intel.updateMicrocode = lib.mkDefault true;
      };
    };

    # ---- people ----
    users.mutableUsers = lib.mkDefault true;
    services.openssh = {
      enable = lib.mkDefault true;
      authorizedKeysFiles = [ "${data}/authorized_keys/%u" ];
      settings = {
        # Who is admitted. sshd takes the first value that it reads, and a file that is not there is none.
        Include = "${data}/sshd_config";
        KbdInteractiveAuthentication = false;
        PasswordAuthentication = false;
        PermitRootLogin = "no";
        PubkeyAuthentication = true;
      };
    };
    nix.settings.experimental-features = [
      "nix-command"
      "flakes"
    ];

    systemd.services = {
      # Links in /run: after a rebuild nothing of them is left. udev reads .link files, so they must be there before it.
      hyper-nixos-host-network = {
        description = "Network files of this host";
        documentation = [ "man:systemd-tmpfiles(8)" ];
        wantedBy = [ "sysinit.target" ];
        before = [
          "network-pre.target"
          "shutdown.target"
          "systemd-networkd.service"
          "systemd-udevd.service"
        ];
        conflicts = [ "shutdown.target" ];
        unitConfig = {
          ConditionPathExists = "${data}/network.conf";
          DefaultDependencies = false;
        };
        restartIfChanged = false;
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${package}/bin/systemd-tmpfiles --create ${data}/network.conf";
        };
      };

      # The installer makes the accounts with the same files. Here they come back when the host is started with this
      # system after one that declared them: NixOS removes whom it declared once and does no longer.
      hyper-nixos-host-accounts = {
        description = "Accounts of this host";
        documentation = [ "man:systemd-sysusers(8)" ];
        wantedBy = [ "multi-user.target" ];
        before = [
          "getty.target"
          "sshd.service"
          "systemd-user-sessions.service"
        ];
        unitConfig.ConditionPathExists = "${data}/sysusers.conf";
        restartIfChanged = false;
        environment.CREDENTIALS_DIRECTORY = "/var/lib/hyper-nixos/secrets/credentials";
        serviceConfig = import ../core/sandbox.nix // {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = [
            "${package}/bin/systemd-sysusers ${data}/sysusers.conf"
            "${package}/bin/systemd-tmpfiles --create ${data}/homes.conf"
          ];
          CapabilityBoundingSet = [
            "CAP_CHOWN"
            "CAP_DAC_OVERRIDE"
            "CAP_FOWNER"
          ];
          DevicePolicy = "closed";
          PrivateNetwork = true;
          # What it writes is for all to read, but for the hashes, which keep the mode that they have.
          UMask = "0022";
          ProtectHome = false;
          ProtectKernelTunables = true;
          ProtectSystem = "strict";
          ReadWritePaths = [
            "/etc"
            "-/home"
            "/var/lib/hyper-nixos"
          ];
          RestrictAddressFamilies = [ "AF_UNIX" ];
        };
      };
    };

    assertions = [
      {
        assertion = humans == [ ];
        message = ''
          hypervisor.prebuilt.enable is true, and people are declared: ${lib.concatStringsSep ", " humans}. A system for any
          host has none: take users.users.NAME out, or give the host a configuration of its own and set
          hypervisor.prebuilt.enable = false.
        '';
      }
      {
        assertion = config.users.mutableUsers;
        message = ''
          hypervisor.prebuilt.enable is true, and users.mutableUsers is false, so that nobody could log in: people are not
          declared. Set users.mutableUsers = true, and hypervisor.security.profile to "balanced" or "development".
        '';
      }
      {
        assertion = config.boot.loader.systemd-boot.enable;
        message = ''
          hypervisor.prebuilt.enable is true, and the root is found by what systemd-boot says of the disk that it was
          started from. Set boot.loader.systemd-boot.enable = true, or hypervisor.prebuilt.enable = false.
        '';
      }
    ];
  };
}
