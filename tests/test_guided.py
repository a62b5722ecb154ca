"""The guided conversation without a terminal: every path through it, back from everywhere, refusals with their reasons."""

import ast
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from installer.answers.load import Format, load
from installer.answers.model import Answers, HostName, SecretFile, TopicName, UserName
from installer.answers.problems import shown_path
from installer.answers.schema import Node, answers_schema, children, resolved
from installer.answers.sizes import GIB
from installer.facts import Facts
from installer.facts.common import Judgement, Verdict
from installer.facts.disks import Filesystem, Partition
from installer.guided import answer_file, ready, words
from installer.guided.conversation import Back, Conversation, Place
from installer.guided.page import body, explanation
from installer.guided.questions import Failed, Line, Many, Notice, One, Question, Secret, Work
from installer.guided.situation import Level, Situation
from installer.guided.topics import host, more, people
from installer.guided.topics.catalogue import NAMES, TOPICS
from installer.medium import Medium, ReadyClosure
from installer.plan.actions import ClearTarget
from installer.plan.model import Plan, is_destructive
from installer.plan.planner import make_plan
from tests import machines
from tests import plan_cases as cases
from tests.nixeval.cases import MEDIUM
from tests.test_keep_plan import brought_up, installed
from tests.words import GUIDED, fields

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDZGMF1Vc1hV0M0d0Jm9kVyBqJd2oW4kHcA1qXW0s3bT alice"
HASH = "$y$j9T$saltsaltsalt$" + "x" * 43
MACHINES = ("lab-bios", "lab-uefi", "workstation")


@dataclass
class Person:
    """Answers by the words of a question, and with what is recommended where nothing is said."""

    says: Mapping[str, Any] = field(default_factory=dict)
    back_at: int | None = None
    """Number of the question at which the person goes back, once."""
    asked: list[Question] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    level: str = "intermediate"

    def ask(self, question: Question, place: Place) -> Any:
        self.asked.append(question)
        self.places.append(place)
        assert len(self.asked) < 100, f"no end: {question.title}, {question.lines}"
        if self.back_at is not None and len(self.asked) - 1 == self.back_at:
            raise Back
        answer = next((value for words, value in self.says.items() if words in question.prompt), None)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        return _given(question, answer)

    def show(self, title: str, text: str) -> None:
        raise AssertionError(f"nothing is shown unasked: {title}")

    def working(self, title: str) -> None:
        assert title


def _given(question: Question, answer: Any) -> Any:
    match question:
        case One(options=options, default=default):
            chosen = default if answer is None else answer
            if chosen is None:
                chosen = next(each.value for each in options if each.refused is None)
            (option,) = [each for each in options if each.value == chosen]
            assert option.refused is None, option.refused
            return chosen
        case Many(check=check, default=default):
            picked = default if answer is None else answer
            assert check(picked) is None
            return picked
        case Line(check=check, default=default):
            text = default if answer is None else answer
            assert check(text) is None, (question.prompt, text, check(text))
            return text
        case Secret(check=check):
            assert check(answer or "") is None
            return answer or ""
        case Notice():
            return None
        case _:
            raise TypeError(question)


@dataclass
class Elsewhere:
    """A world without any: everything that it is asked for has one known answer."""

    done: list[Work] = field(default_factory=list)
    results: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def do(self, work: Work) -> Any:
        self.done.append(work)
        known: dict[str, Callable[..., Any]] = {
            "now": lambda: datetime(2027, 1, 31, tzinfo=UTC),
            "time_zones": lambda: {"UTC", "Europe/Berlin", "Europe/Zurich"},
            "keymaps": lambda: {"us", "sg", "sg-latin1"},
            "set_keymap": lambda _name: None,
            "reckon": lambda search: search(),
            "try_network": lambda: "not tried",
            "try_address": lambda _port, _address, _gateway: None,
            "speak": words.use,
            "explain_at": lambda _level: None,
            "hash_password": lambda _password: HASH,
            "keep_secret": lambda name, _value: f"/run/hyper-nixos/secrets/{name}",
            "keys_from": lambda _site, _account: (KEY,),
            "keys_on_sticks": lambda: "No stick is plugged in.",
            **self.results,
        }
        return known[work.task](*work.arguments)


ALICE = {
    "disks be used": "one-disk",
    "Login name": "alice",
    "Where is a key": "paste",
    "Key:": KEY,
    "Another key": "done",
}


GERMAN = {"Sprache": "de", "Anmeldename": "alice", "Schlüssel?": ["paste", "done"], "Schlüssel:": KEY}
"""The same by the words of the German prompts."""


def talk(
    person: Person, facts: Facts, base: Mapping[str, Any] | None = None, medium: Medium = MEDIUM
) -> dict[str, Any]:
    return Conversation(TOPICS, facts, medium, person, Elsewhere(), base or {}).all()


def loaded(raw: Mapping[str, Any]) -> Answers:
    return load(answer_file.text(raw).encode(), "answers.toml")


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_recommended_makes_a_plan(name: str) -> None:
    facts = machines.load(name)
    answers = loaded(talk(Person(ALICE), facts))
    assert make_plan(facts, answers, MEDIUM).steps
    assert answers.users[0].ssh_keys == (KEY,)


