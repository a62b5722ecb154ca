"""The checks. Each yields evidence of faults, from what is, not from what is configured.

Numbers of CIS are those of the CIS Debian Linux 12 Benchmark, numbers of BSI those of the IT-Grundschutz module SYS.1.3
(edition 2022). A check without a number is in neither, or its number could not be confirmed.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain

from hv.firstrun.phase import HARDENED, boot_default, kernel_settings
from hv.guard.state import FOLDER, StateFolder
from hv.security import phases
from hv.security.audit.view import Look, NotLookedAtError, View
from installer.logins import WHEEL

OLD = timedelta(days=60)
"""An age of nixpkgs at which known holes are open."""
WEAK = re.compile(r"cbc|3des|arcfour|blowfish|md5|umac-64|sha1(?!\d)|group1-|group14-sha1")
"""Ciphers, MACs and key exchanges that are broken or too short (RFC 8758, RFC 9142)."""
ROOT_GROUPS = (
    "disk",
    "docker",
    "hvd",
    "incus-admin",
    "input",
    "kmem",
    "libvirtd",
    "lxd",
    "podman",
    "qemu-libvirtd",
    "shadow",
    "swtpm",
)
"""Whose members are root, or read what only root may (nix/modules/privileges/forbidden-groups.json)."""
WRITABLE_BY_OTHERS = 0o022
OFF = re.compile(
    r"mitigations=off|nopti|nospectre_v[12]|nospec_store_bypass_disable|nokaslr|apparmor=0|audit=0|"
    r"(rd\.)?systemd\.debug[-_]shell(=1)?|init=/bin/.*|ima_appraise=off|kvm-intel\.vmentry_l1d_flush=never"
)
"""Kernel parameters that switch a protection off, or open a shell for whoever stands at the machine."""


class Severity(StrEnum):
    """How bad a fault is."""

    critical = "critical"
    """Whoever finds it is in."""
    high = "high"
    """One step from it."""
    medium = "medium"
    """Helps somebody who is in already."""
    low = "low"
    """Good to have."""


WEIGHTS = {Severity.critical: 10, Severity.high: 5, Severity.medium: 3, Severity.low: 1}


@dataclass(frozen=True)
class Check:
    """One thing that is looked at."""

    id: str
    """Stable name."""
    title: str
    """What should be so."""
    severity: Severity
    why: str
    """What could happen otherwise."""
    remedy: str
    look: Look
    cis: tuple[str, ...] = ()
    bsi: tuple[str, ...] = ()


def _least(*wanted: tuple[str, int]) -> Look:
    """Kernel settings with at least these values."""

    def look(view: View) -> Iterator[str]:
        for name, value in wanted:
            found = view.setting(name)
            if not found.lstrip("-").isdigit() or int(found) < value:
                yield f"{name} is {found}; {value} is wanted, or more"

    return look


def _exactly(*wanted: tuple[str, str]) -> Look:
    """Kernel settings with these values."""

    def look(view: View) -> Iterator[str]:
        for name, value in wanted:
            if (found := view.setting(name)) != value:
                yield f"{name} is {found} instead of {value}"

    return look


def _ssh(keyword: str, wanted: str) -> Look:
    def look(view: View) -> Iterator[str]:
        if (found := view.ssh(keyword)) != wanted:
            yield f"sshd's {keyword} is {found or 'not set'} instead of {wanted}"

    return look


def _modes(*wanted: tuple[str, int]) -> Look:
    """Files with no more than these permission bits."""

    def look(view: View) -> Iterator[str]:
        for name, most in wanted:
            mode = view.mode(name)
            if mode is not None and mode & ~most:
                yield f"{name} has mode {mode:04o}; {most:04o} is enough"

    return look


def _phase(view: View) -> Iterator[str]:
    if view.declared.phase != HARDENED:
        yield f"phase {view.declared.phase} runs"


def _waiting(view: View) -> Iterator[str]:
    waiting = StateFolder(view.path(FOLDER)).pending()
    if waiting:
        yield f"{waiting.what or waiting.kind} waits to be confirmed until {waiting.until:%H:%M:%S} UTC"


def _next_boot(view: View) -> Iterator[str]:
    now = phases.running(view.world)
    default = boot_default(view.world)
    if now is None or default is None:
        raise NotLookedAtError("the boot loader's files do not say what boots next")
    following = next(
        (each for each in phases.systems(view.world) if f"{each.toplevel}/init" == default), None
    )
    if now.phase == HARDENED and (following is None or following.phase != HARDENED):
        yield f"the next boot starts {following.title if following else default}"


def _declared_settings(view: View) -> Iterator[str]:
    toplevel = view.path("/run/current-system").resolve()
    yield from kernel_settings(view.world, toplevel / "etc/sysctl.d/60-nixos.conf")


def _declared_parameters(view: View) -> Iterator[str]:
    given = view.text("/proc/cmdline").split()
    for name in view.declared.table.get("kernel", {}):
        if name not in given:
            yield f"the kernel was started without {name}"


def _parameters_off(view: View) -> Iterator[str]:
    for word in view.text("/proc/cmdline").split():
        if OFF.fullmatch(word):
            yield f"the kernel was started with {word}"


def _modules_locked(view: View) -> Iterator[str]:
    if (
        view.declared.table.get("locked", {}).get("modules")
        and view.setting("kernel.modules_disabled") != "1"
    ):
        yield "kernel.modules_disabled is 0 although the profile locks modules after boot"


def _ssh_passwords(view: View) -> Iterator[str]:
    for keyword in ("PasswordAuthentication", "KbdInteractiveAuthentication"):
        if view.ssh(keyword) != "no":
            yield f"sshd's {keyword} is {view.ssh(keyword)}"


def _ssh_tries(view: View) -> Iterator[str]:
    tries = view.ssh("MaxAuthTries")
    if not tries.isdigit() or int(tries) > 4:
        yield f"sshd's MaxAuthTries is {tries}; 4 is enough"


def _ssh_algorithms(view: View) -> Iterator[str]:
    for keyword in ("Ciphers", "MACs", "KexAlgorithms"):
        weak = [name for name in view.ssh(keyword).split(",") if WEAK.search(name)]
        if weak:
            yield f"sshd's {keyword}: {', '.join(weak)}"


def _ssh_ports(view: View) -> Iterator[str]:
    ports = {int(port) for port in view.sshd.get("port", ()) if port.isdigit()}
    if extra := ports - set(view.declared.ports.ssh):
        yield f"sshd listens on {', '.join(map(str, sorted(extra)))}, which is not declared"


def _host_keys(view: View) -> Iterator[str]:
    for file in sorted(view.path("/etc/ssh").glob("*_key")):
        mode = view.mode(f"/etc/ssh/{file.name}")
        if mode is not None and mode & 0o077:
            yield f"/etc/ssh/{file.name} has mode {mode:04o}"


def _authorized_keys(view: View) -> Iterator[str]:
    for account in view.accounts:
        for name in (f"{account.home}/.ssh/authorized_keys", f"/etc/ssh/authorized_keys.d/{account.name}"):
            mode = view.mode(name)
            if mode is None:
                continue
            if mode & WRITABLE_BY_OTHERS:
                yield f"{name} has mode {mode:04o}: others may add keys"
            if "ssh-dss " in view.text(name):
                yield f"{name} has a DSA key"


def _root_twins(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.uid == 0 and account.name != "root":
            yield f"{account.name} has uid 0"


def _same_ids(view: View) -> Iterator[str]:
    seen: dict[int, str] = {}
    for account in view.accounts:
        if account.uid in seen and account.uid != 0:
            yield f"{account.name} and {seen[account.uid]} share uid {account.uid}"
        seen.setdefault(account.uid, account.name)


def _empty_passwords(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.hash == "":
            yield f"{account.name} needs no password"


def _weak_hashes(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.hash and re.match(r"\$(1|2a?|md5)\$|[./0-9A-Za-z]{13}$", account.hash):
            yield f"{account.name}'s password is hashed with a method that is broken"


def _root_groups(view: View) -> Iterator[str]:
    for group in ROOT_GROUPS:
        if members := [name for name in view.groups.get(group, ()) if name not in ("root", "hvd")]:
            people = [
                each for each in members if any(a.name == each and a.uid >= 1000 for a in view.accounts)
            ]
            if people:
                yield f"{', '.join(people)} in the group {group}"


def _unknown_administrators(view: View) -> Iterator[str]:
    known = set(view.declared.administrators)
    if not known:
        return  # a system for any host: its people are not declared
    for name in view.groups.get(WHEEL, ()):
        if name not in known and name != "root":
            yield f"{name} is in {WHEEL}, and is not declared there"


def _sudo(view: View) -> Iterator[str]:
    secrets = {account.name: account.hash for account in view.accounts}
    for line in view.text("/etc/sudoers").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if "!authenticate" in line:
            yield f"sudoers: {line.strip()}"
            continue
        asked = (secrets.get(words[0]) or "!").startswith("$") or words[0] in ("ALL", f"%{WHEEL}")
        # Who has no password cannot be asked for one.
        if asked and re.search(r"NOPASSWD:(\s|SETENV:)*ALL\b", line):
            yield f"sudoers: {line.strip()}"


def _firewall(view: View) -> Iterator[str]:
    rules = view.ask("nft", "list", "ruleset")
    if not re.search(r"hook input [^}]*?policy drop", rules):
        yield "no table's input chain drops what nobody asked for"


def _open_ports(view: View) -> Iterator[str]:
    ports = view.declared.ports
    every = (ports, *ports.interfaces.values())
    allowed = {
        "tcp": {*ports.ssh, *chain.from_iterable(each.tcp for each in every)},
        "udp": set(chain.from_iterable(each.udp for each in every)),
    }
    ranges = {
        "tcp": [each for some in every for each in some.tcpRanges],
        "udp": [each for some in every for each in some.udpRanges],
    }
    # DHCP and DHCPv6 clients; the neighbours' names, which the firewall keeps in.
    allowed["udp"] |= {68, 546}
    seen = set()
    for each in view.listeners:
        inside = any(span["from"] <= each.port <= span["to"] for span in ranges[each.protocol])
        if each.reachable and each.port not in allowed[each.protocol] and not inside:
            seen.add(f"{each.protocol} {each.port} at {each.address} is not among the declared ports")
    yield from sorted(seen)


def _mount(place: str, *options: str) -> Look:
    def look(view: View) -> Iterator[str]:
        if place in view.mounts:
            missing = [option for option in options if option not in view.mounts[place][1]]
            if missing:
                yield f"{place} is mounted without {', '.join(missing)}"

    return look


def _boot_readable(view: View) -> Iterator[str]:
    for place in ("/boot", "/boot/efi", "/efi"):
        kind, options = view.mounts.get(place, ("", frozenset()))
        if kind == "vfat" and not {"fmask=0077", "fmask=0177", "umask=0077"} & options:
            yield f"{place} can be read by everybody: it holds the seed of random numbers and maybe passphrases' hashes"


def _auditd(view: View) -> Iterator[str]:
    state = view.ask("systemctl", "is-active", "auditd.service").strip()
    if state != "active":
        yield f"auditd.service is {state}"


def _audit_rules(view: View) -> Iterator[str]:
    loaded = view.ask("auditctl", "-l")
    keys = {
        key for rule in view.declared.table.get("audit", {}) for key in re.findall(r"-F key=(\S+)", rule)
    }
    for key in sorted(keys):
        if not re.search(rf"(-F key=|-k ){re.escape(key)}\b", loaded):
            yield f"no rule with the key {key} is loaded"


def _apparmor(view: View) -> Iterator[str]:
    wanted = view.declared.table.get("apparmor", {})
    if not wanted:
        return
    if view.text("/sys/module/apparmor/parameters/enabled").strip() != "Y":
        yield "AppArmor is not in force: the kernel was started without it"
        return
    loaded = view.text("/sys/kernel/security/apparmor/profiles")
    for name, state in wanted.items():
        if f"{name} ({state})" not in loaded:
            yield f"the profile {name} is not in state {state}"


def _secure_boot(view: View) -> Iterator[str]:
    folder = view.path("/sys/firmware/efi/efivars")
    found = sorted(folder.glob("SecureBoot-*")) if folder.is_dir() else []
    if not found:
        raise NotLookedAtError("this machine was not started by UEFI, or does not say")
    if found[0].read_bytes()[-1:] != b"\x01":
        yield "the firmware starts whatever lies on the disk"


def _age(view: View) -> Iterator[str]:
    nodes = json.loads(view.text("/etc/nixos/flake.lock")).get("nodes", {})
    stamp = nodes.get("nixpkgs", {}).get("locked", {}).get("lastModified")
    if stamp is None:
        raise NotLookedAtError("/etc/nixos/flake.lock does not say how old nixpkgs is")
    old = view.now - datetime.fromtimestamp(stamp, UTC)
    if old > OLD:
        yield f"nixpkgs in /etc/nixos/flake.lock is {old.days} days old"


def _failed_units(view: View) -> Iterator[str]:
    listed = view.ask("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    for line in listed.splitlines():
        if line.strip():
            yield f"{line.split()[0]} has failed"


def _exposure(view: View) -> Iterator[str]:
    for line in view.ask("systemd-analyze", "security", "--no-pager").splitlines():
        words = line.split()
        # Those of our services that people reach.
        if len(words) > 1 and words[0] in ("hvd.service",) and float(words[1]) > 3.0:
            yield f"{words[0]} has an exposure of {words[1]}"


def _wrappers(view: View) -> Iterator[str]:
    folder = view.path("/run/wrappers/bin")
    if not folder.is_dir():
        raise NotLookedAtError("/run/wrappers/bin is not there")
    known = set(view.declared.table.get("setuid", {}))
    for file in sorted(folder.iterdir()):
        if file.name not in known and not file.name.endswith(".real"):
            yield f"/run/wrappers/bin/{file.name} is not declared"


def _nix_users(view: View) -> Iterator[str]:
    for line in view.text("/etc/nix/nix.conf").splitlines():
        name, _, value = line.partition("=")
        if name.strip() in ("trusted-users", "extra-trusted-users"):
            for user in value.split():
                if user not in ("root", f"@{WHEEL}"):
                    yield f"{user} may do as root what it likes through the Nix daemon ({name.strip()})"
        if name.strip() == "sandbox" and value.strip() != "true":
            yield f"builds run with sandbox = {value.strip()}"
        if name.strip() == "require-sigs" and value.strip() != "true":
            yield "packages are taken without a signature"


def _writable_homes(view: View) -> Iterator[str]:
    for account in view.accounts:
        if account.uid >= 1000 and account.home.startswith("/home/"):
            mode = view.mode(account.home)
            if mode is not None and mode & 0o027:
                yield f"{account.home} has mode {mode:04o}; 0750 is enough"


def _journal(view: View) -> Iterator[str]:
    if not view.path("/var/log/journal").is_dir():
        yield "/var/log/journal is not there: the journal is gone after a reboot"


def _way_in(view: View) -> Iterator[str]:
    members = [name for name in view.groups.get(WHEEL, ()) if name != "root"]
    if not members:
        yield f"nobody is in {WHEEL}"


CHECKS: tuple[Check, ...] = (
    Check(
        "phase",
        "The host is in phase hardened",
        Severity.high,
        "What is only needed to finish installing stays open.",
        "hv security harden",
        _phase,
    ),
    Check(
        "phase-waiting",
        "No change waits to be confirmed",
        Severity.low,
        "The host goes back by itself to what ran before.",
        "hv security confirm, or hv security revert",
        _waiting,
    ),
    Check(
        "phase-next-boot",
        "What boots next is hardened too",
        Severity.medium,
        "A reboot lowers the phase, unnoticed.",
        "hv security harden, then hv security confirm",
        _next_boot,
    ),
    Check(
        "kernel-aslr",
        "Addresses of programs are random",
        Severity.high,
        "Exploits know where code and data lie.",
        'boot.kernel.sysctl."kernel.randomize_va_space" = 2',
        _exactly(("kernel.randomize_va_space", "2")),
        cis=("1.5.1",),
        bsi=("SYS.1.3.A4",),
    ),
    Check(
        "kernel-ptrace",
        "Programs look into their own children only",
        Severity.medium,
        "One program of a person reads the secrets of another.",
        'the profile balanced, or boot.kernel.sysctl."kernel.yama.ptrace_scope" = 1',
        _least(("kernel.yama.ptrace_scope", 1)),
        cis=("1.5.2",),
    ),
    Check(
        "kernel-core-dumps",
        "Programs that changed user leave no core dumps",
        Severity.low,
        "A dump holds what the program had in memory, passwords too.",
        'boot.kernel.sysctl."fs.suid_dumpable" = 0',
        _exactly(("fs.suid_dumpable", "0")),
        cis=("1.5.3",),
    ),
    Check(
        "kernel-pointers",
        "The kernel hides its addresses and its log",
        Severity.medium,
        "Exploits of the kernel need both.",
        "the profile balanced",
        _least(("kernel.kptr_restrict", 1), ("kernel.dmesg_restrict", 1)),
    ),
    Check(
        "kernel-bpf",
        "Only root loads programs into the kernel",
        Severity.medium,
        "The kernel's verifier had holes again and again.",
        "the profile balanced",
        _least(("kernel.unprivileged_bpf_disabled", 1), ("net.core.bpf_jit_harden", 2)),
    ),
    Check(
        "kernel-links",
        "Links in shared folders are not followed blindly",
        Severity.high,
        "A service of root writes where somebody else wants.",
        "the profile development",
        _least(("fs.protected_symlinks", 1), ("fs.protected_hardlinks", 1)),
    ),
    Check(
        "kernel-redirects",
        "Neighbours do not tell the host where to route",
        Severity.medium,
        "Somebody in the network reads along.",
        "the profile development",
        _exactly(
            ("net.ipv4.conf.all.accept_redirects", "0"),
            ("net.ipv4.conf.all.accept_source_route", "0"),
            ("net.ipv4.conf.all.send_redirects", "0"),
        ),
    ),
    Check(
        "kernel-declared",
        "Kernel settings are what the system declares",
        Severity.medium,
        "Somebody changed them, or they wait for the next boot.",
        "sysctl --system, or reboot",
        _declared_settings,
    ),
    Check(
        "boot-parameters",
        "The kernel was started with what the system declares",
        Severity.medium,
        "Protections that are declared wait for the next boot.",
        "reboot",
        _declared_parameters,
    ),
    Check(
        "boot-protections",
        "No kernel parameter switches a protection off",
        Severity.high,
        "Guests read each other's memory, or whoever stands at the machine is root.",
        "take it out of boot.kernelParams, rebuild and reboot",
        _parameters_off,
        bsi=("SYS.1.3.A4",),
    ),
    Check(
        "boot-modules",
        "Modules are locked where the profile says so",
        Severity.medium,
        "Root loads code into the kernel, and hides in it.",
        "reboot; see systemctl status disable-kernel-module-loading",
        _modules_locked,
    ),
    Check(
        "boot-secure",
        "The firmware starts only what is signed",
        Severity.low,
        "Whoever has the disk for a minute has the host.",
        "enable Secure Boot in the firmware, with keys of your own",
        _secure_boot,
    ),
    Check(
        "boot-partition",
        "The boot partition is root's alone to read",
        Severity.medium,
        "It holds the seed of random numbers, and initrds with what is in them.",
        'fileSystems."/boot".options = [ "umask=0077" ]',
        _boot_readable,
    ),
    Check(
        "ssh-root",
        "Root does not log in over SSH",
        Severity.high,
        "Nobody knows who it was, and one key opens everything.",
        'services.openssh.settings.PermitRootLogin = "no"',
        _ssh("PermitRootLogin", "no"),
        cis=("5.1.20",),
        bsi=("SYS.1.3.A8",),
    ),
    Check(
        "ssh-passwords",
        "SSH takes keys only",
        Severity.high,
        "Passwords are guessed, all day, by everybody.",
        "services.openssh.settings.PasswordAuthentication = false",
        _ssh_passwords,
        bsi=("SYS.1.3.A8",),
    ),
    Check(
        "ssh-empty",
        "SSH takes no empty password",
        Severity.critical,
        "Anybody gets in.",
        "services.openssh.settings.PermitEmptyPasswords = false",
        _ssh("PermitEmptyPasswords", "no"),
        cis=("5.1.19",),
        bsi=("SYS.1.3.A8",),
    ),
    Check(
        "ssh-tries",
        "SSH gives few tries",
        Severity.low,
        "Each connection may try many keys.",
        "services.openssh.settings.MaxAuthTries = 3",
        _ssh_tries,
        cis=("5.1.16",),
    ),
    Check(
        "ssh-algorithms",
        "SSH speaks no broken algorithm",
        Severity.medium,
        "Somebody in between reads along, or changes what is sent.",
        "services.openssh.settings.Ciphers, Macs and KexAlgorithms",
        _ssh_algorithms,
        cis=("5.1.6", "5.1.12", "5.1.15"),
    ),
    Check(
        "ssh-environment",
        "SSH clients do not set variables of the session",
        Severity.medium,
        "A key that may run one command runs another.",
        'services.openssh.settings.PermitUserEnvironment = "no"',
        _ssh("PermitUserEnvironment", "no"),
        cis=("5.1.21",),
    ),
    Check(
        "ssh-ports",
        "SSH listens where it is declared",
        Severity.medium,
        "A second way in that nobody watches.",
        "services.openssh.ports",
        _ssh_ports,
    ),
    Check(
        "ssh-host-keys",
        "Private host keys are root's alone",
        Severity.critical,
        "Somebody else can pretend to be this host.",
        "chmod 600 /etc/ssh/ssh_host_*_key; make new ones if others had them",
        _host_keys,
        cis=("5.1.2",),
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "ssh-authorized-keys",
        "Only their owners add keys, and no key is broken",
        Severity.high,
        "Somebody else adds a key and is in.",
        "chmod 600 the file; replace the key by an Ed25519 one",
        _authorized_keys,
    ),
    Check(
        "users-root",
        "Only root has uid 0",
        Severity.critical,
        "A second root, with a password of its own.",
        "userdel the account",
        _root_twins,
        bsi=("SYS.1.3.A2",),
    ),
    Check(
        "users-ids",
        "Each uid belongs to one account",
        Severity.medium,
        "Two people own the same files.",
        "give one of them another uid in /etc/nixos",
        _same_ids,
        bsi=("SYS.1.3.A2",),
    ),
    Check(
        "users-empty",
        "No account has an empty password",
        Severity.critical,
        "Anybody at the console gets in.",
        "passwd NAME, or hashedPasswordFile in /etc/nixos",
        _empty_passwords,
    ),
    Check(
        "users-hashes",
        "Passwords are hashed with a method that is not broken",
        Severity.medium,
        "Whoever sees the hash has the password.",
        "passwd NAME",
        _weak_hashes,
    ),
    Check(
        "users-groups",
        "Nobody is root by a group",
        Severity.high,
        "Who reaches libvirt's socket, a container engine's or a raw disk is root.",
        "take them out of the group; roles are in docs/reference/privileges",
        _root_groups,
        bsi=("SYS.1.3.A2",),
    ),
    Check(
        "users-administrators",
        "Administrators are those who are declared",
        Severity.high,
        "Somebody made themselves one.",
        "gpasswd --delete NAME wheel, or declare it in /etc/nixos/users.nix",
        _unknown_administrators,
    ),
    Check(
        "users-way-in",
        "Somebody administers the host",
        Severity.high,
        "Nobody can become root.",
        "declare an administrator in /etc/nixos/users.nix",
        _way_in,
    ),
    Check(
        "users-homes",
        "Home folders are closed to others",
        Severity.low,
        "Others read what people leave there.",
        "chmod 700 the folder",
        _writable_homes,
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "sudo",
        "sudo asks who has a password for it",
        Severity.medium,
        "Whoever finds an open terminal is root.",
        "take NOPASSWD out of security.sudo-rs.extraRules",
        _sudo,
        cis=("5.2.4",),
    ),
    Check(
        "firewall",
        "A firewall drops what nobody asked for",
        Severity.critical,
        "Every service that listens is reached by everybody.",
        "networking.firewall.enable = true",
        _firewall,
        cis=("4.3.8",),
    ),
    Check(
        "ports",
        "Only declared ports are open",
        Severity.high,
        "A service that nobody knows of waits for connections.",
        "stop it (ss -ltunp names it), or declare its port in networking.firewall",
        _open_ports,
    ),
    Check(
        "files-secrets",
        "Files with secrets are closed",
        Severity.critical,
        "Everybody reads the hashes of passwords.",
        "chmod the file",
        _modes(
            ("/etc/shadow", 0o640),
            ("/etc/gshadow", 0o640),
            ("/var/lib/hyper-nixos/secrets", 0o700),
            ("/root", 0o750),
        ),
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "files-accounts",
        "Only root changes accounts and the declaration",
        Severity.critical,
        "Anybody makes themselves root.",
        "chmod go-w the file",
        _modes(
            ("/etc/passwd", 0o644),
            ("/etc/group", 0o644),
            ("/etc/sudoers", 0o644),
            ("/etc/ssh/sshd_config", 0o644),
            ("/etc/nixos", 0o755),
            ("/etc/nixos/configuration.nix", 0o644),
        ),
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "mounts-shm",
        "Shared memory holds no devices and no programs of root's",
        Severity.low,
        "A place for everybody to leave tools in.",
        'boot.specialFileSystems."/dev/shm".options',
        _mount("/dev/shm", "nosuid", "nodev"),  # noqa: S108
        cis=("1.1.2.2.2", "1.1.2.2.3"),
    ),
    Check(
        "mounts-tmp",
        "A separate /tmp holds no devices and no programs of root's",
        Severity.low,
        "A place for everybody to leave tools in.",
        'fileSystems."/tmp".options = [ "nosuid" "nodev" ]',
        _mount("/tmp", "nosuid", "nodev"),  # noqa: S108
        cis=("1.1.2.1.2", "1.1.2.1.3"),
    ),
    Check(
        "audit-daemon",
        "The audit daemon runs",
        Severity.medium,
        "Nobody knows afterwards who it was.",
        "security.auditd.enable = true; systemctl status auditd",
        _auditd,
    ),
    Check(
        "audit-rules",
        "The declared audit rules are loaded",
        Severity.medium,
        "What should be recorded is not.",
        "systemctl restart audit-rules-nixos",
        _audit_rules,
    ),
    Check(
        "apparmor",
        "AppArmor holds QEMU as the profile says",
        Severity.medium,
        "A guest that breaks out of its emulator reaches the host's files.",
        "reboot; aa-status",
        _apparmor,
        cis=("1.3.1.2", "1.3.1.3"),
        bsi=("SYS.1.3.A10",),
    ),
    Check(
        "updates",
        "The host's packages are of these weeks",
        Severity.high,
        "Holes that everybody knows of are open.",
        "nix flake update --flake /etc/nixos, then nixos-rebuild switch",
        _age,
        cis=("1.2.2.1",),
    ),
    Check(
        "services-failed",
        "Every service runs that should",
        Severity.low,
        "What should protect or record may be down.",
        "systemctl status the service",
        _failed_units,
    ),
    Check(
        "services-exposure",
        "Services that people reach are sandboxed",
        Severity.medium,
        "Who takes one over has the host.",
        "systemd-analyze security the service",
        _exposure,
        bsi=("SYS.1.3.A10",),
    ),
    Check(
        "services-setuid",
        "No program has more rights than declared",
        Severity.high,
        "A program of root's that anybody starts.",
        "remove it; see /run/wrappers",
        _wrappers,
    ),
    Check(
        "nix-daemon",
        "Nobody is root by the Nix daemon",
        Severity.high,
        "Who is trusted there puts programs of their own where root runs them.",
        'nix.settings.trusted-users = [ "root" ]',
        _nix_users,
    ),
    Check(
        "journal",
        "The journal outlives a reboot",
        Severity.low,
        "Who breaks in reboots, and nothing is known any more.",
        'services.journald.storage = "persistent"',
        _journal,
    ),
)
