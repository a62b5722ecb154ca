{
  description = "My machines";
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations = {
        box = nixpkgs.lib.nixosSystem { modules = [ ./hosts/box ]; };
        web = nixpkgs.lib.nixosSystem { modules = [ ./hosts/web ]; };
      };
    };
}
