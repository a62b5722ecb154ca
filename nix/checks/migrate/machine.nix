# A NixOS as people have it: systemd-boot, an administrator with a key, SSH.
{ lib, pkgs, ... }:
{
  networking.hostName = "machine";
  boot.loader = {
    systemd-boot.enable = true;
    timeout = 0;
    efi.canTouchEfiVariables = true;
  };
  virtualisation = {
    diskSize = 24 * 1024;
    memorySize = 4096;
    cores = 2;
    useBootLoader = true;
    useEFIBoot = true;
  };
  services.openssh.enable = true;
  users.users.alice = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
  };
  nix.settings = {
    substituters = lib.mkForce [ ];
    hashed-mirrors = null;
    connect-timeout = 1;
    experimental-features = [
      "nix-command"
      "flakes"
    ];
  };
  environment.systemPackages = [ pkgs.efibootmgr ];
  documentation.enable = false;
  system.switch.enable = true;
  system.stateVersion = "25.11";
}
