"""The answer file as types. One field, one docstring: it is the schema, the reference page and the question.

A type's `title` says in a few words what a good value is (`is not TITLE` is the error), `examples` shows one;
`writeOnly` marks a secret, whose value no message ever repeats.
"""

from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    StringConstraints,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from installer.frozen import Frozen

HostName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    Field(
        title="a host name: lower-case letters, digits and hyphens, at most 63, no domain", examples=["kvm1"]
    ),
]
"""RFC 1123 label in lower case: NixOS names the configuration after it."""
UserName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,30}$"),
    Field(
        title="a login name: lower-case letters, digits, `_` and `-`, at most 31, not starting with a digit",
        examples=["anna"],
    ),
]
"""As useradd(8) accepts it."""
GroupName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,30}$"),
    Field(title="a group name: lower-case letters, digits, `_` and `-`, at most 31", examples=["kvm"]),
]
"""As groupadd(8) accepts it."""
InterfaceName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$"),
    Field(title="an interface name: letters, digits, `_`, `.` and `-`, at most 15", examples=["lan0"]),
]
"""At most 15 characters (IFNAMSIZ)."""
Mac = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"),
    Field(
        title="a MAC address: six pairs of hexadecimal digits with colons", examples=["52:54:00:12:34:56"]
    ),
]
"""Six octets with colons, upper or lower case."""
PciAddressAnswer = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$"),
    Field(title="a PCI address in lower case", examples=["01:00.0"]),
]
"""PCI address, with or without domain."""
PciIds = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$"),
    Field(title="vendor and device id in lower case", examples=["10de:2684"]),
]
"""As `lspci -n` prints them."""
SizeText = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?\s*(B|[KMGTP]i?B?)$"),
    Field(title="a size with its unit", examples=["512GiB"]),
]
"""A size with its unit: `2GiB` is 2·2³⁰ bytes, `2GB` is 2·10⁹; `2G` means `2GiB`."""
AbsolutePath = Annotated[
    str,
    StringConstraints(pattern=r"^/\S*$"),
    Field(title="an absolute path without blanks", examples=["/run/secrets/name"]),
]
"""A path from the root, in text that goes into configuration files."""
DomainName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$"
    ),
    Field(title="a domain name: letters, digits, `-` and `.`", examples=["example.org"]),
]
"""A DNS name."""


def _address(value: object) -> IPv4Address | IPv6Address:
    try:
        return ip_address(_text(value))
    except ValueError:
        raise PydanticCustomError("not_title", "not an IP address") from None


def _interface(value: object) -> IPv4Interface | IPv6Interface:
    """An address that says its prefix: without one, Python would take it for a network of one."""
    try:
        text = _text(value)
        if isinstance(value, str) and "/" not in text:
            raise ValueError
        return ip_interface(text)
    except ValueError:
        raise PydanticCustomError("not_title", "not an address with prefix length") from None


def _network(value: object) -> str:
    try:
        text = _text(value)
        if "/" not in text:
            raise ValueError
        return str(ip_network(text))
    except ValueError:
        raise PydanticCustomError("not_title", "not a network") from None


def _text(value: object) -> str:
    """Text, or an address already made; numbers, which Python takes for addresses too, are wrong types."""
    if isinstance(value, str | IPv4Address | IPv6Address):  # interfaces are addresses as well
        return str(value)
    raise PydanticCustomError("string_type", "not text")


_WITH_PREFIX = r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"
"""For editors; the validators look closer."""

IpAddress = Annotated[
    IPv4Address | IPv6Address,
    PlainValidator(_address),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
            "title": "an IPv4 or IPv6 address",
            "examples": ["192.0.2.1"],
        }
    ),
]
IpInterface = Annotated[
    IPv4Interface | IPv6Interface,
    PlainValidator(_interface),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _WITH_PREFIX,
            "title": "an address with its prefix length",
            "examples": ["192.0.2.10/24"],
        }
    ),
]
NetworkText = Annotated[
    str,
    BeforeValidator(_network),
    Field(
        title="a network with its prefix length and no host bits",
        examples=["10.0.0.0/8"],
        json_schema_extra={"pattern": _WITH_PREFIX},
    ),
]


def _none(value: object) -> object:
    """TOML has no null."""
    return None if value == "none" else value


