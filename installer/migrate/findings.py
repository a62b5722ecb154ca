"""What a running system is, as far as a migration must know. Values only."""

from enum import StrEnum
from typing import Literal

from installer.frozen import Frozen
from installer.migrate.summary import Summary

FILE = "hyper-nixos.nix"
"""Name of the one new file."""
IMPORT = f"./{FILE}"
"""How it is imported."""
MARK = "# Written by `hv migrate`."
"""First line of the file."""


class Kind(StrEnum):
    """How a system is configured."""

    flake = "flake"
    """A flake's nixosConfigurations."""
    channel = "channel"
    """A configuration.nix, with the nixpkgs that NIX_PATH names."""
    none = "none"
    """No configuration is left."""


class Configuration(Frozen):
    """The files that the system is built from."""

    kind: Kind
    """How."""
    named: str
    """Where it was looked for, absolute."""
    root: str
    """Folder of all its files, without symbolic links: the repository's, where it is one."""
    entry: str
    """flake.nix or configuration.nix, below the root."""
    host: str | None = None
    """Name in nixosConfigurations."""
    hosts: tuple[str, ...] = ()
    """All names there."""
    writable: bool = True
    """Whether files can be written there."""
    repository: bool = False
    """Whether it is a git repository."""
    changed: tuple[str, ...] = ()
    """Files of the repository with changes that are not committed."""
    files: dict[str, str] = {}
    """Text of the files that the import may go into, by their path below the root."""
    shared: tuple[str, ...] = ()
    """Files among them that other hosts use as well."""
    existing: str | None = None
    """Text of a file with the new one's name beside the entry or a candidate, if there is one already."""
    summary: Summary | None = None
    """What it evaluates to."""
    fault: str | None = None
    """Why it does not evaluate."""


class Space(Frozen):
    """A mounted file system."""

    mount: str
    """Mount point."""
    device: str
    """What is mounted, as the kernel names it."""
    kind: str
    """Type."""
    total: int
    """Bytes."""
    free: int
    """Bytes."""


class Login(Frozen):
    """Somebody who is an administrator now."""

    name: str
    """Account."""
    keys: int
    """Public keys where the SSH server looks."""
    password: bool
    """Whether a password opens it."""


class Guest(Frozen):
    """A virtual machine of libvirt's."""

    name: str
    """Its name."""
    running: bool
    """Now."""
    autostart: bool
    """Starts with the host."""


class Listener(Frozen):
    """A port that something listens on."""

    protocol: Literal["tcp", "udp"]
    """Which."""
    address: str
    """Local address."""
    port: int
    """Number."""


class Findings(Frozen):
    """Everything."""

    version: Literal[1] = 1
    """Format."""
    os: str
    """Distribution, ID of os-release(5)."""
    release: str | None
    """VERSION_ID of os-release(5)."""
    current: str | None
    """Toplevel that runs."""
    booted: str | None
    """Toplevel that was started."""
    profile: str | None
    """Toplevel of the system profile."""
    copied_configuration: bool = False
    """Whether the running system holds a copy of its configuration.nix."""
    upgrades_from: str | None = None
    """Flake that the host upgrades itself from."""
    configuration: Configuration
    """Its files."""
    efi: bool
    """Whether it was started by UEFI."""
    variables_writable: bool
    """Whether EFI variables can be written."""
    boot_files: tuple[str, ...] = ()
    """What lies there of `systemd-boot`, `grub`."""
    spaces: tuple[Space, ...] = ()
    """Mounted file systems."""
    entry_bytes: int = 0
    """Kernel and initrd of the running system together: what another generation takes on the boot partition."""
    logins: tuple[Login, ...] = ()
    """Administrators."""
    guests: tuple[Guest, ...] = ()
    """libvirt's guests."""
    pools: tuple[str, ...] = ()
    """libvirt's storage pools."""
    networks: tuple[str, ...] = ()
    """libvirt's networks."""
    listeners: tuple[Listener, ...] = ()
    """Open ports."""
    tables: tuple[str, ...] = ()
    """nftables' tables that are loaded: family and name."""
    addresses: tuple[str, ...] = ()
    """Global addresses with prefix."""
    gateways: tuple[str, ...] = ()
    """Default routes."""
    trial: bool = False
    """Whether a migration waits for its next boot, or its verdict."""
