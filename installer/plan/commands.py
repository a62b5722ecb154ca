"""Nix commands behind actions, as they are run: one place for the text that people confirm and for the executor."""

from installer.plan.actions import CopyClosure, RealiseFlake, SetProfile

FEATURES = ("--extra-experimental-features", "nix-command flakes")
"""Also where the live system's nix.conf does not switch them on."""


def build_command(action: RealiseFlake) -> tuple[str, ...]:
    """Evaluate and realise a flake's toplevel; prints its path, and what it does line by line."""
    return (
        *("nix", "build", f"{action.flake}#{action.attribute}"),
        *("--store", action.store),
        *("--no-link", "--print-out-paths", "--print-build-logs"),
        *FEATURES,
        # Without a network Nix takes nothing from anywhere, the medium's own store included, unless told to.
        *("--option", "substitute", "true"),
        *action.options,
    )


def copy_command(action: CopyClosure) -> tuple[str, ...]:
    """Copy a ready system; the medium's own store is Nix's default source."""
    origin = () if action.source == "auto" else ("--from", action.source)
    return (
        *("nix", "copy", *origin, "--to", action.store),
        *FEATURES,
        *action.options,
        action.toplevel,
    )


def profile_command(action: SetProfile, toplevel: str) -> tuple[str, ...]:
    """Make a toplevel the target's system profile."""
    return (
        *("nix-env", "--store", action.store),
        *("--profile", f"{action.store}/nix/var/nix/profiles/system"),
        *("--set", toplevel),
        *("--option", "substitute", "false"),
    )


def kexec_command(root: str, kernel: str, initrd: str, parameters: str) -> tuple[str, ...]:
    """Hold a kernel of the target ready (kexec(8)); nothing is started yet."""
    return (
        *("kexec", "--load", f"{root}{kernel}"),
        f"--initrd={root}{initrd}",
        f"--command-line={parameters}",
    )