def _bool(value: object) -> bool:
    """To Python, 1 is true and true is 1, even in a Literal."""
    if isinstance(value, bool):
        return value
    raise PydanticCustomError("bool_type", "not true or false")


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "not a number")
    return value


class SecretFile(Frozen):
    """A secret kept outside the answer file."""

    file: AbsolutePath
    """Absolute path, on the live system, of a file holding the secret; one trailing newline is dropped."""


class SecretPrompt(Frozen):
    """A secret typed at the console during installation; not for unattended use."""

    prompt: Annotated[Literal[True], BeforeValidator(_bool)]
    """Ask for it."""


def _secret_kind(value: Any) -> str | None:
    keys = value.keys() if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((kind for kind in ("file", "prompt") if kind in keys), None)


Secret = Annotated[
    Annotated[SecretFile, Tag("file")] | Annotated[SecretPrompt, Tag("prompt")],
    Discriminator(_secret_kind),
    Field(
        title='`{ file = "/path" }` or `{ prompt = true }`: a secret is never written into the answer file',
        examples=[{"file": "/run/secrets/passphrase"}],
        json_schema_extra={"writeOnly": True},
    ),
]


class DiskSelector(Frozen):
    """Which disk. All conditions must hold; a disk that lacks a property does not match it."""

    serial: str | None = Field(default=None, examples=["S5GXNX0T123456"])
    """Serial number, exactly."""
    wwn: str | None = Field(default=None, examples=["eui.0025385b21404d0c"])
    """World-wide name, exactly (`0x5000c500a1b2c3d4`, `eui.…`, `nvme.…`)."""
    by_id: str | None = Field(default=None, examples=["nvme-Samsung_SSD_980_PRO_1TB_S5GXNX0T123456"])
    """Name in /dev/disk/by-id, with or without that folder, exactly."""
    model: str | None = Field(default=None, examples=["Samsung SSD 980*"])
    """Model, with `*` and `?` as wildcards."""
    transport: Literal["nvme", "sata", "sas", "scsi", "usb", "virtio", "mmc", "fc", "iscsi"] | None = None
    """What the disk hangs on."""
    size_min: SizeText | None = None
    """Smallest size."""
    size_max: SizeText | None = Field(default=None, examples=["2TiB"])
    """Largest size."""
    rotational: bool | None = None
    """Whether it spins."""
    count: int = Field(default=1, ge=1)
    """How many disks must match, exactly."""


class FilesystemKind(StrEnum):
    """File systems for the root."""

    ext4 = "ext4"
    xfs = "xfs"
    btrfs = "btrfs"
    zfs = "zfs"


class LayoutKind(StrEnum):
    """How the system's disks are put together."""

    one_disk = "one-disk"
    """Everything on one disk."""
    mirror = "mirror"
    """The same on two or more disks; the host starts with any one of them."""
    array = "array"
    """Many disks together, as `redundancy` says."""
    auto = "auto"
    """Chosen from the disks that match; the plan says what and why."""


class Redundancy(StrEnum):
    """What stays readable when disks fail."""

    none = "none"
    """Nothing: every disk is needed."""
    mirror = "mirror"
    """Two disks or more carry the same."""
    raid10 = "raid10"
    """Mirrored pairs, spread."""
    raid5 = "raid5"
    """One disk may fail; md only."""
    raid6 = "raid6"
    """Two disks may fail; md only."""
    raidz1 = "raidz1"
    """One disk may fail; ZFS only."""
    raidz2 = "raidz2"
    """Two disks may fail; ZFS only."""
    raidz3 = "raidz3"
    """Three disks may fail; ZFS only."""


class VolumesKind(StrEnum):
    """What divides the space between the disks and the file systems."""

    none = "none"
    """Nothing."""
    lvm = "lvm"
    """LVM: the root is a logical volume."""
    lvm_thin = "lvm-thin"
    """LVM with a thin pool: the root is a thin volume, which takes only the space that it uses."""


class SwapAnswers(Frozen):
    """Swap."""

    kind: Literal["none", "partition", "file", "zram"] = "zram"
    """`none`, `partition` (a logical volume with LVM, mirrored where the system is), `file` or `zram` (compressed memory)."""
    size: SizeText | None = Field(default=None, examples=["8GiB"])
    """Size of the partition or file; without it as much as the memory, at most 16 GiB and a tenth of the disk unless the
    host is to hibernate."""
    hibernate: Annotated[bool, BeforeValidator(_bool)] = False
    """Whether the host can hibernate (`systemctl hibernate`): swap on one disk, as large as the memory; where it cannot be,
    the reason is told."""
    zram_percent: int | None = Field(default=None, ge=1, le=200, examples=[50])
    """Size of the zram device in percent of the memory; without it what the tier sets."""


