"""libvirt-python, as everything here uses it."""

from typing import Any

from installer.errors import HyperError


def libvirt_module() -> Any:
    """libvirt-python, quiet: its default handler prints every error, also the expected ones, to standard error."""
    try:
        import libvirt
    except ImportError as error:
        raise HyperError(
            "libvirt-python is missing.",
            why=str(error),
            remedy="Install the extra `host` (`pip install hyper-nixos[host]`); the NixOS package carries it.",
        ) from error
    libvirt.registerErrorHandler(lambda *_: None, None)
    return libvirt
