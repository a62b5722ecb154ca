"""Phases and profiles: what they change, asked of the programs that will read it, and what they refuse."""

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hv.security.table import KINDS
from tests.nixeval import pages, phases
from tests.nixeval.host import MODULES, TOPLEVEL, Evaluated, evaluate
from tests.nixeval.phases import PROFILES, STATES
from tests.nixeval.sshd import sshd_lines
from tests.nixeval.units import EXAMPLE

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice"
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 alice"


def example(select: str, *modules: str) -> Evaluated:
    """The example host with more modules."""
    return evaluate(select, [MODULES, EXAMPLE, *modules])


def hardened(profile: str = "balanced") -> str:
    """A module that declares the phase and a profile."""
    return f'{{ hypervisor.phase = "hardened"; hypervisor.security.profile = "{profile}"; }}'


def file(state: str, name: str) -> str:
    """A golden file; empty where the state has none."""
    path = phases.FILES / state / name
    return path.read_text() if path.exists() else ""


# What is committed is what the modules evaluate to.


@pytest.mark.nixpkgs
def test_phases_change_what_is_committed() -> None:
    assert phases.phases() == json.loads(phases.GOLDEN.read_text()), (
        "if wanted: python -m tests.nixeval.phases"
    )
    assert phases.files() == phases.committed(), "if wanted: python -m tests.nixeval.phases"


def test_pages_are_as_committed() -> None:
    for name, text in pages.pages().items():
        assert (pages.REFERENCE / name).read_text() == text, "if wanted: python -m tests.nixeval.pages"


def test_page_shows_every_change() -> None:
    changes = json.loads(phases.GOLDEN.read_text())
    shown = pages.phases_page(changes)
    for kinds in changes.values():
        assert kinds.keys() <= KINDS.keys()
        assert all(f"`{name}`" in shown for names in kinds.values() for name in names)


# Each profile holds the one before.

STRICTER: dict[str, list[Any]] = {
    "kernel.unprivileged_bpf_disabled": [2, 1],
    "kernel.yama.ptrace_scope": [1, 2, 3],
    "hyper-nixos-qemu": ["complain", "enforce"],
    "enable": [True, "lock"],
    "rateLimitSSH": ["20/minute", "6/minute"],
}
"""Values that a later profile raises, mildest first."""
EXCHANGED = {"lsm=landlock,yama,bpf": "lsm=landlock,yama,apparmor,bpf"}
"""What stands for what: one name holds the other."""


def stands(name: str, before: Any, after: Any) -> bool:
    """Whether a value is at least as strict as an earlier one."""
    if before == after:
        return True
    if name in STRICTER:
        return STRICTER[name].index(before) < STRICTER[name].index(after)
    if name == "PubkeyAcceptedAlgorithms":
        return set(after.split(",")) < set(before.split(","))
    return False


def test_each_profile_keeps_what_the_one_before_has() -> None:
    changes = json.loads(phases.GOLDEN.read_text())
    assert tuple(changes) == STATES
    assert all(changes.values())
    held: dict[tuple[str, str], Any] = {}
    for state in STATES[1:]:
        for kind, names in changes[state].items():
            for name, value in names.items():
                if value is None:
                    assert kind == "setuid" or EXCHANGED[name] in names
                elif (kind, name) in held:
                    assert stands(name, held[kind, name], value), f"{state}: {kind} {name}"
                held[kind, name] = value
    assert {name for _, name in held} >= STRICTER.keys()


def test_files_of_a_profile_hold_those_of_the_one_before() -> None:
    for before, after in pairwise(STATES):
        assert set(file(before, "audit.rules").splitlines()) <= set(file(after, "audit.rules").splitlines())
        assert file(before, "sudoers") == file(after, "sudoers")
        assert file(before, "polkit.rules") == file(after, "polkit.rules")


