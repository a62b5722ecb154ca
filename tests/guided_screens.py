"""The guided installer's screens of 80x24, as they stand on a real terminal.

`python -m tests.guided_screens` writes them to tests/golden/guided; a test compares.
"""

import gettext
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from installer.answers.sizes import GIB
from installer.execute import apart
from installer.execute.live import LiveSystem
from installer.execute.progress import JsonLines, Moment
from installer.facts import Facts
from installer.guided.words import CATALOGUES, DOMAIN, ENGLISH, LANGUAGES, VARIABLES
from installer.plan.planner import make_plan
from tests import plan_cases as cases
from tests.nixeval.cases import MEDIUM
from tests.plan_goldens import golden_plans
from tests.terminal import ENTER, Display, Terminal
from tests.test_keep_plan import WINDOWS, installed
from tests.test_keep_plan import machine as shared_machine
from tests.words import template

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "tests/golden/guided"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice"

PROOF = (
    "level",
    "network",
    "disk-refused",
    "explained",
    "before-and-after",
    "passphrase-refused",
    "features",
    "review",
)
"""Screens of which each language's own are kept."""


def command(answers: Path, *more: str, machine: str = "workstation") -> list[str]:
    """A dry run on a recorded machine."""
    record = str(REPOSITORY / "tests/machines" / machine)
    medium = str(REPOSITORY / "examples/medium.json")
    hv = [sys.executable, "-m", "hv"]
    return [
        *hv,
        "install",
        "--dry-run",
        "--machine",
        record,
        "--medium",
        medium,
        "--save",
        str(answers),
        *more,
    ]


def environment(locale: str = "C.UTF-8") -> dict[str, str]:
    """Of the program on the terminal."""
    usual = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**usual, "PYTHONPATH": str(REPOSITORY), "LC_MESSAGES": locale}


class Spoken:
    """Says what the installer says, in a language; refuses what no catalogue has."""

    def __init__(self, language: str) -> None:
        self._known = {message.id for message in template()}
        self._chosen = gettext.translation(DOMAIN, CATALOGUES, [language], fallback=True)

    def __call__(self, text: str, **values: object) -> str:
        """In the language."""
        assert text in self._known, f"the installer does not say {text!r}"
        return self._chosen.gettext(text).format(**values)

    def seen(self, text: str, **values: object) -> str:
        """Its beginning, as a pattern for the screen, where the end may stand on the next line."""
        return re.escape(" ".join(self(text, **values).split()[:3]))


