# What stands on the screen and the serial line before anybody is logged in.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor;
in
{
  options.hypervisor.console.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.hypervisor.enable";
    example = false;
    description = "Whether the login prompt says where to look first, and the keymap is loaded before the passphrase prompt.";
  };

  config = lib.mkIf cfg.console.enable {
    # The passphrase prompt of stage 1 uses the keymap, and no blank screen waits before it.
    console.earlySetup = lib.mkDefault true;
    services.getty.helpLine = lib.mkForce ''
      Hyper-NixOS. First run: hv firstrun status. Trouble: journalctl -u hyper-nixos-firstrun
    '';
  };
}
