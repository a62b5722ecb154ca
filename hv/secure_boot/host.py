"""A host's Secure Boot as a whole: its keys made, its boot partitions signed, and what is lacking before it is switched on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hv.esp.firmware import place_of, put_first
from hv.esp.inventory import OWN
from hv.esp.partition import opened
from hv.firstrun.phase import boot_default
from hv.firstrun.world import World
from hv.secure_boot import firmware, keys
from hv.secure_boot.generations import systems
from hv.secure_boot.settings import SETTINGS_FILE, SecureBootSettings, read_settings
from hv.secure_boot.signing import Signed, Signer
from hv.unified_image import FOLDER as IMAGES
from installer.errors import Exit, HyperError

LABEL = "Hyper-NixOS"
"""In the firmware's menu."""


def signer(world: World, settings: SecureBootSettings) -> Signer:
    """For the host below the world's root."""
    return Signer(settings, keys.Keys(world.path(keys.FOLDER)), world.programs, root=world.root)


def sign(
    world: World, settings: SecureBootSettings, *, default: str | None, hostname: str | None
) -> Signed | None:
    """Sign what the host starts from; None: it has no keys, and `hostname` was not given to make some.

    `default` is the toplevel that is started next; None: what the boot loader's files name now.
    """
    at = signer(world, settings)
    if not at.keys.there:
        if hostname is None:
            return None
        keys.make(at.keys.folder, hostname)
        world.say(f"made keys for Secure Boot in {keys.FOLDER}")
    found = systems(world.root, settings.limit)
    if default is None:
        init = boot_default(world)
        default = next((each.toplevel for each in found if each.init == init), found[0].toplevel)
    done = at.sign(found, str(default))
    for line in done.said:
        world.say(line)
    for line in done.left_out:
        world.warn(f"without a signed image: {line}")
    return done


def first_signed(world: World, hostname: str) -> tuple[str, ...]:
    """What the first run does: keys, signatures, the firmware's menu; says what firmware would not start. Raises HyperError."""
    settings = settings_of(world)
    sign(world, settings, default=None, hostname=hostname)
    in_menu(world, settings)
    return standing(world, settings).wrong


def in_menu(world: World, settings: SecureBootSettings) -> None:
    """Have the firmware start the signed loader first. Nothing where UEFI did not start this system: one that is put
    together elsewhere has no menu of its own yet, and the usual loader is signed as well. Says what it did, or could not."""
    if not any(world.path(firmware.VARIABLES).glob("*")):
        return
    try:
        with opened(world.path(settings.esp)) as partition:
            place = place_of(partition, world.programs, world.path("/sys"))
            program = f"{OWN}/{Path(settings.loader).name}"
            if did := put_first(place, program, LABEL, world.programs):
                world.say(did)
    except HyperError as error:
        world.warn(f"the firmware's menu has no entry for the signed loader first: {error.why}")


@dataclass(frozen=True)
class Standing:
    """Where the host stands."""

    keys: bool
    """Whether it has keys of its own."""
    firmware: firmware.State
    default: str | None
    """The image that is started when nobody chooses; None: something unsigned, or nobody knows."""
    images: int
    """Signed images."""
    systems: int
    """Systems in the menu."""
    wrong: tuple[str, ...]
    """What firmware that enforces Secure Boot would not start, a line each."""

    @property
    def ready(self) -> bool:
        """Whether the host would start with Secure Boot on."""
        return self.keys and not self.wrong

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "version": 1,
            "enforced": self.firmware.enforced,
            "setup_mode": self.firmware.setup_mode,
            "enrolled": self.firmware.ours,
            "keys": self.keys,
            "ready": self.ready,
            "default": self.default,
            "images": self.images,
            "systems": self.systems,
            "wrong": list(self.wrong),
        }

    def text(self) -> str:
        """For people."""
        return "\n".join(f"{name:<14}{value}" for name, value in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        now = self.firmware
        state = "on: only what is signed is started" if now.enforced else "off"
        if not now.uefi:
            state = "unknown: this system was not started by UEFI"
        elif now.setup_mode:
            state += ", in setup mode: the firmware takes keys"
        yield "Secure Boot", state
        owner = "this host's keys" if now.ours else "not this host's keys"
        yield "firmware has", owner if now.uefi else "unknown"
        yield "keys", "made" if self.keys else "none yet"
        yield "signed", f"{self.images} of {self.systems} systems"
        yield "next start", self.default or "something that is not signed"
        for each in self.wrong:
            yield "not ready", each
        yield "next", self._next()

    def _next(self) -> str:
        if not self.keys:
            return "`hv secure-boot sign --make-keys` makes keys, and signs"
        if self.wrong:
            return "`hv secure-boot sign` signs what is lacking, and says what it cannot"
        if self.firmware.enforced and self.firmware.ours:
            return "nothing: every rebuild signs"
        if self.firmware.ours:
            return "switch Secure Boot on in the firmware's set-up"
        if self.firmware.setup_mode:
            return "`hv secure-boot enrol` gives the firmware this host's keys"
        return "clear its keys in its set-up, then `hv secure-boot enrol`"


def standing(world: World, settings: SecureBootSettings) -> Standing:
    """Look; changes nothing. Raises HyperError."""
    at = signer(world, settings)
    found = systems(world.root, settings.limit)
    esp, boot = world.path(settings.esp), world.path(settings.boot)
    folder = world.path(firmware.VARIABLES)
    now = firmware.state(folder, at.keys)
    if not at.keys.there:
        return Standing(False, now, None, 0, len(found), ())
    init = boot_default(world)
    wrong = [f"{path.relative_to(esp)}: {why}" for path in at.loaders(esp) if (why := at.check(path))]
    images = [each for each in found if (boot / IMAGES / each.file).is_file()]
    wrong += [
        f"{IMAGES}/{each.file}: {why}" for each in images if (why := at.check(boot / IMAGES / each.file))
    ]
    default = next((each.file for each in images if each.init == init), None)
    if default is None or not _named(esp, default):
        wrong.append("what is started by default is not signed")
    return Standing(True, now, default, len(images), len(found), tuple(wrong))


def _named(esp: Path, image: str) -> bool:
    """Whether the loader's own settings name the image, and not the entry of the same system."""
    lines = (esp / "loader/loader.conf").read_text(encoding="utf-8").splitlines()
    return f"default {image}" in lines


def enrol(world: World, settings: SecureBootSettings, *, only_own: bool) -> None:
    """Give the firmware the host's keys, once everything that it starts is signed. Raises HyperError."""
    now = standing(world, settings)
    if not now.firmware.uefi:
        raise HyperError(
            "This machine has no Secure Boot to set up.",
            why=f"there are no variables of the firmware in {firmware.VARIABLES}: it was not started by UEFI",
            remedy="Start it by UEFI; where that is not to be had, there is no Secure Boot.",
            code=Exit.unsuitable,
        )
    if not now.ready:
        raise HyperError(
            "The firmware was given no keys: this host would not start any more.",
            why="; ".join(now.wrong) or "it has no keys, and nothing is signed",
            remedy="Run `hv secure-boot sign --make-keys`, then this again.",
            code=Exit.lockout,
        )
    at = signer(world, settings)
    folder = world.path(firmware.VARIABLES)
    for line in firmware.Enroller(folder, at.keys, settings, world.programs).enrol(only_own=only_own):
        world.say(line)


def settings_of(world: World) -> SecureBootSettings:
    """What the host's module says. Raises HyperError."""
    return read_settings(world.path(SETTINGS_FILE))