def walk(terminal: Display, language: str = "en") -> Iterator[tuple[str, str]]:
    """Through everything once: each screen's name, and the screen."""
    say = Spoken(language)
    yes, close, onwards = say("Yes, go on"), say("Close"), say("Go on with this")

    def until(text: str, then: str = "", **values: object) -> str:
        """Wait for a text, and for what is drawn last on its page."""
        return terminal.until(say.seen(text, **values) + (rf"[\s\S]*\n .*{say.seen(then)}" if then else ""))

    yield "language", terminal.until("Sprache")
    terminal.choose(LANGUAGES[language])
    yield "level", until("How much shall be explained?")
    terminal.choose(say("Some: I know Linux"))
    yield "keyboard", until("Which keyboard?")
    terminal.choose("(us)")
    yield "network", until("How does the host get its addresses?")
    terminal.choose(say("fixed, on a bridge that guests can be plugged into"))
    yield "port", until("Which port?")
    terminal.choose("enp4s0")
    yield "address", until("Address with prefix length:")
    terminal.type(ENTER)
    yield "gateway", until("Gateway:")
    terminal.type("192.0.3.1", ENTER)
    refusal = "It is not in the network {network}, so it could not be reached."
    yield "gateway-refused", until(refusal, "Gateway:", network="192.0.2.0/24")
    terminal.type(*["\x08"] * 9, "192.0.2.1", ENTER)
    until("Name servers:")
    terminal.type(ENTER)
    yield "layout", until("How shall the disks be used?")
    terminal.choose(say("one disk"))
    yield "disk", until("Which disk? What becomes of what is on it is asked next.")
    terminal.choose("sdz")
    yield "disk-refused", until("The installer itself runs from it.", "Close")
    terminal.choose(close)
    until("Which disk? What becomes of what is on it is asked next.")
    terminal.choose("nvme1n1")
    yield "existing", until("What shall become of what is on it?")
    terminal.choose(say("erase all of it: the host gets the whole disk"))
    yield "filesystem", until("Which file system?")
    terminal.choose(say("Explain"))
    yield "explained", until("In the answer file: {field}. {description}", "Close", field="", description="")
    terminal.choose(close)
    until("Which file system?")
    terminal.choose("btrfs")
    until("Where may memory go when it runs short?")
    terminal.choose("zram")
    yield "before-and-after", until("Is this right? Nothing is written yet.")
    terminal.choose(yes)
    yield "encryption", until("Encrypt the disks?")
    terminal.choose(say("Yes: LUKS2 under everything but the boot partition"))
    until("Passphrase:")
    terminal.type("short", ENTER)
    yield "passphrase-refused", until("It is shorter than {count} characters.", "Passphrase:", count=8)
    terminal.type("correct horse", ENTER)
    until("The same again:")
    terminal.type("correct horse", ENTER)
    yield "recovery-key", until("Make a recovery key?")
    terminal.type(ENTER)
    yield "from-afar", until("Type the passphrase over SSH too?")
    terminal.type(ENTER)
    yield "token", until("What else opens the disks at boot?")
    terminal.type(ENTER)
    yield "name", until("Name:")
    terminal.type(ENTER)
    until("Time zone:")
    # What stands there is the language's own: all of it is taken away.
    terminal.type(*["\x08"] * 20, "Berlin", ENTER)
    refusal = "There is no time zone of this name. Perhaps: {names}."
    yield "time-zone-refused", until(refusal, "Time zone:", names="")
    terminal.type(*["\x08"] * 6, "Europe/Berlin", ENTER)
    yield "administrator", until("Login name:")
    terminal.type("alice", ENTER)
    yield "password", until("Password of {name}:", name="alice")
    terminal.type(ENTER)
    yield "keys", until("Where is a key?")
    terminal.choose(say("paste or type it"))
    terminal.until(f"(?m)^ {say.seen('Key:')}")
    terminal.type(KEY, ENTER)
    yield "keys-taken", until("Another key?")
    terminal.choose(say("no more keys"))
    yield "people", until("Is there somebody else?")
    terminal.choose(say("No, that is all"))
    yield "tier", until("How much host?")
    terminal.choose("standard")
    yield "features", until("What shall the host be able to do?")
    terminal.choose(onwards)
    yield "devices", until("Which devices does the host leave to guests?")
    terminal.choose(onwards)
    until("Which guests are made at the first boot?")
    terminal.choose("router")
    yield "guests", terminal.until(r"\[x\] router")
    terminal.choose(onwards)
    until("Memory of {name}:", name="router")
    terminal.choose("1GiB")
    yield "phase", until("Where shall the first boot end?")
    terminal.choose("hardened:")
    yield "profile", until("How far does phase hardened go?")
    terminal.choose("balanced")
    yield "review", until("Change something, or install?")


