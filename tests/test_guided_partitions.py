"""Each partition decided about on the guided installer's pages: what is offered, refused, said, and planned."""

import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from installer.answers.sizes import GIB, MIB
from installer.facts import Facts
from installer.facts.firmware import FirmwareKind
from installer.guided.questions import Line, Many, One
from installer.guided.topics import partitions
from installer.plan.planner import make_plan
from tests import gpt
from tests import test_keep_several as keep_several
from tests.gpt import Entry
from tests.guided_screens import command, environment, kept_partitioned, partitioned
from tests.nixeval.cases import MEDIUM
from tests.test_guided import ALICE, Person, loaded, talk
from tests.test_keep_plan import WINDOWS, machine

UUID = "6f2d1c3e-4b5a-4c6d-8e7f-00000000000{}"
FULL = (*WINDOWS[:4], Entry(5, 202 * GIB, 297 * GIB, gpt.LINUX, name="data", kind="ext4"))
"""No place for a host, unless what is in partition 5 is given up."""


def person(decided: list[tuple[int, str]], **more: Any) -> Person:
    """Says of partitions what becomes of them, and then that it is done."""
    says: Mapping[str, Any] = {
        **ALICE,
        "become of what is on it": "each",
        "decided about": [*(number for number, _kind in decided), partitions.DONE],
        "become of it?": [kind for _number, kind in decided],
    }
    return Person({**says, **more})


def said(facts: Facts, *decided: tuple[int, str], **more: Any) -> list[dict[str, Any]]:
    """What the answer file has of the partitions; the plan of it is made."""
    raw = talk(person(list(decided), **more), facts)
    assert raw["storage"]["existing"] == "keep"
    assert make_plan(facts, loaded(raw), MEDIUM).steps
    found: list[dict[str, Any]] = raw["storage"].get("partitions", [])
    return found


def asked(prompt: str, facts: Facts, *decided: tuple[int, str]) -> list[One]:
    """Pages with this prompt."""
    someone = person(list(decided))
    talk(someone, facts)
    return [each for each in someone.asked if prompt in each.prompt and isinstance(each, One)]


def test_nothing_decided_keeps_everything() -> None:
    assert said(machine(*WINDOWS)) == []


def test_one_is_formatted_for_the_root_with_the_space_behind_it() -> None:
    facts = machine(*WINDOWS)
    root = {"uuid": UUID.format(5), "action": "format", "mount": "/"}
    assert said(facts, (5, "root")) == [{**root, "grow": True}]
    assert said(facts, (5, "root"), **{"free space behind": False}) == [root]


def test_one_is_deleted_and_its_place_taken() -> None:
    facts = machine(*FULL)
    assert said(facts, (5, "delete")) == [{"uuid": UUID.format(5), "action": "delete"}]
    answers = loaded(talk(person([(5, "delete")]), facts))
    (lost,) = make_plan(facts, answers, MEDIUM).destroyed
    assert any("partition 5" in each for each in lost.losses)
    assert len(lost.kept) == 4


def test_one_stays_or_is_emptied_and_is_mounted() -> None:
    facts = machine(*WINDOWS)
    assert said(facts, (5, "mount")) == [{"uuid": UUID.format(5), "action": "keep", "mount": "/srv/5"}]
    emptied = said(facts, (5, "format"), **{"Where does the host mount it": "/srv/data"})
    assert emptied == [{"uuid": UUID.format(5), "action": "format", "mount": "/srv/data"}]


def test_what_was_decided_can_be_taken_back() -> None:
    assert said(machine(*WINDOWS), (5, "delete"), (5, "keep")) == []


def test_choosing_anew_forgets_it() -> None:
    facts = machine(*WINDOWS)
    someone = person([(5, "delete")], **{"Is this right": [False, True]})
    someone.says = {**someone.says, "become of what is on it": ["each", "erase"]}
    assert "partitions" not in talk(someone, facts)["storage"]


@pytest.mark.parametrize(
    ("number", "kinds", "words"),
    [
        (1, {"root", "format", "delete"}, "an EFI system partition"),
        (2, {"root", "format", "delete", "mount"}, "Microsoft reserved"),
        (3, {"root", "format", "delete", "mount"}, "an NTFS of Windows"),
        (5, set[str](), ""),
    ],
)
def test_what_others_need_is_refused_with_the_reason(number: int, kinds: set[str], words: str) -> None:
    (page,) = asked("become of it?", machine(*WINDOWS), (number, "keep"))
    refused = {each.value: each.refused for each in page.options if each.refused}
    assert refused.keys() == kinds
    assert not words or any(words in str(reason) for reason in refused.values())


