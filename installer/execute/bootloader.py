"""The boot loader, installed by the closure's own program, as nixos-install does."""

from pathlib import Path

from installer.errors import Exit, HyperError
from installer.execute.runner import Runner
from installer.execute.target import SYSTEM, run_inside

_OTHERS_READ_AND_ENTER = 0o005


def install_boot_loader(runner: Runner, root: Path, disk_names: Path | None = None) -> None:
    """Activate in the target, then run `bin/switch-to-configuration boot` of its system profile.

    Args:
        runner: Runs programs.
        root: The mounted target.
        disk_names: What that program finds in /dev/disk/by-id, instead of what is there; nobody else does.
    """
    require_open(root)
    _prepare(root)
    # Activation may complain about what only a running system has; what it must achieve is proved afterwards.
    activated = run_inside(runner, root, [f"{SYSTEM}/activate"], check=False)
    if activated.status != 0:
        runner.log.write(
            f"! activation ended with {activated.status}; the login proof will tell what came of it"
        )
    run_inside(
        runner,
        root,
        [f"{SYSTEM}/bin/switch-to-configuration", "boot"],
        environment={"NIXOS_INSTALL_BOOTLOADER": "1"}
        | ({"HV_DISK_NAMES": str(disk_names)} if disk_names else {}),
    )


MACHINE_ID = "00000000000000000000000000000001"
"""While boot entries are written: without one NixOS's program draws it by chance. No host keeps it."""


def switch_to_boot(runner: Runner, root: Path) -> None:
    """The same without activation and without a disk: the loader is put into a folder where its file system belongs."""
    _prepare(root)
    machine = root / "etc/machine-id"
    machine.write_text(f"{MACHINE_ID}\n")
    run_inside(
        runner,
        root,
        [f"{SYSTEM}/bin/switch-to-configuration", "boot"],
        # bootctl(1) asks for a FAT on a partition of the right type, unless told so (systemd, ENVIRONMENT.md).
        environment={"NIXOS_INSTALL_BOOTLOADER": "1", "SYSTEMD_RELAX_ESP_CHECKS": "1"},
    )
    machine.unlink()


def _prepare(root: Path) -> None:
    (root / "etc").mkdir(mode=0o755, exist_ok=True)
    # Without this mark switch-to-configuration refuses: "not a NixOS installation".
    (root / "etc/NIXOS").touch()
    table = root / "etc/mtab"  # GRUB looks into it
    table.unlink(missing_ok=True)
    table.symlink_to("/proc/mounts")


def require_open(root: Path) -> None:
    """Refuse a target that the host's own services could not reach: every folder down to it needs o+rx."""
    for folder in (root, *root.parents):
        mode = folder.stat().st_mode
        if mode & _OTHERS_READ_AND_ENTER != _OTHERS_READ_AND_ENTER or (
            folder == root and folder.stat().st_uid != 0
        ):
            raise HyperError(
                f"{folder} is closed to others",
                why=f"its mode is {mode & 0o7777:04o}; the installed system would inherit that for /",
                remedy=f"run `chmod o+rx {folder}`, then the same command again",
                code=Exit.step,
            )
