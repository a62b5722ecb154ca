"""TPM and FIDO2 beside the passphrase: planned, refused, and enrolled at first boot with a real TPM (swtpm) and headers.

That the TPM really gives the key is shown with tools that are not systemd's: tpm2-tools unseal what the header has, and
cryptsetup opens with it.
"""

import base64
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hv.firstrun.catalogue import jobs_of
from hv.firstrun.enrol import EnrolJob
from hv.firstrun.world import World
from installer.answers.check import check
from installer.errors import Exit, HyperError
from installer.execute.keys import check_key, write_key
from installer.execute.log import Log, Redactor
from installer.execute.recovery import add_key_file, add_recovery_key, new_key
from installer.execute.runner import Runner
from installer.execute.secrets import Secrets
from installer.facts.common import Judgement, Verdict
from installer.facts.firmware import Tpm
from installer.handoff import Enrolment
from installer.plan.actions import AddKeyFile, AddRecoveryKey, SecretReference
from installer.plan.enrolment import FOLDER
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from installer.plan.storage.luks import ENROLMENT_SLOT, RECOVERY_SLOT
from installer.render import load_templates, render
from tests import plan_cases as cases
from tests.nixeval import hosts
from tests.nixeval.cases import MEDIUM
from tests.nixeval.host import evaluate_flake_host

PASSPHRASE = b"correct horse battery"
PIN = "47-eleven ü"
CHEAP = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")


# Planning ---------------------------------------------------------------------------------------------------------


def planned(token: str, tpm: Tpm | None = Tpm(version=2, device="tpm0"), **more: Any) -> Plan:  # noqa: B008
    encryption = cases.ENCRYPTED | {"token": token} | more
    if token == "tpm2-pin":
        encryption["pin"] = {"file": "/run/secrets/pin"}
    facts = cases.machine()
    facts = facts.model_copy(update={"firmware": facts.firmware.model_copy(update={"tpm": tpm})})
    answers = cases.answers(storage=cases.storage(encryption=encryption))
    assert not check(answers)
    return make_plan(facts, answers, cases.medium())


@pytest.mark.parametrize("token", ["tpm2", "tpm2-pin", "fido2"])
def test_the_host_is_left_what_it_needs(token: str) -> None:
    plan = planned(token)
    asked = plan.handoff.enrolment
    assert asked and asked.token == token.removesuffix("-pin") == plan.host.luks[0].token
    assert asked.devices == (plan.host.luks[0].device,)
    assert (asked.pin_file is not None) == (token == "tpm2-pin")
    steps = {step.id: step for step in plan.steps}
    assert "enrolment-key" in steps["boot-loader"].requires
    assert "mount-root" in steps["enrolment-key"].requires, "it lies behind the encryption"
    assert "enrol" in [job.name for job in jobs_of(plan.handoff)]
    weak = [warning for warning in plan.warnings if "without a PIN" in warning]
    assert bool(weak) == (token == "tpm2")


def test_nothing_of_it_where_nobody_asked() -> None:
    plan = planned("none")
    assert plan.handoff.enrolment is None and "enrolment" not in plan.handoff.model_dump()
    assert not [step for step in plan.steps if step.id == "enrolment-key"]
    assert EnrolJob(None).applies(plan.handoff)


@pytest.mark.parametrize(("tpm", "why"), [(None, "no TPM"), (Tpm(version=1, device="tpm0"), "version 1")])
def test_a_tpm_that_is_not_there_is_refused(tpm: Tpm | None, why: str) -> None:
    for token in ("tpm2", "tpm2-pin"):
        with pytest.raises(HyperError, match="does not fit this machine") as caught:
            planned(token, tpm)
        assert why in caught.value.why and caught.value.code is Exit.unsuitable
    planned("fido2", tpm)


