"""What a configuration makes of its host, as `summary.nix` reads it from an evaluated system."""

from importlib.resources import files
from typing import Literal

from installer.frozen import Frozen


def summary_function() -> str:
    """The Nix function that makes a summary of an evaluated system."""
    return (files(__package__) / "summary.nix").read_text(encoding="utf-8")


class User(Frozen):
    """An account, as it is declared."""

    normal: bool
    """Whether it is a person's."""
    uid: int | None
    """User id; none: NixOS gives one."""
    group: str
    """Primary group."""
    groups: tuple[str, ...]
    """Further groups."""
    shell: str | None
    """Login shell."""
    keys: tuple[str, ...]
    """Public keys."""
    key_files: tuple[str, ...]
    """Files of public keys."""
    password: tuple[str, ...]
    """Which options give it a password; never the password."""


class Sshd(Frozen):
    """The SSH server."""

    enable: bool
    """Whether it runs."""
    ports: tuple[int, ...]
    """Where it listens."""
    listens: tuple[str, ...]
    """Addresses with ports, where not all."""
    settings: dict[str, str]
    """Settings by keyword, as JSON."""
    key_files: tuple[str, ...]
    """Patterns of files of public keys."""
    more: str
    """Everything else in its file."""


class Network(Frozen):
    """How the host gets its network."""

    host_name: str
    """Its name."""
    networkmanager: bool
    """NetworkManager."""
    networkd: bool
    """systemd-networkd."""
    use_networkd: bool
    """Whether NixOS's own options are for networkd."""
    dhcpcd: bool
    """dhcpcd."""
    use_dhcp: bool
    """DHCP on every interface that says nothing else."""
    wireless: bool
    """wpa_supplicant by networking.wireless."""
    interfaces: dict[str, tuple[str, ...]]
    """Addresses, or `dhcp`, of each declared interface."""
    made: tuple[str, ...]
    """Bridges, bonds, VLANs."""
    units: dict[str, str]
    """Hash of each file of systemd-networkd."""
    gateways: tuple[str, ...]
    """Default routes."""
    nameservers: tuple[str, ...]
    """Resolvers."""


class Firewall(Frozen):
    """The firewall."""

    enable: bool
    """NixOS's own."""
    nftables: bool
    """With nftables, not iptables."""


class Sudo(Frozen):
    """How administrators become root."""

    enable: bool
    """sudo."""
    rs: bool
    """sudo-rs."""
    wheel_needs_password: bool
    """Whether it asks for a password."""


class Loader(Frozen):
    """What starts the kernel."""

    systemd_boot: bool
    """systemd-boot."""
    counts: bool
    """Whether this release can have systemd-boot count boots."""
    grub: bool
    """GRUB."""
    grub_extra_first: bool
    """Whether entries of the host's own stand before NixOS's in GRUB's menu."""
    extlinux: bool
    """extlinux.conf, for U-Boot."""
    lanzaboote: bool
    """systemd-boot with signed images."""
    esp: str
    """Mount point of the EFI system partition."""
    variables: bool
    """Whether NixOS may write EFI variables."""


class FileSystem(Frozen):
    """A declared mount."""

    device: str | None
    """What is mounted."""
    kind: str
    """Type."""


class Virtualisation(Frozen):
    """What already runs guests or containers."""

    libvirtd: bool
    """libvirt."""
    on_boot: str
    """What happens to its guests at boot."""
    on_shutdown: str
    """What happens to its guests at shutdown."""
    qemu_as_root: bool
    """Whether its guests' QEMU runs as root."""
    docker: bool
    """Docker."""
    podman: bool
    """Podman."""
    lxd: bool
    """LXD."""
    incus: bool
    """Incus."""
    virtualbox: bool
    """VirtualBox."""
    xen: bool
    """Xen."""


class Summary(Frozen):
    """A whole configuration's."""

    version: Literal[1]
    """Format."""
    toplevel: str
    """The system that it builds; empty when assertions fail."""
    hyper_nixos: bool
    """Whether it is a Hyper-NixOS host already."""
    release: str
    """NixOS release of its nixpkgs."""
    state_version: str
    """Release that it began with."""
    definers: tuple[str, ...]
    """Files that say who the host is, the most telling first."""
    packages: tuple[str, ...]
    """Names of the packages for everybody."""
    units: tuple[str, ...]
    """Units of systemd that it has."""
    ports: tuple[str, ...]
    """What the firewall lets in."""
    firewall: Firewall
    """The firewall."""
    users: dict[str, User]
    """People, and root."""
    mutable_users: bool
    """Whether accounts made by hand stay."""
    sudo: Sudo
    """How administrators become root."""
    sshd: Sshd
    """The SSH server."""
    network: Network
    """The network."""
    loader: Loader
    """The boot loader."""
    systemd_stage_1: bool
    """Whether systemd runs in the initrd."""
    file_systems: dict[str, FileSystem]
    """Mounts."""
    luks: tuple[str, ...]
    """Encrypted devices that are opened at boot."""
    virtualisation: Virtualisation
    """Guests and containers."""
    assertions: tuple[str, ...]
    """What the configuration itself says is wrong with it."""
