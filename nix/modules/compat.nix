# The one file that knows the NixOS release. Everything else is written so that 26.05 and 26.11 both take it.
{
  config,
  lib,
  options,
  ...
}:
{
  config = lib.mkIf (config.hypervisor.enable || config.hypervisor.passthrough.enable) (
    lib.mkMerge [
      {
        # The default since 26.05, the only one in 26.11. Written down because the units of ours in stage 1 need it.
        boot.initrd.systemd.enable = true;
      }
      # hardware.facter loads the GPU's driver in stage 1 when it saw a screen; that would be before vfio-pci.
      (lib.optionalAttrs (options.hardware ? facter && options.hardware.facter.detected ? boot) {
        hardware.facter.detected.boot.graphics.kernelModules = lib.mkIf config.hypervisor.passthrough.enable (
          lib.mkForce [ ]
        );
      })
      # It would ask every network card of its report for an address; the host's network is declared.
      (lib.optionalAttrs (options.hardware ? facter && options.hardware.facter.detected ? dhcp) {
        hardware.facter.detected.dhcp.enable = lib.mkDefault false;
      })
      # Releases without it start a migrated system once, and keep the old one the default until it has proved itself.
      (lib.optionalAttrs (options.boot.loader.systemd-boot ? bootCounting) {
        boot.loader.systemd-boot.bootCounting =
          lib.mkIf (config.hypervisor.migration.enable && config.hypervisor.migration.fallback == "counted")
            {
              enable = true;
              # Two: a first boot may end for reasons of its own.
              tries = lib.mkDefault 2;
            };
      })
    ]
  );
}
