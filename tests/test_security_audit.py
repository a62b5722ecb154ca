"""The audit: nothing on a clean host, each planted fault on a spoilt one; sshd is the real one, SARIF is checked by its
schema. tests/test_security_phase.py looks at a running machine.
"""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from hv.firstrun.world import Clock, Journal, World
from hv.guard.state import FOLDER, Pending, StateFolder
from hv.security.audit.accounts import ROOT_GROUPS
from hv.security.audit.check import Severity
from hv.security.audit.checks import CHECKS
from hv.security.audit.report import Result, Verdict, audit, document, sarif, score, text
from hv.security.audit.view import View
from hv.security.table import FILE
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from tests.nixeval.nix import REPOSITORY
from tests.nixeval.phases import FILES
from tests.nixeval.sshd import sshd_lines
from tests.test_firstrun_phase import SSHD

STATE = "strict"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LISTENING = "  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1\n"
INSIDE = "  1: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 2\n"
HEAD = "  sl  local_address rem_address st\n"
RULES = "table inet nixos-fw {\n  chain input {\n    type filter hook input priority filter; policy drop;\n  }\n}\n"
HASH = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"


class Host:
    """A copied root: files, and what programs said."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)

    def replace(self, path: str, old: str, new: str) -> None:
        place = self.root / path.lstrip("/")
        found = place.read_text()
        assert old in found, path
        place.write_text(found.replace(old, new))

    def add(self, path: str, line: str) -> None:
        with (self.root / path.lstrip("/")).open("a") as file:
            file.write(line + "\n")

    def mode(self, path: str, mode: int) -> None:
        (self.root / path.lstrip("/")).chmod(mode)

    def sysctl(self, name: str, value: str) -> None:
        self.write(f"/proc/sys/{name.replace('.', '/')}", value + "\n")


def clean(root: Path) -> Host:
    """A host in phase hardened, profile strict, as it evaluates, with nothing wrong."""
    host = Host(root)
    system = "/nix/store/hardened"
    said = json.loads((FILES / STATE / "security.json").read_text())
    name = said["administrators"][0]
    host.write(f"{system}/{FILE}", json.dumps(said))
    host.write(f"{system}/etc/sysctl.d/60-nixos.conf", (FILES / STATE / "sysctl.conf").read_text())
    for link in ("run/current-system", "nix/var/nix/profiles/system"):
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(root / system.lstrip("/"))
    for key, value in said["table"]["sysctl"].items():
        if "*" not in key:
            host.sysctl(key.removeprefix("-"), str(int(value) if isinstance(value, bool) else value))
    for key, value in (("kernel.randomize_va_space", "2"), ("kernel.modules_disabled", "1")):
        host.sysctl(key, value)
    host.write("/proc/sys/kernel/hostname", "kvm1\n")
    host.write("/proc/cmdline", " ".join(said["table"]["kernel"]) + "\n")
    for protocol in ("tcp", "udp"):
        host.write(f"/proc/net/{protocol}", HEAD + (LISTENING + INSIDE if protocol == "tcp" else ""))
    host.write(
        "/proc/mounts",
        "/dev/sda2 / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0\n"
        "tmpfs /tmp tmpfs rw,nosuid,nodev 0 0\n/dev/sda1 /boot vfat rw,fmask=0077,dmask=0077 0 0\n",
    )
    host.write("/boot/loader/loader.conf", "default x.conf\n")
    host.write("/boot/loader/entries/x.conf", f"options init={root}{system}/init\n")
    host.write("/etc/passwd", f"root:x:0:0::/root:/bin/sh\n{name}:x:1000:100::/home/{name}:/bin/sh\n")
    host.write("/etc/shadow", f"root:!:::::::\n{name}:{HASH}:::::::\n", 0o640)
    host.write("/etc/group", f"wheel:x:1:{name}\nlibvirtd:x:67:\n")
    host.write("/etc/sudoers", (FILES / STATE / "sudoers").read_text(), 0o640)
    host.write("/etc/nixos/configuration.nix", "{ }\n")
    host.write(
        "/etc/nixos/flake.lock",
        json.dumps({"nodes": {"nixpkgs": {"locked": {"lastModified": int(NOW.timestamp()) - 86400}}}}),
    )
    host.write("/etc/nix/nix.conf", "sandbox = true\ntrusted-users = root\nrequire-sigs = true\n")
    key = root / "etc/ssh/ssh_host_ed25519_key"
    key.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
    lines = [line for line in sshd_lines(STATE) if not line.startswith("Include")]
    host.write("/etc/ssh/sshd_config", "".join(f"{line}\n" for line in (f"HostKey {key}", *lines)))
    host.write(f"/home/{name}/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), 0o600)
    (root / f"home/{name}").chmod(0o700)
    (root / "root").mkdir(mode=0o700)
    (root / "var/log/journal").mkdir(parents=True)
    (root / "var/lib/hyper-nixos/secrets").mkdir(parents=True, mode=0o700)
    for wrapper in said["table"]["setuid"]:
        host.write(f"/run/wrappers/bin/{wrapper}", "", 0o755)
    host.write("/sys/module/apparmor/parameters/enabled", "Y\n")
    host.write("/sys/kernel/security/apparmor/profiles", "hyper-nixos-qemu (enforce)\n")
    host.write("/sys/firmware/efi/efivars/SecureBoot-8be4df61", b"\x06\0\0\0\x01")
    rules = "".join(f"{rule}\n" for rule in said["table"]["audit"])
    for words, output in (
        ("nft list ruleset", RULES),
        ("systemctl is-active auditd.service", "active\n"),
        ("auditctl -l", rules),
        ("systemctl list-units --failed --plain --no-legend", ""),
        ("systemd-analyze security --no-pager", "hvd.service 2.1 OK\nsshd.service 9.2 UNSAFE\n"),
    ):
        host.write(f"/commands/{words}", output)
    tools = root / "tools/sshd"
    host.write("/tools/sshd", SSHD, 0o755)
    assert tools.exists()
    return host


def look(root: Path) -> dict[str, Result]:
    search = f"{root}/tools:{os.environ['PATH']}"
    world = World(
        programs=Runner(NoLog(), search), root=root, clock=Clock(now=lambda: NOW), journal=Journal()
    )
    return {each.check.id: each for each in audit(View(world))}


def failed(root: Path) -> dict[str, tuple[str, ...]]:
    return {name: each.evidence for name, each in look(root).items() if each.verdict is Verdict.failed}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return clean(tmp_path)


def test_nothing_on_a_clean_host(host: Host) -> None:
    """Every check has looked, and found nothing."""
    found = look(host.root)
    assert {name: each.evidence for name, each in found.items() if each.verdict is not Verdict.passed} == {}
    assert score(list(found.values())) == 100


SSH = "/etc/ssh/sshd_config"


def _ssh(line: str) -> Callable[[Host], None]:
    """The first value counts."""

    def plant(host: Host) -> None:
        host.write(SSH, line + "\n" + (host.root / SSH.lstrip("/")).read_text())

    return plant


def _phase_setup(host: Host) -> None:
    host.replace(f"/nix/store/hardened/{FILE}", '"phase": "hardened"', '"phase": "setup"')


def _waiting(host: Host) -> None:
    StateFolder(host.root / FOLDER.lstrip("/")).wait(
        Pending(
            previous="/nix/store/before",
            incoming="/nix/store/hardened",
            permanent=False,
            seconds=600,
            boot="boot",
            until=NOW,
            what="profile strict",
        )
    )


FAULTS: dict[str, tuple[Callable[[Host], None], str]] = {
    "phase": (_phase_setup, "phase setup runs"),
    "phase-waiting": (_waiting, "profile strict waits to be confirmed until 12:00:00 UTC"),
    "kernel-ptrace": (lambda host: host.sysctl("kernel.yama.ptrace_scope", "0"), "ptrace_scope is 0"),
    "kernel-pointers": (lambda host: host.sysctl("kernel.kptr_restrict", "0"), "kptr_restrict is 0"),
    "kernel-bpf": (
        lambda host: host.sysctl("kernel.unprivileged_bpf_disabled", "0"),
        "unprivileged_bpf_disabled is 0",
    ),
    "kernel-links": (lambda host: host.sysctl("fs.protected_symlinks", "0"), "protected_symlinks is 0"),
    "kernel-declared": (lambda host: host.sysctl("vm.swappiness", "99"), "vm.swappiness"),
    "ssh-tries": (_ssh("MaxAuthTries 9"), "MaxAuthTries is 9"),
    "ssh-environment": (_ssh("PermitUserEnvironment yes"), "PermitUserEnvironment is yes"),
    "users-ids": (
        lambda host: host.add("/etc/passwd", "twin:x:1000:100::/nowhere:/bin/sh"),
        "twin and",
    ),
    "users-hashes": (
        lambda host: host.replace("/etc/shadow", HASH, "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/"),
        "a method that is broken",
    ),
    "mounts-tmp": (
        lambda host: host.replace("/proc/mounts", "/tmp tmpfs rw,nosuid", "/tmp tmpfs rw"),
        "/tmp is mounted without nosuid",
    ),
    "users-way-in": (lambda host: host.write("/etc/group", "wheel:x:1:\n"), "nobody is in wheel"),
    "kernel-aslr": (lambda host: host.sysctl("kernel.randomize_va_space", "0"), "is 0 instead of 2"),
    "kernel-core-dumps": (lambda host: host.sysctl("fs.suid_dumpable", "1"), "fs.suid_dumpable is 1"),
    "kernel-redirects": (
        lambda host: host.sysctl("net.ipv4.conf.all.accept_redirects", "1"),
        "accept_redirects is 1",
    ),
    "boot-parameters": (
        lambda host: host.replace("/proc/cmdline", "init_on_alloc=1", ""),
        "init_on_alloc=1",
    ),
    "boot-protections": (lambda host: host.add("/proc/cmdline", "mitigations=off"), "mitigations=off"),
    "boot-modules": (lambda host: host.sysctl("kernel.modules_disabled", "0"), "modules_disabled is 0"),
    "boot-secure": (
        lambda host: host.write("/sys/firmware/efi/efivars/SecureBoot-8be4df61", b"\x06\0\0\0\0"),
        "the firmware starts whatever",
    ),
    "boot-partition": (lambda host: host.replace("/proc/mounts", "fmask=0077", "fmask=0022"), "/boot can"),
    "ssh-root": (_ssh("PermitRootLogin yes"), "PermitRootLogin is yes"),
    "ssh-passwords": (_ssh("PasswordAuthentication yes"), "PasswordAuthentication is yes"),
    "ssh-empty": (_ssh("PermitEmptyPasswords yes"), "PermitEmptyPasswords is yes"),
    "ssh-algorithms": (_ssh("Ciphers aes256-ctr,aes128-cbc"), "aes128-cbc"),
    "ssh-ports": (_ssh("Port 22\nPort 2222"), "2222"),
    "ssh-host-keys": (lambda host: host.mode("/etc/ssh/ssh_host_ed25519_key", 0o640), "mode 0640"),
    "ssh-authorized-keys": (
        lambda host: host.mode("/home/NAME/.ssh/authorized_keys", 0o666),
        "may add keys",
    ),
    "users-root": (lambda host: host.add("/etc/passwd", "toor:x:0:0::/:/bin/sh"), "toor has uid 0"),
    "users-empty": (lambda host: host.add("/etc/shadow", "root::::::::"), "root needs no password"),
    "users-groups": (
        lambda host: host.replace("/etc/group", "libvirtd:x:67:", "libvirtd:x:67:NAME"),
        "libvirtd",
    ),
    "users-administrators": (
        lambda host: host.replace("/etc/group", "wheel:x:1:", "wheel:x:1:mallory,"),
        "mallory is in wheel",
    ),
    "users-homes": (lambda host: host.mode("/home/NAME", 0o755), "mode 0755"),
    "sudo": (lambda host: host.add("/etc/sudoers", "NAME ALL=(ALL) NOPASSWD: ALL"), "NOPASSWD"),
    "firewall": (lambda host: host.write("/commands/nft list ruleset", ""), "drops what nobody"),
    "ports": (
        lambda host: host.add("/proc/net/tcp", LISTENING.replace("0016", "1F90").rstrip()),
        "tcp 8080 at 0.0.0.0",
    ),
    "files-secrets": (lambda host: host.mode("/etc/shadow", 0o644), "/etc/shadow has mode 0644"),
    "files-accounts": (lambda host: host.mode("/etc/nixos", 0o777), "/etc/nixos has mode 0777"),
    "mounts-shm": (
        lambda host: host.replace("/proc/mounts", "/dev/shm tmpfs rw,nosuid", "/dev/shm tmpfs rw"),
        "nosuid",
    ),
    "audit-daemon": (
        lambda host: host.write("/commands/systemctl is-active auditd.service", "inactive\n"),
        "is inactive",
    ),
    "audit-rules": (lambda host: host.replace("/commands/auditctl -l", "key=identity", "key=x"), "identity"),
    "apparmor": (
        lambda host: host.write("/sys/kernel/security/apparmor/profiles", "hyper-nixos-qemu (complain)\n"),
        "is not in state enforce",
    ),
    "updates": (
        lambda host: host.replace("/etc/nixos/flake.lock", str(int(NOW.timestamp()) - 86400), "1700000000"),
        "days old",
    ),
    "services-failed": (
        lambda host: host.write(
            "/commands/systemctl list-units --failed --plain --no-legend",
            "x.service loaded failed failed X\n",
        ),
        "x.service has failed",
    ),
    "services-exposure": (
        lambda host: host.replace(
            "/commands/systemd-analyze security --no-pager", "hvd.service 2.1", "hvd.service 8.1"
        ),
        "exposure of 8.1",
    ),
    "services-setuid": (lambda host: host.write("/run/wrappers/bin/evil", ""), "evil is not declared"),
    "nix-daemon": (lambda host: host.replace("/etc/nix/nix.conf", "= root", "= root eve"), "eve may do"),
    "phase-next-boot": (
        lambda host: host.replace("/boot/loader/entries/x.conf", "hardened", "setup"),
        "the next boot starts",
    ),
    "journal": (lambda host: (host.root / "var/log/journal").rmdir(), "gone after a reboot"),
}
"""Check that finds it: how it is planted, and a word of the evidence. NAME is the administrator's."""
ALSO = {
    f"kernel-{name}": {"kernel-declared"}
    for name in ("bpf", "core-dumps", "links", "pointers", "ptrace", "redirects")
}
"""What a fault breaks besides."""
TOGETHER = {name: plant for name, (plant, _) in FAULTS.items() if name not in ("users-way-in", "phase")}
"""Those that do not exclude others: nobody is no unknown administrator, and in phase setup less is declared."""


