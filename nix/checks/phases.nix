# From setup to hardened and back, without a network and without building anything.
{
  nodes.machine = {
    imports = [ ./host.nix ];
    specialisation.hardened.configuration.hypervisor.phase = "hardened";
  };

  testScript = ''
    machine.wait_for_unit("multi-user.target")
    system = machine.succeed("readlink -f /run/current-system").strip()
    kexec_is_closed = "sysctl --values kernel.kexec_load_disabled"
    assert machine.succeed(kexec_is_closed) == "0\n", "nothing would show that the phase was raised"

    with subtest("raised"):
        machine.succeed(f"{system}/specialisation/hardened/bin/switch-to-configuration test >&2")
        machine.wait_for_unit("sshd.service")
        machine.succeed("sshd -T | grep -q '^passwordauthentication no$'")
        assert machine.succeed(kexec_is_closed) == "1\n", "kexec is open"

    with subtest("lowered again"):
        machine.succeed(f"{system}/bin/switch-to-configuration test >&2")
        machine.wait_for_unit("sshd.service")
        assert machine.succeed("readlink -f /run/current-system").strip() == system
  '';
}
