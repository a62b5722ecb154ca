"""Raising the phase, and who can still log in: sshd and ssh-keygen are the real ones, the system is a folder."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hv.firstrun.logins import require_way_in
from hv.firstrun.phase import DECLARATION, PHASE_FILE, PhaseJob, boot_default, kernel_settings
from hv.firstrun.world import Journal, World
from installer.answers.model import Phase
from installer.errors import Exit, HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.render.host import phase_file
from installer.render.templates import load_templates
from tests.nixeval.phases import STATES
from tests.nixeval.sshd import sshd_lines

HASH = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
"""yescrypt, from crypt(5)'s own example."""
OPEN = "PubkeyAuthentication yes\nPasswordAuthentication yes\n"
STRICT = "PubkeyAuthentication yes\nPasswordAuthentication no\nAllowGroups wheel\n"
SWITCH = """#!/bin/sh
# What switch-to-configuration does that matters here: it becomes the current system, /etc and kernel settings follow.
set -eu
system=$(dirname "$(dirname "$(readlink -f "$0")")")
echo "$1 $system" >>{root}/switched
[ ! -e {root}/fail ] || {{ echo 'unit x.service failed' >&2; exit "$(cat {root}/fail)"; }}
ln -sfn "$system" {root}/run/current-system
mkdir -p {root}/proc/sys/kernel
echo "$(sed -n 's/^kernel.kptr_restrict=//p' "$system/etc/sysctl.d/60-nixos.conf")" >{root}/proc/sys/kernel/kptr_restrict
[ ! -e {root}/after ] || sh {root}/after
printf 'timeout 5\\ndefault %s\\n' "$(basename "$system").conf" >{root}/boot/loader/loader.conf
printf 'title x\\noptions init=%s/init quiet\\n' "$system" >"{root}/boot/loader/entries/$(basename "$system").conf"
"""

SSHD = """#!/bin/sh
exec unshare --map-root-user --mount sh -ec \'
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
exec /usr/sbin/sshd "$@"\' sh "$@"
"""


@dataclass(frozen=True)
class Host:
    world: World
    root: Path
    setup: Path
    hardened: Path

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def configure(self, sshd: str) -> None:
        (self.hardened / "etc/ssh/sshd_config").write_text(sshd + f"HostKey {self.root}/hostkey\n")

    def account(
        self, password: str = "!", shell: str = "/bin/sh", group: str = "wheel", expires: str = ""
    ) -> None:
        self.path("/etc/passwd").write_text(
            f"root:x:0:0::/root:/bin/sh\nada:x:1000:100:Ada:/home/ada:{shell}\n"
        )
        self.path("/etc/group").write_text(f"wheel:x:1:\nusers:x:100:\n{group}:x:1:ada\n")
        self.path("/etc/shadow").write_text(f"root:!:::::::\nada:{password}:1::::{'':s}:{expires}:\n")

    def key(self, text: str | None = None) -> None:
        file = self.path("/home/ada/.ssh/authorized_keys")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((self.root / "hostkey.pub").read_text() if text is None else text)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for folder in ("etc", "run", "bin", "nix/var/nix/profiles", "boot/loader/entries"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy("/bin/sh", tmp_path / "bin/sh")
    subprocess.run(
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "hostkey")), check=True
    )
    systems = []
    for name, kptr in (("system-setup", 0), ("system-hardened", 2)):
        system = tmp_path / "nix/store" / name
        (system / "etc/ssh").mkdir(parents=True)
        (system / "etc/sysctl.d").mkdir()
        (system / "etc/sysctl.d/60-nixos.conf").write_text(
            f"# generated\nkernel.kptr_restrict={kptr}\n-vm.x=1\n"
        )
        (system / "bin").mkdir()
        script = system / "bin/switch-to-configuration"
        script.write_text(SWITCH.format(root=tmp_path))
        script.chmod(0o755)
        (system / "etc/ssh/sshd_config").write_text(OPEN + f"HostKey {tmp_path}/hostkey\n")
        systems.append(system)
    setup, hardened = systems
    (setup / "specialisation").mkdir()
    (setup / "specialisation/hardened").symlink_to(hardened)
    (tmp_path / "nix/var/nix/profiles/system").symlink_to(setup)
    (tmp_path / "run/current-system").symlink_to(setup)
    # sshd insists on a folder in /run that this machine may not have: it gets one in a namespace of its own.
    sshd = tmp_path / "tools/sshd"
    sshd.parent.mkdir()
    sshd.write_text(SSHD)
    sshd.chmod(0o755)
    search = f"{sshd.parent}:{os.environ['PATH']}"
    world = World(
        programs=Runner(Log(tmp_path / "log", Redactor()), search), root=tmp_path, journal=Journal()
    )
    there = Host(world, tmp_path, setup, hardened)
    there.configure(STRICT)
    there.account()
    there.key()
    return there


