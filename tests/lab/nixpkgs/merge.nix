# Merges modules without option declarations: sets are merged key by key, lists are joined, of several other values
# the one with the strongest priority wins, and equally strong unequal ones are an error, as in nixpkgs.
# A value whose every definition is switched off by mkIf becomes null. Returns `config`, `specialisations`, and `bodies`:
# every module's own definitions with the file that they stand in.
lib: modules: specialArgs:
let
  arguments = specialArgs // {
    inherit lib config;
  };

  tagged = kind: value: builtins.isAttrs value && (value._type or null) == kind;

  # A module: a set, a function to one, or a path to either.
  load =
    module:
    if builtins.isPath module || builtins.isString module then
      load (import module)
    else if builtins.isFunction module then
      load (module arguments)
    else
      module;

  flatten =
    from: module:
    let
      file = if builtins.isPath module || builtins.isString module then toString module else from;
      loaded = load module;
      value = loaded.config or (builtins.removeAttrs loaded [ "imports" ]);
    in
    builtins.concatMap (flatten file) (loaded.imports or [ ]) ++ [ { inherit file value; } ];

  # What one definition amounts to: values with priority and condition.
  discharge =
    definition:
    if tagged "if" definition.value then
      discharge (
        definition
        // {
          value = definition.value.content;
          condition = definition.condition && definition.value.condition;
        }
      )
    else if tagged "merge" definition.value then
      builtins.concatMap (value: discharge (definition // { inherit value; })) definition.value.contents
    else if tagged "override" definition.value then
      discharge (
        definition
        // {
          value = definition.value.content;
          inherit (definition.value) priority;
        }
      )
    else
      [ definition ];

  plain = value: builtins.isAttrs value && !(value ? _type) && !(value ? drvPath);
  last = list: builtins.elemAt list (builtins.length list - 1);

  # Options of type `lines` in nixpkgs: their definitions are joined.
  lines = name: builtins.match "extraConfig|extraModprobeConfig|extraOptions|.*Commands|text" name != null;

  merge =
    path: definitions:
    let
      values = builtins.concatMap discharge definitions;
      shapes = builtins.filter (each: plain each.value) values;
    in
    if shapes != [ ] && builtins.length shapes == builtins.length values then
      mergeSets path shapes
    else
      mergeValues path (builtins.filter (each: each.condition) values);

  mergeSets =
    path: definitions:
    builtins.mapAttrs (name: found: merge (path ++ [ name ]) found) (
      builtins.zipAttrsWith (_: found: found) (
        map (
          definition: builtins.mapAttrs (_: value: definition // { inherit value; }) definition.value
        ) definitions
      )
    );

  mergeValues =
    path: active:
    let
      strongest = builtins.foldl' (best: each: if each.priority < best then each.priority else best) 99999 active;
      values = map (each: each.value) (builtins.filter (each: each.priority == strongest) active);
      first = builtins.head values;
    in
    if values == [ ] then
      null
    else if builtins.isList first then
      builtins.concatLists values
    else if builtins.all (each: each == first) values then
      first
    else if builtins.isString first && lines (last path) then
      builtins.concatStringsSep "\n" values
    else
      throw "the option `${builtins.concatStringsSep "." path}' has conflicting definitions: ${builtins.toJSON values}";

  bodies = builtins.concatMap (flatten "<unknown-file>") modules;

  config = mergeSets [ ] (
    map (body: {
      inherit (body) value;
      priority = 100;
      condition = true;
    }) bodies
  );
in
{
  inherit bodies config;
  # Specialisations are modules of their own: unmerged, with the priorities they were written with.
  specialisations = builtins.zipAttrsWith (_: found: map (each: each.configuration or { }) found) (
    map (body: body.value.specialisation or { }) bodies
  );
}
