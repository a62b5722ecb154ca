# `hv migrate` on a NixOS that runs: one that is not well goes back by itself, and one that is well stays.
{
  hostPkgs,
  nixpkgs,
  self,
  ...
}:
let
  keys = import "${nixpkgs}/nixos/tests/ssh-keys.nix" hostPkgs;
  # What the machine has in /etc/nixos, without a flake.
  machine = hostPkgs.runCommand "machine" { } ''
    mkdir $out
    cp ${./migrate/machine.nix} $out/machine.nix
    cat >$out/configuration.nix <<END
    { ... }:
    {
      imports = [
        <nixpkgs/nixos/modules/virtualisation/qemu-vm.nix>
        <nixpkgs/nixos/modules/testing/test-instrumentation.nix>
        ./machine.nix
      ];
      users.users.alice.openssh.authorizedKeys.keys = [ "${keys.snakeOilPublicKey}" ];
    }
    END
  '';
  inherit (hostPkgs.stdenv.hostPlatform) system;
  inherit (nixpkgs) lib;
  inherit (self.packages.${system}) hv;
  # The same two systems from here, for the machine has no network to fetch what they are made of.
  evaluated =
    modules:
    (lib.nixosSystem {
      modules = [
        "${nixpkgs}/nixos/modules/virtualisation/qemu-vm.nix"
        "${nixpkgs}/nixos/modules/testing/test-instrumentation.nix"
        ./migrate/machine.nix
        {
          nixpkgs.hostPlatform = system;
          users.users.alice.openssh.authorizedKeys.keys = [ keys.snakeOilPublicKey ];
        }
      ]
      ++ modules;
    }).config;
  before = evaluated [ ];
  after = evaluated [
    self.nixosModules.default
    {
      hypervisor = {
        enable = true;
        migration = {
          enable = true;
          fallback = "counted";
        };
        network.enable = false;
        security.enable = false;
        privileges.enable = false;
      };
    }
  ];
  # A system, and what its own texts are made with: the machine may make some of them otherwise.
  parts =
    { system, systemd, ... }:
    [ system.build.toplevel ]
    ++ map (part: part.inputDerivation) (
      lib.filter (part: part ? inputDerivation) (
        [
          system.build.etc
          system.build.initialRamdisk
          system.build.installBootLoader
          system.build.toplevel
          system.path
        ]
        ++ map (unit: unit.unit) (lib.filter (unit: unit.enable) (lib.attrValues systemd.units))
      )
    );
in
{
  nodes.machine = {
    imports = [ ./migrate/machine.nix ];
    virtualisation.additionalPaths = [
      hv
      machine
      nixpkgs
      self
    ]
    ++ parts before
    ++ parts after;
  };

  testScript = ''
    import shlex

    path = "NIX_PATH=nixpkgs=${nixpkgs}:nixos-config=/etc/nixos/configuration.nix"


    def hv(words):
        return f"{path} ${hv}/bin/hv {words} >&2"


    def start():
        machine.start()
        machine.wait_for_unit("multi-user.target")


    def restart():
        machine.execute("systemctl reboot >&2 &", check_return=False)
        machine.wait_for_shutdown()
        start()


    def running():
        return machine.succeed("readlink -f /run/current-system").strip()


    def log_in():
        machine.wait_for_open_port(22)
        who = "ssh -i /root/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null alice@localhost id"
        assert "wheel" in machine.succeed(who)


    start()
    with subtest("the machine runs what its configuration says"):
        machine.succeed("mkdir -p /etc/nixos && install -m 644 ${machine}/* /etc/nixos/")
        machine.succeed("install -m 600 ${keys.snakeOilPrivateKey} /root/key")
        machine.succeed(f"{path} nixos-rebuild boot >&2")
        restart()
        log_in()
        old = running()
        files = machine.succeed("sha256sum /etc/nixos/*")

    with subtest("looking changes nothing"):
        machine.succeed(hv("migrate --check"))
        assert machine.succeed("sha256sum /etc/nixos/*") == files

    with subtest("not well: it goes back by itself"):
        # Something lies where libvirt, which the old system has not, keeps its state.
        machine.succeed("rm -rf /var/lib/libvirt && touch /var/lib/libvirt")
        machine.succeed(hv("migrate --yes"))
        assert running() == old, "something was switched to"
        machine.succeed("ls /boot/loader/entries | grep -F '+2.conf'")
        restart()
        assert running() != old
        # The unit's failure starts the machine anew, twice: it ends where a restart would.
        machine.wait_for_shutdown()
        start()
        machine.wait_for_shutdown()
        start()
        assert running() == old
        log_in()
        machine.fail(hv("health status"))
        machine.succeed(hv("migrate --undo"))
        assert machine.succeed("sha256sum /etc/nixos/*") == files

    with subtest("well: it stays, and its entry is good"):
        machine.succeed("rm /var/lib/libvirt")
        machine.succeed(hv("migrate --yes"))
        restart()
        new = running()
        assert new != old
        log_in()
        machine.wait_for_unit("boot-complete.target", timeout=600)
        machine.wait_for_unit("systemd-bless-boot.service")
        machine.succeed("hv health status >&2")
        machine.succeed("virsh --connect qemu:///system version >&2")
        entry = machine.succeed(f"grep -l {shlex.quote(new)} /boot/loader/entries/*").strip()
        assert "+" not in entry, f"{entry} is still on trial"
        restart()
        assert running() == new

    with subtest("taken back"):
        machine.succeed(hv("migrate --undo"))
        assert machine.succeed("sha256sum /etc/nixos/*") == files
        restart()
        assert running() == old
        log_in()
  '';
}
