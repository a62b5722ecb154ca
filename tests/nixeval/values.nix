# The plain values that rendered modules set, as the module system would see them, without nixpkgs: imports followed,
# mkForce and mkDefault taken off. Equal keys of two modules are merged; nothing of ours is set twice.
{ root }:
let
  lib = {
    mkDefault = value: value;
    mkForce = value: value;
  };
  merge =
    left: right:
    left
    // builtins.mapAttrs (
      name: value:
      if builtins.isAttrs value && left ? ${name} && builtins.isAttrs left.${name} then
        merge left.${name} value
      else
        value
    ) right;
  load =
    path:
    let
      imported = import path;
      module = if builtins.isFunction imported then imported { inherit lib; } else imported;
    in
    builtins.foldl' merge (removeAttrs module [ "imports" ]) (map load (module.imports or [ ]));
in
load root
