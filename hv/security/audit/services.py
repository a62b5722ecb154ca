"""Checks of services: audit, AppArmor, updates, sandboxes, the Nix daemon, the journal."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from hv.security.audit.check import Check, Severity
from hv.security.audit.view import NotLookedAtError, View
from installer.logins import WHEEL

OLD = timedelta(days=60)
"""An age of nixpkgs at which known holes are open."""


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


def _journal(view: View) -> Iterator[str]:
    if not view.path("/var/log/journal").is_dir():
        yield "/var/log/journal is not there: the journal is gone after a reboot"


CHECKS: tuple[Check, ...] = (
    Check(
        "audit-daemon",
        "The audit daemon runs",
        Severity.medium,
        "Nobody knows afterwards who it was.",
        "security.auditd.enable = true; systemctl status auditd",
        _auditd,
        cis=("6.2.1.2",),
    ),
    Check(
        "audit-rules",
        "The declared audit rules are loaded",
        Severity.medium,
        "What should be recorded is not.",
        "systemctl restart audit-rules-nixos",
        _audit_rules,
        cis=("6.2.3.21",),
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
        bsi=(
            "SYS.1.3.A10",
            "SYS.1.3.A16",
        ),
    ),
    Check(
        "services-setuid",
        "No program has more rights than declared",
        Severity.high,
        "A program of root's that anybody starts.",
        "remove it; see /run/wrappers",
        _wrappers,
        cis=("7.1.13",),
        bsi=("SYS.1.3.A14",),
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
        cis=("6.1.2.4",),
    ),
)
