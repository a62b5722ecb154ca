"""libvirt, QEMU, guests' memory and Podman, as the modules evaluate them; and what libvirt makes of it."""

import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import pytest

from tests.nixeval import units
from tests.nixeval.host import MODULES, TOPLEVEL, evaluate
from tests.test_firstrun_libvirt import NAMESPACES, START, wait_for
from tests.test_nix_core import variants

SYSTEMS = ("x86_64-linux", "aarch64-linux")
OTHER = {"x86_64-linux": "aarch64-linux", "aarch64-linux": "x86_64-linux"}
MODULES_OF_HOSTS = {
    "plain": "{ }",
    "much": """{
      hypervisor = {
        riskTolerance = "accepting";
        tier = "professional";
        features = {
          docker-command.enable = true;
          foreign-architectures.enable = true;
          foreign-programs.enable = true;
          page-sharing.enable = true;
          passthrough.enable = true;
        };
        virtualization = {
          cpuModel = "EPYC-Rome";
          guestFolders = [ "/srv/guests" ];
          hugepages = { "1G" = 4; "2M" = 100; onDemand = 7; };
          transparentHugepages = "always";
        };
      };
      boot.kernelParams = [ "quiet" ];
    }""",
}
READ = """config: {
  params = config.boot.kernelParams;
  modprobe = config.boot.extraModprobeConfig;
  modules = config.boot.kernelModules;
  mounts = map (unit: { inherit (unit) where what options; condition = unit.unitConfig.ConditionPathExists or null; })
    (builtins.filter (unit: unit.type == "hugetlbfs") config.systemd.mounts);
  overcommit = config.boot.kernel.sysctl."vm.nr_overcommit_hugepages" or null;
  ksm = config.systemd.services ? enable-ksm;
  guests = builtins.fromJSON config.environment.etc."hyper-nixos/guests.json".text;
  qemu = config.virtualisation.libvirtd.qemu.package.pname;
  binfmt = builtins.mapAttrs (_: entry: { inherit (entry) fixBinary matchCredentials interpreter; })
    config.boot.binfmt.registrations;
  platforms = config.nix.settings.extra-platforms or [ ];
  libvirtd = { inherit (config.systemd.services.libvirtd) restartIfChanged unitConfig wantedBy;
    inherit (config.systemd.services.libvirtd.serviceConfig) KillMode Restart;
    PATH = config.systemd.services.libvirtd.environment.PATH; };
  kept = map (name: config.systemd.services.${name}.restartIfChanged)
    [ "libvirtd" "libvirt-guests" "virtlogd" "virtlockd" ];
  libvirtGuests = { inherit (config.systemd.services.libvirt-guests) after unitConfig wantedBy; };
  emulators = config.systemd.tmpfiles.settings."10-hyper-nixos-emulators";
  podman = {
    inherit (config.virtualisation.podman) enable dockerCompat;
    docker = config.systemd.sockets.podman.socketConfig.Symlinks or [ ];
    driver = config.virtualisation.containers.containersConf.settings.network.firewall_driver or null;
    open = config.networking.firewall.interfaces.podman0.allowedUDPPorts or [ ];
  };
  ovmf = builtins.filter (value: value != null) (builtins.attrValues config.virtualisation.libvirtd.qemu.ovmf);
  qemuConf = config.virtualisation.libvirtd.qemu.verbatimConfig;
  swtpm = config.users.users.swtpm.isSystemUser;
  failed = map (entry: entry.message) (builtins.filter (entry: !entry.assertion) config.assertions);
}"""


@cache
def hosts(system: str) -> dict[str, Any]:
    return variants(READ, MODULES_OF_HOSTS, system)


nixpkgs = pytest.mark.nixpkgs
each_system = pytest.mark.parametrize("system", SYSTEMS)