class RecoveryKind(StrEnum):
    """How the recovery key of encrypted disks reaches a person."""

    auto = "auto"
    """Sealed where recipients are named or nobody watches, else shown."""
    show = "show"
    """On the screen, once, at the end."""
    seal = "seal"
    """Encrypted for those who shall have it; the result may lie in the open."""
    off = "off"
    """There is none."""


class TokenKind(StrEnum):
    """What opens encrypted disks at boot beside the passphrase."""

    none = "none"
    """Nothing."""
    tpm2 = "tpm2"
    """The machine's TPM 2.0, by itself."""
    tpm2_pin = "tpm2-pin"
    """The machine's TPM 2.0, once a PIN is typed; it stops who guesses."""
    fido2 = "fido2"
    """A FIDO2 token that is plugged in and touched."""


RecoveryRecipient = Annotated[
    str,
    StringConstraints(pattern=r"^(age1[02-9ac-hj-np-z]{58}|ssh-(ed25519|rsa) \S+.*)$"),
    Field(
        title="an age recipient (`age1…`), or an SSH public key of type ssh-ed25519 or ssh-rsa",
        examples=["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"],
    ),
]
"""What age(1) encrypts to."""


class SshUnlockAnswers(Frozen):
    """Typing the passphrase over SSH, before the disks are open. The network is there as the host has it later."""

    enable: bool = False
    """Whether the passphrase may be typed over SSH."""
    port: int = Field(default=2222, ge=1, le=65535)
    """TCP port; not the host's own, since the host key is another and clients tell hosts apart by port."""
    keys: tuple[str, ...] = Field(default=(), examples=[["ssh-ed25519 AAAA… anna@desk"]])
    """Who may: public keys, one authorized_keys(5) line each; without any the administrators' own."""


class EncryptionAnswers(Frozen):
    """LUKS2 under everything but the ESP."""

    enable: bool = False
    """Whether to encrypt."""
    passphrase: Secret | None = None
    """The passphrase that opens the disks at boot; at least 8 characters."""
    pbkdf_memory: SizeText | None = Field(default=None, examples=["1GiB"])
    """Memory of argon2id; without it fitted to the machine's memory."""
    pbkdf_iterations: int | None = Field(default=None, ge=4)
    """Iterations of argon2id; without it cryptsetup measures for two seconds. Low values are for tests only."""
    allow_discards: bool = True
    """Pass TRIM through; tells an attacker how much of the disk is used."""
    recovery_key: RecoveryKind = RecoveryKind.auto
    """A second key, made by chance, that opens every disk when the passphrase is lost: `show` it once on the screen at
    the end, `seal` it for `recovery_recipients`, or `off`; `auto` seals it where recipients are named or nobody watches
    (`destroy = "matched"`), and shows it else."""
    recovery_recipients: tuple[RecoveryRecipient, ...] = ()
    """Who can read the sealed recovery key, with age(1): age or SSH public keys; without any the administrators' SSH keys
    of these kinds."""
    ssh: SshUnlockAnswers = SshUnlockAnswers()
    """Typing the passphrase over SSH."""
    token: TokenKind = TokenKind.none
    """What opens the disks at boot beside the passphrase, which stays; enrolled by the host itself at its first boot, since
    the live system measures otherwise. The TPM binds to Secure Boot's state (PCR 7)."""
    pin: Secret | None = None
    """With token `tpm2-pin`: the PIN; at least 6 characters."""


class BootLoader(StrEnum):
    """Which loader."""

    auto = "auto"
    """systemd-boot under UEFI, GRUB under BIOS."""
    systemd_boot = "systemd-boot"
    grub = "grub"


class KernelsPlace(StrEnum):
    """Under UEFI: where kernels and initrds of the generations lie."""

    auto = "auto"
    """On the EFI system partition; beside a shared one that is too small on a partition of their own."""
    esp = "esp"
    """On the EFI system partition."""
    xbootldr = "xbootldr"
    """On a partition of their own (XBOOTLDR), which systemd-boot reads too; one disk."""


