# The catalogue of features: what can be added to a virtualization host, and what each adds to the risk.
#
# The catalogue is data (installer/answers/features.json), which the installer reads too: it refuses at checking what
# would fail here. What a feature does stands in the module that it belongs to.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hypervisor;
  inherit (lib.importJSON ../../../installer/answers/features.json) features points tolerances;
  tiers = lib.importJSON ../../../installer/answers/tiers.json;
  tolerance = tolerances.${cfg.riskTolerance};
  inherit (cfg.virtualization) hugepages;
  inherit (pkgs.stdenv.hostPlatform) system;

  # What other options already ask for.
  implied = {
    hugepages = hugepages."1G" > 0 || hugepages."2M" > 0;
    passthrough = cfg.passthrough.enable;
  };
  on = name: cfg.features.${name}.enable;
  names = lib.filter on (lib.attrNames features);
  pointsOf = name: points.${features.${name}.risk};
  total = lib.foldl' (sum: name: sum + pointsOf name) 0 names;
  beyond = lib.filter (name: pointsOf name > points.${tolerance.highest}) names;
  # The mildest tolerance that takes everything that is on; the last one takes all.
  fitting = lib.findFirst (
    name:
    let
      inherit (tolerances.${name}) highest total;
    in
    lib.all (feature: pointsOf feature <= points.${highest}) names && (total == null || sum <= total)
  ) "accepting" [ "paranoid" "cautious" "balanced" ];
  sum = total;

  list = lib.concatStringsSep ", ";
  option = name: "hypervisor.features.${name}.enable";
in
{
  options.hypervisor = {
    features = lib.mapAttrs (name: feature: {
      enable = lib.mkOption {
        type = lib.types.bool;
        default = lib.elem name tiers.${cfg.tier}.features || implied.${name} or false;
        defaultText = lib.literalMD (
          let
            among = lib.filter (tier: lib.elem name tiers.${tier}.features) (lib.attrNames tiers);
          in
          "on in the tiers: ${if among == [ ] then "none" else list among}"
          + lib.optionalString (implied ? ${name}) "; on as soon as `hypervisor.${
            if name == "hugepages" then "virtualization.hugepages" else "passthrough"
          }` asks for it"
        );
        example = true;
        description = ''
          ${feature.summary} Risk: ${feature.risk}. ${lib.concatStringsSep " " feature.impacts}

          ${lib.concatStringsSep " " feature.mitigations}
        '';
      };
      risk = lib.mkOption {
        type = lib.types.enum (lib.attrNames points);
        default = feature.risk;
        readOnly = true;
        example = "low";
        description = "How much the feature `${name}` adds to what an attacker can reach.";
      };
    }) features;

    riskTolerance = lib.mkOption {
      type = lib.types.enum (lib.attrNames tolerances);
      default = "balanced";
      example = "cautious";
      description = ''
        How much risk the host's features may add up to; it does not evaluate with more. A feature's risk counts
        ${list (lib.mapAttrsToList (level: count: "${toString count} (${level})") points)}.

        ${lib.concatStrings (
          lib.mapAttrsToList (name: bound: ''
            - `${name}`: ${bound.summary} No feature above ${bound.highest}, ${
              if bound.total == null then "any total" else "at most ${toString bound.total} together"
            }.
          '') tolerances
        )}
      '';
    };

    risk = lib.mkOption {
      type = lib.types.attrs;
      readOnly = true;
      default = {
        inherit total;
        inherit (cfg) riskTolerance tier;
        limit = tolerance.total;
        features = lib.genAttrs names (name: {
          inherit (features.${name}) risk summary;
          points = pointsOf name;
        });
      };
      defaultText = lib.literalMD "what the features that are on add up to";
      example = {
        total = 3;
      };
      description = "The host's features with their risk, and the total. Also in `/etc/hyper-nixos/features.json`.";
    };
  };

  config = lib.mkIf cfg.virtualization.enable {
    environment.etc."hyper-nixos/features.json".text = builtins.toJSON cfg.risk;

    assertions =
      lib.concatMap (
        name:
        map (required: {
          assertion = on required;
          message = ''
            ${option name} is true, and it needs the feature ${required}. Set ${option required} = true as well, or
            ${option name} = false.
          '';
        }) features.${name}.requires
        ++ map (other: {
          # Each pair is told of once.
          assertion = !(on other && name < other);
          message = ''
            ${option name} and ${option other} are both true, and they conflict. Set one of the two to false.
          '';
        }) features.${name}.conflicts
        ++ [
          {
            assertion = lib.elem system (features.${name}.systems or [ system ]);
            message = ''
              ${option name} is true, and the feature is for ${list features.${name}.systems} alone; this host is
              ${system}. Set it to false.
            '';
          }
        ]
      ) names
      ++ [
        {
          assertion = beyond == [ ];
          message = ''
            hypervisor.riskTolerance is "${cfg.riskTolerance}", which takes no feature above the risk ${tolerance.highest}, and these
            are on: ${list (map (name: "${name} (${features.${name}.risk})") beyond)}. Set hypervisor.features.NAME.enable = false for
            each, or hypervisor.riskTolerance = "${fitting}".
          '';
        }
        {
          assertion = tolerance.total == null || total <= tolerance.total;
          message = ''
            hypervisor.riskTolerance is "${cfg.riskTolerance}", which takes features of ${toString tolerance.total} points together, and those that
            are on have ${toString total}: ${list (map (name: "${name} ${toString (pointsOf name)}") names)}.
            Set hypervisor.features.NAME.enable = false for some, or hypervisor.riskTolerance = "${fitting}".
          '';
        }
        {
          assertion = implied.hugepages -> on "hugepages";
          message = ''
            hypervisor.virtualization.hugepages reserves pages, and ${option "hugepages"} is false. Set both numbers to 0,
            or take the line with the feature out.
          '';
        }
        {
          assertion = implied.passthrough -> on "passthrough";
          message = ''
            ${option "passthrough"} is false, and hypervisor.passthrough keeps devices for guests. Take the devices out of
            hypervisor.passthrough.devices, or the line with the feature.
          '';
        }
      ];
  };
}