@nixpkgs
@each_system
def test_a_plain_host(system: str) -> None:
    host = hosts(system)["plain"]
    assert host["failed"] == []
    assert "transparent_hugepage=madvise" in host["params"]
    assert not [param for param in host["params"] if param.startswith("hugepages")]
    assert host["mounts"] == []
    assert host["overcommit"] is None
    assert host["ksm"] is False
    assert host["guests"] == {"cpuModel": "host-model"}
    assert host["qemu"] == "qemu-host-cpu-only"
    assert host["binfmt"] == {}
    assert host["podman"]["enable"] is False
    assert host["ovmf"] == []
    assert {*SWTPM} <= {*host["qemuConf"].splitlines()}
    assert host["swtpm"] is True
    nested = [line for line in host["modprobe"].splitlines() if "nested" in line]
    intel_and_amd = ["options kvm_intel nested=0", "options kvm_amd nested=0"]
    assert nested == (intel_and_amd if system == "x86_64-linux" else [])
    assert {"tun", "vhost_net"} <= {*host["modules"]}
    assert "vfio_pci" not in host["modules"]


@nixpkgs
@each_system
def test_a_host_with_much(system: str) -> None:
    host = hosts(system)["much"]
    assert host["failed"] == []
    assert host["ksm"] is True
    assert host["guests"] == {"cpuModel": "EPYC-Rome"}
    assert host["qemu"] == "qemu"
    assert host["overcommit"] == 7
    assert "transparent_hugepage=always" in host["params"]
    assert {"vfio_pci", "vfio_iommu_type1"} <= {*host["modules"]}
    assert host["libvirtGuests"]["unitConfig"]["WantsMountsFor"] == ["/srv/guests"]


@nixpkgs
@each_system
def test_each_number_of_huge_pages_follows_its_size(system: str) -> None:
    params = hosts(system)["much"]["params"]
    start = params.index("hugepagesz=2M")
    assert params[start : start + 4] == ["hugepagesz=2M", "hugepages=100", "hugepagesz=1G", "hugepages=4"]
    assert [param for param in params if param.startswith("hugepages=")] == ["hugepages=100", "hugepages=4"]
    (mount,) = hosts(system)["much"]["mounts"]
    assert mount["where"] == "/dev/hugepages1G"
    assert "pagesize=1G" in mount["options"]
    assert mount["condition"] == "/sys/kernel/mm/hugepages/hugepages-1048576kB"


@nixpkgs
@each_system
def test_programs_of_the_other_architecture_run_in_containers_too(system: str) -> None:
    host = hosts(system)["much"]
    (name,) = host["binfmt"]
    assert name == OTHER[system]
    entry = host["binfmt"][name]
    # The kernel holds the emulator open (flag F); rights of the program are not passed to it (no flag C).
    assert entry["fixBinary"] is True
    assert entry["matchCredentials"] is False
    assert "qemu-user-static" in entry["interpreter"]
    assert name not in host["platforms"]


@nixpkgs
@each_system
def test_podman_has_no_socket_for_docker_and_opens_names_alone(system: str) -> None:
    podman = hosts(system)["much"]["podman"]
    assert podman == {
        "enable": True,
        "dockerCompat": True,
        "docker": [],
        "driver": "nftables",
        "open": [53],
    }


@nixpkgs
@each_system
def test_a_switch_leaves_libvirt_alone(system: str) -> None:
    for host in hosts(system).values():
        assert host["kept"] == [False] * 4
        assert host["libvirtd"]["KillMode"] == "process"
        assert host["libvirtd"]["Restart"] == "on-failure"


@nixpkgs
@each_system
def test_guests_start_after_their_disks_are_mounted_and_stop_before_anything_they_need(system: str) -> None:
    host = hosts(system)["plain"]
    for unit in (host["libvirtd"], host["libvirtGuests"]):
        assert unit["unitConfig"]["WantsMountsFor"] == ["/var/lib/libvirt/images"]
        assert unit["wantedBy"] == ["multi-user.target"]
    assert {"libvirtd.service", "libvirtd.socket", "virtlogd.service", "remote-fs.target"} <= {
        *host["libvirtGuests"]["after"]
    }


@nixpkgs
@each_system
def test_libvirt_finds_qemu_by_a_path_that_stays(system: str) -> None:
    host = hosts(system)["plain"]
    assert host["libvirtd"]["PATH"].split(":")[0] == "/run/hyper-nixos/emulators/bin"
    link = host["emulators"]["/run/hyper-nixos/emulators/bin"]["L+"]["argument"]
    assert link == "/run/libvirt/nix-emulators"


