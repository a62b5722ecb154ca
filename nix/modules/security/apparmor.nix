# AppArmor around QEMU: what a guest that broke out of its emulator still cannot reach.
#
# libvirt's own driver, with a profile for each guest, needs templates that name the paths of other systems; it stays off
# by itself as long as its templates are missing. This one profile holds every QEMU: guests may live anywhere and use any
# device, but QEMU starts no other program and never sees the host's configuration, secrets and homes. libvirt sets a
# guest up before it starts QEMU, so the profile is in nobody's way there.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.security;
  qemu = config.virtualisation.libvirtd.qemu.package;
in
{
  options.hypervisor.security.apparmor = lib.mkOption {
    type = lib.types.enum [
      "disable"
      "complain"
      "enforce"
    ];
    default =
      if lib.elem "strict" cfg.inForce then
        "enforce"
      else if lib.elem "balanced" cfg.inForce then
        "complain"
      else
        "disable";
    defaultText = lib.literalMD "`complain` from the profile `balanced` on, `enforce` from `strict` on";
    example = "enforce";
    description = ''
      Whether AppArmor holds QEMU back (`enforce`), only records what it would refuse (`complain`), or is not there. It
      takes a reboot to begin. {command}`ausearch --message AVC` shows what was refused, or would have been.
    '';
  };

  config = lib.mkIf (cfg.enable && config.virtualisation.libvirtd.enable && cfg.apparmor != "disable") {
    security.apparmor = {
      enable = lib.mkDefault true;
      policies.hyper-nixos-qemu = {
        state = cfg.apparmor;
        profile = ''
          abi <abi/3.0>,
          profile hyper-nixos-qemu ${qemu}/bin/{,.}qemu-{kvm,system-*} flags=(attach_disconnected,mediate_deleted) {
            capability,
            network,
            unix,
            signal,
            ptrace (readby, tracedby),

            # Disks, devices, sockets and memory of guests may lie anywhere.
            / r,
            /** rwkml,
            # Its own wrapper, and nothing else.
            ${qemu}/bin/{,.}qemu-* ix,

            deny /etc/nixos/** rwkml,
            deny /etc/shadow rwkml,
            deny /etc/ssh/** rwkml,
            deny /etc/sudoers rwkml,
            deny /home/** rwkml,
            deny /root/** rwkml,
            deny /nix/store/** w,
            deny /nix/var/** w,
            deny /boot/** w,
            deny /var/lib/hyper-nixos/secrets/** rwkml,
            deny /var/log/{audit,hyper-nixos,journal}/** w,
            deny /run/libvirt/libvirt-sock* rw,
            deny /run/hvd/** rw,
            deny /run/wrappers/** rwkml,
          }
        '';
      };
    };
  };
}