def test_secure_boot_off_is_said() -> None:
    assert [warning for warning in planned("tpm2").warnings if warning.startswith("Secure Boot is off")]
    facts = cases.machine()
    on = Judgement(verdict=Verdict.yes, because="SecureBoot is 1")
    firmware = facts.firmware.model_copy(update={"tpm": Tpm(version=2, device="tpm0"), "secure_boot": on})
    answers = cases.answers(storage=cases.storage(encryption=cases.ENCRYPTED | {"token": "tpm2"}))
    warnings = make_plan(facts.model_copy(update={"firmware": firmware}), answers, cases.medium()).warnings
    assert not [warning for warning in warnings if warning.startswith("Secure Boot is off")]


@pytest.mark.parametrize(
    ("encryption", "more", "field", "words"),
    [
        ({"token": "tpm2-pin"}, {}, "pin", "needs one"),
        ({"token": "tpm2", "pin": {"file": "/x"}}, {}, "pin", "means nothing with token"),
        (
            {"token": "tpm2-pin", "pin": {"prompt": True}},
            {"destroy": "matched"},
            "pin",
            "waits for a person",
        ),
        ({"enable": False, "passphrase": None, "token": "fido2"}, {}, "token", "while encryption is off"),
    ],
)
def test_what_cannot_be_is_said(
    encryption: dict[str, Any], more: dict[str, Any], field: str, words: str
) -> None:
    problems = check(cases.answers(storage=cases.storage(encryption=cases.ENCRYPTED | encryption, **more)))
    assert [(problem.path[-1], words in problem.wrong) for problem in problems] == [(field, True)]


