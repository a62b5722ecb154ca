# The profiles, mildest first. Each holds everything of those before it.
{ lib }:
rec {
  names = [
    "development"
    "balanced"
    "strict"
    "paranoid"
  ];
  # A profile and all that it holds.
  upTo = profile: lib.take (1 + lib.lists.findFirstIndex (name: name == profile) 0 names) names;
  # Of { development = …; balanced = …; … }: the parts that are in force, mildest first.
  partsOf = inForce: parts: map (name: parts.${name}) (lib.filter (name: parts ? ${name}) inForce);
}
