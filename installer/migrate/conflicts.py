"""What stands against a migration, and what to do about each. Pure: findings in, conflicts out."""

from collections.abc import Iterator
from ipaddress import ip_address

from installer.frozen import Frozen
from installer.migrate.fallback import Fallback, fallback_of
from installer.migrate.findings import FILE, MARK, Configuration, Findings, Kind, Space
from installer.migrate.summary import Summary

OLDEST = (25, 11)
"""First release whose options our modules take."""
MEBIBYTE = 1 << 20
STORE_NEEDS = 3 * 1024 * MEBIBYTE
"""Bytes in the store for libvirt, QEMU and what belongs to them, with room for a build."""
PROVIDERS = {
    "docker": "Docker stays; its rules for forwarding and those of guests both apply",
    "incus": "Incus stays; give its bridge another subnet than libvirt's 192.168.122.0/24",
    "lxd": "LXD stays; give its bridge another subnet than libvirt's 192.168.122.0/24",
    "podman": "Podman stays as it is",
}


class Conflict(Frozen):
    """One thing."""

    name: str
    """For programs."""
    stops: bool
    """Whether the migration cannot go on with it."""
    what: str
    """What was found."""
    remedy: str
    """What to do."""


def conflicts_of(findings: Findings, *, no_fallback: bool = False) -> tuple[Conflict, ...]:
    """All of them, those that stop first."""
    found = [*_system(findings)]
    if findings.os == "nixos":
        found += _release(findings)
        found += _configuration(findings.configuration, findings)
        if findings.configuration.summary:
            found += _declared(findings, findings.configuration.summary)
            found += _boot(findings, findings.configuration.summary, no_fallback=no_fallback)
        found += _machine(findings)
    return tuple(sorted(found, key=lambda each: not each.stops))


def _system(findings: Findings) -> Iterator[Conflict]:
    if findings.os != "nixos":
        yield Conflict(
            name="not-nixos",
            stops=True,
            what=f"this machine runs {findings.os}, not NixOS: nothing of it can be migrated in place",
            remedy="install it anew, from another computer: `hv install --target ssh://root@this-machine --kexec result --answers "
            "FILE`. That starts our installer by kexec and DESTROYS EVERYTHING on the disks that the answers name: "
            "system, homes, guests. Copy what you need elsewhere first",
        )
    elif findings.trial:
        yield Conflict(
            name="trial",
            stops=True,
            what="a migration is under way: the next boot tries it, or it fell back",
            remedy="see `hv health status`; `hv migrate --undo` takes it back, then begin again",
        )


def _release(findings: Findings) -> Iterator[Conflict]:
    release = _number(findings.release)
    if release is None or release < OLDEST:
        yield Conflict(
            name="release",
            stops=True,
            what=f"NixOS {findings.release or 'of an unknown release'} is older than 25.11",
            remedy="upgrade first, one release at a time: with channels `nix-channel --add "
            "https://channels.nixos.org/nixos-25.11 nixos && nixos-rebuild boot --upgrade`, with a flake set "
            '`inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11"`, `nix flake update`, `nixos-rebuild boot`; '
            "reboot, then come back",
        )


def _number(release: str | None) -> tuple[int, int] | None:
    parts = (release or "").split(".")
    return (
        (int(parts[0]), int(parts[1][:2]))
        if len(parts) >= 2 and parts[0].isdigit() and parts[1][:2].isdigit()
        else None
    )


def _configuration(configuration: Configuration, findings: Findings) -> Iterator[Conflict]:
    if configuration.kind is Kind.none:
        copy = (
            " The running system holds a copy of it: /run/current-system/configuration.nix."
            if findings.copied_configuration
            else ""
        )
        remote = (
            f" This host upgrades itself from {findings.upgrades_from}." if findings.upgrades_from else ""
        )
        yield Conflict(
            name="no-configuration",
            stops=True,
            what=f"no configuration is left at {configuration.named}.{copy}{remote}",
            remedy="name where it lies now: `hv migrate --flake /path/of/flake#host` or `--file "
            "/path/of/configuration.nix`; if there is none any more, `nixos-generate-config` writes one, to which "
            "users, keys and network of this host must be added BEFORE anything is built from it",
        )
        return
    if configuration.kind is Kind.flake and configuration.host is None:
        listed = ", ".join(configuration.hosts) or "none"
        yield Conflict(
            name="which-host",
            stops=True,
            what=f"the flake has no host of this machine's name; it has: {listed}",
            remedy=f"say which it is: `hv migrate --flake {configuration.root}#NAME`",
        )
    elif configuration.fault:
        yield Conflict(
            name="does-not-evaluate",
            stops=True,
            what=f"the configuration does not evaluate as it is: {configuration.fault}",
            remedy="mend it until `nixos-rebuild dry-build` works, then come back",
        )
    if not configuration.writable:
        yield Conflict(
            name="read-only",
            stops=True,
            what=f"{configuration.root} cannot be written to",
            remedy="it is generated, or mounted read-only: make the change where its source is, with "
            "`hv migrate --flake /path/of/source#host` or `--file`",
        )
    if configuration.existing is not None and not configuration.existing.startswith(MARK):
        yield Conflict(
            name="file-there",
            stops=True,
            what=f"there is a file {FILE} already, and it is not ours",
            remedy="rename it, and its import",
        )


