# What the kernel records (auditd): in both phases who changed the host, from `balanced` on what happens around guests.
#
# `ausearch --interpret --key hv-config` reads it back. The group hv-auditors reads the files without root.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor.security;
  profiles = import ./profiles.nix { inherit lib; };
  people = "-F auid>=1000 -F auid!=unset"; # whoever logged in, also behind sudo; services have no login id
  # 32-bit programs have call numbers of their own.
  abis = [ "b64" ] ++ lib.optional pkgs.stdenv.hostPlatform.isx86_64 "b32";
  calls = key: names: filter: map (abi: "-a always,exit -F arch=${abi} -S ${names} ${filter} -F key=${key}") abis;
  writes = key: what: map (abi: "-a always,exit -F arch=${abi} ${what} -F perm=wa -F key=${key}") abis;
  qemu = toString config.ids.uids.qemu-libvirtd;

  always =
    writes "hv-config" "-F dir=/etc/nixos"
    ++ writes "hv-state" "-F dir=/var/lib/hyper-nixos"
    ++ writes "identity" "-F path=/etc/passwd"
    ++ writes "identity" "-F path=/etc/shadow"
    ++ writes "identity" "-F path=/etc/group";
  rules = {
    balanced = [
      # Guests write to their disks all day; the first rule that fits decides.
      "-a never,exit -F dir=/var/lib/libvirt/images"
    ]
    ++ writes "libvirt" "-F dir=/var/lib/libvirt"
    # QEMU starts once a guest, as this user; anything else that it starts is worth a look.
    ++ calls "qemu-exec" "execve,execveat" "-F euid=${qemu}"
    ++ calls "modules" "init_module,finit_module,delete_module" people
    ++ calls "setuid" "execve" "-C uid!=euid -F euid=0 ${people}";
    strict =
      calls "mounts" "mount,umount2" people
      ++ calls "time" "adjtimex,settimeofday,clock_settime" people
      ++ calls "names" "sethostname,setdomainname" people
      ++ calls "denied" "openat" "-F exit=-EACCES ${people}"
      ++ calls "denied" "openat" "-F exit=-EPERM ${people}";
    # Every program that a person starts.
    paranoid = calls "exec" "execve,execveat" people;
  };
in
{
  config = lib.mkIf cfg.enable {
    security.audit = {
      enable = lib.mkOverride 900 (if lib.elem "paranoid" cfg.inForce then "lock" else true);
      backlogLimit = lib.mkDefault 8192; # the kernel's 64 is lost at every start of a guest
      failureMode = lib.mkDefault "printk"; # a full log must not take the guests down
      # -c: a rule that this kernel refuses does not keep the others from being loaded; the unit still says so.
      rules = lib.mkMerge [
        (lib.mkBefore [ "-c" ])
        (always ++ lib.concatLists (profiles.partsOf cfg.inForce rules))
      ];
    };
    security.auditd = {
      enable = lib.mkDefault true;
      settings = lib.mapAttrs (_: lib.mkDefault) {
        max_log_file = 32; # MiB
        num_logs = 10;
        max_log_file_action = "rotate";
        disk_full_action = "rotate";
        log_group = if config.hypervisor.privileges.enable then "hv-auditors" else "root";
      };
    };
    # A rule for a folder that is not there cannot be loaded.
    systemd.tmpfiles.settings."10-hyper-nixos-audit" = lib.genAttrs [
      "/etc/nixos"
      "/var/lib/hyper-nixos"
      "/var/lib/libvirt"
      "/var/lib/libvirt/images"
    ] (_: { d.mode = "0755"; });
    systemd.services.audit-rules-nixos.after = [
      "local-fs.target"
      "systemd-tmpfiles-setup.service"
    ];
  };
}
