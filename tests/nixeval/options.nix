# The options that given paths of values belong to, with a structural view of their types.
#
# A path is a list of names; list positions are "*". Answers { pattern, type } for each, where names that a type leaves
# open are "<name>"; { above = path; } where there are only options below; { unknown = path; } where there is none.
{
  nixpkgs,
  modules,
  paths,
}:
let
  host = import (nixpkgs + "/nixos/lib/eval-config.nix") {
    system = null;
    modules = modules ++ [ { nixpkgs.hostPlatform = "x86_64-linux"; } ];
  };
  inherit (host.pkgs) lib;

  # What of a type can be checked against a plain value.
  view =
    depth: type:
    {
      inherit (type) name;
    }
    // lib.optionalAttrs (type.name == "enum") { values = type.functor.payload.values; }
    // lib.optionalAttrs (depth > 0 && type.name != "submodule" && type.nestedTypes or { } != { }) {
      of = lib.mapAttrs (_: view (depth - 1)) (lib.filterAttrs (_: nested: nested ? name) type.nestedTypes);
    };

  # Inside of a type: a set or list of something consumes one name of the path.
  inside =
    type: pattern: path:
    let
      head = builtins.head path;
      rest = builtins.tail path;
      found = {
        inherit pattern;
        type = view 8 type;
      };
      nested = type.nestedTypes;
    in
    if path == [ ] then
      found
    else if type.name == "nullOr" then
      inside nested.elemType pattern path
    else if type.name == "coercedTo" then
      inside nested.finalType pattern path
    else if lib.elem type.name [ "attrsOf" "lazyAttrsOf" ] then
      inside nested.elemType (pattern ++ [ "<name>" ]) rest
    else if type.name == "listOf" && head == "*" then
      inside nested.elemType (pattern ++ [ "*" ]) rest
    else if type.name == "submodule" then
      let
        options = type.getSubOptions [ ];
        free = nested.freeformType or null;
      in
      if options ? ${head} then
        among options pattern path
      else if free != null then
        inside free pattern path
      else
        { unknown = pattern ++ path; }
    else
      found;

  among =
    options: pattern: path:
    let
      head = builtins.head path;
      rest = builtins.tail path;
      here = options.${head};
    in
    if path == [ ] then
      { above = pattern; }
    else if !(options ? ${head}) then
      { unknown = pattern ++ path; }
    else if lib.isOption here then
      inside here.type (pattern ++ [ head ]) rest
    else
      among here (pattern ++ [ head ]) rest;
in
map (among host.options [ ]) paths
