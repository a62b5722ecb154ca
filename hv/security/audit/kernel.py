"""Checks of the kernel: its settings, its command line, its modules, and who may start it."""

import re
from collections.abc import Iterator

from hv.firstrun.phase import kernel_settings
from hv.security.audit.check import Check, Severity, exactly, least
from hv.security.audit.view import NotLookedAtError, View

OFF = re.compile(
    r"mitigations=off|nopti|nospectre_v[12]|nospec_store_bypass_disable|nokaslr|apparmor=0|audit=0|"
    r"(rd\.)?systemd\.debug[-_]shell(=1)?|init=/bin/.*|ima_appraise=off|kvm-intel\.vmentry_l1d_flush=never"
)
"""Kernel parameters that switch a protection off, or open a shell for whoever stands at the machine."""


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


def _secure_boot(view: View) -> Iterator[str]:
    folder = view.path("/sys/firmware/efi/efivars")
    found = sorted(folder.glob("SecureBoot-*")) if folder.is_dir() else []
    if not found:
        raise NotLookedAtError("this machine was not started by UEFI, or does not say")
    if found[0].read_bytes()[-1:] != b"\x01":
        yield "the firmware starts whatever lies on the disk"


CHECKS: tuple[Check, ...] = (
    Check(
        "kernel-aslr",
        "Addresses of programs are random",
        Severity.high,
        "Exploits know where code and data lie.",
        'boot.kernel.sysctl."kernel.randomize_va_space" = 2',
        exactly(("kernel.randomize_va_space", "2")),
        cis=("1.5.1",),
        bsi=("SYS.1.3.A4",),
    ),
    Check(
        "kernel-ptrace",
        "Programs look into their own children only",
        Severity.medium,
        "One program of a person reads the secrets of another.",
        'the profile balanced, or boot.kernel.sysctl."kernel.yama.ptrace_scope" = 1',
        least(("kernel.yama.ptrace_scope", 1)),
        cis=("1.5.2",),
    ),
    Check(
        "kernel-core-dumps",
        "Programs that changed user leave no core dumps",
        Severity.low,
        "A dump holds what the program had in memory, passwords too.",
        'boot.kernel.sysctl."fs.suid_dumpable" = 0',
        exactly(("fs.suid_dumpable", "0")),
        cis=("1.5.3",),
    ),
    Check(
        "kernel-pointers",
        "The kernel hides its addresses and its log",
        Severity.medium,
        "Exploits of the kernel need both.",
        "the profile balanced",
        least(("kernel.kptr_restrict", 1), ("kernel.dmesg_restrict", 1)),
        bsi=(
            "SYS.1.3.A14",
            "SYS.1.3.A17",
        ),
    ),
    Check(
        "kernel-bpf",
        "Only root loads programs into the kernel",
        Severity.medium,
        "The kernel's verifier had holes again and again.",
        "the profile balanced",
        least(("kernel.unprivileged_bpf_disabled", 1), ("net.core.bpf_jit_harden", 2)),
        bsi=("SYS.1.3.A17",),
    ),
    Check(
        "kernel-links",
        "Links in shared folders are not followed blindly",
        Severity.high,
        "A service of root writes where somebody else wants.",
        "the profile development",
        least(("fs.protected_symlinks", 1), ("fs.protected_hardlinks", 1)),
        bsi=("SYS.1.3.A17",),
    ),
    Check(
        "kernel-redirects",
        "Neighbours do not tell the host where to route",
        Severity.medium,
        "Somebody in the network reads along.",
        "the profile development",
        exactly(
            ("net.ipv4.conf.all.accept_redirects", "0"),
            ("net.ipv4.conf.all.accept_source_route", "0"),
            ("net.ipv4.conf.all.send_redirects", "0"),
        ),
        cis=("3.3.2", "3.3.5", "3.3.8"),
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
        bsi=("SYS.1.3.A17",),
    ),
    Check(
        "boot-secure",
        "The firmware starts only what is signed",
        Severity.low,
        "Whoever has the disk for a minute has the host.",
        "set hypervisor.security.secureBoot.enable and rebuild; `hv secure-boot status` says how to go on",
        _secure_boot,
    ),
)
