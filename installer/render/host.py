"""The whole configuration of a host, purely: same facts, answers, plan and medium, same text."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from installer.answers.declaration import declaration_text
from installer.answers.model import Answers, Phase, SecurityProfile
from installer.facts import Facts
from installer.medium import Medium
from installer.plan.model import Plan
from installer.render.disks import disks
from installer.render.flake import flake, lock
from installer.render.hardware import hardware
from installer.render.hypervisor import hypervisor, passthrough
from installer.render.network import network
from installer.render.nix import Function, Nix, to_nix, uses
from installer.render.phases import phase, phase_module
from installer.render.system import system
from installer.render.templates import Templates
from installer.render.unlock import unlocking
from installer.render.users import password_file, users

CONFIGURATION = "/etc/nixos"
"""Where the files go on the host."""
DECLARATION = "host.toml"
"""What the host is, in the words of the answer file: `hv setup` changes it, or a person."""
APPLIED = "host.applied.toml"
"""The same as the modules were last written from it: what a person changed since, here or there, shows against it."""


@dataclass(frozen=True)
class NeededSecret:
    """A secret that the configuration refers to by path; its content is never rendered."""

    name: str
    """As the plan calls it: `password-hash:alice`."""
    path: str
    """Absolute path on the host."""


@dataclass(frozen=True)
class RenderedHost:
    """What stands in /etc/nixos."""

    files: Mapping[str, str]
    """Path below /etc/nixos to text; read-only."""
    secrets: tuple[NeededSecret, ...]
    """What must lie on the host before it is activated."""


def render(facts: Facts, answers: Answers, plan: Plan, medium: Medium, templates: Templates) -> RenderedHost:
    """Every file of the host's configuration. Opens nothing; `load_templates` is called before.

    Raises HyperError (exit code `answers`) for text that Nix cannot hold and for features that are not there.
    """
    extra: dict[str, str] = {}
    if plan.handoff.expectations.passthrough:
        extra["passthrough.nix"] = _module(
            "Devices kept free for guests.", passthrough(facts, plan), templates
        )
    if plan.host.unlock:
        title = "The passphrase is typed over SSH."
        extra["unlock.nix"] = _module(title, unlocking(answers, plan.host.unlock), templates)
    files = {
        **declared_files(answers, medium.release, tuple(extra), templates),
        **extra,
        "hardware-configuration.nix": _module(
            "What this machine is.", hardware(facts, answers, plan, medium), templates
        ),
        "disks.nix": _module("Disks, file systems and booting.", disks(plan), templates),
    }
    files[DECLARATION] = files[APPLIED] = host_declaration(answers)
    files["phase.nix"] = phase_file(Phase.setup, templates)
    files["flake.nix"] = templates.flake.render(
        title=f"The host {answers.hostname}.", text=to_nix(flake(answers.hostname, medium))
    )
    files["flake.lock"] = lock(medium)
    return RenderedHost(MappingProxyType(dict(sorted(files.items()))), needed_secrets(answers))


def declared_files(
    answers: Answers, release: str, extra: tuple[str, ...], templates: Templates
) -> dict[str, str]:
    """The modules that follow from the declaration alone, whatever the machine. `release` is the one that the host's data
    began with; `extra` names the modules among passthrough.nix and unlock.nix that this host has."""
    modules: dict[str, tuple[str, dict[str, Nix]]] = {
        "network.nix": ("The network.", network(answers)),
        "users.nix": ("People, and how they log in.", users(answers)),
        "hypervisor.nix": ("What kind of virtualization host this is.", hypervisor(answers)),
    }
    imports = ("hardware-configuration.nix", "disks.nix", *modules, *extra, "phase.nix")
    modules["configuration.nix"] = (f"The host {answers.hostname}.", system(answers, release, imports))
    for declared in Phase:
        title = f"Phase {declared.value}, with the other one as a specialisation."
        modules[f"phases/{declared.value}.nix"] = (title, phase_module(answers, declared))
    return {path: _module(title, options, templates) for path, (title, options) in modules.items()}


def host_declaration(answers: Answers) -> str:
    """host.toml as the installer leaves it; passwords by the files of their hashes."""
    files = {user.name: path for user in answers.users if (path := password_file(user))}
    return declaration_text(answers, files)


def phase_file(chosen: Phase, templates: Templates, profile: SecurityProfile | None = None) -> str:
    """phase.nix. Every host is installed in phase setup; who raises the phase writes this anew, with a profile that takes
    the place of hypervisor.nix' one where another was asked for."""
    return _module("The phase that the host boots into.", phase(chosen, profile), templates)


def needed_secrets(answers: Answers) -> tuple[NeededSecret, ...]:
    """Secrets that the configuration refers to."""
    return tuple(
        NeededSecret(f"password-hash:{user.name}", path)
        for user in answers.users
        if (path := password_file(user))
    )


def _module(title: str, options: dict[str, Nix], templates: Templates) -> str:
    value: Nix = Function(("lib",), options) if uses(options, "lib") else options
    return templates.module.render(title=title, text=to_nix(value))