@pytest.mark.nixpkgs
def test_lowering_leaves_nothing_behind() -> None:
    """From the strictest host, phase setup is what a host that was never raised has; and so is each lower profile."""
    select = """host: let
      see = config: {
        inherit (config.boot) blacklistedKernelModules kernelModules kernelParams;
        inherit (config.boot.kernel) sysctl;
        inherit (config.security.audit) enable rules;
        inherit (config.users) mutableUsers;
        locked = config.security.lockKernelModules;
        ssh = config.services.openssh.settings;
        policies = builtins.attrNames config.security.apparmor.policies;
      };
      raised = host.extendModules { modules = [ PARANOID ]; };
    in {
      fresh = see host.config;
      back = see raised.config.specialisation.setup.configuration;
      again = builtins.attrNames raised.config.specialisation.setup.configuration.specialisation;
    }""".replace("PARANOID", hardened("paranoid"))
    found = example(select).value
    assert found["back"] == found["fresh"]
    assert found["again"] == []


@pytest.mark.nixpkgs
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux"])
def test_every_profile_evaluates_to_a_system(system: str) -> None:
    modules = " ".join(f"(toplevel {hardened(profile)})" for profile in PROFILES)
    select = f"""host: let
      variant = module: (host.extendModules {{ modules = [ module ]; }}).config;
      complaints = config: config.warnings ++ builtins.filter (text: text != null) (
        map (entry: if entry.assertion then null else entry.message) config.assertions);
      toplevel = module: let config = variant module; in
        [ config.system.build.toplevel.drvPath ] ++ complaints config;
    in [ {modules} ]"""
    found = evaluate(select, [MODULES, EXAMPLE], system)
    assert (found.failed_assertions, found.warnings) == ((), ())
    assert [len(each) for each in found.value] == [1, 1, 1, 1], found.value


@pytest.mark.nixpkgs
def test_security_alone() -> None:
    modules = ["{ lib, ... }: { hypervisor.enable = lib.mkForce false; hypervisor.security.enable = true; }"]
    select = "host: { drv = (TOPLEVEL) host; audit = host.config.security.auditd.enable; }"
    found = example(select.replace("TOPLEVEL", TOPLEVEL), *modules, hardened("strict"))
    assert found.value["drv"].endswith(".drv")
    assert found.value["audit"] is True
    assert (found.failed_assertions, found.warnings) == ((), ())


# Who can still log in.


@pytest.mark.nixpkgs
def test_hardened_takes_no_password_whatever_the_host_says() -> None:
    select = """host: let
      settings = config: config.services.openssh.settings;
      hardened = host.config.specialisation.hardened.configuration;
    in {
      setup = (settings host.config).PasswordAuthentication;
      hardened = (settings hardened).PasswordAuthentication;
      methods = (settings hardened).AuthenticationMethods;
      children = builtins.attrNames hardened.specialisation;
      kexec = hardened.boot.kernel.sysctl."kernel.kexec_load_disabled";
    }"""
    module = "{ lib, ... }: { services.openssh.settings.PasswordAuthentication = lib.mkForce true; }"
    assert example(select, module).value == {
        "setup": True,
        "hardened": False,
        "methods": "publickey",
        "children": [],
        "kexec": True,
    }


@pytest.mark.nixpkgs
def test_setup_takes_passwords_only_where_no_administrator_has_a_key() -> None:
    select = """host: let
      passwords = modules: (host.extendModules { inherit modules; }).config.services.openssh.settings.PasswordAuthentication;
    in [ (passwords [ ]) (passwords [ KEYLESS ]) ]""".replace("KEYLESS", KEYLESS)
    assert example(select).value == [False, True]


KEYLESS = """({ lib, ... }: {
  users.users.alice = { hashedPassword = "$6$salt$hash"; openssh.authorizedKeys.keys = lib.mkForce [ ]; };
})"""
RSA_ONLY = f"""({{ lib, ... }}: {{
  users.users.alice = {{ hashedPassword = "$6$salt$hash"; openssh.authorizedKeys.keys = lib.mkForce [ "{RSA}" ]; }};
}})"""
NO_CREDENTIAL = """({ lib, ... }: {
  users.users.bob = { isNormalUser = true; extraGroups = [ "wheel" ]; };
})"""
LOCKED_OUT = "would lock every administrator out of SSH"


