# A host is installed from a medium that carries its system, with no network at all, and starts.
{
  nixpkgs,
  pkgs,
  self,
  ...
}:
let
  # As rendered for a machine with this disk; file systems are named by the disk's identity.
  host = nixpkgs.lib.nixosSystem {
    modules = [
      self.nixosModules.default
      ../../tests/golden/hosts/bios-ext4-small/configuration.nix
    ];
  };
  disk = "ROOT1";
  answers = (pkgs.formats.json { }).generate "answers.json" {
    version = 1;
    hostname = "guest";
    storage = {
      disk.serial = disk;
      filesystem = "ext4";
      destroy = "matched";
    };
    users = [
      {
        name = "alice";
        admin = true;
        password_hash = "$6$labsalt0$praDOUx7h53MY.2QDGD/CCLIPvRTkbRuRuFqKiMjZU/ZKudDj/j1QWXND16b5TWrXeKpb.tmH7DSPyUsEWLU70";
      }
    ];
    ssh.enable = false;
    system = {
      source = "closure";
      closure = "guest";
      offline = true;
    };
  };
in
{
  nodes.installer =
    { self, ... }:
    {
      imports = [
        self.nixosModules.default
        ../../iso/live
      ];
      hypervisor.medium.closures.guest = host.config.system.build.toplevel;
      virtualisation = {
        emptyDiskImages = [
          {
            size = 40 * 1024;
            driveConfig.deviceExtraOpts.serial = disk;
          }
        ];
        memorySize = 4096;
        # No network, not even the test's own.
        vlans = [ ];
        additionalPaths = [ host.config.system.build.toplevel ];
      };
    };

  testScript = ''
    import os

    installer.wait_for_unit("multi-user.target")
    installer.succeed("hv install --answers ${answers} --progress plain >&2")
    installer.shutdown()

    disk = os.path.join(installer.state_dir, "empty0.qcow2")
    host = create_machine(
        "qemu-kvm -m 2048"
        f" -drive if=none,id=root,format=qcow2,file={disk}"
        " -device virtio-blk-pci,drive=root,serial=${disk}"
    )
    host.start()
    host.wait_for_console_text("guest login:")
  '';
}
