"""Recovery keys, in real LUKS2 headers: made, marked, replaced, shown once or sealed, and in no log."""

import io
import json
import os
import pty
import re
import subprocess
import threading
import tty
from pathlib import Path

import pytest

from installer.answers.check import check
from installer.answers.model import RecoveryKind
from installer.answers.recovery import recipients, recovery_kind
from installer.errors import HyperError
from installer.execute import apart
from installer.execute.disclosure import Nobody, Waiting, require_reader, waiting_key
from installer.execute.evidence import Wrong
from installer.execute.keys import check_key, write_key
from installer.execute.live import LiveSystem
from installer.execute.log import MARK, Log, Redactor
from installer.execute.preflight import require_readable
from installer.execute.progress import Plain
from installer.execute.recovery import (
    LETTERS,
    add_key_file,
    add_recovery_key,
    check_recovery_key,
    check_sealed,
    new_key,
    seal,
    sealed_for,
)
from installer.execute.runner import CommandError, Runner
from installer.execute.secrets import Secrets
from installer.guided.recovery_screen import OnTerminal
from installer.plan.actions import AddKeyFile, AddRecoveryKey, Run, SealRecoveryKey, SecretReference
from installer.plan.checks import RecoveryKeyOpens, RecoveryKeySealed
from installer.plan.planner import make_plan
from installer.plan.storage.luks import KEY_FILE_SLOT, RECOVERY_SLOT
from installer.support.bundle import Collector, make_bundle
from installer.unattended.console import OnConsoles
from tests import plan_cases as cases

PASSPHRASE = b"yz\xc3\x9f correct horse"
CHEAP = {**cases.ENCRYPTED, "pbkdf_memory": "32MiB", "pbkdf_iterations": 4}
SERIAL_KEY = "cbdefghi-jklnrtuv-cccccccc-bbbbbbbb-dddddddd-eeeeeeee-ffffffff-ggggguuu"


@pytest.fixture
def redact() -> Redactor:
    return Redactor()


@pytest.fixture
def log(tmp_path: Path, redact: Redactor) -> Log:
    return Log(tmp_path / "install.log", redact)


@pytest.fixture
def runner(log: Log) -> Runner:
    return Runner(log, os.environ["PATH"] + ":/usr/sbin:/sbin")


@pytest.fixture
def device(tmp_path: Path) -> str:
    """A container as the plan makes it, in a file: its header needs no device-mapper."""
    answers = cases.answers(storage=cases.storage(encryption=CHEAP))
    plan = make_plan(cases.machine(), answers, cases.medium())
    (action,) = next(step for step in plan.steps if step.id == "encrypt-cryptroot").actions
    assert isinstance(action, Run)
    file = tmp_path / "container"
    with file.open("wb") as blank:
        blank.truncate(64 << 20)
    subprocess.run((*action.argv[:-1], str(file)), input=PASSPHRASE, check=True, capture_output=True)
    return str(file)


def opens(device: str, key: bytes) -> bool:
    command = ("cryptsetup", "open", "--test-passphrase", "--key-file", "-", device)
    return subprocess.run(command, input=key, capture_output=True, check=False).returncode == 0


def action(device: str) -> AddRecoveryKey:
    return AddRecoveryKey(device=device, slot=RECOVERY_SLOT, passphrase=SecretReference(name="passphrase"))


def opens_check(device: str) -> RecoveryKeyOpens:
    return RecoveryKeyOpens(device=device, slot=RECOVERY_SLOT)


def test_a_key_has_the_form_of_systemds() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert re.fullmatch(rf"[{LETTERS}]{{8}}(-[{LETTERS}]{{8}}){{7}}", key)
    assert set("".join(keys)) == {*LETTERS, "-"}, "all letters come up"


def test_the_key_opens_a_real_header_and_systemd_knows_it(
    runner: Runner, device: str, tmp_path: Path
) -> None:
    key = new_key()
    add_recovery_key(runner, action(device), PASSPHRASE, key)
    assert check_recovery_key(runner, opens_check(device), key)
    assert opens(device, key.encode()) and opens(device, PASSPHRASE)
    assert not opens(device, new_key().encode())
    listed = subprocess.run(
        ("systemd-cryptenroll", device), capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"^\s*1\s+recovery$", listed, re.MULTILINE), listed
    assert re.search(r"^\s*0\s+password$", listed, re.MULTILINE), listed


