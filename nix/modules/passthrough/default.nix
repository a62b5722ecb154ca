# PCI devices kept free for guests.
#
# A device is claimed by its address, before udev loads any driver, and only when the ids found there are those that are
# declared: after a card was moved, nothing is claimed rather than the wrong thing. Ids alone would also claim the host's
# own device of the same model, and the order of module lists means nothing to NixOS (it is alphabetical).
#
# What hardware.facter would load before vfio-pci is cleared in ../compat.nix.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor.passthrough;
  devices = lib.attrsToList cfg.devices;
  drivers = lib.unique (lib.concatMap (device: device.value.drivers) devices ++ cfg.drivers);
  hexadecimal = digits: lib.types.strMatching "[0-9a-f]{${toString digits}}";
  isAddress = name: builtins.match "[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]" name != null;
  x86 = pkgs.stdenv.hostPlatform.isx86;

  # What a report of the hardware in the host's own files tells; nothing is looked up on the machine.
  reported = lib.concatMap (kind: lib.filter (device: device ? vendor.hex && device ? device.hex) kind) (
    lib.filter lib.isList (lib.attrValues (config.hardware.facter.report.hardware or { }))
  );
  idOf = device: "${device.vendor.hex}:${device.device.hex}";
  addressesOf =
    id:
    lib.unique (
      lib.filter isAddress (
        map (device: device.sysfs_bus_id or "") (lib.filter (device: idOf device == id) reported)
      )
    );
in
{
  imports = [ ./parts.nix ];

  options.hypervisor.passthrough = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default =
        cfg.devices != { }
        || cfg.ids != [ ]
        || cfg.virtualFunctions != { }
        || cfg.mediatedDevices != { };
      defaultText = lib.literalMD "whether anything is declared";
      example = true;
      description = ''
        Whether the devices are kept from the host, and split or shared. The boot entry `rescue` switches it off.
      '';
    };
    processor = lib.mkOption {
      type = lib.types.nullOr (
        lib.types.enum [
          "intel"
          "amd"
          "arm"
        ]
      );
      default = null;
      example = "intel";
      description = ''
        Whose IOMMU it is; sets the kernel parameters that switch it on and spare the host's own devices its cost:
        `intel_iommu=on iommu=pt` for Intel, `iommu=pt` for AMD, whose IOMMU is on where the firmware describes it, and
        `iommu.passthrough=1` for ARM. Null: {option}`boot.kernelParams` has them already, as the installer writes them.
      '';
    };
    devices = lib.mkOption {
      default = { };
      example = {
        "0000:01:00.0" = {
          vendor = "10de";
          device = "2204";
          drivers = [ "nouveau" ];
        };
      };
      description = "Devices by PCI address, with domain, as `lspci -D` prints it.";
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            vendor = lib.mkOption {
              type = hexadecimal 4;
              example = "10de";
              description = "Vendor id that must be found at the address.";
            };
            device = lib.mkOption {
              type = hexadecimal 4;
              example = "2204";
              description = "Device id that must be found at the address.";
            };
            drivers = lib.mkOption {
              type = lib.types.listOf (lib.types.strMatching "[A-Za-z0-9_-]+");
              default = [ ];
              example = [ "nouveau" ];
              description = "Kernel modules that would take the device on the host; vfio-pci is loaded before them.";
            };
          };
        }
      );
    };
    ids = lib.mkOption {
      type = lib.types.listOf (lib.types.strMatching "[0-9a-f]{4}:[0-9a-f]{4}");
      default = [ ];
      example = [ "10de:2204" ];
      description = ''
        Devices by vendor and device id: every device with these ids is taken, wherever it is plugged in, also one that
        the host needs. Use {option}`hypervisor.passthrough.devices` unless there is one such device and it moves;
        `hv probe passthrough` says which ids are there twice.
      '';
    };
    drivers = lib.mkOption {
      type = lib.types.listOf (lib.types.strMatching "[A-Za-z0-9_-]+");
      default = [ ];
      example = [ "nouveau" ];
      description = "Kernel modules that would take the devices declared by id; vfio-pci is loaded before them.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions =
      map (device: {
        assertion = isAddress device.name;
        message = ''
          hypervisor.passthrough.devices: "${device.name}" is no PCI address. Write it as `lspci -D` prints it, "0000:01:00.0".
        '';
      }) devices
      ++ map (device: {
        assertion = !lib.elem "${device.value.vendor}:${device.value.device}" cfg.ids;
        message = ''
          hypervisor.passthrough: ${device.name} is declared twice, by its address and by its ids
          ${device.value.vendor}:${device.value.device}. The ids take every such device: remove them from
          hypervisor.passthrough.ids, and declare each address.
        '';
      }) devices
      ++ map (id: {
        assertion = lib.length (addressesOf id) <= 1;
        message = ''
          hypervisor.passthrough.ids: ${id} is more than one device of this machine: ${lib.concatStringsSep ", " (addressesOf id)}.
          All of them would be taken from the host. Declare those that guests get in hypervisor.passthrough.devices.
        '';
      }) cfg.ids
      ++ [
        {
          assertion = cfg.processor == "arm" -> !x86;
          message = ''
            hypervisor.passthrough.processor is "arm" on a machine of another kind. Set it to "intel" or "amd".
          '';
        }
        {
          assertion = lib.elem cfg.processor [
            "intel"
            "amd"
          ] -> x86;
          message = ''
            hypervisor.passthrough.processor is "${toString cfg.processor}" on a machine of another kind. Set it to "arm".
          '';
        }
      ];

    boot.kernelParams =
      lib.optional (cfg.processor == "intel") "intel_iommu=on"
      ++ lib.optional (cfg.processor == "intel" || cfg.processor == "amd") "iommu=pt"
      ++ lib.optional (cfg.processor == "arm") "iommu.passthrough=1";

    boot.initrd.kernelModules = [
      "vfio"
      "vfio_iommu_type1"
      "vfio_pci"
    ];
    boot.extraModprobeConfig =
      lib.optionalString (cfg.ids != [ ]) "options vfio-pci ids=${lib.concatStringsSep "," cfg.ids}\n"
      + lib.concatMapStrings (driver: "softdep ${driver} pre: vfio-pci\n") drivers;

    boot.initrd.systemd.services.hyper-nixos-vfio = lib.mkIf (cfg.devices != { }) {
      description = "Keep PCI devices free for guests";
      unitConfig.DefaultDependencies = false;
      wantedBy = [ "sysinit.target" ];
      before = [
        "systemd-modules-load.service"
        "systemd-udev-trigger.service"
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script =
        builtins.readFile ./claim.sh
        + lib.concatMapStrings (
          device: "claim ${lib.escapeShellArgs [ device.name device.value.vendor device.value.device ]}\n"
        ) devices;
    };

    # One boot entry in which the host has all its devices, whole. Specialisations are siblings: whichever phase runs, the
    # entry is that of the declared one.
    specialisation.rescue.configuration.hypervisor.passthrough.enable = lib.mkForce false;
  };
}
