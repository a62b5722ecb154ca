# hvd, the broker: the one service that speaks to libvirt for people. It asks the kernel who is calling (SO_PEERCRED),
# looks the caller's groups up, and decides by role.
#
# Its socket is for the group hv-users, which everybody with a role is in: a service that was broken into, or an account
# without a role, cannot even connect. What a caller may do is not for the socket's mode to say.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.privileges;
  broker = cfg.broker;
in
{
  options.hypervisor.privileges.broker = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = config.hypervisor.virtualization.enable;
      defaultText = lib.literalExpression "config.hypervisor.virtualization.enable";
      example = false;
      description = ''
        Whether the broker runs, and with it `hv vm` without sudo; without it only root reaches guests, with `sudo virsh`.
        It starts when somebody first asks it. Its account is there in any case, so that nothing of the host's privileges
        changes when it is switched on or off.
      '';
    };
    program = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = "${config.hypervisor.package}/bin/hvd";
      defaultText = lib.literalExpression ''"''${config.hypervisor.package}/bin/hvd"'';
      example = null;
      description = ''
        The broker's program, with its arguments. It takes its socket from systemd (`LISTEN_FDS`,
        {manpage}`sd_listen_fds(3)`) and says when it is ready ({manpage}`sd_notify(3)`).
      '';
    };
    accelerator = lib.mkOption {
      type = lib.types.enum [
        "auto"
        "kvm"
        "emulated"
      ];
      default = "auto";
      example = "kvm";
      description = "What new guests run on; `auto` is KVM where libvirt says that it is there.";
    };
    limits = lib.genAttrs [ "user" "host" ] (
      whose:
      lib.mkOption {
        type = lib.types.attrsOf (lib.types.nullOr lib.types.ints.unsigned);
        default = { };
        example = {
          vms = 10;
          memory = 34359738368;
        };
        description = ''
          The most that ${
            if whose == "user" then "one person may have; administrators are not bound" else "all may have together"
          }: `vms`, `vcpus`, `memory` and `disk` in bytes, and `snapshots` of one guest. What is not named
          ${if whose == "user" then "has the broker's own default" else "is not limited"}; null: no limit.
        '';
      }
    );
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      users.users.hvd = {
        isSystemUser = true;
        group = "hvd";
        description = "Broker between people and libvirt";
        extraGroups = [ "libvirtd" ];
      };
      users.groups.hvd = { };
      assertions = [
        {
          assertion = broker.enable -> broker.program != null;
          message = ''
            hypervisor.privileges.broker.enable is true, but there is no program to run:
            hypervisor.privileges.broker.program is null. Take that line out, or leave the broker off.
          '';
        }
      ];
    })
    (lib.mkIf (cfg.enable && broker.enable && broker.program != null) {
      environment.etc."hyper-nixos/hvd.json".text = builtins.toJSON (
        {
          inherit (broker) accelerator;
          cpu_model = config.hypervisor.virtualization.cpuModel;
        }
        // lib.filterAttrs (_: limits: limits != { }) broker.limits
      );
      # virtlogd makes the files in it, and nobody the folder before the first guest starts.
      systemd.tmpfiles.settings.hvd."/var/log/libvirt/qemu".d = {
        mode = "0700";
        user = "root";
        group = "root";
      };

      systemd.sockets.hv-hostd = {
        description = "Socket of the broker's helper";
        wantedBy = [ "sockets.target" ];
        listenStreams = [ "/run/hv-hostd/hv-hostd.sock" ];
        socketConfig = {
          DirectoryMode = "0755";
          SocketUser = "hvd";
          SocketMode = "0600";
        };
      };
      systemd.services.hv-hostd = {
        description = "What the broker needs root for";
        requires = [ "hv-hostd.socket" ];
        after = [ "hv-hostd.socket" ];
        serviceConfig = import ../core/sandbox.nix // {
          ExecStart = "${config.hypervisor.package}/bin/hv-hostd";
          Restart = "on-failure";

          # It reads guests' logs, which are root's, and sysfs. It is root without capabilities. The verdict on a card needs to
          # see the host's network, and has no socket to speak in it; that on a disk's controller what is mounted, also below
          # homes (the sandbox's default).
          CapabilityBoundingSet = "";
          DevicePolicy = "closed";
          ProtectKernelTunables = true;
          ProtectSystem = "strict";
          RestrictAddressFamilies = "AF_UNIX";
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
          ];
        };
      };

      systemd.sockets.hvd = {
        description = "Socket of the broker between people and libvirt";
        wantedBy = [ "sockets.target" ];
        listenStreams = [ "/run/hvd/hvd.sock" ];
        socketConfig = {
          DirectoryMode = "0755";
          SocketUser = "hvd";
          SocketGroup = "hv-users";
          SocketMode = "0660";
        };
      };
      systemd.services.hvd = {
        description = "Broker between people and libvirt";
        requires = [ "hvd.socket" ];
        wants = [
          "hv-hostd.socket"
          "libvirtd.socket"
        ];
        after = [
          "hvd.socket"
          "libvirtd.socket"
        ];
        serviceConfig = import ../core/sandbox.nix // {
          Type = "notify";
          ExecStart = broker.program;
          User = "hvd";
          Group = "hvd";
          StateDirectory = "hvd";
          StateDirectoryMode = "0700";
          Restart = "on-failure";

          # It needs two sockets and its own folder. PrivateUsers would hide who is calling.
          CapabilityBoundingSet = "";
          DevicePolicy = "closed";
          PrivateDevices = true;
          PrivateNetwork = true;
          ProcSubset = "pid";
          ProtectHome = true;
          ProtectKernelTunables = true;
          ProtectProc = "invisible";
          ProtectSystem = "strict";
          RestrictAddressFamilies = "AF_UNIX";
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
          ];
        };
      };
    })
  ];
}