@pytest.mark.nixpkgs
def test_each_assertion_fires_and_only_then() -> None:
    """Each case: a name, the modules, and what is said of it; nothing where the host is fine."""
    ssh = "services.openssh.settings"
    cases: dict[str, tuple[list[str], str]] = {
        "a type of key that paranoid refuses": ([hardened("paranoid"), RSA_ONLY], LOCKED_OUT),
        "the same type in strict": ([hardened("strict"), RSA_ONLY], ""),
        "options before a good key": (
            [
                hardened("paranoid"),
                f"""({{ lib, ... }}: {{ users.users.alice.openssh.authorizedKeys.keys =
                  lib.mkForce [ ''from="10.0.0.0/8" {ED25519}'' ]; }})""",
            ],
            "",
        ),
        "AllowUsers names others": ([hardened(), f'{{ {ssh}.AllowUsers = [ "grace" ]; }}'], LOCKED_OUT),
        "AllowUsers with a host": ([hardened(), f'{{ {ssh}.AllowUsers = [ "al?ce@10.*" ]; }}'], ""),
        "AllowUsers takes her out": (
            [hardened(), f'{{ {ssh}.AllowUsers = [ "a*" "!alice" ]; }}'],
            LOCKED_OUT,
        ),
        "DenyUsers": ([hardened(), f'{{ {ssh}.DenyUsers = [ "a*" ]; }}'], LOCKED_OUT),
        "DenyGroups": ([hardened(), f'{{ {ssh}.DenyGroups = [ "wheel" ]; }}'], LOCKED_OUT),
        "AllowGroups names others": ([hardened(), f'{{ {ssh}.AllowGroups = [ "staff" ]; }}'], LOCKED_OUT),
        "AllowGroups by a group's members": (
            [
                hardened(),
                f'{{ users.groups.staff.members = [ "alice" ]; {ssh}.AllowGroups = [ "staff" ]; }}',
            ],
            "",
        ),
        "no key at all: the console is left": ([hardened("paranoid"), KEYLESS], ""),
        "an administrator without a credential": (
            [hardened("strict"), NO_CREDENTIAL],
            "locked out: bob",
        ),
        "the same, accounts kept changeable": (
            [hardened("strict"), NO_CREDENTIAL, "{ users.mutableUsers = true; }"],
            "",
        ),
        "the same below strict": ([hardened("balanced"), NO_CREDENTIAL], ""),
        "no firewall": (
            [hardened("development"), "{ networking.firewall.enable = false; }"],
            "has no firewall",
        ),
        "no firewall in setup": (["{ networking.firewall.enable = false; }"], ""),
        "every keyboard blocked": (
            [
                "{ hypervisor.security.usb = { enable = true; keyboards = false; present = ''apply-policy''; }; }"
            ],
            "block every keyboard",
        ),
        "a keyboard by rule": (
            [
                """{ hypervisor.security.usb = { enable = true; keyboards = false; present = "apply-policy";
                  rules = "allow with-interface equals { 03:01:01 }"; }; }"""
            ],
            "",
        ),
        "usb with its defaults": (["{ hypervisor.security.usb.enable = true; }"], ""),
    }
    listed = "".join(f'"{name}" = [ {" ".join(modules)} ];\n' for name, (modules, _) in cases.items())
    select = f"""host: let
      failed = modules: builtins.concatMap (entry: if entry.assertion then [ ] else [ entry.message ])
        (host.extendModules {{ inherit modules; }}).config.assertions;
    in builtins.mapAttrs (_: failed) {{ {listed} }}"""
    found = example(select).value
    for name, (_, said) in cases.items():
        messages = found[name]
        assert len(messages) == bool(said), (name, messages)
        assert all(said in message for message in messages), (name, messages)


SSHD = """\
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
exec /usr/sbin/sshd "$@"
"""
"""sshd insists on a folder in /run that this machine may not have: it gets one in a namespace of its own."""


def sshd_config(state: str, folder: Path) -> Path:
    """A file with the state's settings and a host key."""
    key, path = folder / "key", folder / state
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key), check=True)
    path.write_text("\n".join((f"HostKey {key}", *sshd_lines(state))) + "\n")
    return path