class Named(Host):
    """The same with the administrator's name in paths and lines."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.root)
        said = json.loads((FILES / STATE / "security.json").read_text())
        self.name = said["administrators"][0]

    def mode(self, path: str, mode: int) -> None:
        super().mode(path.replace("NAME", self.name), mode)

    def add(self, path: str, line: str) -> None:
        super().add(path, line.replace("NAME", self.name))

    def replace(self, path: str, old: str, new: str) -> None:
        super().replace(path, old, new.replace("NAME", self.name))


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_found_and_nothing_else(host: Host, name: str) -> None:
    plant, word = FAULTS[name]
    plant(Named(host))
    found = failed(host.root)
    assert set(found) == {name} | ALSO.get(name, set())
    assert word in " ".join(found[name])


def test_all_planted_faults_are_found_together(
    host: Host, record_property: Callable[[str, object], None]
) -> None:
    assert set(FAULTS) == {check.id for check in CHECKS}, "each check is shown to find something"
    for plant in TOGETHER.values():
        plant(Named(host))
    found = failed(host.root)
    assert set(TOGETHER) <= set(found)
    assert score(list(look(host.root).values())) < 50
    record_property("proved", f"{len(TOGETHER)} planted faults found of {len(CHECKS)} checks")


def test_every_check_says_why_and_what_to_do() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.title and check.why.endswith(".") and check.remedy


def test_groups_are_those_that_the_modules_forbid() -> None:
    forbidden = json.loads((REPOSITORY / "nix/modules/privileges/forbidden-groups.json").read_text())
    assert set(ROOT_GROUPS) == set(forbidden)


def test_what_cannot_be_looked_at_is_said_and_costs_nothing(host: Host) -> None:
    (host.root / "commands/nft list ruleset").unlink()
    (host.root / "proc/net/udp").unlink()
    results = look(host.root)
    assert {name for name, each in results.items() if each.verdict is Verdict.unknown} == {
        "firewall",
        "ports",
    }
    assert score(list(results.values())) == 100


def test_text_in_eighty_columns(host: Host) -> None:
    for plant in TOGETHER.values():
        plant(Named(host))
    shown = text(list(look(host.root).values()), "kvm1", everything=True)
    assert max(map(len, shown.splitlines())) <= 80
    severities = [line[1:].partition("]")[0] for line in shown.splitlines() if line.startswith("[")]
    order = list(Severity)
    assert severities == sorted(severities, key=lambda name: order.index(Severity(name)))
    assert "see:   CIS 5.1.20, BSI SYS.1.3.A8" in shown


def test_json_and_sarif(host: Host) -> None:
    for plant in TOGETHER.values():
        plant(Named(host))
    (host.root / "commands/auditctl -l").unlink()
    results = list(look(host.root).values())
    found = document(results, "kvm1")
    assert found["version"] == 1 and {each["verdict"] for each in found["checks"]} == {*Verdict}
    schema = json.loads((REPOSITORY / "tests/golden/sarif.json").read_text())
    check = jsonschema.Draft4Validator(schema)
    log = json.loads(json.dumps(sarif(results, "kvm1", "0.1.0")))
    check.validate(log)
    run = log["runs"][0]
    assert {each["ruleId"] for each in run["results"]} == set(failed(host.root))
    for each in run["results"]:
        assert run["tool"]["driver"]["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
    assert run["invocations"][0]["toolExecutionNotifications"][0]["descriptor"]["id"] == "audit-rules"
    # The schema can fail.
    log["runs"][0]["results"][0]["level"] = "dreadful"
    with pytest.raises(jsonschema.ValidationError):
        check.validate(log)
