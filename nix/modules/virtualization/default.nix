# libvirt and QEMU, closed where upstream's defaults are open.
#
# OVMF needs no option: QEMU carries it, and NixOS tells libvirt where (`virtualisation.libvirtd.qemu.ovmf` is gone).
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor;
  inherit (cfg) features;
  emulators = "/run/hyper-nixos/emulators";
in
{
  imports = [
    ./containers.nix
    ./emulation.nix
    ./guests.nix
    ./memory.nix
    (lib.mkRenamedOptionModule
      [ "hypervisor" "virtualization" "nested" ]
      [ "hypervisor" "features" "nested-virtualization" "enable" ]
    )
  ];

  options.hypervisor.virtualization.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.hypervisor.enable";
    example = true;
    description = "Whether the host runs virtual machines with libvirt and QEMU.";
  };

  config = lib.mkIf cfg.virtualization.enable {
    virtualisation.libvirtd = {
      enable = true;
      sshProxy = lib.mkDefault false;
      qemu = {
        runAsRoot = false;
        # NixOS's default switches the mount namespace off; QEMU's own default of one namespace a guest is kept.
        verbatimConfig = ''
          namespaces = [ "mount" ]
          remember_owner = 1
          dynamic_ownership = 1
          swtpm_user = "swtpm"
          swtpm_group = "swtpm"
        '';
        swtpm.enable = lib.mkDefault features.tpm.enable;
        vhostUserPackages = lib.optional features.virtiofs.enable pkgs.virtiofsd;
      };
    };

    # Where there is no account `tss`, libvirt runs the TPMs of guests as root.
    users.users.swtpm = {
      isSystemUser = true;
      group = "swtpm";
      description = "Emulated TPMs of guests";
    };
    users.groups.swtpm = { };

    systemd = {
      # libvirt's permissions of unix sockets do nothing under socket activation; systemd's do. The group is a way to
      # root: it is for services, no person belongs in it.
      sockets = {
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

      tmpfiles.settings = {
        # What signs the certificates of new TPMs; it may be root's from a time before the account.
        "10-hyper-nixos-swtpm"."/var/lib/swtpm-localca" = {
          d = {
            user = "swtpm";
            group = "swtpm";
            mode = "0750";
          };
          Z = {
            user = "swtpm";
            group = "swtpm";
          };
        };
        # libvirt writes the emulator's path as it finds it into a guest's definition. Found by a name that stays, a guest
        # starts with the QEMU that the host has then, also after the store path of today was collected as garbage.
        "10-hyper-nixos-emulators"."${emulators}/bin"."L+".argument = "/run/libvirt/nix-emulators";
      };
      services.libvirtd = {
        path = lib.mkBefore [ emulators ];
        # As upstream's unit has it. The guests run on without libvirtd, but nothing could shut them down with the host.
        serviceConfig.Restart = lib.mkForce "on-failure";
      };
    };

    boot.kernelModules = [
      "tun"
      "vhost_net"
    ]
    ++ lib.optionals features.passthrough.enable [
      "vfio_iommu_type1"
      "vfio_pci"
    ];
    # Written down when it is off as well: the kernel's own default is on.
    boot.extraModprobeConfig = lib.mkIf pkgs.stdenv.hostPlatform.isx86_64 (
      let
        switch = if features.nested-virtualization.enable then "1" else "0";
      in
      ''
        options kvm_intel nested=${switch}
        options kvm_amd nested=${switch}
      ''
    );
    hardware.cpu.amd.sev.enable = lib.mkIf features.memory-encryption.enable true;
  };
}
