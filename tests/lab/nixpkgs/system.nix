# lib.nixosSystem of the stand-in: merged modules in, `config.system.build.toplevel` out, and what programs ask beside it.
{ nixpkgs }:
{
  modules,
  system ? "x86_64-linux",
  specialArgs ? { },
  ...
}:
let
  lib = import ./lib.nix;
  sources = builtins.fromJSON (builtins.readFile ./sources.json);

  # Large trees that the medium carries: nobody builds them, they are substituted by their hash.
  tree =
    name:
    derivation {
      inherit name system;
      builder = "/the-medium-carries-this";
      outputHashMode = "recursive";
      outputHashAlgo = "sha256";
      outputHash = sources.${name};
    };
  userland = tree "debian-userland";
  linux = tree "linux-lab";

  # Packages by the names that hosts use; each is part of the userland.
  pkgs =
    let
      shell = name: {
        outPath = userland;
        shellPath = "/usr/bin/${name}";
      };
    in
    {
      bash = shell "bash";
      bashInteractive = shell "bash";
      zsh = shell "bash";
      fish = shell "bash";
      stdenv.hostPlatform.system = system;
    };

  libraries = "${userland}/usr/lib/x86_64-linux-gnu";
  build =
    name: module: input:
    derivation {
      inherit name system;
      # The userland's Python, started through its own loader: the sandbox has no /lib64.
      builder = "${libraries}/ld-linux-x86-64.so.2";
      args = [
        "--library-path"
        libraries
        "${userland}/usr/bin/python3"
        "-B"
        "-m"
        "builder.${module}"
      ];
      PYTHONHOME = "${userland}/usr";
      PYTHONPATH = nixpkgs;
      input = builtins.toJSON ({ inherit userland linux; } // input);
      passAsFile = [ "input" ];
      preferLocalBuild = true;
      allowSubstitutes = false;
    };

  # What the lab has of ZFS is on no medium: who builds such a host's system names it.
  openzfs =
    let
      path = builtins.getEnv "LAB_ZFS";
    in
    if path == "" then
      throw "this host uses ZFS; the lab builds its system beforehand (tests/lab/closures.py)"
    else
      builtins.storePath path;

  # Drops what merging left as null, all the way down.
  compact =
    value:
    if builtins.isAttrs value && !(value ? outPath) then
      builtins.mapAttrs (_: compact) (lib.filterAttrs (_: each: each != null) value)
    else
      value;

  # A specialisation has none of its own, as in NixOS.
  evaluate =
    parent: modules:
    let
      merged = import ./merge.nix lib ([ ./modules/nix-daemon.nix ] ++ modules) (
        {
          inherit pkgs;
          modulesPath = "${nixpkgs}/modules";
        }
        // specialArgs
      );
      config = compact (builtins.removeAttrs merged.config [ "specialisation" ]);
      boot = config.boot or { };
      stage1 = boot.initrd or { };
      label = config.system.nixos.label or "${config.system.stateVersion or "26.05"}.lab";
      specialisations = builtins.mapAttrs (
        _: more: evaluate false (modules ++ more)
      ) (if parent then merged.specialisations else { });

      filesystems = config.fileSystems or { };
      zfs = builtins.elem "zfs" (boot.supportedFilesystems or [ ]);
      withZfs = build "debian-with-zfs" "openzfs" { zfs = openzfs; };
      # Of hosts that use ZFS alone.
      onZfs = lib.optionalAttrs zfs {
        inherit withZfs;
        zfs = openzfs;
        linux = "${withZfs}/linux";
        luks = stage1.luks.devices or { };
        inherit (config.networking) hostId;
        nodes = boot.zfs.devNodes or "/dev/disk/by-id";
      };
      # As NixOS has it, for hosts that ask for what the other stage 1 cannot do: a keymap, SSH, or ZFS.
      keymap = config.console.keyMap or "us";
      ssh = stage1.network.ssh or { };
      systemd = keymap != "us" || ssh.enable or false || filesystems."/".fsType or "" == "zfs";
      initrd = build "initrd-linux-lab" "stage1" (onZfs // {
        modules = (stage1.availableKernelModules or [ ]) ++ (stage1.kernelModules or [ ]);
        supportedFilesystems = stage1.supportedFilesystems or (boot.supportedFilesystems or [ ]);
        luks = stage1.luks.devices or { };
        arrays = if boot.swraid.enable or false then boot.swraid.mdadmConf or "" else "";
        claims = config.lab.claims or { };
        systemd = {
          enable = systemd;
          # Names of network cards are given in stage 1 too (nixos/modules/system/boot/networkd.nix).
          network = lib.recursiveUpdate {
            links = config.systemd.network.links or { };
          } (stage1.systemd.network or { });
        };
        loaded = stage1.kernelModules or [ ];
        hostName = config.networking.hostName;
        inherit filesystems keymap ssh;
      });
      toplevel = build "nixos-system-${config.networking.hostName}-${label}" "toplevel" (onZfs // {
        inherit initrd label system;
        # What the boot loader's script adds to the initial RAM disk: nothing that may lie in the store.
        secrets = if systemd && ssh.enable or false then ssh.hostKeys else [ ];
        hyperNixos = "${config.lab.hyperNixos or ""}";
        config = {
          inherit filesystems;
          inherit (config) networking;
          boot = builtins.removeAttrs boot [ "initrd" ] // {
            kernelParams =
              lib.optional systemd "root=fstab"
              ++ lib.optional (systemd && boot ? resumeDevice) "resume=${boot.resumeDevice}"
              # nixos/modules/tasks/filesystems/zfs.nix
              ++ lib.optional zfs "nohibernate"
              ++ boot.kernelParams or [ ];
          }
          // lib.optionalAttrs zfs { kernelModules = [ "zfs" ] ++ boot.kernelModules or [ ]; };
          console = config.console or { };
          environment = config.environment or { };
          i18n = config.i18n or { };
          security = config.security or { };
          services.openssh = config.services.openssh or { };
          swapDevices = config.swapDevices or [ ];
          systemd = config.systemd or { };
          time = config.time or { };
          units = config.lab.units or { };
          users = config.users or { };
          virtualisation = config.virtualisation or { };
          zramSwap = config.zramSwap or { };
        };
        specialisations = builtins.mapAttrs (_: each: "${each.config.system.build.toplevel}") specialisations;
      });
      declared = import ./declared.nix lib {
        inherit config;
        inherit (merged) bodies;
      };
    in
    {
      inherit lib pkgs;
      inherit (declared) options;
      config = declared.config // {
        system = declared.config.system // {
          build = { inherit toplevel initrd; };
        };
        specialisation = specialisations;
      };
    };
in
evaluate true modules
