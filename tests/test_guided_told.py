"""What planner, checks and executor say, in German on the guided installer's screens: whole, right and in 80 columns."""

import ast
import re
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from string import Formatter

import pytest

from installer.answers.load import load
from installer.errors import Exit, HyperError
from installer.execute import apart
from installer.execute.live import LiveSystem
from installer.execute.progress import JsonLines, Moment, Plain
from installer.guided import told as module
from installer.guided import words
from installer.guided.session import attach, language_for
from installer.guided.told import InWords, in_words, read, refusal, retold, template, told, unfolded
from installer.plan.describe import describe
from installer.plan.lines import WIDTH
from installer.plan.model import Plan
from installer.plan.planner import make_plan
from tests.answers import BAD
from tests.guided_screens import kept_told, progressed, told_screens
from tests.plan_goldens import golden_plans, several_plans
from tests.sentences import ALONE, LISTED, NOT_SHOWN, REPOSITORY, SILENT, sentences
from tests.test_plan_refusals import CASES
from tests.words import catalogue_of, is_done, of_sentences, read_sentences, text_of_sentences

SENTENCE = re.compile("[A-Za-z]+ [a-z]{2,}")


@pytest.fixture(autouse=True)
def _german() -> Iterator[None]:
    words.use("de")
    yield
    words.use(words.ENGLISH)


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {**dict(several_plans()), **dict(golden_plans())}


def shown(plan: Plan) -> list[str]:
    """Every text of a plan that is told."""
    texts: list[str] = []

    def say(text: str) -> str:
        texts.append(text)
        return told(text)

    describe(plan, "answers.toml", say)
    return texts


def left(text: str) -> list[str]:
    """Lines of a text that nobody has told."""
    return [
        line
        for line in text.split("\n")
        if SENTENCE.search(re.sub("`[^`]*`", "", line)) and module._known("de", line) is None
    ]


# The catalogue


LEFT = 0.03
"""Share of the sentences that may wait for a translator; until then they are shown in English."""


def test_sentences_of_others_are_translated() -> None:
    known = read_sentences("de")
    missing = [
        f"{path.relative_to(REPOSITORY)}: {text!r}"
        for text, path in sentences().items()
        if text not in known or not is_done(known[text])
    ]
    assert len(missing) <= LEFT * len(sentences()), "\n".join(
        [
            f"no German: run `python -m tests.words`, translate these in {of_sentences('de')}, and take `fuzzy` away",
            *missing,
        ]
    )


def test_translations_have_the_places_of_the_english() -> None:
    for english, message in read_sentences("de").items():
        assert isinstance(message.string, str)
        assert places(message.string) == places(english) or not is_done(message), english


def places(text: str) -> list[str]:
    return sorted(name for _text, name, _format, _conversion in Formatter().parse(text) if name is not None)


def test_the_catalogue_is_written_as_it_is_generated() -> None:
    file = of_sentences("de")
    assert file.read_text() == text_of_sentences(catalogue_of("de", read_sentences("de").values()))


def test_tables_of_exceptions_name_what_is_there() -> None:
    for name in (*SILENT, *ALONE):
        assert (REPOSITORY / "installer" / f"{name}.py").is_file(), name
    for name, alone in ALONE.items():
        tree = ast.parse((REPOSITORY / "installer" / f"{name}.py").read_text())
        constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert set(alone) <= constants, name
    assert not NOT_SHOWN & sentences().keys()
    assert set(LISTED) <= sentences().keys()


def test_the_catalogue_is_read_as_gettext_reads_it() -> None:
    told_ones = {text: message.string for text, message in read_sentences("de").items() if is_done(message)}
    assert len(told_ones) > 1000
    assert dict(read(of_sentences("de").read_text())) == told_ones
    content = '#, fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgid ""\n"c \\"d\\"\\n"\n"e"\nmsgstr "f"\n\nmsgid "g"\nmsgstr ""\n'
    assert list(read(content)) == [('c "d"\ne', "f")]


def test_a_template_finds_its_values() -> None:
    made = template("partition {number} of {disk}, {{kept}}", "{disk}: Partition {number}, {{bleibt}}")
    assert made.values("partition 3 of a of b, {kept}") == {"number": "3", "disk": "a of b"}
    assert made.values("partition 3 of a of b, {kept") is None
    assert made.values("partition 3, {kept}") is None


# Texts


def test_english_stays_itself() -> None:
    words.use("en")
    text = "partition 3 of disk (serial X), kept"
    assert told(text) is text
    error = HyperError("a", why="b", remedy="c")
    assert in_words(error) is error


