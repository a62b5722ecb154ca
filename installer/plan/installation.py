"""The steps that follow once the target's file systems are mounted, up to their being unmounted again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from re import fullmatch

from installer.answers.model import Answers, Hook, RecoveryKind, User, VmAnswers
from installer.answers.recovery import recipients, recovery_kind
from installer.answers.sizes import parse_size
from installer.errors import Exit, HyperError
from installer.handoff import HANDOFF_PATH, Enrolment, HandoffFetch, HandoffVm, HandoffWebhook
from installer.medium import Medium
from installer.plan.actions import (
    Action,
    CopyFile,
    InstallBootLoader,
    LoadKernel,
    MakeAccounts,
    MakeDirectory,
    MakeHostKey,
    PutBackForeign,
    Run,
    SaveLog,
    SealRecoveryKey,
    SecretReference,
    SetProfile,
    WriteBootEntry,
    WriteCertificates,
    WriteConfiguration,
    WriteHandoff,
    WriteHostData,
    WriteKey,
    WriteSecret,
)
from installer.plan.checks import (
    AccountsAre,
    BootEntryIs,
    BootProof,
    Check,
    ConfigurationIs,
    FileIs,
    ForeignFilesKept,
    HandoffIs,
    HostDataIs,
    HostKeyIs,
    KernelLoaded,
    KeyOpens,
    LoginProof,
    LogSaved,
    NotMounted,
    ProfileIs,
    RecoveryKeySealed,
    SystemRealised,
)
from installer.plan.model import TARGET, HostUnlock, Step
from installer.plan.prebuilt import HOST_DATA
from installer.plan.source import CERTIFICATES, CONFIGURATION, SystemSource, environment
from installer.plan.storage.array import Array
from installer.plan.storage.disk import disk_title
from installer.plan.storage.element import Element, Layout
from installer.plan.storage.filesystem import Mounted, all_mounts
from installer.plan.storage.gpt import Partition
from installer.plan.storage.in_place import InPlace
from installer.plan.storage.kept import SharedEsp
from installer.plan.storage.luks import Luks
from installer.plan.storage.lvm import VolumeGroup
from installer.plan.storage.swap import Swap
from installer.plan.storage.vfat import EfiSystem
from installer.plan.storage.zfs import ZfsPool

SECRETS = "/var/lib/hyper-nixos/secrets"
"""On the host; not below /etc/nixos, since a flake's folder is copied into the store that everyone can read."""
LOGS = "/var/log/hyper-nixos"
"""On the host."""
IMAGES = "/var/lib/hyper-nixos/images"
"""On the host; the first run makes each VM's own disk in the pool from here."""
IMAGE_MODE = 0o600
"""An image may hold anyone's secrets."""
SYSTEMD_BOOT = "\\EFI\\systemd\\systemd-bootARCH.efi"
"""Where bootctl puts the loader on an ESP."""
RECOVERY_KEY = "recovery-key-{}.age"
"""On the host, beside the kernels of each boot disk, so that it can be read when the root cannot, or a disk is gone."""
COPY_WEIGHT = 5
SYSTEM_WEIGHT = 60


def password_path(user: User) -> str:
    """Where the host keeps a user's password hash (`hashedPasswordFile`)."""
    return f"{SECRETS}/passwords/{user.name}"


def webhook_secret(number: int) -> str:
    """Where the host keeps the key of a webhook."""
    return f"{SECRETS}/webhooks/{number}"


def handoff_webhooks(answers: Answers) -> tuple[HandoffWebhook, ...]:
    """Who is told how the first run went."""
    return tuple(
        HandoffWebhook(
            url=hook.url,
            secret_file=webhook_secret(number) if hook.secret else None,
            certificate=hook.certificate,
            proxy=answers.network.proxy,
            no_proxy=answers.network.no_proxy if answers.network.proxy else (),
        )
        for number, hook in enumerate(answers.webhooks)
        if "first-run" in hook.events
    )


def hook_steps(answers: Answers, when: str, requires: tuple[str, ...]) -> Iterator[Step]:
    """The operator's programs at one point, one after the other."""
    hooks: list[Hook] = [hook for hook in answers.hooks if hook.when == when]
    for number, hook in enumerate(hooks, start=1):
        step = f"hook-{when}-{number}"
        yield Step(
            id=step,
            summary=f"Run the {when} program {hook.command[0]}; its exit status is all that is known of it",
            requires=requires,
            actions=(Run(argv=hook.command, environment=environment(answers), timeout=hook.timeout),),
            checks=(),
        )
        requires = (step,)


