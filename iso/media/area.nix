# The area in which answers and keys are put later; installer/embed.py says what it looks like.
{ lib, pkgs }:
pkgs.runCommand "embed.bin"
  {
    nativeBuildInputs = [ pkgs.buildPackages.python3 ];
    sources = lib.fileset.toSource {
      root = ../..;
      fileset = lib.fileset.unions [
        ../../installer/__init__.py
        ../../installer/errors.py
        ../../installer/embed.py
      ];
    };
  }
  ''
    env --chdir="$sources" python3 -m installer.embed >"$out"
  ''