@pytest.mark.root
def test_an_interrupted_try_leaves_no_second_key(runner: Runner, device: str, tmp_path: Path) -> None:
    """Killed after the slot was filled, before or after it was marked: the next run's key is the only one."""
    file = tmp_path / "data.key"
    reference = SecretReference(name="passphrase")
    for _ in range(
        2
    ):  # killed after the slot was filled: another key is written, and goes into the same slot
        write_key(file)
        added = AddKeyFile(device=device, slot=KEY_FILE_SLOT, path=str(file), passphrase=reference)
        add_key_file(runner, added, PASSPHRASE)
    dumped = runner.run(["cryptsetup", "luksDump", "--dump-json-metadata", device]).stdout
    assert set(json.loads(dumped)["keyslots"]) == {"0", str(KEY_FILE_SLOT)}
    keys = [new_key() for _ in range(3)]
    add_recovery_key(runner, action(device), PASSPHRASE, keys[0])
    with pytest.raises(Wrong, match="opens with the recovery key"):
        check_recovery_key(runner, opens_check(device), keys[1])
    runner.run(["cryptsetup", "token", "remove", "--token-id", "0", device])
    with pytest.raises(Wrong, match="token"):
        check_recovery_key(runner, opens_check(device), keys[0])
    for key in keys[1:]:
        add_recovery_key(runner, action(device), PASSPHRASE, key)
        check_recovery_key(runner, opens_check(device), key)
    assert [opens(device, key.encode()) for key in keys] == [False, False, True]
    assert opens(device, PASSPHRASE)
    check_key(runner, device, file)


def test_a_wrong_passphrase_adds_nothing(runner: Runner, device: str) -> None:
    key = new_key()
    with pytest.raises(CommandError):
        add_recovery_key(runner, action(device), b"something else", key)
    assert not opens(device, key.encode()) and opens(device, PASSPHRASE)


