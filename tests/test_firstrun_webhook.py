"""Job webhook: a real server is told once, signed; one that is gone holds nothing up; power cuts bring the same event again."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hv.firstrun import webhook as module
from hv.firstrun.catalogue import jobs_of
from hv.firstrun.certificate import AUTHORITY, CertificateJob, fingerprint
from hv.firstrun.engine import Engine
from hv.firstrun.state import STATE_FOLDER, Failure, JobState, StateFolder, Status
from hv.firstrun.webhook import EVENT, WebhookJob, told
from hv.firstrun.world import TransientError, World, write_atomically
from installer import web
from installer.answers.model import Webhook
from installer.execute.log import NoLog
from installer.execute.runner import Runner
from installer.handoff import Handoff, HandoffWebhook
from installer.plan.planner import make_plan
from installer.webhooks.event import KIND, SIGNATURE, Event, is_signed
from tests.plan_cases import answers, machine, medium
from tests.test_firstrun_engine import HANDOFF, Time
from tests.web_servers import Answer, serving

SECRET = b"a-key-for-signing"
KEY = "/var/lib/hyper-nixos/secrets/webhooks/0"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0.1)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    runner = Runner(NoLog(), os.environ["PATH"])
    made = World(programs=runner, root=tmp_path, probe=lambda _: machine())
    made.path(KEY).parent.mkdir(parents=True)
    made.path(KEY).write_bytes(SECRET + b"\n")
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("x\n")
    return made


def job(*urls: str, **more: Any) -> WebhookJob:
    hooks = tuple(HandoffWebhook(url=url, secret_file=KEY, **more) for url in urls)
    return WebhookJob("kvm1", hooks, ("backup", "vm-web"))


def test_a_server_is_told_once_signed_and_in_full(world: World) -> None:
    CertificateJob("kvm1").run(world)
    states = StateFolder(world.path(STATE_FOLDER))
    states.write(JobState(job="backup", status=Status.done))
    failure = Failure(what="It broke.", why="a cause", remedy="Mend it.")
    states.write(JobState(job="vm-web", status=Status.failed, error=failure))
    with serving(lambda _: Answer(204)) as server:
        telling = job(f"{server.url}/events")
        telling.run(world)
        telling.verify(world)
        telling.run(world)
    (asked,) = server.requests
    event = Event.model_validate_json(asked.body)
    assert (event.event, event.host, asked.headers[KIND.title()]) == ("first-run", "kvm1", "first-run")
    assert is_signed(asked.body, SECRET, asked.headers[SIGNATURE.title()], datetime.now(UTC).timestamp())
    assert [(each.name, each.state) for each in event.jobs] == [("backup", "done"), ("vm-web", "failed")]
    assert event.jobs[1].error and event.jobs[1].error.remedy == "Mend it."
    assert event.authority == fingerprint(world.path(AUTHORITY))
    assert SECRET not in asked.body


def test_a_server_that_is_gone_costs_only_its_own_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with serving(lambda _: Answer(204)) as server:
        telling = job("http://127.0.0.1:9/", f"{server.url}/events")
        with pytest.raises(TransientError, match="Not every server"):
            telling.run(world)
        assert (told(world, 0).exists(), told(world, 1).exists()) == (False, True)
        again = replace(telling, webhooks=(HandoffWebhook(url=f"{server.url}/late"), *telling.webhooks[1:]))
        again.run(world)
        again.verify(world)
    bodies = [Event.model_validate_json(asked.body) for asked in server.requests]
    assert len(bodies) == 2, "who took it is not told again"
    assert len({event.id for event in bodies}) == 1


def test_one_that_refuses_is_said(world: World) -> None:
    with serving(lambda _: Answer(403)) as server, pytest.raises(TransientError) as caught:
        job(f"{server.url}/").run(world)
    assert "HTTP state 403" in caught.value.why


class PowerCutError(BaseException):
    """Nothing after it happens."""


def test_a_power_cut_brings_the_same_event_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: Answer(204)) as server:
        telling = job(f"{server.url}/events")

        def cut(path: Path, text: str, mode: int = 0o644) -> None:
            if path == told(world, 0):
                raise PowerCutError
            write_atomically(path, text, mode)

        monkeypatch.setattr(module, "write_atomically", cut)
        with pytest.raises(PowerCutError):
            telling.run(world)
        monkeypatch.setattr(module, "write_atomically", write_atomically)
        telling.run(world)
        telling.verify(world)
    ids = {json.loads(asked.body)["id"] for asked in server.requests}
    assert (len(server.requests), len(ids)) == (2, 1)
    world.path(EVENT).write_text("{")  # damaged: nothing to send any more, and nothing breaks
    telling.run(world)


def test_nothing_waits_for_it_and_without_servers_it_says_so(world: World) -> None:
    jobs = jobs_of(HANDOFF)
    assert jobs[-1].name == "webhook" and not any("webhook" in each.requires for each in jobs)
    states = StateFolder(world.path(STATE_FOLDER))
    engine = Engine((jobs[-1],), HANDOFF, replace(world, clock=Time().clock()), states)
    (state,) = engine.run()
    assert (state.status, state.reason) == (Status.skipped, "the answers name no server that is told")


def test_the_plan_leaves_what_the_host_needs() -> None:
    hooks = [
        Webhook.model_validate({"url": "https://a/", "secret": {"file": "/run/secrets/hook"}}),
        Webhook.model_validate({"url": "https://b/", "events": ["failed"]}),
    ]
    plan = make_plan(machine(), answers(webhooks=hooks), medium())
    assert [each.url for each in plan.handoff.webhooks] == ["https://a/"]
    (step,) = (each for each in plan.steps if each.id == "webhook-secrets")
    assert step.actions[-1].path == f"/mnt{KEY}"  # type: ignore[union-attr]
    assert plan.handoff.webhooks[0].secret_file == KEY
    again = Handoff.model_validate_json(plan.handoff.model_dump_json())
    assert again.webhooks == plan.handoff.webhooks