def test_what_nobody_knows_stays_as_it_is() -> None:
    for text in (
        "The moon is full tonight.",
        "opening the moon of cheese on Tuesdays; it is round",
        "   \n",
        "",
        "$ mkfs.ext4 /dev/sda",
        "ata-Samsung_of_the_disk",
        "5  far from 1 MiB, 2 GiB, EFI system",  # not half of it: `EFI-System` among English words
        "eat moons; is required and missing by nobody",
        "salt or pepper",
    ):
        assert told(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plan for host none", "Plan für den Host none"),
        ("Disk main: unknown model, 1 TiB", "Datenträger main: unbekanntes Modell, 1 TiB"),
        ('partition 2, 300 GiB: LUKS container "free"', 'Partition 2, 300 GiB: LUKS-Container "free"'),
        (
            "Make xfs at / on partition 1 of A (serial S1, 1 TiB) and partition 1 of B (serial S2, 1 TiB) (destroys data)",
            "Anlegen: xfs unter / auf Partition 1 von A (Seriennummer S1, 1 TiB) und Partition 1 von B (Seriennummer S2, 1 TiB) (zerstört Daten)",
        ),
        (
            "md raid1 > swap, new random key at every boot",
            "md raid1 > Swap, bei jedem Start ein neuer zufälliger Schlüssel",
        ),
        (
            "its action `run` failed: no word\n  disks: nothing was written to any disk.",
            "die Aktion `run` ist fehlgeschlagen: no word\n  Datenträger: auf keinen Datenträger wurde geschrieben.",
        ),
        (
            "is required and missing: disks and layout",
            "wird gebraucht und fehlt: datenträger und Aufteilung",
        ),
        ("1  from 1 MiB, 2 GiB, EFI system, hv1-esp", "1  ab 1 MiB, 2 GiB, EFI-System, hv1-esp"),
        ("did you mean `name` or `path`?", "ist `name` oder `path` gemeint?"),
        ("1.2 GiB on the disk, 4 of 9 paths (3 GiB), build 1 of 2", None),
    ],
)
def test_values_are_carried_over_and_words_among_them_told(text: str, expected: str | None) -> None:
    if expected is None:
        expected = "1.2 GiB auf dem Datenträger, 4 von 9 Pfaden (3 GiB), Bau 1 von 2"
    assert told(text).lower() == expected.lower()


def test_every_plan_is_german_and_fits(plans: dict[str, Plan]) -> None:
    for name, plan in plans.items():
        for text in shown(plan):
            assert not left(text), f"{name}: {text}"
            assert not module.is_mixed(told(text)), f"{name}: {text}: {told(text)}"
        english = describe(plan, "answers.toml").splitlines()
        for line in describe(plan, "answers.toml", told).splitlines():
            assert len(line) <= WIDTH or line in english, line


def test_values_of_plans_are_all_there(plans: dict[str, Plan]) -> None:
    """Names of devices, numbers, hashes and paths: none is lost, none is told."""
    for plan in plans.values():
        for text in shown(plan):
            for value in re.findall(r"[^\s(),;]*[0-9/_][^\s(),;]*", text):
                assert value.strip(".:") in told(text), (text, told(text))


def test_english_in_a_plan_would_be_noticed() -> None:
    assert left("The moon is full tonight.")
    assert left("Bring up the array root (md raid1)\nThe moon is full tonight.") == [
        "The moon is full tonight."
    ]


def test_no_text_fits_two_templates_alike(plans: dict[str, Plan]) -> None:
    texts = {text for plan in plans.values() for text in shown(plan)}
    texts |= {text for _name, error in refusals() for text in (error.what, error.why, error.remedy)}
    assert len(texts) > 1000
    for text in texts:
        # Those that say little are believed only where no other is.
        fits = [fit for fit in module._templates("de").fitting(text) if not fit[0].is_weak]
        if len(fits) > 1 and fits[0][0].rank == fits[1][0].rank:
            first, second = (made.other.format(**values) for made, values in fits[:2])
            assert first == second, (text, fits[0][0].english, fits[1][0].english)


def test_a_plan_is_told_quickly(plans: dict[str, Plan]) -> None:
    """Under a tenth of a second on a quiet machine; here four times that, of the processor's time."""
    told("warm")
    for cache in (module._told, module._known, module._fitting):
        cache.cache_clear()
    began = time.process_time()
    describe(plans["uefi-btrfs-luks-partition"], "answers.toml", told)
    assert time.process_time() - began < 0.4


# Refusals


def refusals() -> Iterator[tuple[str, HyperError]]:
    for name, (facts, answers, medium, _code, _words) in CASES.items():
        try:
            make_plan(facts, answers, medium)
        except HyperError as error:
            yield name, error
    for path in BAD:
        try:
            load(path.read_bytes(), path.name)
        except HyperError as error:
            yield path.name, error


MADE_UP = re.compile("it is the only way to the screen|Example device|DMAR table")
"""What tests of the planner have the probe say: a reason, and names of devices."""