class BootAnswers(Frozen):
    """Booting."""

    loader: BootLoader = BootLoader.auto
    """Which loader."""
    firmware: Literal["auto", "uefi", "bios"] = "auto"
    """What to install for; `auto` is what the live system was booted with. A mismatch is refused."""
    esp_size: SizeText | None = Field(default=None, examples=["2GiB"])
    """Size of the EFI system partition, or of the one that `kernels` names; at least 1 GiB, since every generation's kernel
    and initrd go there. Without it what the kept generations and the one being written take, at least 2 GiB."""
    kernels: KernelsPlace = KernelsPlace.auto
    """Under UEFI: where kernels and initrds lie."""
    generations: int = Field(default=10, ge=2, le=50)
    """How many generations the boot menu keeps."""
    serial_console: (
        Annotated[
            str,
            StringConstraints(pattern=r"^tty(S|AMA)[0-9]+(,[0-9]+)?$"),
            Field(title="a serial port, with or without its speed", examples=["ttyS0,115200"]),
        ]
        | None
    ) = None
    """Serial console of the installed host, e.g. `ttyS0,115200`; it gets the kernel's messages and a login."""
    kernel_params: tuple[
        Annotated[
            str,
            StringConstraints(pattern=r"^\S+$"),
            Field(title="one kernel parameter, without blanks", examples=["mitigations=auto"]),
        ],
        ...,
    ] = ()
    """Further kernel parameters, one an element."""


class PoolAnswers(Frozen):
    """Storage for VMs apart from the root."""

    kind: Literal["dir", "lvm-thin", "zfs"] = "dir"
    """`dir`: a file system at `first_run.pool`; `lvm-thin`: a thin pool of LVM; `zfs`: a ZFS dataset there."""
    disk: DiskSelector | None = None
    """Which disk or, with `count`, which disks; without any the system's own."""
    disks: tuple[DiskSelector, ...] = ()
    """The same as a list, each found by conditions of its own."""
    filesystem: Literal[FilesystemKind.ext4, FilesystemKind.xfs, FilesystemKind.btrfs] = FilesystemKind.xfs
    """`dir` on disks of its own: file system."""
    redundancy: Redundancy | None = None
    """What stays readable when disks fail; without it what suits the number of disks."""
    nodatacow: bool | None = None
    """btrfs: write images in place, which is fast and has no checksums; without it where nothing is mirrored, since
    copies without checksums can differ unnoticed."""
    record_size: SizeText = "64KiB"
    """ZFS: largest block of an image; a power of two from 4 KiB to 1 MiB."""


class ExistingKind(StrEnum):
    """What becomes of what is on the system's disks already."""

    erase = "erase"
    """All of it goes: the disks are emptied."""
    keep = "keep"
    """Every partition stays as it is, but for those that `partitions` says otherwise of; the host goes into what is
    free."""
    reinstall = "reinstall"
    """This host is on the disks: partitions and file systems stay, the VMs' storage and definitions and what `keep` names
    stay, everything else is removed and installed anew."""


class EspKind(StrEnum):
    """Whose EFI system partition the host starts from, beside partitions that are kept."""

    auto = "auto"
    """The one on the disk where it is large enough, else one of its own."""
    share = "share"
    """The one on the disk: it is never formatted, and other systems' files on it stay."""
    own = "own"
    """One of its own, in the free space."""


class PartitionAnswers(Frozen):
    """What becomes of one partition that is on the disk already. All conditions must hold; exactly one must match."""

    number: int | None = Field(default=None, ge=1, le=128, examples=[3])
    """Its number."""
    uuid: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
            Field(title="a GUID in lower case", examples=["6f2d1c3e-4b5a-4c6d-8e7f-901234567890"]),
        ]
        | None
    ) = None
    """Its GUID (`lsblk -o PARTUUID`)."""
    label: str | None = Field(default=None, examples=["data"])
    """Its name in the partition table."""
    action: Literal["keep", "format", "delete"] = "keep"
    """`keep`: not a byte of it changes; `format`: its place stays, its content goes; `delete`: it becomes free space."""
    mount: AbsolutePath | None = Field(default=None, examples=["/srv/data"])
    """Where the host mounts it; `/` with `format` makes it the root."""
    grow: Annotated[bool, BeforeValidator(_bool)] = False
    """`format`: let it take the free space right behind it."""


