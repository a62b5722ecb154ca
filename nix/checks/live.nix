# The live system as it starts: the page has the screen, and the password on it opens SSH.
{
  nodes.machine =
    {
      pkgs,
      self,
      ...
    }:
    {
      imports = [
        self.nixosModules.default
        ../../iso/live
      ];
      environment.systemPackages = [ pkgs.sshpass ];
    };

  testScript = ''
    machine.wait_for_unit("hyper-nixos-page.service")
    machine.wait_until_tty_matches("1", "ssh root@")
    machine.wait_until_tty_matches("1", "password +[a-z2-9-]{14}")
    machine.succeed("grep -q '^VARIANT_ID=installer$' /etc/os-release")

    with subtest("the password on the screen is the one"):
        machine.wait_for_open_port(22)
        machine.succeed(
            "sshpass -f /run/hyper-nixos/live/password"
            " ssh -o StrictHostKeyChecking=no -o PubkeyAuthentication=no root@localhost true"
        )
        machine.fail("sshpass -p wrong ssh -o StrictHostKeyChecking=no -o PubkeyAuthentication=no root@localhost true")

    with subtest("it is in no journal"):
        machine.fail("journalctl --boot --output cat | grep -F \"$(cat /run/hyper-nixos/live/password)\"")

    with subtest("the next terminal has a shell"):
        machine.wait_for_unit("getty@tty2.service")
        machine.fail("systemctl is-active getty@tty1.service")
  '';
}