def test_what_was_said_is_in_the_answer_file() -> None:
    facts = machines.load("workstation")
    says: dict[str, Any] = {
        **ALICE,
        "Which keyboard": "other",
        "Name of the keymap": "sg",
        "get its addresses": "static-bridge",
        "Address with prefix length": "192.0.2.10/24",
        "Gateway": "192.0.2.1",
        "Name servers": "192.0.2.53 2001:db8::53",
        "disks be used": "one-disk",
        "Which disk": "nvme1n1",
        "Which file system": "btrfs",
        "Where may memory go": "partition",
        "Encrypt the disks": True,
        "Passphrase": "correct horse battery",
        "Name:": "hv-7",
        "Time zone": "Europe/Zurich",
        "Password of": "a long password",
        "How much host": "enhanced",
        "host be able": ("containers", "virtiofs"),
        "devices does the host leave": ("0000:03:00.0",),
        "Which guests": ("router",),
        "Memory of router": "2GiB",
        "first boot end": "hardened",
        "How far does": "strict",
    }
    person = Person(says)
    raw = talk(person, facts)
    answers = loaded(raw)
    assert (answers.hostname, answers.timezone, answers.keymap) == ("hv-7", "Europe/Zurich", "sg")
    assert answers.storage.disk is not None
    assert answers.storage.disk.serial == "S69ENF0R654321B"
    assert (answers.storage.filesystem, answers.storage.swap.kind) == ("btrfs", "partition")
    assert raw["storage"]["encryption"]["passphrase"] == {"file": "/run/hyper-nixos/secrets/passphrase"}
    (bridge,) = answers.network.bridges
    assert bridge.addressing is not None
    assert [str(each) for each in bridge.addressing.addresses] == ["192.0.2.10/24"]
    assert [str(each) for each in bridge.addressing.dns] == ["192.0.2.53", "2001:db8::53"]
    assert answers.users[0].password_hash == HASH
    assert answers.hypervisor.tier == "enhanced"
    assert answers.hypervisor.features == {"tpm": False}
    assert [vm.memory for vm in answers.first_run.vms] == ["2GiB"]
    assert (answers.security.phase, answers.security.profile) == ("hardened", "strict")
    text = answer_file.text(raw)
    assert "correct horse battery" not in text
    assert "a long password" not in text


def test_going_back_at_each_question_changes_nothing_in_the_end() -> None:
    facts = machines.load("workstation")
    straight = Person(dict(ALICE))
    wanted = talk(straight, facts)
    assert len(straight.asked) > 20
    for number in range(1, len(straight.asked)):
        person = Person(dict(ALICE), back_at=number)
        assert talk(person, facts) == wanted, straight.asked[number].prompt
        before, again = person.asked[number - 1], person.asked[number + 1]
        assert again.prompt == before.prompt, (
            f"back from {person.asked[number].prompt!r} led to {again.prompt!r}"
        )
        assert person.places[number].can_go_back


@pytest.mark.parametrize("spoken", ["en", "de"])
@pytest.mark.parametrize("name", ["many-disks", "laptop-bitlocker", "workstation"])
def test_no_page_keeps_a_person_waiting(name: str, spoken: str) -> None:
    """A tenth of a second of the processor's time; what the world is asked to do meanwhile is shown as it runs."""
    moments: list[tuple[float, float]] = []

    class Timed(Person):
        def ask(self, question: Question, place: Place) -> Any:
            came = time.process_time()
            body(question, Level.beginner, 79)
            answer = super().ask(question, place)
            moments.append((came, time.process_time()))
            return answer

    says = ALICE if spoken == "en" else GERMAN
    facts = machines.load(name)
    rounds = []
    words.use(spoken)
    try:
        # What else runs on the processor counts too: what is slow is slow each time.
        for _round in range(3):
            moments.clear()
            talk(Timed(dict(says)), facts)
            rounds.append([came - left for (_came, left), (came, _left) in itertools.pairwise(moments)])
    finally:
        words.use(words.ENGLISH)
    waits = [min(each) for each in zip(*rounds, strict=True)]
    assert len(waits) > 15
    assert max(waits) < 0.1


SELF_EVIDENT = {
    "Language / Sprache",
    "Is this right? Nothing is written yet.",
    "Another key?",
    "Is there somebody else?",
    "Add somebody else?",
}
"""Questions that nobody can recommend an answer to."""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("workstation", {"get its addresses": "static-bridge", "boot end": "hardened"}),
        ("workstation", {"Which guests": ("router",)}),
        ("laptop-bitlocker", {}),
        ("many-disks", {"disks be used": "mirror", "Which disks": ("nvme0n1", "nvme1n1")}),
        ("lab-bios", {"may memory go": "partition", "Which file system": "xfs"}),
    ],
)
def test_every_choice_has_a_recommendation(name: str, says: dict[str, Any]) -> None:
    person = Person(ALICE | says)
    talk(person, machines.load(name))
    choices = [each for each in person.asked if isinstance(each, One | Many)]
    assert len(choices) > 10
    for each in choices:
        if each.prompt not in SELF_EVIDENT:
            assert any("Recommended: " in line for line in each.lines), (each.title, each.prompt)


def test_before_the_first_question_there_is_nothing() -> None:
    person = Person(back_at=0)
    with pytest.raises(Back):
        talk(person, machines.load("lab-bios"))
    assert not person.places[0].can_go_back


def test_what_was_answered_before_is_offered_again() -> None:
    conversation = Conversation(
        TOPICS, machines.load("workstation"), MEDIUM, Person({**ALICE, "Name:": "first"}), Elsewhere()
    )
    conversation.all()
    second = Person()
    conversation.front = second
    conversation.one("host")
    (name, _zone) = second.asked
    assert isinstance(name, Line)
    assert name.default == "first"
    assert conversation.raw["hostname"] == "first"


def test_nobody_gets_by_without_a_way_in() -> None:
    says = ALICE | {"Login name": ["alice", "bob"], "Where is a key": ["done", "paste"], "Key:": KEY}
    person = Person(says)
    answers = loaded(talk(person, machines.load("lab-bios")))
    assert [type(each) for each in person.asked].count(Notice) == 1 + sum(
        "Noted" in each.prompt for each in person.asked
    )
    assert [user.name for user in answers.users] == ["alice", "bob"]


def test_a_machine_without_a_free_disk_is_told_so_and_why() -> None:
    facts = machines.load("server-md-lvm")
    used = facts.model_copy(
        update={"disks": tuple(disk.model_copy(update={"in_use": ("md0",)}) for disk in facts.disks)}
    )

    class Enough(Exception):  # noqa: N818
        pass

    class Reader(Person):
        def ask(self, question: Question, place: Place) -> Any:
            if question.title == "No disk is free":
                assert any("md0" in line for line in question.lines)
                raise Enough
            return super().ask(question, place)

    with pytest.raises(Enough):
        talk(Reader(dict(ALICE)), used)