def test_without_a_place_for_the_host_it_does_not_go_on() -> None:
    before, after = asked("decided about", machine(*FULL), (5, "delete"))
    (done,) = (each for each in before.options if each.value == partitions.DONE)
    assert done.refused
    assert "no place yet" in before.lines[-1]
    assert "in one piece" in before.lines[-1]
    (done,) = (each for each in after.options if each.value == partitions.DONE)
    assert done.refused is None
    assert "into the free space" in after.lines[-1]


def test_the_drawing_shows_what_is_decided() -> None:
    before, after = asked("decided about", machine(*WINDOWS), (5, "root"))
    assert before.lines[0].splitlines()[1] == after.lines[0].splitlines()[1]
    assert before.lines[0].splitlines()[3] != after.lines[0].splitlines()[3]
    assert "The host goes into partition 5" in after.lines[-1]
    assert any("becomes the root" in each.title for each in after.options)


def test_where_nothing_can_be_kept_it_is_refused_with_the_reason() -> None:
    facts = machine(*WINDOWS, firmware=FirmwareKind.bios)
    someone = Person({**ALICE, "become of what is on it": "erase"})
    talk(someone, facts)
    (page,) = (each for each in someone.asked if "become of what is on it" in each.prompt)
    assert isinstance(page, One)
    (each,) = (option for option in page.options if option.value == "each")
    assert "there is one place for it" in str(each.refused)


def test_a_place_that_is_none_is_not_taken() -> None:
    someone = person([(5, "mount")])
    talk(someone, machine(*WINDOWS))
    (line,) = (each for each in someone.asked if "Where does the host mount it" in each.prompt)
    assert isinstance(line, Line)
    assert line.check("/srv/5") is None
    for wrong in ("srv", "/nix", "/"):
        assert line.check(wrong), wrong


def test_going_back_at_each_page_changes_nothing_in_the_end() -> None:
    facts = machine(*WINDOWS, Entry(6, 450 * GIB, 200 * MIB, gpt.LINUX, name="old", kind="xfs"))

    class Wavering(Person):
        """Goes back once, at one of the pages, and then says the same again by what is asked, not by how often."""

        def ask(self, question: Any, place: Any) -> Any:
            if "decided about" in question.prompt:
                done = " ".join(option.title for option in question.options)
                number = 6 if "is deleted" not in done else 5 if "becomes the root" not in done else 0
                self.says = {**self.says, "decided about": number}
            if "become of it?" in question.prompt:
                self.says = {**self.says, "become of it?": "delete" if "6" in question.title else "root"}
            return super().ask(question, place)

    def wavering(back_at: int | None) -> Wavering:
        return Wavering({**ALICE, "become of what is on it": "each"}, back_at=back_at)

    plain = wavering(None)
    wanted = talk(plain, facts)
    assert [each["action"] for each in wanted["storage"]["partitions"]] == ["format", "delete"]
    pages = [number for number, each in enumerate(plain.asked) if "artition" in each.title]
    assert len(pages) == 6
    for number in pages:
        again = wavering(number)
        assert talk(again, facts) == wanted, plain.asked[number].prompt
        assert len(again.asked) > len(plain.asked)


@pytest.mark.parametrize("language", ["en", "de"])
def test_screens_are_as_committed_and_fit(language: str) -> None:
    seen, kept = partitioned(language), kept_partitioned(language)
    assert seen.keys() == kept.keys()
    for name, text in seen.items():
        assert len(text.splitlines()) <= 24, f"{name} scrolled:\n{text}"
        assert max(map(len, text.splitlines())) <= 80, name
        assert text == kept[name], "if wanted: python -m tests.guided_screens"


