# Which kernel modules may be loaded, and when.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.security;
  profiles = import ./profiles.nix { inherit lib; };

  # Not loaded by themselves any more; `modprobe NAME` still loads them.
  blacklisted = {
    # Protocols that nobody speaks and that had holes.
    balanced = [
      "appletalk"
      "atm"
      "ax25"
      "can"
      "dccp"
      "netrom"
      "n-hdlc"
      "psnap"
      "rds"
      "rose"
      "sctp"
      "tipc"
      "x25"
      # Whoever plugs into it reads the memory.
      "firewire-ohci"
      "firewire-sbp2"
      # File systems that only come on an attacker's stick.
      "adfs"
      "affs"
      "befs"
      "cramfs"
      "freevxfs"
      "hfs"
      "hfsplus"
      "jffs2"
      "omfs"
      "qnx4"
      "qnx6"
      "sysv"
      "ufs"
    ];
    paranoid = [
      "bluetooth"
      "btusb"
      "thunderbolt"
      "uvcvideo"
    ];
  };

  # What a host with guests loads only when it is first needed. Not br_netfilter: where it is loaded, what guests of one
  # bridge say to each other has to pass the host's own firewall. A name that a kernel lacks is passed over
  # (systemd-modules-load's status 1 counts as success on NixOS).
  needed = [
    # Guests' networks
    "8021q"
    "bonding"
    "bridge"
    "dummy"
    "macvlan"
    "macvtap"
    "tap"
    "tun"
    "veth"
    "vhost_net"
    "vhost_vsock"
    "vxlan"
    # and how libvirt limits their speed
    "act_police"
    "cls_fw"
    "cls_u32"
    "sch_htb"
    "sch_ingress"
    "sch_sfq"
    # nftables, as libvirt, Podman and the firewall write it
    "nf_conntrack"
    "nf_conntrack_bridge"
    "nf_nat"
    "nf_tables"
    "nft_chain_nat"
    "nft_compat"
    "nft_connlimit"
    "nft_ct"
    "nft_fib"
    "nft_fib_inet"
    "nft_fib_ipv4"
    "nft_fib_ipv6"
    "nft_hash"
    "nft_limit"
    "nft_log"
    "nft_masq"
    "nft_meta_bridge"
    "nft_nat"
    "nft_numgen"
    "nft_quota"
    "nft_redir"
    "nft_reject"
    "nft_reject_bridge"
    "nft_reject_inet"
    "nft_tproxy"
    # Disk images, pools and containers
    "dm_crypt"
    "dm_mirror"
    "dm_raid"
    "dm_snapshot"
    "dm_thin_pool"
    "fuse"
    "loop"
    "nbd"
    "overlay"
    "xts"
    # Devices handed to guests
    "mdev"
    "vfio"
    "vfio_iommu_type1"
    "vfio_pci"
    # A keyboard plugged in when it is needed
    "hid_generic"
    "usbhid"
  ];
in
{
  options.hypervisor.security.preloadedModules = lib.mkOption {
    type = lib.types.listOf lib.types.str;
    default = [ ];
    example = [
      "nfs"
      "usb_storage"
    ];
    description = ''
      Kernel modules to load at boot because, from the profile `strict` on, none can be loaded later. What guests,
      libvirt and the firewall need is loaded anyway, and so is what this machine's devices ask for while it boots.
    '';
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      { boot.blacklistedKernelModules = lib.concatLists (profiles.partsOf cfg.inForce blacklisted); }
      (lib.mkIf (lib.elem "strict" cfg.inForce) {
        security.lockKernelModules = lib.mkDefault true;
        boot.kernelModules = lib.mkIf config.security.lockKernelModules (needed ++ cfg.preloadedModules);
      })
    ]
  );
}
