"""Webhooks against real servers: good ones, slow ones, dead ones, and ones that refuse."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from installer import web
from installer.answers.check import check
from installer.answers.model import Answers, Webhook
from installer.errors import Exit, HyperError
from installer.execute.progress import Moment
from installer.plan.planner import make_plan
from installer.probe.root import LiveRoot
from installer.web import Client
from installer.webhooks import WebhookWatcher, make_client, sender, watcher
from installer.webhooks.event import KIND, SIGNATURE, BundleTold, Event, is_signed, sign
from tests.plan_cases import answers, machine, medium
from tests.web_servers import Answer, Authority, Request, make_authority, serving

SECRET = b"webhook-secret-that-nobody-sees"
WAITING = 2.0
"""Seconds: less than any wait for a server in all these steps would take, more than a busy machine needs for them."""
BUSY = 30.0
"""Seconds in which a busy machine ends what should take one or two."""
ERROR = HyperError("it broke", why="a cause", remedy="mend it", code=Exit.step)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(sender, "STEP_PATIENCE", 0.3)
    monkeypatch.setattr(sender, "PATIENCE", 0.6)
    monkeypatch.setattr(watcher, "PATIENCE_AT_END", 2.0)


def made(tmp_path: Path, *hooks: dict[str, Any], ca: bytes | None = None) -> WebhookWatcher:
    (tmp_path / "root/sys/class/dmi/id").mkdir(parents=True)
    (tmp_path / "root/sys/class/dmi/id/product_serial").write_text("ABC123\n")
    given = answers(webhooks=[Webhook.model_validate(hook) for hook in hooks])
    return WebhookWatcher(given, Client(ca=ca, proxies={}), LiveRoot(str(tmp_path / "root")))


def follow(watching: WebhookWatcher, steps: int = 3) -> None:
    """Everything up to the end of an installation."""
    plan = make_plan(machine(), answers(), medium())
    watching.planned(machine(), plan, resumed=False)
    watching.begins(None)  # type: ignore[arg-type]
    for number, step in enumerate(plan.steps[:steps], start=1):
        for state in ("started", "verified"):
            watching.step(Moment(number, step, 10.0 * number), len(plan.steps), state)


def timed(do: Callable[[], None]) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


def test_events_arrive_in_order_signed_and_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing fails here, so nothing is given up, however busy the machine is.
    for module, name in ((sender, "STEP_PATIENCE"), (sender, "PATIENCE"), (watcher, "PATIENCE_AT_END")):
        monkeypatch.setattr(module, name, 120.0)
    authority: Authority = make_authority(tmp_path)
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    with serving(lambda _: Answer(204), authority) as server:
        hook = {"url": f"{server.url}/events", "secret": {"file": str(tmp_path / "secret")}}
        watching = made(tmp_path, hook, ca=authority.ca)
        follow(watching)
        watching.failed(ERROR, BundleTold(file="/run/x", addresses=("root@192.0.2.5:/run/x",)))
    assert watching.notes() == ()
    events = [Event.model_validate_json(asked.body) for asked in server.requests]
    assert [event.event for event in events] == ["started", *["step"] * 6, "failed"]
    assert len({event.id for event in events}) == 8
    assert len({event.installation for event in events}) == 1
    assert {event.identity.serial for event in events} == {"ABC123"}
    assert events[2].step is not None
    assert (events[2].step.number, events[2].step.state) == (1, "verified")
    assert events[-1].error is not None
    assert (events[-1].error.code, events[-1].error.what) == (Exit.step, "it broke")
    assert events[-1].bundle == BundleTold(file="/run/x", addresses=("root@192.0.2.5:/run/x",))
    for asked in server.requests:
        assert asked.headers["Content-Type"] == "application/json"
        assert asked.headers[KIND.title()] == json.loads(asked.body)["event"]
        assert is_signed(asked.body, SECRET, asked.headers[SIGNATURE.title()], time.time())
        assert SECRET not in asked.body
        assert SECRET.decode() not in str(asked.headers)


def test_signature() -> None:
    header = sign(b"body", b"key", 1_000_000_000)
    # echo -n 1000000000.body | openssl dgst -sha256 -hmac key
    assert header == "t=1000000000,v1=caf2fe2beb96b47827a2e1d4549fc83b11c4b3d916cfed24d61aac0905b7bd20"
    assert is_signed(b"body", b"key", header, 1_000_000_000)
    assert not is_signed(b"body!", b"key", header, 1_000_000_000)
    assert not is_signed(b"body", b"other", header, 1_000_000_000)
    assert not is_signed(b"body", b"key", header, 1_000_010_000), "an old one is taken"
    assert not is_signed(b"body", b"key", header.replace("t=1", "t=2"), 2_000_000_000)
    for broken in ("", "t=,v1=", "v1=00", "t=1000000000", "t=" + "9" * 5000):
        assert not is_signed(b"body", b"key", broken, 1_000_000_000)


def test_only_wanted_events(tmp_path: Path) -> None:
    with serving(lambda _: Answer(200)) as server:
        watching = made(tmp_path, {"url": server.url, "events": ["failed"]})
        follow(watching)
        watching.failed(ERROR, None)
    assert [json.loads(asked.body)["event"] for asked in server.requests] == ["failed"]
    assert SIGNATURE.title() not in server.requests[0].headers


def test_dead_server_costs_nothing_and_is_told_of(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        watching = made(tmp_path, {"url": f"http://127.0.0.1:{nobody.getsockname()[1]}/?key=hidden"})
        assert timed(lambda: follow(watching, 10)) < WAITING, "the installation waits for a webhook"
        assert timed(lambda: watching.failed(ERROR, None)) < BUSY
    notes = watching.notes()
    assert any("was not delivered" in note for note in notes)
    assert "hidden" not in str(notes)


def test_slow_server_costs_nothing(tmp_path: Path) -> None:
    def slow(_request: Request) -> Answer:
        time.sleep(0.4)
        return Answer(200)

    with serving(slow) as server:
        watching = made(tmp_path, {"url": server.url})
        assert timed(lambda: follow(watching, 10)) < WAITING
        assert timed(lambda: watching.failed(ERROR, None)) < BUSY


def test_refusing_server_is_not_asked_again(tmp_path: Path) -> None:
    with serving(lambda _: Answer(403)) as server:
        watching = made(tmp_path, {"url": server.url})
        follow(watching, 1)
        watching.failed(ERROR, None)
        assert len(server.requests) == 4
    assert "HTTP state 403" in watching.notes()[0]


def test_server_that_comes_back_hears_the_end(tmp_path: Path) -> None:
    """It was down for all the steps; what it missed is counted, and the end is told."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    watching = made(tmp_path, {"url": f"http://127.0.0.1:{port}/"})
    follow(watching)
    time.sleep(0.8)
    with serving(lambda _: Answer(200), port=port) as server:
        watching.failed(ERROR, None)
    told = [json.loads(asked.body) for asked in server.requests]
    assert told[-1]["event"] == "failed"
    assert sum(event.get("missed", 0) for event in told) + len(told) - 1 == 6