def test_every_refusal_is_german_and_fits() -> None:
    found = dict(refusals())
    assert len(found) > 70
    for name, error in found.items():
        texts = [error.what, error.remedy]
        problems = getattr(error, "problems", ())
        texts += [text for each in problems for text in (each.wrong, each.remedy)] or [error.why]
        for text in texts:
            assert not [line for line in left(text) if not MADE_UP.search(line)], f"{name}: {text}"
        printed = str(in_words(error))
        assert not re.search(r"\bwhy:|\bdo:", printed), printed
        assert in_words(error).code is error.code
        for line in printed.splitlines():
            assert len(line) <= WIDTH or " " not in line.strip(), line
        assert refusal(error).startswith(f"{told(error.what)}: ")
        half = [text for text in texts if module.is_mixed(told(text)) and told(text) != text]
        assert not [text for text in half if not MADE_UP.search(text)], name


# Progress and the last screen


@pytest.mark.parametrize(
    "error",
    [
        HyperError(
            "the step `format-root` failed (Make ext4 at / on partition 2 of A (serial S, 1 TiB))",
            why="its action `run` failed: `mkfs.ext4` failed: exit status 1; it said:\n       no space left on the device at "
            "all, and more of what the program said in a long line\n  disks: written and verified: wipe-main. `hv "
            "install --abort` says what of it can come back.",
            remedy="mend what its output names, then run the same command again; the log is /run/hyper-nixos/install/install.log",
        ),
        HyperError(
            "there is too little free memory",
            why="12 MiB are available, 1 GiB are needed",
            remedy="add memory",
        ),
    ],
)
def test_an_error_that_was_printed_is_read_back(error: HyperError) -> None:
    """The supervisor keeps what the installer printed, in lines of 80 columns."""
    found = unfolded(str(error).splitlines())
    assert [text for _head, text in found] == [error.what, error.why, error.remedy]
    assert "\n".join(retold(str(error).splitlines())) == str(in_words(error))
    words.use("en")
    assert "\n".join(retold(str(error).splitlines())) == str(error)


def test_plan_refusal_and_last_screen_are_as_committed_and_fit() -> None:
    """On a terminal of 80x24, in German; the last one from what the supervisor kept, in the language of the person."""
    seen = told_screens()
    kept = kept_told()
    assert seen.keys() == kept.keys()
    for name, text in seen.items():
        assert len(text.splitlines()) <= 24, f"{name} scrolled:\n{text}"
        assert max(map(len, text.splitlines())) <= 80, name
        assert text == kept[name], "if wanted: python -m tests.guided_screens"


def test_progress_is_german_and_what_programs_read_is_not(tmp_path: Path) -> None:
    live = progressed(tmp_path)
    output = StringIO()
    assert attach(live, output, plain=True) == 0
    text = output.getvalue()
    for expected in (
        "Partitionstabelle und Köpfe sichern",
        "schon getan, noch einmal geprüft",
        "Warnung: ",
        "Anmelden:",
    ):
        assert expected in text, text
    again = StringIO()
    assert apart.follow(live, lambda total: JsonLines(again)) == 0
    assert "Proved by reading back:" in again.getvalue()
    assert "Anmelden" not in again.getvalue()


def test_lines_wait_for_those_that_belong_to_them() -> None:
    output = StringIO()
    screen = InWords(Plain(output, lambda: 1, told=told))
    with screen.shown():
        for line in (
            "  * alice (administrator): console by password, SSH by key, and a name as long as that of this one",
            "Take the medium out and reboot when you are ready.",
        ):
            screen.say(line)
        assert not output.getvalue()
        screen.tick(100.0)
        assert "Nehmen Sie das Medium heraus" in output.getvalue()
    step = dict(golden_plans())["uefi-ext4-plain-zram"].steps[0]
    screen.step(Moment(1, step, 0.0), "started")
    assert told(step.summary) in " ".join(output.getvalue().split())
    assert told(step.summary) != step.summary


def test_the_language_of_an_installation_is_remembered(tmp_path: Path) -> None:
    live = LiveSystem(runtime=tmp_path)
    assert language_for(live, {"LANG": "de_DE.UTF-8"}) == "de"
    assert language_for(live, {}) == "en"
    (tmp_path / "language").write_text("de")
    assert language_for(live, {}) == "de"


def test_a_look_at_nothing_is_refused_in_german(tmp_path: Path) -> None:
    with pytest.raises(HyperError) as caught:
        attach(LiveSystem(runtime=tmp_path / "none"), StringIO(), plain=True)
    assert caught.value.code is Exit.failed
    assert " ".join(str(caught.value).split()) == (
        f"hier wurde keine Installation begonnen weil: {tmp_path}/none/said.jsonl gibt es nicht "
        "tun: eine beginnen: `hv install`"
    )