@nixpkgs
@each_system
def test_a_host_with_much_evaluates_to_a_system(system: str) -> None:
    host = evaluate(TOPLEVEL, [MODULES, units.EXAMPLE, MODULES_OF_HOSTS["much"]], system)
    assert host.value.endswith(".drv")
    assert (host.failed_assertions, host.warnings) == ((), ())


@nixpkgs
def test_nested_and_encrypted_guests_are_for_x86() -> None:
    read = """config: {
      inherit (config.boot) extraModprobeConfig;
      sev = config.services.udev.extraRules;
      failed = map (entry: entry.message) (builtins.filter (entry: !entry.assertion) config.assertions);
    }"""
    module = """{ hypervisor.features = {
      nested-virtualization.enable = true; memory-encryption.enable = true; }; }"""
    found = variants(read, {"both": module})["both"]
    assert found["failed"] == []
    lines = {*found["extraModprobeConfig"].splitlines()}
    assert {"options kvm_intel nested=1", "options kvm_amd nested=1", "options kvm_amd sev=1"} <= lines
    assert 'KERNEL=="sev"' in found["sev"]


# Real libvirt -----------------------------------------------------------------------------------------------------

SWTPM = ('swtpm_user = "swtpm"', 'swtpm_group = "swtpm"')
"""Lines of qemu.conf; this machine has no such account, so another stands in."""
TPM = """<domain type='qemu'><name>with-tpm</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices></domain>"""
GUEST = """<domain type='qemu'><name>one</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""


@pytest.fixture
def connection() -> Iterator[Any]:
    """A libvirtd of its own whose PATH begins as on a host of ours."""
    folder = Path(tempfile.mkdtemp(prefix="emulators-"))
    folder.chmod(0o711)
    begin = """
mkdir -p /run/libvirt/nix-emulators /run/hyper-nixos/emulators
for emulator in /usr/bin/qemu-system-*; do ln -s "$emulator" /run/libvirt/nix-emulators/; done
ln -s /run/libvirt/nix-emulators /run/hyper-nixos/emulators/bin
PATH=/run/hyper-nixos/emulators/bin:$PATH
sed 's/"swtpm"/"daemon"/' > /etc/libvirt/qemu.conf <<END
SETTINGS
END
install -d -m 0750 -o daemon -g daemon "$1/private/localca"
mount --bind "$1/private/localca" /var/lib/swtpm-localca
"""
    begin = begin.replace("SETTINGS", "\n".join(SWTPM))
    start = START.replace("mkdir /run/libvirt\n", begin)
    assert begin in start
    socket = folder / "private/run/libvirt/libvirt-sock"
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*NAMESPACES, "sh", "-c", start, "sh", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for("libvirtd's socket", lambda: socket.exists() or daemon.poll() is not None)
        assert daemon.poll() is None, (folder / "log").read_text()
        opened = libvirt.open(f"qemu:///system?socket={socket}")
        yield opened
        opened.close()
    finally:
        daemon.kill()
        daemon.wait()
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)


@pytest.mark.libvirt
def test_libvirt_writes_the_path_that_stays_into_definitions(connection: Any) -> None:
    domain = connection.defineXML(GUEST)
    emulator = ET.fromstring(domain.XMLDesc(0)).findtext("devices/emulator")
    assert emulator == "/run/hyper-nixos/emulators/bin/qemu-system-x86_64"
    domain.undefine()


@pytest.mark.libvirt
def test_the_tpm_of_a_guest_is_not_root(connection: Any) -> None:
    domain = connection.createXML(TPM, libvirt.VIR_DOMAIN_START_PAUSED)
    owners = {
        process.stat().st_uid
        for process in Path("/proc").glob("[0-9]*")
        if b"with-tpm-swtpm.sock" in command_line(process)
        and b"swtpm" in command_line(process).split(b"\0")[0]
    }
    domain.destroy()
    assert owners == {pwd.getpwnam("daemon").pw_uid}


def command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