class StorageAnswers(Frozen):
    """Disks and layout."""

    layout: LayoutKind = LayoutKind.one_disk
    """How the system's disks are put together: `one-disk`, `mirror`, `array`, or `auto`."""
    disk: DiskSelector | None = None
    """Which disk or, with `count`, which disks; must match exactly as many."""
    disks: tuple[DiskSelector, ...] = ()
    """The same as a list, each disk found by conditions of its own; the first is the one that boots."""
    filesystem: FilesystemKind = FilesystemKind.ext4
    """File system of the root."""
    redundancy: Redundancy | None = None
    """What stays readable when disks fail; without it what suits the layout and the number of disks."""
    volumes: VolumesKind = VolumesKind.none
    """LVM between disks and file systems: `none`, `lvm`, `lvm-thin`."""
    root_size: SizeText | None = Field(default=None, examples=["64GiB"])
    """LVM only: size of the root; without it all of the space, or 64 GiB where a pool takes the rest."""
    pool: PoolAnswers | None = None
    """Storage for VMs apart from the root."""
    subvolumes: dict[str, str] = Field(
        default={
            "@": "/",
            "@home": "/home",
            "@nix": "/nix",
            "@log": "/var/log",
            "@libvirt": "/var/lib/libvirt",
        }
    )
    """btrfs only: subvolume to mount point; `/` must be among them."""
    mount_options: tuple[str, ...] | None = Field(default=None, examples=[["noatime"]])
    """Options of the root; without it what suits the file system (`noatime`, `compress=zstd:1`, `discard`)."""
    swap: SwapAnswers = SwapAnswers()
    """Swap."""
    encryption: EncryptionAnswers = EncryptionAnswers()
    """LUKS2."""
    existing: ExistingKind = ExistingKind.erase
    """What becomes of what is on the system's disks already: `erase`, `keep` or `reinstall`."""
    partitions: tuple[PartitionAnswers, ...] = ()
    """With `existing = "keep"`: single partitions that are mounted, formatted or deleted."""
    esp: EspKind = EspKind.auto
    """With `existing = "keep"`, under UEFI: whose EFI system partition the host starts from."""
    keep: tuple[AbsolutePath, ...] = Field(default=(), examples=[["/home", "/srv"]])
    """With `existing = "reinstall"`: what stays besides the VMs' storage and definitions."""
    destroy: Literal["matched"] | None = None
    """`matched`: consent to destroy everything on the matched disks that `existing` does not keep, for unattended
    installation."""

    @property
    def selectors(self) -> tuple[DiskSelector, ...]:
        """Which disks the system goes to, one selector after the other."""
        return (*((self.disk,) if self.disk else ()), *self.disks)

    @property
    def pool_selectors(self) -> tuple[DiskSelector, ...]:
        """Which disks the pool has for itself."""
        if self.pool is None:
            return ()
        return (*((self.pool.disk,) if self.pool.disk else ()), *self.pool.disks)


class User(Frozen):
    """One person's account."""

    name: UserName
    """Login name."""
    full_name: str = ""
    """Name for people (GECOS; no colon, no line break)."""
    admin: bool = False
    """Whether the user may become root (group wheel)."""
    password_hash: str | None = Field(
        default=None, repr=False, examples=["$y$j9T$…"], json_schema_extra={"writeOnly": True}
    )
    """crypt(5) hash of the password, as `mkpasswd -m yescrypt` prints it; kinds $y$, $gy$, $7$, $6$, $2b$."""
    password_hash_file: SecretFile | None = Field(
        default=None, examples=[{"file": "/run/secrets/anna.hash"}], json_schema_extra={"writeOnly": True}
    )
    """The same, kept outside the answer file."""
    ssh_keys: tuple[str, ...] = Field(default=(), examples=[["ssh-ed25519 AAAA… anna@desk"]])
    """Public keys, one authorized_keys(5) line each."""
    groups: tuple[GroupName, ...] = ()
    """Further groups."""
    shell: Literal["bash", "zsh", "fish"] = "bash"
    """Login shell."""


class SshAnswers(Frozen):
    """The SSH server."""

    enable: bool = True
    """Whether it runs."""
    port: int = Field(default=22, ge=1, le=65535)
    """TCP port."""
    password_login: bool = False
    """Whether passwords are accepted in phase setup; never in phase hardened."""


