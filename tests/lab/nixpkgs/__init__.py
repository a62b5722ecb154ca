"""A stand-in for nixpkgs: Nix code and the builders it runs."""