def _declared(findings: Findings, summary: Summary) -> Iterator[Conflict]:
    if summary.hyper_nixos:
        yield Conflict(
            name="migrated",
            stops=True,
            what="the configuration is a Hyper-NixOS host's already",
            remedy="nothing is left to migrate; `nixos-rebuild switch` applies changes",
        )
    declared = _number(summary.release)
    if declared is not None and declared < OLDEST <= (_number(findings.release) or declared):
        yield Conflict(
            name="release-declared",
            stops=True,
            what=f"the configuration is for NixOS {summary.release}, older than what runs",
            remedy="bring its nixpkgs up to date: `nix flake update`, or `nix-channel --update`",
        )
    if (
        summary.toplevel
        and findings.current
        and summary.toplevel not in (findings.current, findings.profile)
    ):
        yield Conflict(
            name="drift",
            stops=False,
            what="the configuration builds another system than the one that runs: changes were not switched to, or "
            "nixpkgs moved",
            remedy="`nixos-rebuild build && nvd diff /run/current-system result` shows them; the migration would "
            "bring them along. Without surprises: `nixos-rebuild switch` first",
        )
    virtualisation = summary.virtualisation
    for name in ("virtualbox", "xen"):
        if getattr(virtualisation, name):
            yield Conflict(
                name=name,
                stops=True,
                what=f"{name} runs guests here; the processor's virtualization has one owner at a time",
                remedy=f"move its guests to libvirt (`qemu-img convert`), then take virtualisation.{name} out",
            )
    if virtualisation.qemu_as_root and virtualisation.libvirtd:
        yield Conflict(
            name="qemu-as-root",
            stops=False,
            what="libvirt's guests run as root here (virtualisation.libvirtd.qemu.runAsRoot, NixOS's default); they "
            "will run as qemu-libvirtd, and libvirt gives them their disks",
            remedy="where the line is written out, take it out, or the configuration contradicts itself. Shares and "
            "devices that guests use by path need the user qemu-libvirtd to reach them",
        )
    for name, what in PROVIDERS.items():
        if getattr(virtualisation, name):
            yield Conflict(
                name=name, stops=False, what=what, remedy="look after the first boot that its containers run"
            )
    if not summary.systemd_stage_1:
        yield Conflict(
            name="stage-1",
            stops=False,
            what="stage 1 becomes systemd's (boot.initrd.systemd.enable), the only one in later releases",
            remedy="where it is set to false, or hooks like boot.initrd.postDeviceCommands are used, change them "
            "first: the evaluation says which",
        )
    if summary.assertions:
        yield Conflict(
            name="assertions",
            stops=True,
            what=f"the configuration refuses itself: {' '.join(summary.assertions[0].split())}",
            remedy="mend it until `nixos-rebuild dry-build` works, then come back",
        )


def _boot(findings: Findings, summary: Summary, *, no_fallback: bool) -> Iterator[Conflict]:
    loader = summary.loader
    if loader.lanzaboote:
        yield Conflict(
            name="lanzaboote",
            stops=True,
            what="Lanzaboote signs this host's boot images; our check of a first boot does not know its entries",
            remedy="migrate with systemd-boot and Secure Boot off, then put Lanzaboote back",
        )
        return
    means, why = fallback_of(findings, summary)
    if means is Fallback.none:
        yield Conflict(
            name="no-fallback",
            stops=not no_fallback,
            what=f"a first boot that fails would not go back by itself: {why}",
            remedy="if somebody can reach the console and choose the old generation in the boot menu, say so: "
            "`hv migrate --no-fallback`",
        )
    space = _on(findings, loader.esp if loader.systemd_boot else "/boot")
    if space and findings.entry_bytes and space.free < 2 * findings.entry_bytes:
        yield Conflict(
            name="boot-space",
            stops=space.free < findings.entry_bytes,
            what=f"{space.mount} has {space.free // MEBIBYTE} MiB free; a generation takes about "
            f"{findings.entry_bytes // MEBIBYTE} MiB",
            remedy="`nix-collect-garbage --delete-older-than 30d && nixos-rebuild boot` takes old generations away",
        )


def _machine(findings: Findings) -> Iterator[Conflict]:
    store = _on(findings, "/nix/store")
    if store and store.free < STORE_NEEDS:
        yield Conflict(
            name="store-space",
            stops=False,
            what=f"{store.mount} has {store.free // MEBIBYTE} MiB free; libvirt, QEMU and the build want about "
            f"{STORE_NEEDS // MEBIBYTE} MiB",
            remedy="`nix-collect-garbage` makes room",
        )
    if not any(login.keys or login.password for login in findings.logins):
        yield Conflict(
            name="nobody",
            stops=True,
            what="no administrator (group wheel) could be found who has a public key or a password",
            remedy="a host that nobody gets into cannot say whether it is well: give one account both the group "
            "wheel and a key, `nixos-rebuild switch`, log in with it, and come back",
        )
    libvirts = {"192.168.122.1", "127.0.0.1", "::1"}
    resolvers = [each for each in findings.listeners if each.port == 53 and each.address not in libvirts]
    if any(ip_address(each.address).is_unspecified for each in resolvers):
        yield Conflict(
            name="port-53",
            stops=False,
            what="something answers DNS (port 53) on every address; libvirt's NAT network needs it on its own bridge",
            remedy="bind it to the addresses that it serves; guests on bridges do not mind",
        )
    theirs = [
        table for table in findings.tables if table.split()[-1] in ("hyper-nixos", "hyper-nixos-guests")
    ]
    if theirs:
        yield Conflict(
            name="nftables",
            stops=False,
            what=f"nftables has tables of our names: {', '.join(theirs)}",
            remedy="rename them: ours are written over them once hypervisor.network is switched on",
        )


def _on(findings: Findings, path: str) -> Space | None:
    """The file system that holds a path."""
    holders = [
        each
        for each in findings.spaces
        if path == each.mount or path.startswith(each.mount.rstrip("/") + "/")
    ]
    return max(holders, key=lambda each: len(each.mount), default=None)