def sshd_says(config: Path) -> dict[str, str]:
    """The settings that the real server takes from a file for an administrator (sshd(8), -T)."""
    who = "user=alice,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
    command = (
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-ec",
        SSHD,
        "sh",
        "-T",
        "-f",
        config,
        "-C",
        who,
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pairs = [line.partition(" ") for line in done.stdout.splitlines()]
    said: dict[str, str] = {}
    for key, _, value in pairs:
        said[key] = f"{said[key]} {value}" if key in said else value
    return said


@pytest.mark.parametrize("state", STATES)
def test_sshd_takes_the_settings(state: str, tmp_path: Path) -> None:
    said = sshd_says(sshd_config(state, tmp_path))
    assert said["pubkeyauthentication"] == "yes"
    assert said["permitrootlogin"] == said["passwordauthentication"] == "no"
    assert said["kbdinteractiveauthentication"] == said["x11forwarding"] == "no"
    at_least = STATES.index(state)
    assert (said["authenticationmethods"] == "publickey") is (at_least >= STATES.index("development"))
    assert (said["allowagentforwarding"] == "no") is (at_least >= STATES.index("balanced"))
    assert (said["allowtcpforwarding"] == "no") is (at_least >= STATES.index("strict"))
    assert ("allowgroups" in said) is (at_least >= STATES.index("strict"))
    # sshd leaves out what has its default; all of them then.
    types = said.get("pubkeyacceptedalgorithms", "ssh-rsa").split(",")
    assert "ssh-ed25519" in types or types == ["ssh-rsa"]
    assert any("rsa" in each for each in types) is (state != "paranoid")


# What other programs make of the files.


@pytest.mark.parametrize("state", STATES)
def test_visudo_takes_the_rules(state: str, tmp_path: Path) -> None:
    rules = tmp_path / "sudoers"
    rules.write_text(file(state, "sudoers"))
    rules.chmod(0o440)
    command = ("/usr/sbin/visudo", "--check", "--strict", "--file", rules)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def audit_answer(rule: str) -> str:
    """What auditctl says of a rule in a namespace that may not load any: it reads the rule first."""
    command = ("unshare", "--map-root-user", "--net", "/sbin/auditctl", *rule.split())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_auditctl_reads_every_rule() -> None:
    fine = audit_answer("-a always,exit -F arch=b64 -S open -F key=x")
    assert audit_answer("-a always,exit -F arch=b64 -S no_such_call -F key=x") != fine
    assert audit_answer("-a always,exit -F arch=b64 -S open -F auid>=1000 -F nothing=1") != fine
    rules = file("paranoid", "audit.rules").splitlines()
    assert rules[0] == "-c"
    for rule in rules[1:]:
        assert audit_answer(rule) == fine, rule


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ("setup", "-F dir=/etc/nixos -F perm=wa"),
        ("setup", "-F path=/etc/shadow -F perm=wa"),
        ("balanced", "-F dir=/var/lib/libvirt -F perm=wa"),
        ("balanced", "-S execve,execveat -F euid=301"),
        ("balanced", "-S init_module,finit_module,delete_module"),
    ],
)
def test_audit_sees_configuration_and_libvirt(state: str, what: str) -> None:
    assert what in file(state, "audit.rules")


def test_guests_disks_are_left_out_before_libvirt_is_watched() -> None:
    rules = file("balanced", "audit.rules").splitlines()
    left_out = rules.index("-a never,exit -F dir=/var/lib/libvirt/images")
    assert all(left_out < number for number, rule in enumerate(rules) if "key=libvirt" in rule)


def test_audit_never_stops_the_host() -> None:
    auditing = json.loads(phases.GOLDEN.read_text())["setup"]["auditing"]
    assert auditing["backlogLimit"] >= 8192
    for state in STATES:
        settings = file(state, "auditd.conf")
        assert "disk_full_action = rotate" in settings
        assert "log_group = hv-auditors" in settings
        assert "panic" not in settings + file(state, "audit.rules")


