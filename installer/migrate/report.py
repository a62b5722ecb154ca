"""What was found, for people. Pure."""

from installer.errors import paragraph
from installer.migrate.conflicts import Conflict
from installer.migrate.findings import Findings, Kind

GIB = 1 << 30
MIB = 1 << 20


def report(findings: Findings, conflicts: tuple[Conflict, ...]) -> str:
    """A screen or two, 80 columns wide."""
    lines = [f"{name:<15}{value}" for name, value in _rows(findings)] if findings.os == "nixos" else []
    stops = [each for each in conflicts if each.stops]
    notes = [each for each in conflicts if not each.stops]
    for title, some in (("Stands against it", stops), ("To know", notes)):
        if some:
            lines += ["", f"{title}:"]
            for each in some:
                lines += paragraph(each.what, "- ", "  ")
                lines += paragraph(each.remedy, "  do: ", "      ")
    if not stops:
        lines += ["", "Nothing stands against a migration."]
    return "\n".join(lines) + "\n"


def _rows(findings: Findings) -> list[tuple[str, str]]:
    configuration, summary = findings.configuration, findings.configuration.summary
    kind = {Kind.flake: "flake", Kind.channel: "channel configuration", Kind.none: "none"}[
        configuration.kind
    ]
    host = f"#{configuration.host}" if configuration.host else ""
    repository = ", a git repository" if configuration.repository else ""
    rows = [
        ("system", f"NixOS {findings.release}, {findings.current}"),
        ("configuration", f"{kind}: {configuration.root}/{configuration.entry}{host}{repository}"),
    ]
    if summary:
        built = (
            "the running system"
            if summary.toplevel == findings.current
            else "another system than the running one"
        )
        rows.append(("", f"builds {built}"))
        names = ("systemd_boot", "grub", "extlinux", "lanzaboote")
        loaders = [name.replace("_", "-") for name in names if getattr(summary.loader, name)]
        rows.append(("boot loader", f"{', '.join(loaders) or 'none'}; {'UEFI' if findings.efi else 'BIOS'}"))
        rows.append(("network", ", ".join(_managers(findings)) or "nothing declared"))
    for space in findings.spaces:
        if space.mount in ("/", "/boot", "/boot/efi", "/efi", "/nix", "/nix/store"):
            size = f"{space.free // MIB} MiB" if space.free < GIB else f"{space.free // GIB} GiB"
            rows.append((space.mount, f"{space.kind}, {size} free"))
    rows.append(("addresses", ", ".join(findings.addresses) or "none"))
    for login in findings.logins:
        ways = [f"{login.keys} key{'s' if login.keys > 1 else ''}"] if login.keys else []
        ways += ["a password"] if login.password else []
        rows.append(("administrator", f"{login.name}: {' and '.join(ways) or 'no way in'}"))
    for guest in findings.guests:
        state = "runs" if guest.running else "is off"
        rows.append(("guest", f"{guest.name}: {state}{', starts with the host' if guest.autostart else ''}"))
    if findings.pools:
        rows.append(("pools", ", ".join(findings.pools)))
    return rows


def _managers(findings: Findings) -> list[str]:
    summary = findings.configuration.summary
    assert summary is not None
    network = summary.network
    named = {
        "NetworkManager": network.networkmanager,
        "systemd-networkd": network.networkd,
        "dhcpcd": network.dhcpcd and not network.networkmanager and not network.networkd,
        "wpa_supplicant": network.wireless,
    }
    firewall = "nftables" if summary.firewall.nftables else "iptables"
    return [name for name, there in named.items() if there] + (
        [f"firewall ({firewall})"] if summary.firewall.enable else ["no firewall"]
    )
