# The live system: what every medium of ours boots into. iso/media has the media.
{ modulesPath, ... }:
{
  imports = [
    (modulesPath + "/profiles/base.nix")
    (modulesPath + "/profiles/installation-device.nix")
    (modulesPath + "/profiles/minimal.nix")
    ./boot.nix
    ./building.nix
    ./console.nix
    ./embed.nix
    ./login.nix
    ./medium.nix
    ./packs.nix
    ./tools.nix
    ./unattended.nix
  ];

  # What a program asks whether it runs on a live system (os-release(5)).
  system.nixos.variant_id = "installer";
}
