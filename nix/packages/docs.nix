# The documentation as a site that needs no network.
{
  lib,
  python3,
  runCommand,
}:
let
  root = ../..;
in
runCommand "hyper-nixos-docs"
  {
    nativeBuildInputs = [ (python3.withPackages (python: [ python.mkdocs-material ])) ];
    src = lib.fileset.toSource {
      inherit root;
      fileset = lib.fileset.unions [
        (root + "/CONTRIBUTING.md")
        (root + "/docs")
        (root + "/examples")
        (root + "/mkdocs.yml")
      ];
    };
    env.NO_MKDOCS_2_WARNING = "1";
    meta.description = "The documentation of Hyper-NixOS";
  }
  ''
    mkdocs build --strict --quiet --config-file "$src/mkdocs.yml" --site-dir "$out"
  ''
