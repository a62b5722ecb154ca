# What ZFS needs of a host that runs guests: an identity, a limit to its cache, a kernel that it knows.
{
  config,
  lib,
  utils,
  ...
}:
let
  storage = config.hypervisor.storage;
  cfg = storage.zfs;
  mib = 1024 * 1024;
  units = {
    MiB = mib;
    GiB = 1024 * mib;
    TiB = 1024 * 1024 * mib;
  };
  bytes =
    size:
    let
      parts = builtins.match "([1-9][0-9]*) ?(MiB|GiB|TiB)" size;
    in
    lib.toIntBase10 (lib.head parts) * units.${lib.last parts};
  module = config.boot.zfs.modulePackage;
  # As nixos/modules/tasks/filesystems/zfs.nix names what stage 1 imports.
  early = lib.filter (each: each.fsType == "zfs" && utils.fsNeededForBoot each) (
    lib.attrValues config.fileSystems
  );
  pools = lib.unique (map (each: lib.head (lib.splitString "/" each.device)) early);
  mapped = map (name: "/dev/mapper/${name}") (lib.attrNames config.boot.initrd.luks.devices);
in
{
  options.hypervisor.storage.zfs = {
    hostId = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[0-9a-f]{8}");
      default = null;
      example = "8425e349";
      description = ''
        By what ZFS knows this host: eight hexadecimal digits, drawn once (`head -c4 /dev/urandom | od -A none -t x4`) and
        then kept. A pool that another id used last is not imported. It becomes {option}`networking.hostId`.
      '';
    };
    arcMax = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[1-9][0-9]* ?(MiB|GiB|TiB)");
      default = null;
      example = "8GiB";
      description = ''
        Most memory that ZFS's cache (ARC) takes from the host and its guests. ZFS's own limit is most of the memory,
        given back too slowly for a guest that starts. An eighth of the memory is a good beginning. Effective at the next
        boot.
      '';
    };
  };

  config = lib.mkIf storage.enable {
    networking.hostId = lib.mkIf (cfg.hostId != null) cfg.hostId;
    boot.kernelParams = lib.mkIf (cfg.arcMax != null) [
      "zfs.zfs_arc_max=${toString (bytes cfg.arcMax)}"
    ];
    # NixOS looks for a pool for a minute, then takes what is there or gives up; nobody who types a passphrase is held to that.
    # From the first disk that opens on it is right: the same passphrase opens the others, and one that is missing is not
    # waited for without end.
    boot.initrd.systemd.services = lib.mkIf (mapped != [ ]) (
      lib.genAttrs (map (pool: "zfs-import-${pool}") pools) (_: {
        preStart = ''
          opened() {
            for device in ${toString mapped}; do
              if [ -e "$device" ]; then return 0; fi
            done
            return 1
          }
          until opened || [ -z "$(systemctl list-jobs --no-legend 'systemd-cryptsetup@*')" ]; do
            sleep 1
          done
        '';
      })
    );
    # A pool that another host may be using is not taken by force.
    boot.zfs.forceImportRoot = lib.mkIf config.boot.zfs.enabled (lib.mkDefault false);

    assertions = [
      {
        assertion = config.boot.zfs.enabled -> config.networking.hostId != null;
        message = ''
          The host uses ZFS and has no id. Set hypervisor.storage.zfs.hostId to the id under which its pools were made
          (`hostid` on the system that made them), or to eight new hexadecimal digits for new pools.
        '';
      }
      {
        assertion = cfg.arcMax != null -> config.boot.zfs.enabled;
        message = ''
          hypervisor.storage.zfs.arcMax limits the cache of ZFS, which this host does not use. Unset it, or add "zfs" to
          boot.supportedFilesystems.
        '';
      }
      {
        # ZFS passes over what is less (zfs(4), zfs_arc_max).
        assertion = cfg.arcMax != null -> bytes cfg.arcMax >= 64 * mib;
        message = ''
          hypervisor.storage.zfs.arcMax is ${toString cfg.arcMax}; ZFS passes over less than 64 MiB.
        '';
      }
      {
        assertion = config.boot.zfs.enabled -> !(module.meta.broken or false);
        message = ''
          ZFS ${module.version or ""} does not support the kernel ${config.boot.kernelPackages.kernel.version}. Use the default,
          long-term kernel: remove boot.kernelPackages, or set it to pkgs.linuxPackages.
        '';
      }
    ];
  };
}
