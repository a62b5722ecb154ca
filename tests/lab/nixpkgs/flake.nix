{
  description = "A stand-in for nixpkgs: lib.nixosSystem over plain modules, building a NixOS-shaped system from Debian";

  outputs =
    { self }:
    {
      lib = (import ./lib.nix) // {
        nixosSystem = import ./system.nix { nixpkgs = "${self}"; };
      };
    };
}
