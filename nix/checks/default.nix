{ lib, pkgs, self }:
{ }
