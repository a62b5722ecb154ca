# Guests' memory: huge pages, and whether equal pages are shared.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  inherit (cfg) features;
  inherit (cfg.virtualization) hugepages;
  tier = (lib.importJSON ../../../installer/answers/tiers.json).${cfg.tier};

  reserved =
    size:
    lib.mkOption {
      type = lib.types.ints.unsigned;
      default = 0;
      example = 16;
      description = ''
        Number of ${size} taken from the host's memory at boot, for guests that ask for them. What is taken is lost to
        everything else: leave the host 2 GiB at least, or it may not start. The boot menu has the systems before.
      '';
    };
in
{
  imports = [
    (lib.mkRenamedOptionModule
      [ "hypervisor" "virtualization" "hugepages1G" ]
      [ "hypervisor" "virtualization" "hugepages" "1G" ]
    )
  ];

  options.hypervisor.virtualization = {
    hugepages = {
      "1G" = reserved "pages of 1 GiB (the processor must have them: `pdpe1gb` in /proc/cpuinfo)";
      "2M" = reserved "pages of 2 MiB";
      onDemand = lib.mkOption {
        type = lib.types.ints.unsigned;
        default = if features.hugepages.enable then tier.onDemandHugepages else 0;
        defaultText = lib.literalMD "with the feature `hugepages` half of the least memory of the tier, else 0";
        example = 4096;
        description = ''
          Number of 2 MiB pages that may be taken from free memory when a guest that asks for them starts, beyond those
          that are reserved. It does not start where free memory is too scattered.
        '';
      };
    };
    transparentHugepages = lib.mkOption {
      type = lib.types.enum [
        "always"
        "madvise"
        "never"
      ];
      default = tier.transparentHugepages;
      defaultText = lib.literalMD "`never` in the tier `minimal`, else `madvise`";
      example = "always";
      description = ''
        Whether the kernel uses huge pages by itself: for programs that ask for them (`madvise`), as QEMU does for guests'
        memory; for all (`always`); or for none (`never`), which wastes the least where memory is short.
      '';
    };
  };

  config = lib.mkIf cfg.virtualization.enable {
    boot.kernelParams = [
      "transparent_hugepage=${cfg.virtualization.transparentHugepages}"
    ]
    # A number counts for the size before it, so each pair stays together.
    ++ lib.optionals (hugepages."2M" > 0) [
      "hugepagesz=2M"
      "hugepages=${toString hugepages."2M"}"
    ]
    ++ lib.optionals (hugepages."1G" > 0) [
      "hugepagesz=1G"
      "hugepages=${toString hugepages."1G"}"
    ];
    boot.kernel.sysctl."vm.nr_overcommit_hugepages" = lib.mkIf features.hugepages.enable (
      lib.mkDefault hugepages.onDemand
    );

    # systemd mounts the default size at /dev/hugepages; libvirt finds every size that is mounted when it starts.
    systemd.mounts = lib.mkIf features.hugepages.enable [
      {
        description = "Huge pages of 1 GiB";
        what = "hugetlbfs";
        where = "/dev/hugepages1G";
        type = "hugetlbfs";
        options = "pagesize=1G,mode=0755,nosuid,nodev";
        # Where the processor has none, mounting would fail.
        unitConfig.ConditionPathExists = "/sys/kernel/mm/hugepages/hugepages-1048576kB";
        wantedBy = [ "local-fs.target" ];
        before = [ "libvirtd.service" ];
      }
    ];

    hardware.ksm.enable = lib.mkDefault features.page-sharing.enable;
  };
}