def test_a_short_pin_is_not_taken(tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    for text, taken in (("12345\n", False), ("123456\n", True)):
        pin.write_text(text)
        secrets = Secrets(Redactor(), cases.answers())
        if taken:
            secrets._from_file(SecretReference(name="pin"), str(pin))
        else:
            with pytest.raises(HyperError, match="cannot be used"):
                secrets._from_file(SecretReference(name="pin"), str(pin))


# Enrolling --------------------------------------------------------------------------------------------------------


@dataclass
class Host:
    """A host's root with an encrypted device in a file, its keys, and a TPM."""

    root: Path
    device: Path
    tpm: str
    runner: Runner

    def header(self) -> dict[str, Any]:
        text = self.runner.run(
            ["cryptsetup", "luksDump", "--dump-json-metadata", str(self.device)], quiet=True
        ).stdout
        found: dict[str, Any] = json.loads(text)
        return found

    def leave(self, *, pin: bool) -> Enrolment:
        """As the installer does it."""
        asked = Enrolment(
            token="tpm2",
            devices=(str(self.device),),
            key_file=f"{FOLDER}/key",
            slot=ENROLMENT_SLOT,
            pin_file=f"{FOLDER}/pin" if pin else None,
        )
        key = self.root / asked.key_file.lstrip("/")
        key.parent.mkdir(parents=True, exist_ok=True)
        write_key(key)
        reference = SecretReference(name="passphrase")
        action = AddKeyFile(
            device=str(self.device), slot=ENROLMENT_SLOT, path=str(key), passphrase=reference
        )
        add_key_file(self.runner, action, PASSPHRASE)
        check_key(self.runner, str(self.device), key)
        if pin:
            (key.parent / "pin").write_text(PIN)
        return asked

    def job(self, asked: Enrolment) -> EnrolJob:
        return EnrolJob(asked, tpm=f"swtpm:path={self.tpm}")

    def world(self) -> World:
        return World(programs=self.runner, root=self.root)

    def enrol(self, asked: Enrolment) -> World:
        world = self.world()
        job = self.job(asked)
        job.run(world)
        job.verify(world)
        return world

    def tool(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        """One of tpm2-tools. Without a resource manager nobody takes away what it leaves in the TPM."""
        environment = os.environ | {"TPM2TOOLS_TCTI": f"swtpm:path={self.tpm}"}
        return subprocess.run(argv, capture_output=True, env=environment, cwd=self.root, check=False)

    def forget(self) -> None:
        for kind in ("-t", "-l", "-s"):
            self.tool("tpm2_flushcontext", kind)

    def change(self) -> None:
        """Another Secure Boot state."""
        done = self.tool("tpm2_pcrextend", f"7:sha256={hashlib.sha256(os.urandom(8)).hexdigest()}")
        assert done.returncode == 0, done.stderr

    def unsealed(self, pin: str | None = None) -> bool:
        """Whether the TPM gives what opens the device, without anything of systemd."""
        self.forget()
        (token,) = (each for each in self.header()["tokens"].values() if each["type"] == "systemd-tpm2")
        blob = base64.b64decode(token["tpm2-blob"])
        length = int.from_bytes(blob[:2], "big") + 2
        (self.root / "private").write_bytes(blob[:length])
        (self.root / "public").write_bytes(blob[length:])
        pcrs = f"{token['tpm2-pcr-bank']}:{','.join(map(str, token['tpm2-pcrs']))}"
        steps = [
            ("tpm2_createprimary", "-C", "o", "-G", f"{token['tpm2-primary-alg']}256", "-c", "primary"),
            ("tpm2_flushcontext", "-t"),
            ("tpm2_load", "-C", "primary", "-r", "private", "-u", "public", "-c", "sealed"),
            ("tpm2_flushcontext", "-t"),
            ("tpm2_startauthsession", "--policy-session", "-S", "session"),
            ("tpm2_policypcr", "-S", "session", "-l", pcrs),
        ]
        auth = "session:session"
        if pin is not None:
            steps.append(("tpm2_policyauthvalue", "-S", "session"))
            auth += f"+hex:{hashlib.sha256(pin.encode()).digest().rstrip(bytes(1)).hex()}"
        for step in steps:
            done = self.tool(*step)
            assert done.returncode == 0, (step, done.stderr)
        secret = self.tool("tpm2_unseal", "-c", "sealed", "-p", auth)
        self.forget()
        return secret.returncode == 0 and self.opens(base64.b64encode(secret.stdout), token["keyslots"][0])

    def opens(self, key: bytes, slot: str) -> bool:
        argv = (
            "cryptsetup",
            "open",
            "--test-passphrase",
            "--key-slot",
            slot,
            "--key-file",
            "-",
            str(self.device),
        )
        return subprocess.run(argv, input=key, capture_output=True, check=False).returncode == 0


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    device, state, socket = tmp_path / "luks", tmp_path / "tpm", tmp_path / "s"
    state.mkdir()
    with device.open("wb") as blank:
        blank.truncate(32 << 20)
    command = (
        "cryptsetup",
        "luksFormat",
        "--batch-mode",
        "--type",
        "luks2",
        *CHEAP,
        "--key-file",
        "-",
        str(device),
    )
    subprocess.run(command, input=PASSPHRASE, check=True)
    runner = Runner(Log(tmp_path / "log", Redactor()), os.environ["PATH"] + ":/usr/sbin:/sbin")
    swtpm = subprocess.Popen(
        (
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
            *("--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"),
            *("--flags", "not-need-init,startup-clear"),
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not socket.exists():
            assert swtpm.poll() is None and time.monotonic() < deadline, "swtpm did not start"
        made = Host(tmp_path, device, str(socket), runner)
        made.change()
        yield made
    finally:
        swtpm.terminate()
        swtpm.wait()


@pytest.mark.root
@pytest.mark.parametrize("pin", [False, True], ids=["alone", "pin"])
def test_a_real_tpm_opens_a_real_header(host: Host, pin: bool) -> None:
    recovery = new_key()
    reference = SecretReference(name="passphrase")
    add_recovery_key(
        host.runner,
        AddRecoveryKey(device=str(host.device), slot=RECOVERY_SLOT, passphrase=reference),
        PASSPHRASE,
        recovery,
    )
    asked = host.leave(pin=pin)
    host.enrol(asked)
    assert host.unsealed(PIN if pin else None), "the TPM gives the key"
    if pin:
        assert not host.unsealed("another PIN")
    assert host.opens(PASSPHRASE, "0") and host.opens(recovery.encode(), str(RECOVERY_SLOT)), "others stay"
    assert str(ENROLMENT_SLOT) not in host.header()["keyslots"]
    assert not (host.root / FOLDER.lstrip("/") / "key").exists()
    assert not (host.root / FOLDER.lstrip("/") / "pin").exists()
    host.change()
    assert not host.unsealed(PIN if pin else None), "bound to PCR 7"
    assert PIN not in (host.root / "log").read_text()


@pytest.mark.root
def test_cut_off_anywhere_it_comes_to_its_end(host: Host) -> None:
    """Between any two programs: the next boot goes on, one token is there, and the installer's key is gone."""

    class CutError(Exception):
        pass

    class Cut:
        def __init__(self, after: int) -> None:
            self.left = after

        def run(self, argv: Any, **options: Any) -> Any:
            if self.left == 0:
                raise CutError
            self.left -= 1
            return host.runner.run(argv, **options)

    asked = host.leave(pin=False)
    cuts = 0
    for after in range(20):
        host.forget()
        world = World(programs=Cut(after), root=host.root)
        try:
            host.job(asked).run(world)
        except CutError:
            cuts += 1
            continue
        break
    assert cuts >= 4, "reading, enrolling, reading back, taking the key off"
    host.job(asked).verify(host.world())
    assert host.unsealed()


@pytest.mark.root
def test_a_token_that_is_otherwise_is_noticed(host: Host) -> None:
    asked = host.leave(pin=False)
    host.enrol(asked)
    other = asked.model_copy(update={"pin_file": f"{FOLDER}/pin"})
    with pytest.raises(HyperError, match="does not have the token that was asked for"):
        host.job(other).verify(host.world())
    host.runner.run(["systemd-cryptenroll", "--wipe-slot=tpm2", str(host.device)])
    with pytest.raises(HyperError, match="does not have the token") as caught:
        host.job(asked).verify(host.world())
    assert "hv firstrun retry enrol" in caught.value.remedy


@pytest.mark.root
def test_without_tpm_or_token_the_passphrase_stays(host: Host) -> None:
    """What the job says without a FIDO2 token; with one: tests/lab/tokens.py."""
    asked = host.leave(pin=False)
    with pytest.raises(HyperError, match=r"no TPM 2\.0") as caught:
        EnrolJob(asked).run(host.world())
    assert "hv firstrun retry enrol" in caught.value.remedy
    with pytest.raises(HyperError, match="No FIDO2 token is plugged in"):
        EnrolJob(asked.model_copy(update={"token": "fido2"})).run(host.world())
    assert host.opens(PASSPHRASE, "0")
    host.enrol(asked)


@pytest.mark.root
def test_a_device_that_is_gone_is_said(host: Host) -> None:
    asked = host.leave(pin=False).model_copy(update={"devices": ("/dev/disk/by-uuid/none",)})
    with pytest.raises(HyperError, match="Could not read the header"):
        host.job(asked).run(host.world())


SELECT = """host: {
  tpm2 = host.config.boot.initrd.systemd.tpm2.enable;
  fido2 = host.config.boot.initrd.systemd.fido2.enable;
  options = builtins.mapAttrs (_: each: each.crypttabExtraOpts) host.config.boot.initrd.luks.devices;
  toplevel = host.config.system.build.toplevel.drvPath;
}"""


@pytest.mark.nixpkgs
def test_stage_1_asks_the_token_first(tmp_path: Path) -> None:
    plan = planned("tpm2")
    answers = cases.answers(storage=cases.storage(encryption=cases.ENCRYPTED | {"token": "tpm2"}))
    files = render(cases.machine(), answers, plan, MEDIUM, load_templates()).files
    found = evaluate_flake_host(hosts.write(files, tmp_path), answers.hostname, SELECT)
    assert not found.failed_assertions and not found.warnings
    assert found.value["options"] == {"cryptroot": ["tpm2-device=auto"]}
    assert found.value["tpm2"] and found.value["fido2"]