def parse_apparmor(profile: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Read a profile with the real parser, loading nothing."""
    path = folder / "profile"
    path.write_text(re.sub(r"@([a-z-]+)@", r"/nix/store/00000000000000000000000000000000-\1", profile))
    command = ("/sbin/apparmor_parser", "--skip-kernel-load", "--skip-cache", "--names", path)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_apparmor_reads_the_profile(tmp_path: Path) -> None:
    for state in ("balanced", "strict", "paranoid"):
        done = parse_apparmor(file(state, "qemu.apparmor"), tmp_path)
        assert (done.returncode, done.stdout.strip()) == (0, "hyper-nixos-qemu"), done.stderr
    broken = file("strict", "qemu.apparmor").replace(" ix,", " sometimes,")
    assert parse_apparmor(broken, tmp_path).returncode != 0


def test_qemu_starts_nothing_but_itself() -> None:
    profile = file("strict", "qemu.apparmor")
    executing = [line.split() for line in profile.splitlines() if re.search(r"\S \w*x,$", line)]
    assert executing == [["@qemu-host-cpu-only@/bin/{,.}qemu-*", "ix,"]]


LACKING = {
    "kernel.io_uring_disabled": "Linux 6.6",
    "kernel.io_uring_group": "Linux 6.6",
    "kernel.kexec_load_disabled": "CONFIG_KEXEC",
    "kernel.sysrq": "CONFIG_MAGIC_SYSRQ",
    "kernel.unprivileged_bpf_disabled": "CONFIG_BPF_SYSCALL",
    "net.core.bpf_jit_harden": "CONFIG_BPF_JIT",
    "vm.unprivileged_userfaultfd": "CONFIG_USERFAULTFD",
}
"""Settings that the kernel of a test machine may lack, and what brings them; NixOS's kernel has all of it."""


@pytest.mark.parametrize("state", PROFILES)
def test_kernel_settings_exist(state: str) -> None:
    ours = {
        name
        for each in STATES[1 : STATES.index(state) + 1]
        for name in json.loads(phases.GOLDEN.read_text())[each].get("sysctl", {})
    }
    written = {line.partition("=")[0] for line in file(state, "sysctl.conf").splitlines()}
    assert ours <= written
    for name in ours:
        place = Path("/proc/sys", *name.split("."))
        folder = place.parent
        # A folder that is not there belongs to a part that this kernel lacks (yama, IPv6).
        assert place.exists() or not folder.exists() or name in LACKING, name


# Units.


@pytest.mark.nixpkgs
def test_services_of_setup_are_gone_when_hardened() -> None:
    select = """host: let
      hardened = host.config.specialisation.hardened.configuration;
    in [ host.config.systemd.services.welcome.enable hardened.systemd.services.welcome.enable ]"""
    module = """{
      hypervisor.security.setupServices = [ "welcome" ];
      systemd.services.welcome = { wantedBy = [ "multi-user.target" ]; script = "true"; };
    }"""
    assert example(select, module).value == [True, False]


@pytest.mark.nixpkgs
def test_locked_modules_leave_guests_what_they_need() -> None:
    select = """host: {
      inherit (host.config.boot) kernelModules;
      locked = host.config.security.lockKernelModules;
      service = host.config.systemd.services.disable-kernel-module-loading.after;
    }"""
    found = example(
        select, hardened("strict"), '{ hypervisor.security.preloadedModules = [ "nfs" ]; }'
    ).value
    assert found["locked"] is True
    assert "systemd-modules-load.service" in found["service"]
    assert "br_netfilter" not in found["kernelModules"]
    assert {"vhost_net", "tun", "nbd", "bridge", "vfio_pci", "nft_chain_nat", "nfs"} <= {
        *found["kernelModules"]
    }


@pytest.mark.nixpkgs
def test_usb_rules_reach_the_daemon() -> None:
    select = "host: { inherit (host.config.services.usbguard) enable rules presentDevicePolicy; }"
    rule = 'allow id 1050:0407 serial "1"'
    found = example(
        select, f"{{ hypervisor.security.usb = {{ enable = true; rules = ''{rule}''; }}; }}"
    ).value
    assert found == {
        "enable": True,
        "rules": f"allow with-interface one-of {{ 03:00:01 03:01:01 }}\n{rule}",
        "presentDevicePolicy": "allow",
    }
