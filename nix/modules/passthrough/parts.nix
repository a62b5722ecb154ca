# Parts of devices: virtual functions (SR-IOV) and mediated devices (vGPU), made at every boot by `hv devices apply`.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.passthrough;
  cards = lib.attrsToList cfg.virtualFunctions;
  shares = lib.attrsToList cfg.mediatedDevices;
  isAddress = name: builtins.match "[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]" name != null;
  functionsOf = card: lib.attrsToList card.value.functions;
  macs = lib.filter (mac: mac != null) (
    lib.concatMap (card: map (each: each.value.mac) (functionsOf card)) cards
  );
  settings = builtins.toJSON {
    physical = map (card: {
      address = card.name;
      inherit (card.value) count vfio;
      functions = map (each: {
        number = lib.toIntBase10 each.name;
        inherit (each.value) mac vlan trust;
        spoof_check = each.value.spoofCheck;
      }) (functionsOf card);
    }) cards;
    mediated = map (share: {
      uuid = share.name;
      inherit (share.value) parent type;
    }) shares;
  };
in
{
  options.hypervisor.passthrough = {
    virtualFunctions = lib.mkOption {
      default = { };
      example = {
        "0000:05:00.0" = {
          count = 4;
          functions."0" = {
            mac = "52:54:00:00:00:01";
            vlan = 20;
          };
        };
      };
      description = ''
        Cards with SR-IOV by PCI address, each split into virtual functions before the network is set up. The card itself
        stays with the host. To change a number of functions, reboot.
      '';
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            count = lib.mkOption {
              type = lib.types.ints.between 1 256;
              example = 4;
              description = "How many; `hv probe passthrough --json` says how many the card can have.";
            };
            vfio = lib.mkOption {
              type = lib.types.bool;
              default = true;
              example = false;
              description = "Whether they are kept for guests (vfio-pci), or left to the host's drivers.";
            };
            functions = lib.mkOption {
              default = { };
              example."0".vlan = 20;
              description = "How a network card treats single functions, by their number from 0.";
              type = lib.types.attrsOf (
                lib.types.submodule {
                  options = {
                    mac = lib.mkOption {
                      type = lib.types.nullOr (lib.types.strMatching "[0-9a-f]{2}(:[0-9a-f]{2}){5}");
                      default = null;
                      example = "52:54:00:00:00:01";
                      description = "Its address. Null: another one at each boot, or what the guest sets if it is trusted.";
                    };
                    vlan = lib.mkOption {
                      type = lib.types.nullOr (lib.types.ints.between 1 4094);
                      default = null;
                      example = 20;
                      description = "VLAN that the card puts it in; the guest sees no tags.";
                    };
                    trust = lib.mkOption {
                      type = lib.types.nullOr lib.types.bool;
                      default = null;
                      example = false;
                      description = ''
                        Whether its guest may listen to everything that the card receives and change its own address. Null:
                        the driver's way, which is no.
                      '';
                    };
                    spoofCheck = lib.mkOption {
                      type = lib.types.nullOr lib.types.bool;
                      default = null;
                      example = true;
                      description = "Whether frames with another sender than its address are dropped. Null: the driver's way.";
                    };
                  };
                }
              );
            };
          };
        }
      );
    };
    mediatedDevices = lib.mkOption {
      default = { };
      example = {
        "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001" = {
          parent = "0000:00:02.0";
          type = "i915-GVTg_V5_4";
        };
      };
      description = ''
        Mediated devices by UUID (`uuidgen`), by which guests name them. The driver of the parent hands them out; the host
        keeps the parent.
      '';
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            parent = lib.mkOption {
              type = lib.types.strMatching "[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]";
              example = "0000:00:02.0";
              description = "PCI address of the device that is shared.";
            };
            type = lib.mkOption {
              type = lib.types.strMatching "[A-Za-z0-9][A-Za-z0-9_.-]*";
              example = "i915-GVTg_V5_4";
              description = ''
                Which kind of share. Where it is not there, `hyper-nixos-devices` says in the journal which are.
              '';
            };
          };
        }
      );
    };
  };

  config =
    lib.mkIf
      (cfg.enable && (cfg.virtualFunctions != { } || cfg.mediatedDevices != { }))
      {
        environment.etc."hyper-nixos/devices.json".text = settings;
        boot.kernelModules = [ "vfio_pci" ] ++ lib.optional (cfg.mediatedDevices != { }) "mdev";

        systemd.services.hyper-nixos-devices = {
          description = "Parts of devices for guests";
          documentation = [ "man:hv-devices(1)" ];
          wantedBy = [ "multi-user.target" ];
          # Before networkd could make interfaces of functions, and before guests start.
          wants = [ "network-pre.target" ];
          before = [
            "network-pre.target"
            "libvirtd.service"
            "shutdown.target"
          ];
          after = [
            "systemd-modules-load.service"
            "systemd-udev-trigger.service"
          ];
          unitConfig.DefaultDependencies = false;
          conflicts = [ "shutdown.target" ];
          # A rebuild takes no function from a guest: what changed is made, what is there stays.
          restartTriggers = [ settings ];
          serviceConfig = import ../core/sandbox.nix // {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = "${config.hypervisor.package}/bin/hv devices apply";
            # It writes to sysfs, and sets up functions through the card's interface.
            CapabilityBoundingSet = "CAP_NET_ADMIN CAP_SYS_ADMIN CAP_DAC_OVERRIDE";
            PrivateDevices = true;
            ProtectSystem = "strict";
            RestrictAddressFamilies = "AF_NETLINK AF_UNIX";
            TimeoutStartSec = "5min";
          };
        };

        assertions =
          lib.concatMap (card: [
            {
              assertion = isAddress card.name;
              message = ''
                hypervisor.passthrough.virtualFunctions: "${card.name}" is no PCI address. Write it as `lspci -D` prints it,
                "0000:05:00.0".
              '';
            }
            {
              assertion = !cfg.devices ? ${card.name};
              message = ''
                hypervisor.passthrough: ${card.name} is to be split and is kept for guests whole. Its driver on the host splits
                it: remove it from hypervisor.passthrough.devices, or from virtualFunctions.
              '';
            }
            {
              assertion = lib.all (
                each: builtins.match "[0-9]+" each.name != null && lib.toIntBase10 each.name < card.value.count
              ) (functionsOf card);
              message = ''
                hypervisor.passthrough.virtualFunctions."${card.name}": it has functions 0 to ${toString (card.value.count - 1)};
                declared are ${lib.concatMapStringsSep ", " (each: each.name) (functionsOf card)}.
              '';
            }
          ]) cards
          ++ lib.concatMap (share: [
            {
              assertion = builtins.match "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}" share.name != null;
              message = ''
                hypervisor.passthrough.mediatedDevices: "${share.name}" is no UUID in lower case. Draw one with `uuidgen`.
              '';
            }
            {
              assertion = !cfg.devices ? ${share.value.parent};
              message = ''
                hypervisor.passthrough: ${share.value.parent} is to be shared and is kept for guests whole. Remove it from
                hypervisor.passthrough.devices, or the mediated device ${share.name}.
              '';
            }
          ]) shares
          ++ [
            {
              assertion = lib.allUnique macs;
              message = ''
                hypervisor.passthrough.virtualFunctions: two functions have the same address among ${lib.concatStringsSep ", " macs}.
              '';
            }
          ];
      };
}
