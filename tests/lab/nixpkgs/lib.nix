# The functions of nixpkgs' lib that rendered hosts and the lab's own modules use. Each returns what the real one does.
let
  override = priority: content: {
    _type = "override";
    inherit priority content;
  };
in
rec {
  mkOverride = override;
  mkDefault = override 1000;
  mkForce = override 50;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkBefore = content: content;
  mkAfter = content: content;
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  optionalString = condition: text: if condition then text else "";
  mapAttrsToList = f: set: builtins.attrValues (builtins.mapAttrs f set);
  filterAttrs =
    keep: set:
    builtins.listToAttrs (
      builtins.concatMap (
        name:
        optional (keep name set.${name}) {
          inherit name;
          value = set.${name};
        }
      ) (builtins.attrNames set)
    );
  unique = builtins.foldl' (found: each: if builtins.elem each found then found else found ++ [ each ]) [ ];
  attrByPath =
    path: default: set:
    if path == [ ] then
      set
    else if builtins.isAttrs set && set ? ${builtins.head path} then
      attrByPath (builtins.tail path) default set.${builtins.head path}
    else
      default;
  hasAttrByPath =
    path: set:
    path == [ ]
    || (
      builtins.isAttrs set
      && set ? ${builtins.head path}
      && hasAttrByPath (builtins.tail path) set.${builtins.head path}
    );
  recursiveUpdate =
    left: right:
    left
    // builtins.mapAttrs (
      name: value:
      if builtins.isAttrs value && builtins.isAttrs (left.${name} or null) then
        recursiveUpdate left.${name} value
      else
        value
    ) right;
  concatLists = builtins.concatLists;
  inherit (builtins)
    attrNames
    attrValues
    concatMap
    concatStringsSep
    elem
    filter
    head
    length
    lessThan
    listToAttrs
    map
    mapAttrs
    sort
    toJSON
    ;
}
