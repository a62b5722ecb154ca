# A host with one of the layouts is built on the machine from a medium that can build, with no network at all, and starts:
# its passphrase is asked for, its administrator logs in, and of a mirror the second disk is enough.
{
  layout,
  lib,
  nixpkgs,
  pkgs,
  self,
  ...
}:
let
  uefi = lib.hasPrefix "uefi" layout.name;
  common = import "${nixpkgs}/nixos/lib/qemu-common.nix" { inherit (pkgs) lib stdenv; };
  passphrase = "correct horse battery";
  # Of the hash in layouts.json.
  password = "lab-password";
  answers = (pkgs.formats.json { }).generate "answers.json" (
    lib.foldl' lib.recursiveUpdate { } [
      layout.base
      layout.answers
      { boot.serial_console = "${common.qemuSerialDevice},115200"; }
    ]
  );
  drive =
    serial: file:
    " -drive if=none,id=${serial},format=qcow2,file=${file} -device virtio-blk-pci,drive=${serial},serial=${serial}";
in
{
  nodes.installer =
    { self, ... }:
    {
      imports = [
        self.nixosModules.default
        ../../iso/live
      ];
      hypervisor.medium.building.enable = true;
      virtualisation = {
        useEFIBoot = uefi;
        emptyDiskImages = map (serial: {
          size = 40 * 1024;
          driveConfig.deviceExtraOpts = { inherit serial; };
        }) layout.disks;
        # The host is evaluated and built in it.
        cores = 4;
        diskSize = 8 * 1024;
        memorySize = 8192;
        # No network, not even the test's own.
        vlans = [ ];
      };
    };

  testScript = ''
    import os
    import shutil

    disks = ${builtins.toJSON layout.disks}
    encrypted = ${if layout.encrypted then "True" else "False"}


    def started(name, numbers):
        command = "${common.qemuBinary pkgs.qemu_test} -m 2048"
        if ${if uefi then "True" else "False"}:
            variables = os.path.join(installer.state_dir, f"{name}-variables.fd")
            shutil.copyfile("${pkgs.OVMF.fd.variables}", variables)
            command += " -drive if=pflash,format=raw,unit=0,readonly=on,file=${pkgs.OVMF.fd.firmware}"
            command += f" -drive if=pflash,format=raw,unit=1,file={variables}"
        for number in numbers:
            file = os.path.join(installer.state_dir, f"empty{number}.qcow2")
            command += f"${drive "{disks[number]}" "{file}"}"
        machine = create_machine(command, name=name)
        machine.start()
        if encrypted:
            machine.wait_for_console_text("(?i)passphrase")
            machine.send_console("${passphrase}\n")
        machine.wait_for_console_text("laid login:")
        machine.send_console("alice\n")
        machine.wait_for_console_text("Password:")
        machine.send_console("${password}\n")
        machine.send_console("echo root-is-$(findmnt --noheadings --output FSTYPE /)\n")
        machine.wait_for_console_text("root-is-${layout.root}")
        return machine


    installer.wait_for_unit("multi-user.target")
    installer.succeed("install -d -m 700 /run/secrets && printf %s '${passphrase}' > /run/secrets/passphrase")
    installer.succeed("chmod 600 /run/secrets/passphrase")
    installer.succeed("hv install --answers ${answers} --progress plain >&2")
    installer.shutdown()

    host = started("host", range(len(disks)))
    host.send_console("sync\n")
    host.crash()
    ${lib.optionalString layout.mirrored ''
      with subtest("the first disk is pulled"):
          started("alone", range(1, len(disks)))
    ''}
  '';
}
