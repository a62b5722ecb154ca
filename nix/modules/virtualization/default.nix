# libvirt and QEMU, closed where upstream's defaults are open.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor;
  inherit (cfg) features;
in
{
  options.hypervisor.virtualization = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether the host runs virtual machines with libvirt and QEMU.";
    };
    nested = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether guests may run guests of their own. It widens what a guest can reach of KVM.";
    };
    hugepages1G = lib.mkOption {
      type = lib.types.ints.unsigned;
      default = 0;
      example = 16;
      description = ''
        Number of 1 GiB pages taken from the host's memory at boot, for guests that ask for them. The processor must
        have them (`pdpe1gb`); what is taken is lost to everything else.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && cfg.virtualization.enable) {
    virtualisation.libvirtd = {
      enable = true;
      onBoot = "ignore"; # guests start by their autostart flag alone
      onShutdown = "shutdown";
      parallelShutdown = 4;
      sshProxy = false;
      qemu = {
        package = if features.foreign-architectures.enable then pkgs.qemu else pkgs.qemu_kvm;
        runAsRoot = false;
        # NixOS's default switches the mount namespace off; QEMU's own default of one namespace a guest is kept.
        verbatimConfig = ''
          namespaces = [ "mount" ]
          remember_owner = 1
          dynamic_ownership = 1
        '';
        swtpm.enable = features.tpm.enable;
        vhostUserPackages = lib.optional features.virtiofs.enable pkgs.virtiofsd;
      };
    };

    # libvirt's permissions of unix sockets do nothing under socket activation; systemd's do. The group is a way to
    # root: it is for services, no person belongs in it.
    systemd.sockets = {
      libvirtd.socketConfig = {
        SocketMode = "0660";
        SocketGroup = "libvirtd";
      };
      libvirtd-ro.socketConfig = {
        SocketMode = "0660";
        SocketGroup = "libvirtd";
      };
      libvirtd-admin.socketConfig.SocketMode = "0600";
    };

    boot.kernelModules = [
      "tun"
      "vhost_net"
    ];
    boot.kernelParams = lib.optionals (cfg.virtualization.hugepages1G > 0) [
      "hugepagesz=1G"
      "hugepages=${toString cfg.virtualization.hugepages1G}"
    ];
    boot.extraModprobeConfig =
      let
        switch = if cfg.virtualization.nested then "1" else "0";
      in
      ''
        options kvm_intel nested=${switch}
        options kvm_amd nested=${switch}
      '';
    hardware.ksm.enable = features.page-sharing.enable;
    virtualisation.podman.enable = features.containers.enable;
  };
}
