# Which USB devices the host takes (USBGuard).
{
  config,
  lib,
  ...
}:
let
  cfg = config.hypervisor.security;
  # USB-IF class codes: 03 human interface; 00/01 subclass; protocol 01 keyboard.
  keyboards = "allow with-interface one-of { 03:00:01 03:01:01 }";
in
{
  options.hypervisor.security.usb = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether USB devices need permission. Devices that are there when the host boots keep working; what is plugged in
        later is blocked unless a rule allows it. Devices for guests need a rule too. Off in every profile: who can get
        at the machine has to say what belongs there.
      '';
    };
    keyboards = lib.mkOption {
      type = lib.types.bool;
      default = true;
      example = false;
      description = "Whether a keyboard may be plugged in at any time. A stick can pretend to be one.";
    };
    present = lib.mkOption {
      type = lib.types.enum [
        "allow"
        "apply-policy"
      ];
      default = "allow";
      example = "apply-policy";
      description = "What happens to devices that are there when the host boots: `apply-policy` asks the rules about them too.";
    };
    rules = lib.mkOption {
      type = lib.types.lines;
      default = "";
      example = "allow id 1050:0407 serial \"0012345678\" # a security key";
      description = ''
        More rules, as in {manpage}`usbguard-rules.conf(5)`; `usbguard generate-policy` as root writes those of the
        devices that are plugged in.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && cfg.usb.enable) {
    services.usbguard = {
      enable = true;
      implicitPolicyTarget = "block";
      presentDevicePolicy = cfg.usb.present;
      rules = lib.concatStringsSep "\n" (lib.optional cfg.usb.keyboards keyboards ++ [ cfg.usb.rules ]);
    };
    assertions = [
      {
        assertion = cfg.usb.present == "allow" || cfg.usb.keyboards || lib.hasInfix "03:" cfg.usb.rules;
        message = ''
          hypervisor.security.usb would block every keyboard at the console. Set hypervisor.security.usb.keyboards = true,
          or present = "allow", or give your keyboard a rule in hypervisor.security.usb.rules (its interfaces begin with 03:).
        '';
      }
    ];
  };
}
