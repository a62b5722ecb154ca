# Who may do what: roles as groups, nobody near libvirt's socket, sudo for exact commands.
#
# libvirt knows no lesser right than root: whoever may define a guest names the program that emulates it and the files
# that are its disks, and even saving a guest's memory writes a file as root. So libvirt's sockets are for services, and
# people reach guests through a broker that knows who is calling (broker.nix).
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.privileges;
  people = import ../security/people.nix { inherit lib config; };
  roles = lib.importJSON ./roles.json;
  # Groups that no person belongs in, and what they give.
  forbidden = lib.importJSON ./forbidden-groups.json;

  members = group: lib.attrNames (people.inGroup group);
  everybody = lib.unique (lib.concatMap (role: members role.group) (lib.attrValues roles));
  # Users may replace no part of /run/current-system, so the command is what the host's closure has under this name.
  command = words: lib.concatStringsSep " " ([ "/run/current-system/sw/bin/${lib.head words}" ] ++ lib.tail words);

  trespasses = lib.concatLists (
    lib.mapAttrsToList (
      group: what:
      map (name: { inherit group name what; }) (
        lib.filter (name: !lib.elem group (cfg.exceptions.${name} or [ ])) (members group)
      )
    ) forbidden
  );
in
{
  imports = [ ./broker.nix ];

  options.hypervisor.privileges = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = config.hypervisor.enable;
      defaultText = lib.literalExpression "config.hypervisor.enable";
      example = false;
      description = ''
        Whether there are the groups ${
          lib.concatMapStringsSep ", " (role: "`${role.group}`") (lib.attrValues roles)
        }, and libvirt's sockets are closed to people. Put a person into `users.users.NAME.extraGroups`.
      '';
    };
    exceptions = lib.mkOption {
      type = lib.types.attrsOf (lib.types.listOf (lib.types.enum (lib.attrNames forbidden)));
      default = { };
      example = {
        alice = [ "input" ];
      };
      description = ''
        People who may be in a group that no person belongs in. Most of these groups are a way to root without a password
        and without a trace; write down here for whom you take that risk.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    users.groups =
      lib.mapAttrs' (_: role: lib.nameValuePair role.group { }) roles
      // {
        # Everybody with a role: who may speak to the broker at all.
        hv-users.members = everybody;
      }
      // lib.zipAttrsWith (_: lists: { members = lib.unique (lib.concatLists lists); }) (
        map (role: lib.genAttrs role.groups (_: members role.group)) (lib.attrValues roles)
      );

    security.sudo-rs = {
      extraRules = lib.mapAttrsToList (_: role: {
        groups = [ role.group ];
        runAs = "root";
        commands = map command role.commands;
      }) (lib.filterAttrs (_: role: role.commands != [ ]) roles);
      # The program itself is for nobody else, unless somebody with a rule is not in wheel.
      execWheelOnly = lib.mkDefault (
        lib.subtractLists (members "wheel") (
          lib.concatMap (role: lib.optionals (role.commands != [ ]) (members role.group)) (lib.attrValues roles)
        ) == [ ]
      );
    };

    # First rule that answers wins; libvirt's own module adds a YES for its group behind this one.
    security.polkit.extraConfig = lib.mkBefore ''
      polkit.addRule(function(action, subject) {
        if (action.id.indexOf("org.libvirt.") === 0) {
          return subject.user === "root" || subject.user === "hvd" ? polkit.Result.YES : polkit.Result.NO;
        }
      });
    '';

    virtualisation.libvirtd.qemu.runAsRoot = lib.mkDefault false;
    # Runs as root for whoever starts a guest of their own; libvirt makes the network devices of the host's guests itself.
    security.wrappers = lib.mkIf config.virtualisation.libvirtd.enable {
      qemu-bridge-helper.enable = lib.mkDefault false;
    };
    # Socket activation makes libvirt's own settings for its sockets void; without a mode, systemd's is for all.
    systemd.sockets = lib.mkIf config.virtualisation.libvirtd.enable (
      lib.genAttrs [ "virtlockd" "virtlogd" ] (_: { socketConfig.SocketMode = lib.mkDefault "0600"; })
    );

    assertions =
      map (
        { group, name, what }:
        {
          assertion = false;
          message = ''
            ${name} is in the group ${group}, which ${what}. Take the group out of users.users.${name}.extraGroups
            (guests: ${roles.operator.group} or another role's group instead), or, if you mean it, say
            hypervisor.privileges.exceptions.${name} = [ "${group}" ];
          '';
        }
      ) trespasses
      ++ [
        {
          assertion = !config.virtualisation.libvirtd.enable || !config.virtualisation.libvirtd.qemu.runAsRoot;
          message = ''
            QEMU would run as root: virtualisation.libvirtd.qemu.runAsRoot is true, so a guest that breaks out of its
            emulator owns the host. Take the line out; disks of old guests need `chown qemu-libvirtd:qemu-libvirtd`.
          '';
        }
      ];
  };
}
