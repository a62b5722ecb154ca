"""Disks and what is put on them: selectors, layouts, swap, encryption."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from installer.answers.secret import Secret
from installer.answers.text_kinds import SizeText, true_or_false
from installer.frozen import Frozen


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
    hibernate: Annotated[bool, BeforeValidator(true_or_false)] = False
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