class LinkMatch(Frozen):
    """Which network interface."""

    mac: Mac | None = None
    """Permanent address."""
    name: str | None = Field(default=None, examples=["enp1s0"])
    """Interface name; shell wildcards allowed. Prefer the MAC."""


class Vlan(Frozen):
    """A VLAN on top of an interface, bond, or bridge."""

    name: InterfaceName
    """Name of the interface to make."""
    id: int = Field(ge=1, le=4094)
    """VLAN id (IEEE 802.1Q)."""
    link: InterfaceName
    """What it runs over: a `name` of another entry."""


class Route(Frozen):
    """A static route."""

    to: NetworkText
    """Destination network."""
    via: IpAddress
    """Gateway."""


class Addressing(Frozen):
    """How an interface gets its addresses."""

    dhcp: Literal["yes", "no", "ipv4", "ipv6"] = "yes"
    """DHCP for both families, none, or one."""
    accept_ra: bool = True
    """Take IPv6 router advertisements."""
    addresses: tuple[IpInterface, ...] = ()
    """Static addresses with prefix length, IPv4 and IPv6."""
    gateways: tuple[IpAddress, ...] = ()
    """Default gateways, at most one a family."""
    dns: tuple[IpAddress, ...] = ()
    """Name servers for this interface."""
    domains: tuple[DomainName, ...] = ()
    """Search domains."""
    routes: tuple[Route, ...] = ()
    """Static routes."""
    mtu: int | None = Field(default=None, ge=576, le=9216, examples=[1500])
    """MTU in bytes."""


class Ethernet(Frozen):
    """A physical interface."""

    name: InterfaceName
    """What the rest of this file calls it; the host's interface is renamed so when matched by MAC."""
    match: LinkMatch
    """Which one it is."""
    addressing: Addressing | None = None
    """Its addresses; leave out when it is part of a bond or bridge."""


class Bond(Frozen):
    """Several interfaces as one."""

    name: InterfaceName
    """Name of the interface to make."""
    members: tuple[InterfaceName, ...] = Field(min_length=1, examples=[["lan0", "lan1"]])
    """Names of physical interfaces."""
    mode: Literal["802.3ad", "active-backup", "balance-alb", "balance-xor"] = "active-backup"
    """Bonding mode (kernel doc networking/bonding)."""
    addressing: Addressing | None = None
    """Its addresses."""


class Bridge(Frozen):
    """A switch that guests can be plugged into."""

    name: InterfaceName
    """Name of the interface to make."""
    members: tuple[InterfaceName, ...] = ()
    """Names of interfaces, bonds or VLANs."""
    stp: bool = False
    """Spanning tree."""
    addressing: Addressing | None = None
    """Its addresses."""


class VlanInterface(Vlan):
    """A VLAN with its addresses."""

    addressing: Addressing | None = None
    """Its addresses."""


class NetworkAnswers(Frozen):
    """The network. With nothing said, every wired interface asks by DHCP."""

    ethernets: tuple[Ethernet, ...] = ()
    """Physical interfaces."""
    bonds: tuple[Bond, ...] = ()
    """Bonds."""
    vlans: tuple[VlanInterface, ...] = ()
    """VLANs."""
    bridges: tuple[Bridge, ...] = ()
    """Bridges."""
    management: tuple[InterfaceName, ...] = Field(default=(), examples=[["br0"]])
    """Interfaces that administrators come in through: SSH is open there alone; without any, everywhere."""
    dns: tuple[IpAddress, ...] = ()
    """Name servers for the whole host."""
    ntp: tuple[str, ...] = Field(default=(), examples=[["ntp.example.org"]])
    """Time servers; NixOS's pool without it."""
    proxy: (
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://\S+$"),
            Field(title="the URL of an HTTP proxy", examples=["http://proxy.example.org:3128"]),
        ]
        | None
    ) = None
    """HTTP proxy for the live system and the host; no password in it."""
    no_proxy: tuple[str, ...] = Field(default=(), examples=[["localhost", ".example.org"]])
    """Names and networks reached without the proxy."""


class Substituter(Frozen):
    """A binary cache."""

    url: str = Field(examples=["https://cache.example.org"])
    """`https://…`, `file:///…`, `s3://…`."""
    public_key: str | None = Field(default=None, examples=["cache.example.org-1:…="])
    """`name:base64`, as `nix key convert-secret-to-public` prints it; none only for caches that sign with known keys."""


