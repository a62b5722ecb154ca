# PCI devices kept free for guests.
#
# A device is claimed by its address, before udev loads any driver, and only when the ids found there are those that are
# declared: after a card was moved, nothing is claimed rather than the wrong thing. Ids alone would also claim the host's
# own device of the same model, and the order of module lists means nothing to NixOS (it is alphabetical).
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.passthrough;
  devices = lib.attrsToList cfg.devices;
  drivers = lib.unique (lib.concatMap (device: device.value.drivers) devices);
  hexadecimal = digits: lib.types.strMatching "[0-9a-f]{${toString digits}}";
in
{
  options.hypervisor.passthrough = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = cfg.devices != { };
      defaultText = lib.literalExpression "config.hypervisor.passthrough.devices != { }";
      description = "Whether the devices are kept from the host. The boot entry `rescue` switches it off.";
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
              description = "Vendor id that must be found at the address.";
            };
            device = lib.mkOption {
              type = hexadecimal 4;
              description = "Device id that must be found at the address.";
            };
            drivers = lib.mkOption {
              type = lib.types.listOf lib.types.str;
              default = [ ];
              description = "Kernel modules that would take the device on the host; vfio-pci is loaded before them.";
            };
          };
        }
      );
    };
  };

  config = lib.mkIf (cfg.enable) {
    assertions = map (device: {
      assertion = builtins.match "[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]" device.name != null;
      message = ''
        hypervisor.passthrough.devices: "${device.name}" is no PCI address. Write it as `lspci -D` prints it, "0000:01:00.0".
      '';
    }) devices;

    boot.initrd.kernelModules = [
      "vfio"
      "vfio_iommu_type1"
      "vfio_pci"
    ];
    boot.extraModprobeConfig = lib.concatMapStrings (driver: "softdep ${driver} pre: vfio-pci\n") drivers;

    boot.initrd.systemd.services.hyper-nixos-vfio = {
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
      script = ''
        claim() {
          folder=/sys/bus/pci/devices/$1
          if [ ! -e "$folder" ]; then
            echo "$1: there is no device; nothing claimed" >&2
          elif [ "$(<"$folder/vendor"):$(<"$folder/device")" != "0x$2:0x$3" ]; then
            echo "$1: expected $2:$3, found $(<"$folder/vendor"):$(<"$folder/device"); left to the host" >&2
          else
            echo vfio-pci > "$folder/driver_override"
            if [ -e "$folder/driver" ]; then echo "$1" > "$folder/driver/unbind"; fi
          fi
        }
      ''
      + lib.concatMapStrings (
        device: "claim ${lib.escapeShellArgs [ device.name device.value.vendor device.value.device ]}\n"
      ) devices;
    };

    # One boot entry in which the host has all its devices.
    specialisation.rescue.configuration.hypervisor.passthrough.enable = lib.mkForce false;
  };
}