def test_no_log_and_no_command_line_has_the_key(
    runner: Runner, log: Log, redact: Redactor, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    popen = subprocess.Popen

    def watched(argv: list[str], **options: object) -> "subprocess.Popen[bytes]":
        seen.append(" ".join(argv) + repr(options.get("env")))
        return popen(argv, **options)  # type: ignore[call-overload,no-any-return]

    secrets = Secrets(redact, cases.answers())
    assert not secrets.has_recovery_key
    key = secrets.recovery_key
    monkeypatch.setattr(subprocess, "Popen", watched)
    add_recovery_key(runner, action(device), PASSPHRASE, key)
    check_recovery_key(runner, opens_check(device), key)
    log.write(f"somebody says {key} and {key.replace('-', '')}")
    text = log.path.read_text()
    assert seen and "luksAddKey" in text and text.count(MARK) == 2
    for said in (*seen, text):
        assert key not in said and key.replace("-", "") not in said
    assert secrets.recovery_key == key, "one key for all devices of a run"


@pytest.fixture
def identities(tmp_path: Path) -> dict[str, str]:
    """Public key to the file of its secret one: age's own kind, and both of SSH's that it reads."""
    age = tmp_path / "age"
    subprocess.run(("age-keygen", "-o", str(age)), check=True, capture_output=True)
    found = {
        subprocess.run(
            ("age-keygen", "-y", str(age)), check=True, capture_output=True, text=True
        ).stdout.strip(): str(age)
    }
    for kind in ("ed25519", "rsa"):
        file = tmp_path / kind
        subprocess.run(("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(file)), check=True)
        found[" ".join(file.with_name(f"{kind}.pub").read_text().split()[:2])] = str(file)
    return found


def test_each_recipient_reads_the_sealed_key_and_nobody_else(
    runner: Runner, tmp_path: Path, identities: dict[str, str]
) -> None:
    key, path = new_key(), tmp_path / "boot/recovery-key-hv1.age"
    copy = tmp_path / "boot2/recovery-key-hv1.age"
    action = SealRecoveryKey(path=str(path), recipients=tuple(identities), copies=(str(copy),))
    sealed = seal(runner, action, key)
    assert check_sealed(path, sealed)
    assert check_sealed(copy, sealed)
    assert key not in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    for secret in identities.values():
        found = subprocess.run(
            ("age", "--decrypt", "--identity", secret, str(path)), capture_output=True, check=True
        )
        assert found.stdout.decode() == f"{key}\n"
    stranger = tmp_path / "stranger"
    subprocess.run(("age-keygen", "-o", str(stranger)), check=True, capture_output=True)
    refused = subprocess.run(
        ("age", "--decrypt", "--identity", str(stranger), str(path)), capture_output=True, check=False
    )
    assert refused.returncode
    path.write_text(path.read_text()[:-60])
    with pytest.raises(Wrong):
        check_sealed(path, sealed)
    with pytest.raises(Wrong, match="this run sealed nothing"):
        check_sealed(path, None)


def test_a_recipient_that_age_refuses_is_found_before_anything_is_written(runner: Runner) -> None:
    good = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    for recipient, fits in ((good, True), (good[:-1] + "q", False)):
        answers = cases.answers(
            storage=cases.storage(encryption=CHEAP | {"recovery_recipients": [recipient]})
        )
        plan = make_plan(cases.machine(), answers, cases.medium())
        if fits:
            require_readable(plan, runner)
            assert sealed_for(runner, (recipient,), "a try").startswith("-----BEGIN AGE")
        else:
            with pytest.raises(HyperError, match="could not be encrypted"):
                require_readable(plan, runner)


@pytest.mark.parametrize(
    ("encryption", "more", "kind"),
    [
        ({}, {}, RecoveryKind.show),
        ({"recovery_recipients": [cases.KEY]}, {}, RecoveryKind.seal),
        ({}, {"destroy": "matched"}, RecoveryKind.seal),
        ({"recovery_key": "off"}, {"destroy": "matched"}, RecoveryKind.off),
    ],
)
def test_what_becomes_of_the_key(
    encryption: dict[str, object], more: dict[str, object], kind: RecoveryKind
) -> None:
    answers = cases.answers(storage=cases.storage(encryption=cases.ENCRYPTED | encryption, **more))
    assert not check(answers)
    assert recovery_kind(answers) is kind
    steps = {step.id: step for step in make_plan(cases.machine(), answers, cases.medium()).steps}
    assert ("recovery-key-cryptroot" in steps) == (kind is not RecoveryKind.off)
    assert ("seal-recovery-key" in steps) == (kind is RecoveryKind.seal)
    if kind is RecoveryKind.seal:
        assert recipients(answers) == (" ".join(cases.KEY.split()[:2]),)
        assert "seal-recovery-key" in steps["prove"].requires


def test_every_device_gets_the_key() -> None:
    """Data disks, which a key file opens, too: that file is lost with the root."""
    pool = {"kind": "dir", "disk": {"serial": "ZA1234AB"}}
    answers = cases.answers(storage=cases.storage(encryption=cases.ENCRYPTED, pool=pool))
    plan = make_plan(cases.machine(cases.blank_disk(), cases.used_disk()), answers, cases.medium())
    steps = {step.id: step for step in plan.steps}
    for name in ("cryptroot", "cryptvms"):
        assert steps[f"recovery-key-{name}"].transient
        assert f"recovery-key-{name}" in steps["prove"].requires
    assert plan.host.key_luks and not [each for each in plan.host.luks if each.name == "cryptvms"]


def test_the_sealed_key_lies_on_every_boot_disk() -> None:
    table = cases.storage(encryption=cases.ENCRYPTED | {"recovery_key": "seal"}, filesystem="btrfs") | {
        "layout": "mirror",
        "disk": {"transport": "nvme", "count": 3},
    }
    plan = make_plan(cases.machine(*cases.disks(3)), cases.answers(storage=table), cases.medium())
    (step,) = (step for step in plan.steps if step.id == "seal-recovery-key")
    places = [f"/mnt/boot{number}/recovery-key-hv1.age" for number in ("", 2, 3)]
    (action,) = step.actions
    assert isinstance(action, SealRecoveryKey)
    assert [action.path, *action.copies] == places
    assert [check.path for check in step.checks if isinstance(check, RecoveryKeySealed)] == places
    assert {"mount-boot", "mount-boot2", "mount-boot3"} <= set(step.requires)


@pytest.mark.parametrize(
    ("encryption", "more", "field", "words"),
    [
        (
            {"recovery_key": "show", "recovery_recipients": [cases.KEY]},
            {},
            "recovery_recipients",
            "means nothing",
        ),
        ({"recovery_recipients": ["ssh-ed25519 AAAA"]}, {}, 0, "something else inside"),
        ({"recovery_key": "show"}, {"at_end": "reboot", "destroy": True}, "recovery_key", "nobody there"),
        ({}, {"destroy": True, "without": True}, "recovery_key", "to be sealed for somebody"),
    ],
)
def test_what_cannot_be_is_said(
    encryption: dict[str, object], more: dict[str, object], field: object, words: str
) -> None:
    changes: dict[str, object] = {"at_end": more.get("at_end", "stay")}
    if "without" in more:
        changes["users"] = [{"name": "alice", "admin": True, "password_hash": cases.HASH}]
    storage = cases.storage(encryption=cases.ENCRYPTED | encryption)
    if "destroy" in more:
        storage["destroy"] = "matched"
    problems = check(cases.answers(storage=storage, **changes))
    assert [problem.path[-1] for problem in problems] == [field]
    assert re.search(words, problems[0].wrong) and problems[0].remedy


def test_without_a_reader_nothing_begins() -> None:
    answers = cases.answers(storage=cases.storage(encryption=cases.ENCRYPTED))
    with pytest.raises(HyperError, match="could not be shown to anybody") as caught:
        require_reader(answers, Nobody())
    assert "recovery_recipients" in caught.value.remedy
    require_reader(cases.answers(), Nobody())
    with pytest.raises(HyperError):
        require_reader(answers, OnTerminal(io.StringIO()))


def test_a_terminal_shows_it_until_its_end_comes_back() -> None:
    typed = iter(("nothing", SERIAL_KEY[-8:].upper()))
    output = io.StringIO()
    OnTerminal(output, ask=lambda _: next(typed)).show("hv1", SERIAL_KEY)
    text = output.getvalue()
    assert text.count(SERIAL_KEY) == 1 and "not its last letters" in text
    assert max(map(len, text.splitlines())) <= 80 and len(text.splitlines()) < 24


def test_consoles_have_it_and_the_services_output_has_not() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    consoles = OnConsoles((os.fdopen(slave, "w"),))
    assert consoles.obstacle() is None and OnConsoles(()).obstacle()
    consoles.show("hv1", SERIAL_KEY)
    assert SERIAL_KEY in os.read(master, 4096).decode()
    os.close(master)


def test_it_waits_for_a_screen_and_is_gone_then(tmp_path: Path, log: Log) -> None:
    """Between two processes, as the guided installer has it: what is said never has the key."""
    live = LiveSystem(runtime=tmp_path)
    with apart.said(live).open("w") as said:
        waiting = Waiting(live, said)
        worker = threading.Thread(target=waiting.show, args=("hv1", SERIAL_KEY))
        worker.start()
        while not waiting_key(live).exists():
            pass
        assert waiting_key(live).stat().st_mode & 0o777 == 0o600
        bundle = make_bundle(
            Collector(Runner(log, os.environ["PATH"]), live),
            tmp_path / "bundle.tar.zst",
            more={"leak.txt": waiting_key(live)},
        )
        packed = subprocess.run(
            ("zstd", "--decompress", "--stdout", str(bundle.path)), capture_output=True, check=True
        )
        assert b"install/leak.txt" in packed.stdout and SERIAL_KEY.encode() not in packed.stdout
        screen, shown = io.StringIO(), io.StringIO()
        with pytest.raises(HyperError, match="vanished"):
            apart.follow(live, lambda total: Plain(screen, total), patience=0.5)
        assert "waits for a terminal" in screen.getvalue() and waiting_key(live).exists()
        with pytest.raises(HyperError, match="vanished"):
            apart.follow(live, lambda total: Plain(screen, total), patience=0.5, disclosure=_Paper(shown))
        worker.join(5)
        assert not worker.is_alive() and not waiting_key(live).exists()
    assert SERIAL_KEY in shown.getvalue()
    assert SERIAL_KEY not in apart.said(live).read_text() + screen.getvalue()


class _Paper:
    """A screen that somebody copies from."""

    def __init__(self, output: io.StringIO) -> None:
        self._output = output

    def obstacle(self) -> str | None:
        return None

    def show(self, host: str, key: str) -> None:
        self._output.write(f"{host} {key}")
