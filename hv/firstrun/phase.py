"""Job phase: the last one, raises the host to the phase `hardened` when that was asked for.

The hardened system is built along as a specialisation of the host's system (nix/modules/security). Its own
`switch-to-configuration switch` activates it and has the boot loader made anew with it as the default, as
`nixos-rebuild switch --specialisation` does. Before that, somebody must be able to log in to it; afterwards again, or
the host goes back to where it was.

A VM that failed does not hold the phase back: repairs work in either phase, exposure does not wait.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from hv.firstrun.logins import require_way_in
from hv.firstrun.world import UNGUARDED, World, to_json, write_atomically
from hv.unified_image import FOLDER as IMAGES
from hv.unified_image import section
from installer.errors import HyperError
from installer.handoff import Handoff

if TYPE_CHECKING:
    from installer.answers.model import SecurityProfile

PHASE_FILE = "/var/lib/hyper-nixos/phase.json"
"""Which phase was reached, when, and with which system."""
DECLARATION = "/etc/nixos/phase.nix"
"""The host's own word on its phase; the installer renders it, this job renders it anew."""
PROFILE = "/nix/var/nix/profiles/system"
CURRENT = "/run/current-system"
HARDENED = "hardened"
SWITCH_TIMEOUT = 600.0
"""Seconds."""
TRANSIENT_UNIT = (
    "systemd-run",
    "--collect",
    "--no-ask-password",
    "--pipe",
    "--quiet",
    "--service-type=exec",
)
"""A unit of its own, as nixos-rebuild uses: the switch may stop the one that it was called from."""


@dataclass(frozen=True)
class PhaseJob:
    """Raises the phase."""

    administrators: tuple[str, ...]
    name: str = "phase"
    requires: tuple[str, ...] = ()
    timeout: float = 900

    def applies(self, handoff: Handoff) -> str | None:
        """Only when asked."""
        return None if handoff.phase == HARDENED else "the host stays in phase setup, as asked"

    def run(self, world: World) -> None:
        """Look for a way in, switch, look again, note it down."""
        target = _hardened_system(world)
        for way in require_way_in(world, self.administrators, target):
            world.say(f"way into phase {HARDENED}: {way}")
        if _resolved(world, CURRENT) == target:
            world.say(f"{target.name} runs already")
        else:
            _switch(world, target)
            try:
                require_way_in(world, self.administrators, _resolved(world, CURRENT))
            except HyperError:
                world.warn("nobody could log in after the switch: going back to phase setup")
                _switch(world, _resolved(world, PROFILE))
                raise
        note(world, HARDENED, str(target))
        if target != _resolved(world, PROFILE):
            _declare(world)

    def verify(self, world: World) -> None:
        """The hardened system runs, its kernel settings are in force, and it is what boots next."""
        target = _hardened_system(world)
        wrong = list(_differences(world, target))
        if wrong:
            raise HyperError(
                f"Phase {HARDENED} is not fully in force.",
                why="; ".join(wrong),
                remedy=f"Run `{target}/bin/switch-to-configuration switch` by hand and read what it says, then "
                "`hv firstrun retry phase`.",
            )
        world.say(
            f"checked: {target.name} runs, its kernel settings are in force, it is the default of the next boot"
        )


def _declare(world: World) -> None:
    """Say it in /etc/nixos too, so that the next rebuild keeps the phase; a file that a person changed is left alone."""
    wanted, found = declaration_for(world, HARDENED)
    if wanted is None:
        world.warn(
            f"the next nixos-rebuild makes phase setup the default again: {DECLARATION} is not as the installer wrote "
            'it, so it was left alone; set hypervisor.phase = "hardened" there to stay'
        )
    elif wanted != found:
        write_atomically(world.path(DECLARATION), wanted)
        world.say(f"{DECLARATION} declares phase {HARDENED}: the next nixos-rebuild keeps it")


def declaration_for(
    world: World, phase: str, profile: "SecurityProfile | None" = None
) -> tuple[str | None, str | None]:
    """What /etc/nixos/phase.nix becomes, and what it is: the first is None where it is not as we write it.

    A profile that stands there stays, unless another is given.
    """
    # Templates and the serialiser cost more to import than everything else here: only who changes the phase needs them.
    from installer.answers.model import SECURITY_PROFILES, Phase
    from installer.render.host import phase_file
    from installer.render.templates import load_templates

    templates = load_templates()
    declaration = world.path(DECLARATION)
    found = declaration.read_text(encoding="utf-8") if declaration.is_file() else None
    for each in Phase:
        for stands in (None, *SECURITY_PROFILES):
            if found == phase_file(each, templates, stands):
                return phase_file(Phase(phase), templates, profile or stands), found
    return None, found


def note(world: World, phase: str, system: str) -> None:
    """Remember which phase was reached."""
    since = world.clock.now().isoformat()
    write_atomically(
        world.path(PHASE_FILE), to_json({"version": 1, "phase": phase, "system": system, "since": since})
    )


