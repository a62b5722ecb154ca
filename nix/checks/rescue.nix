# A device kept for guests is vfio-pci's from the start, and nobody's special in the rescue entry.
{
  nodes.machine = {
    imports = [ ./host.nix ];
    hypervisor.passthrough.devices."0000:00:1e.0" = {
      vendor = "8086";
      device = "100e";
      drivers = [ "e1000" ];
    };
    boot.kernelParams = [
      "intel_iommu=on"
      "iommu=pt"
    ];
    virtualisation.qemu.options = [
      "-machine q35,kernel-irqchip=split"
      "-device intel-iommu,intremap=on"
      "-device e1000,addr=1e.0,netdev=spare"
      "-netdev user,id=spare,restrict=on"
    ];
  };

  testScript = ''
    machine.wait_for_unit("multi-user.target")
    driver = machine.succeed("basename $(readlink /sys/bus/pci/devices/0000:00:1e.0/driver)").strip()
    assert driver == "vfio-pci", driver

    with subtest("the rescue entry claims nothing"):
        rescue = "/run/current-system/specialisation/rescue"
        machine.succeed(f"test -e {rescue}/init")
        machine.fail(f"grep -q vfio {rescue}/kernel-params")
        machine.succeed(f"test $(readlink -f {rescue}/initrd) != $(readlink -f /run/current-system/initrd)")
  '';
}
