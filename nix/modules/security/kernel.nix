# Kernel settings and parameters of each profile.
#
# What is not here, and why: user namespaces stay, because Nix's sandbox and rootless Podman need them; `lockdown` stays
# off, because it refuses modules without a signature, ZFS's among them; a host with guests does not panic on an oops.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor.security;
  profiles = import ./profiles.nix { inherit lib; };
  inherit (pkgs.stdenv.hostPlatform) isx86_64;

  # For all that is there, and for links that come later.
  everyLink =
    family: name: value:
    lib.genAttrs [ "net.${family}.conf.all.${name}" "net.${family}.conf.default.${name}" ] (_: value);

  settings = {
    # Nobody notices these.
    development = {
      "dev.tty.ldisc_autoload" = 0;
      "fs.protected_fifos" = 2;
      "fs.protected_hardlinks" = 1;
      "fs.protected_regular" = 2;
      "fs.protected_symlinks" = 1;
      # 2: off, but root may switch it on again without a reboot.
      "kernel.unprivileged_bpf_disabled" = 2;
      "vm.unprivileged_userfaultfd" = 0;
      "net.ipv4.tcp_rfc1337" = 1;
    }
    # The host routes for its guests; it does not let neighbours tell it where to.
    // everyLink "ipv4" "accept_redirects" 0
    // everyLink "ipv4" "accept_source_route" 0
    // everyLink "ipv4" "secure_redirects" 0
    // everyLink "ipv4" "send_redirects" 0
    // everyLink "ipv6" "accept_redirects" 0
    // everyLink "ipv6" "accept_source_route" 0;
    # Nobody but root sees into the kernel.
    balanced = {
      "kernel.dmesg_restrict" = 1;
      "kernel.kptr_restrict" = 2;
      "kernel.yama.ptrace_scope" = 1;
      "net.core.bpf_jit_harden" = 2;
    };
    # Debuggers need root; the keyboard's emergency keys do nothing.
    strict = {
      "fs.suid_dumpable" = 0;
      # For root and the group below: guests' disks may use it, nobody else.
      "kernel.io_uring_disabled" = 1;
      "kernel.io_uring_group" = config.ids.gids.qemu-libvirtd;
      "kernel.sysrq" = 0;
      "kernel.unprivileged_bpf_disabled" = 1;
      "kernel.yama.ptrace_scope" = 2;
    };
    # No debugger at all; this one cannot be taken back without a reboot.
    paranoid."kernel.yama.ptrace_scope" = 3;
  };

  parameters = {
    balanced = [
      "page_alloc.shuffle=1"
      "randomize_kstack_offset=on"
    ]
    ++ lib.optional isx86_64 "vsyscall=none";
    # A few per cent of memory and speed.
    strict = [
      "debugfs=off"
      "init_on_alloc=1"
      "slab_nomerge"
    ];
    paranoid = [
      "init_on_free=1"
      "iommu.strict=1"
    ];
  };
  has = profile: lib.elem profile cfg.inForce;
in
{
  config = lib.mkIf cfg.enable {
    boot.kernel.sysctl = lib.mapAttrs (_: lib.mkOverride 900) (
      lib.mergeAttrsList (profiles.partsOf cfg.inForce settings)
    );
    boot.kernelParams = lib.concatLists (profiles.partsOf cfg.inForce parameters);
    security = {
      protectKernelImage = lib.mkIf (has "balanced") (lib.mkDefault true); # no kexec, no hibernation
      # What guests could learn from each other through the processor, at the cost of half its threads.
      allowSimultaneousMultithreading = lib.mkIf (has "paranoid") (lib.mkDefault false);
      forcePageTableIsolation = lib.mkIf (has "paranoid" && isx86_64) (lib.mkDefault true);
      virtualisation.flushL1DataCache = lib.mkIf (has "paranoid" && isx86_64) (lib.mkDefault "always");
    };
  };
}
