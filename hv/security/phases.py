"""Where a host stands: the phase that runs, what boots next, what is declared, and what is not in force."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hv.firstrun.phase import CURRENT, DECLARATION, PROFILE, boot_default, kernel_settings
from hv.firstrun.world import World
from hv.security import table
from hv.security.table import Description
from installer.errors import HyperError
from installer.logins import WHEEL

PHASES = ("setup", "hardened")
WIDTH = 80


@dataclass(frozen=True)
class System:
    """One of the systems that are built."""

    toplevel: Path
    """Where it lies."""
    phase: str
    """Its phase."""
    profile: str | None
    """Its profile; None for a system that does not say."""
    description: Description | None
    """What it says of itself."""

    @property
    def title(self) -> str:
        """For people."""
        if self.phase == "setup" or self.profile is None:
            return self.phase
        return f"{self.phase}, profile {self.profile}"


@dataclass(frozen=True)
class Standing:
    """A host."""

    running: System | None
    """What runs; None where it says nothing of itself and is no phase of the profile."""
    systems: tuple[System, ...]
    """The phases that are built: the system profile's, then its specialisations."""
    boots: System | None
    """What boots next; None where the boot loader's files do not tell."""
    declared: str | None
    """The phase that the next rebuild makes; None where phase.nix is not as we write it."""
    missing: tuple[str, ...]
    """What the running system declares and is not in force."""

    @property
    def other(self) -> System | None:
        """The phase to compare with."""
        for each in self.systems:
            if self.running and each.phase != self.running.phase:
                return each
        return None


def systems(world: World) -> tuple[System, ...]:
    """Every phase of the system profile: itself, and its specialisations."""
    profile = world.path(PROFILE).resolve()
    special = profile / "specialisation"
    children = {each.name: each.resolve() for each in sorted(special.iterdir())} if special.is_dir() else {}
    own = next((phase for phase in PHASES if phase not in children), "hardened") if children else None
    found = [_system(profile, own)]
    found += [_system(path, name if name in PHASES else None) for name, path in children.items()]
    return tuple(each for each in found if each)


def _system(toplevel: Path, otherwise: str | None) -> System | None:
    """A system by its own word, or by its place beside the other one."""
    said = table.read(toplevel)
    if said:
        return System(toplevel, said.phase, said.profile, said)
    return System(toplevel, otherwise, None, None) if otherwise else None


def find(world: World, phase: str, profile: str | None = None) -> System:
    """The built system of a phase, and of a profile when that is asked for. Raises HyperError."""
    built = systems(world)
    for each in built:
        if each.phase == phase and profile in (None, each.profile):
            return each
    has = "; ".join(each.title for each in built) or "none that says so"
    if profile and any(each.phase == phase for each in built):
        raise HyperError(
            f"The profile {profile} is not built on this host.",
            why=f"the phases that are built: {has}",
            remedy=f"Have it built: `sudo hv setup --set security.profile={profile}`, which tries it where phase {phase} runs "
            "already, with a way back; else confirm that, then harden. Without /etc/nixos/host.toml: set "
            f'hypervisor.security.profile = "{profile}" there, rebuild, then harden.',
        )
    raise HyperError(
        f"This system has no phase {phase}.",
        why=f"the phases that are built: {has}",
        remedy="Import hyper-nixos' module in /etc/nixos, rebuild, then try again.",
    )


def running(world: World) -> System | None:
    """What runs."""
    toplevel = world.path(CURRENT).resolve()
    for each in systems(world):
        if each.toplevel == toplevel:
            return each
    return _system(toplevel, None)


def stand(world: World) -> Standing:
    """Everything that can be said without asking anybody."""
    now = running(world)
    built = systems(world)
    boots = boot_default(world)
    return Standing(
        running=now,
        systems=built,
        boots=next((each for each in built if f"{each.toplevel}/init" == boots), None),
        declared=declared(world),
        missing=tuple(_missing(world, now)) if now else (),
    )


def declared(world: World) -> str | None:
    """The phase that phase.nix imports, as we write it."""
    file = world.path(DECLARATION)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = [phase for phase in PHASES if f"./phases/{phase}.nix" in text]
    return found[0] if len(found) == 1 else None


def _missing(world: World, now: System) -> Iterator[str]:
    yield from kernel_settings(world, now.toplevel / "etc/sysctl.d/60-nixos.conf")
    cmdline = world.path("/proc/cmdline")
    given = cmdline.read_text(encoding="utf-8").split() if cmdline.is_file() else []
    wanted = now.description.table.get("kernel", {}) if now.description else {}
    if absent := [name for name in wanted if name not in given]:
        yield f"kernel parameters of the next boot: {' '.join(absent)}"


def administrators(world: World) -> tuple[str, ...]:
    """Members of wheel, whoever declared them."""
    for line in world.path("/etc/group").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) == 4 and fields[0] == WHEEL:
            return tuple(name for name in fields[3].split(",") if name and name != "root")
    return ()