JOB = PhaseJob(("ada",))


def test_raised_noted_and_read_back(host: Host) -> None:
    JOB.run(host.world)
    JOB.verify(host.world)
    note = json.loads(host.path(PHASE_FILE).read_text())
    assert (note["phase"], note["system"]) == ("hardened", str(host.hardened))
    assert host.path("/run/current-system").resolve() == host.hardened
    assert boot_default(host.world) == f"{host.hardened}/init"
    assert "the next nixos-rebuild" in host.world.journal.warnings[0]


def test_next_rebuild_keeps_the_phase(host: Host) -> None:
    templates = load_templates()
    declaration = host.path(DECLARATION)
    declaration.parent.mkdir()
    declaration.write_text(phase_file(Phase.setup, templates))
    JOB.run(host.world)
    assert declaration.read_text() == phase_file(Phase.hardened, templates)
    JOB.run(host.world)
    assert declaration.read_text() == phase_file(Phase.hardened, templates)
    assert host.world.journal.warnings == []


def test_declaration_changed_by_hand_is_left_alone(host: Host) -> None:
    declaration = host.path(DECLARATION)
    declaration.parent.mkdir()
    declaration.write_text("{ imports = [ ./mine.nix ]; }\n")
    JOB.run(host.world)
    assert declaration.read_text() == "{ imports = [ ./mine.nix ]; }\n"
    assert DECLARATION in host.world.journal.warnings[0]


def test_again_does_not_switch_again(host: Host) -> None:
    JOB.run(host.world)
    JOB.run(host.world)
    JOB.verify(host.world)
    assert host.path("/switched").read_text() == f"switch {host.hardened}\n"


def test_declared_hardened_needs_no_specialisation(host: Host) -> None:
    """After a rebuild with the phase in the configuration, the other phase is the specialisation."""
    profile = host.path("/nix/var/nix/profiles/system")
    profile.unlink()
    profile.symlink_to(host.hardened)
    (host.hardened / "specialisation").mkdir()
    (host.hardened / "specialisation/setup").symlink_to(host.setup)
    JOB.run(host.world)
    JOB.verify(host.world)
    assert host.world.journal.warnings == []


def test_nobody_is_locked_out_beforehand(host: Host) -> None:
    host.key("ssh-ed25519 not-a-key\n")
    with pytest.raises(HyperError) as refused:
        JOB.run(host.world)
    assert refused.value.code is Exit.lockout
    assert not host.path("/switched").exists()


def test_nobody_is_locked_out_afterwards(host: Host) -> None:
    host.path("/after").write_text(f"rm -f {host.root}/home/ada/.ssh/authorized_keys {host.root}/after\n")
    with pytest.raises(HyperError) as refused:
        JOB.run(host.world)
    assert refused.value.code is Exit.lockout
    assert host.path("/switched").read_text().splitlines() == [
        f"switch {host.hardened}",
        f"switch {host.setup}",
    ]
    assert host.path("/run/current-system").resolve() == host.setup
    assert not host.path(PHASE_FILE).exists()


