"""A new recovery key for a host's encrypted disks: shown once, to an administrator on a terminal, and written nowhere.

The one before opens the disks until somebody has the new one: a power cut at any moment leaves at least one of both, besides
the passphrase. A key that nobody has seen yet, which it may leave too, is taken away by the next run (hv/firstrun/keyslots.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hv.firstrun import keyslots
from hv.firstrun.world import World
from hv.history import Entry, record, who
from installer.errors import HyperError
from installer.execute.evidence import Wrong
from installer.execute.recovery import RECOVERY_TOKEN, check_recovery_key, new_key, put_recovery_key
from installer.execute.runner import CommandError, Runner
from installer.plan.checks import RecoveryKeyOpens

PREFIX = "CRYPT-LUKS2-"
"""What device-mapper's names of open LUKS2 devices begin with (libcryptsetup)."""
SEALED = "boot*/recovery-key-*.age"
"""Where the installer has left sealed keys."""
UNCHANGED = "The recovery key from before, and the passphrase, open the disks as they did."


@dataclass(frozen=True)
class Disk:
    """One encrypted disk, open now."""

    device: str
    """Its path, by the UUID of its header."""
    uuid: str
    """That UUID."""


def disks(world: World) -> tuple[Disk, ...]:
    """Every LUKS2 device that is open. Raises HyperError when there is none."""
    found = sorted(_open(world), key=lambda disk: disk.uuid)
    if not found:
        raise HyperError(
            "This host has no encrypted disk.",
            why="no LUKS2 device is open (/sys/block/dm-*/dm/uuid)",
            remedy="Encrypt the disks when the host is installed: storage.encryption in the answers.",
        )
    return tuple(found)


def _open(world: World) -> Iterator[Disk]:
    for name in world.path("/sys/block").glob("dm-*/dm/uuid"):
        text = name.read_text(encoding="ascii").strip()
        if text.startswith(PREFIX):
            plain = text.removeprefix(PREFIX)[:32]
            parts = (plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:])
            uuid = "-".join(parts)
            yield Disk(str(world.path(f"/dev/disk/by-uuid/{uuid}")), uuid)


def renew(
    world: World, runner: Runner, passphrase: bytes, shown: Callable[[str, str], bool]
) -> tuple[str, ...]:
    """Give every open disk a new key, show it, and take the one before away.

    Args:
        world: The host.
        runner: Without a log.
        passphrase: What opens every disk: the passphrase, or the recovery key from before.
        shown: Shows the host's name and the key; whether somebody has it now.

    Returns:
        Sealed keys in files, which open nothing any more.

    Raises:
        HyperError: A disk is not opened by the passphrase, nobody took the key down, or a program failed: the key from
            before stays.
    """
    found = disks(world)
    for disk in found:
        _require_opens(runner, disk, passphrase)
    for disk in found:
        for slot in keyslots.settle(runner, disk.device):
            world.say(
                f"took key slot {slot} of {disk.uuid} away: an earlier try was cut off before anybody saw its key"
            )
    key = new_key()
    added: list[tuple[Disk, int]] = []
    try:
        for disk in found:
            slot = _free_slot(runner, disk)
            added.append((disk, slot))
            keyslots.announce(runner, disk.device, slot)
            put_recovery_key(runner, disk.device, slot, passphrase, key)
            keyslots.settle(runner, disk.device)
            _require_opens(runner, disk, key.encode())
        if not shown(hostname(world), key):
            raise HyperError(
                "Nobody has taken the new recovery key down, so it was taken away again.",
                why="the terminal went away before its last letters were typed",
                remedy=f"Run it again on a terminal. {UNCHANGED}",
            )
    except (HyperError, KeyboardInterrupt):
        for disk, slot in added:
            keyslots.settle(runner, disk.device)
            _take_away(runner, disk, slot)
        raise
    for disk, slot in added:
        for old in {*_marked(runner, disk)} - {slot}:
            _take_away(runner, disk, old)
        _checked(runner, disk, slot, key)
    names = ", ".join(disk.uuid for disk in found)
    entry = Entry(
        at=world.clock.now(), who=who(world.root), action="recovery-key", what=f"a new one for {names}"
    )
    record(world, entry)
    return tuple(sorted(f"/{path.relative_to(world.root)}" for path in world.root.glob(SEALED)))


def hostname(world: World) -> str:
    """The host's name."""
    file = world.path("/proc/sys/kernel/hostname")
    return file.read_text(encoding="utf-8").strip() if file.is_file() else "host"


def _require_opens(runner: Runner, disk: Disk, secret: bytes) -> None:
    argv = ("cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-file", "-", disk.device)
    if runner.run(argv, stdin=secret, check=False).status:
        raise HyperError(
            f"What was typed does not open the disk {disk.uuid}.",
            why="cryptsetup refuses it",
            remedy=f"Type the passphrase, or the recovery key from before, of all disks that are open. {UNCHANGED}",
        )
    # Written to next: it shall be the one that was asked.
    uuid = runner.run(("cryptsetup", "luksUUID", disk.device)).text.strip()
    if uuid != disk.uuid:
        raise HyperError(
            f"{disk.device} is another disk than a moment ago.",
            why=f"its header has the UUID {uuid}",
            remedy=f"Plug nothing in or out, and run it again. {UNCHANGED}",
        )


def _free_slot(runner: Runner, disk: Disk) -> int:
    slot = keyslots.free(keyslots.header(runner, disk.device))
    if slot is not None:
        return slot
    raise HyperError(
        f"The disk {disk.uuid} has no room for another key.",
        why=f"all of its {keyslots.SLOTS} key slots are in use",
        remedy=f"Look at `cryptsetup luksDump {disk.device}`, and take away one that nobody needs. {UNCHANGED}",
    )


def _marked(runner: Runner, disk: Disk) -> tuple[int, ...]:
    """Slots of recovery keys."""
    tokens = keyslots.header(runner, disk.device)["tokens"].values()
    return tuple(
        int(slot) for token in tokens if token["type"] == RECOVERY_TOKEN for slot in token["keyslots"]
    )


def _take_away(runner: Runner, disk: Disk, slot: int) -> None:
    """The slot, then tokens that belong to none: cut off between, the key is gone, and not its mark alone."""
    if str(slot) in keyslots.header(runner, disk.device)["keyslots"]:
        runner.run(("cryptsetup", "luksKillSlot", "--batch-mode", disk.device, str(slot)))
    for number, token in keyslots.header(runner, disk.device)["tokens"].items():
        if token["type"] == RECOVERY_TOKEN and not token["keyslots"]:
            runner.run(("cryptsetup", "token", "remove", "--token-id", number, disk.device))


def _checked(runner: Runner, disk: Disk, slot: int, key: str) -> None:
    try:
        check_recovery_key(runner, RecoveryKeyOpens(device=disk.device, slot=slot), key)
    except (Wrong, CommandError) as error:
        raise HyperError(
            f"The disk {disk.uuid} is not as it should be.",
            why=str(error),
            remedy=f"Look at `cryptsetup luksDump {disk.device}`; the passphrase opens it. Then run it again.",
        ) from error
