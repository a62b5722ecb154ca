"""The installer's HTTP(S) against real servers: who is trusted, what is carried, how long it tries."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from installer import web
from installer.errors import Exit, HyperError
from installer.web import Client, Place, shown, verified
from tests.web_servers import Answer, Authority, Request, Server, make_authority, serving

BUSY = 30.0
"""Seconds in which a busy machine ends what should take one or two."""
TOKEN = "token-that-nobody-else-sees"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(web, "LONGEST_PAUSE", 0.2)


def client(patience: float = 5.0, **more: object) -> Client:
    return Client(patience=patience, proxies={}, **more)  # type: ignore[arg-type]


def fine(_request: Request) -> Answer:
    return Answer(200, b"answers")


@pytest.mark.parametrize(
    ("text", "url", "sha256", "certificate"),
    [
        ("https://h/x?a=b", "https://h/x?a=b", None, None),
        (f"https://h/x#sha256:{'A' * 64}", "https://h/x", "a" * 64, None),
        (f"https://h/x#cert:sha256:{'AB:' * 31}AB", "https://h/x", None, "ab" * 32),
        (f"https://h/#sha256:{'1' * 64},cert:{'2' * 64}", "https://h/", "1" * 64, "2" * 64),
        (f" http://[2001:db8::1]:8080/a#sha256:{'1' * 64}\n", "http://[2001:db8::1]:8080/a", "1" * 64, None),
    ],
)
def test_places(text: str, url: str, sha256: str | None, certificate: str | None) -> None:
    assert Place.parse(text) == Place(url, sha256, certificate)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://h/x",
        "/answers",
        "https:///x",
        "https://user:secret@h/x",
        "https://h/x#sha256:abc",
        "https://h/x#md5:" + "a" * 64,
        f"https://h/x#sha256:{'a' * 64},sha256:{'b' * 64}",
        f"http://h/x#cert:{'a' * 64}",
        "https://h/a b",
    ],
)
def test_bad_places_are_refused_without_their_secrets(text: str) -> None:
    with pytest.raises(HyperError) as caught:
        Place.parse(text)
    assert caught.value.code is Exit.fetch
    assert "secret" not in str(caught.value)


def test_query_is_not_shown() -> None:
    assert shown("https://u:p@h:8/x?token=s#f") == "https://h:8/x?…"


def test_own_certificate_authority(authority: Authority) -> None:
    with serving(fine, authority) as server:
        place = Place(f"{server.url}/x")
        assert client(ca=authority.ca).ask(place).body == b"answers"
        with pytest.raises(HyperError, match="cannot be fetched") as caught:
            client().ask(place)
        assert "prove who it is" in caught.value.why
        assert len(server.requests) == 1, "an untrusted server was asked, or asked again"


def test_pinned_certificate(authority: Authority) -> None:
    with serving(fine, authority) as server:
        pinned = Place(f"{server.url}/x", certificate=authority.fingerprint)
        assert client().ask(pinned).body == b"answers"
        other = Place(f"{server.url}/x", certificate="0" * 64)
        with pytest.raises(HyperError) as caught:
            # A pin is stricter than an authority, never an addition to it.
            client(ca=authority.ca, token=TOKEN).ask(other)
        assert "prove who it is" in caught.value.why
        assert len(server.requests) == 1


def test_certificate_for_another_name(authority: Authority) -> None:
    with serving(fine, authority) as server:
        place = Place(f"https://127.0.0.2:{server.port}/x")
        with pytest.raises(HyperError):
            client(ca=authority.ca, patience=0.5).ask(place)
        assert server.requests == []


def test_transient_states_are_asked_again() -> None:
    states = iter([503, 429, 500, 200])
    said: list[str] = []
    with serving(lambda _: Answer(next(states), b"now")) as server:
        reply = client(say=said.append).ask(Place(f"{server.url}/x?token={TOKEN}"))
    assert (reply.status, reply.body, reply.tries) == (200, b"now", 4)
    assert ["503" in said[0], "429" in said[1], "500" in said[2]] == [True] * 3
    assert TOKEN not in "".join(said)


def test_final_states_are_not() -> None:
    with serving(lambda _: Answer(404, b"no")) as server:
        assert client().ask(Place(f"{server.url}/x")).status == 404
        assert len(server.requests) == 1


def test_server_that_comes_up_later() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done: list[bytes] = []
    asking = threading.Thread(
        target=lambda: done.append(client().ask(Place(f"http://127.0.0.1:{port}/x")).body)
    )
    asking.start()
    time.sleep(0.3)
    with serving(fine, port=port):
        asking.join(BUSY)
    assert done == [b"answers"]


def test_dead_server_is_given_up_in_time() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(HyperError, match="cannot be fetched") as caught:
            client(patience=1.0).ask(Place(f"http://127.0.0.1:{probe.getsockname()[1]}/x"))
    assert 0.5 < time.monotonic() - began < BUSY
    assert "refused" in caught.value.why
    assert "object at" not in caught.value.why


def test_silent_and_endless_servers_are_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        began = time.monotonic()
        with pytest.raises(HyperError):
            client(patience=1.0).ask(Place(f"http://127.0.0.1:{listening.getsockname()[1]}/x"))
        assert time.monotonic() - began < BUSY

    def drip() -> None:
        peer, _ = dripping.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                for _ in range(20 * 60):
                    peer.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as dripping:
        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(HyperError):
            client(patience=1.0).ask(Place(f"http://127.0.0.1:{dripping.getsockname()[1]}/x"))
        assert time.monotonic() - began < BUSY


def test_retry_after_is_heeded() -> None:
    times: list[float] = []

    def busy(_request: Request) -> Answer:
        times.append(time.monotonic())
        return Answer(503, headers={"Retry-After": "1"}) if len(times) == 1 else Answer(200)

    with serving(busy) as server:
        client().ask(Place(f"{server.url}/x"))
    assert times[1] - times[0] >= 1.0


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LARGEST", 1000)
    with (
        serving(lambda _: Answer(200, b"x" * 1001)) as server,
        pytest.raises(HyperError, match="cannot") as caught,
    ):
        client().ask(Place(f"{server.url}/x"))
    assert "more than" in caught.value.why


def test_zipped_bomb_stays_zipped() -> None:
    import gzip

    packed = gzip.compress(b"0" * 1_000_000)
    with serving(lambda _: Answer(200, packed, {"Content-Encoding": "gzip"})) as server:
        assert client().ask(Place(f"{server.url}/x")).body == packed


@pytest.fixture
def two(authority: Authority) -> Iterator[tuple[Server, Server, dict[str, str]]]:
    """A server that redirects to where `to` says, and another one."""
    to = {"status": "307", "where": ""}

    def redirect(request: Request) -> Answer:
        if request.path == "/home":
            return Answer(200, b"home")
        return Answer(int(to["status"]), headers={"Location": to["where"]})

    with serving(redirect, authority) as first, serving(fine, authority) as second:
        yield first, second, to


def test_redirect_within_the_server_carries_all(
    two: tuple[Server, Server, dict[str, str]], authority: Authority
) -> None:
    first, _, to = two
    to["where"] = "/home"
    client(ca=authority.ca, token=TOKEN).ask(Place(f"{first.url}/x"), body=b"{}")
    second = first.requests[1]
    assert (second.method, second.body) == ("POST", b"{}")
    assert second.headers["Authorization"] == f"Bearer {TOKEN}"


def test_redirect_elsewhere_carries_nothing(
    two: tuple[Server, Server, dict[str, str]], authority: Authority
) -> None:
    first, second, to = two
    to["where"] = f"{second.url}/x"
    reply = client(ca=authority.ca, token=TOKEN).ask(
        Place(f"{first.url}/x"), body=b"{}", headers={"X-Secret": TOKEN}
    )
    assert reply.body == b"answers"
    (asked,) = second.requests
    assert (asked.method, asked.body) == ("GET", b"")
    assert TOKEN not in str(asked.headers)
    assert first.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_redirect_to_http_is_refused(
    two: tuple[Server, Server, dict[str, str]], authority: Authority
) -> None:
    first, _, to = two
    with serving(fine) as plain:
        to["where"] = f"{plain.url}/x"
        with pytest.raises(HyperError) as caught:
            client(ca=authority.ca).ask(Place(f"{first.url}/x"))
        assert "https to http" in caught.value.why
        assert plain.requests == []


def test_redirect_away_from_a_pin_is_refused(
    two: tuple[Server, Server, dict[str, str]], authority: Authority
) -> None:
    first, second, to = two
    to["where"] = f"{second.url}/x"
    with pytest.raises(HyperError) as caught:
        client(ca=authority.ca).ask(Place(f"{first.url}/x", certificate=authority.fingerprint))
    assert "pinned" in caught.value.why
    assert second.requests == []


def test_endless_redirects(two: tuple[Server, Server, dict[str, str]], authority: Authority) -> None:
    first, _, to = two
    to["where"] = "/x"
    with pytest.raises(HyperError) as caught:
        client(ca=authority.ca).ask(Place(f"{first.url}/x"))
    assert "redirects" in caught.value.why
    assert len(first.requests) == web.REDIRECTS + 1


def test_token_goes_over_https_alone() -> None:
    with serving(fine) as server:
        client(token=TOKEN).ask(Place(f"{server.url}/x"))
        assert TOKEN not in str(server.requests)


def test_proxy_is_used_and_bypassed() -> None:
    with serving(lambda _: Answer(200, b"by proxy")) as proxy, serving(fine) as server:
        through = {"http": proxy.url.replace("http://", "http://name:pass@")}
        reply = Client(patience=5, proxies=through).ask(Place("http://answers.invalid/x"))
        assert reply.body == b"by proxy"
        (asked,) = proxy.requests
        assert asked.path == "http://answers.invalid/x"
        assert asked.headers["Proxy-Authorization"].startswith("Basic ")
        around = Client(patience=5, proxies=through | {"no": "127.0.0.1"}).ask(Place(f"{server.url}/x"))
        assert around.body == b"answers"
        assert len(proxy.requests) == 1


def test_digest() -> None:
    content = b"answers"
    place = Place("https://h/x", sha256=hashlib.sha256(content).hexdigest())
    assert verified(place, content) == content
    with pytest.raises(HyperError, match="cannot be fetched"):
        verified(place, content + b"\n")


def test_certificates_are_recognised(authority: Authority) -> None:
    assert web.certificates(authority.ca) == authority.ca
    with pytest.raises(ValueError, match="certificate"):
        web.certificates(b"nothing")
