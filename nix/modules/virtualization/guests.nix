# What guests get from the host: their processor, how they start and how they are shut down.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  tier = (lib.importJSON ../../../installer/answers/tiers.json).${cfg.tier};
in
{
  options.hypervisor.virtualization = {
    cpuModel = lib.mkOption {
      type = lib.types.strMatching "[A-Za-z0-9][A-Za-z0-9_.-]*";
      default = "host-model";
      example = "EPYC-Rome";
      description = ''
        The processor of guests that Hyper-NixOS defines and that run with KVM. `host-model`: the host's by name, with its
        features; such a guest can move to a host with a like processor. `host-passthrough`: the host's own, with
        everything; it moves to the same processor alone. Any other name is one of libvirt's models, for hosts with
        different processors: {command}`virsh domcapabilities` lists which of them this host can give. Guests that are
        there already keep theirs.
      '';
    };
    guestFolders = lib.mkOption {
      type = lib.types.listOf lib.types.path;
      default = [ "/var/lib/libvirt/images" ];
      example = [
        "/var/lib/libvirt/images"
        "/srv/guests"
      ];
      description = ''
        Folders with guests' disks. What is mounted at or above them is there before guests start, and stays until they
        are shut down. Where it cannot be mounted, the guests on other disks start all the same.
      '';
    };
  };

  config = lib.mkIf cfg.virtualization.enable {
    # For the first run (hv/firstrun/guests.py).
    environment.etc."hyper-nixos/guests.json".text = builtins.toJSON {
      inherit (cfg.virtualization) cpuModel;
    };

    virtualisation.libvirtd = {
      # Guests start by their autostart flag alone, whether they ran before or not.
      onBoot = lib.mkDefault "ignore";
      onShutdown = lib.mkDefault "shutdown";
      parallelShutdown = lib.mkDefault tier.parallelShutdown;
      shutdownTimeout = lib.mkDefault tier.shutdownTimeout;
    };

    systemd.services = {
      libvirtd.unitConfig.WantsMountsFor = cfg.virtualization.guestFolders;
      # What stands behind `after` here is stopped later: guests are shut down while libvirt listens, their consoles and
      # locks are kept, and their disks are mounted. Upstream orders it after libvirtd's service, which may have gone
      # idle, and after the network.
      libvirt-guests = {
        after = [
          "libvirtd.socket"
          "remote-fs.target"
          "systemd-machined.service"
          "virtlockd.service"
          "virtlockd.socket"
          "virtlogd.service"
          "virtlogd.socket"
        ];
        unitConfig.WantsMountsFor = cfg.virtualization.guestFolders;
      };
    };
  };
}
