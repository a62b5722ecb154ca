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
      default = false;
      description = ''
        Whether the broker runs. Off: its program is not part of this release. Its account, its socket and its sandbox are
        settled here, so that nothing of the host's privileges changes when it comes.
      '';
    };
    program = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = lib.literalExpression ''"''${config.hypervisor.package}/bin/hvd"'';
      description = ''
        The broker's program, with its arguments. It takes its socket from systemd (`LISTEN_FDS`,
        {manpage}`sd_listen_fds(3)`) and says when it is ready ({manpage}`sd_notify(3)`).
      '';
    };
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
            hypervisor.privileges.broker.enable is true, but there is no program to run: this release has none. Leave the
            broker off, or name one in hypervisor.privileges.broker.program.
          '';
        }
      ];
    })
    (lib.mkIf (cfg.enable && broker.enable && broker.program != null) {
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
        wants = [ "libvirtd.socket" ];
        after = [
          "hvd.socket"
          "libvirtd.socket"
        ];
        serviceConfig = {
          Type = "notify";
          ExecStart = broker.program;
          User = "hvd";
          Group = "hvd";
          StateDirectory = "hvd";
          StateDirectoryMode = "0700";
          Restart = "on-failure";
          UMask = "0077";

          # It needs two sockets and its own folder. PrivateUsers would hide who is calling.
          CapabilityBoundingSet = "";
          DevicePolicy = "closed";
          IPAddressDeny = "any";
          KeyringMode = "private";
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          NoNewPrivileges = true;
          PrivateDevices = true;
          PrivateNetwork = true;
          PrivateTmp = true;
          ProcSubset = "pid";
          ProtectClock = true;
          ProtectControlGroups = true;
          ProtectHome = true;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
          ProtectProc = "invisible";
          ProtectSystem = "strict";
          RemoveIPC = true;
          RestrictAddressFamilies = "AF_UNIX";
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictSUIDSGID = true;
          SystemCallArchitectures = "native";
          SystemCallErrorNumber = "EPERM";
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
          ];
        };
      };
    })
  ];
}
