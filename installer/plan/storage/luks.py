"""LUKS2 with argon2id (cryptsetup-luksFormat(8), LUKS2 on-disk format specification)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from installer.answers.sizes import GIB, KIB, MIB
from installer.plan.actions import (
    Action,
    AddKeyFile,
    AddRecoveryKey,
    MakeDirectory,
    Run,
    SecretReference,
    WriteKey,
)
from installer.plan.checks import KeyOpens, MapperIs, RecoveryKeyOpens, SignatureIs
from installer.plan.model import TARGET, HostKeyLuks, HostLuks, Step
from installer.plan.storage.disk import disk_title
from installer.plan.storage.element import Device, HostPart, Layout

LABEL_LIMIT = 47
"""Bytes of a LUKS2 label, without the final zero."""
LEAST_MEMORY = 128 * MIB
"""Below this argon2id protects little, and cryptsetup itself gets into trouble."""
MOST_MEMORY = GIB
"""cryptsetup's own default limit."""
RECOVERY_SLOT, KEY_FILE_SLOT, ENROLMENT_SLOT = 1, 2, 3
"""Key slots beside the passphrase's, which is 0: fixed, so that an interrupted try is found and replaced."""
LIMITS = (32 * KIB, 4 * GIB)
"""What cryptsetup accepts for argon2id's memory."""


def fitted_memory(total: int, available: int | None, devices: int = 1) -> int:
    """Bytes for argon2id on this machine, which must find as much again at every boot, for as many devices as are
    opened at once: the default of cryptsetup where it fits, else what is free in whole steps of 128 MiB (as blivet
    does); 0 where there is too little.
    """
    default = min(MOST_MEMORY, total // 2)
    # Unknown free memory is taken for a quarter: little enough to be there.
    free = (total // 4 if available is None else available) // devices
    fitted = default if free >= default else free // LEAST_MEMORY * LEAST_MEMORY
    return fitted if fitted >= LEAST_MEMORY else 0


@dataclass(frozen=True, kw_only=True)
class Luks(Device):
    """An encrypted device; its key is its name in /dev/mapper."""

    on: str
    """Key of the device."""
    uuid: str
    """UUID of the header."""
    label: str
    """Label of the header."""
    passphrase: SecretReference
    """What opens it."""
    memory: int
    """Bytes for argon2id."""
    iterations: int | None
    """Passes of argon2id; none: measured."""
    allow_discards: bool
    """Let TRIM through."""
    dispensable: bool = False
    """The root can do without it."""
    key_file: str | None = None
    """Path on the host of a key that opens it in stage 2; none: the passphrase does, in stage 1."""
    token: Literal["tpm2", "fido2"] | None = None
    """What opens it in stage 1 beside the passphrase, once the host has enrolled it."""
    recovery: bool = False
    """Whether the installation's recovery key opens it too."""

    def below(self) -> tuple[str, ...]:
        return (self.on,)

    def device(self, layout: Layout) -> str:
        del layout
        return f"/dev/mapper/{self.key}"

    @property
    def ready_step(self) -> str:
        """Id of the step that opens it."""
        return f"open-{self.key}"

    def ready(self, layout: Layout) -> str:
        del layout
        return self.ready_step

    def place(self, layout: Layout) -> str:
        return f"{self.key} on {' and '.join(disk_title(disk) for disk in layout.disks(self.key))}"

    def words(self) -> str:
        return "LUKS2"

    def steps(self, layout: Layout) -> Iterator[Step]:
        base = layout.device(self.on)
        device = base.device(layout)
        iterations = ("--pbkdf-force-iterations", str(self.iterations)) if self.iterations else ()
        yield Step(
            id=f"encrypt-{self.key}",
            summary=f"Encrypt {base.place(layout)} with LUKS2",
            requires=(base.ready(layout),),
            writes=layout.writes(self.on),
            actions=(
                Run(
                    argv=(
                        *("cryptsetup", "luksFormat", "--batch-mode"),
                        *("--type", "luks2"),
                        *("--uuid", self.uuid),
                        *("--label", self.label),
                        *("--pbkdf", "argon2id"),
                        *("--pbkdf-memory", str(self.memory // KIB)),
                        *iterations,
                        *("--key-file", "-"),
                        device,
                    ),
                    stdin=self.passphrase,
                ),
            ),
            checks=(SignatureIs(device=device, type="crypto_LUKS", uuid=self.uuid, label=self.label),),
            weight=6,
        )
        # Whether discards pass is said on each opening, here and in the host's configuration, not kept in the header.
        discards = ("--allow-discards",) if self.allow_discards else ()
        yield Step(
            id=self.ready(layout),
            summary=f"Open {base.place(layout)} as {self.key}",
            requires=(f"encrypt-{self.key}",),
            actions=(
                Run(
                    argv=(
                        *("cryptsetup", "open"),
                        *("--type", "luks2"),
                        *discards,
                        *("--key-file", "-"),
                        device,
                        self.key,
                    ),
                    stdin=self.passphrase,
                ),
            ),
            checks=(MapperIs(name=self.key, uuid=self.uuid),),
            undo=tuple(self.release(layout)),
            transient=True,
            weight=3,
        )

        if self.recovery:
            yield Step(
                id=self.recovery_step,
                summary=f"Let the recovery key open {self.key} too",
                requires=(self.ready_step,),
                actions=(AddRecoveryKey(device=device, slot=RECOVERY_SLOT, passphrase=self.passphrase),),
                checks=(RecoveryKeyOpens(device=device, slot=RECOVERY_SLOT),),
                # The key lives in the installer's memory alone: another run makes another one.
                transient=True,
                weight=3,
            )
        if self.key_file:
            yield self._add_key(device, self.key_file)

    def enrolment(self, layout: Layout, path: str) -> AddKeyFile:
        """What lets the host itself enrol a token at its first boot; it takes this away again."""
        device = layout.device(self.on).device(layout)
        return AddKeyFile(device=device, slot=ENROLMENT_SLOT, path=path, passphrase=self.passphrase)

    @property
    def recovery_step(self) -> str:
        """Id of the step that adds the recovery key."""
        return f"recovery-key-{self.key}"

    def _add_key(self, device: str, key_file: str) -> Step:
        """A second way in, for the host itself: the passphrase stays the way in for people."""
        path = TARGET + key_file
        return Step(
            id=f"add-key-{self.key}",
            summary=f"Let a key on the root open {self.key}",
            requires=(self.ready_step, "mount-root"),
            actions=(
                MakeDirectory(path=path.rpartition("/")[0], mode=0o700),
                WriteKey(path=path),
                AddKeyFile(device=device, slot=KEY_FILE_SLOT, path=path, passphrase=self.passphrase),
            ),
            checks=(KeyOpens(device=device, path=path),),
            weight=3,
        )

    def release(self, layout: Layout) -> Iterator[Action]:
        del layout
        yield Run(argv=("cryptsetup", "close", self.key))

    def host(self, layout: Layout) -> HostPart:
        del layout
        if self.key_file:
            return HostPart(
                key_luks=(
                    HostKeyLuks(
                        name=self.key,
                        device=f"/dev/disk/by-uuid/{self.uuid}",
                        key_file=self.key_file,
                        allow_discards=self.allow_discards,
                    ),
                )
            )
        return HostPart(
            luks=(
                HostLuks(
                    name=self.key,
                    device=f"/dev/disk/by-uuid/{self.uuid}",
                    allow_discards=self.allow_discards,
                    dispensable=self.dispensable,
                    token=self.token,
                ),
            ),
            initrd_modules=("dm_crypt",),
        )