class SystemAnswers(Frozen):
    """Where the system comes from."""

    source: Literal["flake", "closure"] = "flake"
    """`flake`: evaluated from the rendered configuration; `closure`: ready-made, found on the medium or in a cache."""
    closure: str | None = Field(default=None, examples=["standard"])
    """With `closure`: the name that the medium gives it, or a store path."""
    substituters: tuple[Substituter, ...] = ()
    """Binary caches for the live system and the host alike."""
    ca_certificates: tuple[str, ...] = Field(default=(), examples=[["-----BEGIN CERTIFICATE-----\n…"]])
    """PEM certificates to trust, in the live system and on the host."""
    offline: bool = False
    """Never reach for the network; refuse when something is missing."""


class Tier(StrEnum):
    """How much host: defaults for a machine of its size, see the page on features and tiers."""

    minimal = "minimal"
    standard = "standard"
    enhanced = "enhanced"
    professional = "professional"
    enterprise = "enterprise"


class PassthroughDevice(Frozen):
    """A PCI device to be kept free for guests."""

    address: PciAddressAnswer | None = None
    """PCI address."""
    ids: PciIds | None = None
    """Vendor and device id; must match exactly one device."""
    whole_group: bool = True
    """Take everything of its IOMMU group along; else the plan is refused when there is more."""


class HypervisorAnswers(Frozen):
    """What kind of virtualization host."""

    tier: Tier = Tier.standard
    """Defaults for a machine of this size; from 2, 4, 8, 16 and 32 GB of memory on."""
    features: dict[str, bool] = Field(default={}, examples=[{"tpm": False}])
    """Single features on or off on top of the tier, by name, see the page on features and tiers."""
    risk_tolerance: Literal["paranoid", "cautious", "balanced", "accepting"] = "balanced"
    """How much risk the features may add up to, see the page on features and tiers."""
    nested: bool = False
    """Let guests run guests: the feature `nested-virtualization`."""
    hugepages_1g: int = Field(default=0, ge=0)
    """Number of 1 GiB pages kept for guests."""
    hugepages_2m: int = Field(default=0, ge=0)
    """Number of 2 MiB pages kept for guests."""
    cpu_model: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
        Field(title="a processor model as libvirt names it", examples=["host-passthrough"]),
    ] = "host-model"
    """Processor of guests that run with KVM: `host-model`, `host-passthrough`, or one of libvirt's models."""
    passthrough: tuple[PassthroughDevice, ...] = ()
    """Devices for guests."""


class Phase(StrEnum):
    """How strict the host is."""

    setup = "setup"
    """Reachable and forgiving, for the first hour."""
    hardened = "hardened"
    """Keys only, least exposure."""


SecurityProfile = Literal["development", "balanced", "strict", "paranoid"]
SECURITY_PROFILES: tuple[SecurityProfile, ...] = get_args(SecurityProfile)
"""Mildest first."""


class SecurityAnswers(Frozen):
    """Security."""

    phase: Phase = Phase.setup
    """Phase to end in; `hardened` is raised by the last first-run job."""
    profile: SecurityProfile = "balanced"
    """How far phase hardened goes; each holds everything of the one before."""


class VmAnswers(Frozen):
    """A VM to make at first run."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$"),
        Field(
            title="a guest's name: letters, digits, `_`, `.` and `-`, at most 63",
            examples=["router"],
        ),
    ]
    """Name of the domain."""
    image: str = Field(examples=["medium:router"])
    """`medium:NAME` for an image of the medium, or an absolute path on the live system; copied to the host."""
    image_format: Literal["qcow2", "raw"] = "qcow2"
    """Format of the image; never guessed, since a guest could forge it."""
    image_sha256: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[0-9a-f]{64}$"),
            Field(title="a SHA-256: 64 hexadecimal digits in lower case", examples=["e3b0c442…"]),
        ]
        | None
    ) = None
    """SHA-256 of the image, checked after copying."""
    memory: SizeText = "1GiB"
    """Memory."""
    vcpus: int = Field(default=1, ge=1, le=512)
    """Virtual processors."""
    disk_size: SizeText | None = Field(default=None, examples=["20GiB"])
    """Grow the disk to this size."""
    network: Annotated[str | None, BeforeValidator(_none)] = "default"
    """libvirt network; `none` for no network."""
    firmware: Literal["bios", "uefi"] = "uefi"
    """Firmware of the guest."""
    autostart: bool = True
    """Start with the host."""
    start: bool = True
    """Start at first run."""


class FirstRunAnswers(Frozen):
    """What the host does once, after its first boot."""

    vms: tuple[VmAnswers, ...] = ()
    """VMs."""
    pool: AbsolutePath = "/var/lib/libvirt/images"
    """Folder of the storage pool `default`."""


class Hook(Frozen):
    """A program of the operator's, run at a point of the installation."""

    when: Literal["before-plan", "before-write", "after-install"]
    """Before planning, right before the first write, or after the last step with the target mounted at /mnt."""
    command: tuple[str, ...] = Field(min_length=1, examples=[["/run/hooks/ready", "--verbose"]])
    """Program and arguments; no shell."""
    timeout: int = Field(default=300, ge=1)
    """Seconds."""