def screens(language: str = "en") -> dict[str, str]:
    """All of them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Terminal(command(Path(folder) / "answers.toml"), environment()) as terminal,
    ):
        return dict(walk(terminal, language))


def several(language: str = "en") -> dict[str, str]:
    """Many disks and finer points, as an expert sees them: each screen's name, and the screen."""
    say = Spoken(language)
    seen = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Terminal(
            command(Path(folder) / "answers.toml", "--ask", "disks,more", machine="many-disks"),
            environment(f"{language}_{language.upper()}.UTF-8"),
        ) as terminal,
    ):
        terminal.until(say.seen("How shall the disks be used?"))
        terminal.choose(say("system and guests apart, on disks of their own"))
        seen["system"] = terminal.until(say.seen("Which disks? Everything on them will be lost."))
        terminal.choose(say("Go on with this"))
        terminal.until(
            say.seen("Which disks are for guests alone? Everything on them will be lost.") + r"[\s\S]*sdz"
        )
        terminal.choose("sda,")
        terminal.until(r"\[x\] sda,")
        terminal.choose("sdb,")
        seen["guests-disks"] = terminal.until(r"\[x\] sdb,")
        terminal.choose(say("Go on with this"))
        terminal.until(say.seen("Which file system?"))
        terminal.choose("btrfs")
        seen["storage-of-guests"] = terminal.until(say.seen("What shall guests' disks lie on?"))
        terminal.type(ENTER)
        terminal.until(say.seen("Where may memory go when it runs short?"))
        terminal.type(ENTER)
        seen["data-of-others"] = terminal.until(
            say.seen("Which of these shall the host mount? None is a fine answer.")
        )
        terminal.choose(say("Go on with this"))
        seen["several"] = terminal.until(say.seen("Is this right? Nothing is written yet."))
        terminal.choose(say("No, choose again"))
        terminal.until(say.seen("How shall the disks be used?"))
        terminal.choose(say("array: many disks, which stand in for each other"))
        terminal.until(
            say.seen("Which disks? What becomes of what is on them is asked next.") + r"[\s\S]*sdz"
        )
        terminal.choose("sda,")
        terminal.until(r"\[x\] sda,")
        terminal.choose("sdb,")
        terminal.until(r"\[x\] sdb,")
        terminal.choose(say("Go on with this"))
        terminal.until(say.seen("What shall become of what is on them?"))
        terminal.choose(say("erase all of it: the host gets the whole disks"))
        terminal.until(say.seen("Which file system?"))
        terminal.choose("xfs")
        seen["when-disks-fail"] = terminal.until(say.seen("How many disks may fail?"))
        terminal.type(ENTER)
        seen["volumes"] = terminal.until(say.seen("Shall LVM divide the space?"))
        terminal.type(ENTER)
        terminal.until(say.seen("Where may memory go when it runs short?"))
        terminal.choose(say("a partition: slower, but adds to the memory"))
        seen["hibernation"] = terminal.until(say.seen("May the host hibernate?"))
        terminal.type(ENTER)
        terminal.until(say.seen("Which of these shall the host mount? None is a fine answer."))
        terminal.choose(say("Go on with this"))
        terminal.until(say.seen("Is this right? Nothing is written yet."))
        terminal.type(ENTER)
        seen["finer-points"] = terminal.until(say.seen("Set fields by their names?"))
        terminal.choose("hooks, webhooks")
        terminal.until(r"\[ \] webhooks")
        terminal.choose("webhooks")
        seen["fields"] = terminal.until(r"\[x\] webhooks")
        terminal.choose(say("Go on with this"))
        terminal.until("webhooks =")
        terminal.type("nowhere", ENTER)
        seen["field-refused"] = terminal.until(r"webhooks[\s\S]*webhooks = nowhere")
    return seen


def kept_several() -> dict[str, str]:
    """The same from the repository."""
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted((GOLDEN / "several").glob("*"))}


def partitioned(language: str) -> dict[str, str]:
    """One disk with Windows and more on it, each of whose partitions is decided about."""
    say = Spoken(language)
    seen = {}
    with tempfile.TemporaryDirectory() as name:
        facts = Path(name) / "facts.json"
        facts.write_text(shared_machine(*WINDOWS).model_dump_json())
        arguments = command(Path(name) / "answers.toml", "--ask", "disks")
        arguments[arguments.index("--machine") : arguments.index("--medium")] = ["--facts", str(facts)]
        with Terminal(arguments, environment(f"{language}_{language.upper()}.UTF-8")) as terminal:
            terminal.until(say.seen("How shall the disks be used?"))
            terminal.type(ENTER)
            terminal.until(say.seen("Which disk? What becomes of what is on it is asked next."))
            terminal.choose("nvme0n1")
            terminal.until(say.seen("What shall become of what is on it?"))
            terminal.choose(say("decide for each partition: keep, format or delete it"))
            seen["all"] = terminal.until(say.seen("Which one shall be decided about?"))
            terminal.choose("3, ")
            seen["windows"] = terminal.until(say.seen("What shall become of it?"))
            terminal.choose(say("delete it: free space"))
            seen["refused"] = terminal.until(say.seen("Close"))
            terminal.choose(say("Close"))
            terminal.until(say.seen("What shall become of it?"))
            terminal.choose(say("Go back"))
            terminal.until(say.seen("Which one shall be decided about?"))
            terminal.choose("5 data")
            seen["data"] = terminal.until(say.seen("What shall become of it?"))
            terminal.choose(say("format it: the host goes there"))
            seen["grown"] = terminal.until(say.seen("Shall it take the free space behind it too?"))
            terminal.type(ENTER)
            seen["decided"] = terminal.until(say.seen("Which one shall be decided about?"))
            terminal.choose(say("done: go on"))
            terminal.until(say.seen("Which file system?"))
            terminal.type(ENTER)
            terminal.until(say.seen("Where may memory go when it runs short?"))
            terminal.type(ENTER)
            seen["before-and-after"] = terminal.until(say.seen("Is this right? Nothing is written yet."))
    return seen


