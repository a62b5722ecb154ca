"""The guided conversation without a terminal: every path through it, back from everywhere, refusals with their reasons."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from installer.answers.load import Format, load
from installer.answers.model import Answers, HostName, TopicName, UserName
from installer.facts import Facts
from installer.guided import answer_file, words
from installer.guided.conversation import Back, Conversation, Place
from installer.guided.page import explanation
from installer.guided.questions import Line, Many, Notice, One, Question, Secret, Work
from installer.guided.topics import host, people
from installer.guided.topics.catalogue import NAMES, TOPICS
from installer.medium import Medium
from installer.plan.planner import make_plan
from tests import machines
from tests.nixeval.cases import MEDIUM

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
            "try_network": lambda: "not tried",
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


def test_topics_are_those_of_the_model() -> None:
    assert get_args(TopicName) == NAMES


def test_the_clock_is_looked_at() -> None:
    late = Elsewhere(results={"now": lambda: datetime(2001, 1, 1, tzinfo=UTC)})
    person = Person(dict(ALICE))
    Conversation(TOPICS, machines.load("lab-bios"), MEDIUM, person, late).all()
    assert any(question.title == "The clock is wrong" for question in person.asked)


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
    assert any("Stays on main: partition 1" in line for line in shown)
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
