# Where guests' disks are kept, in libvirt's words: pools. Declared here, made by `hv pools apply` at boot.
#
# The service only adds: it defines and starts what is declared, uses what fits, and refuses a pool of the same name at
# another place. It never removes a pool or a volume.
{
  config,
  lib,
  ...
}:
let
  storage = config.hypervisor.storage;
  cfg = storage.pools;
  pools = lib.attrsToList cfg;
  onFolder = pool: pool.kind == "dir" || pool.kind == "btrfs";
  # What a pool of each kind is made of: the one option that must be set, and the others that must not.
  place = {
    dir = "path";
    btrfs = "path";
    lvm = "volumeGroup";
    zfs = "dataset";
  };
  places = lib.attrNames (lib.genAttrs (lib.attrValues place) (_: null));
  misplaced =
    pool:
    pool.${place.${pool.kind}} == null
    || lib.any (name: name != place.${pool.kind} && pool.${name} != null) places;
  target = pool: "${place.${pool.kind}} ${toString pool.${place.${pool.kind}}}";
  folders = map (pool: pool.value.path) (
    lib.filter (pool: onFolder pool.value && pool.value.path != null) pools
  );
  entry =
    { name, value }:
    {
      inherit name;
      inherit (value) kind autostart;
    }
    // (
      if onFolder value then
        {
          inherit (value) path;
          copy_on_write = value.copyOnWrite;
        }
      else if value.kind == "lvm" then
        { volume_group = value.volumeGroup; }
      else
        { inherit (value) dataset; }
    );
in
{
  options.hypervisor.storage.pools = lib.mkOption {
    default = { };
    example = {
      default = {
        kind = "dir";
        path = "/var/lib/libvirt/images";
      };
      fast = {
        kind = "lvm";
        volumeGroup = "guests";
      };
    };
    description = ''
      libvirt's storage pools by name. Each is defined and started at boot; a pool that is no longer declared stays until
      `virsh pool-undefine`, and its volumes always do. See {command}`hv pools status`.
    '';
    type = lib.types.attrsOf (
      lib.types.submodule {
        options = {
          kind = lib.mkOption {
            type = lib.types.enum [
              "dir"
              "btrfs"
              "lvm"
              "zfs"
            ];
            default = "dir";
            example = "btrfs";
            description = ''
              `dir`: files in a folder. `btrfs`: the same, in a subvolume of its own. `lvm`: logical volumes of a volume
              group. `zfs`: volumes below a dataset.
            '';
          };
          path = lib.mkOption {
            type = lib.types.nullOr (lib.types.strMatching "/[A-Za-z0-9._/+:@-]*[A-Za-z0-9._+:@-]");
            default = null;
            example = "/srv/guests";
            description = "Folder of a pool of kind `dir` or `btrfs`; made when it is not there.";
          };
          volumeGroup = lib.mkOption {
            type = lib.types.nullOr (lib.types.strMatching "[A-Za-z0-9][A-Za-z0-9_.+-]*");
            default = null;
            example = "guests";
            description = "Volume group of a pool of kind `lvm`; it must exist.";
          };
          dataset = lib.mkOption {
            type = lib.types.nullOr (lib.types.strMatching "[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)*");
            default = null;
            example = "tank/guests";
            description = "ZFS pool, or dataset of one, of a pool of kind `zfs`; it must exist.";
          };
          autostart = lib.mkOption {
            type = lib.types.bool;
            default = true;
            example = false;
            description = "Whether the pool is started now and with the host.";
          };
          copyOnWrite = lib.mkOption {
            type = lib.types.bool;
            default = false;
            example = true;
            description = ''
              Whether btrfs copies the files of a folder on write. Off, a guest's disk is overwritten in place: fast, no
              fragments, and no checksums by btrfs. It holds for files made later. Other file systems pass over it.
            '';
          };
        };
      }
    );
  };

  config = lib.mkIf (storage.enable && cfg != { }) {
    environment.etc."hyper-nixos/pools.json".text = builtins.toJSON { pools = map entry pools; };

    systemd.services.hyper-nixos-pools = {
      description = "libvirt's storage pools as declared";
      documentation = [ "man:hv-pools(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "libvirtd.socket" ];
      after = [
        "libvirtd.socket"
        "zfs.target"
      ];
      # A folder below a mount point that is not mounted would be made on the wrong disk.
      unitConfig.RequiresMountsFor = folders;
      restartTriggers = [ config.environment.etc."hyper-nixos/pools.json".text ];
      # It makes folders wherever pools are declared, and asks libvirt for the rest.
      serviceConfig = import ../core/sandbox.nix // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${config.hypervisor.package}/bin/hv pools apply";
        CapabilityBoundingSet = "CAP_DAC_OVERRIDE CAP_FOWNER";
        PrivateDevices = true;
        PrivateNetwork = true;
        ProtectKernelTunables = true;
        ProtectSystem = "full";
        RestrictAddressFamilies = "AF_UNIX";
      };
    };

    assertions = [
      {
        assertion = config.virtualisation.libvirtd.enable;
        message = ''
          hypervisor.storage.pools declares pools of libvirt, which is off. Switch hypervisor.virtualization.enable on, or
          declare no pools.
        '';
      }
      {
        assertion = lib.allUnique (map (pool: target pool.value) pools);
        message = ''
          hypervisor.storage.pools: two pools have the same place: ${
            lib.concatMapStringsSep ", " (pool: "${pool.name} (${target pool.value})") pools
          }.
          Volumes would be in both; keep one of them.
        '';
      }
    ]
    ++ lib.concatMap (pool: [
      {
        assertion = builtins.match "[A-Za-z0-9][A-Za-z0-9_.+-]*" pool.name != null;
        message = ''
          hypervisor.storage.pools: "${pool.name}" is no name for a pool. Use letters, digits, and `_.+-`.
        '';
      }
      {
        assertion = !misplaced pool.value;
        message = ''
          hypervisor.storage.pools.${pool.name}: a pool of kind ${pool.value.kind} is made of `${place.${pool.value.kind}}`. Set that,
          and no other of ${lib.concatStringsSep ", " places}.
        '';
      }
      {
        assertion = pool.value.kind == "zfs" -> config.boot.zfs.enabled;
        message = ''
          hypervisor.storage.pools.${pool.name} is on ZFS, which this host does not use: add "zfs" to
          boot.supportedFilesystems, or choose another kind.
        '';
      }
      {
        assertion = pool.value.kind == "lvm" -> config.services.lvm.enable;
        message = ''
          hypervisor.storage.pools.${pool.name} is on LVM, which is off: set services.lvm.enable = true, or choose another kind.
        '';
      }
    ]) pools;
  };
}