def _hardened_system(world: World) -> Path:
    """The hardened toplevel of the system profile: a specialisation, or the profile itself once it is declared so."""
    profile = _resolved(world, PROFILE)
    special = profile / "specialisation" / HARDENED
    if special.exists():
        return special.resolve()
    if (profile / "specialisation" / "setup").exists():
        return profile
    raise HyperError(
        f"This system has no phase {HARDENED}.",
        why=f"{special} does not exist",
        remedy="Import hyper-nixos' module in /etc/nixos, rebuild, then `hv firstrun retry phase`.",
    )


def _switch(world: World, system: Path) -> None:
    script = str(system / "bin/switch-to-configuration")
    booted = world.path("/run/systemd/system").is_dir()
    unit = (*TRANSIENT_UNIT, "--wait", "--unit=hyper-nixos-phase", "--") if booted else ()
    world.say(f"switching to {system.name}")
    # Whether administrators can still log in is looked at here, before and after: nobody has to confirm it.
    done = world.attempt((*unit, "env", f"{UNGUARDED}=off", script, "switch"), timeout=SWITCH_TIMEOUT)
    # 4: active, but units failed to start (switch-to-configuration-ng); what matters of them is looked at afterwards.
    if done.status not in (0, 4):
        raise HyperError(
            f"Switching to {system.name} failed.",
            why=f"`{script} switch` ended with {done.status}: {done.stderr.strip() or done.text.strip()}",
            remedy="See `journalctl -u hyper-nixos-phase`; `hv firstrun retry phase` tries again.",
        )
    if done.status:
        world.warn(f"units failed to start when switching: {done.stderr.strip()}")


def _differences(world: World, target: Path) -> list[str]:
    wrong = []
    if (current := _resolved(world, CURRENT)) != target:
        wrong.append(f"{CURRENT} is {current}")
    if not world.path(PHASE_FILE).is_file():
        wrong.append(f"{PHASE_FILE} is missing")
    wrong += kernel_settings(world, target / "etc/sysctl.d/60-nixos.conf")
    default = boot_default(world)
    if default is None:
        world.warn("which system boots next cannot be read from the boot loader's files")
    elif default != f"{target}/init":
        wrong.append(f"the next boot starts {default}")
    return wrong


def kernel_settings(world: World, file: Path) -> list[str]:
    """Settings of a sysctl.d(5) file that /proc/sys reads back otherwise."""
    wrong = []
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for key, _, value in (line.partition("=") for line in lines if "=" in line and line[0] not in "#;"):
        name, wanted = key.strip(), value.split()
        if name.startswith("-") or "*" in name:
            continue  # may fail, or names many
        place = world.path(f"/proc/sys/{name.replace('.', '/')}")
        if not place.exists():
            world.warn(f"this kernel has no setting {name}")
            continue
        try:
            found = place.read_text(encoding="utf-8").split()
        except PermissionError:
            world.warn(f"the setting {name} is root's alone to read")
            continue
        if found != wanted:
            wrong.append(f"{name} is {' '.join(found)} instead of {' '.join(wanted)}")
    return wrong


def boot_default(world: World) -> str | None:
    """The `init=` that the boot loader starts by default; none where neither loader's files tell, or root's alone are."""
    try:
        return _boot_default(world)
    except PermissionError:
        return None


def _boot_default(world: World) -> str | None:
    # The loader's settings are on the EFI system partition, its entries beside the kernels.
    places = [world.path(f"{place}/loader/loader.conf") for place in ("/efi", "/boot")]
    loader = next((place for place in places if place.is_file()), None)
    if loader:
        settings = dict(
            line.split(maxsplit=1) for line in loader.read_text(encoding="utf-8").splitlines() if " " in line
        )
        wanted = settings.get("preferred") or settings.get("default", "")
        if wanted.endswith(".efi"):
            image = world.path(f"/boot/{IMAGES}/{wanted}")
            line = section(image, ".cmdline") if image.is_file() else None
            return _init(f" {line.decode('utf-8', 'replace')}") if line else None
        for entry in sorted(world.path("/boot/loader/entries").glob("*.conf")):
            # Boot counting puts `+LEFT-DONE` before the ending (UAPI boot loader specification).
            plain = re.sub(r"\+[0-9]+(-[0-9]+)?(?=\.conf$)", "", entry.name)
            if fnmatchcase(plain, wanted) or fnmatchcase(plain, f"{wanted}.conf"):
                return _init(entry.read_text(encoding="utf-8"))
        return None
    grub = world.path("/boot/grub/grub.cfg")
    return _init(grub.read_text(encoding="utf-8", errors="replace")) if grub.is_file() else None


def _init(text: str) -> str | None:
    match = re.search(r"(?<=\sinit=)\S+", text)
    return match[0] if match else None


def _resolved(world: World, absolute: str) -> Path:
    return world.path(absolute).resolve()
