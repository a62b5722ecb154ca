{ lib, ... }:
{
  imports = map (name: ./modules + "/${name}") (
    builtins.filter (lib.hasSuffix ".nix") (builtins.attrNames (builtins.readDir ./modules))
  );
}