def test_system_without_the_phase(host: Host) -> None:
    shutil.rmtree(host.setup / "specialisation")
    with pytest.raises(HyperError, match="no phase hardened"):
        JOB.run(host.world)


def test_switch_that_fails_is_quoted(host: Host) -> None:
    host.path("/fail").write_text("1")
    with pytest.raises(HyperError, match="Switching to system-hardened failed") as refused:
        JOB.run(host.world)
    assert "unit x.service failed" in refused.value.why


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("echo 1 >{root}/proc/sys/kernel/kptr_restrict", "kernel.kptr_restrict is 1 instead of 2"),
        ("ln -sfn {root}/nix/store/system-setup {root}/run/current-system", "/run/current-system is"),
        ("rm {root}/var/lib/hyper-nixos/phase.json", "phase.json is missing"),
        (
            "sed -i s/hardened/setup/ {root}/boot/loader/entries/system-hardened.conf",
            "the next boot starts",
        ),
    ],
)
def test_what_is_not_in_force_is_named(host: Host, change: str, word: str) -> None:
    JOB.run(host.world)
    JOB.verify(host.world)
    subprocess.run(("sh", "-c", change.format(root=host.root)), check=True)
    with pytest.raises(HyperError, match="not fully in force") as refused:
        JOB.verify(host.world)
    assert word in refused.value.why


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"loader/loader.conf": "preferred b.conf\ndefault nixos-*\n"}, "/b/init"),
        ({"loader/loader.conf": "timeout 3\ndefault a.conf\n"}, "/a/init"),
        ({"loader/loader.conf": "default c.conf\n"}, "/c/init"),
        ({"loader/loader.conf": "default z*\n"}, None),
        (
            {
                "grub/grub.cfg": "menuentry x {\n linux ($d)//kernel init=/g/init ro\n}\n linux y init=/h/init\n"
            },
            "/g/init",
        ),
        ({}, None),
    ],
)
def test_boot_default(host: Host, files: dict[str, str], found: str | None) -> None:
    for name in ("a.conf", "b.conf", "c+3-0.conf"):
        host.path(f"/boot/loader/entries/{name}").write_text(f"options init=/{name[0]}/init quiet\n")
    for file, text in files.items():
        host.path(f"/boot/{file}").parent.mkdir(exist_ok=True)
        host.path(f"/boot/{file}").write_text(text)
    assert boot_default(host.world) == found


# Ways in.


def ways(host: Host) -> tuple[str, ...]:
    return require_way_in(host.world, ("nobody-there", "ada"), host.hardened)


def obstacles(host: Host) -> str:
    with pytest.raises(HyperError) as refused:
        ways(host)
    assert refused.value.code is Exit.lockout
    return refused.value.why


def test_a_key_or_a_password_is_enough(host: Host) -> None:
    assert ways(host) == ("ada: over SSH, with 1 key(s)",)
    host.account(password=HASH)
    assert ways(host) == ("ada: with a password at the console", "ada: over SSH, with 1 key(s)")
    host.key("")
    assert ways(host) == ("ada: with a password at the console",)


@pytest.mark.parametrize(
    ("account", "word"),
    [
        ({"password": "!" + HASH}, "no password"),
        ({"password": ""}, "empty password"),
        ({"shell": "/sbin/nologin"}, "lets nobody in"),
        ({"shell": "/bin/none"}, "no shell"),
        ({"group": "other"}, "not in the group wheel"),
        ({"password": HASH, "expires": "1"}, "expired"),
    ],
)
def test_accounts_that_are_no_use(host: Host, account: dict[str, str], word: str) -> None:
    host.key("")
    host.account(**account)
    assert word in obstacles(host) and "nobody-there: there is no such account" in obstacles(host)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("PubkeyAuthentication no\n", "does not accept keys"),
        (STRICT + "AllowUsers grace\n", "AllowUsers"),
        (STRICT + "DenyUsers a*\n", "DenyUsers"),
        ("AllowUsers a* !ada\n", "AllowUsers"),
        (STRICT + "DenyGroups users\n", "DenyGroups"),
        ("AllowGroups other\n", "AllowGroups"),
        (OPEN + "AuthenticationMethods publickey,password\n", "sshd wants publickey,password"),
        (STRICT + "AuthorizedKeysFile /etc/keys/%u\n", "no usable key in"),
        (STRICT + "PubkeyAcceptedAlgorithms rsa-sha2-512\n", "no key of these kinds: ssh-ed25519"),
        (STRICT + "Match User ada\n  PubkeyAuthentication no\nMatch all\n", "does not accept keys"),
        ("NoSuchOption yes\n", "refuses its configuration"),
    ],
)
def test_configurations_that_shut_the_door(host: Host, config: str, word: str) -> None:
    host.configure(config)
    assert word in obstacles(host)