def test_refused_choices_say_why() -> None:
    person = Person(dict(ALICE))
    talk(person, machines.load("workstation"))
    refused = [
        (question, option)
        for question in person.asked
        if isinstance(question, One | Many)
        for option in question.options
        if option.refused is not None
    ]
    assert any("installer itself" in str(option.refused) for _question, option in refused)
    for question, option in refused:
        assert len(str(option.refused)) > 10, (question.prompt, option.title)
        if isinstance(question, One):
            assert str(option.refused).split()[0] in explanation(question, 79)


def test_the_graphics_cards_are_explained() -> None:
    person = Person(dict(ALICE))
    talk(person, machines.load("identical-gpus"))
    (devices,) = [each for each in person.asked if "devices does the host leave" in each.prompt]
    text = "\n".join(devices.lines)
    assert re.search(r"IOMMU group \d+", text), text


def test_each_question_names_fields_of_the_model() -> None:
    from installer.answers.schema import node_at

    person = Person(dict(ALICE))
    talk(person, machines.load("workstation"))
    for question in person.asked:
        if question.field:
            assert node_at(question.field) is not None, question.field


@pytest.mark.parametrize(
    ("pattern", "kind"), [(host.NAME.pattern, HostName), (people.NAME.pattern, UserName)]
)
def test_names_are_checked_as_the_model_does(pattern: str, kind: Any) -> None:
    constraint = next(each for each in kind.__metadata__ if hasattr(each, "pattern"))
    assert constraint.pattern.strip("^$").replace("([a-z0-9-]{0,61}[a-z0-9])?", "(…)") == pattern.replace(
        "([a-z0-9-]{0,61}[a-z0-9])?", "(…)"
    )


def test_a_subset_is_asked_on_top_of_a_file() -> None:
    base = {
        "version": 1,
        "hostname": "kept",
        "storage": {"disk": {"serial": "HVMAIN01"}, "filesystem": "xfs"},
        "users": [{"name": "alice", "admin": True, "ssh_keys": [KEY]}],
    }
    topics = tuple(topic for topic in TOPICS if topic.name in ("security",))
    person = Person({"first boot end": "hardened"})
    raw = Conversation(topics, machines.load("lab-bios"), MEDIUM, person, Elsewhere(), base).all()
    assert raw == base | {"security": {"phase": "hardened", "profile": "balanced"}}
    assert len(person.asked) == 2
    assert load(json.dumps(raw).encode(), "answers", Format.json).hostname == "kept"


ELSEWHERE: dict[tuple[str, ...], str] = {
    ("interactive",): "says what is asked, and is used up by asking",
    ("storage", "destroy"): "consent for installing unattended; here it is typed",
    ("hypervisor", "nested"): "the feature nested-virtualization, asked with the others",
    ("version",): "of the file's format; written, not asked",
    ("storage", "pool", "disk"): "one disk for guests is a list of one (storage.pool.disks)",
    ("users", "full_name"): "the login name does; the account's owner sets it",
    ("users", "password_hash_file"): "a password that is typed becomes a hash",
    ("users", "groups"): "roles are given to those who are there (hv auth)",
    ("users", "shell"): "everybody begins with bash",
    ("first_run", "vms", "name"): "the image's",
    ("first_run", "vms", "image"): "those of the medium are offered",
    ("first_run", "vms", "image_format"): "the medium's images are qcow2",
    ("first_run", "vms", "image_sha256"): "the medium is trusted as a whole",
    ("first_run", "vms", "vcpus"): "changed on the host (hv vm)",
    ("first_run", "vms", "disk_size"): "changed on the host (hv vm)",
    ("first_run", "vms", "network"): "changed on the host (hv vm)",
    ("first_run", "vms", "firmware"): "the medium's images are for UEFI",
    ("first_run", "vms", "autostart"): "changed on the host (hv vm)",
    ("first_run", "vms", "start"): "changed on the host (hv vm)",
}
"""Fields that no page asks about, each with the reason."""
CHOSEN_WHOLE = {
    ("storage", "disk"),
    ("storage", "disks"),
    ("storage", "pool", "disks"),
    ("storage", "partitions"),
    ("hypervisor", "features"),
    ("hypervisor", "passthrough"),
    ("network", "ethernets"),
    ("network", "bridges"),
}
"""What a page decides with all that is below: a disk is picked, not described."""


