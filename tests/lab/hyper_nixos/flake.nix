{
  description = "A stand-in for the Hyper-NixOS flake: our programs and the units that nix/modules evaluates to";

  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { self, nixpkgs }:
    {
      nixosModules.default = import ./module.nix "${self}";
    };
}