def test_one_bad_server_does_not_keep_others(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(lambda _: Answer(200)) as server:
        mute = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        watching = made(tmp_path, *[mute] * 4, {"url": server.url}, *[mute] * 4)
        follow(watching)
        assert timed(lambda: watching.failed(ERROR, None)) < 12, "they are waited for one after another"
        assert len(server.requests) == 8


def test_proxy_and_certificates_are_the_answers() -> None:
    own = answers(
        network={"proxy": "http://p:1", "no_proxy": ["localhost"]}, system={"ca_certificates": ["PEM"]}
    )
    client = make_client(own, "http://other:1")
    assert (client.ca, dict(client.proxies)) == (
        b"PEM",
        {"http": "http://p:1", "https": "http://p:1", "no": "localhost"},
    )
    assert make_client(answers(), "http://other:1").proxies["https"] == "http://other:1"
    assert make_client(answers()).ca is None


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_missing_secret_is_refused_before_anything(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(HyperError, match="secret of a webhook") as caught:
        made(tmp_path, {"url": "https://h/", "secret": {"file": str(tmp_path / "secret")}})
    assert caught.value.code is Exit.answers


@pytest.mark.parametrize(
    ("hook", "wrong"),
    [
        ({"url": "https://user:pw@h/"}, "password"),
        ({"url": "https://h/#x"}, "no URL"),
        ({"url": "http://h/", "certificate": "0" * 64}, "TLS"),
    ],
)
def test_answers_are_checked(hook: dict[str, Any], wrong: str) -> None:
    given: Answers = answers(webhooks=[Webhook.model_validate(hook)])
    (problem,) = (each for each in check(given) if each.path[0] == "webhooks")
    assert wrong in problem.wrong
    assert "pw" not in str(problem.value)