def _leaves(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    below = {} if node.get("writeOnly") else children(node)
    if not below and "items" in node:
        below = children(resolved(node["items"])) if not node.get("writeOnly") else {}
    if not below:
        yield path
    for name, inner in below.items():
        yield from _leaves(inner, (*path, name))


def test_every_answer_is_asked_for_or_has_a_reason() -> None:
    asked = {
        tuple(part for part in path if isinstance(part, str))
        for file in GUIDED.rglob("*.py")
        for path in fields(ast.parse(file.read_text()))
    }
    whole = {*CHOSEN_WHOLE, *more.PATHS, *ELSEWHERE}
    leaves = set(_leaves(resolved(answers_schema())))
    assert len(leaves) > 100
    left = {
        leaf
        for leaf in leaves
        if leaf not in asked and not any(leaf[: len(above)] == above for above in whole)
    }
    assert left == set()
    # What a page asks about needs no reason, and what does not exist none either.
    reached = {leaf[:length] for leaf in leaves for length in range(1, len(leaf) + 1)}
    assert whole <= reached
    assert {*more.PATHS, *ELSEWHERE} & asked == set()
    assert all(len(reason) > 8 for reason in ELSEWHERE.values())


def test_an_expert_sets_finer_points_by_name() -> None:
    wanted = {
        ("webhooks",): '[{ url = "https://fleet.example.org/events" }]',
        ("at_end",): "poweroff",
        ("boot", "kernels"): "xbootldr",
        ("boot", "generations"): "5",
    }
    says: dict[str, Any] = {**ALICE, "fields by their names": ["boot", "hooks, webhooks, at_end", "done"]}
    says["fields do you want"] = [tuple(wanted)[2:], tuple(wanted)[:2]]
    says |= {f"{shown_path(path)} =": text for path, text in wanted.items()}
    facts = machines.load("lab-uefi")
    answers = loaded(talk(Person(says, level="expert"), facts))
    assert [each.url for each in answers.webhooks] == ["https://fleet.example.org/events"]
    assert (answers.at_end, answers.boot.kernels, answers.boot.generations) == ("poweroff", "xbootldr", 5)
    assert make_plan(facts, answers, MEDIUM).host.esp_mountpoint == "/efi"


@pytest.mark.parametrize(
    ("path", "typed", "said"),
    [
        (("boot", "generations"), "1", "boot.generations"),
        (("at_end",), "explode", "at_end"),
        (("webhooks",), '[{ url = "gopher://x" }]', "webhooks[0].url"),
        (("network", "proxy"), "", "Type a value"),
    ],
)
def test_a_wrong_finer_point_is_not_taken(path: tuple[str, ...], typed: str, said: str) -> None:
    situation = Situation(machines.load("lab-uefi"), MEDIUM, {}, "/run/secrets", Level.expert)
    assert said in str(more.problem(situation, path, typed))
    assert more.problem(situation, ("boot", "generations"), "12") is None


@pytest.mark.parametrize(
    "value", [True, 5, "a b", ["x", 'y"'], {"@": "/", "b": [1]}, [{"url": "https://x"}]]
)
def test_finer_points_are_shown_as_they_are_typed(value: Any) -> None:
    assert more.value_of(more.toml(value)) == value


def test_nobody_else_is_asked_about_finer_points() -> None:
    for level in ("beginner", "intermediate"):
        person = Person(dict(ALICE), level=level)
        talk(person, machines.load("lab-uefi"))
        assert not any("fields by" in each.prompt for each in person.asked)


# Several disks


def blank(facts: Facts) -> Facts:
    """The same machine with nothing on its disks."""
    changes: dict[str, Any] = {"partitions": (), "table": None}
    disks = (each if each.install_medium else each.model_copy(update=changes) for each in facts.disks)
    return facts.model_copy(update={"disks": tuple(disks)})


def test_what_suits_blank_disks_is_recommended() -> None:
    facts = blank(machines.load("many-disks"))
    person = Person({each: value for each, value in ALICE.items() if "disks" not in each})
    answers = loaded(talk(person, facts))
    (asked,) = (each for each in person.asked if "disks be used" in each.prompt)
    assert isinstance(asked, One)
    assert asked.default == "split"
    assert any("two classes" in line for line in asked.lines)
    assert answers.storage.layout == "mirror"
    assert answers.storage.filesystem == "btrfs"
    assert answers.storage.pool is not None
    assert answers.storage.pool.kind == "dir"
    auto = Answers.model_validate(
        answers.model_dump()
        | {
            "storage": {
                "layout": "auto",
                "disks": [each.model_dump() for each in answers.storage.disks + answers.storage.pool.disks],
            }
        }
    )
    mine, theirs = make_plan(facts, answers, MEDIUM), make_plan(facts, auto, MEDIUM)
    assert [disk.key for disk in mine.disks] == [disk.key for disk in theirs.disks]
    shown = [line for each in person.asked if each.title == "Before and after" for line in each.lines]
    for disk in mine.disks:
        assert any(
            f"{disk.serial}\n after" in line or f"{disk.serial}\n before" in line for line in shown
        ), disk


ARRAYS = [
    ("ext4", "raid6", {}),
    ("xfs", "raid10", {}),
    ("btrfs", "raid10", {}),
    ("zfs", "raidz2", {"disks lie on": "zfs"}),
]


@pytest.mark.parametrize(("filesystem", "redundancy", "more_said"), ARRAYS)
def test_arrays(filesystem: str, redundancy: str, more_said: Mapping[str, Any]) -> None:
    facts = machines.load("many-disks")
    turning = tuple(disk.name for disk in facts.disks if disk.rotational is True)
    assert len(turning) >= 4
    says = {**ALICE, "disks be used": "array", "Which disks?": turning[:4], "Which file system": filesystem}
    person = Person({**says, "may fail": redundancy, **more_said})
    answers = loaded(talk(person, facts))
    assert (answers.storage.layout, answers.storage.redundancy) == ("array", redundancy)
    assert len(make_plan(facts, answers, MEDIUM).disks) == 4
    (asked,) = (each for each in person.asked if "may fail" in each.prompt)
    assert isinstance(asked, One)
    refused = {each.value for each in asked.options if each.refused}
    assert ("raidz2" in refused) is (filesystem != "zfs")
    assert ("raid6" in refused) is (filesystem in ("btrfs", "zfs"))


def test_an_expert_has_lvm_with_a_thin_pool() -> None:
    facts = machines.load("workstation")
    says = {**ALICE, "Which disk?": "nvme0n1", "LVM divide": "lvm-thin", "disks lie on": "lvm-thin"}
    answers = loaded(talk(Person(says, level="expert"), facts))
    assert answers.storage.volumes == "lvm-thin"
    assert answers.storage.pool is not None
    assert make_plan(facts, answers, MEDIUM).host.lvm


def test_hibernation_is_refused_with_the_reason_and_ends_encryption() -> None:
    facts = machines.load("workstation")
    person = Person(
        {**ALICE, "Which disk?": "nvme0n1", "Where may memory go": "partition", "hibernate?": True}
    )
    answers = loaded(talk(person, facts))
    assert answers.storage.swap.hibernate
    (encryption,) = (each for each in person.asked if each.prompt == "Encrypt the disks?")
    assert isinstance(encryption, One)
    assert "random key" in str(encryption.options[1].refused)
    many = Person({**ALICE, "disks be used": "mirror", "Where may memory go": "partition"})
    talk(many, machines.load("many-disks"))
    (asked,) = (each for each in many.asked if "hibernate?" in each.prompt)
    assert isinstance(asked, One)
    assert "several disks" in str(asked.options[1].refused)


# The system


def ready_medium(tier: str) -> Medium:
    closure = ReadyClosure(
        name=tier, toplevel=f"/nix/store/{'0' * 32}-nixos-system-any", nar_size=1 << 30, tier=tier,
        modules=("nvme", "ext4", "ahci", "virtio_blk", "virtio_pci", "sd_mod", "ata_piix", "virtio_scsi", "xhci_pci"),
    )  # fmt: skip
    return MEDIUM.model_copy(update={"closures": (closure,)})


def test_a_ready_system_is_taken_where_the_answers_permit_it() -> None:
    facts = machines.load("lab-uefi")
    # Without a serial console, and with a password for sudo: both are in what is generated for a host.
    says: dict[str, Any] = {**ALICE, "console on a serial": None, "Password of": "a long password"}
    firmware = facts.firmware.model_copy(update={"serial_consoles": ()})
    facts = facts.model_copy(update={"firmware": firmware})
    raw = talk(Person(says), facts)
    chosen = ready.choose(facts, ready_medium("standard"), raw)
    assert chosen.raw.get("system") == {"source": "closure", "closure": "standard"}, chosen.reasons
    assert chosen.plan == make_plan(facts, loaded(chosen.raw), ready_medium("standard"))
    assert "nothing is built" in chosen.reasons[0]
    # What a file says of the system holds.
    told = raw | {"system": {"source": "flake"}}
    assert ready.choose(facts, ready_medium("standard"), told).raw == told
    other = ready.choose(facts, ready_medium("enterprise"), raw)
    assert "system" not in other.raw
    assert "no ready system of tier standard" in other.reasons[0]
    encrypted = raw | {
        "storage": raw["storage"] | {"encryption": {"enable": True, "passphrase": {"file": "/run/x"}}}
    }
    built = ready.choose(facts, ready_medium("standard"), encrypted)
    assert "system" not in built.raw
    assert any("storage.encryption" in reason for reason in built.reasons)


@pytest.mark.parametrize("name", NAMES)
def test_each_topic_can_be_asked_for_alone(name: str) -> None:
    """On top of a whole file: what is said by others stays, and what comes out is a whole file again."""
    facts = machines.load("workstation")
    base = talk(Person(dict(ALICE)), facts)
    person = Person(dict(ALICE), level="expert")
    topics = tuple(topic for topic in TOPICS if topic.name == name)
    raw = Conversation(topics, facts, MEDIUM, person, Elsewhere(), base).all()
    assert person.asked
    assert {place.count for place in person.places} == {1}
    assert loaded(raw) == loaded(base)
    assert make_plan(facts, loaded(raw), MEDIUM).steps


def test_topics_are_those_of_the_model() -> None:
    assert get_args(TopicName) == NAMES


def test_the_clock_is_looked_at() -> None:
    late = Elsewhere(results={"now": lambda: datetime(2001, 1, 1, tzinfo=UTC)})
    person = Person(dict(ALICE))
    Conversation(TOPICS, machines.load("lab-bios"), MEDIUM, person, late).all()
    assert any(question.title == "The clock is wrong" for question in person.asked)


@pytest.mark.parametrize("spoken", ["en", "de"])
def test_each_trouble_has_a_page_that_fits_and_a_way_on(spoken: str) -> None:
    facts = machines.load("mini-pc-all-off")
    on = Judgement(verdict=Verdict.yes, because="the firmware's variable SecureBoot is 1")
    firmware = facts.firmware.model_copy(update={"secure_boot": on, "tpm": None})
    memory = facts.memory.model_copy(update={"total": 1 << 30})
    facts = facts.model_copy(update={"firmware": firmware, "memory": memory, "nics": ()})
    world = Elsewhere(results={"now": lambda: datetime(2001, 1, 1, tzinfo=UTC)})

    class Enough(Exception):  # noqa: N818
        pass

    class Reader(Person):
        def ask(self, question: Question, place: Place) -> Any:
            if question.field == ("storage", "layout") or place.number > 3:
                raise Enough
            return super().ask(question, place)

    person = Reader({"Sprache": spoken})
    with pytest.raises(Enough):
        Conversation(TOPICS, facts, MEDIUM, person, world).all()
    words.use("en")
    notices = [each for each in person.asked if isinstance(each, Notice)]
    titles = {
        "en": {"Secure Boot is on", "There is little memory", "The clock is wrong", "No wired network"},
        "de": {"Secure Boot ist eingeschaltet", "Wenig Arbeitsspeicher", "Die Uhr geht falsch", "Kein Netz mit Kabel"},
    }  # fmt: skip
    assert {each.title for each in notices} >= titles[spoken], [each.title for each in notices]
    for notice in notices:
        assert len(body(notice, Level.beginner, 79)) <= 16, notice.title
        assert any({"en": "Way on: ", "de": "Ausweg: "}[spoken] in line for line in notice.lines), (
            notice.lines
        )


def test_without_a_tpm_it_is_refused_with_the_reason() -> None:
    facts = machines.load("workstation")
    facts = facts.model_copy(update={"firmware": facts.firmware.model_copy(update={"tpm": None})})
    person = Person({**ALICE, "Encrypt the disks": True, "Passphrase": "correct horse battery"})
    talk(person, facts)
    (token,) = (each for each in person.asked if "What else opens" in each.prompt)
    assert isinstance(token, One)
    refused = {each.value for each in token.options if each.refused}
    assert refused == {"tpm2", "tpm2-pin"}


def test_another_systems_disk_can_be_shared() -> None:
    """Where the host fits beside it, that is what is recommended; erasing is still an answer."""
    facts = machines.load("laptop-bitlocker")
    person = Person({**ALICE, "disks be used": "one-disk"})
    answers = loaded(talk(person, facts))
    assert answers.storage.existing == "keep"
    (asked,) = (each for each in person.asked if "become of what is on it" in each.prompt)
    assert any("Windows" in line for line in asked.lines)
    plan = make_plan(facts, answers, MEDIUM)
    assert len(plan.destroyed[0].kept) == 4
    shown = [line for each in person.asked for line in each.lines]
    assert any(line.startswith("Stays on ") and ": partition 1" in line for line in shown)
    erased = loaded(talk(Person({**ALICE, "become of what is on it": "erase"}), facts))
    assert erased.storage.existing == "erase"
    assert make_plan(facts, erased, MEDIUM).destroyed[0].kept == ()


def test_what_cannot_be_kept_says_why() -> None:
    facts = machines.load("workstation")
    disks = tuple(
        each.model_copy(update={"table": "dos"}) if each.name == "nvme1n1" else each for each in facts.disks
    )
    facts = facts.model_copy(update={"disks": disks})
    says = {"disks be used": "one-disk", "Which disk": "nvme1n1", "become of what is on it": "erase"}
    person = Person({**ALICE, **says})
    assert loaded(talk(person, facts)).storage.existing == "erase"
    (asked,) = (each for each in person.asked if "become of what is on it" in each.prompt)
    assert isinstance(asked, One)
    (keep,) = (each for each in asked.options if each.value == "keep")
    assert keep.refused


@pytest.mark.parametrize("swap", ["zram", "partition"])
@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs"])
def test_installing_anew_finds_out_what_the_host_is_made_of(filesystem: str, swap: str) -> None:
    """A person names the host; which file system and swap it has is on the disk."""
    blank = cases.machine(cases.blank_disk(size=500 * GIB))
    table = cases.storage(filesystem=filesystem, swap={"kind": swap})
    facts = installed(make_plan(blank, cases.answers(storage=table), MEDIUM), blank)
    person = Person(
        {**ALICE, "What shall become": "reinstall", "Name of the host that is on the disk": "hv1"}
    )
    raw = talk(person, facts)
    answers = loaded(raw)
    assert answers.hostname == "hv1"
    assert (answers.storage.existing, answers.storage.filesystem) == ("reinstall", filesystem)
    made = make_plan(facts, answers, MEDIUM)
    destructive = [action for step in made.steps for action in step.actions if is_destructive(action)]
    assert [type(each) for each in destructive] == [ClearTarget]
    (shown,) = [each for each in person.asked if each.title == "Before and after"]
    assert "Stays on Samsung SSD 990 PRO 1TB S6Z2NJ0TB12345X: on these disks together:" in "\n".join(
        shown.lines
    )


def test_installing_anew_another_host_is_refused_with_the_reason() -> None:
    blank = cases.machine(cases.blank_disk(size=500 * GIB))
    facts = installed(make_plan(blank, cases.answers(storage=cases.storage()), MEDIUM), blank)
    person = Person(
        {
            **ALICE,
            "What shall become": ["reinstall", "reinstall"],
            "Name of the host that is on the disk": ["other", "hv1"],
        }
    )
    assert loaded(talk(person, facts)).hostname == "hv1"
    refused = [each for each in person.asked if isinstance(each, Notice)]
    assert "no partition called other-esp" in "\n".join((refused[0].title, *refused[0].lines))


def test_installing_anew_beside_what_somebody_else_locked() -> None:
    """A partition of another system's on the disk is encrypted; the host is not."""
    blank = cases.machine(cases.blank_disk(size=500 * GIB))
    facts = installed(make_plan(blank, cases.answers(storage=cases.storage()), MEDIUM), blank)
    (disk,) = facts.disks
    *before, last = disk.partitions
    last = last.model_copy(update={"size": last.size - 50 * GIB})
    theirs = Partition(
        number=9,
        name=f"{disk.name}p9",
        start=last.start + last.size,
        size=50 * GIB,
        type_uuid="0fc63daf-8483-4772-8e79-3d69d8477de4",
        label="theirs",
        filesystem=Filesystem(kind="crypto_LUKS", uuid="11111111-2222-3333-4444-555555555555"),
    )
    disk = disk.model_copy(update={"partitions": (*before, last, theirs)})
    facts = facts.model_copy(update={"disks": (disk,)})
    person = Person({**ALICE, "What shall become": "reinstall"})
    answers = loaded(talk(person, facts))
    assert not answers.storage.encryption.enable
    assert not any("Passphrase" in each.prompt for each in person.asked)
    made = make_plan(facts, answers, MEDIUM)
    assert any(region.content for region in made.pictures[0].after if region.number == 9)


TWINS: tuple[dict[str, Any], ...] = tuple(
    {
        "name": f"nvme{number}n1",
        "serial": f"S6Z2NJ0TB1234{number}",
        "wwn": f"eui.0025384b21404e6{number}",
        "by_id": (
            f"nvme-Samsung_SSD_990_PRO_1TB_S6Z2NJ0TB1234{number}",
            f"nvme-eui.0025384b21404e6{number}",
        ),
        "size": 500 * GIB,
    }
    for number in range(2)
)
LOCKED = {**ALICE, "What shall become": "reinstall", "Passphrase:": "correct horse"}
CHOICES: dict[str, dict[str, Any]] = {
    "ext4": {"filesystem": "ext4"},
    "xfs on lvm": {"filesystem": "xfs", "volumes": "lvm", "swap": {"kind": "partition", "size": "4GiB"}},
    "btrfs": {"filesystem": "btrfs"},
}


@pytest.mark.parametrize("name", CHOICES)
def test_installing_anew_an_encrypted_host_asks_what_cannot_be_seen(name: str) -> None:
    """The name is read off the partitions; inside LUKS nothing is seen, so the person says what it was."""
    blank = cases.machine(cases.blank_disk(size=500 * GIB))
    table = cases.storage(encryption=cases.ENCRYPTED, **CHOICES[name])
    first = make_plan(blank, cases.answers(storage=table), MEDIUM)
    facts = installed(first, blank)
    wanted = CHOICES[name]
    says = {
        "Which file system has it": wanted["filesystem"],
        "Does LVM divide its space": wanted.get("volumes"),
        "Has it a swap partition": "partition" if "swap" in wanted else "zram",
    }
    person = Person({**LOCKED, **says})
    answers = loaded(talk(person, facts))
    assert answers.hostname == "hv1"
    encryption = answers.storage.encryption
    assert encryption.enable
    assert isinstance(encryption.passphrase, SecretFile)
    assert encryption.passphrase.file == "/run/hyper-nixos/secrets/passphrase"
    secrets = [each for each in person.asked if isinstance(each, Secret) and "Passphrase" in each.prompt]
    assert [each.twice for each in secrets] == [False]
    assert not any("recovery key" in each.prompt for each in person.asked), "its own is in the header still"
    made = make_plan(facts, answers, MEDIUM)
    destructive = [action for step in made.steps for action in step.actions if is_destructive(action)]
    assert [type(each) for each in destructive] == [ClearTarget]
    assert made.host == first.host


@pytest.mark.parametrize("filesystem", ["btrfs", "xfs"])
def test_installing_a_mirror_anew(filesystem: str) -> None:
    """The host is seen on both disks, which cannot be had one by one; all of it is what is recommended."""
    blank = cases.machine(*(cases.blank_disk(**each) for each in TWINS))
    table = cases.storage(layout="mirror", filesystem=filesystem)
    table.pop("disk")
    table["disks"] = [{"serial": disk.serial} for disk in blank.disks]
    first = make_plan(blank, cases.answers(storage=table), MEDIUM)
    facts = installed(first, blank)
    says = {each: value for each, value in ALICE.items() if "disks" not in each}
    # An array shows nothing of what is in it while it is not assembled.
    person = Person({**says, "Which file system has it": filesystem})
    answers = loaded(talk(person, facts))
    assert (answers.storage.existing, answers.storage.layout) == ("reinstall", "mirror")
    made = make_plan(facts, answers, MEDIUM)
    destructive = [action for step in made.steps for action in step.actions if is_destructive(action)]
    assert [type(each) for each in destructive] == [ClearTarget]
    assert made.host == first.host


@pytest.mark.parametrize("mounted", [False, True])
def test_installing_anew_what_the_live_system_brought_up_by_itself(mounted: bool) -> None:
    """Its volume group is up: that hinders nothing; while a volume is mounted the disk cannot be chosen."""
    blank = cases.machine(cases.blank_disk(size=500 * GIB), cases.blank_disk(**TWINS[1]))
    one = blank.model_copy(update={"disks": blank.disks[:1]})
    table = cases.storage(filesystem="ext4", volumes="lvm", swap={"kind": "partition"})
    first = make_plan(one, cases.answers(storage=table), MEDIUM)
    up = brought_up(installed(first, one), mountpoints=("/mnt/old",) if mounted else ())
    facts = up.model_copy(update={"disks": (*up.disks, blank.disks[1])})
    says = {each: value for each, value in ALICE.items() if "disk" not in each.lower()}
    says |= {"disks be used": "one-disk", "Which file system has it": "ext4", "swap partition": "partition"}
    if not mounted:
        says |= {"Which disk": up.disks[0].name}
    person = Person(says)
    answers = loaded(talk(person, facts))
    (asked,) = (each for each in person.asked if isinstance(each, One) and "Which disk" in each.prompt)
    (option,) = (each for each in asked.options if each.value == up.disks[0].name)
    if mounted:
        assert option.refused and "is mounted at /mnt/old" in option.refused
        return
    assert option.refused is None
    (asked,) = (each for each in person.asked if isinstance(each, One) and "shall become" in each.prompt)
    refused = {each.value: each.refused for each in asked.options}
    assert refused["reinstall"] is None and asked.default == "reinstall"
    assert refused["erase"] is None
    made = make_plan(facts, answers, MEDIUM)
    destructive = [action for step in made.steps for action in step.actions if is_destructive(action)]
    assert [type(each) for each in destructive] == [ClearTarget]
    assert made.host == first.host


def with_guests(pool: dict[str, Any], disks: int, encrypted: bool) -> tuple[Plan, Facts]:
    """A host with disks for guests alone, as it was installed, and the machine with it."""
    system = cases.blank_disk(size=500 * GIB)
    others = [
        cases.blank_disk(
            **{
                **TWINS[0],
                "name": f"nvme{number}n1",
                "serial": f"GUESTS{number}",
                "wwn": f"eui.0025384b21404e9{number}",
                "by_id": (f"nvme-Samsung_SSD_990_PRO_1TB_GUESTS{number}",),
            }
        )
        for number in range(1, disks + 1)
    ]
    blank = cases.machine(system, *others)
    # The second one was named first.
    named = [{"serial": disk.serial} for disk in reversed(others)]
    table = cases.storage(filesystem="ext4", pool={**pool, "disks": named})
    if encrypted:
        table["encryption"] = cases.ENCRYPTED
    first = make_plan(blank, cases.answers(storage=table), MEDIUM)
    by_serial = {disk.serial: disk for disk in blank.disks}
    named_first = tuple(by_serial[identity.serial] for identity in first.disks)
    there = installed(first, blank.model_copy(update={"disks": named_first}))
    return first, there.model_copy(update={"disks": tuple(sorted(there.disks, key=lambda disk: disk.name))})


POOLS: dict[str, tuple[dict[str, Any], int, bool]] = {
    "files on xfs": ({"kind": "dir"}, 1, False),
    "files on btrfs": ({"kind": "dir", "filesystem": "btrfs"}, 1, False),
    "a thin pool": ({"kind": "lvm-thin"}, 1, False),
    "zfs": ({"kind": "zfs"}, 1, False),
    "a mirrored thin pool": ({"kind": "lvm-thin", "redundancy": "mirror"}, 2, False),
    "a btrfs that is not mirrored": (
        {"kind": "dir", "filesystem": "btrfs", "redundancy": "none"},
        2,
        False,
    ),
    "locked files on ext4": ({"kind": "dir", "filesystem": "ext4"}, 1, True),
    "a locked, mirrored zfs": ({"kind": "zfs", "redundancy": "mirror"}, 2, True),
}


@pytest.mark.parametrize("name", POOLS)
def test_installing_anew_a_host_whose_guests_have_disks_of_their_own(name: str) -> None:
    """The disks for guests are found by the host's name, in the order of then; what cannot be seen is asked."""
    pool, count, encrypted = POOLS[name]
    first, facts = with_guests(pool, count, encrypted)
    says = {
        "disks be used": "one-disk",
        "Which disk?": facts.disks[0].name,
        # What is recommended where the host is seen on the disk.
        "What shall become": None,
        "Which file system has it": "ext4",
        "What do its guests' disks lie on": pool["kind"],
        "Which file system have the disks for guests": pool.get("filesystem", "xfs"),
        "stand in for each other": pool.get("redundancy"),
    }
    person = Person({**LOCKED, **says})
    answers = loaded(talk(person, facts))
    assert answers.storage.existing == "reinstall"
    assert answers.storage.pool is not None
    assert answers.storage.pool.kind == pool["kind"]
    assert [each.serial for each in answers.storage.pool.disks] == [
        f"GUESTS{number}" for number in reversed(range(1, count + 1))
    ]
    made = make_plan(facts, answers, MEDIUM)
    destructive = [action for step in made.steps for action in step.actions if is_destructive(action)]
    assert [type(each) for each in destructive] == [ClearTarget]
    assert made.host == first.host
    # What can be seen is not asked.
    seen = not encrypted and (count == 1 or pool.get("filesystem") == "btrfs")
    assert any("What do its guests' disks lie on" in each.prompt for each in person.asked) is not seen
    (shown,) = [each for each in person.asked if each.title == "Before and after"]
    said = "\n".join(shown.lines)
    assert "GUESTS1: nothing: it is for guests alone, and what is on it stays." in said
    assert "GUESTS1: all that is on it, for the guests of hv1." in said


def test_a_thin_pool_beside_the_root_is_not_forgotten() -> None:
    blank = cases.machine(cases.blank_disk(size=500 * GIB))
    table = cases.storage(filesystem="xfs", volumes="lvm", pool={"kind": "lvm-thin"})
    first = make_plan(blank, cases.answers(storage=table), MEDIUM)
    facts = installed(first, blank)
    says = {"Which file system has it": "xfs", "Does LVM divide": "lvm"}
    person = Person(
        {**ALICE, "What shall become": "reinstall", **says, "What do its guests' disks lie on": "lvm-thin"}
    )
    answers = loaded(talk(person, facts))
    assert answers.storage.pool is not None
    assert make_plan(facts, answers, MEDIUM).host == first.host


def test_disks_that_belong_together_are_chosen_together_or_not_at_all() -> None:
    facts = machines.load("stack-md-asleep")
    person = Person(
        {
            **ALICE,
            "disks be used": "mirror",
            "Which disks": ("sda", "sdb"),
        }
    )
    answers = loaded(talk(person, facts))
    assert answers.storage.layout == "mirror"
    (asked,) = (each for each in person.asked if "Which disks" in each.prompt)
    assert isinstance(asked, Many)
    assert asked.check(("sda", "sdc")) == "sda belongs together with sdb: choose them too, or leave it out."
    assert asked.check(("sda", "sdb")) is None
    (layout,) = (each for each in person.asked if "disks be used" in each.prompt)
    assert isinstance(layout, One)
    lonely = Person({**ALICE, "Which disk?": "sdc"})
    talk(lonely, facts)
    (one,) = (each for each in lonely.asked if "Which disk?" in each.prompt)
    assert isinstance(one, One)
    refused = {option.value: option.refused for option in one.options}
    assert "sdb" in str(refused["sda"])
    assert refused["sdc"] is None


def test_a_password_that_cannot_be_hashed_is_told_and_asked_for_again() -> None:
    reason = "no program for it"
    world = Elsewhere(results={"hash_password": lambda _password: Failed(reason)})
    person = Person({**ALICE, "Password of": ["correct horse", ""]})
    conversation = Conversation(TOPICS, machines.load("lab-uefi"), MEDIUM, person, world)
    raw = conversation.all()
    asked = [each for each in person.asked if "Password of" in each.prompt]
    assert reason in asked[1].lines
    assert "password_hash" not in raw["users"][0]


def test_an_address_that_the_wire_speaks_against_is_asked_for_again() -> None:
    tried: list[tuple[str, str, str]] = []

    def try_address(port: str, address: str, gateway: str) -> Failed | None:
        tried.append((port, address, gateway))
        return Failed("Somebody else has it.") if len(tried) < 3 else None

    says = {
        "get its addresses": "static",
        "prefix length": ["192.0.2.77/24", "192.0.2.78/24", "192.0.2.79/24"],
    }
    world = Elsewhere(results={"try_address": try_address})
    person = Person({**ALICE, **says, "Keep this address?": [False, False]})
    raw = Conversation(TOPICS, machines.load("workstation"), MEDIUM, person, world).all()
    assert [address for _port, address, _gateway in tried] == ["192.0.2.77", "192.0.2.78", "192.0.2.79"]
    assert raw["network"]["ethernets"][0]["addressing"]["addresses"] == ["192.0.2.79/24"]
    (first, _second) = [each for each in person.asked if each.prompt == "Keep this address?"]
    assert "Somebody else has it." in first.lines