class Webhook(Frozen):
    """A server that is told how the installation goes."""

    url: Annotated[
        str,
        StringConstraints(pattern=r"^https?://\S+$"),
        Field(
            title="a URL that begins with https:// or http://", examples=["https://fleet.example.org/events"]
        ),
    ]
    """Where each event is posted to; it gets no name or password in it."""
    events: tuple[Literal["started", "step", "succeeded", "failed"], ...] = (
        "started",
        "step",
        "succeeded",
        "failed",
    )
    """Which events."""
    secret: SecretFile | None = Field(
        default=None,
        examples=[{"file": "/run/hyper-nixos/live/secrets/webhook"}],
        json_schema_extra={"writeOnly": True},
    )
    """Key with which each event is signed (HMAC-SHA-256); without it events are not signed."""
    certificate: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[0-9a-f]{64}$"),
            Field(
                title="a SHA-256: 64 hexadecimal digits in lower case",
                examples=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
            ),
        ]
        | None
    ) = None
    """SHA-256 of the server's certificate; then this one is trusted, whoever issued it, and no other."""


TopicName = Literal[
    "welcome",
    "keyboard",
    "network",
    "disks",
    "encryption",
    "host",
    "users",
    "hypervisor",
    "passthrough",
    "guests",
    "security",
]
"""Topics of the guided installer, in its order; a test compares."""


class Answers(Frozen):
    """A whole answer file."""

    version: Annotated[Literal[1], BeforeValidator(_no_bool)]
    """Format of the file; 1."""
    interactive: tuple[TopicName, ...] = Field(default=(), examples=[["disks", "users"]])
    """What the guided installer still asks about; the rest is taken from this file."""
    hostname: HostName
    """Name of the host, without domain."""
    domain: DomainName | None = None
    """DNS domain."""
    locale: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z_]+(\.[A-Za-z0-9-]+)?(@[a-z]+)?$"),
        Field(title="a locale as glibc names it", examples=["de_CH.UTF-8"]),
    ] = "en_US.UTF-8"
    """Locale (glibc name)."""
    keymap: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$"),
        Field(title="a console keymap", examples=["sg"]),
    ] = "us"
    """Console keymap, as `localectl list-keymaps` names it; the passphrase prompt uses it too."""
    timezone: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_+/-]+$"),
        Field(title="a time zone of the tz database", examples=["Europe/Zurich"]),
    ] = "UTC"
    """Time zone, as the tz database names it."""
    storage: StorageAnswers
    """Disks and layout."""
    boot: BootAnswers = BootAnswers()
    """Booting."""
    users: tuple[User, ...] = ()
    """Accounts; at least one administrator who can log in."""
    ssh: SshAnswers = SshAnswers()
    """SSH server."""
    network: NetworkAnswers = NetworkAnswers()
    """Network."""
    system: SystemAnswers = SystemAnswers()
    """Where the system comes from."""
    hypervisor: HypervisorAnswers = HypervisorAnswers()
    """Virtualization."""
    security: SecurityAnswers = SecurityAnswers()
    """Phases and hardening."""
    first_run: FirstRunAnswers = FirstRunAnswers()
    """After the first boot."""
    hooks: tuple[Hook, ...] = ()
    """Operator's programs."""
    webhooks: tuple[Webhook, ...] = ()
    """Servers that are told how the installation goes."""
    at_end: Literal["reboot", "kexec", "poweroff", "stay"] = "stay"
    """What to do when all is installed and proved; `kexec` starts the host's kernel without the firmware between."""
