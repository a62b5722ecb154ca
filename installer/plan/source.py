"""Where the system comes from: evaluated from the rendered flake, or a closure that was built beforehand."""

from dataclasses import dataclass

from installer.answers.model import Answers
from installer.errors import Exit, HyperError
from installer.medium import Medium, ReadyClosure
from installer.plan.actions import CopyClosure, RealiseFlake
from installer.plan.model import TARGET

CERTIFICATES = "/run/hyper-nixos/ca-certificates.crt"
"""On the live system: its own certificates and those of the answers."""
CONFIGURATION = "/etc/nixos"
"""On the host: the rendered flake."""
CONNECT_TIMEOUT = 5
"""Seconds after which an unreachable cache is given up on; Nix waits for minutes otherwise."""


@dataclass(frozen=True)
class SystemSource:
    """How the system is put into the target's store."""

    action: RealiseFlake | CopyClosure
    """What does it."""
    summary: str
    """The same for a person."""
    size: int
    """Bytes it takes there."""
    prebuilt: ReadyClosure | None = None
    """The ready system, if it is one for any host of a tier."""


def system_source(answers: Answers, medium: Medium) -> SystemSource:
    """How the system gets into the target's store.

    Raises:
        HyperError: the medium has no such closure (Exit.answers), or being offline lacks something (Exit.unsuitable).
    """
    return _closure(answers, medium) if answers.system.source == "closure" else _flake(answers, medium)


def environment(answers: Answers) -> dict[str, str]:
    """Variables for everything that may reach for the network."""
    if answers.system.offline:
        return {}
    variables = {}
    if answers.system.ca_certificates:
        variables["NIX_SSL_CERT_FILE"] = CERTIFICATES
    if answers.network.proxy:
        variables |= {"http_proxy": answers.network.proxy, "https_proxy": answers.network.proxy}
    if answers.network.proxy and answers.network.no_proxy:
        variables["no_proxy"] = ",".join(answers.network.no_proxy)
    return variables


def _flake(answers: Answers, medium: Medium) -> SystemSource:
    inputs = {"nixpkgs": medium.nixpkgs, "hyper-nixos": medium.hyper_nixos}
    absent = [name for name, source in inputs.items() if not source.store_path.startswith("/nix/store/")]
    if answers.system.offline and absent:
        raise HyperError(
            "the system cannot be evaluated offline",
            why=f"the medium holds no copy of {' and '.join(absent)}",
            remedy='write system.offline = false, or system.source = "closure" with one of the medium\'s closures',
            code=Exit.unsuitable,
        )
    caches = [each for each in answers.system.substituters if _is_local(each.url)]
    if answers.system.offline and medium.sources_only and not caches:
        ready = ", ".join(closure.name for closure in medium.closures) or "none"
        raise HyperError(
            "the system cannot be built offline",
            why=f"{medium.label} carries the sources of hosts, and not what they are built of; its ready systems: {ready}",
            remedy='write system.offline = false, or system.source = "closure" with one of the ready systems, or take'
            " a medium that builds",
            code=Exit.unsuitable,
        )
    return SystemSource(
        action=RealiseFlake(
            flake=f"path:{TARGET}{CONFIGURATION}",
            attribute=f'nixosConfigurations."{answers.hostname}".config.system.build.toplevel',
            store=TARGET,
            options=_options(answers, medium),
            environment=environment(answers),
        ),
        summary=f"Evaluate the configuration of {answers.hostname} and realise it in the target's store",
        size=medium.estimated_closure,
    )


def _options(answers: Answers, medium: Medium) -> tuple[str, ...]:
    """Nix options: the medium's own store and caches first, then the answers'."""
    ready = dict.fromkeys(closure.cache for closure in medium.closures if closure.cache)
    own = ["auto?trusted=1", *(_trusted(cache) for cache in ready)]
    offline = answers.system.offline
    chosen = [each for each in answers.system.substituters if not offline or _is_local(each.url)]
    keys = [each.public_key for each in chosen if each.public_key]
    substituters = " ".join((*own, *(each.url for each in chosen)))
    return (
        # Offline the list is replaced, so that no network cache is left in it; an empty one would fetch nothing at all.
        *("--option", "substituters" if offline else "extra-substituters", substituters),
        *(("--option", "extra-trusted-public-keys", " ".join(keys)) if keys else ()),
        *("--option", "connect-timeout", str(CONNECT_TIMEOUT)),
    )


def _closure(answers: Answers, medium: Medium) -> SystemSource:
    name = answers.system.closure or ""
    for ready in medium.closures:
        if name in (ready.name, ready.toplevel):
            return _ready(ready)
    if not name.startswith("/nix/store/"):
        known = ", ".join(closure.name for closure in medium.closures) or "none"
        raise HyperError(
            f"system.closure = {name!r} is not on the medium" if name else "system.closure is missing",
            why=f"{medium.label} has these ready closures: {known}",
            remedy='name one of them, write a whole store path with a cache for it, or system.source = "flake"',
            code=Exit.answers,
        )
    caches = [
        each for each in answers.system.substituters if not answers.system.offline or _is_local(each.url)
    ]
    if not caches:
        where = (
            "offline only file:// caches count" if answers.system.offline else "system.substituters is empty"
        )
        raise HyperError(
            "there is no source for the system",
            why=f"{name} is not on the medium, and {where}",
            remedy="add a cache that holds it to system.substituters",
            code=Exit.unsuitable,
        )
    keys = [each.public_key for each in caches if each.public_key]
    return SystemSource(
        action=CopyClosure(
            toplevel=name,
            source=caches[0].url,
            store=TARGET,
            options=("--option", "extra-trusted-public-keys", " ".join(keys)) if keys else (),
            environment=environment(answers),
        ),
        summary=f"Copy the system {name} from {caches[0].url} into the target's store",
        size=medium.estimated_closure,
    )


def _ready(ready: ReadyClosure) -> SystemSource:
    return SystemSource(
        action=CopyClosure(
            toplevel=ready.toplevel,
            source=_trusted(ready.cache) if ready.cache else "auto",
            store=TARGET,
            # What the medium carries is as trustworthy as the installer that it carries.
            options=("--no-check-sigs",),
        ),
        summary=f"Copy the medium's ready system {ready.name} into the target's store",
        size=ready.nar_size,
        prebuilt=ready if ready.tier else None,
    )


def _trusted(cache: str) -> str:
    return f"{cache}{'&' if '?' in cache else '?'}trusted=1"


def _is_local(url: str) -> bool:
    return url.startswith(("file://", "/"))
