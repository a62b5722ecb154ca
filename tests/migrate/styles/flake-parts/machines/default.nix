{ inputs, ... }:
{
  flake.nixosConfigurations = {
    box = inputs.nixpkgs.lib.nixosSystem {
      modules = [ ./box.nix ./hardware.nix ];
    };
    other = inputs.nixpkgs.lib.nixosSystem {
      modules = [ ./other.nix ./hardware.nix ];
    };
  };
}