def test_line_by_line(tmp_path: Path) -> None:
    facts, answers = tmp_path / "facts.json", tmp_path / "answers.toml"
    facts.write_text(machine(*WINDOWS).model_dump_json())
    arguments = command(answers, "--ask", "disks", "--plain")
    arguments[arguments.index("--machine") : arguments.index("--medium")] = ["--facts", str(facts)]
    lines = (
        *("1", "1", "2"),  # one disk, this one, each partition
        *(
            "3",
            "5",
            "",
            "5",
            "3",
            "1",
        ),  # Windows: not deleted, stays; data: the root, with the space behind it
        *("6", "", "", ""),  # done; file system, swap, yes
    )
    done = subprocess.run(
        arguments,
        input="\n".join(lines) + "\n",
        env=environment() | {"TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "an NTFS of Windows" in done.stdout
    assert "The host goes into partition 5" in done.stdout
    table = tomllib.loads(answers.read_text())["storage"]
    assert table["partitions"] == [{"uuid": UUID.format(5), "action": "format", "mount": "/", "grow": True}]


def several(**more: Any) -> Person:
    return Person({**ALICE, "disks be used": "mirror", "Which disks": ("nvme0n1", "sdb")} | more)


def test_a_mirror_goes_beside_what_is_on_both_disks() -> None:
    """That is what is recommended; each disk's partitions stay, and erasing is still an answer."""
    facts = keep_several.machine(
        keep_several.disk("nvme0n1", keep_several.KEPT, 500 * GIB), keep_several.second()
    )
    someone = several()
    answers = loaded(talk(someone, facts))
    assert answers.storage.existing == "keep"
    (page,) = (each for each in someone.asked if "become of what is on them" in each.prompt)
    assert isinstance(page, One)
    assert page.default == "keep"
    assert any("Recommended: keep it" in line for line in page.lines)
    assert [len(each.kept) for each in make_plan(facts, answers, MEDIUM).destroyed] == [3, 1]
    erased = loaded(talk(several(**{"become of what is on them": "erase"}), facts))
    assert all(not each.kept for each in make_plan(facts, erased, MEDIUM).destroyed)


def test_what_cannot_be_kept_on_two_disks_says_why() -> None:
    other = keep_several.second(table="dos")
    facts = keep_several.machine(keep_several.disk("nvme0n1", keep_several.KEPT, 500 * GIB), other)
    someone = several(**{"become of what is on them": "erase"})
    assert loaded(talk(someone, facts)).storage.existing == "erase"
    (page,) = (each for each in someone.asked if "become of what is on them" in each.prompt)
    assert isinstance(page, One)
    (keep,) = (each for each in page.options if each.value == "keep")
    assert "MBR" in str(keep.refused)


def test_data_of_another_disk_is_mounted_where_somebody_wants_it() -> None:
    """Of a disk with an MBR, beside partitions of the system's disk that are decided about."""
    old = keep_several.old_disk()
    facts = keep_several.machine(keep_several.disk("nvme0n1", (), 500 * GIB), old)
    says = {**ALICE, "disks be used": "one-disk", "Which disk": "nvme0n1"}
    assert "partitions" not in talk(Person(says), facts)["storage"], "nobody has to"
    picked = {
        "shall the host mount": ("sdc2", "sdc5"),
        "host mount sdc5": ["/var/lib/libvirt/images", "/srv/five"],
    }
    someone = Person(says | picked)
    raw = talk(someone, facts)
    disk = {"serial": "OLD"}
    assert raw["storage"]["partitions"] == [
        {"disk": disk, "uuid": "b1946ac9-02", "mount": "/srv/media"},
        {"disk": disk, "uuid": "b1946ac9-05", "mount": "/var/lib/libvirt/images"},
    ]
    assert len(make_plan(facts, loaded(raw), MEDIUM).mounted) == 2
    assert any(
        line.startswith("Mounted as it is: partition 2 of ") for each in someone.asked for line in each.lines
    )
    (page,) = (each for each in someone.asked if "shall the host mount" in each.prompt)
    assert isinstance(page, Many)
    assert [each.value for each in page.options] == ["sdc2", "sdc5"], "not what no host mounts as it is"


def test_a_place_that_is_taken_is_refused() -> None:
    facts = keep_several.machine(keep_several.disk("nvme0n1", (), 500 * GIB), keep_several.old_disk())
    picked = {"disks be used": "one-disk", "Which disk": "nvme0n1", "shall the host mount": ("sdc2",)}
    someone = Person({**ALICE, **picked})
    talk(someone, facts)
    (line,) = (each for each in someone.asked if "host mount sdc2" in each.prompt)
    assert isinstance(line, Line)
    assert line.check("/srv/good") is None
    assert "/etc" in str(line.check("/etc/x")) or "system" in str(line.check("/etc/x"))
