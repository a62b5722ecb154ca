{
  description = "A workshop's machine";

  inputs.nixpkgs.url = "@nixpkgs@";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations.workshop = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [ ./configuration.nix ];
      };
    };
}
