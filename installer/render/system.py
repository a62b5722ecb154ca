"""configuration.nix: language, time, Nix and its caches, proxy and certificates."""

from installer.answers.model import Answers
from installer.render.nix import Commented, Nix, Path

STATE_VERSION = (
    "The release that this host's data began with: leave it as it is, also when the host is upgraded."
)


def system(answers: Answers, release: str, imports: tuple[str, ...]) -> dict[str, Nix]:
    """Options of the system as a whole; `release` is the one that its data begin with."""
    options: dict[str, Nix] = {
        "imports": [Path(f"./{name}") for name in imports],
        "i18n": {"defaultLocale": answers.locale},
        "time": {"timeZone": answers.timezone},
        # The passphrase prompt of stage 1 uses the keymap too.
        "console": {"keyMap": answers.keymap, "earlySetup": True},
        "nix": {"settings": _nix(answers)},
    }
    if answers.network.proxy:
        options["networking"] = {"proxy": _proxy(answers)}
    if answers.system.ca_certificates:
        options["security"] = {"pki": {"certificates": list(answers.system.ca_certificates)}}
    options["system"] = {"stateVersion": Commented(STATE_VERSION, release)}
    return options


def _nix(answers: Answers) -> dict[str, Nix]:
    settings: dict[str, Nix] = {"experimental-features": ["nix-command", "flakes"]}
    if caches := answers.system.substituters:
        settings["substituters"] = [cache.url for cache in caches]
        if keys := [cache.public_key for cache in caches if cache.public_key]:
            settings["trusted-public-keys"] = keys
    return settings


def _proxy(answers: Answers) -> dict[str, Nix]:
    proxy: dict[str, Nix] = {"default": answers.network.proxy}
    if answers.network.no_proxy:
        proxy["noProxy"] = ",".join(answers.network.no_proxy)
    return proxy
