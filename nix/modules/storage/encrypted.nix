# Disks that wait for somebody to type their passphrase.
{
  config,
  lib,
  ...
}:
{
  config = lib.mkIf (config.hypervisor.storage.enable && config.boot.initrd.luks.devices != { }) {
    # systemd waits for what is opened with a passphrase as long as it takes, but only 90 seconds, counted from the start, for
    # what stands on it: a logical volume, a mirror, the image of a hibernated host. Then stage 1 ends in emergency mode, whose
    # login is locked (systemd-system.conf(5)).
    boot.initrd.systemd.settings.Manager.DefaultDeviceTimeoutSec = lib.mkDefault "infinity";
    # But not for a TPM that the firmware tells of and the kernel cannot use: the passphrase is asked for only once it is there,
    # or not waited for any longer (systemd-tpm2-generator(8)). What fails then is wanted, not needed.
    boot.initrd.systemd.units."dev-tpmrm0.device" = {
      overrideStrategy = "asDropin";
      text = ''
        [Unit]
        JobRunningTimeoutSec=60s
      '';
    };
  };
}
