"""Checks of file modes and mounts."""

from collections.abc import Iterator

from hv.security.audit.check import Check, Severity
from hv.security.audit.view import Look, View


def _modes(*wanted: tuple[str, int]) -> Look:
    """Files with no more than these permission bits."""

    def look(view: View) -> Iterator[str]:
        for name, most in wanted:
            mode = view.mode(name)
            if mode is not None and mode & ~most:
                yield f"{name} has mode {mode:04o}; {most:04o} is enough"

    return look


def _mount(place: str, *options: str) -> Look:
    def look(view: View) -> Iterator[str]:
        if place in view.mounts:
            missing = [option for option in options if option not in view.mounts[place][1]]
            if missing:
                yield f"{place} is mounted without {', '.join(missing)}"

    return look


def _boot_readable(view: View) -> Iterator[str]:
    for place in ("/boot", "/boot/efi", "/efi"):
        kind, options = view.mounts.get(place, ("", frozenset()))
        if kind == "vfat" and not {"fmask=0077", "fmask=0177", "umask=0077"} & options:
            yield f"{place} can be read by everybody: it holds the seed of random numbers and maybe passphrases' hashes"


CHECKS: tuple[Check, ...] = (
    Check(
        "boot-partition",
        "The boot partition is root's alone to read",
        Severity.medium,
        "It holds the seed of random numbers, and initrds with what is in them.",
        'fileSystems."/boot".options = [ "umask=0077" ]',
        _boot_readable,
        cis=("1.4.2",),
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "files-secrets",
        "Files with secrets are closed",
        Severity.critical,
        "Everybody reads the hashes of passwords.",
        "chmod the file",
        _modes(
            ("/etc/shadow", 0o640),
            ("/etc/gshadow", 0o640),
            ("/var/lib/hyper-nixos/secrets", 0o700),
            ("/root", 0o750),
        ),
        cis=(
            "7.1.5",
            "7.1.7",
        ),
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "files-accounts",
        "Only root changes accounts and the declaration",
        Severity.critical,
        "Anybody makes themselves root.",
        "chmod go-w the file",
        _modes(
            ("/etc/passwd", 0o644),
            ("/etc/group", 0o644),
            ("/etc/sudoers", 0o644),
            ("/etc/ssh/sshd_config", 0o644),
            ("/etc/nixos", 0o755),
            ("/etc/nixos/configuration.nix", 0o644),
        ),
        cis=(
            "5.1.1",
            "7.1.1",
            "7.1.3",
        ),
        bsi=("SYS.1.3.A14",),
    ),
    Check(
        "mounts-shm",
        "Shared memory holds no devices and no programs of root's",
        Severity.low,
        "A place for everybody to leave tools in.",
        'boot.specialFileSystems."/dev/shm".options',
        _mount("/dev/shm", "nosuid", "nodev"),  # noqa: S108
        cis=("1.1.2.2.2", "1.1.2.2.3"),
    ),
    Check(
        "mounts-tmp",
        "A separate /tmp holds no devices and no programs of root's",
        Severity.low,
        "A place for everybody to leave tools in.",
        'fileSystems."/tmp".options = [ "nosuid" "nodev" ]',
        _mount("/tmp", "nosuid", "nodev"),  # noqa: S108
        cis=("1.1.2.1.2", "1.1.2.1.3"),
    ),
)
