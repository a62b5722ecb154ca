"""Checks of sshd as it runs: who gets in, by what, and over which algorithms."""

import re
from collections.abc import Iterator

from hv.security.audit.check import Check, Severity
from hv.security.audit.view import Look, View

WEAK = re.compile(r"cbc|3des|arcfour|blowfish|md5|umac-64|sha1(?!\d)|group1-|group14-sha1")
"""Ciphers, MACs and key exchanges that are broken or too short (RFC 8758, RFC 9142)."""
WRITABLE_BY_OTHERS = 0o022


def _ssh(keyword: str, wanted: str) -> Look:
    def look(view: View) -> Iterator[str]:
        if (found := view.ssh(keyword)) != wanted:
            yield f"sshd's {keyword} is {found or 'not set'} instead of {wanted}"

    return look


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


CHECKS: tuple[Check, ...] = (
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
)
