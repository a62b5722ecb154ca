"""The answer file as types. One field, one docstring: it is the schema, the reference page and the question.

A type's `title` says in a few words what a good value is (`is not TITLE` is the error), `examples` shows one;
`writeOnly` marks a secret, whose value no message ever repeats.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from installer.answers.boot import BootAnswers, BootLoader, KernelsPlace
from installer.answers.disks import (
    DiskSelector,
    EncryptionAnswers,
    FilesystemKind,
    LayoutKind,
    RecoveryKind,
    RecoveryRecipient,
    Redundancy,
    SshUnlockAnswers,
    SwapAnswers,
    TokenKind,
    VolumesKind,
)
from installer.answers.guests import FirstRunAnswers, VmAnswers
from installer.answers.hypervisor import (
    SECURITY_PROFILES,
    HypervisorAnswers,
    PassthroughDevice,
    Phase,
    SecurityAnswers,
    SecurityProfile,
    Tier,
)
from installer.answers.installation import Hook, Webhook
from installer.answers.network import (
    Addressing,
    Bond,
    Bridge,
    Ethernet,
    LinkMatch,
    NetworkAnswers,
    Route,
    Vlan,
    VlanInterface,
)
from installer.answers.people import SshAnswers, User
from installer.answers.secret import Secret, SecretFile, SecretPrompt
from installer.answers.storage import EspKind, ExistingKind, PartitionAnswers, PoolAnswers, StorageAnswers
from installer.answers.system import Substituter, SystemAnswers
from installer.answers.text_kinds import (
    AbsolutePath,
    DomainName,
    GroupName,
    HostName,
    InterfaceName,
    IpAddress,
    IpInterface,
    Mac,
    NetworkText,
    PciAddressAnswer,
    PciIds,
    SizeText,
    UserName,
    no_truth,
)
from installer.frozen import Frozen

__all__ = [
    "SECURITY_PROFILES",
    "AbsolutePath",
    "Addressing",
    "Answers",
    "Bond",
    "BootAnswers",
    "BootLoader",
    "Bridge",
    "DiskSelector",
    "DomainName",
    "EncryptionAnswers",
    "EspKind",
    "Ethernet",
    "ExistingKind",
    "FilesystemKind",
    "FirstRunAnswers",
    "GroupName",
    "Hook",
    "HostName",
    "HypervisorAnswers",
    "InterfaceName",
    "IpAddress",
    "IpInterface",
    "KernelsPlace",
    "LayoutKind",
    "LinkMatch",
    "Mac",
    "NetworkAnswers",
    "NetworkText",
    "PartitionAnswers",
    "PassthroughDevice",
    "PciAddressAnswer",
    "PciIds",
    "Phase",
    "PoolAnswers",
    "RecoveryKind",
    "RecoveryRecipient",
    "Redundancy",
    "Route",
    "Secret",
    "SecretFile",
    "SecretPrompt",
    "SecurityAnswers",
    "SecurityProfile",
    "SizeText",
    "SshAnswers",
    "SshUnlockAnswers",
    "StorageAnswers",
    "Substituter",
    "SwapAnswers",
    "SystemAnswers",
    "Tier",
    "TokenKind",
    "TopicName",
    "User",
    "UserName",
    "Vlan",
    "VlanInterface",
    "VmAnswers",
    "VolumesKind",
    "Webhook",
]
"""Everything that an answer file is made of; the parts lie in modules of their own."""

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
    "more",
]
"""Topics of the guided installer, in its order; a test compares."""


class Answers(Frozen):
    """A whole answer file."""

    version: Annotated[Literal[1], BeforeValidator(no_truth)]
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
