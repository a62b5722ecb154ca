# A host that nobody built a system for is installed from a medium that carries its tier's, with no network at all. It
# starts by UEFI, and its administrator logs in.
{
  pkgs,
  self,
  ...
}:
let
  disk = "ROOT1";
  answers = (pkgs.formats.json { }).generate "answers.json" {
    version = 1;
    hostname = "many";
    timezone = "Europe/Zurich";
    storage = {
      disk.serial = disk;
      filesystem = "ext4";
      destroy = "matched";
    };
    users = [
      {
        name = "alice";
        admin = true;
        # "lab-password"
        password_hash = "$6$labsalt0$praDOUx7h53MY.2QDGD/CCLIPvRTkbRuRuFqKiMjZU/ZKudDj/j1QWXND16b5TWrXeKpb.tmH7DSPyUsEWLU70";
      }
    ];
    hypervisor.tier = "minimal";
    system = {
      source = "closure";
      closure = "minimal";
      offline = true;
    };
  };
in
{
  enableOCR = true;

  nodes.installer =
    { self, ... }:
    {
      imports = [
        self.nixosModules.default
        ../../iso/live
      ];
      hypervisor.medium.tiers = [ "minimal" ];
      virtualisation = {
        useEFIBoot = true;
        emptyDiskImages = [
          {
            size = 40 * 1024;
            driveConfig.deviceExtraOpts.serial = disk;
          }
        ];
        memorySize = 4096;
        # No network, not even the test's own.
        vlans = [ ];
        additionalPaths = [ self.nixosConfigurations.prebuilt-minimal-x86_64.config.system.build.toplevel ];
      };
    };

  testScript = ''
    import os
    import shutil
    import subprocess

    installer.wait_for_unit("multi-user.target")
    installer.succeed("hv install --answers ${answers} --progress plain >&2")
    installer.shutdown()

    disk = os.path.join(installer.state_dir, "empty0.qcow2")
    variables = os.path.join(installer.state_dir, "fresh-variables.fd")
    shutil.copyfile("${pkgs.OVMF.variables}", variables)
    host = create_machine(
        "qemu-kvm -m 2048"
        " -drive if=pflash,format=raw,unit=0,readonly=on,file=${pkgs.OVMF.firmware}"
        f" -drive if=pflash,format=raw,unit=1,file={variables}"
        f" -drive if=none,id=root,format=qcow2,file={disk}"
        " -device virtio-blk-pci,drive=root,serial=${disk}"
    )
    host.start()
    host.wait_for_text("many login")
    host.send_chars("alice\n")
    host.wait_for_text("Password")
    host.send_chars("lab-password\n")
    host.wait_for_text("alice@many")
    host.send_chars("findmnt /boot && date +zone-%Z\n")
    host.wait_for_text("zone-CE")
  '';
}