@pytest.mark.parametrize(
    "config",
    [
        "AllowUsers grace ada\n",
        "AllowUsers a?a@*\n",
        "AuthenticationMethods publickey\n",
        "AllowGroups w*\n",
        "PubkeyAcceptedAlgorithms ssh-ed25519,rsa-sha2-512\n",
    ],
)
def test_configurations_that_leave_it_open(host: Host, config: str) -> None:
    host.configure(config)
    assert ways(host) == ("ada: over SSH, with 1 key(s)",)


@pytest.mark.parametrize("state", STATES)
def test_every_profile_lets_an_administrator_with_a_key_in(host: Host, state: str) -> None:
    """The job that raises the phase, asking the real sshd about the evaluated settings of each profile."""
    host.configure("".join(f"{line}\n" for line in sshd_lines(state)))
    assert ways(host) == ("ada: over SSH, with 1 key(s)",)
    host.account(group="hv-admins", password=HASH)
    assert "not in the group wheel" in obstacles(host)


@pytest.mark.parametrize("state", STATES)
def test_an_old_kind_of_key_is_refused_before_the_switch(host: Host, state: str) -> None:
    key = host.root / "rsa"
    subprocess.run(("ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", str(key)), check=True)
    host.key(key.with_suffix(".pub").read_text())
    host.configure("".join(f"{line}\n" for line in sshd_lines(state)))
    if state == "paranoid":
        assert "no key of these kinds: ssh-rsa" in obstacles(host)
    else:
        assert ways(host) == ("ada: over SSH, with 1 key(s)",)


def test_keys_that_the_system_carries(host: Host) -> None:
    """NixOS puts them into the toplevel's own /etc."""
    host.configure(STRICT + "AuthorizedKeysFile %h/.ssh/none /etc/ssh/authorized_keys.d/%u\n")
    keys = host.hardened / "etc/ssh/authorized_keys.d"
    keys.mkdir()
    (keys / "ada").write_text((host.root / "hostkey.pub").read_text())
    assert ways(host) == ("ada: over SSH, with 1 key(s)",)


def test_no_ssh_server_at_all(host: Host) -> None:
    (host.hardened / "etc/ssh/sshd_config").unlink()
    assert "no SSH server" in obstacles(host)


def test_what_is_root_s_alone_is_not_told_to_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The boot partition of an installed host is closed to all but root, and so are some settings of the kernel."""
    host.path("/boot/loader/entries").mkdir(parents=True, exist_ok=True)
    host.path("/boot/loader/loader.conf").write_text("default a.conf\n")
    setting = host.path("/proc/sys/net/core/bpf_jit_harden")
    setting.parent.mkdir(parents=True, exist_ok=True)
    setting.write_text("0\n")
    file = host.path("/settings.conf")
    file.write_text("net.core.bpf_jit_harden=2\n")
    assert kernel_settings(host.world, file) == ["net.core.bpf_jit_harden is 0 instead of 2"]
    real = Path.read_text

    def read_text(path: Path, *given: Any, **named: Any) -> str:
        if path.name in ("loader.conf", "bpf_jit_harden"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *given, **named)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert boot_default(host.world) is None
    assert kernel_settings(host.world, file) == []
