{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations = nixpkgs.lib.mapAttrs (
      name: _:
      nixpkgs.lib.nixosSystem {
        modules = [
          (./hosts + "/${name}/configuration.nix")
          { nixpkgs.hostPlatform = "x86_64-linux"; }
        ];
      }
    ) (builtins.readDir ./hosts);
  };
}