def certificate_steps(answers: Answers) -> Iterator[Step]:
    """Have the live system trust the answers' certificates, before anything of it goes out."""
    if answers.system.ca_certificates and not answers.system.offline:
        yield Step(
            id="trust-certificates",
            summary="Trust the answers' certificates in the live system",
            actions=(WriteCertificates(path=CERTIFICATES),),
            checks=(FileIs(path=CERTIFICATES, mode=0o644),),
            transient=True,
        )


@dataclass(frozen=True, kw_only=True)
class Image:
    """A guest image."""

    source: str
    """Path on the live system."""
    path: str
    """Path on the host."""
    sha256: str | None
    """Its content, if known."""
    vms: tuple[str, ...]
    """Names of the VMs made from it."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What the steps are made of."""

    answers: Answers
    """What is wanted."""
    layout: Layout
    """Where it goes."""
    source: SystemSource
    """Where the system comes from."""
    images: tuple[Image, ...]
    """Guest images to be copied."""
    proof: BootProof
    """What must hold before anyone reboots."""
    enrolment: Enrolment | None
    """What the host enrols at its first boot."""
    unlock: HostUnlock | None
    """Typing the passphrase over SSH."""
    loader: str
    """`systemd-boot` or `grub`."""
    administrators: tuple[str, ...]
    """Accounts of which one must be able to log in."""
    ready: tuple[str, ...]
    """Ids of steps that must be verified before anything goes out to the network."""
    cleared: tuple[str, ...] = ()
    """Ids of steps that must be verified before anything is written to the target, besides its mounts."""

    def steps(self) -> Iterator[Step]:
        """From the mounted file systems to nothing being mounted any more."""
        mounted = (*(mount.step for mount in all_mounts(self.layout)), *self.cleared)
        swapping = tuple(f"activate-{each.key}" for each in self.layout.elements if isinstance(each, Swap))
        secrets = (
            *self._secrets(mounted),
            *self._webhook_secrets(mounted),
            *self._unlock_key(mounted),
            *self._enrolment(mounted),
        )
        yield from secrets
        yield Step(
            id="write-configuration",
            summary=f"Write the configuration of {self.answers.hostname} to {CONFIGURATION} on the target",
            requires=mounted,
            actions=(
                MakeDirectory(path=TARGET + CONFIGURATION),
                WriteConfiguration(path=TARGET + CONFIGURATION),
            ),
            checks=(ConfigurationIs(path=TARGET + CONFIGURATION),),
        )
        data = tuple(self._host_data(mounted))
        yield from data
        yield Step(
            id="realise",
            summary=self.source.summary,
            requires=(*self.ready, "write-configuration", *swapping),
            actions=(self.source.action,),
            checks=(SystemRealised(store=TARGET),),
            weight=SYSTEM_WEIGHT,
        )
        yield Step(
            id="set-profile",
            summary="Make it the target's system profile",
            requires=("realise",),
            actions=(SetProfile(store=TARGET),),
            checks=(ProfileIs(store=TARGET),),
        )
        yield Step(
            id="boot-loader",
            summary="Activate the system in the target, install its boot loader, and prove that it will boot",
            requires=("set-profile", *(each.id for each in (*secrets, *data))),
            actions=(InstallBootLoader(root=TARGET), *self._put_back()),
            checks=(self.proof, *self._foreign()),
            weight=8,
        )
        accounts = tuple(self._accounts())
        yield from accounts
        entries = tuple(self._boot_entries())
        yield from entries
        images = tuple(self._images(mounted))
        yield from images
        yield Step(
            id="write-handoff",
            summary="Leave the hand-off record for the first run of the host",
            requires=mounted,
            actions=(WriteHandoff(path=TARGET + HANDOFF_PATH),),
            checks=(HandoffIs(path=TARGET + HANDOFF_PATH),),
        )
        complete = ("boot-loader", *(each.id for each in (*accounts, *entries, *images)), "write-handoff")
        complete += tuple(each for each in self._storage_ends())
        sealed = tuple(self._sealed(mounted))
        yield from sealed
        complete += tuple(each.id for each in sealed)
        hooks = tuple(hook_steps(self.answers, "after-install", complete))
        yield from hooks
        yield Step(
            id="prove",
            summary="Prove that an administrator can log in, in both phases",
            requires=tuple(each.id for each in hooks) or complete,
            actions=(),
            # A program of the operator's may have touched what was proved with the boot loader.
            checks=(
                LoginProof(root=TARGET, administrators=self.administrators),
                *((self.proof, *self._foreign()) if hooks else ()),
            ),
        )
        yield Step(
            id="save-log",
            summary=f"Keep plan, journal, log and saved headers in {LOGS} on the target",
            requires=("prove",),
            actions=(SaveLog(path=TARGET + LOGS),),
            checks=(LogSaved(path=TARGET + LOGS),),
        )
        kexec = self.answers.at_end == "kexec"
        if kexec:
            yield Step(
                id="load-kernel",
                summary="Load the installed system's kernel, to be started without the firmware",
                requires=("save-log",),
                actions=(LoadKernel(root=TARGET),),
                checks=(KernelLoaded(),),
                undo=(Run(argv=("kexec", "--unload")),),
            )
        yield Step(
            id="unmount",
            summary="Unmount the target and close what was opened",
            requires=("load-kernel" if kexec else "save-log",),
            actions=(
                # A write that failed on its way to the disk is told by syncfs(2), and by nothing that comes after it.
                *(Run(argv=("sync", "--file-system", mount.target)) for mount in all_mounts(self.layout)),
                Run(argv=("umount", "--recursive", TARGET)),
                *self.layout.release(),
            ),
            checks=(
                NotMounted(
                    target=TARGET,
                    mappers=tuple(each.key for each in self.layout.elements if isinstance(each, Luks)),
                    arrays=tuple(each.uuid for each in self.layout.elements if isinstance(each, Array)),
                    pools=tuple(each.name for each in self.layout.elements if isinstance(each, ZfsPool)),
                ),
            ),
        )

    def _shared(self) -> Iterator[tuple[str, str]]:
        """Disk and place of an EFI system partition that another system has too."""
        for each in self.layout.elements:
            if isinstance(each, SharedEsp):
                (disk,) = self.layout.disks(each.key)
                yield disk.key, each.mounts[0].target

    def _put_back(self) -> tuple[Action, ...]:
        """The loader's installation takes `EFI/BOOT` for itself, whosever it is."""
        return tuple(PutBackForeign(disk=disk, path=path) for disk, path in self._shared())

    def _foreign(self) -> tuple[Check, ...]:
        return tuple(ForeignFilesKept(disk=disk, path=path) for disk, path in self._shared())

    def _host_data(self, mounted: tuple[str, ...]) -> Iterator[Step]:
        """What a system for many hosts finds as files; the others have it built in."""
        if self.source.prebuilt:
            yield Step(
                id="write-host-data",
                summary=f"Write what the ready system leaves open to {HOST_DATA} on the target",
                requires=mounted,
                actions=(WriteHostData(root=TARGET),),
                checks=(HostDataIs(root=TARGET),),
            )

    def _accounts(self) -> Iterator[Step]:
        """Activation makes the groups of such a system, and no people."""
        if self.source.prebuilt:
            names = ", ".join(user.name for user in self.answers.users)
            yield Step(
                id="make-accounts",
                summary=f"Make the accounts of {names}",
                requires=("boot-loader",),
                actions=(MakeAccounts(root=TARGET),),
                checks=(AccountsAre(root=TARGET),),
            )

    def _sealed(self, mounted: tuple[str, ...]) -> Iterator[Step]:
        """The recovery key for those who shall have it, unless it is shown."""
        if recovery_kind(self.answers) is RecoveryKind.seal:
            readers = recipients(self.answers)
            name = RECOVERY_KEY.format(self.answers.hostname)
            path, *copies = (f"{TARGET}{place}/{name}" for place in self._boot_places())
            yield Step(
                id="seal-recovery-key",
                summary=f"Encrypt the recovery key for {len(readers)} "
                f"{'recipient' if len(readers) == 1 else 'recipients'}, onto "
                f"{'every boot partition' if copies else 'the boot partition'}",
                requires=(*mounted, *self._recovery_keys()),
                actions=(SealRecoveryKey(path=path, recipients=readers, copies=tuple(copies)),),
                checks=tuple(RecoveryKeySealed(path=each) for each in (path, *copies)),
                transient=True,
            )

    def _boot_places(self) -> tuple[str, ...]:
        """Where each boot disk's kernels lie on the host, the first disk's first."""
        mirrors = (
            mount.mountpoint
            for mount in all_mounts(self.layout)
            if fullmatch("/boot[0-9]+", mount.mountpoint)
        )
        return ("/boot", *sorted(mirrors, key=lambda place: int(place.removeprefix("/boot"))))

    def _recovery_keys(self) -> Iterator[str]:
        for element in self.layout.elements:
            if isinstance(element, Luks) and element.recovery:
                yield element.recovery_step

    def _storage_ends(self) -> Iterator[str]:
        """Steps of storage on which no mount waits."""
        yield from self._recovery_keys()
        for element in self.layout.elements:
            match element:
                case Luks(key_file=str()):
                    yield f"add-key-{element.key}"
                case InPlace():
                    yield f"in-place-{element.key}"
                case VolumeGroup() if not any(isinstance(each, Mounted) for each in self._standing(element)):
                    yield element.ready(self.layout)
                case _:
                    pass

    def _standing(self, element: Element) -> Iterator[Element]:
        """Everything that stands on an element, directly or not."""
        for each in self.layout.above(element.key):
            yield each
            yield from self._standing(each)

    def _boot_entries(self) -> Iterator[Step]:
        """One entry a disk in the firmware's menu: systemd-boot registers its first ESP alone, GRUB each by itself."""
        esps = [each for each in self.layout.elements if isinstance(each, EfiSystem)]
        if self.loader != "systemd-boot" or len(esps) < 2:
            return
        after = "boot-loader"
        for number, esp in enumerate(esps[1:], start=2):
            partition = self.layout[esp.on]
            assert isinstance(partition, Partition)
            (disk,) = self.layout.disks(esp.key)
            step = f"boot-entry-{number}"
            yield Step(
                id=step,
                summary=f"Have the firmware's menu name {disk_title(disk)}",
                requires=(after,),
                actions=(
                    WriteBootEntry(
                        disk=disk.key,
                        partition=partition.number,
                        label=f"Linux Boot Manager, disk {number}",
                        loader=SYSTEMD_BOOT,
                    ),
                ),
                checks=(BootEntryIs(disk=disk.key, partition=partition.number),),
                weight=0.2,
            )
            after = step

    def _secrets(self, mounted: tuple[str, ...]) -> Iterator[Step]:
        """Password hashes, wherever the answers have them: files of the target, never part of the configuration."""
        users = [user for user in self.answers.users if user.password_hash or user.password_hash_file]
        if not users:
            return
        folders = (SECRETS, f"{SECRETS}/passwords")
        yield Step(
            id="write-secrets",
            summary=f"Write the password hashes of {', '.join(user.name for user in users)} where only root reads them",
            requires=mounted,
            actions=(
                *(MakeDirectory(path=TARGET + folder, mode=0o700) for folder in folders),
                *(WriteSecret(secret=_password(user), path=TARGET + password_path(user)) for user in users),
            ),
            checks=tuple(FileIs(path=TARGET + password_path(user), mode=0o600) for user in users),
        )

    def _webhook_secrets(self, mounted: tuple[str, ...]) -> Iterator[Step]:
        """Keys with which the host signs what it tells of its first run."""
        keyed = [
            (number, hook)
            for number, hook in enumerate(self.answers.webhooks)
            if hook.secret and "first-run" in hook.events
        ]
        if not keyed:
            return
        folders = (SECRETS, f"{SECRETS}/webhooks")
        yield Step(
            id="webhook-secrets",
            summary="Write the keys of webhooks, which the host tells of its first run, where only root reads them",
            requires=mounted,
            actions=(
                *(MakeDirectory(path=TARGET + folder, mode=0o700) for folder in folders),
                *(
                    WriteSecret(
                        secret=SecretReference(
                            name=f"webhook:{number}", file=hook.secret and hook.secret.file
                        ),
                        path=TARGET + webhook_secret(number),
                    )
                    for number, hook in keyed
                ),
            ),
            checks=tuple(FileIs(path=TARGET + webhook_secret(number), mode=0o600) for number, _ in keyed),
        )

    def _unlock_key(self, mounted: tuple[str, ...]) -> Iterator[Step]:
        """The boot loader's installation puts it into the initial RAM disks on the boot partition."""
        if self.unlock:
            path = TARGET + self.unlock.host_key
            folder = path.rpartition("/")[0]
            yield Step(
                id="unlock-key",
                summary="Make an SSH host key of its own for typing the passphrase",
                requires=mounted,
                actions=(
                    MakeDirectory(path=TARGET + SECRETS, mode=0o700),
                    MakeDirectory(path=folder, mode=0o700),
                    MakeHostKey(path=path, comment=f"unlock-{self.answers.hostname}"),
                ),
                checks=(HostKeyIs(path=path),),
                weight=0.2,
            )

    def _enrolment(self, mounted: tuple[str, ...]) -> Iterator[Step]:
        """A key for the host's first boot alone, with which it lets its own TPM or token open the disks."""
        asked = self.enrolment
        if asked is None:
            return
        key, pin = TARGET + asked.key_file, self.answers.storage.encryption.pin
        disks = [each for each in self.layout.elements if isinstance(each, Luks) and each.token]
        added = tuple(each.enrolment(self.layout, key) for each in disks)
        secret = SecretReference(name="pin", file=getattr(pin, "file", None))
        yield Step(
            id="enrolment-key",
            summary=f"Leave a key with which the host enrols its {asked.token.upper()} at the first boot",
            requires=(*mounted, *(each.ready_step for each in disks)),
            actions=(
                MakeDirectory(path=TARGET + SECRETS, mode=0o700),
                MakeDirectory(path=key.rpartition("/")[0], mode=0o700),
                WriteKey(path=key),
                *added,
                *((WriteSecret(secret=secret, path=TARGET + asked.pin_file),) if asked.pin_file else ()),
            ),
            checks=tuple(KeyOpens(device=each.device, path=key) for each in added),
            weight=3,
        )

    def _images(self, mounted: tuple[str, ...]) -> Iterator[Step]:
        for number, image in enumerate(self.images, start=1):
            path = TARGET + image.path
            yield Step(
                id=f"copy-image-{number}",
                summary=f"Copy the image of {', '.join(f'VM {name}' for name in image.vms)}",
                requires=mounted,
                actions=(
                    MakeDirectory(path=TARGET + IMAGES, mode=0o700),
                    CopyFile(source=image.source, path=path, sha256=image.sha256, mode=IMAGE_MODE),
                ),
                checks=(FileIs(path=path, mode=IMAGE_MODE, sha256=image.sha256),),
                weight=COPY_WEIGHT,
            )


