"""`hv answers serve`: who gets what, once or always; events; the page; SQLite and PostgreSQL; and a small rollout."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
import uvicorn

from installer.commands.answers import main
from installer.errors import Exit, HyperError
from installer.execute.log import Log, Redactor
from installer.execute.runner import Runner
from installer.fetch import Fetched, World, fetch
from installer.fetch.package import unpack
from installer.probe.identity import Identity
from installer.probe.root import LiveRoot
from installer.serve.app import Served, make_app
from installer.serve.fleet import Chooser, Fleet, Match, Refusal, fits, read_fleet
from installer.serve.run import Listen, require_tls
from installer.serve.state import KEPT, Claimant, State
from installer.web import Client, Place
from installer.webhooks.event import SIGNATURE, ErrorTold, Event, JobTold, StepTold, sign
from tests.bench import rollout
from tests.plan_cases import machine
from tests.web_servers import Authority, make_authority

FACTS = json.loads(machine().model_dump_json())
ANNA = Identity(
    serial="S1", uuid="4c4c4544-0042-3510-8047-b4c04f4a3332", macs=("02:00:00:00:00:01",), boot="b1"
)
BEN = Identity(serial="S2", macs=("02:00:00:00:00:02", "02:00:00:00:00:03"), boot="b2")


# ---- choosing ----


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"serial": "S1"}, True),
        ({"serial": "S2"}, False),
        ({"uuid": "4C4C4544-0042-3510-8047-B4C04F4A3332"}, True),
        ({"mac": "02:00:00:00:00:01"}, True),
        ({"serial": "S1", "mac": "02:00:00:00:00:02"}, False),
        ({"facts": {"version": 1}}, True),
        ({"facts": {"version": True}}, False),
        ({"facts": {"version": "1"}}, False),
        ({"facts": {"firmware.kind": "ue*"}}, FACTS["firmware"]["kind"] == "uefi"),
        ({"facts": {"disks.serial": FACTS["disks"][0]["serial"]}}, True),
        ({"facts": {"disks.serial": "*", "disks.nothing": "*"}}, False),
        ({"facts": {"nothing": "*"}}, False),
    ],
)
def test_conditions(match: dict[str, Any], holds: bool) -> None:
    assert fits(Match.model_validate(match), ANNA, FACTS) is holds


def test_a_machine_without_serial_fits_no_serial() -> None:
    assert not fits(Match(serial="S1"), Identity(), FACTS)
    assert not fits(Match(mac="02:00:00:00:00:01"), Identity(), FACTS)


def fleet_of(*machines: dict[str, Any]) -> Fleet:
    given = [{"name": f"m{n}", "answers": "a.toml", **each} for n, each in enumerate(machines)]
    return Fleet.model_validate({"version": 1, "machine": given})


def test_exactly_one_entry_must_fit() -> None:
    chooser = Chooser(
        fleet_of(
            {"match": {"serial": "S1"}},
            {"match": {"mac": "02:00:00:00:00:03"}},
            {"match": {"facts": {"version": 1}, "serial": "S3"}},
        )
    )
    assert getattr(chooser.choose(ANNA, FACTS), "name", None) == "m0"
    assert getattr(chooser.choose(BEN, FACTS), "name", None) == "m1"
    nobody = chooser.choose(Identity(serial="S9"), FACTS)
    assert isinstance(nobody, Refusal)
    assert nobody.status == 404
    twice = Chooser(fleet_of({"match": {"serial": "S1"}}, {"match": {"facts": {"version": 1}}})).choose(
        ANNA, FACTS
    )
    assert isinstance(twice, Refusal)
    assert twice.status == 409


# ---- the folder ----

ENTRY = {"name": "anna", "answers": "answers.toml", "match": {"serial": "S1"}}


def folder_with(tmp_path: Path, *machines: dict[str, Any], **top: Any) -> Path:
    """A folder with a fleet; each entry's secrets hold its own name."""
    folder = tmp_path / "fleet"
    folder.mkdir(exist_ok=True)
    (folder / "answers.toml").write_text(rollout.ANSWERS)
    lines = ["version = 1", *(f"{key} = {toml(value)}" for key, value in top.items())]
    for each in machines:
        lines += ["[[machine]]", *(f"{key} = {toml(value)}" for key, value in each.items())]
        if "secrets" in each:
            (folder / each["secrets"]).mkdir(exist_ok=True)
            (folder / each["secrets"] / "disk").write_bytes(f"secret of {each['name']}".encode())
    (folder / "fleet.toml").write_text("\n".join(lines) + "\n")
    return folder


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ENTRY | {"match": {}}, "no condition"),
        (ENTRY | {"answers": "../answers.toml"}, "below the folder"),
        (ENTRY | {"answers": "/etc/shadow"}, "below the folder"),
        (ENTRY | {"answers": "none.toml"}, "No such file"),
        (ENTRY | {"secret": "x"}, "secret"),
        (ENTRY | {"token_sha256": "abc"}, "token_sha256"),
    ],
)
def test_fleet_that_is_wrong(tmp_path: Path, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperError) as caught:
        read_fleet(folder_with(tmp_path, entry))
    assert caught.value.code is Exit.answers
    assert words in f"{caught.value.what} {caught.value.why}"


