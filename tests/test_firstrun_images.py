"""Jobs image-NAME: a real server, images that we sign ourselves, connections that break, power cuts."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hv.commands.firstrun import _image
from hv.firstrun import fetched
from hv.firstrun.catalogue import jobs_of
from hv.firstrun.engine import TRIES, Engine
from hv.firstrun.fetched import ImageJob, image_jobs
from hv.firstrun.state import STATE_FOLDER, JobState, StateFolder, Status
from hv.firstrun.vm import VmJob
from hv.firstrun.world import Journal, TransientError, World
from hv.images import wanted
from hv.images.template import Template, Trust
from installer import download
from installer.answers.check import check
from installer.errors import HyperError
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.handoff import Handoff, HandoffFetch, HandoffVm
from installer.plan.actions import CopyFile
from installer.plan.planner import make_plan
from tests.file_server import Mirror
from tests.plan_cases import answers, machine, medium
from tests.test_firstrun_engine import HANDOFF, Straw, Time
from tests.test_images import CONTENT, Signer, homes, made, other, vendor, web

__all__ = ["homes", "other", "vendor", "web"]
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PLACE = "/var/lib/hyper-nixos/images/web.qcow2"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "PATIENCE", 1.0)
    monkeypatch.setattr(
        wanted,
        "Cache",
        lambda folder, client, patience: download.Cache(folder, client, patience, pause=0.01),
    )
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(
        programs=Runner(NoLog(), os.environ["PATH"]), root=tmp_path, image=_image, clock=Time().clock()
    )


def vm(source: str, **more: Any) -> HandoffVm:
    given = {
        "name": "web",
        "image": PLACE,
        "image_format": "qcow2",
        "memory": 1 << 30,
        "vcpus": 1,
        "network": None,
        "firmware": "bios",
        "autostart": False,
        "start": False,
        "fetch": HandoffFetch(source=source),
    }
    return HandoffVm.model_validate(given | more)


def offered(web: Mirror, **more: Any) -> HandoffVm:
    web.files["/web.qcow2"] = CONTENT
    return vm(f"{web.url}/web.qcow2", **({"image_sha256": SHA256} | more))


def run(world: World, *jobs: Any) -> dict[str, JobState]:
    engine = Engine(jobs, HANDOFF, world, StateFolder(world.path(STATE_FOLDER)))
    return {state.job: state for state in engine.run()}


def test_fetched_known_and_named(world: World, web: Mirror) -> None:
    one = offered(web)
    states = run(world, ImageJob(one))
    assert states["image-web"].status is Status.done, states
    there = world.path(PLACE)
    assert (there.read_bytes() == CONTENT, there.stat().st_mode & 0o777) == (True, 0o600)
    assert f"{len(CONTENT)} of {len(CONTENT)} bytes are here" in states["image-web"].log
    # Not a second time, and another guest of the same image costs no download either.
    ImageJob(one).run(world)
    twin = one.model_copy(update={"name": "twin", "image": PLACE.replace("web", "twin")})
    assert run(world, ImageJob(twin))["image-twin"].status is Status.done
    assert [path for path, _ in web.asked] == ["/web.qcow2"]
    assert world.path(twin.image).stat().st_ino == there.stat().st_ino


def test_a_broken_connection_is_gone_on_with(world: World, web: Mirror) -> None:
    one = offered(web)
    web.cuts = [1 << 20, 1 << 19]
    assert run(world, ImageJob(one))["image-web"].status is Status.done
    assert [ranged for _, ranged in web.asked] == [
        None,
        f"bytes={1 << 20}-",
        f"bytes={(1 << 20) + (1 << 19)}-",
    ]
    assert world.path(PLACE).read_bytes() == CONTENT


class PowerCutError(BaseException):
    """Nothing after it happens."""


def cut(*_given: object, **_more: object) -> None:
    """The power goes."""
    raise PowerCutError


@pytest.mark.parametrize("moment", ["halfway", "fetched", "noted", "linked"])
def test_a_power_cut_loses_nothing(
    world: World, web: Mirror, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    one = offered(web)

    with monkeypatch.context() as patch:
        match moment:
            case "halfway":
                web.cuts = [1 << 20]
                patch.setattr("installer.download.time.sleep", cut)
            case "fetched":
                patch.setattr(fetched, "write_atomically", cut)
            case "noted":
                patch.setattr("hv.firstrun.fetched.os.link", cut)
            case "linked":
                patch.setattr(fetched, "sync_folder", cut)
        with pytest.raises(PowerCutError):
            ImageJob(one).run(world)
    assert world.path(PLACE).exists() is (moment == "linked")
    job, warnings = ImageJob(one), replace(world, journal=Journal())
    job.run(warnings)
    job.verify(warnings)
    assert (world.path(PLACE).read_bytes() == CONTENT, warnings.journal.warnings) == (True, [])
    ranges = [None, f"bytes={1 << 20}-"] if moment == "halfway" else [None]
    assert [ranged for _, ranged in web.asked] == ranges


def test_a_part_that_the_power_cut_damaged_is_fetched_anew(world: World, web: Mirror) -> None:
    one = offered(web)
    web.cuts = [1 << 20]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr("installer.download.time.sleep", cut)
        ImageJob(one).run(world)
    (part,) = world.path(wanted.FETCHED).rglob(".*.partial")
    part.write_bytes(b"\0" * part.stat().st_size)
    state = run(world, ImageJob(one))["image-web"]
    assert (state.status, state.attempts) == (Status.done, 2)
    assert world.path(PLACE).read_bytes() == CONTENT


def test_another_image_than_asked_for_is_not_kept(world: World, web: Mirror) -> None:
    state = run(world, ImageJob(offered(web, image_sha256="0" * 64)))["image-web"]
    assert state.error and state.error.what == "The image of VM web is not the one that was asked for."
    assert (state.status, state.attempts, SHA256 in state.error.why) == (Status.failed, 1, True)
    assert "hv firstrun retry image-web" in state.error.remedy
    assert not world.path(PLACE).exists() and not list(world.path(wanted.FETCHED).rglob("*.qcow2"))


def test_a_server_that_is_gone_holds_up_its_own_guest_alone(world: World, web: Mirror) -> None:
    gone, there = (
        vm("http://127.0.0.1:9/x.qcow2", image_sha256=SHA256),
        offered(web, name="mail", image=PLACE + "2"),
    )
    guests = [VmJob("straw", each) for each in (gone, there)]
    straws = [
        Straw(each.name, tuple(name for name in each.requires if name.startswith("image-")))
        for each in guests
    ]
    states = run(world, *image_jobs((gone, there)), *straws)
    assert {name: str(state.status) for name, state in states.items()} == {
        "image-web": "failed",
        "image-mail": "done",
        "vm-web": "waiting",
        "vm-mail": "done",
    }
    assert (states["image-web"].attempts, states["vm-web"].reason) == (TRIES, "needs image-web")
    # Later it is back, or somebody brings it.
    world.path(PLACE).write_bytes(CONTENT)
    again = run(world, *image_jobs((gone, there)), *straws)
    assert again["vm-web"].status is Status.done
    assert "was put there by hand" in again["image-web"].warnings[0]


@pytest.fixture
def ours(web: Mirror, vendor: Signer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Template]:
    """A template of our own, signed by ourselves; keys come by https in templates, and this server has none."""
    one = made(web, vendor)
    monkeypatch.setattr(wanted, "template", lambda name, *_folders: {"mine": one}[name])
    yield one


@pytest.mark.usefixtures("ours")
def test_a_template_is_known_by_its_signature(world: World, web: Mirror) -> None:
    state = run(world, ImageJob(vm("template:mine")))["image-web"]
    assert state.status is Status.done, state
    assert any("signed by" in line for line in state.log)
    assert world.path(PLACE).read_bytes() == CONTENT
    assert "/r/SHA256SUMS.gpg" in {path for path, _ in web.asked}


@pytest.mark.usefixtures("ours")
def test_a_template_that_somebody_else_signed_is_refused(world: World, web: Mirror, other: Signer) -> None:
    web.files["/r/SHA256SUMS.gpg"] = other.detached(web.files["/r/SHA256SUMS"])
    state = run(world, ImageJob(vm("template:mine")))["image-web"]
    assert (state.status, state.error and "not signed by its vendor" in state.error.what) == (
        Status.failed,
        True,
    )
    assert not world.path(PLACE).exists()


@pytest.mark.usefixtures("ours")
def test_another_format_is_refused_before_anything_is_fetched(world: World, web: Mirror) -> None:
    with pytest.raises(HyperError, match="another format") as caught:
        ImageJob(vm("template:mine", image_format="raw")).run(world)
    assert not isinstance(caught.value, TransientError) and not web.asked


def test_a_template_that_nobody_signed_is_refused(
    world: World, web: Mirror, vendor: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(web, vendor)
    assert one.trust is not None
    trust = one.trust.model_copy(update={"kind": Trust.https_sums})
    monkeypatch.setattr(wanted, "template", lambda *_: one.model_copy(update={"trust": trust}))
    with pytest.raises(HyperError, match="has no signature") as caught:
        ImageJob(vm("template:mine")).run(world)
    assert "image_sha256" in caught.value.remedy and not web.asked


def test_where_nothing_is_to_be_fetched_it_says_so(world: World) -> None:
    copied = vm("").model_copy(update={"fetch": None})
    for vms, reason in (
        ((), "the answers name no guest"),
        ((copied,), "every image came with the installation"),
    ):
        handoff = HANDOFF.model_copy(update={"vms": vms})
        (job,) = (each for each in jobs_of(handoff) if isinstance(each, ImageJob))
        assert (job.name, job.applies(handoff)) == ("images", reason)
    engine = Engine((job,), handoff, world, StateFolder(world.path(STATE_FOLDER)))
    assert engine.run()[0].status is Status.skipped


VM = {"name": "web", "image_sha256": SHA256}


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"image": "https://example.org/web.qcow2", "image_sha256": None}, "image_sha256", "is missing"),
        ({"image": "https://a:b@example.org/web.qcow2"}, "image", "a name or a password"),
        ({"image": "https:///web.qcow2"}, "image", "no URL that can be fetched"),
        ({"image": "template:"}, "image", "names no template"),
        ({"image": "ftp://example.org/web.qcow2"}, "image", "a URL nor an absolute path"),
    ],
)
def test_answers_that_could_not_be_fetched_are_refused(
    given: dict[str, Any], field: str, message: str
) -> None:
    problems = list(check(answers(first_run={"vms": [VM | given]})))
    assert [(problem.path[-1], message in problem.wrong) for problem in problems] == [(field, True)], (
        problems
    )


def test_the_plan_copies_nothing_and_tells_the_host() -> None:
    vms = [
        VM | {"image": "https://example.org/web.qcow2"},
        {"name": "mail", "image": "template:debian"},
    ]
    network = {"proxy": "http://proxy:3128", "no_proxy": ["example.net"]}
    plan = make_plan(machine(), answers(first_run={"vms": vms}, network=network), medium())
    copied = [each for step in plan.steps for each in step.actions if isinstance(each, CopyFile)]
    assert not [each for each in copied if "images" in each.path]
    web, mail = plan.handoff.vms
    assert (web.image, web.fetch and web.fetch.source) == (PLACE, "https://example.org/web.qcow2")
    assert mail.fetch == HandoffFetch(
        source="template:debian", proxy="http://proxy:3128", no_proxy=("example.net",)
    )
    assert Handoff.model_validate_json(plan.handoff.model_dump_json()) == plan.handoff
