# The tiers: what a host of each size needs. The values are data (installer/answers/tiers.json), which the installer
# reads too: it refuses a tier on a machine with less memory than the tier is made for.
#
# Everything here is a default: what the host declares plainly wins.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
  tiers = lib.importJSON ../../../installer/answers/tiers.json;
  tier = tiers.${cfg.tier};
  mebibyte = 1024 * 1024;
in
{
  options.hypervisor.tier = lib.mkOption {
    type = lib.types.enum (lib.attrNames tiers);
    default = "standard";
    example = "enhanced";
    description = ''
      How much host. A tier sets defaults for a machine of its size, and nothing else: each of them can be set otherwise.

      ${lib.concatStrings (
        lib.mapAttrsToList (name: values: ''
          - `${name}`: from ${toString values.memoryGiB} GB of memory. ${values.summary} Features: ${
            if values.features == [ ] then "none" else lib.concatStringsSep ", " values.features
          }.
        '') tiers
      )}
    '';
  };

  config = lib.mkIf cfg.enable {
    zramSwap = {
      enable = lib.mkDefault true;
      memoryPercent = lib.mkDefault tier.zramPercent;
    };

    boot.kernel.sysctl = lib.mapAttrs (_: lib.mkDefault) {
      "vm.swappiness" = tier.swappiness;
      # In bytes: a share of a large memory is more than a disk writes in a moment, and guests wait for all of it.
      "vm.dirty_bytes" = tier.dirtyMiB * mebibyte;
      "vm.dirty_background_bytes" = tier.dirtyMiB * mebibyte / 4;
      # Neighbours on all bridges together; beyond it the host forgets some, and guests lose packets.
      "net.ipv4.neigh.default.gc_thresh3" = tier.neighbours;
      "net.ipv6.neigh.default.gc_thresh3" = tier.neighbours;
      # Requests in flight of guests' disks with `io='native'`.
      "fs.aio-max-nr" = tier.asynchronousRequests;
    };

    # In front, so that a line of the host's own comes later and wins.
    services.journald.extraConfig = lib.mkBefore "SystemMaxUse=${toString tier.journalMiB}M";
    services.irqbalance.enable = lib.mkDefault tier.balanceInterrupts;

    # A rebuild takes what guests leave.
    nix = {
      daemonCPUSchedPolicy = lib.mkDefault "idle";
      daemonIOSchedClass = lib.mkDefault "idle";
      settings.max-jobs = lib.mkDefault tier.buildJobs;
    };
  };
}
