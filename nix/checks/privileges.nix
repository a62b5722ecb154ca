# Nobody but root reaches libvirt, whatever role they have.
{ lib, ... }:
let
  roles = [
    "hv-viewers"
    "hv-operators"
    "hv-owners"
    "hv-auditors"
  ];
in
{
  nodes.machine = {
    imports = [ ./host.nix ];
    users.users = lib.genAttrs roles (role: {
      isNormalUser = true;
      extraGroups = [ role ];
    });
  };

  testScript = ''
    machine.wait_for_unit("multi-user.target")
    machine.wait_for_unit("libvirtd.socket")
    machine.succeed("virsh --connect qemu:///system list >&2")
    for person in ${builtins.toJSON (roles ++ [ "admin" ])}:
        with subtest(person):
            machine.fail(f"su {person} --login --command 'virsh --connect qemu:///system list' >&2")
    with subtest("nobody is in libvirt's group"):
        assert machine.succeed("getent group libvirtd").strip().endswith(":")
  '';
}