def kept_partitioned(language: str) -> dict[str, str]:
    """The same from the repository."""
    folder = GOLDEN / "partitions" / language
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted(folder.glob("*"))}


def reinstalled(language: str) -> dict[str, str]:
    """A host whose guests have a disk of their own, both locked: what cannot be seen of them is asked."""
    say = Spoken(language)
    seen = {}
    with tempfile.TemporaryDirectory() as name:
        facts = Path(name) / "facts.json"
        facts.write_text(host_with_guests().model_dump_json())
        arguments = command(Path(name) / "answers.toml", "--ask", "disks")
        arguments[arguments.index("--machine") : arguments.index("--medium")] = ["--facts", str(facts)]
        with Terminal(arguments, environment(f"{language}_{language.upper()}.UTF-8")) as terminal:
            terminal.until(say.seen("How shall the disks be used?"))
            terminal.type(ENTER)
            terminal.until(say.seen("Which disk? What becomes of what is on it is asked next."))
            terminal.choose("nvme0n1")
            seen["existing"] = terminal.until(say.seen("What shall become of what is on it?"))
            terminal.type(ENTER)
            seen["name"] = terminal.until(say.seen("Name of the host that is on the disk:"))
            terminal.type(ENTER)
            terminal.until(say.seen("Which file system has it?"))
            terminal.choose("ext4")
            terminal.until(say.seen("Does LVM divide its space?"))
            terminal.type(ENTER)
            seen["guests-disks"] = terminal.until(say.seen("What do its guests' disks lie on?"))
            terminal.type(ENTER)
            seen["guests-files"] = terminal.until(say.seen("Which file system have the disks for guests?"))
            terminal.choose("ext4")
            seen["before-and-after"] = terminal.until(say.seen("Is this right? Nothing is written yet."))
    return seen


def host_with_guests() -> Facts:
    """A machine with it."""
    system = cases.blank_disk(size=500 * GIB)
    guests = cases.blank_disk(
        size=1000 * GIB,
        name="nvme1n1",
        serial="GUESTS1",
        wwn="eui.0025384b21404e91",
        by_id=("nvme-Samsung_SSD_990_PRO_1TB_GUESTS1",),
    )
    blank = cases.machine(system, guests)
    table = cases.storage(filesystem="ext4", encryption=cases.ENCRYPTED)
    table["pool"] = {"kind": "dir", "filesystem": "ext4", "disks": [{"serial": "GUESTS1"}]}
    return installed(make_plan(blank, cases.answers(storage=table), MEDIUM), blank)


def kept_reinstalled(language: str) -> dict[str, str]:
    """The same from the repository."""
    folder = GOLDEN / "reinstalled" / language
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted(folder.glob("*"))}


GIVEN = """
version = 1
hostname = "kvm1"
locale = "de_DE.UTF-8"
interactive = ["security"]
[storage]
disk = {{ serial = "{serial}" }}
[[users]]
name = "alice"
admin = true
ssh_keys = ["{key}"]
"""
"""Answers that leave one topic to be asked about, in German."""
SUMMARY = """
kvm1 is installed, in 3:07.

Proved by reading back:
  * systemd-boot and EFI/BOOT/BOOTX64.EFI are on the ESP; default nixos.conf
  * alice: over SSH, with 1 key(s)

Log in:
  * alice (administrator): SSH by key
  * address: by DHCP, now 192.0.2.50 and perhaps another for the host; the
    host's console shows it
  * host key: SHA256:8LxY5rr5aVhfZkQ1ZK2yqgq5tZkqCsoDqUvN8F0S5hM

Log, plan and journal: on the host in /var/log/hyper-nixos, and here in
/run/hyper-nixos/install.
Take the medium out and reboot when you are ready.
"""
"""The last words of an installation, folded as `installer/execute/summary.py` folds them."""


