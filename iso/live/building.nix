# What building a host's own system takes, on the medium: a host that no ready system fits is installed without a network
# as well, from its rendered flake.
#
# Only a host's own texts are built then (units, /etc, stage 1, boot entries), with the programs that make them; packages
# come from the store of the medium. What takes part is found from systems that use everything (samples.nix): each of
# its parts has its inputs beside it. A test builds up every example host from these, as far as evaluation tells.
{
  config,
  lib,
  nixpkgs,
  pkgs,
  self,
  ...
}:
let
  cfg = config.hypervisor.medium.building;
  inherit (pkgs.stdenv.hostPlatform) system;
  # Hosts', not the live system's: that has overlays of its own.
  packages = nixpkgs.legacyPackages.${system};

  samples = self.lib.samples.${system};

  derivations = lib.filter (each: each ? inputDerivation);
  sources = entries: map (entry: entry.source or null) (lib.attrValues entries);
  unitsOf = units: map (unit: unit.unit) (lib.filter (unit: unit.enable) (lib.attrValues units));
  # What texts of a system that are no files of their own refer to.
  named = texts: pkgs.writeText "references" (lib.concatLines texts);
  referencesOf =
    sampled:
    named (
      [
        sampled.system.activationScripts.script
        sampled.system.dryActivationScript
        (builtins.toJSON sampled.systemd.tmpfiles.settings)
      ]
      ++ sampled.systemd.tmpfiles.rules
      ++ lib.attrValues sampled.security.apparmor.includes
    );
  # The parts of a system that are made for a host, as far as options lead to them.
  partsOf =
    sampled:
    derivations (
      [
        sampled.hardware.firmware
        sampled.system.build.installBootLoader
        sampled.system.build.manual.manualHTML
        sampled.system.build.manual.nixos-configuration-reference-manpage
        sampled.system.build.manual.optionsJSON
        sampled.system.build.etc
        sampled.system.build.initialRamdisk
        sampled.system.build.modulesClosure
        sampled.system.build.toplevel
        sampled.system.modulesTree
        sampled.system.path
      ]
      ++ sources sampled.environment.etc
      ++ sources sampled.boot.initrd.systemd.contents
      ++ unitsOf sampled.systemd.units
      ++ unitsOf sampled.boot.initrd.systemd.units
    );
  # What makes or checks texts on the way, where no option leads to the maker; GRUB's parts are in a file that its
  # installer reads.
  programs = [
    packages.efibootmgr
    packages.kmod
    packages.libredirect
    packages.lklWithFirewall
    packages.mypy
    packages.nftables
    packages.nixos-artwork.wallpapers.simple-dark-gray-bootloader
    packages.nss
    packages.shellcheck-minimal
    packages.tinyxxd
    packages.virtiofsd
    packages.w3m-nographics
    # Where it boots by EFI alone, too: its menu's font is the other's.
    packages.grub2
    (packages.grub2.override { efiSupport = true; })
  ]
  ++ (with packages.perlPackages; [
    FileCopyRecursive
    FileSlurp
    JSON
    ListCompare
    XMLLibXML
    XMLSAX
  ]);
  outputsOf = program: map (output: toString program.${output}) program.outputs;
in
{
  options.hypervisor.medium.building = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Whether this medium carries what hosts' own systems are built of and with, so that the rendered flake of any host
        that the installer can plan is built without a network.
      '';
    };
    inputs = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      readOnly = true;
      internal = true;
      default =
        map (part: part.inputDerivation) (lib.concatMap partsOf samples)
        ++ map referencesOf samples
        ++ [
          (named (lib.concatMap outputsOf programs))
          # Made anew with the certificates of the answers, which is no compiling.
          packages.cacert.inputDerivation
        ];
      defaultText = lib.literalMD "the inputs of every part of a few systems that use everything";
      description = "Derivations whose references are what is needed.";
    };
  };

  config = lib.mkIf cfg.enable {
    system.extraDependencies = cfg.inputs;
  };
}
