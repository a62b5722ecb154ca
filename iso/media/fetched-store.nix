# The store comes over HTTP by itself, where one RAM disk with everything in it would be too large: stage 1 fetches it, when
# the kernel arguments say from where (`hv media netboot`). Without them nothing of this is started.
{
  lib,
  pkgs,
  ...
}:
let
  wanted.ConditionKernelCommandLine = "hyper-nixos.store";
  inherit (pkgs.stdenv) hostPlatform;
in
{
  # The mount of the store waits for it; a unit that was not wanted keeps nothing waiting.
  fileSystems."/nix/.ro-store" = lib.mkImageMediaOverride {
    options = [ "x-systemd.requires=hyper-nixos-store.service" ];
  };

  boot.initrd = {
    systemd = {
      services = {
        hyper-nixos-store = {
          description = "The live system's store, over HTTP";
          unitConfig = wanted // {
            DefaultDependencies = false;
          };
          wants = [ "network-online.target" ];
          after = [
            "network-online.target"
            "systemd-resolved.service"
          ];
          before = [ "shutdown.target" ];
          conflicts = [ "shutdown.target" ];
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = "${pkgs.runtimeShell} ${./fetch-store.sh}";
            # The kernel's messages would start it once more while the root is switched, and it would stay.
            ExecStartPost = "${pkgs.runtimeShell} -c 'systemctl stop systemd-networkd.socket systemd-networkd.service'";
            # It gives up by itself, and says why.
            TimeoutStartSec = "infinity";
            StandardOutput = "journal";
          };
        };
        systemd-networkd = {
          wantedBy = lib.mkForce [ ];
          unitConfig = wanted;
        };
        systemd-networkd-wait-online.unitConfig = wanted;
        systemd-resolved.unitConfig = wanted;
      };
      # It would start the service at the first message of the kernel.
      sockets.systemd-networkd.wantedBy = lib.mkForce [ ];
      network = {
        enable = true;
        # One card with an address is enough, and the first attempt need not be the last.
        wait-online = {
          anyInterface = true;
          timeout = 30;
        };
        # Behind what `ip=` among the kernel arguments asks for (systemd-network-generator(8)).
        networks."99-hyper-nixos-store" = {
          matchConfig = {
            Type = "ether";
            Kind = "!*";
          };
          networkConfig.DHCP = true;
        };
      };
      extraBin.curl = lib.getExe pkgs.curlMinimal;
      storePaths = [ "${./fetch-store.sh}" ];
    };
    # The live system begins with cards as it would have found them.
    network.flushBeforeStage2 = true;

    # Cards that servers, desktops and virtual machines have. Their firmware comes along.
    availableKernelModules = [
      "8139cp"
      "8139too"
      "alx"
      "aqc111"
      "asix"
      "atl1c"
      "atl1e"
      "atlantic"
      "ax88179_178a"
      "be2net"
      "bnx2"
      "bnx2x"
      "bnxt_en"
      "cdc_ether"
      "cdc_ncm"
      "cxgb4"
      "e1000"
      "e1000e"
      "ena"
      "enic"
      "fm10k"
      "gve"
      "i40e"
      "iavf"
      "ice"
      "igb"
      "igbvf"
      "igc"
      "ionic"
      "ixgbe"
      "ixgbevf"
      "jme"
      "mlx4_en"
      "mlx5_core"
      "nfp"
      "qede"
      "qlcnic"
      "r8152"
      "r8169"
      "sfc"
      "sky2"
      "tg3"
      "virtio_net"
      "virtio_pci"
      "vmxnet3"
    ]
    ++ lib.optionals hostPlatform.isx86 [
      "amd-xgbe"
      "forcedeth"
      "hv_netvsc"
    ]
    ++ lib.optionals hostPlatform.isAarch64 [
      "genet"
      "hns3"
      "macb"
      "mvneta"
      "mvpp2"
      "nicvf"
      "xgene-enet"
    ];
    # Kernels differ in what they are built with; a card that one does not know is no reason to have no medium.
    allowMissingModules = true;
  };
}