def _password(user: User) -> SecretReference:
    file = user.password_hash_file.file if user.password_hash_file else None
    return SecretReference(name=f"password-hash:{user.name}", file=file)


def images_to_copy(answers: Answers, medium: Medium) -> tuple[Image, ...]:
    """Every image that VMs are made from and the host does not fetch itself, once, however many share it.

    Raises:
        HyperError: an image is not there (Exit.answers).
    """
    users: dict[tuple[str, str, str | None], list[str]] = {}
    for vm in answers.first_run.vms:
        if vm.fetched:
            continue
        wanted = (_image_source(vm, medium), vm.image_format, vm.image_sha256)
        users.setdefault(wanted, []).append(vm.name)
    return tuple(
        Image(source=source, path=f"{IMAGES}/{vms[0]}.{kind}", sha256=sha256, vms=tuple(vms))
        for (source, kind, sha256), vms in users.items()
    )


def handoff_vms(answers: Answers, images: Iterable[Image]) -> tuple[HandoffVm, ...]:
    """The answers' VMs with sizes in bytes and their images' places on the host."""
    paths = {vm: image.path for image in images for vm in image.vms}
    return tuple(
        HandoffVm(
            name=vm.name,
            image=paths.get(vm.name, f"{IMAGES}/{vm.name}.{vm.image_format}"),
            image_format=vm.image_format,
            image_sha256=vm.image_sha256,
            memory=parse_size(vm.memory),
            vcpus=vm.vcpus,
            disk_size=parse_size(vm.disk_size) if vm.disk_size else None,
            network=vm.network,
            firmware=vm.firmware,
            autostart=vm.autostart,
            start=vm.start,
            fetch=HandoffFetch(
                source=vm.image,
                proxy=answers.network.proxy,
                no_proxy=answers.network.no_proxy if answers.network.proxy else (),
            )
            if vm.fetched
            else None,
        )
        for vm in answers.first_run.vms
    )


def _image_source(vm: VmAnswers, medium: Medium) -> str:
    """Where the live system has a VM's image."""
    if vm.image.startswith("/"):
        return vm.image
    name = vm.image.removeprefix("medium:")
    if name != vm.image and name in medium.images:
        return medium.images[name]
    known = ", ".join(f"medium:{each}" for each in sorted(medium.images)) or "none"
    raise HyperError(
        f"there is no image {vm.image!r} for VM {vm.name}",
        why=f"{medium.label} has these images: {known}",
        remedy="name one of them, or write the absolute path of an image on the live system",
        code=Exit.answers,
    )