def test_fleet_with_broken_answers_and_names_twice(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ENTRY, ENTRY)
    with pytest.raises(HyperError, match="cannot be read") as caught:
        read_fleet(folder)
    assert "twice" in caught.value.why
    folder = folder_with(tmp_path, ENTRY)
    (folder / "answers.toml").write_text("version = 1\n")
    with pytest.raises(HyperError, match=r"answers\.toml"):
        read_fleet(folder)


# ---- the state, on both databases ----


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a private PostgreSQL on a socket; nobody else reaches it."""
    folder = Path("/tmp") / f"hv-pg-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    shutil.chown(folder, "postgres", "postgres")

    def run(*argv: str) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *argv], check=True, capture_output=True, cwd="/")

    run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "hv", "--no-sync")
    server = subprocess.Popen(
        ["runuser", "-u", "postgres", "--", "postgres", "-D", folder / "data", "-k", folder, "-h", ""],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    deadline = time.monotonic() + 60
    while not (folder / ".s.PGSQL.5432").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"postgresql+psycopg://hv@/postgres?host={folder}"
    subprocess.run(
        ["runuser", "-u", "postgres", "--", "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"],
        check=False,
        capture_output=True,
        cwd="/",
    )
    server.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.sqlite'}"
    found: str = request.getfixturevalue("postgresql")
    state = State(found)  # as if it were new
    with state._writing() as connection:
        for table in ("handouts", "events", "machines"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    state.close()
    return found


@pytest.fixture
def state(url: str) -> Iterator[State]:
    made = State(url)
    yield made
    made.close()


def claimant(who: str, boot: str = "b1") -> Claimant:
    return Claimant(who, boot, f"serial of {who}")


def event(identity: Identity, kind: str, installation: str = "i1", **more: Any) -> Event:
    given = {"id": str(uuid.uuid4()), "time": datetime.now(UTC), "installation": installation, "host": "h"}
    return Event.model_validate({**given, "event": kind, "identity": identity, **more})


def test_once_is_once(state: State) -> None:
    assert state.claim("m", claimant("a"), once=True) is None
    assert state.claim("m", claimant("a"), once=True) is None, "asking again within a boot is the same"
    assert "another" in str(state.claim("m", claimant("b"), once=True))
    assert state.claim("m", claimant("a", "b2"), once=True) is None, "it was not installed: it may try again"
    assert state.handouts() == {"m": ("a", 3)}
    assert state.forget("m")
    assert not state.forget("m")
    assert state.claim("m", claimant("b"), once=True) is None


def test_once_ends_with_success(state: State) -> None:
    known = Claimant(ANNA.machine(), ANNA.boot, ANNA.serial)
    assert state.claim("m", known, once=True) is None
    state.record(event(ANNA, "succeeded", seconds=60))
    assert state.claim("m", known, once=True) is None, "a retry within the same boot"
    assert "was installed" in str(state.claim("m", replace(known, boot="b9"), once=True))


def test_always_is_always(state: State) -> None:
    for who in ("a", "b", "a"):
        assert state.claim("m", claimant(who), once=False) is None


def test_of_many_at_once_one_wins(url: str) -> None:
    """Through several states, as several servers have them."""
    states = [State(url) for _ in range(4)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: states[n % 4].claim("m", claimant(f"c{n}"), once=True), range(64)))
    assert found.count(None) == 1
    for each in states:
        each.close()


def test_what_the_installed_host_tells_is_shown(state: State) -> None:
    state.record(event(ANNA, "succeeded", seconds=60))
    jobs = (JobTold(name="storage", state="done"), JobTold(name="network", state="failed"))
    for number, told, expected in (
        (1, jobs, "first run: not done: network"),
        (2, jobs[:1], "first run done"),
    ):
        state.record(event(ANNA, "first-run", f"run{number}", jobs=told))
        (row,) = state.machines()
        assert (row["state"], row["detail"]) == ("installed", expected)


def test_events_are_taken_once_and_in_any_order(state: State) -> None:
    first = event(ANNA, "started")
    assert state.record(first)
    assert not state.record(first)
    step = StepTold(id="x", summary="do x", number=2, of=9, state="verified")
    late = event(ANNA, "step", step=step, percent=20.0)
    state.record(event(ANNA, "step", step=step, percent=20.0))
    (row,) = state.machines()
    assert (row["state"], row["detail"], row["percent"]) == ("installing", "2/9 do x", 20.0)
    error = ErrorTold(what="it broke", why="a cause", remedy="mend it", code=9)
    state.record(event(ANNA, "failed", error=error))
    assert state.record(late), "a step that comes after the end"
    assert [row["state"] for row in state.machines()] == ["failed"]
    state.record(event(ANNA, "started", "i2"))
    assert state.counts() == {"installing": 1}
    assert state.machines(state="failed") == []


def test_old_events_are_dropped(state: State) -> None:
    state.record(event(ANNA, "started"))
    assert state.tidy() == 0
    with state._writing() as connection:
        import sqlalchemy as sql

        from installer.serve.state import EVENTS

        connection.execute(sql.update(EVENTS).values(received=datetime.now(UTC) - 2 * KEPT))
    assert state.tidy() == 1


@pytest.mark.parametrize(
    "bad", ["nonsense", "mysql://h/x", "postgresql+psycopg://hv:pass@h/x", "sqlite:////proc/none/x.db"]
)
def test_states_that_cannot_be_used(bad: str) -> None:
    with pytest.raises(HyperError) as caught:
        State(bad)
    assert "pass@" not in str(caught.value)


# ---- HTTP ----


def question(identity: Identity) -> dict[str, Any]:
    return {"version": 1, "hyper_nixos": "0", "identity": identity.model_dump(), "facts": FACTS}


class Browser:
    """Asks a server, one connection a request."""

    def __init__(self, base: str) -> None:
        self._base = base

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> "Told":
        with urllib3.PoolManager() as pool:
            reply = pool.request(method, self._base + path, body=body, headers=headers, retries=False)
            return Told(reply.status, reply.data, dict(reply.headers))

    def get(self, path: str) -> "Told":
        return self._ask("GET", path, None, {})

    def post(
        self,
        path: str,
        *,
        content: bytes = b"",
        json_body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> "Told":
        body = content if json_body is None else json.dumps(json_body).encode()
        return self._ask("POST", path, body, headers or {})


@dataclass(frozen=True)
class Told:
    status_code: int
    content: bytes
    headers: dict[str, str]

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


@contextlib.contextmanager
def browsing(served: Served) -> Iterator[Browser]:
    """The application on a real uvicorn."""
    server = uvicorn.Server(uvicorn.Config(make_app(served), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Browser(f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def served(tmp_path: Path, url: str) -> Served:
    (tmp_path / "webhook").write_bytes(b"key\n")
    folder = folder_with(
        tmp_path,
        ENTRY | {"secrets": "anna"},
        {"name": "ben", "answers": "answers.toml", "secrets": "ben", "match": {"mac": "02:00:00:00:00:02"}}
        | {"token_sha256": hashlib.sha256(b"bens-token").hexdigest()},
        {"name": "plain", "answers": "answers.toml", "match": {"serial": "S3"}, "hand_out": "always"},
        webhook_secret={"file": str(tmp_path / "webhook")},
    )
    return Served(folder, State(url))


def test_each_gets_its_own(served: Served) -> None:
    with browsing(served) as client:
        told = client.post("/v1/answers", json_body=question(ANNA))
        package = unpack(told.content, "x")
        assert (told.status_code, dict(package.secrets)) == (200, {"disk": b"secret of anna"})
        assert told.headers["cache-control"] == "no-store"
        assert (
            client.post("/v1/answers", json_body=question(Identity(serial="S3"))).content
            == rollout.ANSWERS.encode()
        )
        assert client.post("/v1/answers", json_body=question(Identity(serial="S9"))).status_code == 404
        impostor = question(ANNA.model_copy(update={"macs": ("02:00:00:00:00:09",)}))
        refused = client.post("/v1/answers", json_body=impostor)
        assert refused.status_code == 410
        assert b"secret of" not in refused.content


def test_token(served: Served) -> None:
    with browsing(served) as client:
        for header in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic bens-token"}):
            assert client.post("/v1/answers", json_body=question(BEN), headers=header).status_code == 403
        assert served.state.handouts() == {}
        header = {"Authorization": "Bearer bens-token"}
        assert client.post("/v1/answers", json_body=question(BEN), headers=header).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1}',
        b'{"version": 1, "identity": 5, "facts": {}}',
        b"\xff",
    ],
)
def test_bad_questions(served: Served, body: bytes) -> None:
    with browsing(served) as client:
        assert client.post("/v1/answers", content=body).status_code == 400


def test_too_much(served: Served) -> None:
    with browsing(served) as client:
        for path in ("/v1/answers", "/v1/events"):
            assert client.post(path, content=b" " * ((4 << 20) + 1)).status_code == 413


def test_events_must_be_signed(served: Served) -> None:
    body = event(ANNA, "started").model_dump_json().encode()
    with browsing(served) as client:
        good = {SIGNATURE: sign(body, b"key", int(time.time()))}
        for header in (
            {},
            {SIGNATURE: sign(body, b"other", int(time.time()))},
            {SIGNATURE: sign(body, b"key", 1)},
        ):
            assert client.post("/v1/events", content=body, headers=header).status_code == 403
        assert served.state.counts() == {}
        assert client.post("/v1/events", content=body, headers=good).status_code == 204
        assert (
            client.post(
                "/v1/events", content=b"{}", headers={SIGNATURE: sign(b"{}", b"key", int(time.time()))}
            ).status_code
            == 400
        )
    assert served.state.counts() == {"installing": 1}


def test_page_and_json(served: Served) -> None:
    with browsing(served) as client:
        client.post("/v1/answers", json_body=question(ANNA))
        evil = event(
            BEN,
            "failed",
            host="<script>alert(1)</script>",
            error=ErrorTold(what="<b>", why="w", remedy="r", code=9),
        )
        served.state.record(evil)
        shown = client.get("/v1/fleet").json()
        assert (shown["version"], shown["entries"], shown["counts"]) == (1, 3, {"answered": 1, "failed": 1})
        assert [row["name"] for row in client.get("/v1/fleet?state=failed").json()["machines"]] == [
            evil.host
        ]
        text = client.get("/").text
        assert "anna" in text
        assert "<script>" not in text
        assert "&lt;script&gt;" in text
        assert "secret of" not in text + json.dumps(shown)
        assert "anna" not in client.get("/?state=failed").text
        assert client.get("/health").text == "ok\n"
        assert client.get("/?state=odd").status_code == 422


def test_changed_fleet_is_read_and_a_broken_one_is_not_taken(served: Served, tmp_path: Path) -> None:
    with browsing(served) as client:
        ask = question(Identity(serial="S7"))
        assert client.post("/v1/answers", json_body=ask).status_code == 404
        folder_with(tmp_path, ENTRY | {"match": {"serial": "S7"}})
        os.utime(served.folder / "fleet.toml", ns=(1, 1))
        assert client.post("/v1/answers", json_body=ask).status_code == 200
        (served.folder / "fleet.toml").write_text("broken")
        assert client.post("/v1/answers", json_body=ask).status_code == 200


# ---- the command ----


def test_no_answers_without_tls() -> None:
    with pytest.raises(HyperError, match="without TLS"):
        require_tls(Listen("0.0.0.0", 1))
    require_tls(Listen("127.0.0.1", 1))
    require_tls(Listen("::1", 1))
    require_tls(Listen("0.0.0.0", 1, behind_tls=True))


@pytest.mark.parametrize("more", [["--listen", "x"], ["--listen", "h:99999"], ["--certificate", "x"]])
def test_bad_options(tmp_path: Path, more: list[str]) -> None:
    with pytest.raises(HyperError) as caught:
        main(["serve", str(folder_with(tmp_path, ENTRY)), *more])
    assert caught.value.code is Exit.usage


@contextlib.contextmanager
def running(folder: Path, authority: Authority) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tls = (
        "--certificate",
        str(authority.folder / "server.pem"),
        "--key",
        str(authority.folder / "server.key"),
    )
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "hv", "answers", "serve", folder, "--listen", f"127.0.0.1:{port}", *tls],
        stdout=log,
        stderr=log,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def test_command_with_the_installer_as_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: `hv answers serve` with TLS, asked by the installer's own search."""
    (tmp_path / "tls").mkdir()
    authority = make_authority(tmp_path / "tls")
    folder = folder_with(tmp_path, ENTRY | {"secrets": "anna"})
    root = tmp_path / "root"
    for path, text in (
        ("sys/class/dmi/id/product_serial", "S1\n"),
        ("proc/sys/kernel/random/boot_id", "b1\n"),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    runner = Runner(Log(tmp_path / "runner.log", Redactor()), "/usr/bin:/bin")
    with running(folder, authority) as base:
        (root / "proc/cmdline").write_text(f"hv.answers={base}/v1/answers#cert:{authority.fingerprint}\n")
        world = World(runner, LiveRoot(str(root)), live=tmp_path / "live", proxies={}, patience=10)
        found = fetch(world, machine, lambda _: None)
        assert isinstance(found, Fetched)
        assert dict(found.package.secrets) == {"disk": b"secret of anna"}
        (root / "sys/class/dmi/id/product_serial").write_text("S2\n")
        with pytest.raises(HyperError) as caught:
            fetch(world, machine, lambda _: None)
        assert "no entry fits this machine" in caught.value.why
        page = Client(ca=authority.ca, proxies={}).ask(Place(f"{base}/"))
        assert b"anna" in page.body
    log = (folder / "log").read_text()
    assert "anna: handed out to 'S1'" in log
    assert "'S2': no entry fits this machine" in log
    assert "secret of" not in log
    main(["serve", str(folder), "--forget", "anna"])
    main(["serve", str(folder), "--forget", "anna"])
    assert capsys.readouterr().out.splitlines() == [
        "anna: its answers are handed out anew",
        "anna: had not been handed out",
    ]


# ---- a small rollout ----

SMALL = rollout.Rollout(machines=60, spread=3, down=1, limit=120)


def test_small_rollout_with_a_crash(tmp_path: Path, url: str) -> None:
    seen = rollout.run(SMALL, tmp_path, url)
    assert rollout.wrong(SMALL, seen) == []
    assert seen.failed > 0, "nobody was hit by the crash"
    assert len(set(seen.secrets.values())) == SMALL.machines
    state = State(url)
    assert state.counts() == {"installed": SMALL.machines}
    assert {name for name, _ in state.handouts().items()} == {f"m{n}" for n in range(SMALL.machines)}
    state.close()


def test_a_mixed_up_secret_would_be_noticed() -> None:
    seen = rollout.Seen(secrets={0: rollout.secret_of(1), 1: rollout.secret_of(1)})
    assert len(rollout.wrong(rollout.Rollout(3, 1, 0, 1), seen)) == 2
