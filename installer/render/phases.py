"""The two phases as files: each is a whole, and one word in phase.nix says which one the host boots into."""

from installer.answers.model import Answers, Phase, SecurityProfile
from installer.render.nix import Nix, Path, force
from installer.render.users import openssh_settings

OTHER = {Phase.setup: Phase.hardened, Phase.hardened: Phase.setup}


def phase(chosen: Phase, profile: SecurityProfile | None) -> dict[str, Nix]:
    """phase.nix: what changes when the phase is raised for good; with another profile than hypervisor.nix has, if asked."""
    imports: dict[str, Nix] = {"imports": [Path(f"./phases/{chosen.value}.nix")]}
    return imports | ({"hypervisor": {"security": {"profile": force(profile)}}} if profile else {})


def phase_module(answers: Answers, declared: Phase) -> dict[str, Nix]:
    """One of phases/*.nix: the declared phase, and the other one as the specialisation to switch to."""
    other = OTHER[declared]
    there: dict[str, Nix] = {"hypervisor": {"phase": force(other.value)}}
    here: dict[str, Nix] = {"hypervisor": {"phase": declared.value}}
    if answers.ssh.enable:
        settings = openssh_settings(answers, declared)
        others = openssh_settings(answers, other)
        # A specialisation inherits everything: what only the declared phase sets is taken back (null).
        forced = {key: force(others.get(key)) for key in dict.fromkeys((*settings, *others))}
        here["services"] = {"openssh": {"settings": settings}}
        there["services"] = {"openssh": {"settings": forced}}
    return {**here, "specialisation": {other.value: {"configuration": there}}}
