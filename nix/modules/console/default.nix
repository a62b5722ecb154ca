# What stands on the screen and the serial line before anybody is logged in.
{
  config,
  lib,
  ...
}:
{
  config = lib.mkIf config.hypervisor.enable {
    # The passphrase prompt of stage 1 uses the keymap, and no blank screen waits before it.
    console.earlySetup = lib.mkDefault true;
    services.getty.helpLine = lib.mkForce ''
      Hyper-NixOS. First run: hv firstrun status. Trouble: journalctl -u hyper-nixos-firstrun
    '';
  };
}
