"""Recovery keys: made here, of chance alone, in the form of systemd-cryptenroll(1), so that systemd takes them as its own.

256 bits in modhex, whose letters lie in the same place on every Latin keyboard: 64 letters in eight groups of eight. The
key is in this process's memory, in the LUKS headers' derivation of it, and with whoever it was shown to or sealed for.
"""

import json
import secrets
from pathlib import Path

from installer.execute.evidence import Evidence, Wrong, ensure
from installer.execute.files import write_file
from installer.execute.runner import Runner
from installer.plan.actions import AddKeyFile, AddRecoveryKey, SealRecoveryKey
from installer.plan.checks import RecoveryKeyOpens

RECOVERY_KEY = "recovery-key"
"""What the journal calls the sealed key."""
LETTERS = "cbdefghijklnrtuv"
"""Modhex: sixteen letters for four bits each (Yubico)."""
GROUPS, GROUP = 8, 8
RECOVERY_TOKEN = "systemd-recovery"  # noqa: S105 (a type, not a secret)
"""systemd's name of the token that marks a recovery key's slot."""
_CHEAP = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
"""Nobody guesses 256 bits of chance, however fast a try is; systemd-cryptenroll does the same."""
_MODE = 0o600
_ARMOUR = ("-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----")


def new_key() -> str:
    """A new key, as it is typed."""
    letters = [secrets.choice(LETTERS) for _ in range(GROUPS * GROUP)]
    return "-".join("".join(letters[at : at + GROUP]) for at in range(0, len(letters), GROUP))


def add_key_file(runner: Runner, action: AddKeyFile, passphrase: bytes) -> None:
    """Let a file's content open the device from a slot of its own, which is emptied first."""
    _empty(runner, action.device, action.slot)
    runner.run(
        [
            *("cryptsetup", "luksAddKey", "--batch-mode"),
            *_CHEAP,
            *("--key-slot", str(action.slot)),
            *("--key-file", "-"),
            *(action.device, action.path),
        ],
        stdin=passphrase,
    )


def _empty(runner: Runner, device: str, slot: int) -> None:
    if str(slot) in _header(runner, device)["keyslots"]:
        runner.run(["cryptsetup", "luksKillSlot", "--batch-mode", device, str(slot)])


def add_recovery_key(runner: Runner, action: AddRecoveryKey, passphrase: bytes, key: str) -> None:
    """Put the key into its slot, which is emptied first, and mark it with a token."""
    header = _header(runner, action.device)
    for number, token in header["tokens"].items():
        if token["type"] == RECOVERY_TOKEN:
            runner.run(["cryptsetup", "token", "remove", "--token-id", number, action.device])
    _empty(runner, action.device, action.slot)
    put_recovery_key(runner, action.device, action.slot, passphrase, key)


def put_recovery_key(runner: Runner, device: str, slot: int, passphrase: bytes, key: str) -> None:
    """Put the key into an empty slot, and mark it with a token."""
    # Both by line: a key file would be a second place where the key lies.
    runner.run(
        [
            *("cryptsetup", "luksAddKey", "--batch-mode"),
            *_CHEAP,
            *("--key-slot", str(slot)),
            device,
        ],
        stdin=passphrase + b"\n" + key.encode() + b"\n",
    )
    mark = json.dumps({"type": RECOVERY_TOKEN, "keyslots": [str(slot)]})
    runner.run(["cryptsetup", "token", "import", "--json-file", "-", device], stdin=mark.encode())


def check_recovery_key(runner: Runner, check: RecoveryKeyOpens, key: str) -> Evidence:
    """The key opens the device from its slot, and systemd would know it for one."""
    header = _header(runner, check.device)
    tokens = [token["keyslots"] for token in header["tokens"].values() if token["type"] == RECOVERY_TOKEN]
    ensure(tokens == [[str(check.slot)]], f"one token {RECOVERY_TOKEN} for slot {check.slot}", str(tokens))
    slot = header["keyslots"].get(str(check.slot), {})
    ensure(bool(slot), f"key slot {check.slot} in use", "it is empty")
    opened = runner.run(
        [
            *("cryptsetup", "open", "--test-passphrase", "--type", "luks2"),
            *("--key-slot", str(check.slot), "--key-file", "-"),
            check.device,
        ],
        stdin=key.encode(),
        check=False,
    )
    ensure(opened.status == 0, f"{check.device} opens with the recovery key", "it does not")
    return (f"the recovery key opens {check.device} from key slot {check.slot}",)


def seal(runner: Runner, action: SealRecoveryKey, key: str) -> str:
    """Encrypt the key for its readers, and write that down; the armoured text."""
    sealed = sealed_for(runner, action.recipients, key)
    for path in (action.path, *action.copies):
        write_file(Path(path), sealed.encode(), _MODE)
    return sealed


def sealed_for(runner: Runner, recipients: tuple[str, ...], text: str) -> str:
    """A line, encrypted for each of them (age(1)), armoured. Raises CommandError."""
    readers = [word for each in recipients for word in ("--recipient", each)]
    found = runner.run(["age", "--encrypt", "--armor", *readers], stdin=f"{text}\n".encode(), quiet=True)
    return found.text + "\n"


def check_sealed(path: Path, sealed: str | None) -> Evidence:
    """The file is whole, and from this run."""
    if sealed is None:
        raise Wrong(f"{path} sealed by this run", "this run sealed nothing")
    found = path.read_text(encoding="ascii") if path.is_file() else ""
    lines = found.splitlines()
    ensure(
        found == sealed and (lines[0], lines[-1]) == _ARMOUR, f"{path} as it was encrypted", "another text"
    )
    return (f"{path} holds the recovery key, encrypted",)


def _header(runner: Runner, device: str) -> dict[str, dict[str, dict[str, object]]]:
    """The JSON area of a LUKS2 header (LUKS2 on-disk format specification)."""
    found: dict[str, dict[str, dict[str, object]]] = json.loads(
        runner.run(["cryptsetup", "luksDump", "--dump-json-metadata", device], quiet=True).stdout
    )
    return found