def progressed(folder: Path) -> LiveSystem:
    """An installation that ended, as its supervisor left it: steps begun, done before and done, and the last words."""
    live = LiveSystem(runtime=folder / "install")
    live.runtime.mkdir()
    plan = dict(golden_plans())["uefi-ext4-plain-zram"]
    live.plan.write_text(plan.model_dump_json())
    with apart.said(live).open("w") as file:
        lines = JsonLines(file)
        lines.say(
            "Warning: Secure Boot is off: whatever starts on this machine can have the TPM open the disks."
        )
        for number, step in enumerate(plan.steps, start=1):
            lines.step(Moment(number, step, 100 * number / len(plan.steps)), "started")
            lines.step(
                Moment(number, step, 100 * number / len(plan.steps)), "skipped" if number < 3 else "verified"
            )
        for line in SUMMARY.splitlines():
            lines.say(line)
        file.write(json.dumps({"event": "ended", "code": 0, "error": ""}) + "\n")
    return live


ATTACHED = """
import os, sys
from pathlib import Path
from installer.execute.live import LiveSystem
from installer.guided.session import attach, language_for
from installer.guided.words import use
live = LiveSystem(runtime=Path(sys.argv[1]))
use(language_for(live, os.environ))
sys.exit(attach(live, sys.stdout, True))
"""
"""`hv install --attach --plain`, of an installation in another folder."""


def told_screens() -> dict[str, str]:
    """What planner, checks and executor say, in German: each screen's name, and the screen."""
    say, seen = Spoken("de"), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for serial in ("S69ENF0R123456A", "NOBODYS"):
            given = folder / f"{serial}.toml"
            given.write_text(GIVEN.format(serial=serial, key=KEY))
            arguments = command(folder / "answers.toml", "--answers", str(given))
            with Terminal(arguments, environment()) as terminal:
                terminal.until(say.seen("Where shall the first boot end?"))
                terminal.type(ENTER)
                terminal.until(say.seen("How far does phase hardened go?"))
                terminal.type(ENTER)
                terminal.until(say.seen("Change something, or install?"))
                terminal.choose(say("Show every step of the plan"))
                if serial == "NOBODYS":
                    seen["refused"] = terminal.until(say.seen("Back to the review?"))
                    continue
                seen["plan"] = terminal.until(rf"kvm1[\s\S]*{say.seen('Close')}")
                for more in ("second", "third"):
                    terminal.choose(say("More"))
                    seen[f"plan-{more}"] = terminal.until(say.seen("Up again"))
        live = progressed(folder)
        (live.runtime / "language").write_text("de")
        with Terminal([sys.executable, "-c", ATTACHED, str(live.runtime)], environment()) as terminal:
            seen["last"] = re.sub(r"\[ +\d+:\d\d", "[  0:00", terminal.until("Medium heraus"))
    return seen


def kept_told() -> dict[str, str]:
    """The same from the repository."""
    return {path.stem: path.read_text() for path in sorted((GOLDEN / "told").glob("*"))}


def golden(language: str) -> Path:
    """The folder of a language's screens."""
    return GOLDEN if language == ENGLISH else GOLDEN / language


def committed(language: str = "en") -> dict[str, str]:
    """The same from the repository; of other languages than English a few."""
    return {path.stem.partition("-")[2]: path.read_text() for path in sorted(golden(language).glob("*.txt"))}


def main() -> int:
    """Write them."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for language in LANGUAGES:
        folder = golden(language)
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, text) in enumerate(screens(language).items(), start=1):
            if language == ENGLISH or name in PROOF:
                path = folder / f"{number:02}-{name}.txt"
                path.write_text(text)
                print(path.relative_to(REPOSITORY))
    (GOLDEN / "several").mkdir()
    for number, (name, text) in enumerate(several().items(), start=1):
        (GOLDEN / "several" / f"{number:02}-{name}.txt").write_text(text)
    for language in LANGUAGES:
        folder = GOLDEN / "partitions" / language
        folder.mkdir(parents=True)
        for number, (name, text) in enumerate(partitioned(language).items(), start=1):
            (folder / f"{number}-{name}.txt").write_text(text)
        folder = GOLDEN / "reinstalled" / language
        folder.mkdir(parents=True)
        for number, (name, text) in enumerate(reinstalled(language).items(), start=1):
            (folder / f"{number}-{name}.txt").write_text(text)
    (GOLDEN / "told").mkdir()
    for name, text in told_screens().items():
        (GOLDEN / "told" / f"{name}.txt").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
